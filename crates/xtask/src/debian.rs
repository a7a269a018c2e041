//! Installing what a Debian-like system lacks, when we are allowed to.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::progress::say;
use crate::subprocess::{find_program, run_shown};
use crate::workspace::is_root;

/// Installs Debian packages, or says exactly what to run where we may not.
pub fn install(packages: &[&str], reason: &str) -> Result<()> {
    let by_hand =
        format!("apt-get update && apt-get install -y --no-install-recommends {}", packages.join(" "));
    if find_program("apt-get").is_none() {
        bail!(
            "{reason}, and this is no Debian-like system: install what corresponds to these packages: {}",
            packages.join(" ")
        );
    }
    if !is_root() {
        bail!("{reason}. Run this once as root, then repeat the command:\n  sudo sh -c '{by_hand}'");
    }
    say(format!("Installing Debian packages ({}): {reason}", packages.join(" ")));
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        // Another installation under way is waited for.
        command.args(["-o", "DPkg::Lock::Timeout=300"]).args(arguments);
        run_shown(command.env("DEBIAN_FRONTEND", "noninteractive"))
            .with_context(|| format!("the package source may be out of reach; try by hand: {by_hand}"))
    };
    apt(&["update", "-qq"])?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend_from_slice(packages);
    apt(&arguments)
}
