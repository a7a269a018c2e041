//! The simulator proves the engine, and known-bad engines prove the simulator.

use super::{Mutation, simulate};

#[test]
fn a_seed_is_one_history() {
    for seed in 0..20 {
        let (first, second) = (simulate(seed, Mutation::None), simulate(seed, Mutation::None));
        assert_eq!((first.hash, first.operations), (second.hash, second.operations), "seed {seed}");
    }
}
