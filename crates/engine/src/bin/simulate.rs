//! The simulator's command line: seeds in, verdicts out. `cargo xtask simulate` builds it for speed and runs it.
//!
//! `--seeds N [--first-seed S]`, `--minutes M [--first-seed S]` or `--seed S`; `--mutation NAME` runs a known-bad engine.
//! Ends with failure when an invariant was broken.

use keapsync_engine::simulation::{Coverage, Mutation, Shrunk, Story, replay, shrunk, simulate};
use std::cell::Cell;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Seeds between two lines of progress.
const PROGRESS_SEEDS: u64 = 5_000;

thread_local! {
    /// The seed that is running: what a panic of the engine is reported with.
    static RUNNING: Cell<u64> = const { Cell::new(0) };
}

struct Options {
    first_seed: u64,
    seeds: Option<u64>,
    minutes: Option<u64>,
    seed: Option<u64>,
    mutation: Mutation,
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::FAILURE;
        }
    };
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        eprintln!(
            "The engine panicked under seed {0}. Replay: cargo xtask simulate --seed {0}",
            RUNNING.get()
        );
    }));
    match options.seed {
        Some(seed) => show(seed, options.mutation),
        None => search(&options),
    }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options =
        Options { first_seed: 0, seeds: None, minutes: None, seed: None, mutation: Mutation::None };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number =
            || value.parse::<u64>().map_err(|_| format!("{name} needs a whole number, not '{value}'"));
        match name.as_str() {
            "--first-seed" => options.first_seed = number()?,
            "--seeds" => options.seeds = Some(number()?),
            "--minutes" => options.minutes = Some(number()?),
            "--seed" => options.seed = Some(number()?),
            "--mutation" => {
                options.mutation = Mutation::from_name(&value).ok_or_else(|| {
                    let names: Vec<&str> = Mutation::ALL.iter().map(|mutation| mutation.as_str()).collect();
                    format!("there is no mutation '{value}': choose one of {}", names.join(", "))
                })?;
            }
            _ => {
                return Err(format!(
                    "{name} is unknown: give --seeds, --first-seed, --seed, --minutes or --mutation"
                ));
            }
        }
    }
    Ok(options)
}

/// Runs one seed, told in full; shrunk when it breaks something.
fn show(seed: u64, mutation: Mutation) -> ExitCode {
    RUNNING.set(seed);
    let history = replay(seed, &Story::of_seed(seed), mutation, true);
    let Some(violation) = &history.violation else {
        print!("{}", Story::of_seed(seed));
        history.lines.iter().for_each(|line| println!("{line}"));
        println!(
            "seed {seed}: {} operations, trace {:016x}, nothing broken",
            history.operations, history.hash
        );
        return ExitCode::SUCCESS;
    };
    println!("seed {seed}: trace {:016x}\nBROKEN {violation}\n", history.hash);
    tell_shrunk(seed, mutation);
    ExitCode::FAILURE
}

fn tell_shrunk(seed: u64, mutation: Mutation) {
    let Some(Shrunk { story, schedule, history }) = shrunk(seed, mutation) else { return };
    println!("The shortest story found that breaks it, under schedule {schedule}:\n{story}");
    println!("What happened:");
    history.lines.iter().for_each(|line| println!("{line}"));
    if let Some(violation) = &history.violation {
        println!("BROKEN {violation}");
    }
}

/// Runs seeds until they, or the time, are over, or one breaks something.
fn search(options: &Options) -> ExitCode {
    let begun = Instant::now();
    let deadline = options.minutes.map(|minutes| Duration::from_secs(minutes * 60));
    let seeds = options.seeds.unwrap_or(if deadline.is_some() { u64::MAX } else { 1_000 });
    let (mut coverage, mut operations, mut run) = (Coverage::default(), 0, 0);
    let mut broken = None;
    while run < seeds && deadline.is_none_or(|deadline| begun.elapsed() < deadline) {
        let seed = options.first_seed.wrapping_add(run);
        RUNNING.set(seed);
        let history = simulate(seed, options.mutation);
        run += 1;
        operations += history.operations;
        coverage.merge(&history.coverage);
        if let Some(violation) = history.violation {
            broken = Some((seed, violation));
            break;
        }
        if run % PROGRESS_SEEDS == 0 {
            eprintln!("{run} seeds, {operations} operations, {:.0} s", begun.elapsed().as_secs_f64());
        }
    }
    let seconds = begun.elapsed().as_secs_f64().max(1e-9);
    println!("Exercised:");
    for (name, count) in &coverage.counts {
        println!("{count:>10}  {name}");
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = operations as f64 / seconds;
    println!("{run} seeds, {operations} operations in {seconds:.1} s: {rate:.0} operations/s on one core");
    let Some((seed, violation)) = broken else {
        println!("Nothing broken");
        return ExitCode::SUCCESS;
    };
    println!("\nBROKEN under seed {seed}: {violation}\nReplay: cargo xtask simulate --seed {seed}\n");
    tell_shrunk(seed, options.mutation);
    ExitCode::FAILURE
}
