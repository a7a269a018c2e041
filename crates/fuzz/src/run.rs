//! Runs cases on every core, watches that none hangs, and tells the seed of the first that fails.

use crate::mutate::case;
use crate::targets::Target;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Longest time that one case may take. Cases take microseconds; this leaves room for a busy machine.
pub const CASE_LIMIT: Duration = Duration::from_secs(5);

/// How often the watch looks.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// No case is running.
const IDLE: u64 = u64::MAX;

/// How a target fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fared {
    /// Cases that were run.
    pub cases: u64,
    /// Time that all of them took.
    pub elapsed: Duration,
    /// The longest that one took.
    pub slowest: Duration,
}

/// What a case did that it must not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It panicked, or broke a promise; the panic's message is on standard error.
    Panicked {
        /// Replays it.
        seed: u64,
    },
    /// It took longer than the limit, and may never end.
    Hung {
        /// Replays it.
        seed: u64,
    },
}

impl Fault {
    /// The seed that replays it.
    #[must_use]
    pub fn seed(&self) -> u64 {
        let (Self::Panicked { seed } | Self::Hung { seed }) = self;
        *seed
    }
}

/// What one thread is doing, for the watch.
#[derive(Debug)]
struct Running {
    seed: AtomicU64,
    since_ms: AtomicU64,
}

/// Runs the cases of `seeds` on `threads` threads. After a hang, the thread that hangs is left behind: end the process.
pub fn run(
    target: &Target,
    seeds: std::ops::Range<u64>,
    threads: u64,
    limit: Duration,
) -> Result<Fared, Fault> {
    let started = Instant::now();
    let examples = Arc::new((target.examples)());
    let stop = Arc::new(AtomicBool::new(false));
    let (sender, outcomes) = channel();
    let threads = threads.max(1);
    let mut watched = Vec::new();
    for thread in 0..threads {
        let running = Arc::new(Running { seed: AtomicU64::new(IDLE), since_ms: AtomicU64::new(0) });
        watched.push(Arc::clone(&running));
        let (examples, stop, sender, seeds, check) =
            (Arc::clone(&examples), Arc::clone(&stop), sender.clone(), seeds.clone(), target.check);
        std::thread::spawn(move || {
            let mut slowest = Duration::ZERO;
            let mut fault = None;
            for seed in seeds
                .skip(usize::try_from(thread).unwrap_or(0))
                .step_by(usize::try_from(threads).unwrap_or(1))
            {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let began = Instant::now();
                running.since_ms.store(millis(started.elapsed()), Ordering::Relaxed);
                running.seed.store(seed, Ordering::Release);
                let input = case(&examples, seed);
                let outcome = catch_unwind(AssertUnwindSafe(|| check(&input)));
                running.seed.store(IDLE, Ordering::Release);
                slowest = slowest.max(began.elapsed());
                if outcome.is_err() {
                    fault = Some(Fault::Panicked { seed });
                    stop.store(true, Ordering::Relaxed);
                    break;
                }
            }
            // Nobody listens any more once a hang was told.
            let _ = sender.send((slowest, fault));
        });
    }
    drop(sender);
    let (mut slowest, mut fault) = (Duration::ZERO, None);
    loop {
        match outcomes.recv_timeout(WATCH_INTERVAL) {
            Ok((longest, found)) => {
                slowest = slowest.max(longest);
                fault = fault.or(found);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let now_ms = millis(started.elapsed());
                let hung = watched.iter().find_map(|running| {
                    let seed = running.seed.load(Ordering::Acquire);
                    let since_ms = running.since_ms.load(Ordering::Relaxed);
                    (seed != IDLE && now_ms.saturating_sub(since_ms) > millis(limit)).then_some(seed)
                });
                if let Some(seed) = hung {
                    stop.store(true, Ordering::Relaxed);
                    return Err(Fault::Hung { seed });
                }
            }
        }
    }
    match fault {
        Some(fault) => Err(fault),
        None => {
            Ok(Fared { cases: seeds.end.saturating_sub(seeds.start), elapsed: started.elapsed(), slowest })
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets;
    use std::sync::atomic::AtomicBool;

    /// Cases of each target with every test of the workspace.
    const CASES: u64 = 2_000;

    #[test]
    fn no_parser_panics_hangs_or_breaks_its_promise() {
        for target in targets::all() {
            let fared = run(&target, 0..CASES, 2, CASE_LIMIT);
            assert!(
                fared.is_ok(),
                "{}: {fared:?}; replay: cargo xtask fuzz --only {0} --seed S",
                target.name
            );
            assert_eq!(fared.map(|fared| fared.cases), Ok(CASES));
        }
    }

    #[test]
    fn good_examples_are_what_they_say() {
        for target in targets::all() {
            let examples = (target.examples)();
            assert!(!examples.is_empty(), "{}", target.name);
            for example in &examples {
                (target.check)(example);
            }
        }
        let mut names: Vec<&str> = targets::all().iter().map(|target| target.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), targets::all().len());
    }

    fn target(check: fn(&[u8])) -> Target {
        Target { name: "test", examples: || vec![b"good".to_vec()], check }
    }

    #[test]
    fn a_panic_is_told_by_its_seed_and_replays() {
        let fragile = target(|input| assert!(std::str::from_utf8(input).is_ok()));
        let fault = run(&fragile, 0..CASES, 2, CASE_LIMIT).unwrap_err();
        let seed = fault.seed();
        assert_eq!(run(&fragile, seed..seed + 1, 1, CASE_LIMIT), Err(Fault::Panicked { seed }));
    }

    #[test]
    fn a_hang_is_told_by_its_seed() {
        static RELEASED: AtomicBool = AtomicBool::new(false);
        let endless = target(|_| {
            while !RELEASED.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
        });
        let fault = run(&endless, 5..6, 1, Duration::from_millis(50));
        RELEASED.store(true, Ordering::Relaxed);
        assert_eq!(fault, Err(Fault::Hung { seed: 5 }));
    }
}
