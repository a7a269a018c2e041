//! The ring against every interleaving of events, flushes, crashes and clients that come and go.

use super::*;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::feed::{ChangedRecord, RecordChange};
use keapsync_domain::ids::EntityType;
use keapsync_domain::run::{Direction, Progress, Run, RunState};
use keapsync_domain::schema::fields;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn delivery(key: u8) -> FeedEvent {
    FeedEvent::DeliveryReceived {
        event_key: format!("contact.{key}"),
        deliveries: 1,
        objects: 2,
        synced: true,
    }
}

fn applied(ids: std::ops::Range<u32>) -> FeedEvent {
    let records: Vec<ChangedRecord> =
        ids.map(|id| ChangedRecord { keap_id: Some(id.to_string()), ..ChangedRecord::default() }).collect();
    FeedEvent::RecordsApplied {
        entity: EntityType::Contact,
        direction: Direction::KeapToSupabase,
        change: RecordChange::Updated,
        count: records.len() as u64,
        records,
    }
}

#[test]
fn a_flood_is_told_as_one() {
    let mut gathering = Gathering::default();
    for moment in 0..1_000 {
        assert!(!gathering.add(delivery(0), Timestamp(moment)));
        assert!(!gathering.add(applied(0..15), Timestamp(moment)));
    }
    let events = gathering.take();
    assert!(gathering.is_empty());
    assert_eq!(events.len(), 2);
    assert_eq!(
        events[0],
        (
            Timestamp(0),
            FeedEvent::DeliveryReceived {
                event_key: "contact.0".to_owned(),
                deliveries: 1_000,
                objects: 2_000,
                synced: true
            }
        )
    );
    match &events[1].1 {
        FeedEvent::RecordsApplied { count, records, .. } => {
            assert_eq!((*count, records.len()), (15_000, RECORDS_NAMED_MAX));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_people_wait_for_is_flushed_at_once_and_so_is_a_crowd_of_kinds() {
    let mut gathering = Gathering::default();
    assert!(gathering.add(FeedEvent::Paused, Timestamp(0)));
    let _ = gathering.take();
    for key in 1..16 {
        assert!(!gathering.add(delivery(key), Timestamp(0)));
    }
    assert!(gathering.add(delivery(16), Timestamp(0)));
    assert_eq!(gathering.take().len(), FLUSH_EVENTS_MAX);
}

#[test]
fn the_largest_row_fits_the_storage() {
    let record = ChangedRecord {
        id: Some("018f3f6e-0000-4000-8000-00000000abcd".to_owned()),
        keap_id: Some("9223372036854775807".to_owned()),
        fields: fields(EntityType::Contact).iter().map(|field| field.name.to_owned()).collect(),
    };
    let mut gathering = Gathering::default();
    let mut events = Vec::new();
    for _ in 0..FLUSH_EVENTS_MAX {
        let _ = gathering.add(applied(0..0), Timestamp(0));
        events.extend(gathering.take());
    }
    for (_, event) in &mut events {
        if let FeedEvent::RecordsApplied { records, .. } = event {
            *records = vec![record.clone(); RECORDS_NAMED_MAX];
        }
    }
    let (_, flush) = RingEnd::default().append(events).unwrap();
    // A row of the object's storage takes 2 MB, a message of a socket 1 MiB.
    assert!(flush.body.len() < 256 * 1024, "{} bytes", flush.body.len());
    assert!(flush.body.lines().all(|line| line.len() < 16 * 1024));
}

#[test]
fn nothing_makes_no_row() {
    assert_eq!(RingEnd::default().append(Vec::new()), None);
}

#[test]
fn one_who_knows_more_than_there_is_begins_anew() {
    let plan = catch_up(Some(9), Some(3), 5);
    assert!(matches!(plan.greeting, FeedGreeting::Reset(FeedExtent { first_kept: 3, newest: 5, .. })));
    assert_eq!(plan.after, 2);
    assert!(matches!(catch_up(Some(0), None, 0).greeting, FeedGreeting::Hello(_)));
    assert!(matches!(catch_up(Some(1), None, 0).greeting, FeedGreeting::Reset(_)));
    assert!(matches!(catch_up(Some(u64::MAX), Some(1), 5).greeting, FeedGreeting::Reset(_)));
    assert_eq!(catch_up(None, Some(1), 5).after, 5);
    assert_eq!(catch_up(Some(2), Some(3), 5).after, 2);
}

#[test]
fn sockets_are_closed_when_old_or_silent() {
    let at = |moment_ms| Timestamp(moment_ms);
    assert_eq!(closing(at(0), None, at(SOCKET_SILENCE_MAX_MS - 1)), None);
    assert_eq!(closing(at(0), None, at(SOCKET_SILENCE_MAX_MS)), Some(Closing::Silent));
    assert_eq!(closing(at(0), Some(at(100_000)), at(SOCKET_SILENCE_MAX_MS)), None);
    assert_eq!(closing(at(0), Some(at(SOCKET_AGE_MAX_MS)), at(SOCKET_AGE_MAX_MS)), Some(Closing::Aged));
    // An answer that was given before it was opened says nothing of it.
    assert_eq!(closing(at(200_000), Some(at(0)), at(250_000)), None);
    for closing in [Closing::Aged, Closing::Silent, Closing::NotUnderstood, Closing::TooOften] {
        let (code, reason) = closing.code_and_reason();
        assert!(matches!(code, 1008 | 4000..=4999) && reason.len() <= 123, "{reason}");
    }
}

#[test]
fn clients_may_say_two_things() {
    assert_eq!(said("ping"), Some(Said::Ping));
    assert_eq!(said(r#"{"since":17}"#), Some(Said::Since(17)));
    let long = format!("{{\"since\":{}1}}", " ".repeat(64));
    for other in
        ["", "pong", "{}", r#"{"since":-1}"#, r#"{"since":1.5}"#, r#"{"since":1,"x":2}"#, "[1]", "17", &long]
    {
        assert_eq!(said(other), None, "{other}");
    }
}

fn run(state: RunState) -> Run {
    let started = crate::runs::start(
        &[],
        &crate::runs::RunRequest {
            kind: keapsync_domain::run::RunKind::Full,
            entity: EntityType::Order,
            direction: Direction::Bidirectional,
            batch_id: None,
            dry_run: false,
            reverts: None,
        },
        "r",
        None,
        Timestamp(1_000),
    );
    match started {
        crate::runs::Start::Started(tracked) => Run { state, ..tracked.run },
        crate::runs::Start::Joined(_) => panic!("joined"),
    }
}

#[test]
fn a_run_is_told_from_its_start_to_its_end() {
    let queued = run(RunState::Queued);
    assert!(matches!(run_event(None, &queued), Some(FeedEvent::RunStarted { dry_run: false, .. })));
    let leased = Run { leased_until: Some(Timestamp(5)), ..run(RunState::Running) };
    assert_eq!(run_event(Some(&queued), &leased), None);
    let mut further = leased.clone();
    further.counts.read = 1_000;
    further.progress = Some(Progress { newest_id: 5_000, percent: 20, done_at: Some(Timestamp(9_000)) });
    assert!(matches!(
        run_event(Some(&leased), &further),
        Some(FeedEvent::RunProgressed { percent: Some(20), done_at: Some(Timestamp(9_000)), .. })
    ));
    assert_eq!(run_event(Some(&further), &Run { not_before: Some(Timestamp(1)), ..further.clone() }), None);
    let held = Run { state: RunState::AwaitingApproval, ..further.clone() };
    assert!(matches!(run_event(Some(&further), &held), Some(FeedEvent::RunAwaitsApproval { .. })));
    assert!(matches!(run_event(None, &held), Some(FeedEvent::RunAwaitsApproval { .. })));
    assert!(matches!(run_event(Some(&held), &further), Some(FeedEvent::RunApproved { .. })));
    let failure = Failure::new(FailureClass::Invalid, "no");
    let ended = Run {
        state: RunState::Failed,
        finished_at: Some(Timestamp(4_000)),
        error: Some(failure.clone()),
        ..further.clone()
    };
    match run_event(Some(&further), &ended) {
        Some(FeedEvent::RunEnded { duration_ms: 3_000, error: Some(error), .. }) => {
            assert_eq!(error.class, failure.class);
        }
        other => panic!("{other:?}"),
    }
    let done = Run { state: RunState::Completed, ..ended.clone() };
    assert!(matches!(run_event(Some(&further), &done), Some(FeedEvent::RunEnded { error: None, .. })));
    assert_eq!(run_event(Some(&ended), &Run { units: 9, ..ended.clone() }), None);
}

/// What happens to an object and to those who watch it.
#[derive(Clone, Debug)]
enum Step {
    Tell(u8),
    Urgent,
    Flush,
    /// The object dies: what gathers is lost, every socket closes.
    Die,
    /// A client connects, from where it stands or (first time) from this number.
    Connect(u8, Option<u8>),
    Disconnect(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u8..40).prop_map(Step::Tell),
        2 => Just(Step::Urgent),
        4 => Just(Step::Flush),
        1 => Just(Step::Die),
        3 => (0_u8..4, prop::option::of(0_u8..60)).prop_map(|(client, since)| Step::Connect(client, since)),
        2 => (0_u8..4).prop_map(Step::Disconnect),
    ]
}

#[derive(Default)]
struct Client {
    is_listening: bool,
    /// The last event it has; nothing before it first connected.
    has: Option<u64>,
}

impl Client {
    /// Every event follows the one before, and only a listening client is sent any.
    fn receive(&mut self, line: &str, truth: &BTreeMap<u64, String>) {
        let entry: FeedEntry = serde_json::from_str(line).unwrap();
        assert!(self.is_listening);
        assert_eq!(Some(entry.sequence), self.has.map(|has| has + 1), "a gap or a double");
        assert_eq!(truth.get(&entry.sequence).map(String::as_str), Some(line), "another event than was told");
        self.has = Some(entry.sequence);
    }
}

/// What an object stores, and those who watch it.
struct Model {
    rows: u64,
    ring: BTreeMap<u64, Flush>,
    gathering: Gathering,
    clients: BTreeMap<u8, Client>,
    /// Every event that ever had a number.
    truth: BTreeMap<u64, String>,
}

impl Model {
    fn end(&self) -> RingEnd {
        let last = self.ring.values().max_by_key(|flush| flush.number);
        last.map_or_else(RingEnd::default, |flush| RingEnd { flushes: flush.number, newest: flush.last })
    }

    fn flush(&mut self) {
        let Some((_, flush)) = self.end().append(self.gathering.take()) else { return };
        for (sequence, line) in (flush.first..).zip(flush.body.lines()) {
            self.truth.insert(sequence, line.to_owned());
        }
        for client in self.clients.values_mut().filter(|client| client.is_listening) {
            flush.lines_after(flush.first - 1).for_each(|line| client.receive(line, &self.truth));
        }
        self.ring.insert(flush.slot(self.rows), flush);
    }

    fn connect(&mut self, name: u8, since: Option<u8>) {
        let end = self.end();
        let first_kept = self.ring.values().map(|flush| flush.first).min();
        let client = self.clients.entry(name).or_default();
        if client.is_listening {
            return;
        }
        let since = client.has.or(since.map(u64::from));
        let plan = catch_up(since, first_kept, end.newest);
        client.is_listening = true;
        match plan.greeting {
            FeedGreeting::Hello(extent) => client.has = Some(since.unwrap_or(extent.newest)),
            FeedGreeting::Reset(extent) => {
                let since = since.unwrap_or_default();
                assert!(since > extent.newest || since + 1 < extent.first_kept, "a reset without need");
                client.has = Some(extent.first_kept - 1);
            }
        }
        let mut flushes: Vec<&Flush> = self.ring.values().filter(|flush| flush.last > plan.after).collect();
        flushes.sort_by_key(|flush| flush.number);
        for flush in flushes {
            flush.lines_after(plan.after).for_each(|line| client.receive(line, &self.truth));
        }
        assert_eq!(client.has, Some(end.newest), "something kept was not sent");
    }
}

proptest! {
    #[test]
    fn whatever_a_client_says_is_understood_or_not(text in ".{0,80}") {
        let _ = said(&text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_client_has_every_event_once_and_in_order_or_is_told_to_begin_anew(
        rows in 1_u64..6,
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut model = Model {
            rows,
            ring: BTreeMap::new(),
            gathering: Gathering::default(),
            clients: BTreeMap::new(),
            truth: BTreeMap::new(),
        };
        for step in steps {
            match step {
                Step::Tell(key) => {
                    if model.gathering.add(delivery(key), Timestamp(0)) {
                        model.flush();
                    }
                }
                Step::Urgent => {
                    prop_assert!(model.gathering.add(FeedEvent::Resumed, Timestamp(0)));
                    model.flush();
                }
                Step::Flush => model.flush(),
                Step::Die => {
                    let _ = model.gathering.take();
                    model.clients.values_mut().for_each(|client| client.is_listening = false);
                }
                Step::Connect(client, since) => model.connect(client, since),
                Step::Disconnect(client) => model.clients.entry(client).or_default().is_listening = false,
            }
            prop_assert!(model.ring.len() as u64 <= rows);
        }
    }
}
