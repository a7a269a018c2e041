//! The convergence certificate: whether both sides hold the same records, and by which records and fields they do not.
//!
//! A [`Comparison`] is filled record by record, in any order and over any number of units: it travels between them as JSON of
//! some 30 kB at most. Each record of Keap and each live row is given to it once: a linked one with its counterpart, one
//! without by itself. [`Comparison::certify`] makes the certificate of it, as `sync_certificates` stores it.
//!
//! Invariants: `equal` is true only when no record differs but in fields that wait for a person; it is never true while the
//! hash trees differ in a leaf in which no record is known to differ, or differ at all while no conflict is open.
//!
//! What it does not do: read records, or stop them from changing meanwhile. A record that changes between the looks at
//! its two sides shows as a difference; the caller looks at such records again before it certifies.

use crate::canonical::{canonical, record_hash, same};
use crate::ids::EntityType;
use crate::record::Record;
use crate::schema::{Field, FieldKind, fields};
use crate::timestamp::Timestamp;
use crate::tree::HashTree;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;

/// Differences that a certificate names; more are only counted.
pub const DIFFERENCES_MAX: usize = 100;

/// Why a record is not the same on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceReason {
    /// Both sides have it, with different values.
    Differs,
    /// Only Supabase has it.
    MissingInKeap,
    /// Only Keap has it.
    MissingInSupabase,
    /// An edit of it is on its way to Keap.
    Waiting,
}

/// A record that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Keap's id; `None` for a row that no record of Keap is known for.
    pub keap_id: Option<String>,
    /// The row, a UUID; `None` for a record without one.
    pub entity_id: Option<String>,
    /// Names of the fields that differ, in the schema's order; empty where one side has no record.
    pub fields: Vec<String>,
    /// Why.
    pub reason: DifferenceReason,
}

/// What a full comparison of one kind of record found: a row of `sync_certificates`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntityCertificate {
    /// Kind of record.
    pub entity: EntityType,
    /// Whether both sides hold the same records, but for fields that wait for a person.
    pub equal: bool,
    /// Records in Keap.
    pub keap_count: u64,
    /// Live rows.
    pub supabase_count: u64,
    /// Root of the hash tree over Keap's records: 32 hexadecimal digits.
    pub keap_tree_hash: String,
    /// The same over the rows.
    pub supabase_tree_hash: String,
    /// Records that differ, open conflicts aside.
    pub differing_count: u64,
    /// The first of them, at most [`DIFFERENCES_MAX`].
    pub differences: Vec<Difference>,
    /// Conflicts that wait for a person.
    pub open_conflicts: u64,
    /// When the oldest change was made that had not reached the other side.
    pub oldest_unsynced_at: Option<Timestamp>,
    /// When the comparison began.
    pub started_at: Timestamp,
    /// When it ended.
    pub checked_at: Timestamp,
}

/// What the database knows of an entity beside its records, and when the comparison took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// Conflicts that wait for a person.
    pub open_conflicts: u64,
    /// When the oldest change was made that had not reached the other side.
    pub oldest_unsynced_at: Option<Timestamp>,
    /// When the comparison began.
    pub started_at: Timestamp,
    /// When it ended.
    pub checked_at: Timestamp,
}

/// Both sides of one record.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// Keap's id.
    pub keap_id: &'a str,
    /// The row, a UUID.
    pub entity_id: &'a str,
    /// What Keap holds.
    pub keap: &'a Record,
    /// What the row holds.
    pub supabase: &'a Record,
    /// What of the record waits for a person: `field` or `field.slot`.
    pub open_conflicts: &'a [String],
    /// Whether an edit of the row is on its way to Keap.
    pub is_waiting: bool,
}

/// A comparison of both sides that is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Comparison {
    /// Keap's records.
    keap: HashTree,
    /// The live rows. One without a Keap id stands in the tree by its own id.
    supabase: HashTree,
    /// Leaves in which a record is known to differ, be it in what waits for a person.
    explained_leaves: BTreeSet<u8>,
    differing_count: u64,
    differences: Vec<Difference>,
}

