//! What became of every edit: none may vanish without a trace.
//!
//! An edit by SQL must have its audit entry, and its value must be in Keap, or have been there, or have been replaced by a person's
//! next edit, or stand in a conflict or in the audit log as refused, or have gone with its record. An edit in Keap must be in its
//! row, or have been there, or have been replaced in Keap before anybody could read it, or stand in a conflict, or have gone with
//! its record.
//!
//! One more fate is told apart. Keap's interface has no conditional write: what a person writes in Keap between the sync's reading
//! and its write of the same property is overwritten, and no client could know. It counts as such only within the time that one
//! attempt may take, and only where the write is on record. Tags are put on and taken off one by one, so no write overtakes those.

use crate::chaos::edit::{Action, Edit, Side};
use crate::chaos::record::{MirroredRow, Record};
use keapsync_domain::ids::EntityType;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};

/// How long a write may come after the reading that it rests on, in milliseconds: an attempt whose calls are slow, with the
/// simulator's faults.
const ATTEMPT_MS: i64 = 20_000;

/// What became of an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// Its value is what both sides show.
    Stands,
    /// Its value was on the other side, and later edits replaced it.
    WasCarried,
    /// A later edit on its own side replaced it before it was carried.
    Replaced,
    /// It stands in a conflict, settled or open.
    InConflict,
    /// The audit log keeps it as refused, or its row says that Keap refused the whole.
    Refused,
    /// It went with its record.
    WentWithRecord,
    /// It is of a set, and later edits of the same element combine with it.
    Combined,
    /// A write of the same property overtook it in Keap.
    Overtaken,
    /// None of these.
    Lost,
}

/// What became of all edits.
#[derive(Debug, Default)]
pub struct Fates {
    /// How many had which fate.
    pub counts: BTreeMap<(Side, Fate), u64>,
    /// Edits that are lost, and rows whose audit log has gaps.
    pub problems: Vec<String>,
}

