//! Every edit accounted for, on the stage: the grammar of `keapsync-accounting`, written as people and programs write SQL, against a Keap
//! that changes as well.
//!
//! One round is judged at a time, when everything has come to rest. A row that still differs then takes no further part.

use anyhow::{Context as _, Result, ensure};
use futures_util::SinkExt as _;
use keapsync_accounting::grammar::{Catalogue, Edit, Takes, Writer, columns_json};
use keapsync_accounting::judge::{Rest, Wanted, unasked};
use keapsync_accounting::keap::{Sent, control_call};
use keapsync_accounting::parts::{Parts, parts_of};
use keapsync_accounting::store::Noted;
use keapsync_accounting::wire::record_from;
use keapsync_domain::ids::EntityType;
use keapsync_domain::record::Record;
use keapsync_e2e::account::Account;
use keapsync_e2e::stage::Stage;
use keapsync_engine::ports::RowState;
use keapsync_engine::simulation::random::Random;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::types::ToSql;

/// The same edits each time.
const SEED: u64 = 4;

/// Rounds, each with an edit of a dozen rows.
const ROUNDS: u64 = 5;

/// Rows that are edited in a round.
const ROWS: usize = 12;

const KINDS: [EntityType; 4] =
    [EntityType::Contact, EntityType::Order, EntityType::Subscription, EntityType::Tag];

/// A row as it is read.
struct Row {
    id: String,
    keap_id: String,
    record: Record,
    state: RowState,
    word: Option<String>,
}

fn table(entity: EntityType) -> String {
    format!("sync_{}", entity.plural())
}

async fn rows(account: &Account<'_>, entity: EntityType) -> Result<Vec<Row>> {
    let sql = format!(
        "select coalesce(jsonb_agg(to_jsonb(mirrored) order by mirrored.keap_id::bigint), '[]') as rows from {} mirrored \
         where account_id = $1 and keap_id is not null and deleted_at is null",
        table(entity)
    );
    let found = account.mirror.one(&sql, &[]).await?;
    let mut rows = Vec::new();
    for row in found["rows"].as_array().into_iter().flatten() {
        let object = row.as_object().cloned().unwrap_or_default();
        rows.push(Row {
            id: row["id"].as_str().context("a row without an id")?.to_owned(),
            keap_id: row["keap_id"].as_str().context("a row without a Keap id")?.to_owned(),
            record: Record::from_object(entity, object),
            state: match row["sync_status"].as_str() {
                Some("completed") => RowState::Completed,
                Some("conflict") => RowState::Conflict,
                Some("error") => RowState::Error,
                _ => RowState::Pending,
            },
            word: row["sync_error"].as_str().map(str::to_owned),
        });
    }
    Ok(rows)
}

/// Writes the edits of one row, by one of the ways that there are.
async fn write(account: &Account<'_>, row: &Row, edits: &[Edit], way: u64) -> Result<()> {
    let entity = row.record.entity();
    let (names, text) = columns_json(&row.record, edits);
    let (table, list) = (table(entity), names.join(", "));
    let given = format!("jsonb_populate_record(null::public.{table}, $2::text::jsonb) as given");
    let sql = if way == 0 {
        // What supabase-js's `upsert` sends.
        let sets: Vec<String> = names.iter().map(|name| format!("{name} = excluded.{name}")).collect();
        format!(
            "insert into {table} (account_id, keap_id, {list}) select $1, $3, {} from {given} \
             on conflict (account_id, keap_id) do update set {}",
            names.iter().map(|name| format!("given.{name}")).collect::<Vec<_>>().join(", "),
            sets.join(", ")
        )
    } else {
        let sets: Vec<String> = names.iter().map(|name| format!("{name} = given.{name}")).collect();
        format!(
            "update {table} set {} from {given} where {table}.account_id = $1 and {table}.keap_id = $3",
            sets.join(", ")
        )
    };
    let parameters: [&(dyn ToSql + Sync); 2] = [&text, &row.keap_id];
    let count = account.mirror.execute(&sql, &parameters).await?;
    ensure!(count == 1, "{count} rows were edited by {sql}");
    Ok(())
}

