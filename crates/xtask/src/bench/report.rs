//! What a benchmark says: figures with their targets, checks, and where the time of the processors went.
//!
//! A target that is missed is told, never an error: figures depend on the machine. A check that fails is an error, since
//! a fast wrong result is worth nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::machine::Machine;

/// Everything one call of the benchmark found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// When it began, RFC 3339 in UTC.
    pub started_at: String,
    /// The commit that was measured, with `-dirty` when the checkout differed from it.
    pub git_commit: String,
    /// What ran, by name.
    pub versions: BTreeMap<String, String>,
    /// On what.
    pub machine: Machine,
    /// How the workers ran.
    pub workers: &'static str,
    /// What was measured, in that order.
    pub measurements: Vec<Measurement>,
}

/// One thing that was measured.
#[derive(Debug, Serialize)]
pub struct Measurement {
    /// Its name in JSON and on the command line.
    pub name: &'static str,
    /// What it measures, in words.
    pub title: &'static str,
    /// Under which conditions: what was lifted, how it was observed.
    pub conditions: Vec<String>,
    /// What came out.
    pub figures: Vec<Figure>,
    /// What had to be true for the figures to mean anything.
    pub checks: Vec<Check>,
    /// Processor time by part of the system while it was measured, in seconds.
    pub cpu_seconds: BTreeMap<String, f64>,
}

/// One number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// What is wanted, where something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Whether the target is met; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub met: Option<bool>,
}

/// What is wanted of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// This much or more.
    AtLeast(f64),
    /// Less than this.
    Under(f64),
}

/// Something that had to be true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What had to be true.
    pub name: String,
    /// Whether it was.
    pub passed: bool,
    /// What was found.
    pub found: String,
}

impl Target {
    /// Whether a value meets it.
    #[must_use]
    pub fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::Under(bound) => value < bound,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(bound) => format!("≥ {}", number(bound)),
            Self::Under(bound) => format!("< {}", number(bound)),
        }
    }
}

impl Measurement {
    /// A measurement that has found nothing yet.
    #[must_use]
    pub fn new(name: &'static str, title: &'static str) -> Self {
        Self {
            name,
            title,
            conditions: Vec::new(),
            figures: Vec::new(),
            checks: Vec::new(),
            cpu_seconds: BTreeMap::new(),
        }
    }

    /// Notes a condition.
    pub fn condition(&mut self, text: impl Into<String>) {
        self.conditions.push(text.into());
    }

    /// Adds a number that nothing is wanted of.
    pub fn figure(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.figures.push(Figure { name: name.into(), value, unit, target: None, met: None });
    }

    /// Adds a number and what is wanted of it.
    pub fn figure_with_target(
        &mut self,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        target: Target,
    ) {
        let met = Some(target.is_met_by(value));
        self.figures.push(Figure { name: name.into(), value, unit, target: Some(target), met });
    }

    /// Adds a check that two counts are equal.
    pub fn check_equal(&mut self, name: impl Into<String>, found: u64, expected: u64) {
        self.check(name, found == expected, format!("{found}, expected {expected}"));
    }

    /// Adds a check.
    pub fn check(&mut self, name: impl Into<String>, passed: bool, found: impl Into<String>) {
        self.checks.push(Check { name: name.into(), passed, found: found.into() });
    }
}

impl Report {
    /// The checks that failed, each with its measurement's name.
    #[must_use]
    pub fn failed_checks(&self) -> Vec<String> {
        let of = |measurement: &Measurement| {
            let failed = measurement.checks.iter().filter(|check| !check.passed);
            failed
                .map(|check| format!("{}: {}: {}", measurement.name, check.name, check.found))
                .collect::<Vec<_>>()
        };
        self.measurements.iter().flat_map(of).collect()
    }

    /// The report for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _infallible = self.write_table(&mut text);
        text
    }

    fn write_table(&self, text: &mut String) -> std::fmt::Result {
        let machine = &self.machine;
        writeln!(text, "keapsync benchmark, {}, commit {}", self.started_at, self.git_commit)?;
        writeln!(
            text,
            "{}, {} cores, {:.0} GB, {}, load {} in the minute before",
            machine.cpu, machine.cores, machine.memory_gb, machine.kernel, machine.load_before
        )?;
        let versions: Vec<String> =
            self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        writeln!(text, "{}", versions.join(", "))?;
        writeln!(text, "workers: {}", self.workers)?;
        for measurement in &self.measurements {
            writeln!(text, "\n{} ({})", measurement.title, measurement.name)?;
            for figure in &measurement.figures {
                let (target, met) = match (figure.target, figure.met) {
                    (Some(target), Some(true)) => (target.text(), "met"),
                    (Some(target), _) => (target.text(), "NOT MET"),
                    (None, _) => (String::new(), ""),
                };
                let line = format!(
                    "  {:<52} {:>12} {:<10} {target:>10} {met}",
                    figure.name,
                    number(figure.value),
                    figure.unit
                );
                writeln!(text, "{}", line.trim_end())?;
            }
            for check in &measurement.checks {
                let verdict = if check.passed { "right" } else { "WRONG" };
                writeln!(text, "  {verdict}: {} ({})", check.name, check.found)?;
            }
            if !measurement.cpu_seconds.is_empty() {
                let mut parts: Vec<(&String, &f64)> = measurement.cpu_seconds.iter().collect();
                parts.sort_by(|one, other| other.1.total_cmp(one.1));
                let parts: Vec<String> =
                    parts.iter().map(|(name, seconds)| format!("{name} {seconds:.1}")).collect();
                writeln!(text, "  processor seconds: {}", parts.join(", "))?;
            }
            for condition in &measurement.conditions {
                writeln!(text, "  - {condition}")?;
            }
        }
        Ok(())
    }
}

