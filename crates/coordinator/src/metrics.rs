//! `GET /metrics` in Prometheus' text form: what every account's status says, as numbers. Nothing is counted for it alone.
//!
//! `docs/metrics.md` says what each number means and when to be alarmed; a test holds the two together.

use keapsync_domain::timestamp::Timestamp;
use keapsync_platform::prometheus::Page;
use serde_json::Value;
use std::collections::BTreeMap;

/// Numbers as they stand in an account's status: name, help, and where.
const NUMBERS: [(&str, &str, &str); 10] = [
    ("keapsync_events_open", "Hook events that wait.", "/events/open"),
    ("keapsync_events_dead", "Hook events that were given up.", "/events/dead"),
    ("keapsync_outbox_open", "Edits that wait for Keap, as last seen.", "/outbox/open"),
    ("keapsync_outbox_failed", "Edits and records that failed, as last seen.", "/outbox/failed"),
    ("keapsync_quota_left_minute", "Calls to Keap left this minute.", "/quota/minute/left"),
    ("keapsync_quota_left_day", "Calls to Keap left today.", "/quota/day/left"),
    ("keapsync_quota_limit_day", "Calls to Keap that a day has.", "/quota/day/limit"),
    ("keapsync_quota_calls_per_hour", "Calls to Keap of the last hour.", "/quota/forecast/calls_per_hour"),
    ("keapsync_quota_leases", "Quota leases that live.", "/quota/leases"),
    ("keapsync_token_generation", "Generation of the credential.", "/token/generation"),
];

/// Times in an account's status, as seconds: name, help, where, and whether they are to come.
const TIMES: [(&str, &str, &str, bool); 6] = [
    (
        "keapsync_events_oldest_seconds",
        "How long the oldest hook event has waited.",
        "/events/oldest_at",
        false,
    ),
    (
        "keapsync_outbox_oldest_seconds",
        "How long the oldest edit has waited, as last seen.",
        "/outbox/oldest_at",
        false,
    ),
    ("keapsync_paused_seconds", "How long the account has been paused.", "/paused/since", false),
    ("keapsync_token_expires_seconds", "Until the access token expires.", "/token/expires_at", true),
    (
        "keapsync_refresh_token_expires_seconds",
        "Until Keap forgets the connection unless it is renewed.",
        "/token/refresh_token_expires_at",
        true,
    ),
    (
        "keapsync_quota_used_up_seconds",
        "Until the day's calls are used up at the last hour's rate.",
        "/quota/forecast/used_up_at",
        true,
    ),
];

/// Lists in an account's status, by their length: name, help, and where.
const LENGTHS: [(&str, &str, &str); 3] = [
    (
        "keapsync_stalled",
        "Parts of the account's work that stand still although they should not.",
        "/stalled",
    ),
    ("keapsync_setup_open", "Steps of connecting that are not done yet.", "/setup_open"),
    ("keapsync_warnings", "Warnings about the account and its token.", "/warnings"),
];

/// States of hooks that are told apart.
const HOOK_STATES: [&str; 3] = ["Verified", "Unverified", "Inactive"];

/// What hooks brought today, by UTC: label and where.
const HOOK_COUNTS: [&str; 4] = ["deliveries", "objects", "refused", "given_up"];

/// Writes the text. `statuses` are the answers of the accounts' objects.
#[must_use]
pub fn text(statuses: &[(String, Value)], wasm_memory_bytes: u64) -> String {
    let mut page = Page::default();
    // One that did not answer has only an error to say, and no numbers.
    each(&mut page, statuses, "keapsync_up", "Whether the account's object answers.", &|status| {
        Some(status.get("account_id").is_some().into())
    });
    for (name, help, pointer) in NUMBERS {
        each(&mut page, statuses, name, help, &|status| status.pointer(pointer)?.as_i64());
    }
    for (name, help, pointer, is_to_come) in TIMES {
        each(&mut page, statuses, name, help, &|status| {
            let away_ms = moment(status, pointer)?.since_ms(moment(status, "/at")?);
            Some(if is_to_come { away_ms } else { -away_ms } / 1_000)
        });
    }
    for (name, help, pointer) in LENGTHS {
        each(&mut page, statuses, name, help, &|status| count(status.pointer(pointer)?.as_array()?.len()));
    }
    each(
        &mut page,
        statuses,
        "keapsync_connected",
        "Whether the account has a credential that Keap accepts.",
        &|status| {
            let state = status.pointer("/token/state")?;
            // One that was given up on purpose is no alarm.
            (state != "revoked").then(|| (state == "connected").into())
        },
    );
    each(&mut page, statuses, "keapsync_paused", "Whether somebody paused the account.", &|status| {
        Some(status.get("paused")?.is_object().into())
    });
    each(
        &mut page,
        statuses,
        "keapsync_runs_awaiting_approval",
        "Runs that the guard stopped until a person decides.",
        &|status| {
            let runs = status.get("runs")?.as_array()?;
            count(
                runs.iter()
                    .filter(|run| run.get("state").is_some_and(|state| state == "awaiting_approval"))
                    .count(),
            )
        },
    );
    parts(&mut page, statuses);
    hooks(&mut page, statuses);
    page.wasm_memory("coordinator", wasm_memory_bytes);
    page.text().to_owned()
}

/// A metric with one sample for each account that knows it. The value is asked for by reference: one function, not a copy for each.
fn each(
    page: &mut Page,
    statuses: &[(String, Value)],
    name: &'static str,
    help: &str,
    value: &dyn Fn(&Value) -> Option<i64>,
) {
    page.gauge(name, help);
    for (account, status) in statuses {
        if let Some(value) = value(status) {
            page.sample(&[("account", account)], value);
        }
    }
}

