//! In-memory counterparts of the world, for tests of the engine: a mirror with its outbox, a Keap, and a clock that moves
//! only when told. Both sides can be made to fail before or after a write landed.

pub mod keap;
mod lists;
pub mod mirror;

use crate::ports::Clock;
use keapsync_domain::timestamp::Timestamp;
use std::cell::Cell;

/// A clock that moves by waiting and by [`tick`](FakeClock::tick) only.
#[derive(Debug, Default)]
pub struct FakeClock(Cell<i64>);

impl FakeClock {
    /// Moves on by one millisecond and tells the time.
    pub fn tick(&self) -> Timestamp {
        self.0.set(self.0.get() + 1);
        Timestamp(self.0.get())
    }

    /// Moves on.
    pub fn advance_ms(&self, delta_ms: i64) {
        self.0.set(self.0.get() + delta_ms);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        self.tick()
    }

    async fn sleep_ms(&self, delay_ms: i64) {
        self.advance_ms(delay_ms);
    }
}
