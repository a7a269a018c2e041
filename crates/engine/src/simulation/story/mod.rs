//! A story: what people do and what goes wrong, and when. The seed writes it; shrinking leaves lines out of it.
//!
//! Lines name records by position among those that exist when the line's turn comes, and values by numbers of their own, so
//! that a story without some of its lines is a story still.

mod deed;
mod fault;

pub(super) use deed::{Deed, Doing, NEWEST};
pub(super) use fault::{Fault, HookFault, RequestFault, StatementFault};

use super::cells::{ValueNumber, shape};
use super::random::Random;
use keapsync_domain::ids::EntityType;
use keapsync_domain::merge::Side;
use keapsync_domain::policy::{Policies, Policy};
use std::fmt;

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// A person edits a record, on either side.
    Person(Deed),
    /// Something goes wrong, or is asked for.
    Fault(Fault),
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person(deed) => deed.fmt(formatter),
            Self::Fault(fault) => fault.fmt(formatter),
        }
    }
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
    /// Orders in Keap at the beginning.
    pub orders: u32,
    /// Subscriptions in Keap at the beginning.
    pub subscriptions: u32,
    /// The most records on a page of Keap's.
    pub page_size: usize,
    /// Whether Keap sends hooks at all.
    pub has_hooks: bool,
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
    /// Calls per day.
    pub calls_per_day: u32,
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
        let mut setting = Setting::draw(&mut random);
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
            if random.chance(RUSH_PERCENT) {
                value = rush(&mut random, &mut lines, at_ms, value);
                continue;
            }
            let action = if has_faults && random.chance(35) {
                Action::Fault(Fault::draw(&mut random))
            } else {
                Action::Person(Deed::draw(&mut random, records, value))
            };
            lines.push(Line { at_ms, action });
        }
        // From numbers of its own, so that the stories of seeds without small pages stay what they are.
        let mut random = Random::new(seed, 3);
        if setting.calls_per_day >= SMALL_DAY && random.chance(SMALL_PAGES_PERCENT) {
            setting.page_size = random.pick(&[2, 3]).unwrap_or(2);
            setting.has_hooks = random.chance(50);
            for _ in 0..random.between(1, 4) {
                let begins_ms = random.between(0, at_ms);
                value = poll_with_edits(&mut random, &mut lines, begins_ms, value);
            }
        }
        Self { setting, lines }
    }
}

/// How often a rush comes in place of one line, in percent.
const RUSH_PERCENT: u64 = 2;

/// Many rows are edited at once, which takes a while to carry, and meanwhile people write in Keap to the very records whose turn is
/// yet to come. Returns the last value given.
fn rush(random: &mut Random, lines: &mut Vec<Line>, at_ms: i64, mut value: ValueNumber) -> ValueNumber {
    let entity = if random.chance(80) { EntityType::Contact } else { EntityType::Order };
    let edited = shape(entity).edited;
    let mut deed = |random: &mut Random, side: Side, record: u32, delay_ms: i64| {
        value += 20;
        let doing = Doing::Edit { cell: random.pick(edited).unwrap_or(0), value };
        let action = Action::Person(Deed { side, entity, record, doing });
        lines.push(Line { at_ms: at_ms + delay_ms, action });
    };
    for record in 0..u32::try_from(random.between(4, 12)).unwrap_or(4) {
        let delay_ms = random.between(0, 60);
        deed(random, Side::Supabase, record, delay_ms);
    }
    for _ in 0..random.between(2, 8) {
        let (record, delay_ms) = (u32::try_from(random.below(12)).unwrap_or(0), random.between(200, 4_000));
        deed(random, Side::Keap, record, delay_ms);
    }
    value
}

/// How often Keap's pages are so small that lists take several, in percent.
const SMALL_PAGES_PERCENT: u64 = 15;

/// A poll has several pages to read, and between them people edit and delete what is on them in Keap. Returns the last value given.
fn poll_with_edits(
    random: &mut Random,
    lines: &mut Vec<Line>,
    begins_ms: i64,
    mut value: ValueNumber,
) -> ValueNumber {
    let entity = if random.chance(80) { EntityType::Contact } else { EntityType::Order };
    let edited = shape(entity).edited;
    let mut deed = |random: &mut Random, record: u32, at_ms: i64| {
        value += 20;
        let doing = if random.chance(10) {
            Doing::Delete
        } else {
            Doing::Edit { cell: random.pick(edited).unwrap_or(0), value }
        };
        let action = Action::Person(Deed { side: Side::Keap, entity, record, doing });
        lines.push(Line { at_ms, action });
    };
    // Those of one burst may get the same time of change.
    for record in 0..u32::try_from(random.between(3, 8)).unwrap_or(3) {
        let at_ms = begins_ms + random.between(0, 60);
        deed(random, record, at_ms);
    }
    let polled_ms = begins_ms + random.between(100, 1_500);
    for _ in 0..random.between(2, 8) {
        let (record, at_ms) =
            (u32::try_from(random.below(8)).unwrap_or(0), polled_ms + random.between(0, 2_500));
        deed(random, record, at_ms);
    }
    lines.push(Line { at_ms: polled_ms, action: Action::Fault(Fault::Poll) });
    value
}

/// With fewer calls than these, a day's quota is used up by a story.
pub(super) const SMALL_DAY: u32 = 1_000;

fn draw_small_day(random: &mut Random) -> u32 {
    u32::try_from(random.between(80, 300)).unwrap_or(SMALL_DAY)
}

impl Setting {
    fn draw(random: &mut Random) -> Self {
        let all = [Policy::NewestWins, Policy::KeapWins, Policy::SupabaseWins, Policy::Manual];
        let default =
            if random.chance(50) { Policy::NewestWins } else { random.pick(&all).unwrap_or_default() };
        let mut policies = Policies { default, ..Policies::default() };
        if random.chance(30) {
            let field = random.pick(&[
                "contact.first_name",
                "contact.emails",
                "order.line_items",
                "subscription",
                "tag.name",
            ]);
            let policy = random.pick(&all).unwrap_or_default();
            policies.overrides.extend(field.map(|field| (field.to_owned(), policy)));
        }
        let skew =
            |random: &mut Random, most: i64| if random.chance(50) { 0 } else { random.between(-most, most) };
        Self {
            policies,
            delete_in_keap: random.chance(50),
            contacts: u32::try_from(if random.chance(80) {
                random.between(1, 6)
            } else {
                random.between(7, 12)
            })
            .unwrap_or(1),
            orders: u32::try_from(random.between(0, 3)).unwrap_or(0),
            subscriptions: u32::try_from(random.between(0, 2)).unwrap_or(0),
            page_size: 1_000,
            has_hooks: true,
            time_grain_ms: if random.chance(70) { 1_000 } else { 1 },
            tags_move_time: random.chance(50),
            keap_skew_ms: skew(random, 30_000),
            postgres_skew_ms: skew(random, 5_000),
            unit_skew_ms: skew(random, 50),
            calls_per_day: if random.below(200) == 0 { draw_small_day(random) } else { 50_000 },
            calls: random.pick(&[(25, 600), (10, 240), (5, 100)]).unwrap_or((10, 240)),
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
