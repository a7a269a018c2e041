//! Queued hook events: what becomes of one after an attempt.
//!
//! The queue holds one row per record (entity and Keap id): an event for a record that already waits is coalesced with it,
//! because the record is read again anyway. Each arrival gives the row a new `sequence`; an attempt settles the row only
//! while it still has the sequence that was claimed, so that an event that arrives while its record is being worked on is
//! never lost. Oldest first; a failed event waits by itself and delays nobody else.
//!
//! Storage and its atomicity are the caller's; the decisions are here.

use keapsync_domain::failure::Failure;
use keapsync_domain::ids::EntityType;
use keapsync_domain::retry::{Earlier, Next, Work, after};
use keapsync_domain::timestamp::Timestamp;

/// An event as it was claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedEvent {
    /// Keap's id of the record.
    pub keap_id: String,
    /// Number of the last arrival for this record.
    pub sequence: i64,
    /// Failed attempts that counted against the event.
    pub attempts: i32,
    /// Failed attempts of any kind since it last succeeded or a new event arrived: what the wait grows by.
    pub failures: u32,
}

/// What becomes of an event whose attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// It is tried again.
    Retry {
        /// Failed attempts that counted.
        attempts: i32,
        /// Failed attempts of any kind.
        failures: u32,
        /// Not before this moment.
        next_attempt_at: Timestamp,
    },
    /// It is given up: a dead letter.
    Dead {
        /// Failed attempts that counted.
        attempts: i32,
    },
}

/// Decides about an event whose attempt failed.
#[must_use]
pub fn failed(event: &ClaimedEvent, failure: &Failure, now: Timestamp, entropy: u32) -> Failed {
    // Each event has its own jitter, so that what failed together does not return as one.
    let jitter = entropy.wrapping_add(hash_of(&event.keap_id));
    let earlier = Earlier { counted: event.attempts, failures: event.failures };
    match after(failure, Work::Record, earlier, jitter) {
        Next::GiveUp { counted } => Failed::Dead { attempts: counted },
        Next::Retry { counted, failures, delay_ms } => {
            Failed::Retry { attempts: counted, failures, next_attempt_at: now.plus_ms(delay_ms) }
        }
    }
}

/// The order in which kinds of records take turns, when `first` begins. Each pass another one begins: where calls are few, it is
/// otherwise always the last that gets none.
pub fn turns(first: usize) -> impl Iterator<Item = EntityType> {
    EntityType::ALL.into_iter().cycle().skip(first % EntityType::ALL.len()).take(EntityType::ALL.len())
}

