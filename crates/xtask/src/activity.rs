//! Showing what a system does: the changes in what an account's object says of itself.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use crate::admin_api::AdminApi;
use crate::progress::detail;

/// How often the account is asked.
const INTERVAL: Duration = Duration::from_millis(500);

/// Prints every change of an account's status until the future is dropped.
pub async fn show(api: &AdminApi, account: &str) -> Result<()> {
    let mut shown: Option<BTreeMap<String, String>> = None;
    let mut unreachable = false;
    loop {
        match api.account_status(account).await {
            Ok(status) => {
                let current = leaves(&status);
                if let Some(before) = &shown {
                    for line in differences(before, &current) {
                        detail(format!("{} {line}", jiff::Zoned::now().strftime("%H:%M:%S")));
                    }
                }
                shown = Some(current);
                unreachable = false;
            }
            // A worker that restarts is away for a moment; once is enough to say so.
            Err(error) if !unreachable => {
                detail(format!("the coordinator does not answer: {error:#}"));
                unreachable = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// All values of a JSON document that hold nothing further, by their path.
fn leaves(value: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    collect("", value, &mut found);
    found
}

fn collect(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                collect(&path, member, found);
            }
        }
        Value::Array(items) => drop(found.insert(path.to_owned(), format!("{} items", items.len()))),
        Value::String(text) => drop(found.insert(path.to_owned(), text.clone())),
        other => drop(found.insert(path.to_owned(), other.to_string())),
    }
}

fn differences(before: &BTreeMap<String, String>, current: &BTreeMap<String, String>) -> Vec<String> {
    let absent = String::from("-");
    current
        .iter()
        .map(|(path, value)| (path, before.get(path).unwrap_or(&absent), value))
        // Times change with every look; what they are times of shows in the numbers beside them.
        .filter(|(path, old, new)| old != new && !path.ends_with("timestamp") && !path.ends_with("_at"))
        .map(|(path, old, new)| format!("{path}: {old} -> {new}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_changed_is_shown_and_times_alone_are_not() {
        let before = leaves(&json!({"events": {"pending": 0, "done": 4}, "timestamp": "a", "runs": [1]}));
        let after = leaves(&json!({"events": {"pending": 2, "done": 4}, "timestamp": "b", "runs": [1, 2]}));
        assert_eq!(differences(&before, &after), ["events.pending: 0 -> 2", "runs: 1 items -> 2 items"]);
    }
}