impl Comparison {
    /// A comparison that has met no record.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a record that both sides have, and says whether they agree on it.
    pub fn pair(&mut self, pair: &Pair<'_>) -> bool {
        let keap_hash = record_hash(pair.keap);
        // Spelled alike, both have one hash.
        let supabase_hash =
            if pair.keap == pair.supabase { keap_hash.clone() } else { record_hash(pair.supabase) };
        self.keap.insert(pair.keap_id, &keap_hash);
        self.supabase.insert(pair.keap_id, &supabase_hash);
        if keap_hash == supabase_hash {
            return true;
        }
        self.explained_leaves.insert(HashTree::leaf_of(pair.keap_id));
        let fields = differing_fields(pair.keap, pair.supabase, pair.open_conflicts);
        if fields.is_empty() {
            return true;
        }
        let reason = if pair.is_waiting { DifferenceReason::Waiting } else { DifferenceReason::Differs };
        self.note(Difference {
            keap_id: Some(pair.keap_id.to_owned()),
            entity_id: Some(pair.entity_id.to_owned()),
            fields: fields.into_iter().map(str::to_owned).collect(),
            reason,
        });
        false
    }

    /// Takes a record of Keap that no live row stands for. `entity_id` names a deleted row, with `is_waiting` when its
    /// delete is on its way to Keap.
    pub fn only_in_keap(&mut self, keap_id: &str, keap: &Record, entity_id: Option<&str>, is_waiting: bool) {
        self.keap.insert(keap_id, &record_hash(keap));
        self.explained_leaves.insert(HashTree::leaf_of(keap_id));
        let reason = if is_waiting { DifferenceReason::Waiting } else { DifferenceReason::MissingInSupabase };
        self.note(Difference {
            keap_id: Some(keap_id.to_owned()),
            entity_id: entity_id.map(str::to_owned),
            fields: Vec::new(),
            reason,
        });
    }

    /// Takes a live row that no record of Keap stands for; `is_waiting` when its create is on its way.
    pub fn only_in_supabase(
        &mut self,
        entity_id: &str,
        supabase: &Record,
        keap_id: Option<&str>,
        is_waiting: bool,
    ) {
        let key = keap_id.unwrap_or(entity_id);
        self.supabase.insert(key, &record_hash(supabase));
        self.explained_leaves.insert(HashTree::leaf_of(key));
        let reason = if is_waiting { DifferenceReason::Waiting } else { DifferenceReason::MissingInKeap };
        self.note(Difference {
            keap_id: keap_id.map(str::to_owned),
            entity_id: Some(entity_id.to_owned()),
            fields: Vec::new(),
            reason,
        });
    }

    /// Adds what a comparison of other records found.
    pub fn merge(&mut self, other: Self) {
        self.keap.merge(&other.keap);
        self.supabase.merge(&other.supabase);
        self.explained_leaves.extend(other.explained_leaves);
        self.differing_count += other.differing_count;
        let room = DIFFERENCES_MAX.saturating_sub(self.differences.len());
        self.differences.extend(other.differences.into_iter().take(room));
    }

    /// The hash tree over Keap's records.
    #[must_use]
    pub fn keap_tree(&self) -> &HashTree {
        &self.keap
    }

    /// The hash tree over the rows.
    #[must_use]
    pub fn supabase_tree(&self) -> &HashTree {
        &self.supabase
    }

    /// The certificate, once every record of both sides was taken.
    #[must_use]
    pub fn certify(self, entity: EntityType, circumstances: Circumstances) -> EntityCertificate {
        let (keap_tree_hash, supabase_tree_hash) = (self.keap.root(), self.supabase.root());
        // Trees that differ where no record is known to: something was met on one side only, or twice. The certificate
        // must not say equal then, nor once the conflicts that account for a difference are settled.
        let differing_leaves = self.keap.differing_leaves(&self.supabase);
        let is_unexplained = differing_leaves.iter().any(|leaf| !self.explained_leaves.contains(leaf))
            || (!differing_leaves.is_empty() && circumstances.open_conflicts == 0);
        let differing_count = self.differing_count.max(u64::from(is_unexplained));
        EntityCertificate {
            entity,
            equal: differing_count == 0,
            keap_count: self.keap.count(),
            supabase_count: self.supabase.count(),
            keap_tree_hash,
            supabase_tree_hash,
            differing_count,
            differences: self.differences,
            open_conflicts: circumstances.open_conflicts,
            oldest_unsynced_at: circumstances.oldest_unsynced_at,
            started_at: circumstances.started_at,
            checked_at: circumstances.checked_at,
        }
    }

    fn note(&mut self, difference: Difference) {
        self.differing_count += 1;
        if self.differences.len() < DIFFERENCES_MAX {
            self.differences.push(difference);
        }
    }
}

