//! Pages of orders and of subscriptions.
//!
//! A page in the order of ids or of times of change walks an index from the token's place; a filter that names ids or
//! a contact looks at those rows only. Other orders collect what matches and sort it.

use std::collections::BTreeSet;

use super::page::{PageRequest, Place, SortKey};
use super::term::IdRange;
use crate::data::rows::{Row, Rows};

/// What rows are sorted by in a list.
pub(crate) trait Listed: Row {
    /// The key under the order of that name. Under `id` every key is the same.
    fn key(&self, order: &str) -> SortKey;
}

/// What of a filter the store itself can answer.
#[derive(Debug)]
pub(crate) struct Narrowed {
    pub(crate) ids: Option<BTreeSet<u64>>,
    pub(crate) id_range: IdRange,
    pub(crate) contact_id: Option<u64>,
    pub(crate) modified_from_ms: i64,
    pub(crate) modified_until_ms: i64,
}

impl Default for Narrowed {
    fn default() -> Self {
        Self {
            ids: None,
            id_range: IdRange::default(),
            contact_id: None,
            modified_from_ms: i64::MIN,
            modified_until_ms: i64::MAX,
        }
    }
}

impl Narrowed {
    /// Takes up a list of ids; a second list leaves what is in both.
    pub(crate) fn add_ids(&mut self, ids: Vec<u64>) {
        let named: BTreeSet<u64> = ids.into_iter().collect();
        self.ids = Some(match self.ids.take() {
            None => named,
            Some(before) => before.intersection(&named).copied().collect(),
        });
    }

    fn matches(&self, row: &impl Row) -> bool {
        (self.modified_from_ms..=self.modified_until_ms).contains(&row.modified_ms())
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&row.id()))
            && self.id_range.contains(row.id())
            && self.contact_id.is_none_or(|contact_id| contact_id == row.contact_id())
    }

    const fn is_bound_in_time(&self) -> bool {
        self.modified_from_ms != i64::MIN || self.modified_until_ms != i64::MAX
    }
}

/// One page of rows, and the token of the next when there is one.
pub(crate) fn page<'rows, T: Listed>(
    rows: &'rows Rows<T>,
    narrowed: &Narrowed,
    request: &PageRequest,
    matches: impl Fn(&T) -> bool,
) -> (Vec<&'rows T>, Option<String>) {
    let wanted = request.page_size + 1;
    let place_of = |row: &T| -> Place { (row.key(request.order), row.id()) };
    let fits = |row: &&T| narrowed.matches(*row) && matches(row);
    let names_rows = narrowed.ids.is_some() || narrowed.contact_id.is_some();
    let mut found: Vec<&T> = match request.order {
        "modification_time" if !names_rows => {
            walk_modified(rows, narrowed, request).filter(fits).skip(request.skipped).take(wanted).collect()
        }
        "id" if !names_rows && !narrowed.is_bound_in_time() => {
            walk_ids(rows, narrowed, request).filter(fits).skip(request.skipped).take(wanted).collect()
        }
        _ => {
            let mut few: Vec<(Place, &T)> = candidates(rows, narrowed)
                .filter(fits)
                .map(|row| (place_of(row), row))
                .filter(|(place, _)| request.is_due(place))
                .collect();
            few.sort_unstable_by(|(left, _), (right, _)| request.compare(left, right));
            few.into_iter().skip(request.skipped).take(wanted).map(|(_, row)| row).collect()
        }
    };
    let has_more = found.len() == wanted;
    found.truncate(request.page_size);
    let token = found.last().filter(|_| has_more).map(|row| request.token_after(&place_of(row)));
    (found, token)
}

type Walk<'rows, T> = Box<dyn Iterator<Item = &'rows T> + 'rows>;

fn candidates<'rows, T: Row>(rows: &'rows Rows<T>, narrowed: &Narrowed) -> Walk<'rows, T> {
    if let Some(ids) = &narrowed.ids {
        let ids: Vec<u64> = ids.iter().copied().collect();
        return Box::new(ids.into_iter().filter_map(|id| rows.get(id)));
    }
    if let Some(contact_id) = narrowed.contact_id {
        return Box::new(rows.ids_of_contact(contact_id).filter_map(|id| rows.get(id)));
    }
    let (from, until) = ((narrowed.modified_from_ms, 0), (narrowed.modified_until_ms, u64::MAX));
    if from > until {
        return Box::new(std::iter::empty());
    }
    Box::new(rows.by_modified().range(from..=until).filter_map(|(_, id)| rows.get(*id)))
}

/// All rows within the asked times after the token's place, by time of change.
fn walk_modified<'rows, T: Row>(
    rows: &'rows Rows<T>,
    narrowed: &Narrowed,
    request: &PageRequest,
) -> Walk<'rows, T> {
    let mut from = (narrowed.modified_from_ms, 0);
    let mut until = (narrowed.modified_until_ms, u64::MAX);
    if let Some((SortKey::Number(time_ms), id)) = &request.after {
        if request.is_descending {
            until = until.min((*time_ms, id.saturating_sub(1)));
        } else {
            from = from.max((*time_ms, id.saturating_add(1)));
        }
    }
    if from > until {
        return Box::new(std::iter::empty());
    }
    let ids = rows.by_modified().range(from..=until).map(|(_, id)| *id);
    if request.is_descending {
        Box::new(ids.rev().filter_map(|id| rows.get(id)))
    } else {
        Box::new(ids.filter_map(|id| rows.get(id)))
    }
}

/// All rows within the asked ids after the token's place, by id.
fn walk_ids<'rows, T: Row>(
    rows: &'rows Rows<T>,
    narrowed: &Narrowed,
    request: &PageRequest,
) -> Walk<'rows, T> {
    let after = request.after.as_ref().map(|(_, id)| *id);
    let Some(ids) = narrowed.id_range.after(after, request.is_descending) else {
        return Box::new(std::iter::empty());
    };
    let found = rows.all().range(ids).map(|(_, row)| row);
    if request.is_descending { Box::new(found.rev()) } else { Box::new(found) }
}
