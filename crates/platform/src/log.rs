//! One JSON line per event on the console, where the platform's log tools read it field by field.
//!
//! A line takes only what can do no harm: names fixed in the code, numbers, ids and failures. There is no way to log a
//! body, a header or a token. Nothing here times anything; callers bring durations.

use crate::config::ConfigError;
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::AccountId;
use serde_json::{Map, Value};
use std::net::IpAddr;

/// How much is logged, from the most to the least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every step.
    Debug,
    /// What was done.
    #[default]
    Info,
    /// What went wrong and will be tried again.
    Warn,
    /// What needs a person.
    Error,
}

impl Level {
    /// Finds the level by its name in `LOG_LEVEL`.
    #[must_use]
    pub fn from_name(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "debug" => Some(Self::Debug),
            "info" => Some(Self::Info),
            "warn" | "warning" => Some(Self::Warn),
            "error" => Some(Self::Error),
            _ => None,
        }
    }

    /// The name in the `level` field.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// Makes lines, and drops those below its level.
#[derive(Clone, Copy, Debug, Default)]
pub struct Log {
    level_min: Level,
}

impl Log {
    /// A log that keeps lines of `level_min` and above.
    #[must_use]
    pub fn new(level_min: Level) -> Self {
        Self { level_min }
    }

    /// Whether lines of a level are written: before many of them are put together.
    #[must_use]
    pub fn writes(self, level: Level) -> bool {
        level >= self.level_min
    }

    /// A line about a step.
    pub fn debug(self, event: &'static str) -> Line {
        self.line(Level::Debug, event)
    }

    /// A line about something done.
    pub fn info(self, event: &'static str) -> Line {
        self.line(Level::Info, event)
    }

    /// A line about something that will be tried again.
    pub fn warn(self, event: &'static str) -> Line {
        self.line(Level::Warn, event)
    }

    /// A line about something that needs a person.
    pub fn error(self, event: &'static str) -> Line {
        self.line(Level::Error, event)
    }

    fn line(self, level: Level, event: &'static str) -> Line {
        let fields = self.writes(level).then(Map::new);
        Line { level, fields }.with("level", level.as_str().into()).with("event", event.into())
    }
}

/// A line being put together; [`emit`](Line::emit) writes it.
#[derive(Debug)]
#[must_use = "a line is written by `emit`"]
pub struct Line {
    level: Level,
    /// `None` when the line is below the log's level.
    fields: Option<Map<String, Value>>,
}

impl Line {
    /// The account concerned.
    pub fn account(self, account: &AccountId) -> Self {
        self.with("account", account.as_str().into())
    }

    /// The run concerned.
    pub fn run_id(self, run_id: &str) -> Self {
        self.id("run_id", run_id)
    }

    /// How long it took.
    pub fn duration_ms(self, duration_ms: i64) -> Self {
        self.with("duration_ms", duration_ms.into())
    }

    /// A number.
    pub fn count(self, key: &'static str, count: impl Into<serde_json::Number>) -> Self {
        self.with(key, Value::Number(count.into()))
    }

    /// One of a fixed set of words.
    pub fn word(self, key: &'static str, word: &'static str) -> Self {
        self.with(key, word.into())
    }

    /// The id of a record, a row or a request. What does not look like one is not written.
    pub fn id(self, key: &'static str, id: &str) -> Self {
        let shown = if is_id(id) { id } else { "(not an id)" };
        self.with(key, shown.into())
    }

    /// A method and a path that are answered, as far as they look like such.
    pub fn action(self, action: &str) -> Self {
        let shown = if is_action(action) { action } else { "(not an action)" };
        self.with("action", shown.into())
    }

    /// A client's address. What is none is not written.
    pub fn address(self, address: Option<&str>) -> Self {
        match address.and_then(|text| text.parse::<IpAddr>().ok()) {
            Some(address) => self.with("address", address.to_string().into()),
            None => self,
        }
    }

    /// Why it failed. Words with an at sign are left out, because a refusal may repeat what was sent.
    pub fn failure(self, failure: &Failure) -> Self {
        let line = self
            .with("error_class", failure.class.as_str().into())
            .with("error", without_addresses(&failure.message).into());
        match failure.retry_after_ms {
            Some(retry_after_ms) => line.with("retry_after_ms", retry_after_ms.into()),
            None => line,
        }
    }

    /// Which setting is wrong, and the fix. Never its value.
    pub fn config_error(self, error: &ConfigError) -> Self {
        self.with("setting", error.name.into()).with("error", error.to_string().into())
    }

    /// Writes the line.
    pub fn emit(self) {
        if let Some(text) = self.text() {
            write_line(self.level, &text);
        }
    }

