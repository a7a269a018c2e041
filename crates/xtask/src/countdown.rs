//! How long the set-up of a machine still takes, told after each of its steps.
//!
//! Its parts run at the same time and know nothing of each other; each says when it has ended. What is left is estimated from what each
//! part takes on the machine that the weights were measured on, and from how fast this machine has been so far.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::progress::{detail, say};
use crate::worker_build::{self, Recipe, Worker};
use crate::workspace::Workspace;
use crate::{artifacts, node_tools, rust_tools, wasm_target};

/// A part of the set-up that takes long enough to be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The packages of `package.json`.
    JavaScriptTools,
    /// A compiler and a standard library for wasm.
    WasmToolchain,
    /// The programs that make a Workers module of a crate.
    RustTools,
    /// The three workers.
    Workers(Recipe),
    /// The simulated Keap.
    KeapSim(Recipe),
}

impl Part {
    /// What it takes with one core for itself, in seconds, as measured where a core is of the year 2023.
    fn core_seconds(self) -> f64 {
        match self {
            Self::JavaScriptTools => 20.0,
            Self::WasmToolchain => 50.0,
            Self::RustTools => 150.0,
            Self::Workers(Recipe::Deployed) => 480.0,
            Self::Workers(Recipe::Quick) => 140.0,
            Self::KeapSim(Recipe::Deployed) => 130.0,
            Self::KeapSim(Recipe::Quick) => 60.0,
        }
    }

    fn is_missing(self, workspace: &Workspace) -> Result<bool> {
        match self {
            Self::JavaScriptTools => Ok(node_tools::installed(workspace)?.is_none()),
            Self::WasmToolchain => Ok(!wasm_target::is_installed(workspace)?),
            Self::RustTools => Ok(!rust_tools::are_installed(workspace)?),
            Self::Workers(recipe) => Ok(!worker_build::outdated(workspace, &Worker::ALL, recipe)?.is_empty()),
            Self::KeapSim(recipe) => Ok(!artifacts::keap_sim_program(workspace, recipe)?.is_file()),
        }
    }
}

/// The set-up that is under way in this program, if there is one.
static UNDER_WAY: Mutex<Option<Countdown>> = Mutex::new(None);

/// Says what is missing and how long that takes; from then on [`ended`] says what is left.
pub fn begin(workspace: &Workspace, parts: &[Part]) -> Result<()> {
    let mut missing = Vec::new();
    for &part in parts {
        if part.is_missing(workspace)? {
            missing.push(part);
        }
    }
    let countdown = Countdown::of(missing, cores());
    if !countdown.open.is_empty() {
        say(format!(
            "Setting this machine up, {} in all; later starts take seconds",
            in_words(countdown.left(Duration::ZERO))
        ));
    }
    *UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner) = Some(countdown);
    Ok(())
}

/// A part has ended: says what is left, where a set-up is under way.
pub fn ended(part: Part) {
    let mut under_way = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(countdown) = under_way.as_mut() else { return };
    if countdown.end(part) {
        let left = countdown.left(countdown.started.elapsed());
        if !left.is_zero() {
            detail(format!("{} left", in_words(left)));
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// What is open, and how fast what is done was done.
#[derive(Debug)]
struct Countdown {
    started: Instant,
    open: Vec<Part>,
    done_core_seconds: f64,
    /// Core-seconds done in a second, as long as nothing else is known.
    expected_rate: f64,
}

impl Countdown {
    fn of(open: Vec<Part>, cores: usize) -> Self {
        // More cores than these find nothing to do.
        let expected_rate = f64::from(u8::try_from(cores.min(4)).unwrap_or(4));
        Self { started: Instant::now(), open, done_core_seconds: 0.0, expected_rate }
    }

    /// Takes a part off; false when it was not awaited.
    fn end(&mut self, part: Part) -> bool {
        let Some(position) = self.open.iter().position(|open| *open == part) else { return false };
        self.done_core_seconds += self.open.swap_remove(position).core_seconds();
        true
    }

    /// What is left after `elapsed`. Parts run side by side, so what is open counts as begun: the expected rate decides until half is done.
    fn left(&self, elapsed: Duration) -> Duration {
        let open: f64 = self.open.iter().map(|part| part.core_seconds()).sum();
        let all = open + self.done_core_seconds;
        let expected = all / self.expected_rate;
        let by_plan = (expected - elapsed.as_secs_f64()).max(open / self.expected_rate / 2.0);
        if self.done_core_seconds * 2.0 < all {
            return Duration::from_secs_f64(by_plan);
        }
        let rate = self.done_core_seconds / elapsed.as_secs_f64().max(1.0);
        Duration::from_secs_f64(open / rate.max(self.expected_rate / 8.0))
    }
}

/// A duration that is only an estimate.
fn in_words(duration: Duration) -> String {
    match duration.as_secs() {
        0..=20 => "less than half a minute".to_owned(),
        21..=50 => "about half a minute".to_owned(),
        51..=90 => "about a minute".to_owned(),
        seconds => format!("about {} minutes", (seconds + 30) / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Part; 5] = [
        Part::JavaScriptTools,
        Part::WasmToolchain,
        Part::RustTools,
        Part::Workers(Recipe::Quick),
        Part::KeapSim(Recipe::Quick),
    ];

    #[test]
    fn a_machine_that_is_slower_than_expected_is_told_more_time() {
        let mut countdown = Countdown::of(ALL.to_vec(), 2);
        let at_first = countdown.left(Duration::ZERO);
        assert!(at_first > Duration::from_mins(2));
        for part in [Part::Workers(Recipe::Quick), Part::RustTools] {
            assert!(countdown.end(part));
        }
        let on_time = countdown.left(Duration::from_secs(155));
        let late = countdown.left(Duration::from_secs(310));
        assert!(on_time < at_first && late > on_time, "{on_time:?} {late:?}");
    }

    #[test]
    fn nothing_is_left_when_all_parts_have_ended() {
        let mut countdown = Countdown::of(ALL.to_vec(), 2);
        assert!(ALL.into_iter().all(|part| countdown.end(part)));
        assert_eq!(countdown.left(Duration::from_secs(200)), Duration::ZERO);
        assert!(!countdown.end(Part::RustTools), "it was awaited once");
    }

    #[test]
    fn an_estimate_does_not_pretend_to_be_exact() {
        let words = [10, 45, 80, 200].map(|seconds| in_words(Duration::from_secs(seconds)));
        assert_eq!(
            words,
            ["less than half a minute", "about half a minute", "about a minute", "about 3 minutes"]
        );
    }
}