/// FNV-1a: spreads ids, nothing more.
fn hash_of(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;
    use keapsync_domain::failure::FailureClass;
    use keapsync_domain::limits::ATTEMPTS_MAX;
    use keapsync_domain::retry::OUTAGE_DELAY_MAX_MS;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn event(attempts: i32, failures: u32) -> ClaimedEvent {
        ClaimedEvent { keap_id: "7".to_owned(), sequence: 1, attempts, failures }
    }

    fn of(class: FailureClass) -> Failure {
        Failure::new(class, "x")
    }

    #[test]
    fn an_outage_is_never_the_event_s_fault_and_its_wait_is_bounded() {
        let mut failures = 0;
        for _ in 0..100 {
            match failed(&event(0, failures), &of(FailureClass::Unavailable), Timestamp(0), 5) {
                Failed::Retry { attempts, failures: after, next_attempt_at } => {
                    assert_eq!(attempts, 0);
                    assert!(next_attempt_at.0 <= OUTAGE_DELAY_MAX_MS);
                    failures = after;
                }
                Failed::Dead { .. } => panic!("given up for an outage"),
            }
        }
        assert_eq!(failures, 100);
    }

    #[test]
    fn refused_records_die_at_once_and_senseless_answers_after_some_attempts() {
        for class in [FailureClass::Invalid, FailureClass::NotFound] {
            assert_eq!(failed(&event(0, 0), &of(class), Timestamp(0), 0), Failed::Dead { attempts: 1 });
        }
        let unexpected = of(FailureClass::Unexpected);
        assert!(matches!(
            failed(&event(0, 0), &unexpected, Timestamp(0), 0),
            Failed::Retry { attempts: 1, .. }
        ));
        let last = failed(&event(ATTEMPTS_MAX - 1, 9), &unexpected, Timestamp(0), 0);
        assert_eq!(last, Failed::Dead { attempts: ATTEMPTS_MAX });
    }

    #[test]
    fn honours_the_wait_that_was_asked_for() {
        let failure = of(FailureClass::RateLimited).with_retry_after_ms(Some(90_000));
        match failed(&event(0, 0), &failure, Timestamp(1_000), 0) {
            Failed::Retry { next_attempt_at, .. } => assert_eq!(next_attempt_at, Timestamp(91_000)),
            Failed::Dead { .. } => panic!("given up"),
        }
    }

    #[test]
    fn every_kind_begins_in_its_turn_and_none_is_left_out() {
        for first in 0..12 {
            let order: Vec<EntityType> = turns(first).collect();
            assert_eq!(order[0], EntityType::ALL[first % EntityType::ALL.len()]);
            assert!(EntityType::ALL.iter().all(|entity| order.contains(entity)));
            assert_eq!(order.len(), EntityType::ALL.len());
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Change(u8),
        Claim,
        Finish(bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![(0_u8..4).prop_map(Step::Change), Just(Step::Claim), any::<bool>().prop_map(Step::Finish)]
    }

    proptest! {
        /// Changes, claims and endings in any order: as long as a row waits or is worked on, nothing is lost; once nothing
        /// waits, what was applied is the newest version of every record.
        #[test]
        fn no_event_is_lost_while_its_record_is_worked_on(steps in prop::collection::vec(step(), 0..80)) {
            let mut remote: BTreeMap<u8, u32> = BTreeMap::new();
            let mut applied: BTreeMap<u8, u32> = BTreeMap::new();
            let mut queue: BTreeMap<u8, (i64, u32)> = BTreeMap::new();
            let mut sequence = 0;
            let mut claimed: Vec<(u8, i64, u32)> = Vec::new();
            let finish = |claimed: &mut Vec<(u8, i64, u32)>, queue: &mut BTreeMap<u8, (i64, u32)>, applied: &mut BTreeMap<u8, u32>, succeeds: bool| {
                for (id, claimed_sequence, version) in claimed.drain(..) {
                    let is_unchanged = queue.get(&id).is_some_and(|row| row.0 == claimed_sequence);
                    if succeeds {
                        applied.insert(id, version);
                        if is_unchanged {
                            queue.remove(&id);
                        }
                    } else if is_unchanged {
                        let failures = queue[&id].1;
                        let event = ClaimedEvent { keap_id: id.to_string(), sequence: claimed_sequence, attempts: 0, failures };
                        match failed(&event, &of(FailureClass::Unavailable), Timestamp(0), 0) {
                            Failed::Retry { failures, .. } => { queue.insert(id, (claimed_sequence, failures)); }
                            Failed::Dead { .. } => panic!("given up for an outage"),
                        }
                    }
                }
            };
            for step in steps {
                match step {
                    Step::Change(id) => {
                        *remote.entry(id).or_default() += 1;
                        sequence += 1;
                        queue.insert(id, (sequence, 0));
                    }
                    Step::Claim if claimed.is_empty() => {
                        claimed = queue.iter().map(|(id, row)| (*id, row.0, remote[id])).collect();
                    }
                    Step::Claim => {}
                    Step::Finish(succeeds) => finish(&mut claimed, &mut queue, &mut applied, succeeds),
                }
            }
            finish(&mut claimed, &mut queue, &mut applied, true);
            claimed = queue.iter().map(|(id, row)| (*id, row.0, remote[id])).collect();
            finish(&mut claimed, &mut queue, &mut applied, true);
            prop_assert!(queue.is_empty());
            prop_assert_eq!(applied, remote);
        }
    }
}
