//! Signs of life of the alarm, and what is read after it was silent.
//!
//! A note is written at most once a minute. The watchdog calls every minute, so that a note which is much older says that the
//! object, or what calls it, was down. Keap tries a delivery again for about half an hour; what it gave up meanwhile is found by
//! runs, and subscriptions that it made inactive by a look at them.

use super::{Account, time_now};
use crate::storage::values;
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::EntityType;
use keapsync_domain::run::{Direction, RunKind};
use keapsync_domain::timestamp::Timestamp;
use keapsync_domain::wire::StartRunsRequest;
use keapsync_engine::catch_up::{CatchUp, Read, Reason, downtime};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Pause between two notes, in milliseconds.
const NOTE_INTERVAL_MS: i64 = 60_000;

/// Silence that is taken for a downtime, in milliseconds: ten calls of the watchdog.
const SILENCE_MAX_MS: i64 = 600_000;

/// The last signs of life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Pulse {
    /// Of the alarm, while the account was connected.
    pub alive: Option<Timestamp>,
    /// When hook events were last settled.
    pub events_moved: Option<Timestamp>,
    /// When a unit of a run was last ordered or reported.
    pub runs_moved: Option<Timestamp>,
    /// When edits were last carried over.
    pub outbox_moved: Option<Timestamp>,
}

impl Account<'_> {
    /// The last signs of life.
    pub(super) fn pulse(&self) -> Result<Pulse, Failure> {
        Ok(self.sql().get(values::PULSE)?.unwrap_or_default())
    }

    /// Notes that the alarm runs. After a downtime, what may have been missed is owed.
    pub(super) fn note_pulse(&self) -> Result<(), Failure> {
        let now = time_now();
        let pulse = self.pulse()?;
        if pulse.alive.is_some_and(|alive_at| now.since_ms(alive_at) < NOTE_INTERVAL_MS) {
            return Ok(());
        }
        // A pause between two looks at the outbox may be configured to be long.
        let silence_max_ms = SILENCE_MAX_MS.max(self.config.outbox_poll_interval_max_ms.saturating_mul(2));
        if let Some(since) = downtime(pulse.alive, now, silence_max_ms) {
            self.owe_all(Reason::Downtime, since, now)?;
            self.look_at_hooks_soon()?;
            self.log().warn("downtime_noticed").account(self.id).duration_ms(now.since_ms(since)).emit();
        }
        let next = Pulse {
            alive: Some(now),
            events_moved: pulse.events_moved.max(self.object.events_moved_at.get()),
            runs_moved: pulse.runs_moved.max(self.object.runs_moved_at.get()),
            outbox_moved: pulse.outbox_moved.max(self.object.outbox.get().moved_at),
        };
        self.sql().put(values::PULSE, &next)
    }

    /// What has to be read because events may have been missed.
    pub(super) fn catch_up(&self) -> Result<CatchUp, Failure> {
        Ok(self.sql().get(values::CATCH_UP)?.unwrap_or_default())
    }

    /// Owes what changed of every kind of record.
    pub(super) fn owe_all(&self, reason: Reason, since: Timestamp, until: Timestamp) -> Result<(), Failure> {
        let mut owed = self.catch_up()?;
        for entity in EntityType::ALL {
            owed.owe(entity, RunKind::Incremental, reason, (since, until));
        }
        self.sql().put(values::CATCH_UP, &owed)
    }

    /// When something is to be done about what is owed.
    pub(super) fn next_catch_up_at(&self) -> Result<Option<Timestamp>, Failure> {
        let owed = self.catch_up()?;
        if owed.is_empty() {
            return Ok(None);
        }
        let (watermarks, full) = (self.watermarks()?, self.full_reads()?);
        Ok(owed.due_at(&self.sql().active_runs()?, Read { watermarks: &watermarks, full: &full }))
    }

    /// Takes off what is paid and begins the runs that are due.
    pub(super) fn begin_catch_up(&self, now: Timestamp) -> Result<(), Failure> {
        let before = self.catch_up()?;
        if before.is_empty() {
            return Ok(());
        }
        let (watermarks, full) = (self.watermarks()?, self.full_reads()?);
        let read = Read { watermarks: &watermarks, full: &full };
        let active = self.sql().active_runs()?;
        let (mut owed, given_up) = before.settled(&active, read);
        for debt in &given_up {
            let line = self.log().error("catch_up_given_up").account(self.id);
            line.word("entity", debt.entity.as_str()).emit();
        }
        for (entity, kind) in owed.begin(&active, read, now) {
            let request = StartRunsRequest {
                kind,
                entities: vec![entity],
                direction: Direction::Bidirectional,
                dry_run: false,
                reverts: None,
            };
            let started = self.begin_runs(&request, now)?;
            let line = self.log().info("catch_up_begun").account(self.id).run_id(&started.run_id);
            line.word("entity", entity.as_str()).word("kind", kind.as_str()).emit();
        }
        if owed == before { Ok(()) } else { self.sql().put(values::CATCH_UP, &owed) }
    }

    /// Starts of the last completed full runs.
    pub(super) fn full_reads(&self) -> Result<BTreeMap<EntityType, Timestamp>, Failure> {
        Ok(self.sql().get(values::FULL_READS)?.unwrap_or_default())
    }
}
