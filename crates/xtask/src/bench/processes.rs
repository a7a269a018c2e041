//! What the processes of a running system use: processor time and memory, read from `/proc`.
//!
//! A part of the system is a process with everything that descends from it. Within a worker's part, `workerd` (what runs
//! in production) is told apart from wrangler's own Node processes (what exists in development only).

use std::collections::BTreeMap;
use std::time::Duration;

use super::machine::{field, kibibytes};

/// Clock ticks per second in `/proc/<pid>/stat`: the kernel's interface is fixed at 100 on all usual architectures.
const TICKS_PER_SECOND: u64 = 100;

/// The runtime that also runs in production, as the kernel names it.
const WORKERD: &str = "workerd";

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
    program: String,
    /// Its own time and that of its children that have ended.
    ticks: u64,
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

/// The `workerd` processes of the parts, each with its part's name.
#[must_use]
pub fn workerd_processes(parts: &[Part]) -> Vec<Part> {
    let processes = all_processes();
    let found = processes.values().filter(|process| process.program == WORKERD);
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
            let name = if process.program == WORKERD {
                format!("{} in workerd", part.name)
            } else {
                part.name.clone()
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
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats = entries.filter_map(|entry| {
        entry.file_name().to_string_lossy().parse::<u32>().ok()?;
        parse_stat(&std::fs::read_to_string(entry.path().join("stat")).ok()?)
    });
    stats.map(|process| (process.pid, process)).collect()
}

/// Reads one line of `/proc/<pid>/stat`; the program's name stands in brackets and may itself hold blanks and brackets.
fn parse_stat(line: &str) -> Option<Process> {
    let (pid, rest) = line.split_once(" (")?;
    let (program, rest) = rest.rsplit_once(") ")?;
    // Counted from the state, the third field of the whole line.
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Process {
        pid: pid.parse().ok()?,
        parent: fields.get(1)?.parse().ok()?,
        program: program.to_owned(),
        ticks: number(11)? + number(12)? + number(13)? + number(14)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system() -> BTreeMap<i32, Process> {
        let process =
            |pid, parent, program: &str, ticks| Process { pid, parent, program: program.to_owned(), ticks };
        let processes = [
            process(1, 0, "init", 1000),
            process(10, 1, "xtask", 7),
            process(20, 10, "node", 30),
            process(21, 20, "node", 5),
            process(22, 21, "workerd", 200),
            process(30, 10, "postgres", 11),
            process(31, 30, "postgres", 400),
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
        let expected = [("benchmark", 70), ("sync", 350), ("sync in workerd", 2000), ("postgres", 4110)];
        let expected = expected.map(|(name, ms)| (name.to_owned(), Duration::from_millis(ms)));
        assert_eq!(times, BTreeMap::from(expected));
    }

    #[test]
    fn a_ring_of_parents_ends() {
        let ring = [(5, 6), (6, 5)]
            .map(|(pid, parent)| (pid, Process { pid, parent, program: String::new(), ticks: 1 }));
        assert!(times_of(&parts(), &BTreeMap::from(ring)).is_empty());
    }

    #[test]
    fn a_stat_line_is_read_whatever_the_program_is_called() {
        let line = "42 (a (b) c) S 7 42 42 0 -1 4194560 100 0 0 0 5 6 70 80 20 0 1 0 12345 1000 200";
        let expected = Process { pid: 42, parent: 7, program: "a (b) c".to_owned(), ticks: 161 };
        assert_eq!(parse_stat(line), Some(expected));
        assert_eq!(parse_stat("42 (short) S 7"), None);
    }

    #[test]
    fn this_process_has_memory() {
        let own = memory(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.resident_bytes > 100_000.0 && own.proportional_bytes > 0.0, "{own:?}");
    }
}
