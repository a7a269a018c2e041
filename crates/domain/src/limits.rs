//! Every bound in one place, each with its reason.

/// Records per page: Keap's largest `page_size`, and what one write statement takes.
pub const PAGE_RECORDS_MAX: usize = 1000;

/// Largest webhook body, in bytes. Keap's largest delivery is 1000 objects of about 150 bytes.
pub const WEBHOOK_BODY_BYTES_MAX: usize = 1024 * 1024;

/// Objects in one webhook delivery: Keap's own batch size.
pub const WEBHOOK_OBJECTS_MAX: usize = 1000;

/// Largest piece handed to a Postgres socket in one write, in bytes: one write over 64 KiB kills a Hyperdrive
/// connection in production, so half of that.
pub const SOCKET_WRITE_BYTES_MAX: usize = 32 * 1024;

/// Longest work of one bulk unit, in milliseconds: it runs after the response, which lives 30 s, and leaves a margin for the last page.
pub const UNIT_BUDGET_MS: i64 = 15_000;

/// How long a bulk unit may stay unreported before it is ordered again, in milliseconds.
pub const UNIT_LEASE_MS: i64 = 60_000;

/// Longest wait for one answer of Keap, its body included, in milliseconds.
pub const KEAP_TIMEOUT_MS: i64 = 25_000;

/// How long a claimed outbox item stays with its claimer, in milliseconds.
pub const OUTBOX_LEASE_MS: i64 = 120_000;

/// Outbox items claimed in one statement. Each may cost a call to Keap.
pub const OUTBOX_CLAIM_MAX: usize = 50;

/// Hook events claimed at once: one list call fetches as many contacts.
pub const EVENT_CLAIM_MAX: usize = 200;

/// Open hook events an account holds before deliveries are answered with 503 (Keap retries them).
pub const EVENT_QUEUE_MAX: i64 = 500_000;

/// Times an item whose own fault it may be is tried before it becomes a dead letter.
pub const ATTEMPTS_MAX: i32 = 3;

/// How old a reading of a record, here or in Keap, may be when Keap is written by it, in milliseconds. Keap takes no write under a
/// condition, so this and the call itself are all the time in which somebody's change there can be overwritten unseen.
pub const READING_AGE_MAX_MS: i64 = 500;

/// Times an apply merges again after losing to concurrent edits before the record waits for the next pass.
pub const REMERGE_MAX: usize = 5;