/// A number with as many decimals as help: none from 100 on, and thousands set apart.
fn number(value: f64) -> String {
    if value.abs() < 100.0 {
        return if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") };
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && digit.is_ascii_digit() && (digits.len() - index) % 3 == 0 && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut measurement = Measurement::new("full-sync", "Full sync");
        measurement.figure_with_target(
            "records per second",
            12_345.6,
            "records/s",
            Target::AtLeast(10_000.0),
        );
        measurement.figure_with_target("p99", 61.0, "ms", Target::Under(50.0));
        measurement.figure("ratio", 2.5, "x");
        measurement.check_equal("rows", 50, 50);
        measurement.condition("Keap's quota is lifted");
        measurement.cpu_seconds.insert("postgres".to_owned(), 1.25);
        Report {
            started_at: "2026-01-02T03:04:05Z".to_owned(),
            git_commit: "abc".to_owned(),
            versions: BTreeMap::from([("workerd".to_owned(), "1.0".to_owned())]),
            machine: Machine {
                cpu: "CPU".to_owned(),
                cores: 2,
                memory_gb: 24.0,
                kernel: "Linux 6".to_owned(),
                load_before: 0.5,
            },
            workers: "all in one workerd",
            measurements: vec![measurement],
        }
    }

    #[test]
    fn json_names_value_unit_target_and_verdict() {
        let json = serde_json::to_value(report()).unwrap();
        let measurement = &json["measurements"][0];
        assert_eq!(measurement["name"], "full-sync");
        assert_eq!(measurement["figures"][0]["target"], serde_json::json!({"at_least": 10_000.0}));
        assert_eq!(measurement["figures"][0]["met"], true);
        assert_eq!(measurement["figures"][1]["met"], false);
        assert!(measurement["figures"][2].get("met").is_none());
        assert_eq!(measurement["checks"][0]["passed"], true);
        assert_eq!(measurement["cpu_seconds"]["postgres"], 1.25);
        assert_eq!(json["machine"]["cores"], 2);
        assert_eq!(json["versions"]["workerd"], "1.0");
    }

    #[test]
    fn the_table_shows_each_figure_beside_its_target() {
        let table = report().table();
        let line =
            |name: &str| table.lines().find(|line| line.trim_start().starts_with(name)).unwrap().to_owned();
        assert!(line("records per second").contains("12,346 records/s"), "{table}");
        assert!(line("records per second").ends_with("≥ 10,000 met"), "{table}");
        assert!(line("p99").ends_with("< 50 NOT MET"), "{table}");
        assert!(line("ratio").ends_with("2.50 x"), "{table}");
        assert!(
            table.contains("right: rows (50, expected 50)") && table.contains("- Keap's quota is lifted"),
            "{table}"
        );
    }

    #[test]
    fn a_missed_target_is_no_failure_but_a_failed_check_is() {
        let mut report = report();
        assert!(report.failed_checks().is_empty());
        report.measurements[0].check_equal("audit entries", 49, 50);
        assert_eq!(report.failed_checks(), ["full-sync: audit entries: 49, expected 50"]);
    }

    #[test]
    fn targets_include_or_exclude_their_bound() {
        assert!(Target::AtLeast(5.0).is_met_by(5.0) && !Target::AtLeast(5.0).is_met_by(4.9));
        assert!(Target::Under(5.0).is_met_by(4.9) && !Target::Under(5.0).is_met_by(5.0));
    }

    #[test]
    fn numbers_are_grouped_or_given_with_decimals() {
        for (value, text) in [
            (0.0, "0"),
            (2.5, "2.50"),
            (99.0, "99"),
            (100.4, "100"),
            (1234.5, "1,234"),
            (1_000_000.0, "1,000,000"),
            (-1500.0, "-1,500"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
