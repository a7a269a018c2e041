//! The engine's clock, by the runtime's.
//!
//! The runtime's clock stands still between two I/O operations: it cannot time computation.

use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::ports::Clock;
use std::time::Duration;

/// Tells the time and waits inside a worker.
#[derive(Clone, Copy, Debug, Default)]
pub struct WorkerClock;

impl Clock for WorkerClock {
    fn now(&self) -> Timestamp {
        // The platform counts in u64; the date is far from either type's end.
        Timestamp(i64::try_from(worker::Date::now().as_millis()).unwrap_or(i64::MAX))
    }

    async fn sleep_ms(&self, delay_ms: i64) {
        sleep_ms(delay_ms).await;
    }
}

/// Longest wait that the runtime's `setTimeout` takes, in milliseconds: its counter is a signed 32-bit number.
const DELAY_MS_MAX: i64 = i32::MAX as i64;

/// Waits; not at all when `delay_ms` is zero or negative.
pub async fn sleep_ms(delay_ms: i64) {
    if let Ok(bounded_ms) = u64::try_from(delay_ms.min(DELAY_MS_MAX))
        && bounded_ms > 0
    {
        worker::Delay::from(Duration::from_millis(bounded_ms)).await;
    }
}
