//! How many three-way merges one core does in a second.
//!
//! The measurement is a program of the domain's own, built as the workers are built; this builds and runs it, and reports what it
//! prints.

use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::report::{Measurement, Target};
use crate::subprocess::{cargo, output_of};
use crate::workspace::Workspace;

/// Merges per second that one core has to do.
const MERGES_PER_SECOND: f64 = 1_000_000.0;

/// Measures.
pub fn measure(workspace: &Workspace, measurement: &mut Measurement) -> Result<()> {
    measurement.condition(
        "contacts with all fields: a third unchanged, a third changed on one side, a third on both, every fourth of these in \
         conflict; the processor's time of one thread, the median of several rounds",
    );
    let mut command: Command = cargo();
    command.args(["run", "--quiet", "--locked", "--release", "--package", "keapsync-domain"]);
    command.args(["--features", "measure", "--bin", "merge_speed"]).current_dir(workspace.root());
    let printed = output_of(&mut command).context("the measurement of the merge failed")?;
    let rates: Value =
        serde_json::from_str(printed.trim()).context("the measurement of the merge printed no JSON")?;
    let rate =
        |name: &str| rates.get(name).and_then(Value::as_f64).with_context(|| format!("no {name} in {rates}"));
    let of_a_page = rate("merges_per_second")?;
    let target = Target::AtLeast(MERGES_PER_SECOND);
    measurement.figure_with_target("merges of a page that was just read", of_a_page, "/s", target);
    let uncached = rate("merges_per_second_uncached")?;
    measurement.figure("merges of more contacts than the caches hold", uncached, "/s");
    Ok(())
}