/// New contacts: the first by INSERT, the others by COPY.
async fn insert(account: &Account<'_>, round: u64) -> Result<Vec<String>> {
    let names: Vec<String> = (0..3).map(|number| format!("copied-{round}-{number}")).collect();
    let sink = account
        .mirror
        .client
        .copy_in("copy sync_contacts (account_id, first_name, email, emails) from stdin")
        .await?;
    let mut sink = Box::pin(sink);
    for name in names.iter().skip(1) {
        let line = format!(
            "{}\t{name}\t{name}@x.example\t[{{\"field\": \"EMAIL2\", \"email\": \"{name}.two@x.example\"}}]\n",
            account.name
        );
        sink.send(bytes(line)).await?;
    }
    sink.as_mut().finish().await?;
    let sql = "insert into sync_contacts (account_id, first_name, email, emails) select $1, name, name || '@x.example', \
               jsonb_build_array(jsonb_build_object('field', 'EMAIL2', 'email', name || '.two@x.example')) \
               from unnest(array[$2::text]) as name";
    account.mirror.execute(sql, &[&names.first()]).await?;
    Ok(names)
}

fn bytes(line: String) -> std::io::Cursor<Vec<u8>> {
    std::io::Cursor::new(line.into_bytes())
}

async fn catalogue(account: &Account<'_>) -> Result<Catalogue> {
    let ids = async |kind: &str| -> Result<Vec<String>> {
        let all = account.keap.all(kind).await?;
        Ok(all.iter().filter_map(|one| one["id"].as_str().map(str::to_owned)).collect())
    };
    Ok(Catalogue {
        custom_fields: [
            vec![account.keap.text_field("contacts").await?],
            vec![account.keap.text_field("orders").await?],
            vec![account.keap.text_field("subscriptions").await?],
        ],
        tags: ids("tags").await?,
        contacts: ids("contacts").await?,
        ..Catalogue::default()
    })
}

/// What was noted of each row: in the audit log by the sync, in the conflicts, and on the row.
async fn noted(account: &Account<'_>, since: &Value) -> Result<BTreeMap<String, Vec<Noted>>> {
    let since = since.as_str().context("no time")?.to_owned();
    let found = account
        .mirror
        .one(
            "select (select coalesce(jsonb_agg(jsonb_build_object('row', entity_id, 'lost', new_data)), '[]') from sync_audit_log
                     where account_id = $1 and created_at >= $2::text::timestamptz and sync_source <> 'supabase') as lost,
                    (select coalesce(jsonb_agg(jsonb_build_object('row', entity_id, 'fields', conflict_fields, 'winner', winner)), '[]')
                     from sync_conflicts where account_id = $1 and detected_at >= $2::text::timestamptz) as conflicts",
            &[&since],
        )
        .await?;
    let mut noted: BTreeMap<String, Vec<Noted>> = BTreeMap::new();
    let mut note = |row: &Value, lost: Value, conflicts: Vec<(String, Option<&'static str>)>| {
        let row_id = row.as_str().unwrap_or_default().to_owned();
        let lost = lost.as_object().cloned().unwrap_or_default();
        noted.entry(row_id.clone()).or_default().push(Noted { row_id, lost, word: None, conflicts });
    };
    for entry in found["lost"].as_array().into_iter().flatten() {
        note(&entry["row"], entry["lost"].clone(), Vec::new());
    }
    for entry in found["conflicts"].as_array().into_iter().flatten() {
        let winner = match entry["winner"].as_str() {
            Some("keap") => Some("keap"),
            Some("supabase") => Some("supabase"),
            _ => None,
        };
        let fields = entry["fields"].as_array().into_iter().flatten();
        let conflicts = fields.filter_map(|field| Some((field.as_str()?.to_owned(), winner))).collect();
        note(&entry["row"], Value::Null, conflicts);
    }
    Ok(noted)
}