/// The fields in which two records differ in canonical form, in the schema's order. What waits for a person is left
/// out: a field by its name, a slot or entry of one by `field.slot`.
#[must_use]
pub fn differing_fields(keap: &Record, supabase: &Record, open_conflicts: &[String]) -> Vec<&'static str> {
    fields(supabase.entity())
        .iter()
        .enumerate()
        .filter(|(position, field)| {
            field_differs(field, keap.get(*position), supabase.get(*position), open_conflicts)
        })
        .map(|(_, field)| field.name)
        .collect()
}

fn field_differs(field: &Field, keap: &Value, supabase: &Value, open_conflicts: &[String]) -> bool {
    if same(field.kind, keap, supabase) || open_conflicts.iter().any(|path| path == field.name) {
        return false;
    }
    if !matches!(field.kind, FieldKind::Slots(_) | FieldKind::Map) {
        return true;
    }
    let open_parts: Vec<&str> = open_conflicts
        .iter()
        .filter_map(|path| path.strip_prefix(field.name).and_then(|rest| rest.strip_prefix('.')))
        .collect();
    if open_parts.is_empty() {
        return true;
    }
    let closed_parts = |value: &Value| match canonical(field.kind, value) {
        Value::Object(mut parts) => {
            parts.retain(|name, _| !open_parts.contains(&name.as_str()));
            parts
        }
        _ => serde_json::Map::new(),
    };
    closed_parts(keap) != closed_parts(supabase)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn contact(values: &Value) -> Record {
        Record::from_object(EntityType::Contact, values.as_object().cloned().unwrap())
    }

    fn circumstances(open_conflicts: u64) -> Circumstances {
        Circumstances {
            open_conflicts,
            oldest_unsynced_at: None,
            started_at: Timestamp(1),
            checked_at: Timestamp(2),
        }
    }

    fn pair<'a>(keap: &'a Record, supabase: &'a Record, open_conflicts: &'a [String]) -> Pair<'a> {
        Pair { keap_id: "7", entity_id: "a", keap, supabase, open_conflicts, is_waiting: false }
    }

    #[test]
    fn sides_that_differ_in_spelling_alone_are_equal() {
        let mut comparison = Comparison::new();
        let keap = contact(&json!({"email": "a@X.io", "tags": ["2", "1"], "phone": "480 1"}));
        let row =
            contact(&json!({"email": "a@x.io ", "tags": ["1", "2"], "phone": "4801", "first_name": ""}));
        assert!(comparison.pair(&pair(&keap, &row, &[])));
        let certificate = comparison.certify(EntityType::Contact, circumstances(0));
        assert!(certificate.equal);
        assert_eq!(certificate.keap_tree_hash, certificate.supabase_tree_hash);
        assert_eq!((certificate.keap_count, certificate.supabase_count), (1, 1));
    }

    #[test]
    fn differing_fields_are_named_in_order_of_the_schema() {
        let keap = contact(&json!({"tags": ["1"], "email": "a@x.io", "company": "A"}));
        let row = contact(&json!({"tags": ["2"], "email": "b@x.io", "company": "B"}));
        assert_eq!(differing_fields(&keap, &row, &[]), ["email", "company", "tags"]);
        assert_eq!(differing_fields(&keap, &row, &["company".to_owned()]), ["email", "tags"]);
    }

    #[test]
    fn an_open_conflict_about_a_part_excuses_that_part_alone() {
        let slot = |name: &str, line: &str| json!({"field": name, "line1": line});
        let keap = contact(&json!({"addresses": [slot("BILLING", "k"), slot("OTHER", "1")]}));
        let same_elsewhere = contact(&json!({"addresses": [slot("BILLING", "s"), slot("OTHER", "1 ")]}));
        let not_elsewhere = contact(&json!({"addresses": [slot("BILLING", "s")]}));
        let open = ["addresses.BILLING".to_owned()];
        assert_eq!(differing_fields(&keap, &same_elsewhere, &open), Vec::<&str>::new());
        assert_eq!(differing_fields(&keap, &not_elsewhere, &open), ["addresses"]);
        // A conflict about a field whose name merely begins alike says nothing.
        assert_eq!(differing_fields(&keap, &same_elsewhere, &["address".to_owned()]), ["addresses"]);
        let mut comparison = Comparison::new();
        assert!(comparison.pair(&pair(&keap, &same_elsewhere, &open)));
        let certificate = comparison.certify(EntityType::Contact, circumstances(1));
        assert!(certificate.equal);
        assert_ne!(certificate.keap_tree_hash, certificate.supabase_tree_hash);
    }

    #[test]
    fn a_map_entry_with_a_dot_in_its_name_is_named_whole() {
        let keap = contact(&json!({"custom_fields": {"a.b": "1"}}));
        let row = contact(&json!({"custom_fields": {"a.b": "2"}}));
        assert_eq!(differing_fields(&keap, &row, &["custom_fields.a.b".to_owned()]), Vec::<&str>::new());
    }

    #[test]
    fn every_record_that_differs_says_why() {
        let (keap, row) = (contact(&json!({"email": "a@x.io"})), contact(&json!({"email": "b@x.io"})));
        let mut comparison = Comparison::new();
        assert!(!comparison.pair(&pair(&keap, &row, &[])));
        assert!(!comparison.pair(&Pair { is_waiting: true, keap_id: "8", ..pair(&keap, &row, &[]) }));
        comparison.only_in_keap("9", &keap, None, false);
        comparison.only_in_keap("10", &keap, Some("b"), true);
        comparison.only_in_supabase("c", &row, None, true);
        comparison.only_in_supabase("d", &row, Some("11"), false);
        let certificate = comparison.certify(EntityType::Contact, circumstances(0));
        assert!(!certificate.equal);
        assert_eq!((certificate.keap_count, certificate.supabase_count), (4, 4));
        assert_eq!(certificate.differing_count, 6);
        assert_eq!(
            serde_json::to_value(&certificate.differences).unwrap(),
            json!([
                {"keap_id": "7", "entity_id": "a", "fields": ["email"], "reason": "differs"},
                {"keap_id": "8", "entity_id": "a", "fields": ["email"], "reason": "waiting"},
                {"keap_id": "9", "entity_id": null, "fields": [], "reason": "missing_in_supabase"},
                {"keap_id": "10", "entity_id": "b", "fields": [], "reason": "waiting"},
                {"keap_id": null, "entity_id": "c", "fields": [], "reason": "waiting"},
                {"keap_id": "11", "entity_id": "d", "fields": [], "reason": "missing_in_keap"},
            ])
        );
    }

    #[test]
    fn only_the_first_differences_are_named() {
        let record = contact(&json!({}));
        let (mut first, mut second) = (Comparison::new(), Comparison::new());
        for number in 0..80 {
            first.only_in_keap(&number.to_string(), &record, None, false);
            second.only_in_keap(&(number + 80).to_string(), &record, None, false);
        }
        first.merge(second);
        let certificate = first.certify(EntityType::Contact, circumstances(0));
        assert_eq!(certificate.differing_count, 160);
        assert_eq!(certificate.differences.len(), DIFFERENCES_MAX);
        assert_eq!(certificate.keap_count, 160);
    }

    #[test]
    fn trees_that_nothing_explains_are_not_equal() {
        let record = contact(&json!({"email": "a@x.io"}));
        let mut comparison = Comparison::new();
        comparison.pair(&pair(&record, &record, &[]));
        // As if Keap had answered with one record twice.
        comparison.keap.insert("7", &record_hash(&record));
        // An open conflict of another record is no explanation.
        let (keap, row) = (contact(&json!({"email": "a@x.io"})), contact(&json!({"email": "b@x.io"})));
        let open = ["email".to_owned()];
        let other = Pair { keap_id: "8", ..pair(&keap, &row, &open) };
        assert_ne!(HashTree::leaf_of("7"), HashTree::leaf_of("8"));
        assert!(comparison.pair(&other));
        for open_conflicts in [0, 1] {
            let certificate = comparison.clone().certify(EntityType::Contact, circumstances(open_conflicts));
            assert!(!certificate.equal);
            assert_eq!(certificate.differing_count, 1);
        }
    }

    #[test]
    fn a_conflict_that_was_settled_meanwhile_excuses_nothing() {
        let (keap, row) = (contact(&json!({"email": "a@x.io"})), contact(&json!({"email": "b@x.io"})));
        let mut comparison = Comparison::new();
        comparison.pair(&pair(&keap, &row, &["email".to_owned()]));
        assert!(comparison.clone().certify(EntityType::Contact, circumstances(1)).equal);
        assert!(!comparison.certify(EntityType::Contact, circumstances(0)).equal);
    }

    #[test]
    fn a_comparison_travels_as_json() {
        let record = contact(&json!({"email": "a@x.io"}));
        let mut comparison = Comparison::new();
        comparison.only_in_keap("9", &record, None, false);
        let text = serde_json::to_string(&comparison).unwrap();
        assert_eq!(serde_json::from_str::<Comparison>(&text).unwrap(), comparison);
    }
}
