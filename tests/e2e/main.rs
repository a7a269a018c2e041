//! End-to-end tests on real workerd, real Postgres and the Keap simulator.
//!
//! `cargo xtask test` runs them; alone: `cargo test -p keapsync-e2e`, with a filter as usual. One system is started for all
//! tests. Tests that take a part of it down run after the others.

#![allow(
    clippy::indexing_slicing,
    reason = "an index into JSON that has another shape gives null, and the test says so"
)]

mod access;
mod accounting;
mod attacks;
mod bad_input;
mod chaos;
mod conflicts;
mod connect;
mod day;
mod doctor;
mod echo;
mod hooks;
mod inbound;
mod live;
mod metrics;
mod outages;
mod outbound;
mod pause;
mod pooler;
mod queue;
mod quota;
mod runbook;
mod runs;
mod smoke;
mod tokens;
mod trace;
mod upkeep;
mod watcher;

use anyhow::Result;
use keapsync_e2e::quota::without_quota;
use keapsync_e2e::stage::{Access, Stage};
use keapsync_xtask::system::{System, SystemOptions};
use libtest_mimic::{Arguments, Failed, Trial};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Tests at once, unless asked otherwise.
const AT_ONCE: usize = 4;

/// Tests that are named at the end with the time they took.
const SLOWEST_SHOWN: usize = 12;

/// Set, only these are run: a person connects an account, everything is mirrored, and edits of both sides meet.
const MAIN_JOB_VARIABLE: &str = "KEAPSYNC_E2E_MAIN_JOB";
const MAIN_JOB: [&str; 10] = [
    "connect::a_person_connects_an_account",
    "inbound::a_full_sync_mirrors_everything",
    "inbound::changes_in_keap_arrive_by_hook",
    "outbound::an_edit_reaches_keap",
    "outbound::a_new_row_becomes_one_contact",
    "outbound::edits_on_both_sides_combine",
    "conflicts::a_person_lets_keap_win",
    "runs::orders_tags_and_subscriptions_flow_both_ways",
    "runs::a_change_and_a_run_are_undone",
    "runs::the_certificate_tells_equal_from_different",
];

/// A test's future.
type Story<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// Where a test runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// On the system that all share, beside others.
    Shared,
    /// On the same system, alone, because it takes a part of it down.
    Alone,
    /// On a system of its own, beside whatever runs on the shared one, one such system at a time.
    OwnSystem,
}

/// One test: its name, where it runs, and what it does there.
struct Test {
    name: &'static str,
    place: Place,
    run: for<'a> fn(&'a Stage) -> Story<'a>,
}

/// Lists tests by the functions that they are.
macro_rules! tests {
    ($place:expr; $($module:ident::$name:ident),* $(,)?) => {
        [$(Test {
            name: concat!(stringify!($module), "::", stringify!($name)),
            place: $place,
            run: |stage| Box::pin($module::$name(stage)),
        }),*]
    };
}

