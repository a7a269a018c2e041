//! The proof from end to end, small: `cargo xtask chaos` runs it at full size.

use anyhow::Result;
use keapsync_domain::ids::EntityType;
use keapsync_e2e::chaos::{self, Options};
use keapsync_e2e::stage::Stage;
use keapsync_xtask::system::SystemOptions;
use std::time::Duration;

pub async fn nothing_is_lost_whatever_goes_wrong(_shared: &Stage) -> Result<()> {
    let options = Options {
        edits: 240,
        seed: 20_260_301,
        kills: 2,
        edits_per_second: 20,
        quiet: Duration::from_secs(10),
        patience: Duration::from_mins(3),
        contacts: 60,
        entities: EntityType::ALL.to_vec(),
    };
    let system = chaos::system(SystemOptions::for_tests("chaos"));
    Stage::with_its_own(system, async |stage| chaos::run(stage, &options).await.map(drop)).await
}
