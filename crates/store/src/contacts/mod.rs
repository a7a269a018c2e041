//! `sync_contacts`: reading what the mirror knows, and writing pages of it.

pub(crate) mod columns;
pub(crate) mod read;
pub(crate) mod write;