/// Those that leave every part of the system up.
fn peaceful_tests() -> impl IntoIterator<Item = Test> {
    tests![Place::Shared;
        connect::health_tells_of_every_binding,
        connect::a_person_connects_an_account,
        connect::a_callback_counts_once_and_only_for_its_browser,
        connect::a_credential_of_another_application_changes_nothing,
        connect::admin_routes_need_the_token,
        inbound::a_full_sync_mirrors_everything,
        inbound::a_second_full_sync_writes_nothing,
        inbound::an_incremental_sync_finds_what_no_hook_told,
        inbound::changes_in_keap_arrive_by_hook,
        inbound::a_broken_contact_harms_no_other,
        outbound::an_edit_reaches_keap,
        outbound::a_new_row_becomes_one_contact,
        outbound::edits_on_both_sides_combine,
        outbound::what_keap_does_not_take_is_put_back_and_the_rest_is_carried,
        outbound::a_refused_row_becomes_a_dead_letter_and_can_be_replayed,
        accounting::every_edit_is_accounted_for,
        outbound::a_delete_stays_here_until_the_owner_lets_it_through,
        conflicts::a_person_lets_the_row_win,
        conflicts::a_person_lets_keap_win,
        conflicts::a_person_gives_a_third_value,
        runs::a_dry_run_says_what_the_run_then_does,
        runs::a_mass_deletion_in_keap_waits_for_a_person,
        runs::a_mass_deletion_in_sql_waits_for_a_person,
        runs::a_loop_of_single_deletes_stops_and_edits_beside_it_go_on,
        runs::a_flood_of_delete_hooks_stops_and_edits_beside_it_go_on,
        runs::the_certificate_tells_equal_from_different,
        runs::a_change_and_a_run_are_undone,
        runs::orders_tags_and_subscriptions_flow_both_ways,
        echo::after_quiescence_there_is_silence,
        tokens::a_crowd_around_expiry_refreshes_once,
        tokens::a_revoked_account_says_so_and_keeps_everything,
        tokens::a_service_key_that_keap_withdraws_calls_for_a_person,
        quota::status_shows_who_used_what,
        quota::keaps_lower_limits_count,
        quota::one_keap_application_under_two_names_is_warned_of,
        live::only_with_a_token_or_a_ticket,
        live::a_ticket_dies_unused,
        live::what_happens_is_told,
        live::conflicts_runs_and_the_connection_are_told,
        live::a_client_that_comes_back_misses_nothing,
        live::one_that_was_away_too_long_begins_anew,
        live::a_hundred_watch_and_no_more,
        live::clients_say_little,
        live::a_flood_is_told_as_a_few,
        hooks::what_keap_did_not_deliver_is_read_once_it_does_again,
        hooks::lost_doubled_and_old_subscriptions_are_put_in_order,
        hooks::status_tells_what_each_hook_delivered_today,
        hooks::a_revoke_ends_the_hooks_and_a_new_connection_reads_what_was_missed,
        pause::a_paused_account_takes_everything_in_and_does_nothing,
        pause::what_no_hook_told_during_a_pause_is_read_at_its_end,
        queue::the_largest_delivery_is_answered_at_once_and_coalesced,
        queue::an_order_is_not_held_up_by_a_burst_of_contacts,
        queue::dead_letters_are_grouped_replayed_and_discarded,
        queue::an_edit_given_up_is_kept_when_dead_letters_are_discarded,
        access::wrong_credentials_are_limited_and_good_ones_are_not,
        access::public_pages_are_limited,
        access::every_answer_carries_its_headers,
        access::no_other_origin_reads,
        access::what_admins_do_is_recorded,
        access::every_refused_credential_is_recorded,
        access::the_databases_token_wakes_and_does_nothing_else,
        access::attempts_to_connect_belong_to_one_browser,
        access::no_redirect_leads_elsewhere,
        attacks::signatures_are_worth_one_body,
        attacks::no_header_moves_a_delivery_to_another_account,
        attacks::methods_and_addresses_are_taken_as_they_are,
        attacks::an_account_is_asked_about_itself_only,
        attacks::bodies_are_bounded_however_they_come,
        attacks::api_urls_are_never_followed,
        attacks::nothing_is_injected_into_the_logs,
        bad_input::deliveries_are_checked,
        bad_input::unknown_accounts_and_paths_are_refused,
        outages::keap_faults_are_retried_and_end_in_success,
        outages::a_lost_answer_makes_no_second_contact,
        smoke::a_thousand_queries_of_each_size_come_back_right,
        smoke::the_smoke_test_is_the_admins_alone_and_bounded,
        doctor::a_healthy_system_has_no_problem_and_a_planted_one_is_found,
        doctor::a_database_without_migrations_and_a_stranger_are_told_apart,
        metrics::metrics_are_for_the_admin_and_their_own_token,
        trace::what_became_of_a_delivery_names_its_trace,
        runbook::every_command_of_the_runbook_works,
        pooler::workers_share_few_connections_of_the_pooler,
    ]
}

fn all_tests() -> Vec<Test> {
    let disturbing = tests![Place::Alone;
        tokens::the_coordinator_dies_while_it_refreshes,
        outages::a_hook_while_postgres_is_down_is_kept_and_applied,
        outages::a_run_survives_the_death_of_the_sync_worker,
        pooler::the_pooler_keeps_no_session,
        pooler::a_pooler_that_restarts_loses_nothing,
        live::a_restart_leaves_neither_gap_nor_double,
        upkeep::the_daily_cron_removes_what_is_past_its_retention,
    ];
    // The longest, so they begin as soon as the peaceful ones leave room.
    let apart = tests![Place::OwnSystem;
        chaos::nothing_is_lost_whatever_goes_wrong,
        day::a_day_ends_as_if_nothing_had_gone_wrong,
    ];
    let mut tests: Vec<Test> = peaceful_tests().into_iter().chain(apart).chain(disturbing).collect();
    if std::env::var_os(MAIN_JOB_VARIABLE).is_some() {
        tests.retain(|test| MAIN_JOB.contains(&test.name));
        // A test that was renamed would else drop out unnoticed.
        assert_eq!(tests.len(), MAIN_JOB.len(), "a test of the main job is called otherwise now");
    }
    tests
}

