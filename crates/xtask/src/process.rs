//! Long-lived child processes: started in process groups of their own, stopped as groups, never left behind.
//!
//! # Invariants
//! - A service is the leader of its own process group, so that one signal reaches all it started.
//! - A service that lives with its parent has a guard: a shell that waits on a pipe from the parent and stops the group
//!   when the pipe closes without a word, which is what happens when the parent is killed in any way whatever.
//! - A recorded process is recognised by its start time as well as by its id, so that a reused id is never signalled.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process, test_kill_process_group};
use serde::{Deserialize, Serialize};

use crate::subprocess::last_lines_of_file;

/// How long a group may take to end after its stop signal before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(8);

/// How long a group may take to end after it was killed. Nothing of it waits that long, but the kernel of a busy machine may take its
/// time; the wait ends when the group does.
const KILL_GRACE: Duration = Duration::from_secs(30);

/// How often a stopping group is looked at.
const STOP_INTERVAL: Duration = Duration::from_millis(20);

/// What a guard runs: `$1` is the group, `$2` the stop signal. A word on standard input dismisses it.
const GUARD_SCRIPT: &str = r#"
trap '' INT TERM HUP
if read -r word; then exit 0; fi
kill -s "$2" -- "-$1" 2>/dev/null
tries=0
while [ "$tries" -lt 50 ] && kill -s 0 -- "-$1" 2>/dev/null; do sleep 0.1; tries=$((tries + 1)); done
kill -s KILL -- "-$1" 2>/dev/null
exit 0
"#;

/// Whether a service ends with the process that started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// It ends with its parent, however that ends.
    WithParent,
    /// It stays until it is stopped by its recorded process id.
    Detached,
}

/// The signal that asks a service to end in good order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StopSignal {
    /// What most programs expect.
    Terminate,
    /// What Postgres takes as: end now, don't wait for clients.
    Interrupt,
}

impl StopSignal {
    fn signal(self) -> Signal {
        match self {
            Self::Terminate => Signal::TERM,
            Self::Interrupt => Signal::INT,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Terminate => "TERM",
            Self::Interrupt => "INT",
        }
    }
}

/// What identifies a running service to a later process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRecord {
    /// The part's name, such as `postgres`.
    pub name: String,
    /// The process id, which is also the id of the process group.
    pub pid: i32,
    /// The start time as the system counts it, where it tells.
    pub started: Option<String>,
    /// How it wants to be stopped.
    pub stop_signal: StopSignal,
    /// Where it writes what it has to say.
    pub log: PathBuf,
}

/// A running service.
#[derive(Debug)]
pub struct Service {
    record: ProcessRecord,
    child: Child,
    guard: Option<Child>,
}

impl Service {
    /// Starts a program with its output going to a log file.
    pub fn start(
        name: &str,
        command: &mut Command,
        log: &Path,
        lifetime: Lifetime,
        stop_signal: StopSignal,
    ) -> Result<Self> {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("{} cannot be opened", log.display()))?;
        let file_too = file.try_clone().context("a log file cannot be shared")?;
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(file_too)
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        let pid = i32::try_from(child.id()).context("a process id is out of range")?;
        let record = ProcessRecord {
            name: name.to_owned(),
            pid,
            started: start_time(pid),
            stop_signal,
            log: log.to_path_buf(),
        };
        let mut service = Self { record, child, guard: None };
        if lifetime == Lifetime::WithParent {
            service.guard = Some(start_guard(pid, stop_signal)?);
        }
        Ok(service)
    }

    /// What a later process needs to find this service again.
    #[must_use]
    pub fn record(&self) -> &ProcessRecord {
        &self.record
    }

    /// False once the service's leading process has ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The last lines of the service's log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        last_lines_of_file(&self.record.log, lines)
    }

    /// Stops the whole group and waits until nothing of it is left.
    pub fn stop(mut self) {
        self.stop_group(STOP_GRACE);
    }

    /// Kills the whole group in whatever it is doing, as a crash does, and waits until nothing of it is left.
    pub fn kill(mut self) {
        self.end_group(&[(Signal::KILL, KILL_GRACE)]);
    }

    fn stop_group(&mut self, grace: Duration) {
        self.end_group(&[(self.record.stop_signal.signal(), grace), (Signal::KILL, KILL_GRACE)]);
    }

    fn end_group(&mut self, signals: &[(Signal, Duration)]) {
        // A dismissed guard must not signal a group whose id may be somebody else's by then.
        let mut guard = self.guard.take();
        signal_and_wait(self.record.pid, signals, || {
            // Reaping our own child is what makes its group disappear.
            drop(self.child.try_wait());
        });
        drop(self.child.wait());
        if let Some(guard) = guard.as_mut() {
            if let Some(stdin) = guard.stdin.as_mut() {
                drop(stdin.write_all(b"done\n"));
            }
            drop(guard.wait());
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Only a service with a guard belongs to this process; a detached one is meant to stay.
        if self.guard.is_some() {
            self.stop_group(STOP_GRACE);
        }
    }
}

impl ProcessRecord {
    /// True while the recorded process itself is alive.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let Some(pid) = Pid::from_raw(self.pid) else { return false };
        if self.started.is_some() {
            return start_time(self.pid) == self.started;
        }
        test_kill_process(pid).is_ok()
    }

    /// Stops the recorded group, if it still is the recorded one.
    pub fn stop(&self) {
        // The leader may be gone while others of its group live on; the group's id stays taken as long as they do.
        let is_somebody_else = self.started.is_some()
            && start_time(self.pid).is_some_and(|started| Some(started) != self.started);
        if !is_somebody_else {
            let signals = [(self.stop_signal.signal(), STOP_GRACE), (Signal::KILL, KILL_GRACE)];
            signal_and_wait(self.pid, &signals, || ());
        }
    }
}

