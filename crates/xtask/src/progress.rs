//! Progress lines: what is being done and why, on standard error, so that standard output stays for results.

use std::io::Write as _;
use std::time::Instant;

/// Says one step in one line.
pub fn say(message: impl AsRef<str>) {
    eprintln!("==> {}", message.as_ref());
}

/// Says a detail that belongs to the step above it.
pub fn detail(message: impl AsRef<str>) {
    eprintln!("    {}", message.as_ref());
}

/// Prints a line of a result on standard output. Whoever reads may have gone, as `| head` does: the exit status then still tells.
pub fn show(line: impl AsRef<str>) {
    let _ = writeln!(std::io::stdout(), "{}", line.as_ref());
}

/// A step that is being timed; [`Step::done`] prints how long it took.
#[derive(Debug)]
pub struct Step {
    name: String,
    started: Instant,
}

impl Step {
    /// Announces a step and starts its clock.
    pub fn start(name: impl Into<String>) -> Self {
        let name = name.into();
        say(&name);
        Self { name, started: Instant::now() }
    }

    /// Prints that the step is done and how long it took.
    pub fn done(self) {
        detail(format!("{}: done in {:.1} s", self.name, self.started.elapsed().as_secs_f64()));
    }
}
