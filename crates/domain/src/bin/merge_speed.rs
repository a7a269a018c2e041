//! How many three-way merges of contacts one core does in a second. Prints one line of JSON.
//!
//! `cargo run --release --package keapsync-domain --features measure --bin merge_speed`
//!
//! A third of the contacts is unchanged, a third changed on one side, a third on both; every fourth of these changed in the
//! same field, which is a conflict. Each contact has all fields, 30 values with those of its lists. Records are made
//! beforehand: what is measured is `reconcile` and letting go of what it answers.
//!
//! `merges_per_second` is about a page of contacts, merged over and over: a page has just been read when it is merged, and so is
//! in the processor's caches. `merges_per_second_uncached` is about more contacts than they hold: then waiting for memory is
//! most of the time.
//!
//! Time is the processor's, as Linux counts it for this thread, so that other work on the machine does not count; elsewhere it
//! is the clock's. The median of several rounds is the result.

use keapsync_domain::ids::EntityType;
use keapsync_domain::merge::{Sides, reconcile};
use keapsync_domain::policy::Policies;
use keapsync_domain::record::Record;
use keapsync_domain::timestamp::Timestamp;
use serde_json::{Value, json};
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Contacts of a page, nearly: a number that the mixture divides.
const PAGE_CONTACTS: u32 = 996;

/// More contacts than the caches hold: some 150 MB.
const MANY_CONTACTS: u32 = 19_992;

/// Rounds, of which the median counts.
const ROUNDS: usize = 9;

/// How long a round lasts.
const ROUND: Duration = Duration::from_millis(500);

/// Three states of one contact.
struct States {
    base: Record,
    keap: Record,
    supabase: Record,
}

fn main() -> ExitCode {
    match (measured(PAGE_CONTACTS), measured(MANY_CONTACTS)) {
        (Ok(page), Ok(many)) => {
            println!("{}", json!({"merges_per_second": page, "merges_per_second_uncached": many}));
            ExitCode::SUCCESS
        }
        (Err(fault), _) | (_, Err(fault)) => {
            eprintln!("error: the contacts are not the mixture they should be: {fault}");
            ExitCode::FAILURE
        }
    }
}

/// Merges per second: the median of all rounds.
fn measured(count: u32) -> Result<u64, String> {
    let contacts: Vec<States> = (0..count).map(states).collect();
    let policies = Policies::default();
    check(&contacts, &policies)?;
    let mut rates: Vec<u64> = (0..ROUNDS).map(|_| round(&contacts, &policies)).collect();
    rates.sort_unstable();
    Ok(rates.get(ROUNDS / 2).copied().unwrap_or_default())
}

/// Merges per second over one round.
fn round(contacts: &[States], policies: &Policies) -> u64 {
    let started = Instant::now();
    let worked_before = processor_time();
    let mut merges = 0_u64;
    while started.elapsed() < ROUND {
        for states in contacts {
            black_box(merged(black_box(states), policies));
        }
        merges += contacts.len() as u64;
    }
    let worked = processor_time().zip(worked_before).map(|(now, before)| now.saturating_sub(before));
    let nanoseconds = worked.unwrap_or_else(|| started.elapsed()).as_nanos().max(1);
    u64::try_from(u128::from(merges) * 1_000_000_000 / nanoseconds).unwrap_or(u64::MAX)
}

