//! Shrinks a failing story: leaves out lines as long as what is left breaks the same invariant.

use super::history::{History, replay};
use super::mutation::Mutation;
use super::story::{Setting, Story};

/// Schedules under which each shorter story is tried. Leaving out a line shifts all that the schedule draws after it, so that
/// one schedule alone would rarely break a shorter story at the same place.
const SCHEDULES: u64 = 16;

/// A shortened story, the seed of the schedule under which it breaks, and its history in words.
pub struct Shrunk {
    /// The story.
    pub story: Story,
    /// The schedule's seed.
    pub schedule: u64,
    /// What happens.
    pub history: History,
}

/// The shortest story found that breaks the same invariant. `None` when the seed breaks none.
#[must_use]
pub fn shrunk(seed: u64, mutation: Mutation) -> Option<Shrunk> {
    let mut story = Story::of_seed(seed);
    let broken = replay(seed, &story, mutation, false).violation?.invariant;
    let mut schedule = seed;
    let breaks = |story: &Story, schedule: u64| {
        (0..SCHEDULES).map(|offset| schedule.wrapping_add(offset)).find(|schedule| {
            let found = replay(*schedule, story, mutation, false).violation;
            found.is_some_and(|found| found.invariant == broken)
        })
    };
    let mut size = (story.lines.len() / 2).max(1);
    loop {
        let mut position = 0;
        let mut has_shrunk = false;
        while position < story.lines.len() {
            let mut shorter = story.clone();
            let end = (position + size).min(shorter.lines.len());
            shorter.lines.drain(position..end);
            if let Some(found) = breaks(&shorter, schedule) {
                (story, schedule) = (shorter, found);
                has_shrunk = true;
            } else {
                position += size;
            }
        }
        if size > 1 {
            size /= 2;
        } else if !has_shrunk {
            break;
        }
    }
    for simpler in simpler_settings(&story.setting) {
        let candidate = Story { setting: simpler, lines: story.lines.clone() };
        if let Some(found) = breaks(&candidate, schedule) {
            (story, schedule) = (candidate, found);
        }
    }
    let history = replay(schedule, &story, mutation, true);
    Some(Shrunk { story, schedule, history })
}

fn simpler_settings(setting: &Setting) -> Vec<Setting> {
    let with = |change: &dyn Fn(&mut Setting)| {
        let mut simpler = setting.clone();
        change(&mut simpler);
        simpler
    };
    vec![
        with(&|setting| {
            setting.keap_skew_ms = 0;
            setting.postgres_skew_ms = 0;
            setting.unit_skew_ms = 0;
            setting.contacts = 1;
        }),
        with(&|setting| {
            setting.keap_skew_ms = 0;
            setting.postgres_skew_ms = 0;
            setting.unit_skew_ms = 0;
        }),
        with(&|setting| setting.contacts = 1),
    ]
}