/// What is looked up again and again.
struct Index<'a> {
    record: &'a Record,
    rows_by_id: HashMap<&'a str, (EntityType, &'a MirroredRow)>,
    rows_by_keap_id: HashMap<(EntityType, &'a str), &'a MirroredRow>,
    /// When writes took effect, by Keap's path of the record and property.
    written_at: HashMap<(String, String), Vec<i64>>,
    /// Edits of one field of one record on one side.
    of_field: HashMap<(Side, &'a str, &'a str), Vec<&'a Edit>>,
    /// Edits of one element of one row, whichever side they were made on.
    of_element: HashMap<(String, &'a str), usize>,
    /// Rows and records of which a person deleted one side.
    deleted: HashSet<(EntityType, &'a str)>,
}

/// Tells the fate of every edit.
#[must_use]
pub fn of(edits: &[Edit], record: &Record) -> Fates {
    let index = Index::new(edits, record);
    let mut fates = Fates::default();
    for edit in edits {
        let fate = index.fate(edit);
        *fates.counts.entry((edit.side, fate)).or_default() += 1;
        if fate == Fate::Lost {
            fates.problems.push(format!("{} is lost", edit.told()));
        }
    }
    fates.problems.extend(audit_gaps(edits, record));
    fates
}

/// Each edit by SQL leaves exactly one audit entry of its row.
fn audit_gaps(edits: &[Edit], record: &Record) -> Vec<String> {
    let mut made: BTreeMap<&str, u64> = BTreeMap::new();
    for edit in edits.iter().filter(|edit| edit.side == Side::Sql) {
        *made.entry(&edit.record).or_default() += 1;
    }
    let gaps = made.into_iter().filter_map(|(row, made)| {
        let audited = record.audited.get(row).copied().unwrap_or(0);
        (audited != made)
            .then(|| format!("row {row} was edited {made} times and has {audited} audit entries of people"))
    });
    gaps.collect()
}

impl<'a> Index<'a> {
    fn new(edits: &'a [Edit], record: &'a Record) -> Self {
        let mut index = Self {
            record,
            rows_by_id: HashMap::new(),
            rows_by_keap_id: HashMap::new(),
            written_at: HashMap::new(),
            of_field: HashMap::new(),
            of_element: HashMap::new(),
            deleted: HashSet::new(),
        };
        for (entity, rows) in &record.rows {
            for row in rows {
                index.rows_by_id.insert(&row.id, (*entity, row));
                if let Some(keap_id) = &row.keap_id {
                    index.rows_by_keap_id.insert((*entity, keap_id), row);
                }
            }
        }
        for write in &record.writes {
            let (Some(path), Some(at_ms)) = (write["path"].as_str(), write["at_ms"].as_i64()) else {
                continue;
            };
            for property in write["body"].as_object().into_iter().flatten().map(|(name, _)| name) {
                index.written_at.entry((path.to_owned(), property.clone())).or_default().push(at_ms);
            }
        }
        for edit in edits {
            let key = (edit.side, edit.record.as_str(), edit.path.as_str());
            index.of_field.entry(key).or_default().push(edit);
            if edit.action == Action::Delete {
                index.deleted.insert((edit.entity, &edit.record));
            }
            if let Some(row) = index.row(edit) {
                *index.of_element.entry((row.id.clone(), &edit.path)).or_default() += 1;
            }
        }
        index
    }

    fn row(&self, edit: &Edit) -> Option<&'a MirroredRow> {
        match edit.side {
            Side::Sql => self.rows_by_id.get(edit.record.as_str()).map(|(_, row)| *row),
            Side::Keap => self.rows_by_keap_id.get(&(edit.entity, edit.record.as_str())).copied(),
        }
    }

    fn keap_record(&self, edit: &Edit) -> Option<&'a Value> {
        let keap_id = match edit.side {
            Side::Keap => Some(edit.record.as_str()),
            Side::Sql => self.row(edit).and_then(|row| row.keap_id.as_deref()),
        };
        self.record.keap.get(&edit.entity)?.get(keap_id?)
    }

    fn fate(&self, edit: &Edit) -> Fate {
        let row = self.row(edit);
        let went = row.is_none_or(MirroredRow::is_deleted) && self.keap_record(edit).is_none();
        match edit.action {
            Action::Create | Action::Set => self.fate_of_value(edit, went),
            Action::Add | Action::Remove => self.fate_of_element(edit, went),
            Action::Delete if went => Fate::Stands,
            // A delete against an edit: the edit survives, and a conflict says so. Or a person took the delete back.
            Action::Delete => match row {
                Some(row) if self.record.is_open(&row.id, "deleted_at") => Fate::InConflict,
                Some(row) if self.of_field.contains_key(&(Side::Sql, row.id.as_str(), "deleted_at")) => {
                    Fate::Combined
                }
                _ => Fate::Lost,
            },
            Action::Undelete => match row {
                Some(row) if !row.is_deleted() => Fate::Stands,
                Some(row) if self.record.is_open(&row.id, "deleted_at") => Fate::InConflict,
                _ => Fate::Combined,
            },
        }
    }

    fn fate_of_value(&self, edit: &Edit, went: bool) -> Fate {
        let marks = &self.record.marks;
        let (here, there) = (edit.is_in(&marks.rows), edit.is_in(&marks.keap));
        let was_carried = match edit.side {
            Side::Sql => there || edit.is_in(&marks.written),
            Side::Keap => {
                here || edit.is_in(&marks.replaced_by_sync) || edit.is_in(&marks.replaced_by_people)
            }
        };
        if here && there {
            Fate::Stands
        } else if was_carried {
            Fate::WasCarried
        } else if edit.is_in(&marks.conflicts) {
            Fate::InConflict
        } else if edit.is_in(&marks.refused) || self.row(edit).is_some_and(MirroredRow::is_refused) {
            Fate::Refused
        } else if self.is_replaced(edit) {
            Fate::Replaced
        } else if went || self.is_deleted(edit) {
            Fate::WentWithRecord
        } else if edit.side == Side::Keap && self.is_overtaken(edit) {
            Fate::Overtaken
        } else {
            Fate::Lost
        }
    }

    /// Whether a person edited the same field on the same side later, or so nearly at once that it may have been later.
    fn is_replaced(&self, edit: &Edit) -> bool {
        if edit.side == Side::Sql {
            return edit.is_in(&self.record.marks.replaced_by_people);
        }
        let edits = self.of_field.get(&(edit.side, edit.record.as_str(), edit.path.as_str()));
        let may_be_later = |other: &&Edit| other.number != edit.number && other.at_ms >= edit.began_ms;
        edits.is_some_and(|edits| edits.iter().any(may_be_later))
    }

    fn is_deleted(&self, edit: &Edit) -> bool {
        let ids = [
            self.row(edit).map(|row| row.id.as_str()),
            self.row(edit).and_then(|row| row.keap_id.as_deref()),
        ];
        ids.into_iter().flatten().any(|id| self.deleted.contains(&(edit.entity, id)))
    }

    /// Whether the sync wrote the same property of the record within one attempt after the edit.
    fn is_overtaken(&self, edit: &Edit) -> bool {
        let path = format!("/crm/rest/v2/{}/{}", edit.entity.plural(), edit.record);
        let times = self.written_at.get(&(path, property(edit)));
        times.is_some_and(|times| times.iter().any(|at_ms| is_within_an_attempt(edit, *at_ms)))
    }

    /// Only where nobody else edited the element is its end determined.
    fn fate_of_element(&self, edit: &Edit, went: bool) -> Fate {
        let Some(row) = self.row(edit) else { return if went { Fate::WentWithRecord } else { Fate::Lost } };
        if went {
            return Fate::WentWithRecord;
        }
        if self.of_element.get(&(row.id.clone(), &edit.path)).copied() > Some(1) {
            return Fate::Combined;
        }
        let Some((list, element)) = edit.path.split_once('.') else { return Fate::Lost };
        if list == "tags" && !self.is_tag(element) {
            return Fate::WentWithRecord;
        }
        let holds = |item: &Value| item.as_str() == Some(element) || item["id"].as_str() == Some(element);
        let is_there = row.json[list].as_array().is_some_and(|items| items.iter().any(holds));
        if is_there == (edit.action == Action::Add) {
            Fate::Stands
        } else if self.is_deleted(edit) {
            Fate::WentWithRecord
        } else {
            Fate::Lost
        }
    }

    /// Whether the tag still exists, as far as tags are read.
    fn is_tag(&self, id: &str) -> bool {
        self.record.keap.get(&EntityType::Tag).is_none_or(|tags| tags.contains_key(id))
    }
}

