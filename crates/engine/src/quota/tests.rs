//! Grants, releases, Keap's figures, and the windows under any interleaving.

use super::*;
use keapsync_domain::quota::{Throttle, ThrottleKind, WindowReading};
use proptest::prelude::*;

const LIMITS: QuotaLimits = QuotaLimits { per_second: 20, per_minute: 1_400, per_day: 140_000 };

fn request(id: &str, priority: Priority, permits_max: u32, calls_per_second_max: u32) -> LeaseRequest {
    LeaseRequest {
        id: id.to_owned(),
        account: "a".to_owned(),
        priority,
        permits_max,
        calls_per_second_max,
        ttl_ms: 30_000,
    }
}

fn granted(grant: Grant) -> Lease {
    match grant {
        Grant::Granted(lease) => lease,
        Grant::Refused { retry_after_ms } => panic!("refused for {retry_after_ms} ms"),
    }
}

#[test]
fn a_backfill_leaves_room_for_live_changes() {
    let mut quota = QuotaState::default();
    let backfill =
        granted(quota.request(&LIMITS, &request("b", Priority::Backfill, 9_999, 99), Timestamp(0)));
    assert_eq!((backfill.calls_per_second_max, backfill.permits), (14, 980));
    assert!(matches!(
        quota.request(&LIMITS, &request("c", Priority::Backfill, 1, 1), Timestamp(0)),
        Grant::Refused { .. }
    ));
    let hook = granted(quota.request(&LIMITS, &request("h", Priority::Hook, 50, 4), Timestamp(0)));
    assert_eq!((hook.calls_per_second_max, hook.permits), (4, 50));
    assert_eq!(
        granted(quota.request(&LIMITS, &request("p", Priority::Person, 1, 9), Timestamp(0)))
            .calls_per_second_max,
        2
    );
}

#[test]
fn a_release_gives_back_what_was_not_used() {
    let mut quota = QuotaState::default();
    granted(quota.request(&LIMITS, &request("a", Priority::Hook, 50, 10), Timestamp(0)));
    quota.release("a", 2, Timestamp(100));
    let left = quota.left(&LIMITS);
    assert_eq!((left.second, left.minute, left.day), (18, 1_398, 139_998));
    quota.advance(Timestamp(1_100));
    assert_eq!(quota.left(&LIMITS).second, 20);
    quota.advance(Timestamp(62_000));
    assert_eq!(quota.left(&LIMITS).minute, 1_400);
    quota.advance(Timestamp(DAY_MS + DAY_GRAIN_MS));
    assert_eq!(quota.left(&LIMITS).day, 140_000);
}

#[test]
fn an_expired_lease_counts_in_full_and_a_late_release_gives_nothing_back() {
    let mut quota = QuotaState::default();
    granted(quota.request(&LIMITS, &request("a", Priority::Hook, 50, 10), Timestamp(0)));
    quota.release("a", 0, Timestamp(30_000));
    assert_eq!(quota.left(&LIMITS).minute, 1_350);
}

#[test]
fn asking_again_under_the_same_name_takes_nothing_more() {
    let mut quota = QuotaState::default();
    let ask = request("a", Priority::Hook, 50, 10);
    let first = granted(quota.request(&LIMITS, &ask, Timestamp(0)));
    assert_eq!(granted(quota.request(&LIMITS, &ask, Timestamp(5))), first);
    assert_eq!(quota.left(&LIMITS).minute, 1_350);
}

fn left(available: u32) -> WindowReading {
    WindowReading { limit: None, available: Some(available) }
}

fn limit(limit: u32) -> WindowReading {
    WindowReading { limit: Some(limit), available: None }
}

fn refused(kind: ThrottleKind, retry_after_ms: Option<i64>) -> QuotaReading {
    QuotaReading { throttle: Some(Throttle { kind, retry_after_ms }), ..QuotaReading::default() }
}

fn wait_ms(grant: &Grant) -> Option<i64> {
    match grant {
        Grant::Granted(_) => None,
        Grant::Refused { retry_after_ms } => Some(*retry_after_ms),
    }
}

