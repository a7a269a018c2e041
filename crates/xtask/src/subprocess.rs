//! Running another program to its end, with its output kept for the error message.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How many of the last lines of a failed program are shown.
const TAIL_LINES: usize = 60;

/// How often a program with a time limit is looked at.
const WAIT_INTERVAL: Duration = Duration::from_millis(50);

/// A cargo command free of what an outer `cargo run` left in the environment.
#[must_use]
pub fn cargo() -> Command {
    let mut command = Command::new("cargo");
    for name in [
        "CARGO",
        "RUSTC",
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_PATH",
    ] {
        command.env_remove(name);
    }
    command
}

/// Runs a program to its end and gives its standard output; its last lines are in the error when it fails.
pub fn output_of(command: &mut Command) -> Result<String> {
    let name = display_name(command);
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("{name} cannot be started"))?;
    checked(&name, &output)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program with its output shown as it comes.
pub fn run_shown(command: &mut Command) -> Result<()> {
    let name = display_name(command);
    // Results go to standard output; what tools say on the way belongs to progress.
    let status = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("{name} cannot be started"))?;
    if !status.success() {
        bail!("{name} failed ({status}); its output is above");
    }
    Ok(())
}

/// Runs a program that may hang, for no longer than `limit`; false when it failed or ran out of time.
pub fn succeeds_within(command: &mut Command, limit: Duration) -> Result<bool> {
    let name = display_name(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("{name} cannot be started"))?;
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().with_context(|| format!("{name} cannot be waited for"))? {
            return Ok(status.success());
        }
        if Instant::now() >= deadline {
            child.kill().with_context(|| format!("{name} cannot be stopped"))?;
            child.wait().with_context(|| format!("{name} cannot be waited for"))?;
            return Ok(false);
        }
        std::thread::sleep(WAIT_INTERVAL);
    }
}

/// The path of a program on `PATH`, if it is there.
#[must_use]
pub fn find_program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|candidate| candidate.is_file())
}

/// The last lines of a text, for an error message.
#[must_use]
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(count);
    lines.into_iter().skip(skipped).collect::<Vec<_>>().join("\n")
}

/// The last lines of a log file, or why it cannot be read.
#[must_use]
pub fn last_lines_of_file(path: &Path, count: usize) -> String {
    match std::fs::read(path) {
        Ok(content) => last_lines(&String::from_utf8_lossy(&content), count),
        Err(error) => format!("({} cannot be read: {error})", path.display()),
    }
}

fn checked(name: &str, output: &Output) -> Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    bail!("{name} failed ({}):\n{}", output.status, last_lines(&text, TAIL_LINES));
}

fn display_name(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let first_argument = command.get_args().next().unwrap_or(OsStr::new(""));
    format!("{} {}", program.to_string_lossy(), first_argument.to_string_lossy()).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_shows_its_last_lines() {
        let error = output_of(Command::new("sh").args(["-c", "echo the reason >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().contains("the reason"), "{error}");
        assert!(error.to_string().contains('3'), "{error}");
    }

    #[test]
    fn a_hanging_program_is_stopped_at_its_limit() {
        let started = Instant::now();
        let limit = Duration::from_millis(200);
        assert!(!succeeds_within(Command::new("sleep").arg("30"), limit).unwrap());
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn last_lines_keeps_the_end() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a", 5), "a");
    }
}