/// Failures in a row of the alarm's parts, by the class of the last. A part that works is not there.
fn parts(page: &mut Page, statuses: &[(String, Value)]) {
    page.gauge(
        "keapsync_part_failures",
        "Failures in a row of a part of the account's work, by the last one's class.",
    );
    for (account, status) in statuses {
        for (part, state) in status.get("errors").and_then(Value::as_object).into_iter().flatten() {
            let failures = state.get("failures").and_then(Value::as_i64).unwrap_or(0);
            let class = state.pointer("/error/class").and_then(Value::as_str).unwrap_or("none");
            if failures > 0 {
                page.sample(&[("account", account), ("part", part), ("class", class)], failures);
            }
        }
    }
}

/// Subscriptions by state, and what they brought today. Added up over the events: Keap has dozens of them.
fn hooks(page: &mut Page, statuses: &[(String, Value)]) {
    page.gauge("keapsync_hooks", "Subscriptions to Keap's hooks, by state.");
    for (account, status) in statuses {
        let mut states: BTreeMap<&str, i64> = HOOK_STATES.into_iter().map(|state| (state, 0)).collect();
        for hook in hooks_of(status) {
            let state = hook.get("status").and_then(Value::as_str).unwrap_or_default();
            let known = HOOK_STATES.into_iter().find(|known| *known == state).unwrap_or("other");
            *states.entry(known).or_default() += 1;
        }
        for (state, hooks) in states {
            page.sample(&[("account", account), ("state", state)], hooks);
        }
    }
    page.gauge("keapsync_hooks_today", "What hooks brought since midnight UTC: deliveries stored, objects in them, deliveries refused, objects given up.");
    for (account, status) in statuses {
        for what in HOOK_COUNTS {
            let counts = hooks_of(status).iter().filter_map(|hook| hook.get("today")?.get(what)?.as_i64());
            page.sample(&[("account", account), ("what", what)], counts.sum());
        }
    }
}

fn hooks_of(status: &Value) -> &[Value] {
    status.get("hooks").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn moment(status: &Value, pointer: &str) -> Option<Timestamp> {
    Timestamp::parse_rfc3339(status.pointer(pointer)?.as_str()?)
}

fn count(items: usize) -> Option<i64> {
    i64::try_from(items).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn busy() -> Value {
        json!({
            "account_id": "demo", "at": "2026-01-01T00:10:00.000Z",
            "events": {"open": 3, "dead": 0, "oldest_at": "2026-01-01T00:00:00.000Z"}, "outbox": null,
            "token": {"state": "connected", "expires_at": "2026-01-02T00:10:00.000Z"},
            "paused": {"by": "Ann", "since": "2026-01-01T00:09:00.000Z"}, "stalled": [{"what": "events"}], "setup_open": [], "warnings": [],
            "runs": [{"state": "awaiting_approval"}, {"state": "completed"}],
            "errors": {"events": {"failures": 4, "error": {"class": "unavailable"}}, "runs": {"failures": 0}},
            "hooks": [
                {"status": "Verified", "today": {"deliveries": 2, "objects": 9, "refused": 0, "given_up": 1}},
                {"status": "Verified", "today": {"deliveries": 1, "objects": 1, "refused": 0, "given_up": 0}},
                {"status": "Odd", "today": {}},
            ],
            "quota": {"day": {"left": 900, "limit": 1000}, "forecast": {"calls_per_hour": 7}},
        })
    }

    #[test]
    fn writes_what_is_known_and_nothing_else() {
        let silent = json!({"error": {"code": "unavailable"}});
        let shown = text(&[("demo".to_owned(), busy()), ("away".to_owned(), silent)], 65_536);
        for line in [
            "keapsync_up{account=\"demo\"} 1",
            "keapsync_up{account=\"away\"} 0",
            "keapsync_events_open{account=\"demo\"} 3",
            "keapsync_events_oldest_seconds{account=\"demo\"} 600",
            "keapsync_token_expires_seconds{account=\"demo\"} 86400",
            "keapsync_connected{account=\"demo\"} 1",
            "keapsync_paused{account=\"demo\"} 1",
            "keapsync_paused_seconds{account=\"demo\"} 60",
            "keapsync_stalled{account=\"demo\"} 1",
            "keapsync_setup_open{account=\"demo\"} 0",
            "keapsync_runs_awaiting_approval{account=\"demo\"} 1",
            "keapsync_part_failures{account=\"demo\",part=\"events\",class=\"unavailable\"} 4",
            "keapsync_hooks{account=\"demo\",state=\"Verified\"} 2",
            "keapsync_hooks{account=\"demo\",state=\"Inactive\"} 0",
            "keapsync_hooks{account=\"demo\",state=\"other\"} 1",
            "keapsync_hooks_today{account=\"demo\",what=\"objects\"} 10",
            "keapsync_quota_limit_day{account=\"demo\"} 1000",
            "keapsync_wasm_memory_bytes{worker=\"coordinator\"} 65536",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line} is not in\n{shown}");
        }
        for absent in ["keapsync_outbox_open{", "keapsync_connected{account=\"away\"", "part=\"runs\""] {
            assert!(!shown.contains(absent), "{absent}");
        }
        for line in shown.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.rsplit_once(' ').unwrap().1.parse::<f64>().is_ok(), "{line}");
        }
    }

    /// The names of the metrics in a text of Prometheus' form.
    fn names(shown: &str) -> Vec<&str> {
        shown.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
    }

    #[test]
    fn every_metric_is_documented() {
        let document = include_str!("../../../docs/metrics.md");
        for name in names(&text(&[], 0)) {
            assert!(document.contains(&format!("| `{name}`")), "docs/metrics.md does not say what {name} is");
        }
    }
}
