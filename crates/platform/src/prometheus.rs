//! Numbers in Prometheus' text exposition format, version 0.0.4.
//!
//! Names, helps and labels' names are fixed in the code. Labels' values are too, or ids of fixed form, so that nothing needs escaping;
//! what is neither is not written.

use std::fmt::Write as _;

/// The media type of the answer.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page of numbers. Samples of one metric follow its head.
#[derive(Clone, Debug, Default)]
pub struct Page {
    text: String,
    name: &'static str,
}

impl Page {
    /// Begins a metric whose value goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &str) {
        self.name = name;
        // Writing to a string cannot fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} gauge\n");
    }

    /// A sample of the metric that was begun last. One whose label's value is not plain is left out.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: i64) {
        if labels.iter().any(|(_, value)| !is_plain(value)) {
            return;
        }
        self.text.push_str(self.name);
        for (nth, (label, value)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{label}=\"{value}\"", if nth == 0 { '{' } else { ',' });
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    /// What every worker's page tells of its own instance.
    pub fn wasm_memory(&mut self, worker: &str, bytes: u64) {
        self.gauge("keapsync_wasm_memory_bytes", "Linear memory of this worker instance.");
        self.sample(&[("worker", worker)], i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

fn is_plain(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_follow_their_head_and_hold_plain_labels_only() {
        let mut page = Page::default();
        page.gauge("keapsync_up", "Whether it answers.");
        page.sample(&[], 1);
        page.sample(&[("account", "demo"), ("part", "events")], -3);
        page.sample(&[("account", "a\"} 1\nforged{x=\"")], 9);
        assert_eq!(
            page.text(),
            "# HELP keapsync_up Whether it answers.\n# TYPE keapsync_up gauge\nkeapsync_up 1\nkeapsync_up{account=\"demo\",part=\"events\"} -3\n"
        );
    }
}
