//! `docs/live-feed.md` shows every message as it is sent.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first thing that is not as it should be"
)]

use keapsync_domain::feed::{FeedEntry, FeedEvent, FeedGreeting, FeedPage, FeedTicket};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeSet;

const DOCUMENT: &str = include_str!("../../../docs/live-feed.md");

/// The JSON examples of the document, in order.
fn examples() -> Vec<Value> {
    DOCUMENT
        .split("```json\n")
        .skip(1)
        .map(|rest| {
            let (text, _) = rest.split_once("```").expect("an example ends");
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
        })
        .collect()
}

/// The value is read as a `T`, and written again says the same.
fn agrees<T: DeserializeOwned + Serialize>(example: &Value) -> T {
    let read: T =
        serde_json::from_value(example.clone()).unwrap_or_else(|error| panic!("{error}: {example}"));
    let written = serde_json::to_value(&read).expect("plain data");
    assert_eq!(written, *example);
    read
}

/// Fails to compile when a type is added: then an example is due.
fn name_of(event: &FeedEvent) -> &'static str {
    match event {
        FeedEvent::DeliveryReceived { .. } => "delivery_received",
        FeedEvent::RecordsApplied { .. } => "records_applied",
        FeedEvent::ConflictOpened(_) => "conflict_opened",
        FeedEvent::ConflictSettled { .. } => "conflict_settled",
        FeedEvent::ConflictResolved { .. } => "conflict_resolved",
        FeedEvent::RunStarted { .. } => "run_started",
        FeedEvent::RunProgressed { .. } => "run_progressed",
        FeedEvent::RunAwaitsApproval { .. } => "run_awaits_approval",
        FeedEvent::RunApproved { .. } => "run_approved",
        FeedEvent::RunEnded { .. } => "run_ended",
        FeedEvent::QuotaThrottled { .. } => "quota_throttled",
        FeedEvent::PartFailed { .. } => "part_failed",
        FeedEvent::PartRecovered { .. } => "part_recovered",
        FeedEvent::DeadLetter { .. } => "dead_letter",
        FeedEvent::ConnectionChanged { .. } => "connection_changed",
        FeedEvent::Paused => "paused",
        FeedEvent::Resumed => "resumed",
    }
}

/// How many types there are: as many as `name_of` has arms.
const TYPES: usize = 17;

#[test]
fn the_document_has_a_true_example_of_every_event() {
    let mut shown = BTreeSet::new();
    for (number, example) in (1..).zip(examples().iter().filter(|example| example["sequence"].is_u64())) {
        let entry: FeedEntry = agrees(example);
        assert_eq!(example["type"], name_of(&entry.event));
        assert_eq!(entry.sequence, number, "examples are numbered in order");
        let heading = format!("**`{}`**", name_of(&entry.event));
        assert!(DOCUMENT.contains(&heading), "{heading} is not explained");
        shown.insert(name_of(&entry.event));
    }
    assert_eq!(shown.len(), TYPES, "{shown:?}");
}

#[test]
fn the_document_shows_the_other_messages_as_they_are() {
    let others: Vec<Value> = examples().into_iter().filter(|example| !example["sequence"].is_u64()).collect();
    let [ticket, page, hello, reset] = others.as_slice() else { panic!("{others:#?}") };
    let ticket: FeedTicket = agrees(ticket);
    assert_eq!(ticket.ticket.len(), 64);
    let page: FeedPage = agrees(page);
    assert_eq!(page.events[0].event, FeedEvent::Resumed);
    assert!(matches!(agrees(hello), FeedGreeting::Hello(_)));
    assert!(matches!(agrees(reset), FeedGreeting::Reset(_)));
}

#[test]
fn unknown_types_are_no_events_and_times_are_times() {
    for text in [
        r#"{"sequence":1,"at":"2026-11-21T12:00:00.000Z","type":"invented"}"#,
        r#"{"sequence":1,"at":12,"type":"paused"}"#,
        r#"{"sequence":1,"at":"noon","type":"paused"}"#,
        r#"{"at":"2026-11-21T12:00:00.000Z","type":"paused"}"#,
    ] {
        assert!(serde_json::from_str::<FeedEntry>(text).is_err(), "{text}");
    }
}
