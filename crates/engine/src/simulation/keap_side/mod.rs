//! Keap in memory: records of all entities, tokens, and what people do there.
//!
//! True to the published contract where the engine can tell: update times of a second's granularity by Keap's own clock, ids
//! that are never given twice, lines with ids of their own, tags of which deleting one takes it off every contact, no
//! deletion of subscriptions through the API. How requests are answered is in [`serve`] and [`list`].

mod list;
mod serve;

pub(super) use list::link_field;
pub(super) use serve::answer;

use super::cells::{Cells, Line, entity_position, tag_bits};
use keapsync_domain::ids::EntityType;
use keapsync_domain::timestamp::Timestamp;
use std::collections::BTreeMap;

/// One record.
#[derive(Clone, Debug)]
pub(super) struct KeapRecord {
    /// What it holds.
    pub cells: Cells,
    /// The row that it was made from.
    pub link: Option<String>,
    /// Its time of change, as Keap tells it.
    pub updated_at: Timestamp,
    /// The step at which it last changed, or came within reach again; `None` once an answer has shown it since.
    pub unread_since: Option<u64>,
    /// As it is sent, until the next change.
    wire: Option<String>,
}

/// A change of a record, for the ledger and for hooks.
#[derive(Clone, Debug)]
pub(super) struct KeapChange {
    /// Of what.
    pub entity: EntityType,
    /// Which.
    pub id: u64,
    /// Before; `None` for a new record.
    pub before: Option<Cells>,
    /// After; `None` for a deleted one.
    pub after: Option<Cells>,
}

/// Records of one entity.
#[derive(Debug, Default)]
struct Book {
    records: BTreeMap<u64, KeapRecord>,
    /// Records that the account cannot reach for a while: asked for, they are not there.
    out_of_reach: BTreeMap<u64, KeapRecord>,
    next_id: u64,
}

/// Keap.
#[derive(Debug)]
pub(super) struct KeapSide {
    books: [Book; 4],
    next_line_id: u64,
    /// Granularity of update times, in milliseconds.
    pub time_grain_ms: i64,
    /// Whether applying a tag moves a contact's update time: the contract does not say.
    pub tags_move_time: bool,
    /// The access token that is good.
    pub access_token: String,
    /// The refresh token that is good.
    pub refresh_token: String,
    tokens: u32,
    /// Lists are cut to half a page, with a token for the rest, this many times more.
    pub short_pages: u32,
    /// The most records on a page.
    page_size: usize,
    /// Steps so far.
    pub step: u64,
    /// Calls that changed something for the engine.
    pub writes: u64,
    /// A row for which a record was made while it had one.
    pub twice: Option<String>,
}

impl KeapSide {
    /// An empty Keap.
    pub(super) fn new(time_grain_ms: i64, tags_move_time: bool, page_size: usize) -> Self {
        // Each entity numbers its own records, and the same number means something else in each; tags begin with those that
        // contacts carry.
        let book = |next_id: u64| Book { next_id, ..Book::default() };
        Self {
            books: [book(1), book(1), book(31), book(1)],
            next_line_id: 1,
            time_grain_ms,
            tags_move_time,
            access_token: "access-0".to_owned(),
            refresh_token: "refresh-0".to_owned(),
            tokens: 0,
            short_pages: 0,
            page_size,
            step: 0,
            writes: 0,
            twice: None,
        }
    }

    fn book(&mut self, entity: EntityType) -> &mut Book {
        &mut self.books[entity_position(entity)]
    }

    /// Records of an entity, by id.
    pub(super) fn records(&self, entity: EntityType) -> &BTreeMap<u64, KeapRecord> {
        &self.books[entity_position(entity)].records
    }

    /// What a record holds.
    pub(super) fn cells(&self, entity: EntityType, id: u64) -> Option<Cells> {
        self.records(entity).get(&id).map(|record| record.cells)
    }

    fn grained(&self, now: Timestamp) -> Timestamp {
        Timestamp(now.0.div_euclid(self.time_grain_ms) * self.time_grain_ms)
    }

