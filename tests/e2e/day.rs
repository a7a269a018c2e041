//! A simulated day, short: `cargo xtask chaos --day` takes its time for one.

use anyhow::Result;
use keapsync_domain::ids::EntityType;
use keapsync_e2e::chaos::day::{self, Day};
use keapsync_e2e::stage::Stage;
use keapsync_xtask::system::SystemOptions;
use std::time::Duration;

/// Hooks and tokens live faster on its system, the quota is Keap's own, and all workers die at once.
pub async fn a_day_ends_as_if_nothing_had_gone_wrong(_shared: &Stage) -> Result<()> {
    let day = Day {
        minutes: 2.0,
        seed: 5,
        quiet: Duration::from_secs(10),
        contacts: 60,
        entities: EntityType::ALL.to_vec(),
        patience: Duration::from_mins(3),
    };
    let options = day.system(SystemOptions::for_tests("day"));
    Stage::with_its_own(options, async |stage| day::run(stage, &day).await.map(drop)).await
}