/// What was edited on either side of one record in a round.
#[derive(Default)]
struct Edits {
    here: Vec<Edit>,
    there: Vec<Edit>,
}

/// One round: what was edited, and what is known of it when everything has come to rest.
struct Round {
    /// By row id.
    made: BTreeMap<String, Edits>,
    /// First names of the rows that were inserted.
    inserted: Vec<String>,
    /// By row id.
    noted: BTreeMap<String, Vec<Noted>>,
    /// Writing calls that Keap took, as the simulator tells them.
    sent: Vec<Value>,
}

pub async fn every_edit_is_accounted_for(stage: &Stage) -> Result<()> {
    let account = Account::connect_filled(stage, "edits", 14).await?;
    account.full_sync().await?;
    account.wait_for_quiet().await?;
    account.keap.keep_writes().await?;
    let catalogue = catalogue(&account).await?;
    let (mut number, mut retired) = (0, BTreeSet::new());
    let (mut edits_made, mut writes_seen) = (0, 0);
    let mut problems = Vec::new();
    for number_of_round in 0..ROUNDS {
        let since =
            account.mirror.one("select clock_timestamp()::text as now, $1::text as account", &[]).await?;
        let made = edit_some(&account, &catalogue, number_of_round, &mut number, &retired).await?;
        let inserted = insert(&account, number_of_round).await?;
        edits_made += made.values().map(|edits| edits.here.len()).sum::<usize>() + inserted.len() * 3;
        account.wait_for_quiet().await?;
        let noted = noted(&account, &since["now"]).await?;
        let writes = account.keap.kept_writes().await?;
        let sent = writes.iter().skip(writes_seen).cloned().collect();
        writes_seen = writes.len();
        let round = Round { made, inserted, noted, sent };
        for entity in KINDS {
            problems.extend(judged(&account, entity, &round, &mut retired).await?);
        }
    }
    ensure!(edits_made > 100, "only {edits_made} edits were made");
    ensure!(
        problems.is_empty(),
        "{} of {edits_made} edits are not accounted for:\n{}",
        problems.len(),
        problems.join("\n")
    );
    Ok(())
}

/// Edits a dozen rows, and some of their records in Keap at the same time.
async fn edit_some(
    account: &Account<'_>,
    catalogue: &Catalogue,
    round: u64,
    number: &mut u64,
    retired: &BTreeSet<String>,
) -> Result<BTreeMap<String, Edits>> {
    let mut random = Random::new(SEED, round);
    let mut all: Vec<Row> = Vec::new();
    for entity in KINDS {
        all.extend(rows(account, entity).await?);
    }
    all.retain(|row| !retired.contains(&row.id));
    let mut made: BTreeMap<String, Edits> = BTreeMap::new();
    for _ in 0..ROWS {
        let place = usize::try_from(random.below(all.len() as u64))?;
        let Some(row) = all.get(place).filter(|row| !made.contains_key(&row.id)) else { continue };
        let entity = row.record.entity();
        let mut writer = Writer {
            random: &mut random,
            catalogue,
            number: &mut *number,
            later_days: ["2127-01-01", "2128-02-29", "2126-12-31"],
        };
        let edits = writer.edits(&row.record, 5);
        let there = writer.random.chance(30).then(|| writer.edit_in_keap(entity, &parts_of(&row.record)));
        let way = writer.random.below(2);
        if let Some(edit) = &there {
            let (_, path, body) = control_call(entity, &row.keap_id, &edit.path, &edit.value(), &row.record);
            account.keap.person(Method::PATCH, &path, Some(&body)).await?;
        }
        if !edits.is_empty() {
            write(account, row, &edits, way).await.with_context(|| format!("{edits:?}"))?;
        }
        made.insert(row.id.clone(), Edits { here: edits, there: there.into_iter().collect() });
    }
    Ok(made)
}