#[test]
fn keaps_figures_lower_what_is_left_and_never_raise_it() {
    let mut quota = QuotaState::default();
    let reading =
        |minute, day| QuotaReading { minute: left(minute), day: left(day), ..QuotaReading::default() };
    quota.observe(&LIMITS, "a", &reading(1_499, 149_999), Timestamp(0));
    assert_eq!(quota.left(&LIMITS).day, 140_000);
    quota.observe(&LIMITS, "a", &reading(0, 500), Timestamp(0));
    assert_eq!((quota.left(&LIMITS).minute, quota.left(&LIMITS).day), (0, 500));
    assert_eq!(
        wait_ms(&quota.request(&LIMITS, &request("b", Priority::Backfill, 1, 1), Timestamp(1))),
        Some(RETRY_DAY_MS)
    );
    // A higher figure that comes late changes nothing; in an hour, unless said again, it is forgotten.
    quota.observe(&LIMITS, "a", &reading(1_000, 9_000), Timestamp(10));
    assert_eq!((quota.left(&LIMITS).minute, quota.left(&LIMITS).day), (0, 500));
    quota.advance(Timestamp(3_600_000));
    assert_eq!((quota.left(&LIMITS).minute, quota.left(&LIMITS).day), (1_400, 140_000));
}

#[test]
fn keaps_lower_limits_count_and_its_higher_ones_do_not() {
    let mut quota = QuotaState::default();
    let keaps = |second, minute, day| QuotaReading {
        spike_limit: Some(second),
        minute: limit(minute),
        day: limit(day),
        ..QuotaReading::default()
    };
    quota.observe(&LIMITS, "a", &keaps(25, 1_500, 150_000), Timestamp(0));
    assert_eq!(quota.view(&LIMITS, Timestamp(0)).minute.limit, 1_400);
    quota.observe(&LIMITS, "a", &keaps(10, 240, 30_000), Timestamp(0));
    let view = quota.view(&LIMITS, Timestamp(0));
    assert_eq!((view.second.limit, view.minute.limit, view.day.limit), (9, 228, 28_500));
    let lease = granted(quota.request(&LIMITS, &request("p", Priority::Person, 9_999, 99), Timestamp(1)));
    assert_eq!((lease.permits, lease.calls_per_second_max), (228, 9));
    // Keap raised them again.
    quota.observe(&LIMITS, "a", &keaps(25, 1_500, 150_000), Timestamp(2));
    assert_eq!(quota.view(&LIMITS, Timestamp(2)).minute.limit, 1_400);
}

#[test]
fn a_day_that_is_over_at_keap_says_nothing_about_the_next() {
    let mut quota = QuotaState::default();
    let empty = |resets_at| QuotaReading {
        day: left(0),
        day_resets_at: Some(Timestamp(resets_at)),
        ..QuotaReading::default()
    };
    quota.observe(&LIMITS, "a", &empty(1_000), Timestamp(500));
    assert_eq!(quota.left(&LIMITS).day, 0);
    quota.advance(Timestamp(1_000));
    assert_eq!(quota.left(&LIMITS).day, 140_000);
    quota.observe(&LIMITS, "a", &empty(1_000), Timestamp(1_001));
    assert_eq!(quota.left(&LIMITS).day, 140_000);
}

#[test]
fn a_refusal_holds_the_whole_credential_back_and_a_burst_slows_it_down() {
    let ask = request("x", Priority::Person, 1, 99);
    let mut quota = QuotaState::default();
    quota.observe(&LIMITS, "a", &refused(ThrottleKind::Spike, None), Timestamp(0));
    assert_eq!(
        wait_ms(&quota.request(
            &LIMITS,
            &LeaseRequest { account: "b".to_owned(), ..ask.clone() },
            Timestamp(0)
        )),
        Some(1_000)
    );
    quota.observe(&LIMITS, "a", &refused(ThrottleKind::Spike, None), Timestamp(0));
    assert_eq!(wait_ms(&quota.request(&LIMITS, &ask, Timestamp(0))), Some(2_000));
    let lease = granted(quota.request(&LIMITS, &ask, Timestamp(2_000)));
    assert_eq!(lease.calls_per_second_max, 11);
    quota.release("x", 0, Timestamp(2_000));
    quota.observe(&LIMITS, "a", &refused(ThrottleKind::Quota, Some(7_000)), Timestamp(2_000));
    assert_eq!(wait_ms(&quota.request(&LIMITS, &ask, Timestamp(3_000))), Some(6_000));
    quota.observe(&LIMITS, "a", &refused(ThrottleKind::Quota, Some(i64::MAX)), Timestamp(3_000));
    assert_eq!(wait_ms(&quota.request(&LIMITS, &ask, Timestamp(3_000))), Some(3_600_000));
    let much_later = granted(quota.request(&LIMITS, &ask, Timestamp(4_000_000)));
    assert_eq!(much_later.calls_per_second_max, 20);
}

