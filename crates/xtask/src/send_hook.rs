//! IN WORK by the engineer "bench": see bench/mod.rs.
