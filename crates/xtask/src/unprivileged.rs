//! The user that servers run as when root starts them, because Postgres and `PgBouncer` refuse to run as root.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::subprocess::output_of;
use crate::workspace::is_root;

/// The users that root may start servers as, the best first.
const NAMES: [&str; 2] = ["postgres", "nobody"];

/// A user without rights of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnprivilegedUser {
    uid: u32,
    gid: u32,
}

impl UnprivilegedUser {
    /// The user to run servers as; `None` when we are no root ourselves.
    pub fn for_servers() -> Result<Option<Self>> {
        if !is_root() {
            return Ok(None);
        }
        for name in NAMES {
            let id = |flag: &str| -> Option<u32> {
                output_of(Command::new("id").args([flag, name])).ok()?.trim().parse().ok()
            };
            if let (Some(uid), Some(gid)) = (id("-u"), id("-g")) {
                return Ok(Some(Self { uid, gid }));
            }
        }
        bail!(
            "Postgres refuses to run as root and there is no user `postgres` or `nobody`: run `useradd --system postgres`"
        )
    }

    /// Makes a file or directory this user's own.
    pub fn own(self, path: &Path) -> Result<()> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("{} cannot be given away", path.display()))
    }

    /// Makes a command run as this user.
    pub fn run(self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }
}
