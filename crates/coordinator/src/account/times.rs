//! Times as people read them. Inside and between workers a moment is a number of milliseconds; in what the API shows it is
//! RFC 3339, by the names that times have everywhere: `…_at`, `at`, and the few others listed here.

use keapsync_domain::timestamp::Timestamp;
use serde::Serialize;
use serde_json::Value;

/// Names of times that do not end in `_at`.
const OTHER_NAMES: [&str; 7] =
    ["at", "gap_since", "leased_until", "not_before", "since", "until", "watermark"];

/// The value as JSON, with its times in RFC 3339.
#[must_use]
pub fn shown(value: &impl Serialize) -> Value {
    let mut value = serde_json::to_value(value).unwrap_or_default();
    show_times(&mut value);
    value
}

fn show_times(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(show_times),
        Value::Object(fields) => {
            for (name, field) in fields {
                match field.as_i64().filter(|_| name.ends_with("_at") || OTHER_NAMES.contains(&name.as_str()))
                {
                    Some(moment_ms) => *field = Value::String(Timestamp(moment_ms).to_rfc3339()),
                    None => show_times(field),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn shows_times_and_leaves_other_numbers_alone() {
        let value = json!({
            "at": 0, "units": 3, "attempts": 1, "finished_at": null,
            "runs": [{"started_at": 1_000, "cursor": {"since": 2_000, "after_id": "7"}, "counts": {"read": 9}}],
        });
        let expected = json!({
            "at": "1970-01-01T00:00:00.000Z", "units": 3, "attempts": 1, "finished_at": null,
            "runs": [{
                "started_at": "1970-01-01T00:00:01.000Z",
                "cursor": {"since": "1970-01-01T00:00:02.000Z", "after_id": "7"},
                "counts": {"read": 9},
            }],
        });
        assert_eq!(shown(&value), expected);
    }
}