#[test]
fn a_keap_application_that_has_had_enough_holds_back_its_own_account_only() {
    let mut quota = QuotaState::default();
    let ask = |id: &str, account: &str| LeaseRequest {
        account: account.to_owned(),
        ..request(id, Priority::Person, 100, 1)
    };
    let reading = QuotaReading { tenant_minute: left(30), ..QuotaReading::default() };
    quota.observe(&LIMITS, "a", &reading, Timestamp(0));
    assert_eq!(granted(quota.request(&LIMITS, &ask("1", "a"), Timestamp(1))).permits, 30);
    assert_eq!(wait_ms(&quota.request(&LIMITS, &ask("2", "a"), Timestamp(1))), Some(59_999));
    assert_eq!(granted(quota.request(&LIMITS, &ask("3", "b"), Timestamp(1))).permits, 100);
    quota.release("1", 10, Timestamp(2));
    assert_eq!(granted(quota.request(&LIMITS, &ask("4", "a"), Timestamp(2))).permits, 20);
    quota.observe(&LIMITS, "b", &refused(ThrottleKind::Tenant, Some(5_000)), Timestamp(3));
    assert_eq!(wait_ms(&quota.request(&LIMITS, &ask("5", "b"), Timestamp(3))), Some(5_000));
    assert_eq!(granted(quota.request(&LIMITS, &ask("6", "c"), Timestamp(3))).permits, 100);
}

#[test]
fn status_shows_who_used_what_and_until_when_it_lasts() {
    let mut quota = QuotaState::default();
    let limits = QuotaLimits { per_second: 20, per_minute: 1_400, per_day: 10_000 };
    for (number, priority, used) in [(0, Priority::Hook, 100), (1, Priority::Backfill, 900)] {
        let id = number.to_string();
        granted(quota.request(&limits, &request(&id, priority, 950, 5), Timestamp(number * 61_000)));
        quota.release(&id, used, Timestamp(number * 61_000));
    }
    let now = Timestamp(300_000);
    quota.advance(now);
    let view = quota.view(&limits, now);
    let by_priority = BTreeMap::from([("hook".to_owned(), 100), ("backfill".to_owned(), 900)]);
    assert_eq!((view.day.used, view.day.left, view.day.by_priority), (1_000, 9_000, by_priority));
    assert_eq!(view.minute.used, 0);
    let hours = |hours: i64| Some(now.plus_ms(hours * 3_600_000));
    assert_eq!(view.forecast.calls_per_hour, 1_000);
    assert_eq!(view.forecast.used_up_at, hours(9));
    assert_eq!(view.forecast.used_up_for_backfill_at, now.0.checked_add(23_400_000).map(Timestamp));
    // Work for 5 hours ends as planned; work for 10 rests until the calls of today's first minutes come back.
    let planned = now.plus_ms(5 * 3_600_000);
    assert_eq!(view.forecast.backfill_done_at(planned), planned);
    let rests_ms = Timestamp(300_000 + DAY_MS).since_ms(now.plus_ms(23_400_000));
    let planned = now.plus_ms(10 * 3_600_000);
    assert_eq!(view.forecast.backfill_done_at(planned), planned.plus_ms(rests_ms));
    assert_eq!(QuotaState::default().view(&limits, now).forecast.used_up_at, None);
}

#[derive(Clone, Debug)]
enum Step {
    Ask { priority: u8, permits: u32, rate: u32, ttl_ms: i64 },
    Call(prop::sample::Index),
    Release(prop::sample::Index),
    Wait(i64),
    Told(QuotaReading),
}

fn told() -> impl Strategy<Value = Step> {
    let figure = || prop::option::of(0_u32..80);
    let limit = || prop::option::of(1_u32..300);
    let throttle =
        prop::option::of((0_u8..3, prop::option::of(0_i64..5_000)).prop_map(|(kind, retry_after_ms)| {
            Throttle {
                kind: [ThrottleKind::Spike, ThrottleKind::Quota, ThrottleKind::Tenant][usize::from(kind)],
                retry_after_ms,
            }
        }));
    (limit(), (limit(), figure()), (limit(), figure()), figure(), throttle).prop_map(
        |(spike_limit, minute, day, tenant, throttle)| {
            let window = |(limit, available)| WindowReading { limit, available };
            Step::Told(QuotaReading {
                spike_limit,
                minute: window(minute),
                day: window(day),
                tenant_minute: window((None, tenant)),
                throttle,
                ..QuotaReading::default()
            })
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_u8..5, 1_u32..40, 1_u32..10, 1_i64..20_000)
            .prop_map(|(priority, permits, rate, ttl_ms)| Step::Ask { priority, permits, rate, ttl_ms }),
        10 => any::<prop::sample::Index>().prop_map(Step::Call),
        1 => any::<prop::sample::Index>().prop_map(Step::Release),
        1 => told(),
        4 => prop_oneof![4 => 0_i64..300, 2 => 300_i64..3_000, 1 => 3_000_i64..90_000, 1 => 600_000_i64..50_000_000]
            .prop_map(Step::Wait),
    ]
}

