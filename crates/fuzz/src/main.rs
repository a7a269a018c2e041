//! `fuzz --cases N [--only PARSER,…] [--seed S] [--threads T]`: `cargo xtask fuzz` builds and runs it.

use keapsync_fuzz::run::{CASE_LIMIT, Fault, run};
use keapsync_fuzz::targets::{self, Target};
use std::process::ExitCode;

/// Most memory that the process may ever have taken, in KiB: inputs are small, so what grows past this is unbounded.
const MEMORY_KIB_MAX: u64 = 512 * 1024;

struct Options {
    cases: u64,
    first_seed: u64,
    threads: u64,
    only: Vec<String>,
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::FAILURE;
        }
    };
    let targets = match chosen(&options.only) {
        Ok(targets) => targets,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::FAILURE;
        }
    };
    println!("{:<24}{:>12}{:>10}{:>14}{:>14}", "parser", "cases", "seconds", "cases/s", "slowest, ms");
    for target in &targets {
        let seeds = options.first_seed..options.first_seed.saturating_add(options.cases);
        match run(target, seeds, options.threads, CASE_LIMIT) {
            Ok(fared) => {
                let seconds = fared.elapsed.as_secs_f64();
                #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
                let rate = fared.cases as f64 / seconds;
                let slowest_ms = fared.slowest.as_secs_f64() * 1_000.0;
                println!(
                    "{:<24}{:>12}{seconds:>10.1}{rate:>14.0}{slowest_ms:>14.2}",
                    target.name, fared.cases
                );
            }
            Err(fault) => {
                let what = match fault {
                    Fault::Panicked { .. } => "panicked or broke a promise",
                    Fault::Hung { .. } => "did not end",
                };
                eprintln!(
                    "{} {what} under seed {}. Replay: cargo xtask fuzz --only {0} --seed {1} --cases 1",
                    target.name,
                    fault.seed()
                );
                return ExitCode::FAILURE;
            }
        }
    }
    match peak_memory_kib() {
        Some(peak) if peak > MEMORY_KIB_MAX => {
            eprintln!(
                "the parsers took {} MiB of memory: find the one that is not bounded with --only",
                peak / 1024
            );
            ExitCode::FAILURE
        }
        Some(peak) => {
            println!("{} parsers, nothing found; at most {} MiB of memory", targets.len(), peak / 1024);
            ExitCode::SUCCESS
        }
        None => {
            println!("{} parsers, nothing found", targets.len());
            ExitCode::SUCCESS
        }
    }
}

fn chosen(only: &[String]) -> Result<Vec<Target>, String> {
    let all = targets::all();
    if let Some(unknown) = only.iter().find(|name| !all.iter().any(|target| target.name == **name)) {
        let names: Vec<&str> = all.iter().map(|target| target.name).collect();
        return Err(format!("there is no parser {unknown}: choose among {}", names.join(", ")));
    }
    Ok(all
        .into_iter()
        .filter(|target| only.is_empty() || only.iter().any(|name| name == target.name))
        .collect())
}

/// The most memory that this process has taken, where the system tells.
fn peak_memory_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let mut options = Options { cases: 1_000_000, first_seed: 0, threads, only: Vec::new() };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} wants a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{name} wants a number"));
        match name.as_str() {
            "--cases" => options.cases = number()?,
            "--seed" => options.first_seed = number()?,
            "--threads" => options.threads = number()?,
            "--only" => options.only = value.split(',').map(str::to_owned).collect(),
            _ => return Err(format!("there is no option {name}: use --cases, --seed, --only or --threads")),
        }
    }
    Ok(options)
}
