//! Systems whose quota is lifted: all accounts of a system share one OAuth application, and the quota has tests of its own.

use keapsync_xtask::system::SystemOptions;
use keapsync_xtask::worker_build::Worker;

/// More calls than any test makes.
const LIMIT: &str = "1000000";

/// Lifts the quota on both sides.
#[must_use]
pub fn without_quota(mut options: SystemOptions) -> SystemOptions {
    for (variable, flag) in [
        ("KEAP_CALLS_PER_SECOND", "--calls-per-second"),
        ("KEAP_CALLS_PER_MINUTE", "--calls-per-minute"),
        ("KEAP_CALLS_PER_DAY", "--calls-per-day"),
    ] {
        options = options.with_variable(Worker::Coordinator, variable, LIMIT);
        options.keap_sim_arguments.extend([flag.to_owned(), LIMIT.to_owned()]);
    }
    for flag in ["--tenant-calls-per-minute", "--tenant-calls-per-day"] {
        options.keap_sim_arguments.extend([flag.to_owned(), LIMIT.to_owned()]);
    }
    options
}