fn holds(calls: &[i64], window_ms: i64, limit: u32) -> bool {
    calls.iter().enumerate().all(|(first, start)| {
        calls[first..].iter().take_while(|at| **at < start + window_ms).count() <= limit as usize
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Holders that call as fast as their leases allow, release, or vanish, in any order: no window exceeds its limit.
    #[test]
    fn no_window_ever_exceeds_its_limit(steps in prop::collection::vec(step(), 1..250), per_second in 1_u32..12, per_minute in 5_u32..60, per_day in 20_u32..200) {
        let limits = QuotaLimits { per_second, per_minute, per_day };
        let priorities = [Priority::Person, Priority::Hook, Priority::Outbox, Priority::Poll, Priority::Backfill];
        let (mut quota, mut now, mut calls, mut held) = (QuotaState::default(), Timestamp(0), Vec::<i64>::new(), Vec::<(Lease, Vec<i64>)>::new());
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Wait(wait_ms) => now = now.plus_ms(wait_ms),
                Step::Told(reading) => {
                    quota.observe(&limits, "a", &reading, now);
                    let left = quota.left(&limits);
                    for (told, left) in [(reading.minute.available, left.minute), (reading.day.available, left.day)] {
                        prop_assert!(told.is_none_or(|told| left <= i64::from(told)), "{told:?} {left}");
                    }
                }
                Step::Ask { priority, permits, rate, ttl_ms } => {
                    let ask = LeaseRequest { ttl_ms, ..request(&number.to_string(), priorities[usize::from(priority)], permits, rate) };
                    match quota.request(&limits, &ask, now) {
                        Grant::Granted(lease) => {
                            prop_assert!(lease.permits >= 1 && lease.permits <= permits);
                            prop_assert!(lease.calls_per_second_max >= 1 && lease.calls_per_second_max <= rate);
                            held.push((lease, Vec::new()));
                        }
                        Grant::Refused { retry_after_ms } => prop_assert!(retry_after_ms > 0),
                    }
                }
                Step::Call(which) => {
                    if held.is_empty() { continue; }
                    let position = which.index(held.len());
                    let (lease, made) = &mut held[position];
                    // A burst of all that the lease allows at this moment.
                    while now < lease.expires_at
                        && made.len() < lease.permits as usize
                        && made.iter().filter(|at| now.0 - **at < SECOND_MS).count() < lease.calls_per_second_max as usize
                    {
                        made.push(now.0);
                        calls.push(now.0);
                    }
                }
                Step::Release(which) => {
                    if held.is_empty() { continue; }
                    let position = which.index(held.len());
                    let (lease, made) = held.swap_remove(position);
                    quota.release(&lease.id, u32::try_from(made.len()).unwrap(), now);
                }
            }
        }
        prop_assert!(holds(&calls, SECOND_MS, per_second), "a second holds too many calls");
        prop_assert!(holds(&calls, MINUTE_MS, per_minute), "a minute holds too many calls");
        prop_assert!(holds(&calls, DAY_MS, per_day), "a day holds too many calls");
    }

    /// What is idle long enough is free again: nothing leaks.
    #[test]
    fn everything_comes_back(asks in prop::collection::vec((1_u32..40, 1_u32..10, any::<bool>()), 1..50)) {
        let mut quota = QuotaState::default();
        for (number, (permits, rate, released)) in asks.into_iter().enumerate() {
            let id = number.to_string();
            quota.request(&LIMITS, &request(&id, Priority::Person, permits, rate), Timestamp(0));
            if released { quota.release(&id, permits, Timestamp(1)); }
        }
        quota.advance(Timestamp(2 * DAY_MS));
        prop_assert_eq!(&quota, &QuotaState::default());
    }
}