    /// Makes a record.
    pub(super) fn add(&mut self, mut cells: Cells, link: Option<String>, now: Timestamp) -> KeapChange {
        let entity = cells.entity;
        for position in 0..cells.lines.len() {
            let line_id = self.next_line_id;
            self.next_line_id += 1;
            if let Some(line) = cells.lines.at_mut(position) {
                line.id = line_id;
            }
        }
        // One that was deleted before its row learnt of it may be made again.
        if link.is_some() && self.records(entity).values().any(|record| record.link == link) {
            self.twice.clone_from(&link);
        }
        let (updated_at, unread_since) = (self.grained(now), Some(self.step));
        let book = self.book(entity);
        let id = book.next_id;
        book.next_id += 1;
        book.records.insert(id, KeapRecord { cells, link, updated_at, unread_since, wire: None });
        KeapChange { entity, id, before: None, after: Some(cells) }
    }

    /// Changes a record that exists.
    pub(super) fn edit(
        &mut self,
        entity: EntityType,
        id: u64,
        now: Timestamp,
        moves_time: bool,
        edit: impl FnOnce(&mut KeapRecord),
    ) -> Option<KeapChange> {
        let (updated_at, step) = (self.grained(now), self.step);
        let record = self.book(entity).records.get_mut(&id)?;
        let before = record.cells;
        edit(record);
        record.unread_since = Some(step);
        if moves_time {
            record.updated_at = updated_at;
        }
        record.wire = None;
        Some(KeapChange { entity, id, before: Some(before), after: Some(record.cells) })
    }

    /// Adds a line to an order. Its id goes with the change.
    pub(super) fn add_line(&mut self, id: u64, value: u32, now: Timestamp) -> Option<(u64, KeapChange)> {
        let line_id = self.next_line_id;
        self.next_line_id += 1;
        let change = self.edit(EntityType::Order, id, now, true, |order| {
            order.cells.lines.push(Line { id: line_id, value });
        })?;
        Some((line_id, change))
    }

    /// Deletes a record. A deleted tag leaves every contact, of which Keap says nothing but perhaps a new update time.
    pub(super) fn delete(&mut self, entity: EntityType, id: u64, now: Timestamp) -> Option<KeapChange> {
        let gone = self.book(entity).records.remove(&id)?;
        if entity == EntityType::Tag {
            let (bit, updated_at, moves_time) =
                (tag_bits(|tag| tag.parse() == Ok(id)), self.grained(now), self.tags_move_time);
            let Book { records, out_of_reach, .. } = self.book(EntityType::Contact);
            let carriers = records.values_mut().chain(out_of_reach.values_mut());
            for contact in carriers.filter(|contact| contact.cells.flags & bit != 0) {
                contact.cells.flags &= !bit;
                contact.wire = None;
                if moves_time {
                    contact.updated_at = updated_at;
                }
            }
        }
        Some(KeapChange { entity, id, before: Some(gone.cells), after: None })
    }

    /// Takes a record out of the account's reach. Says whether it was within.
    pub(super) fn hide(&mut self, entity: EntityType, id: u64) -> bool {
        let book = self.book(entity);
        let Some(record) = book.records.remove(&id) else { return false };
        book.out_of_reach.insert(id, record);
        true
    }

    /// Brings a record back as it was, its update time too. Says whether it was out of reach.
    pub(super) fn show_again(&mut self, entity: EntityType, id: u64) -> bool {
        let step = self.step;
        let book = self.book(entity);
        let Some(mut record) = book.out_of_reach.remove(&id) else { return false };
        record.unread_since = Some(step);
        book.records.insert(id, record);
        true
    }

    /// Records out of reach.
    pub(super) fn hidden(&self) -> Vec<(EntityType, u64)> {
        let of = |entity: EntityType| {
            self.books[entity_position(entity)].out_of_reach.keys().map(move |id| (entity, *id))
        };
        EntityType::ALL.into_iter().flat_map(of).collect()
    }

    /// Gives out new tokens.
    pub(super) fn grant(&mut self) -> (String, String) {
        self.tokens += 1;
        self.access_token = format!("access-{}", self.tokens);
        self.refresh_token = format!("refresh-{}", self.tokens);
        (self.access_token.clone(), self.refresh_token.clone())
    }
}