/// What is not accounted for in the rows of a kind. A row that still differs is retired.
async fn judged(
    account: &Account<'_>,
    entity: EntityType,
    round: &Round,
    retired: &mut BTreeSet<String>,
) -> Result<Vec<String>> {
    let held: BTreeMap<String, Value> = account
        .keap
        .all(entity.plural())
        .await?
        .into_iter()
        .filter_map(|one| Some((one["id"].as_str()?.to_owned(), one)))
        .collect();
    let mut problems = Vec::new();
    for row in rows(account, entity).await? {
        let Some(wire) = held.get(&row.keap_id) else { continue };
        let there = record_from(entity, wire)?;
        let (here, there) = (parts_of(&row.record), parts_of(&there.record));
        let name = row.record.get_by_name("first_name").as_str().unwrap_or_default();
        if round.inserted.iter().any(|inserted| inserted == name) {
            let second = "emails.EMAIL2.email";
            let is_equal = here.contains_key(second) && here.get(second) == there.get(second);
            if !is_equal || row.state != RowState::Completed {
                problems.push(format!("{name} was inserted: the row {here:?}, Keap {there:?}"));
            }
        }
        let Some(edits) = round.made.get(&row.id) else { continue };
        problems.extend(lost_edits(&row, (&here, &there), edits, round));
        problems.extend(unasked_writes(&row, edits, round));
        if row.state != RowState::Completed {
            retired.insert(row.id.clone());
        }
    }
    Ok(problems)
}

/// Edits of a row that are on neither side, in no conflict, and refused without a word.
fn lost_edits(row: &Row, (here, there): (&Parts, &Parts), edits: &Edits, round: &Round) -> Vec<String> {
    let entity = row.record.entity();
    let in_keap: BTreeSet<&str> = edits.there.iter().map(|edit| edit.path.as_str()).collect();
    let rest = Rest {
        entity,
        here,
        there,
        state: row.state,
        word: row.word.as_deref(),
        noted: round.noted.get(&row.id).map_or(&[], Vec::as_slice),
        in_keap: &in_keap,
        edits: &edits.here,
        reached: &[],
        unanswered: &[],
    };
    let holds = |parts: &Parts, edit: &Edit| parts.get(&edit.path).cloned().unwrap_or_default();
    let lost = edits.here.iter().filter_map(|edit| {
        let what = rest.fate(edit).err()?;
        Some(format!(
            "{} {}: {} = {}: {what}; the row ({}) holds {}, Keap {}",
            entity.as_str(),
            row.keap_id,
            edit.path,
            edit.json,
            row.state.as_str(),
            holds(here, edit),
            holds(there, edit)
        ))
    });
    lost.collect()
}

/// What was sent of a row that nobody asked for.
fn unasked_writes(row: &Row, edits: &Edits, round: &Round) -> Vec<String> {
    let entity = row.record.entity();
    let mut by_path: BTreeMap<&str, Vec<&Edit>> = BTreeMap::new();
    for edit in edits.here.iter().filter(|edit| edit.takes != Takes::No) {
        by_path.entry(&edit.path).or_default().push(edit);
    }
    let wanted = Wanted { row_id: &row.id, edits: by_path, conflicts: BTreeSet::new() };
    let route = format!("/crm/rest/v2/{}/{}", entity.plural(), row.keap_id);
    let of_row = round.sent.iter().filter(|write| write["path"] == json!(route));
    of_row
        .flat_map(|write| {
            let sent = Sent {
                call: route.clone(),
                entity,
                keap_id: row.keap_id.clone(),
                body: write["body"].clone(),
                before: None,
                after: None,
                is_answer_lost: false,
            };
            unasked(&sent, &wanted)
        })
        .collect()
}