fn start_guard(pid: i32, stop_signal: StopSignal) -> Result<Child> {
    Command::new("sh")
        .args(["-c", GUARD_SCRIPT, "guard", &pid.to_string(), stop_signal.name()])
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("the guard of a service cannot be started")
}

/// Sends one signal after the other, each when the group outlived the time that the one before gave it.
fn signal_and_wait(group: i32, signals: &[(Signal, Duration)], mut reap: impl FnMut()) {
    let Some(pid) = Pid::from_raw(group) else { return };
    for (signal, limit) in signals {
        let _gone_already = kill_process_group(pid, *signal);
        let deadline = Instant::now() + *limit;
        while Instant::now() < deadline {
            reap();
            if !group_is_alive(group) {
                return;
            }
            std::thread::sleep(STOP_INTERVAL);
        }
    }
}

/// True while a process of the group does more than wait to be reaped.
#[must_use]
pub fn group_is_alive(group: i32) -> bool {
    let Some(pid) = Pid::from_raw(group) else { return false };
    if test_kill_process_group(pid).is_err() {
        return false;
    }
    // A zombie answers to signals too, and where nobody reaps orphans it does so for ever.
    process_stats().is_none_or(|stats| stats.iter().any(|stat| stat.group == group && stat.state != 'Z'))
}

/// What `/proc` says of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessStat {
    /// Its id.
    pub pid: i32,
    /// The program's short name.
    pub name: String,
    /// One letter; `Z` is a zombie.
    pub state: char,
    /// The id of its parent.
    pub parent: i32,
    /// The id of its process group.
    pub group: i32,
    /// Its start, in clock ticks after boot.
    pub started: String,
}

/// All processes, on systems that have `/proc`.
#[must_use]
pub fn process_stats() -> Option<Vec<ProcessStat>> {
    let entries = std::fs::read_dir("/proc").ok()?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    let stats: Vec<ProcessStat> = pids.filter_map(process_stat).collect();
    (!stats.is_empty()).then_some(stats)
}

fn process_stat(pid: i32) -> Option<ProcessStat> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads one line of `/proc/<pid>/stat`; the name stands in brackets and may itself hold blanks and brackets.
fn parse_stat(line: &str) -> Option<ProcessStat> {
    let (pid, rest) = line.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    Some(ProcessStat {
        pid: pid.parse().ok()?,
        name: name.to_owned(),
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        started: (*fields.get(19)?).to_owned(),
    })
}

fn start_time(pid: i32) -> Option<String> {
    process_stat(pid).filter(|stat| stat.state != 'Z').map(|stat| stat.started)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !condition() {
            assert!(Instant::now() < deadline, "{what} did not happen in time");
            std::thread::yield_now();
        }
    }

    fn scratch_log(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("keapsync-xtask-{}-{name}.log", std::process::id()))
    }

    fn start(script: &str, log: &Path, lifetime: Lifetime) -> Service {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Service::start("trivial", &mut command, log, lifetime, StopSignal::Terminate).unwrap()
    }

    #[test]
    fn stopping_a_service_ends_its_children_too() {
        let log = scratch_log("children");
        let service = start("sleep 300 & sleep 300", &log, Lifetime::WithParent);
        let group = service.record().pid;
        assert!(group_is_alive(group));
        service.stop();
        assert!(!group_is_alive(group));
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_service_that_ignores_its_stop_signal_is_killed() {
        let log = scratch_log("stubborn");
        let mut service =
            start("trap '' TERM; echo ready; while true; do sleep 1; done", &log, Lifetime::WithParent);
        wait_until("the trap", || service.log_tail(1).contains("ready"));
        let group = service.record().pid;
        service.stop_group(Duration::from_millis(100));
        assert!(!group_is_alive(group));
        drop(service);
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_killed_service_gets_no_chance_to_end_in_good_order() {
        let log = scratch_log("killed");
        let service = start(
            "trap 'echo good order; exit' TERM; echo ready; sleep 300 & wait",
            &log,
            Lifetime::WithParent,
        );
        wait_until("the trap", || service.log_tail(1).contains("ready"));
        let group = service.record().pid;
        service.kill();
        assert!(!group_is_alive(group));
        assert_eq!(std::fs::read_to_string(&log).unwrap().trim(), "ready");
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_guard_stops_the_group_when_its_parent_is_gone() {
        let log = scratch_log("guard");
        let mut service = start("sleep 300", &log, Lifetime::WithParent);
        let group = service.record().pid;
        // Closing the pipe is all that the guard ever sees of a parent that was killed.
        drop(service.guard.as_mut().unwrap().stdin.take());
        // The leader may be gone a moment before the rest of its group is.
        wait_until("the end of the group", || !service.is_running() && !group_is_alive(group));
        drop(service);
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_detached_service_outlives_its_handle_and_is_stopped_by_its_record() {
        let log = scratch_log("detached");
        let service = start("sleep 300", &log, Lifetime::Detached);
        let record = service.record().clone();
        drop(service);
        assert!(record.is_running());
        record.stop();
        assert!(!record.is_running());
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_reused_process_id_is_left_alone() {
        let log = scratch_log("reused");
        let service = start("sleep 300", &log, Lifetime::WithParent);
        let mut record = service.record().clone();
        record.started = Some("1".to_owned());
        assert!(!record.is_running());
        record.stop();
        assert!(group_is_alive(record.pid));
        service.stop();
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_stat_line_with_brackets_in_the_name_is_read() {
        let line = "12 (a (b) c) S 3 4 5 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 777 1 2";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.pid, stat.parent, stat.group), (12, 3, 4));
        assert_eq!((stat.name.as_str(), stat.state, stat.started.as_str()), ("a (b) c", 'S', "777"));
    }
}