/// How long this thread has worked.
fn processor_time() -> Option<Duration> {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    statistics.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

fn merged(states: &States, policies: &Policies) -> keapsync_domain::merge::Merge {
    let sides = Sides {
        base: &states.base,
        keap: &states.keap,
        supabase: &states.supabase,
        keap_changed_at: Some(Timestamp(1_772_000_000_000)),
        supabase_changed_at: Some(Timestamp(1_772_000_000_001)),
    };
    reconcile(&sides, policies)
}

/// Whether the contacts are the mixture that they are said to be.
fn check(contacts: &[States], policies: &Policies) -> Result<(), String> {
    let (mut unchanged, mut one_sided, mut conflicts) = (0, 0, 0);
    for states in contacts {
        let merge = merged(states, policies);
        match (merge.to_supabase.is_empty(), merge.to_keap.is_empty(), merge.conflicts.is_empty()) {
            (true, true, true) => unchanged += 1,
            (true, false, true) | (false, true, true) => one_sided += 1,
            (_, _, false) => conflicts += 1,
            (false, false, true) => {}
        }
    }
    let third = contacts.len() / 3;
    if (unchanged, one_sided, conflicts) == (third, third, third / 4) {
        Ok(())
    } else {
        Err(format!("{unchanged} unchanged, {one_sided} changed on one side, {conflicts} in conflict"))
    }
}

/// Contact `number` in three states.
fn states(number: u32) -> States {
    let base = contact(number);
    let (mut keap, mut supabase) = (base.clone(), base.clone());
    let turn = number / 3;
    match number % 3 {
        0 => {}
        1 if turn.is_multiple_of(2) => edit(&mut keap, turn / 2, "there"),
        1 => edit(&mut supabase, turn / 2, "here"),
        _ if turn.is_multiple_of(4) => {
            edit(&mut keap, conflicting(turn / 4), "there");
            edit(&mut supabase, conflicting(turn / 4), "here");
        }
        _ => {
            edit(&mut keap, turn, "there");
            edit(&mut supabase, turn + 3, "here");
        }
    }
    States { base, keap, supabase }
}

/// A turn at which people change something that both sides can want differently: all but the tags, which combine.
fn conflicting(turn: u32) -> u32 {
    if turn % 9 == 7 { turn + 1 } else { turn }
}

/// What people change: texts most of the time, now and then a part of a list.
fn edit(record: &mut Record, turn: u32, word: &str) {
    match turn % 9 {
        0 => record.set_by_name("first_name", json!(format!("Ann {word}"))),
        1 => record.set_by_name("email", json!(format!("ann.{word}@example.com"))),
        2 => record.set_by_name("phone", json!(if word == "here" { "480 555 0177" } else { "480 555 0188" })),
        3 => record.set_by_name("job_title", json!(format!("Head of {word}"))),
        4 => change(record, "addresses", |addresses| {
            if let Some(line) = addresses.pointer_mut("/0/line1") {
                *line = json!(format!("9 {word} Street"));
            }
        }),
        5 => record.set_by_name("website", json!(format!("https://{word}.example.com"))),
        6 => change(record, "custom_fields", |entries| {
            if let Some(entry) = entries.get_mut("12") {
                *entry = json!(format!("{word} and there"));
            }
        }),
        7 => record.set_by_name("tags", json!(["101", "104", "117", word])),
        _ => record.set_by_name("last_name", json!(format!("Lee {word}"))),
    }
}

fn change(record: &mut Record, name: &str, edit: impl Fn(&mut Value)) {
    let mut value = record.get_by_name(name).clone();
    edit(&mut value);
    record.set_by_name(name, value);
}

fn contact(number: u32) -> Record {
    let address = |field: &str, line: u32| {
        json!({
            "field": field, "line1": format!("{} Main Street", number + line), "locality": "Mesa",
            "region_code": "US-AZ", "postal_code": "85201",
            "country_code": "USA",
        })
    };
    let phone = |field: &str, line: u32| json!({"field": field, "number": format!("(480) 555-{:04}", (number + line) % 10_000), "type": "Work"});
    let values = json!({
        "email": format!("contact.{number}@example.com"), "first_name": "Ann", "last_name": format!("Lee {number}"),
        "middle_name": "Maria", "phone": format!("(480) 555-{:04}", number % 10_000), "company": "Example Traders Ltd",
        "job_title": "Head of Sales", "website": "https://www.example.com/people", "birth_date": "1985-03-15",
        "owner_id": "17", "lead_source_id": "4", "opt_in_status": "SINGLE_OPT_IN",
        "emails": [{"field": "EMAIL2", "email": format!("second.{number}@example.org")}],
        "phones": [phone("PHONE2", 1)],
        "addresses": [address("BILLING", 0)],
        "tags": ["101", "104", "117"],
        "custom_fields": {
            "10": "blue", "12": "likes tea and long walks", "14": number, "16": "2026-01-31",
        },
    });
    let object = values.as_object().cloned().unwrap_or_default();
    Record::from_object(EntityType::Contact, object)
}
