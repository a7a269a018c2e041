//! A story: what people do and what goes wrong, and when. The seed writes it; shrinking leaves lines out of it.
//!
//! Lines name records by position among those that exist when the line's turn comes, and values by numbers of their own, so
//! that a story without some of its lines is a story still.

use super::cells::{CELLS, NAMES, TAGS, ValueNumber};
use super::random::Random;
use keapsync_domain::policy::{Policies, Policy};
use std::fmt;

/// What befalls one request to Keap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestFault {
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
pub(super) enum StatementFault {
    /// It fails without effect: an outage, or a serialization failure.
    Refused,
    /// It is committed, and the connection dies.
    AnswerLost,
}

/// What befalls hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HookFault {
    Dropped,
    Doubled,
    Delayed(i64),
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    KeapEdit { record: u32, cell: usize, value: ValueNumber },
    KeapTag { record: u32, tag: usize },
    KeapAdd { value: ValueNumber },
    KeapDelete { record: u32 },
    RowEdit { record: u32, cell: usize, value: ValueNumber },
    RowTag { record: u32, tag: usize },
    RowInsert { value: ValueNumber },
    RowDelete { record: u32 },
    RowUndelete { record: u32 },
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
    FullRun,
    Pause { for_ms: i64 },
}

/// One line of a story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// When, in milliseconds from the beginning.
    pub at_ms: i64,
    /// What.
    pub action: Action,
}

/// What the world is like, for one seed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Setting {
    /// The account's policies.
    pub policies: Policies,
    /// Whether deletes reach Keap.
    pub delete_in_keap: bool,
    /// Contacts in Keap at the beginning.
    pub contacts: u32,
    /// Granularity of Keap's update times, in milliseconds.
    pub time_grain_ms: i64,
    /// Whether a tag moves a contact's update time.
    pub tags_move_time: bool,
    /// What Keap's clock shows more than true time, in milliseconds.
    pub keap_skew_ms: i64,
    /// The same of Postgres.
    pub postgres_skew_ms: i64,
    /// The same of the workers that carry out units, against the object's.
    pub unit_skew_ms: i64,
    /// Calls per second and per minute.
    pub calls: (u32, u32),
}

/// A story and its setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Story {
    pub(super) setting: Setting,
    pub(super) lines: Vec<Line>,
}

/// Values of stories are above those that exist at the beginning.
const FIRST_VALUE: ValueNumber = 1_000;

impl Story {
    /// The story of a seed.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        let mut random = Random::new(seed, 1);
        let setting = Setting::draw(&mut random);
        let length = random.between(5, 60);
        let has_faults = !random.chance(10);
        let mut lines = Vec::new();
        let (mut at_ms, mut value) = (0, FIRST_VALUE);
        // Few records in a part of the stories, so that edits meet.
        let records = u32::try_from(random.between(1, 6)).unwrap_or(1);
        for _ in 0..length {
            at_ms += match random.below(10) {
                0..4 => random.between(0, 60),
                4..8 => random.between(0, 3_000),
                _ => random.between(0, 60_000),
            };
            value += 20;
            let action = if has_faults && random.chance(35) {
                fault(&mut random)
            } else {
                person(&mut random, records, value)
            };
            lines.push(Line { at_ms, action });
        }
        Self { setting, lines }
    }
}

impl Setting {
    fn draw(random: &mut Random) -> Self {
        let all = [Policy::NewestWins, Policy::KeapWins, Policy::SupabaseWins, Policy::Manual];
        let default =
            if random.chance(50) { Policy::NewestWins } else { random.pick(&all).unwrap_or_default() };
        let mut policies = Policies { default, ..Policies::default() };
        if random.chance(30) {
            let field = random.pick(&["contact.first_name", "contact.emails", "contact.custom_fields"]);
            let policy = random.pick(&all).unwrap_or_default();
            policies.overrides.extend(field.map(|field| (field.to_owned(), policy)));
        }
        let skew =
            |random: &mut Random, most: i64| if random.chance(50) { 0 } else { random.between(-most, most) };
        Self {
            policies,
            delete_in_keap: random.chance(50),
            contacts: u32::try_from(random.between(1, 6)).unwrap_or(1),
            time_grain_ms: if random.chance(70) { 1_000 } else { 1 },
            tags_move_time: random.chance(50),
            keap_skew_ms: skew(random, 30_000),
            postgres_skew_ms: skew(random, 5_000),
            unit_skew_ms: skew(random, 50),
            calls: random.pick(&[(25, 600), (10, 240), (5, 100)]).unwrap_or((10, 240)),
        }
    }
}

