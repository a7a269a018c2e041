//! Every edit accounted for.
//!
//! One seed is one small account: the engine's own drain, merge and apply, the real client, the simulated Keap in process and the
//! simulator's database in memory. People edit parts of rows with odd values, several at once, while others edit the same
//! records in Keap; then everything comes to rest, and every single edit is looked for. It must be on both sides, or in a conflict, or
//! refused or restored with a word on the row and in the audit log. `completed` with a difference is a failure. So is whatever is
//! sent to Keap and is neither somebody's edit nor what Keap held for that very value.
//!
//! What is judged here is judged by the values alone, never by what the merge planned. Records are not deleted, and nothing changes
//! between a reading and the write that rests on it: those are the simulator's.

pub mod grammar;
pub mod judge;
pub mod keap;
pub mod mutation;
pub mod parts;
pub mod store;
pub mod verdict;
pub mod wire;
pub mod world;

#[cfg(test)]
mod tests;