    fn with(mut self, key: &'static str, value: Value) -> Self {
        if let Some(fields) = &mut self.fields {
            fields.insert(key.to_owned(), value);
        }
        self
    }

    fn text(&self) -> Option<String> {
        self.fields.as_ref().and_then(|fields| serde_json::to_string(fields).ok())
    }
}

/// Longest id that is logged, in characters.
const ID_LENGTH_MAX: usize = 64;

/// Longest action that is logged, in characters.
const ACTION_LENGTH_MAX: usize = 192;

/// Whether a text is a method and a path of plain characters, such as `POST /sync/full`.
#[must_use]
pub fn is_action(text: &str) -> bool {
    (1..=ACTION_LENGTH_MAX).contains(&text.len())
        && text.bytes().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'/' | b'-' | b'_' | b'.' | b':')
        })
}

fn is_id(text: &str) -> bool {
    (1..=ID_LENGTH_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'))
}

fn without_addresses(message: &str) -> String {
    let words: Vec<&str> =
        message.split(' ').map(|word| if word.contains('@') { "(address)" } else { word }).collect();
    words.join(" ")
}

#[cfg(target_arch = "wasm32")]
fn write_line(level: Level, text: &str) {
    match level {
        Level::Error => worker::console_error!("{text}"),
        Level::Warn => worker::console_warn!("{text}"),
        Level::Info | Level::Debug => worker::console_log!("{text}"),
    }
}

/// Native builds are tests: the console of the runtime is not there.
#[cfg(not(target_arch = "wasm32"))]
fn write_line(_: Level, text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use keapsync_domain::failure::FailureClass;

    #[test]
    fn a_line_is_one_json_object_with_its_fields() {
        let failure = Failure::new(FailureClass::Unavailable, "no answer for ann@example.com\nin time")
            .with_retry_after_ms(Some(500));
        let line = Log::new(Level::Debug)
            .warn("unit_failed")
            .account(&AccountId::parse("demo").unwrap())
            .run_id("0b0e3f0c-0000-4000-8000-000000000000")
            .duration_ms(12)
            .count("read", 1000_u64)
            .word("kind", "full")
            .id("keap_id", "secret token; with spaces")
            .failure(&failure);
        let text = line.text().unwrap();
        assert!(
            !text.contains('\n') && !text.contains("example.com") && !text.contains("secret token"),
            "{text}"
        );
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["level"], "warn");
        assert_eq!(value["event"], "unit_failed");
        assert_eq!(value["account"], "demo");
        assert_eq!(value["run_id"], "0b0e3f0c-0000-4000-8000-000000000000");
        assert_eq!(
            (&value["duration_ms"], &value["read"], &value["kind"]),
            (&12.into(), &1000.into(), &"full".into())
        );
        assert_eq!((&value["error_class"], &value["retry_after_ms"]), (&"unavailable".into(), &500.into()));
    }

    #[test]
    fn nothing_is_injected_into_a_line() {
        let nasty = [
            "a\nb",
            "a\r\n{\"event\":\"forged\"}",
            "\u{1b}[31mred",
            "a\u{2028}b",
            "\u{202e}abc",
            "\0",
            "a\"b",
            "ann@example.com",
            "é",
            "",
        ];
        for text in nasty {
            let line =
                Log::default().info("access").id("id", text).action(text).address(Some(text)).text().unwrap();
            let value: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(
                (&value["id"], &value["action"]),
                (&"(not an id)".into(), &"(not an action)".into()),
                "{line}"
            );
            assert!(
                value.get("address").is_none() && line.bytes().all(|byte| (0x20..0x7f).contains(&byte)),
                "{line}"
            );
        }
        let line = Log::default()
            .info("access")
            .action("POST /sync/full")
            .address(Some("2001:db8::1"))
            .text()
            .unwrap();
        assert!(line.contains("POST /sync/full") && line.contains("2001:db8::1"), "{line}");
    }

    #[test]
    fn a_wrong_setting_is_named() {
        let error = ConfigError { name: "INTERNAL_TOKEN", problem: "is not set: set it".to_owned() };
        let text = Log::default().error("misconfigured").config_error(&error).text().unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&value["setting"], &value["error"]),
            (&"INTERNAL_TOKEN".into(), &"INTERNAL_TOKEN is not set: set it".into())
        );
    }

    #[test]
    fn lines_below_the_level_are_dropped() {
        let log = Log::new(Level::from_name("WARN").unwrap());
        assert!(log.debug("x").text().is_none() && log.info("x").text().is_none());
        assert!(log.warn("x").text().is_some() && log.error("x").text().is_some());
        assert!(log.writes(Level::Error) && !log.writes(Level::Debug));
        assert_eq!(Level::from_name("loud"), None);
    }
}
