//! What a row says after a merge.
//!
//! What was put back is said until a person edits the row again: a merge that comes a moment later, of a hook or of the
//! next edit, takes no word away before anybody can have read it.

use crate::ports::RowState;
use keapsync_domain::merge::Merge;
use keapsync_keap::edits::Refusal;
use serde_json::{Map, Value};

/// Longest word on a row, in characters: it is to be read.
const WORD_LENGTH_MAX: usize = 1000;

/// Between the parts of a word.
const BETWEEN: &str = " | ";

/// Where the parts that need an edit to be put right begin.
const RESTORED: &str = "restored: Keap does not take this edit. ";
const READ_ONLY: &str = "read_only_field: ";
const GONE_TAG: &str = "gone_tag: ";
const CONFLICT: &str = "conflict: ";
const NAMED: &str = "also restored, and told in the audit log: ";

/// A part of a word, and the name of what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    name: String,
    said: String,
}

/// The state of a row and what it says; `before` is what it said until now.
pub(super) fn state_of(
    merge: &Merge,
    delta: &Map<String, Value>,
    gone_tags: &[String],
    refused: &[Refusal],
    before: Option<&str>,
) -> (RowState, Option<String>) {
    let mut parts: Vec<Part> = Vec::new();
    if merge.has_open_conflict() {
        let paths: Vec<&str> =
            merge.conflicts.iter().filter(|c| c.winner.is_none()).map(|c| c.path.as_str()).collect();
        let name = paths.join(", ");
        parts.push(Part { said: format!("{CONFLICT}decide about {name}"), name });
    }
    for edit in &merge.refused {
        let said = format!("{READ_ONLY}{} was restored. {}", edit.field, edit.reason);
        parts.push(Part { name: edit.field.to_owned(), said });
    }
    parts.extend(refused.iter().map(|refusal| Part { name: refusal.path(), said: refusal.said() }));
    if !gone_tags.is_empty() {
        let tags = gone_tags.join(", ");
        let said = format!(
            "{GONE_TAG}Keap has no tag {tags} any more, so the contact does not carry it; choose a tag that there is"
        );
        parts.push(Part { name: format!("tags {tags}"), said });
    }
    let kept = before.map(kept).unwrap_or_default();
    let is_new = |part: &Part| parts.iter().all(|known| known.said != part.said && known.name != part.name);
    let kept: Vec<Part> = kept.into_iter().filter(is_new).collect();
    parts.extend(kept);
    if parts.is_empty() {
        let state = if delta.is_empty() { RowState::Completed } else { RowState::Pending };
        return (state, None);
    }
    let state = if merge.has_open_conflict() { RowState::Conflict } else { RowState::Error };
    (state, Some(composed(&parts)))
}

/// Of a word, what was put back.
fn kept(word: &str) -> Vec<Part> {
    let parts: Vec<&str> = word.split(BETWEEN).filter(|part| !part.starts_with(CONFLICT)).collect();
    let is_of_what_was_put_back =
        |part: &&str| [RESTORED, READ_ONLY, GONE_TAG, NAMED].iter().any(|begin| part.starts_with(begin));
    if !parts.iter().any(is_of_what_was_put_back) {
        return Vec::new();
    }
    let part = |part: &str| {
        let said = part.strip_prefix(RESTORED).unwrap_or(part);
        let plain = said.strip_prefix(READ_ONLY).or_else(|| said.strip_prefix(NAMED)).unwrap_or(said);
        let end = plain.find([':', ' ']).filter(|_| !said.starts_with(NAMED)).unwrap_or(plain.len());
        Part { name: plain.get(..end).unwrap_or(plain).to_owned(), said: said.to_owned() }
    };
    parts.into_iter().map(part).collect()
}

/// One word of several parts. Where they are too long together, those that find no room are named at least.
fn composed(parts: &[Part]) -> String {
    let length = |text: &str| text.chars().count() + BETWEEN.len();
    let mut room = WORD_LENGTH_MAX - RESTORED.len();
    if parts.iter().map(|part| length(&part.said)).sum::<usize>() > room {
        let names: usize = parts.iter().map(|part| length(&part.name)).sum();
        room = room.saturating_sub(names + NAMED.len());
    }
    let (mut said, mut named): (Vec<String>, Vec<&str>) = (Vec::new(), Vec::new());
    let mut is_begun = false;
    for part in parts {
        let Some(left) = room.checked_sub(length(&part.said)) else {
            named.push(&part.name);
            continue;
        };
        room = left;
        let has_own_begin =
            [CONFLICT, READ_ONLY, GONE_TAG, NAMED].iter().any(|begin| part.said.starts_with(begin));
        let begins = !has_own_begin && !is_begun;
        is_begun |= begins;
        said.push(format!("{}{}", if begins { RESTORED } else { "" }, part.said));
    }
    if !named.is_empty() {
        said.push(format!("{NAMED}{}", named.join(", ")));
    }
    said.join(BETWEEN).chars().take(WORD_LENGTH_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(field: &'static str, reason: &str) -> Refusal {
        Refusal { field, part: None, key: None, sent: None, reason: reason.to_owned() }
    }

    fn said(refused: &[Refusal], before: Option<&str>) -> (RowState, Option<String>) {
        state_of(&Merge::default(), &Map::new(), &[], refused, before)
    }

    #[test]
    fn what_was_put_back_is_said_until_somebody_edits_the_row() {
        let (state, word) = said(&[refusal("website", "is too long")], None);
        let word = word.unwrap();
        assert_eq!(
            (state, word.as_str()),
            (RowState::Error, format!("{RESTORED}website: is too long").as_str())
        );
        assert_eq!(said(&[], Some(&word)), (RowState::Error, Some(word.clone())));
        let (_, both) = said(&[refusal("title", "is too short")], Some(&word));
        let both = both.unwrap();
        assert_eq!(both, format!("{RESTORED}title: is too short | website: is too long"));
        // A later reason of the same field is the one that counts.
        let (_, again) = said(&[refusal("website", "is no address")], Some(&both));
        assert_eq!(again.unwrap(), format!("{RESTORED}website: is no address | title: is too short"));
        // What is said of an attempt that failed, or of a conflict, is not what was put back.
        assert_eq!(said(&[], Some("Keap answered 500")), (RowState::Completed, None));
        assert_eq!(said(&[], Some("conflict: decide about email")), (RowState::Completed, None));
        let (_, left) =
            said(&[], Some("conflict: decide about email | read_only_field: company was restored. x"));
        assert_eq!(left.unwrap(), "read_only_field: company was restored. x");
    }

    #[test]
    fn a_word_that_is_too_long_names_everything_all_the_same() {
        let refused: Vec<Refusal> = fields().map(|field| refusal(field, &"because ".repeat(20))).collect();
        let word = said(&refused, None).1.unwrap();
        assert!(word.chars().count() <= WORD_LENGTH_MAX);
        assert!(fields().all(|field| word.contains(field)), "{word}");
        let again = said(&refused, Some(&word)).1.unwrap();
        assert!(fields().all(|field| again.contains(field)), "{again}");
    }

    fn fields() -> impl Iterator<Item = &'static str> {
        ["website", "job_title", "first_name", "last_name", "birth_date", "emails", "phones", "addresses"]
            .into_iter()
    }
}
