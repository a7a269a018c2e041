//! The engine accounts for every edit, and planted faults show that one that does not is found.

use crate::mutation::Mutation;
use crate::world::{Outcome, Problem, play, replay, shrink};

/// Edits within which a planted fault must be found.
const EDITS_MAX: u64 = 100_000;

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn played(seed: u64, mutation: Mutation) -> Outcome {
    run(play(seed, false, mutation)).unwrap()
}

/// The first problem that a planted fault brings about, and that the engine as it is does not have.
fn found(mutation: Mutation) -> (u64, Outcome, Problem) {
    let mut edits = 0;
    for seed in 0.. {
        let outcome = played(seed, mutation);
        edits += outcome.edits;
        if let Some(problem) = outcome.problems.first().cloned() {
            let sound = run(replay(seed, &outcome.story, Mutation::None)).unwrap();
            if sound.problems.iter().all(|known| known.kind != problem.kind) {
                return (seed, outcome, problem);
            }
        }
        assert!(edits < EDITS_MAX, "{mutation:?} is not found within {EDITS_MAX} edits");
    }
    unreachable!("the seeds do not end before the edits do")
}

#[test]
fn every_planted_fault_is_found() {
    for mutation in Mutation::ALL {
        let (seed, outcome, problem) = found(mutation);
        println!("{mutation:?}: seed {seed} after {} edits of its own: {}", outcome.edits, problem.told);
    }
}

#[test]
fn a_story_is_shrunk_and_still_shows_the_fault() {
    let (seed, outcome, problem) = found(Mutation::StickyConsent);
    let (story, again) = run(shrink(seed, &outcome.story, &problem.kind, Mutation::StickyConsent)).unwrap();
    assert!(story.concat().len() <= outcome.story.concat().len());
    assert_eq!(again.kind, problem.kind);
}