fn start(runtime: &Runtime) -> Result<Arc<Stage>> {
    runtime.block_on(async {
        let options = metrics::with_metrics_token(without_quota(SystemOptions::for_tests("e2e")));
        let system = System::start(options).await?;
        let access = Access::of(&system);
        Ok(Arc::new(Stage::new(system, access)?))
    })
}

/// What came of a test.
struct Turn {
    outcome: Result<()>,
    /// How long it took, without what it waited for its turn.
    time: Duration,
    /// Whether it failed beside others and was repeated.
    failed_among_others: bool,
}

/// Runs a test when it is its turn. One that fails beside others runs once more, alone: on a busy machine a test may run out of patience
/// through no fault of what it tests. What it said is shown either way. Those that run alone, or on a system of their own, have no second try.
async fn take_turn(test: &Test, stage: &Stage, own_system: &tokio::sync::Mutex<()>) -> Turn {
    let mut failed_among_others = false;
    if test.place == Place::OwnSystem {
        let _one_at_a_time = own_system.lock().await;
        let begun = Instant::now();
        let outcome = (test.run)(stage).await;
        return Turn { outcome, time: begun.elapsed(), failed_among_others };
    }
    if test.place == Place::Shared {
        let _among_others = stage.turn.read().await;
        let begun = Instant::now();
        match (test.run)(stage).await {
            Ok(()) => return Turn { outcome: Ok(()), time: begun.elapsed(), failed_among_others },
            Err(error) => eprintln!("{} failed among others, and runs again alone: {error:?}", test.name),
        }
        failed_among_others = true;
    }
    let _alone = stage.turn.write().await;
    let begun = Instant::now();
    let ready = if test.place == Place::Alone { stage.pause_the_others().await } else { Ok(()) };
    let outcome = match ready {
        Ok(()) => (test.run)(stage).await,
        Err(error) => Err(error),
    };
    Turn { outcome, time: begun.elapsed(), failed_among_others }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Tests wait far more than they work, each in an account of its own.
    arguments.test_threads.get_or_insert(AT_ONCE);
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no async runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    if arguments.list {
        libtest_mimic::run(
            &arguments,
            all_tests().into_iter().map(|test| Trial::test(test.name, || Ok(()))).collect(),
        )
        .exit();
    }
    let stage = match start(&runtime) {
        Ok(stage) => stage,
        Err(error) => {
            eprintln!("the system for the end-to-end tests did not start: {error:?}");
            return ExitCode::FAILURE;
        }
    };
    let handle = runtime.handle().clone();
    let took = Arc::new(Mutex::new(Vec::new()));
    let own_system = Arc::new(tokio::sync::Mutex::new(()));
    // Those that disturb come last, and alone: the lock keeps the others out.
    let trials = all_tests().into_iter().map(|test| {
        let (stage, handle, took) = (Arc::clone(&stage), handle.clone(), Arc::clone(&took));
        let own_system = Arc::clone(&own_system);
        Trial::test(test.name, move || {
            let turn = handle.block_on(take_turn(&test, &stage, &own_system));
            let outcome = turn.outcome.map_err(|error| Failed::from(format!("{error:?}")));
            took.lock().unwrap_or_else(PoisonError::into_inner).push((
                turn.time,
                test.name,
                turn.failed_among_others,
            ));
            outcome
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    let mut took = std::mem::take(&mut *took.lock().unwrap_or_else(PoisonError::into_inner));
    took.sort_unstable_by(|one, other| other.cmp(one));
    for (time, name, _) in took.iter().take(SLOWEST_SHOWN) {
        eprintln!("{:6.1} s  {name}", time.as_secs_f64());
    }
    for (_, name, _) in took.iter().filter(|(_, _, failed_among_others)| *failed_among_others) {
        eprintln!("failed among others, and ran again alone: {name}");
    }
    if conclusion.has_failed() {
        eprintln!("logs of the system: {}", stage.access.logs);
    }
    runtime.block_on(async {
        if let Err(error) = stage.system.lock().await.stop().await {
            eprintln!("the system did not stop: {error:#}");
        }
    });
    conclusion.exit_code()
}
