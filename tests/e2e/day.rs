//! A simulated day, short: `cargo xtask chaos --day` takes its time for one.

use anyhow::Result;
use keapsync_domain::ids::EntityType;
use keapsync_e2e::chaos::day::{self, Day};
use keapsync_e2e::stage::{Access, Stage};
use keapsync_xtask::system::{System, SystemOptions};
use std::time::Duration;

/// On a system of its own: hooks and tokens live faster there, the quota is Keap's own, and all workers die at once.
pub async fn a_day_ends_as_if_nothing_had_gone_wrong(_others: &Stage) -> Result<()> {
    let day = Day {
        minutes: 2.0,
        seed: 5,
        quiet: Duration::from_secs(10),
        contacts: 60,
        entities: EntityType::ALL.to_vec(),
        patience: Duration::from_mins(3),
    };
    let system = System::start(day.system(SystemOptions::for_tests("day"))).await?;
    let access = Access::of(&system);
    let stage = Stage::new(system, access)?;
    let outcome = day::run(&stage, &day).await;
    stage.system.lock().await.stop().await?;
    outcome.map(drop)
}
