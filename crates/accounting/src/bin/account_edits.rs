//! `account-edits --edits N [--first-seed S] [--seed S] [--mutation NAME] [--survey]`: `cargo xtask account-edits` builds and runs it.
//!
//! Ends with failure at the first edit that is not accounted for, with a minimal case; `--survey` goes on and lists every kind.

use anyhow::{Context, Result, anyhow, bail};
use keapsync_accounting::judge::Fate;
use keapsync_accounting::mutation::Mutation;
use keapsync_accounting::world::{Outcome, play, shrink};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

struct Options {
    edits: u64,
    first_seed: u64,
    seed: Option<u64>,
    mutation: Mutation,
    survey: bool,
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options> {
    let mut options =
        Options { edits: 100_000, first_seed: 0, seed: None, mutation: Mutation::None, survey: false };
    while let Some(name) = arguments.next() {
        if name == "--survey" {
            options.survey = true;
            continue;
        }
        let value = arguments.next().with_context(|| format!("{name} needs a value"))?;
        let number =
            || value.parse::<u64>().with_context(|| format!("{name} needs a whole number, not '{value}'"));
        match name.as_str() {
            "--edits" => options.edits = number()?,
            "--first-seed" => options.first_seed = number()?,
            "--seed" => options.seed = Some(number()?),
            "--mutation" => {
                options.mutation = Mutation::from_name(&value).ok_or_else(|| {
                    let names: Vec<&str> = Mutation::ALL.iter().map(|mutation| mutation.as_str()).collect();
                    anyhow!("there is no mutation '{value}': choose one of {}", names.join(", "))
                })?;
            }
            _ => bail!("{name} is unknown: give --edits, --first-seed, --seed, --mutation or --survey"),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let options = options(std::env::args().skip(1))?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(search(&options))
}

async fn search(options: &Options) -> Result<bool> {
    let begun = Instant::now();
    let mut fates: BTreeMap<Fate, u64> = BTreeMap::new();
    let mut kinds: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let (mut edits, mut calls, mut seeds) = (0, 0, 0);
    let mut seed = options.seed.unwrap_or(options.first_seed);
    let mut is_sound = true;
    while edits < options.edits {
        let outcome =
            play(seed, options.survey, options.mutation).await.with_context(|| format!("seed {seed}"))?;
        edits += outcome.edits;
        calls += outcome.calls;
        seeds += 1;
        for (fate, count) in &outcome.fates {
            *fates.entry(*fate).or_default() += count;
        }
        if !outcome.problems.is_empty() {
            is_sound = false;
            if options.survey {
                for problem in &outcome.problems {
                    let (_, count) = kinds.entry(problem.kind.clone()).or_insert((seed, 0));
                    *count += 1;
                }
            } else {
                tell(seed, &outcome, options.mutation).await?;
                break;
            }
        }
        if options.seed.is_some() {
            break;
        }
        seed += 1;
    }
    let seconds = begun.elapsed().as_secs_f64();
    for (fate, count) in &fates {
        println!("{count:>10}  {}", fate.as_str());
    }
    println!("{edits} edits in {seeds} accounts, {calls} calls of Keap, {seconds:.1} s");
    for (kind, (seed, count)) in &kinds {
        println!("\n{count} times: {kind}");
        let outcome = play(*seed, true, options.mutation).await?;
        let round =
            outcome.problems.iter().find(|problem| problem.kind == *kind).map_or(0, |problem| problem.round);
        let story = outcome.story.get(..=round).unwrap_or(&outcome.story);
        let (story, problem) = shrink(*seed, story, kind, options.mutation).await?;
        tell_story(*seed, &story, &problem.told);
    }
    if is_sound {
        println!("Every edit is accounted for");
    }
    Ok(is_sound)
}

async fn tell(seed: u64, outcome: &Outcome, mutation: Mutation) -> Result<()> {
    for problem in &outcome.problems {
        println!("NOT ACCOUNTED FOR under seed {seed}: {}", problem.told);
    }
    if let Some(problem) = outcome.problems.first() {
        let (story, problem) = shrink(seed, &outcome.story, &problem.kind, mutation).await?;
        tell_story(seed, &story, &problem.told);
    }
    Ok(())
}

fn tell_story(seed: u64, story: &[Vec<keapsync_accounting::world::Step>], told: &str) {
    println!("The shortest story found that shows it:");
    for (round, steps) in story.iter().enumerate() {
        for step in steps {
            println!("  {}. {step}", round + 1);
        }
    }
    println!("  => {told}\n  Replay: cargo xtask account-edits --survey --seed {seed}");
}
