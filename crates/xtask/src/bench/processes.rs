//! What the processes of a running system use: processor time and memory, read from `/proc`.
//!
//! A part of the system is a process with everything that descends from it. Within a worker's part, the `workerd` that runs
//! the worker is told apart from what exists in development only: wrangler's proxy, which is a `workerd` too, and
//! wrangler itself.

use std::collections::BTreeMap;
use std::time::Duration;

use super::machine::{field, kibibytes};

/// Clock ticks per second in `/proc/<pid>/stat`: the kernel's interface is fixed at 100 on all usual architectures.
const TICKS_PER_SECOND: u64 = 100;

/// The runtime that also runs in production, as the kernel names it.
const WORKERD: &str = "workerd";

/// An argument that wrangler gives to the `workerd` of a worker, and not to that of its proxy: other workers call in
/// through that port.
const WORKER_ARGUMENT: &str = "--debug-port";

/// How the processor time of the workers of a part is called.
const IN_WORKERD: &str = " in workerd";

/// What the command line of wrangler's own process contains.
const WRANGLER: &str = "wrangler-dist";

/// A part of a system: what it is called, and the process it began with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Its first process.
    pub pid: i32,
}

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    role: Role,
    /// Its own time and that of its children that have ended.
    ticks: u64,
}

/// What a process is, as far as its program tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Runs a worker.
    Worker,
    /// Wrangler's proxy in front of a worker.
    Proxy,
    /// Anything else.
    Other,
}

/// Memory of one process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Memory {
    /// Pages in memory, shared ones counted in full, in bytes.
    pub resident_bytes: f64,
    /// Pages in memory, shared ones divided by those who share them, in bytes.
    pub proportional_bytes: f64,
}

/// Processor time so far, by part.
#[must_use]
pub fn processor_times(parts: &[Part]) -> BTreeMap<String, Duration> {
    times_of(parts, &all_processes())
}

/// Processor time since `before`, in seconds, of the parts that used any.
#[must_use]
pub fn seconds_since(before: &BTreeMap<String, Duration>, parts: &[Part]) -> BTreeMap<String, f64> {
    let used = processor_times(parts).into_iter().map(|(name, now)| {
        let earlier = before.get(&name).copied().unwrap_or_default();
        (name, now.saturating_sub(earlier).as_secs_f64())
    });
    used.filter(|(_, seconds)| *seconds > 0.0).collect()
}

/// The share of [`seconds_since`] that runs workers.
#[must_use]
pub fn worker_seconds(used: &BTreeMap<String, f64>) -> f64 {
    used.iter().filter(|(name, _)| name.ends_with(IN_WORKERD)).map(|(_, seconds)| seconds).sum()
}

/// The processes of the parts that run workers, each with its part's name.
#[must_use]
pub fn worker_processes(parts: &[Part]) -> Vec<Part> {
    let processes = all_processes();
    let found = processes.values().filter(|process| process.role == Role::Worker);
    found
        .filter_map(|process| {
            let part = part_of(process, parts, &processes)?;
            Some(Part { name: part.name.clone(), pid: process.pid })
        })
        .collect()
}

/// What a process has in memory; `None` when it has ended.
#[must_use]
pub fn memory(pid: i32) -> Option<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    Some(Memory {
        resident_bytes: field(&status, "VmRSS").and_then(kibibytes)? * 1024.0,
        proportional_bytes: field(&rollup, "Pss").and_then(kibibytes)? * 1024.0,
    })
}

fn times_of(parts: &[Part], processes: &BTreeMap<i32, Process>) -> BTreeMap<String, Duration> {
    let mut ticks: BTreeMap<String, u64> = BTreeMap::new();
    for process in processes.values() {
        if let Some(part) = part_of(process, parts, processes) {
            let name = match process.role {
                Role::Worker => format!("{}{IN_WORKERD}", part.name),
                Role::Proxy => format!("{} in wrangler's proxy", part.name),
                Role::Other => part.name.clone(),
            };
            *ticks.entry(name).or_default() += process.ticks;
        }
    }
    let duration = |ticks: u64| Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND);
    ticks.into_iter().map(|(name, ticks)| (name, duration(ticks))).collect()
}

/// The part that a process belongs to: the nearest of its ancestors that begins one, itself included.
fn part_of<'a>(process: &Process, parts: &'a [Part], processes: &BTreeMap<i32, Process>) -> Option<&'a Part> {
    let mut next = Some(process);
    // Parents are read one after another, so a chain could close into a ring; no real one is this long.
    for _ in 0..64 {
        let process = next?;
        if let Some(part) = parts.iter().find(|part| part.pid == process.pid) {
            return Some(part);
        }
        next = processes.get(&process.parent);
    }
    None
}

