//! What goes wrong, and what people ask of the system.

use super::super::random::Random;
use keapsync_domain::ids::EntityType;
use std::fmt;

/// What befalls one request to Keap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::simulation) enum RequestFault {
    /// An answer of this status, and no effect.
    Status(u16),
    /// The request never arrives.
    Lost,
    /// The effect stands, the answer is lost.
    AnswerLost,
    /// It takes that long, in milliseconds.
    Slow(i64),
}

/// What befalls one statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::simulation) enum StatementFault {
    /// It fails without effect: an outage, or a serialization failure.
    Refused,
    /// It is committed, and the connection dies.
    AnswerLost,
}

/// What befalls hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::simulation) enum HookFault {
    Dropped,
    Doubled,
    Delayed(i64),
}

/// Access is a matter of records: every user of Keap sees its tags.
const ACCESS_IS_LOST_TO: [EntityType; 3] = [EntityType::Contact, EntityType::Order, EntityType::Subscription];

/// One thing that goes wrong, or is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::simulation) enum Fault {
    Request { fault: RequestFault, times: u32 },
    KeapDown { status: u16, for_ms: i64 },
    Statement { fault: StatementFault, times: u32 },
    Hooks { fault: HookFault, times: u32 },
    HooksInactive { for_ms: i64 },
    HookBatch { unknown: u32 },
    Evict { after_steps: u64, alarm_is_lost: bool },
    UnitDies { after_steps: u64 },
    ReportLost,
    TokenRevoked,
    GrantRevoked,
    ShortPages { times: u32 },
    AccessLost { entity: EntityType, record: u32, for_ms: i64 },
    FullRun,
    Poll,
    UndoRun { back: u32 },
    UndoChange { back: u32 },
    Pause { for_ms: i64 },
}

impl Fault {
    /// Something that goes wrong.
    pub(super) fn draw(random: &mut Random) -> Self {
        let times = u32::try_from(random.between(1, 3)).unwrap_or(1);
        let status = random.pick(&[429, 500, 502, 503]).unwrap_or(503);
        let after_steps = random.below(30);
        match random.below(100) {
            0..8 => Self::Request { fault: RequestFault::Status(status), times },
            8..14 => Self::Request { fault: RequestFault::Lost, times },
            14..26 => Self::Request { fault: RequestFault::AnswerLost, times },
            26..34 => Self::Request { fault: RequestFault::Slow(random.between(200, 15_000)), times },
            34..37 => Self::KeapDown { status, for_ms: random.between(1_000, 90_000) },
            37..43 => Self::Statement { fault: StatementFault::Refused, times },
            43..49 => Self::Statement { fault: StatementFault::AnswerLost, times },
            49..54 => Self::Hooks { fault: HookFault::Dropped, times },
            54..58 => Self::Hooks { fault: HookFault::Doubled, times },
            58..64 => Self::Hooks { fault: HookFault::Delayed(random.between(500, 120_000)), times },
            64..66 => Self::HooksInactive { for_ms: random.between(10_000, 300_000) },
            66..67 => Self::HookBatch { unknown: u32::try_from(random.between(0, 40)).unwrap_or(0) },
            67..80 => Self::Evict { after_steps, alarm_is_lost: random.chance(15) },
            80..86 => Self::UnitDies { after_steps },
            86..88 => Self::ReportLost,
            88..90 => Self::TokenRevoked,
            90..91 => Self::GrantRevoked,
            91..94 => Self::ShortPages { times },
            94..97 => Self::AccessLost {
                entity: random.pick(&ACCESS_IS_LOST_TO).unwrap_or(EntityType::Contact),
                record: u32::try_from(random.below(4)).unwrap_or(0),
                for_ms: random.between(1_000, 400_000),
            },
            97..98 => Self::FullRun,
            98..99 if random.chance(50) => {
                Self::UndoRun { back: u32::try_from(random.below(4)).unwrap_or(0) }
            }
            98..99 => Self::UndoChange { back: u32::try_from(random.below(12)).unwrap_or(0) },
            _ => Self::Pause { for_ms: random.between(1_000, 120_000) },
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds =
            |ms: &i64| format!("{:.3} s", std::time::Duration::from_millis(ms.unsigned_abs()).as_secs_f64());
        match self {
            Self::Request { fault, times } => write!(formatter, "Keap's next {times} requests: {fault:?}"),
            Self::KeapDown { status, for_ms } => {
                write!(formatter, "Keap answers {status} for {}", seconds(for_ms))
            }
            Self::Statement { fault, times } => {
                write!(formatter, "Postgres' next {times} statements: {fault:?}")
            }
            Self::Hooks { fault, times } => write!(formatter, "Keap's next {times} hooks: {fault:?}"),
            Self::HooksInactive { for_ms } => {
                write!(formatter, "Keap's hook is inactive for {}", seconds(for_ms))
            }
            Self::HookBatch { unknown } => {
                write!(formatter, "a delivery of 1000 objects, {unknown} of them unknown")
            }
            Self::Evict { after_steps, alarm_is_lost } => {
                let after = if *alarm_is_lost { ", and its alarm is lost" } else { "" };
                write!(formatter, "the object is evicted after {after_steps} more steps{after}")
            }
            Self::UnitDies { after_steps } => {
                write!(formatter, "workers on units die after {after_steps} more steps")
            }
            Self::ReportLost => write!(formatter, "the next report of a unit is lost"),
            Self::TokenRevoked => write!(formatter, "Keap revokes the access token"),
            Self::GrantRevoked => {
                write!(formatter, "Keap revokes the connection, until somebody connects again")
            }
            Self::ShortPages { times } => write!(formatter, "Keap's next {times} lists stop half way"),
            Self::AccessLost { entity, record, for_ms } => {
                let (entity, lasts) = (entity.as_str(), seconds(for_ms));
                write!(formatter, "the account loses access to {entity} #{record} for {lasts}")
            }
            Self::UndoRun { back } => {
                write!(formatter, "somebody undoes the run before last {back} that wrote")
            }
            Self::UndoChange { back } => write!(formatter, "somebody undoes the change before last {back}"),
            Self::Poll => write!(formatter, "somebody starts an incremental sync"),
            Self::FullRun => write!(formatter, "somebody starts a full sync"),
            Self::Pause { for_ms } => write!(formatter, "the account is paused for {}", seconds(for_ms)),
        }
    }
}
