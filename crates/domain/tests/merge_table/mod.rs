//! The shared table of merges, and random ones: what every implementation of the merge has to agree on.
//!
//! `merge_cases.json` holds three states of a record, times, policies and what is to come out, with empty parts left out.
//! The program's merge runs it here, the SQL merge in the store's tests.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]
#![allow(dead_code, reason = "each test file uses its part")]

pub mod random;

use keapsync_domain::ids::EntityType;
use keapsync_domain::merge::{FieldValue, Merge, Side, Sides, reconcile};
use keapsync_domain::policy::Policies;
use keapsync_domain::record::Record;
use keapsync_domain::schema::fields;
use keapsync_domain::timestamp::Timestamp;
use serde_json::{Map, Value, json};

/// One merge: its states and, for a case of the table, what is to come out.
#[derive(Clone, Debug)]
pub struct MergeCase {
    pub name: String,
    pub entity: EntityType,
    pub base: Value,
    pub keap: Value,
    pub supabase: Value,
    pub keap_changed_at: Option<Timestamp>,
    pub supabase_changed_at: Option<Timestamp>,
    pub policies: Policies,
}

impl MergeCase {
    /// What the program makes of it.
    pub fn merge(&self) -> Merge {
        let (base, keap, supabase) =
            (self.record(&self.base), self.record(&self.keap), self.record(&self.supabase));
        let sides = Sides {
            base: &base,
            keap: &keap,
            supabase: &supabase,
            keap_changed_at: self.keap_changed_at,
            supabase_changed_at: self.supabase_changed_at,
        };
        reconcile(&sides, &self.policies)
    }

    /// One of its states as a record.
    pub fn record(&self, values: &Value) -> Record {
        Record::from_object(self.entity, values.as_object().cloned().expect("a state is an object"))
    }

    /// The same as [`Self::merge`], in the words of the table.
    pub fn outcome(&self) -> Value {
        let merge = self.merge();
        let values = |values: &[FieldValue]| -> Value {
            let named = values.iter().map(|change| {
                let field = fields(self.entity).get(change.position).expect("the position is of the schema");
                (field.name.to_owned(), change.value.clone())
            });
            Value::Object(named.collect())
        };
        let conflicts = merge.conflicts.iter().map(|conflict| {
            json!({
                "path": conflict.path, "base": conflict.base, "keap": conflict.keap, "supabase": conflict.supabase,
                "policy": conflict.policy.as_str(), "winner": conflict.winner.map(Side::as_str),
            })
        });
        let refused = merge
            .refused
            .iter()
            .map(|edit| json!({"field": edit.field, "reason": edit.reason, "value": edit.value}));
        json!({
            "to_supabase": values(&merge.to_supabase), "to_keap": values(&merge.to_keap),
            "base_kept": values(&merge.base_kept), "conflicts": conflicts.collect::<Vec<_>>(),
            "refused": refused.collect::<Vec<_>>(),
        })
    }
}

/// The table: cases, each with what is to come out.
pub fn table() -> Vec<(MergeCase, Value)> {
    let cases: Vec<Map<String, Value>> =
        serde_json::from_str(include_str!("../merge_cases.json")).expect("the table is JSON");
    cases.into_iter().map(read_case).collect()
}

fn read_case(mut case: Map<String, Value>) -> (MergeCase, Value) {
    let mut expected =
        json!({"to_supabase": {}, "to_keap": {}, "base_kept": {}, "conflicts": [], "refused": []});
    let given =
        case.remove("expect").and_then(|value| value.as_object().cloned()).expect("a case expects something");
    for (key, value) in given {
        assert!(expected.get(&key).is_some(), "a case expects {key}, which no merge has");
        expected.as_object_mut().expect("the outcome is an object").insert(key, value);
    }
    let mut taken = |key: &str| case.remove(key).unwrap_or_default();
    let time = |value: Value| {
        value.as_str().map(|text| Timestamp::parse_rfc3339(text).expect("the time of a case is RFC 3339"))
    };
    let policies = match taken("policies") {
        Value::Null => Policies::default(),
        value => serde_json::from_value(value).expect("the policies of a case are readable"),
    };
    let read = MergeCase {
        name: taken("name").as_str().expect("a case has a name").to_owned(),
        entity: EntityType::from_name(taken("entity").as_str().expect("a case has an entity"))
            .expect("the entity of a case is known"),
        base: taken("base"),
        keap: taken("keap"),
        supabase: taken("supabase"),
        keap_changed_at: time(taken("keap_changed_at")),
        supabase_changed_at: time(taken("supabase_changed_at")),
        policies,
    };
    assert!(case.is_empty(), "the case {:?} says what no merge knows: {case:?}", read.name);
    (read, expected)
}