/// Whether a write at that time may rest on a reading from before the edit. The edit took effect at some time between its request
/// and its answer.
fn is_within_an_attempt(edit: &Edit, at_ms: i64) -> bool {
    (edit.began_ms..edit.at_ms + ATTEMPT_MS).contains(&at_ms)
}

/// Keap's property that an edit's path is a part of.
fn property(edit: &Edit) -> String {
    let field = edit.path.split('.').next().unwrap_or_default();
    let property = match (edit.entity, field) {
        (EntityType::Contact, "first_name") => "given_name",
        (EntityType::Contact, "last_name") => "family_name",
        (EntityType::Contact, "email" | "emails") => "email_addresses",
        (EntityType::Contact, "phone" | "phones") => "phone_numbers",
        (EntityType::Order, "title") => "order_title",
        (EntityType::Order, "order_number") => "invoice_number",
        (EntityType::Subscription, "cancel_reason") => "reason_stopped",
        (EntityType::Subscription, "amount") => "billing_amount",
        (_, field) => field,
    };
    property.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn edit(number: u64, side: Side, record: &str, action: Action, path: &str) -> Edit {
        let at_ms = i64::try_from(number).unwrap() * 1_000_000;
        Edit {
            number,
            side,
            entity: EntityType::Contact,
            record: record.to_owned(),
            action,
            path: path.to_owned(),
            began_ms: at_ms,
            at_ms,
        }
    }

    fn record() -> Record {
        let row = |id: &str, keap_id: &str, json: Value| MirroredRow {
            id: id.to_owned(),
            keap_id: Some(keap_id.to_owned()),
            json,
        };
        let rows = vec![row("a", "1", json!({"tags": ["5"]})), row("b", "2", json!({"deleted_at": "2026"}))];
        Record {
            rows: BTreeMap::from([(EntityType::Contact, rows)]),
            keap: BTreeMap::from([(EntityType::Contact, BTreeMap::from([("1".to_owned(), json!({}))]))]),
            audited: HashMap::from([("a".to_owned(), 1)]),
            ..Record::default()
        }
    }

    fn fate(edit: Edit, change: impl FnOnce(&mut Record)) -> Fate {
        let mut record = record();
        change(&mut record);
        let edits = [edit];
        Index::new(&edits, &record).fate(&edits[0])
    }

    #[test]
    fn a_value_is_lost_unless_it_left_a_trace() {
        let by_sql = || edit(7, Side::Sql, "a", Action::Set, "first_name");
        let mark = |set: &mut HashSet<String>, word: &str| set.extend([word.to_owned()]);
        assert_eq!(fate(by_sql(), |_| ()), Fate::Lost);
        assert_eq!(fate(by_sql(), |record| mark(&mut record.marks.replaced_by_sync, "s7x")), Fate::Lost);
        assert_eq!(fate(by_sql(), |record| mark(&mut record.marks.written, "s7x")), Fate::WasCarried);
        assert_eq!(fate(by_sql(), |record| mark(&mut record.marks.conflicts, "s7x")), Fate::InConflict);
        assert_eq!(
            fate(by_sql(), |record| mark(&mut record.marks.replaced_by_people, "s7x")),
            Fate::Replaced
        );
        let of_gone = edit(7, Side::Sql, "b", Action::Set, "first_name");
        assert_eq!(fate(of_gone, |_| ()), Fate::WentWithRecord);
        let in_keap = || edit(7, Side::Keap, "1", Action::Set, "emails.EMAIL2");
        assert_eq!(fate(in_keap(), |record| mark(&mut record.marks.keap, "k7x")), Fate::Lost);
        assert_eq!(fate(in_keap(), |record| mark(&mut record.marks.rows, "k7x")), Fate::WasCarried);
        let written = |at_ms: i64| json!({"path": "/crm/rest/v2/contacts/1", "at_ms": at_ms, "body": {"email_addresses": []}});
        assert_eq!(fate(in_keap(), |record| record.writes.push(written(7_001_000))), Fate::Overtaken);
        assert_eq!(fate(in_keap(), |record| record.writes.push(written(8_000_000))), Fate::Lost);
    }

    #[test]
    fn a_write_overtakes_an_edit_whose_answer_is_still_on_its_way() {
        let of_write_at = |at_ms: i64| {
            let edit = Edit { began_ms: 6_970_000, ..edit(7, Side::Keap, "1", Action::Set, "first_name") };
            let written =
                json!({"path": "/crm/rest/v2/contacts/1", "at_ms": at_ms, "body": {"given_name": "A"}});
            fate(edit, |record| record.writes.push(written))
        };
        assert_eq!([6_970_000, 7_019_999].map(of_write_at), [Fate::Overtaken; 2]);
        assert_eq!([6_969_999, 7_020_000].map(of_write_at), [Fate::Lost; 2]);
    }

    #[test]
    fn an_edit_is_replaced_by_another_whose_answer_came_before_its_own() {
        let of_another_at = |at_ms: i64| {
            let by_keap = |number| edit(number, Side::Keap, "1", Action::Set, "first_name");
            let edits = [Edit { began_ms: 6_970_000, ..by_keap(7) }, Edit { at_ms, ..by_keap(8) }];
            Index::new(&edits, &record()).fate(&edits[0])
        };
        assert_eq!([6_970_000, 7_000_000, 8_000_000].map(of_another_at), [Fate::Replaced; 3]);
        assert_eq!(of_another_at(6_969_999), Fate::Lost);
    }

    #[test]
    fn what_keap_refuses_to_make_is_told_by_its_row() {
        let made = || edit(7, Side::Sql, "c", Action::Create, "");
        let with_row = |status: &str| {
            let row = MirroredRow { id: "c".to_owned(), keap_id: None, json: json!({"sync_status": status}) };
            fate(made(), |record| record.rows.get_mut(&EntityType::Contact).unwrap().push(row))
        };
        assert_eq!([with_row("error"), with_row("pending")], [Fate::Refused, Fate::Lost]);
    }

    #[test]
    fn an_element_is_where_its_only_edit_put_it() {
        let of = |action, path| edit(7, Side::Keap, "1", action, path);
        assert_eq!(fate(of(Action::Add, "tags.5"), |_| ()), Fate::Stands);
        assert_eq!(fate(of(Action::Remove, "tags.5"), |_| ()), Fate::Lost);
        assert_eq!(fate(of(Action::Add, "tags.6"), |_| ()), Fate::Lost);
    }

    #[test]
    fn an_element_goes_with_its_record_though_the_row_is_kept() {
        let edits = [
            edit(7, Side::Keap, "1", Action::Add, "tags.6"),
            edit(8, Side::Keap, "1", Action::Delete, "deleted_at"),
        ];
        let record = record();
        assert_eq!(Index::new(&edits, &record).fate(&edits[0]), Fate::WentWithRecord);
    }

    #[test]
    fn a_missing_audit_entry_is_told() {
        let edits = [1, 2].map(|number| edit(number, Side::Sql, "a", Action::Set, "first_name"));
        assert_eq!(audit_gaps(&edits, &record()).len(), 1);
        assert_eq!(audit_gaps(&edits[..1], &record()), Vec::<String>::new());
    }
}