fn all_processes() -> BTreeMap<i32, Process> {
    let command_line = |pid: i32| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).into_owned()
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let found = entries.filter_map(|entry| {
        entry.file_name().to_string_lossy().parse::<u32>().ok()?;
        parse_process(&std::fs::read_to_string(entry.path().join("stat")).ok()?, command_line)
    });
    found.map(|process| (process.pid, process)).collect()
}

/// Reads one line of `/proc/<pid>/stat`, and command lines where they matter. The program's name stands in brackets and may
/// itself hold blanks and brackets.
fn parse_process(stat: &str, command_line: impl Fn(i32) -> String) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    let (program, rest) = rest.rsplit_once(") ")?;
    // Counted from the state, the third field of the whole line.
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let (pid, parent) = (pid.parse().ok()?, fields.get(1)?.parse().ok()?);
    let is_proxy = || command_line(parent).contains(WRANGLER) && !command_line(pid).contains(WORKER_ARGUMENT);
    let role = match program {
        WORKERD if is_proxy() => Role::Proxy,
        WORKERD => Role::Worker,
        _ => Role::Other,
    };
    Some(Process { pid, parent, role, ticks: number(11)? + number(12)? + number(13)? + number(14)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system() -> BTreeMap<i32, Process> {
        let process = |pid, parent, role, ticks| Process { pid, parent, role, ticks };
        let processes = [
            process(1, 0, Role::Other, 1000),
            process(10, 1, Role::Other, 7),
            process(20, 10, Role::Other, 30),
            process(21, 20, Role::Other, 5),
            process(22, 21, Role::Worker, 200),
            process(23, 21, Role::Proxy, 90),
            process(30, 10, Role::Other, 11),
            process(31, 30, Role::Other, 400),
        ];
        processes.into_iter().map(|process| (process.pid, process)).collect()
    }

    fn parts() -> Vec<Part> {
        let part = |name: &str, pid| Part { name: name.to_owned(), pid };
        vec![part("benchmark", 10), part("sync", 20), part("postgres", 30)]
    }

    #[test]
    fn each_process_counts_once_for_the_nearest_part_above_it() {
        let times = times_of(&parts(), &system());
        let expected = [
            ("benchmark", 70),
            ("sync", 350),
            ("sync in workerd", 2000),
            ("sync in wrangler's proxy", 900),
            ("postgres", 4110),
        ];
        let expected = expected.map(|(name, ms)| (name.to_owned(), Duration::from_millis(ms)));
        assert_eq!(times, BTreeMap::from(expected));
        let used = times.into_iter().map(|(name, time)| (name, time.as_secs_f64())).collect();
        assert!((worker_seconds(&used) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_ring_of_parents_ends() {
        let ring =
            [(5, 6), (6, 5)].map(|(pid, parent)| (pid, Process { pid, parent, role: Role::Other, ticks: 1 }));
        assert!(times_of(&parts(), &BTreeMap::from(ring)).is_empty());
    }

    #[test]
    fn a_process_is_read_whatever_its_program_is_called() {
        let stat = "42 (a (b) c) S 7 42 42 0 -1 4194560 100 0 0 0 5 6 70 80 20 0 1 0 12345 1000 200";
        let expected = Process { pid: 42, parent: 7, role: Role::Other, ticks: 161 };
        assert_eq!(parse_process(stat, |_| String::new()), Some(expected));
        assert_eq!(parse_process("42 (short) S 7", |_| String::new()), None);
    }

    #[test]
    fn the_runtime_of_a_worker_is_told_from_that_of_its_proxy() {
        let stat = "42 (workerd) S 7 42 42 0 -1 4194560 100 0 0 0 5 6 70 80 20 0 1 0 12345 1000 200";
        let role = |own: &str, parents: &str| {
            let command_line = |pid| if pid == 42 { own.to_owned() } else { parents.to_owned() };
            parse_process(stat, command_line).unwrap().role
        };
        let wrangler = "node\0wrangler/wrangler-dist/cli.js\0dev";
        assert_eq!(role("workerd\0serve\0--debug-port=127.0.0.1:0", wrangler), Role::Worker);
        assert_eq!(role("workerd\0serve\0--socket-addr=entry=127.0.0.1:8787", wrangler), Role::Proxy);
        assert_eq!(
            role("workerd\0serve\0--socket-addr=entry=127.0.0.1:0", "node\0one-workerd.mjs"),
            Role::Worker
        );
    }

    #[test]
    fn this_process_has_memory() {
        let own = memory(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.resident_bytes > 100_000.0 && own.proportional_bytes > 0.0, "{own:?}");
    }
}
