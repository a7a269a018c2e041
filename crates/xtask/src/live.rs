//! `cargo xtask live`: the live feed of an account, line by line; `dev` shows it, too.
//!
//! It asks for pages of events by plain HTTP: what comes between two questions is kept, so nothing is missed by asking once a
//! second. Events name records by id and fields by name, and hold no value of anybody's data.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use keapsync_domain::feed::{ChangedRecord, FeedEntry, FeedEvent, RecordChange, RunNamed};
use keapsync_domain::run::{Counts, Direction};
use keapsync_domain::timestamp::Timestamp;
use serde_json::Value;

use crate::admin_api::AdminApi;
use crate::progress::detail;
use crate::secrets::Secrets;
use crate::system::{DEV_ACCOUNT, SystemRecord};

/// How often it asks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Records of one event that are named in its line.
const NAMED_MAX: usize = 3;

/// What `live` is told on the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct LiveArguments {
    /// Whose.
    #[arg(long, default_value = DEV_ACCOUNT)]
    pub account: String,
    /// Begin behind this event; without it, with the next one that happens. 0 shows all that is kept.
    #[arg(long)]
    pub since: Option<u64>,
    /// Print each event as it is sent, one JSON object a line.
    #[arg(long)]
    pub json: bool,
    /// The coordinator's address; that of the running system by default.
    #[arg(long)]
    pub url: Option<String>,
    /// The deployment's `ADMIN_API_TOKEN`; that of the running system by default.
    #[arg(long, env = "ADMIN_API_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

/// Prints events until it is interrupted, or nobody reads them any more.
pub async fn run(state_dir: &Path, arguments: &LiveArguments) -> Result<()> {
    let (url, token) = target(state_dir, arguments)?;
    let api = AdminApi::new(&url, "", &token)?;
    let print = |event: &Value| {
        let line = if arguments.json { event.to_string() } else { line_of(event) };
        // Nobody reads on: the end, and no fault.
        writeln!(std::io::stdout(), "{line}").is_ok()
    };
    watch(&api, &arguments.account, arguments.since, print).await
}

/// Shows what happens from now on, as `dev` does, until the future is dropped.
pub async fn show(api: &AdminApi, account: &str) -> Result<()> {
    watch(api, account, None, |event| {
        detail(line_of(event));
        true
    })
    .await
}

fn target(state_dir: &Path, arguments: &LiveArguments) -> Result<(String, String)> {
    let record = SystemRecord::read(state_dir)?;
    let local = record.map(|record| record.urls.coordinator);
    let url = arguments.url.clone().or_else(|| local.clone());
    let url = url.context("give --url, or start a local system with `cargo xtask dev --detach`")?;
    let url = url.trim_end_matches('/').to_owned();
    let token = match &arguments.token {
        Some(token) => token.clone(),
        None if local.as_ref() == Some(&url) => Secrets::of(state_dir)?.admin_api_token,
        None => bail!("give --token or set ADMIN_API_TOKEN to the deployment's token"),
    };
    Ok((url, token))
}

