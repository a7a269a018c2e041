//! Shrinks a failing story: leaves out lines as long as what is left breaks the same invariant.

use super::history::{History, replay};
use super::mutation::Mutation;
use super::story::{Setting, Story};

/// The shortest story found that breaks the same invariant under the seed's schedule, and its history in words. `None` when
/// the seed breaks none.
#[must_use]
pub fn shrunk(seed: u64, mutation: Mutation) -> Option<(Story, History)> {
    let mut story = Story::of_seed(seed);
    let broken = replay(seed, &story, mutation, false).violation?.invariant;
    let breaks = |story: &Story| {
        replay(seed, story, mutation, false).violation.is_some_and(|found| found.invariant == broken)
    };
    let mut size = (story.lines.len() / 2).max(1);
    loop {
        let mut position = 0;
        let mut has_shrunk = false;
        while position < story.lines.len() {
            let mut shorter = story.clone();
            let end = (position + size).min(shorter.lines.len());
            shorter.lines.drain(position..end);
            if breaks(&shorter) {
                story = shorter;
                has_shrunk = true;
            } else {
                position += size;
            }
        }
        if size == 1 && !has_shrunk {
            break;
        }
        if !has_shrunk || size > story.lines.len().max(1) {
            size = (size / 2).max(1);
        }
    }
    for simpler in simpler_settings(&story.setting) {
        let candidate = Story { setting: simpler, lines: story.lines.clone() };
        if breaks(&candidate) {
            story = candidate;
        }
    }
    let history = replay(seed, &story, mutation, true);
    Some((story, history))
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