fn person(random: &mut Random, records: u32, value: ValueNumber) -> Action {
    let record = u32::try_from(random.below(u64::from(records))).unwrap_or(0);
    let tag = usize::try_from(random.below(TAGS.len() as u64)).unwrap_or(0);
    let cell = usize::try_from(random.below(CELLS as u64)).unwrap_or(0);
    // Some edits clear the cell.
    let written = if random.chance(8) { 0 } else { value };
    match random.below(100) {
        0..36 => Action::KeapEdit { record, cell, value: written },
        36..74 => Action::RowEdit { record, cell, value: written },
        74..80 => Action::KeapTag { record, tag },
        80..86 => Action::RowTag { record, tag },
        86..89 => Action::KeapAdd { value },
        89..93 => Action::RowInsert { value },
        93..96 => Action::KeapDelete { record },
        96..99 => Action::RowDelete { record },
        _ => Action::RowUndelete { record },
    }
}

fn fault(random: &mut Random) -> Action {
    let times = u32::try_from(random.between(1, 3)).unwrap_or(1);
    let status = random.pick(&[429, 500, 502, 503]).unwrap_or(503);
    let after_steps = random.below(30);
    match random.below(100) {
        0..8 => Action::Request { fault: RequestFault::Status(status), times },
        8..14 => Action::Request { fault: RequestFault::Lost, times },
        14..26 => Action::Request { fault: RequestFault::AnswerLost, times },
        26..34 => Action::Request { fault: RequestFault::Slow(random.between(200, 15_000)), times },
        34..37 => Action::KeapDown { status, for_ms: random.between(1_000, 90_000) },
        37..43 => Action::Statement { fault: StatementFault::Refused, times },
        43..49 => Action::Statement { fault: StatementFault::AnswerLost, times },
        49..54 => Action::Hooks { fault: HookFault::Dropped, times },
        54..58 => Action::Hooks { fault: HookFault::Doubled, times },
        58..64 => Action::Hooks { fault: HookFault::Delayed(random.between(500, 120_000)), times },
        64..66 => Action::HooksInactive { for_ms: random.between(10_000, 300_000) },
        66..67 => Action::HookBatch { unknown: u32::try_from(random.between(0, 40)).unwrap_or(0) },
        67..80 => Action::Evict { after_steps, alarm_is_lost: random.chance(15) },
        80..86 => Action::UnitDies { after_steps },
        86..88 => Action::ReportLost,
        88..90 => Action::TokenRevoked,
        90..91 => Action::GrantRevoked,
        91..94 => Action::ShortPages { times },
        94..98 => Action::FullRun,
        _ => Action::Pause { for_ms: random.between(1_000, 120_000) },
    }
}

fn value_text(value: ValueNumber) -> String {
    if value == 0 { "nothing".to_owned() } else { format!("v{value}") }
}

fn name(cell: usize) -> &'static str {
    NAMES.get(cell).copied().unwrap_or_default()
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds =
            |ms: &i64| format!("{:.3} s", std::time::Duration::from_millis(ms.unsigned_abs()).as_secs_f64());
        match self {
            Self::KeapEdit { record, cell, value } => {
                write!(
                    formatter,
                    "in Keap, somebody sets {} of contact #{record} to {}",
                    name(*cell),
                    value_text(*value)
                )
            }
            Self::KeapTag { record, tag } => {
                write!(formatter, "in Keap, somebody toggles tag #{tag} of contact #{record}")
            }
            Self::KeapAdd { value } => {
                write!(formatter, "in Keap, somebody adds a contact with values from v{value}")
            }
            Self::KeapDelete { record } => write!(formatter, "in Keap, somebody deletes contact #{record}"),
            Self::RowEdit { record, cell, value } => {
                write!(
                    formatter,
                    "in Supabase, somebody sets {} of row #{record} to {}",
                    name(*cell),
                    value_text(*value)
                )
            }
            Self::RowTag { record, tag } => {
                write!(formatter, "in Supabase, somebody toggles tag #{tag} of row #{record}")
            }
            Self::RowInsert { value } => {
                write!(formatter, "in Supabase, somebody inserts a row with values from v{value}")
            }
            Self::RowDelete { record } => write!(formatter, "in Supabase, somebody deletes row #{record}"),
            Self::RowUndelete { record } => {
                write!(formatter, "in Supabase, somebody takes back the delete of row #{record}")
            }
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
            Self::FullRun => write!(formatter, "somebody starts a full sync"),
            Self::Pause { for_ms } => write!(formatter, "the account is paused for {}", seconds(for_ms)),
        }
    }
}

impl fmt::Display for Story {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{:?}", self.setting)?;
        for (position, line) in self.lines.iter().enumerate() {
            let at = std::time::Duration::from_millis(line.at_ms.unsigned_abs()).as_secs_f64();
            writeln!(formatter, "{:>3}. {at:>9.3} s  {}", position + 1, line.action)?;
        }
        Ok(())
    }
}