async fn watch(
    api: &AdminApi,
    account: &str,
    since: Option<u64>,
    mut print: impl FnMut(&Value) -> bool,
) -> Result<()> {
    let mut last = match since {
        Some(since) => since,
        None => newest(&api.live_page(account, None, 1).await?)?,
    };
    let mut problem: Option<String> = None;
    loop {
        match api.live_page(account, Some(last), 500).await {
            Ok(page) => {
                problem = None;
                if page.get("reset") == Some(&Value::Bool(true)) {
                    detail(
                        "events in between are not kept any more; the account's status says how things stand",
                    );
                    last = number(&page, "first_kept").unwrap_or(1).saturating_sub(1);
                }
                let events =
                    page.get("events").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
                for event in events {
                    if !print(event) {
                        return Ok(());
                    }
                    last = number(event, "sequence").unwrap_or(last);
                }
                if last < newest(&page)? && !events.is_empty() {
                    continue;
                }
            }
            // A part that restarts is away for a moment; once is enough to say so.
            Err(error) => {
                let found = format!("{error:#}");
                if problem.as_ref() != Some(&found) {
                    detail(format!("nothing to show for now: {found}"));
                }
                problem = Some(found);
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn newest(page: &Value) -> Result<u64> {
    number(page, "newest").context("the coordinator's answer is no page of the feed")
}

fn number(value: &Value, name: &str) -> Option<u64> {
    value.get(name).and_then(Value::as_u64)
}

/// An event in a line. What a newer deployment tells and this program does not know is shown as it is.
fn line_of(event: &Value) -> String {
    match serde_json::from_value::<FeedEntry>(event.clone()) {
        Ok(entry) => format!("{} {}", clock_of(entry.at), words(&entry.event)),
        Err(_) => event.to_string(),
    }
}

/// The local time of day.
fn clock_of(at: Timestamp) -> String {
    let moment = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    moment.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S").to_string()
}

fn words(event: &FeedEvent) -> String {
    match event {
        FeedEvent::DeliveryReceived { event_key, deliveries, objects, synced } => {
            let ignored = if *synced { "" } else { " (not synced)" };
            format!("{deliveries} deliveries of {event_key}: {objects} objects{ignored}")
        }
        FeedEvent::RecordsApplied { entity, direction, change, count, records } => {
            let place = if *direction == Direction::SupabaseToKeap { "Keap" } else { "Supabase" };
            let named: Vec<String> = records.iter().take(NAMED_MAX).map(name_of).collect();
            let more = if records.len() > NAMED_MAX { ", …" } else { "" };
            format!(
                "{count} {} {} in {place}: {}{more}",
                entity.plural(),
                change_word(*change),
                named.join(", ")
            )
        }
        FeedEvent::ConflictOpened(conflict) => {
            format!("conflict waits for a person: {} {}", conflict.entity.as_str(), name_of(&conflict.record))
        }
        FeedEvent::ConflictSettled { winner, conflict } => {
            format!("conflict, {winner} wins: {} {}", conflict.entity.as_str(), name_of(&conflict.record))
        }
        FeedEvent::ConflictResolved { conflict_id, strategy } => {
            format!("conflict {conflict_id} settled by a person: {strategy}")
        }
        FeedEvent::RunStarted { run, dry_run, .. } => {
            format!("{} started{}", run_of(run), if *dry_run { " (dry run)" } else { "" })
        }
        FeedEvent::RunProgressed { run, counts, percent, .. } => {
            let share = percent.map(|percent| format!(" ({percent} %)")).unwrap_or_default();
            format!("{}{share}: {}", run_of(run), counts_of(counts))
        }
        FeedEvent::RunAwaitsApproval { run, planned } => {
            let would = planned.as_ref().map(|counts| format!(", which would be {}", counts_of(counts)));
            format!("{} waits for approval{}", run_of(run), would.unwrap_or_default())
        }
        FeedEvent::RunApproved { run } => format!("{} approved", run_of(run)),
        FeedEvent::RunEnded { run, state, counts, error, .. } => {
            let why = error.as_ref().map(|error| format!(": {}", error.message)).unwrap_or_default();
            format!("{} {}: {}{why}", run_of(run), state.as_str(), counts_of(counts))
        }
        FeedEvent::QuotaThrottled { priority, times, retry_after_ms } => {
            format!("quota taken: {priority} work put off {times} times, now by {retry_after_ms} ms")
        }
        FeedEvent::PartFailed { part, error, .. } => format!("{part} fails: {}", error.message),
        FeedEvent::PartRecovered { part } => format!("{part} works again"),
        FeedEvent::DeadLetter { entity, record, error, .. } => {
            format!("given up: {} {}: {}", entity.as_str(), name_of(record), error.message)
        }
        FeedEvent::ConnectionChanged { state } => format!("the account is {state}"),
        FeedEvent::Paused => "paused".to_owned(),
        FeedEvent::Resumed => "resumed".to_owned(),
    }
}

fn name_of(record: &ChangedRecord) -> String {
    let id = record.keap_id.as_deref().or(record.id.as_deref()).unwrap_or("?");
    if record.fields.is_empty() { id.to_owned() } else { format!("{id} ({})", record.fields.join(", ")) }
}

fn change_word(change: RecordChange) -> &'static str {
    match change {
        RecordChange::Created => "created",
        RecordChange::Updated => "updated",
        RecordChange::Deleted => "deleted",
        RecordChange::Undeleted => "brought back",
    }
}

fn run_of(run: &RunNamed) -> String {
    format!("{} run of {}", run.kind.as_str(), run.entity.plural())
}

/// What there is any of.
fn counts_of(counts: &Counts) -> String {
    let all = [
        (counts.read, "read"),
        (counts.created, "created"),
        (counts.updated, "updated"),
        (counts.deleted, "deleted"),
        (counts.conflicts, "conflicts"),
        (counts.rejected, "rejected"),
    ];
    let some: Vec<String> = all
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if some.is_empty() { "nothing".to_owned() } else { some.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_documented_event_is_a_line_of_words() {
        let document = include_str!("../../../docs/live-feed.md");
        let mut lines = Vec::new();
        for example in document.split("```json\n").skip(1) {
            let text = example.split("```").next().unwrap();
            let event: Value = serde_json::from_str(text).unwrap();
            if event["sequence"].is_u64() {
                let line = line_of(&event);
                assert!(!line.contains('{'), "{line}");
                lines.push(line.split_once(' ').unwrap().1.to_owned());
            }
        }
        for expected in [
            "12 deliveries of contact.edit: 40 objects",
            "1 contacts updated in Supabase: 4711 (email, tags)",
            "conflict, keap wins: contact 4711 (first_name)",
            "full run of contacts (20 %): 2000 read, 1990 created, 1 rejected",
            "outbox fails: Keap answers 503",
            "paused",
        ] {
            assert!(lines.iter().any(|line| line == expected), "{expected} is not in {lines:#?}");
        }
    }

    #[test]
    fn what_is_not_known_is_shown_as_it_is() {
        let event = json!({"sequence": 1, "at": "2026-11-21T12:00:00.000Z", "type": "invented", "by": 2030});
        assert_eq!(line_of(&event), event.to_string());
    }
}
