//! `GET /metrics` in Prometheus' text form: what every account's status says, as numbers.

use serde_json::Value;
use std::fmt::Write as _;

/// Gauges per account: name, help and where the number stands in the account's status.
const GAUGES: [(&str, &str, &str); 8] = [
    ("keapsync_events_open", "Hook events that wait.", "/events/open"),
    ("keapsync_events_dead", "Hook events that were given up.", "/events/dead"),
    ("keapsync_outbox_open", "Edits that wait for Keap, as last seen.", "/outbox/open"),
    ("keapsync_outbox_failed", "Edits and records that failed, as last seen.", "/outbox/failed"),
    ("keapsync_quota_left_minute", "Calls to Keap left this minute.", "/quota_left/minute"),
    ("keapsync_quota_left_day", "Calls to Keap left today.", "/quota_left/day"),
    ("keapsync_quota_leases", "Quota leases that live.", "/quota_left/leases"),
    ("keapsync_token_generation", "Generation of the credential.", "/token/generation"),
];

/// Writes the text. `statuses` are the accounts' statuses; accounts whose object did not answer are left out.
#[must_use]
pub fn text(statuses: &[(String, Value)], wasm_memory_bytes: u64) -> String {
    let mut out = String::new();
    for (name, help, pointer) in GAUGES {
        head(&mut out, name, help);
        for (account, status) in statuses {
            if let Some(number) = status.pointer(pointer).and_then(Value::as_i64) {
                sample(&mut out, name, &format!("account=\"{account}\""), number);
            }
        }
    }
    let name = "keapsync_connected";
    head(&mut out, name, "Whether the account has a credential that Keap accepts.");
    for (account, status) in statuses {
        let is_connected = status.pointer("/token/state").and_then(Value::as_str) == Some("connected");
        sample(&mut out, name, &format!("account=\"{account}\""), i64::from(is_connected));
    }
    let name = "keapsync_paused";
    head(&mut out, name, "Whether somebody paused the account.");
    for (account, status) in statuses {
        let is_paused = status.get("paused").is_some_and(Value::is_object);
        sample(&mut out, name, &format!("account=\"{account}\""), i64::from(is_paused));
    }
    let name = "keapsync_stalled";
    head(&mut out, name, "Parts of the account's work that stand still although they should not.");
    for (account, status) in statuses {
        let stalled = status.get("stalled").and_then(Value::as_array).map_or(0, Vec::len);
        sample(&mut out, name, &format!("account=\"{account}\""), i64::try_from(stalled).unwrap_or(i64::MAX));
    }
    let name = "keapsync_wasm_memory_bytes";
    head(&mut out, name, "Linear memory of this worker instance.");
    sample(&mut out, name, "worker=\"coordinator\"", i64::try_from(wasm_memory_bytes).unwrap_or(i64::MAX));
    out
}

fn head(out: &mut String, name: &str, help: &str) {
    // Writing to a string cannot fail.
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n");
}

fn sample(out: &mut String, name: &str, labels: &str, number: i64) {
    let _ = writeln!(out, "{name}{{{labels}}} {number}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn writes_what_is_known_and_nothing_else() {
        let status = json!({"events": {"open": 3, "dead": 0}, "outbox": null, "token": {"state": "connected"},
                "paused": {"by": "Ann"}, "stalled": [{"what": "events"}]});
        let shown = text(&[("demo".to_owned(), status)], 65_536);
        assert!(shown.contains("keapsync_events_open{account=\"demo\"} 3\n"));
        assert!(shown.contains("keapsync_connected{account=\"demo\"} 1\n"));
        assert!(shown.contains("keapsync_paused{account=\"demo\"} 1\n"));
        assert!(shown.contains("keapsync_stalled{account=\"demo\"} 1\n"));
        assert!(shown.contains("keapsync_wasm_memory_bytes{worker=\"coordinator\"} 65536\n"));
        assert!(!shown.contains("keapsync_outbox_open{"));
        for line in shown.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.rsplit_once(' ').unwrap().1.parse::<f64>().is_ok(), "{line}");
        }
    }
}
