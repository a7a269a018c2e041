//! What keapsync does, as functions over ports: apply Keap's records, drain the outbox, keep tokens alive, share quota.
pub mod ports;
