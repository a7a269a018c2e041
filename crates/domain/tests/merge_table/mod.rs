//! The shared table of merges, and random ones: what every implementation of the merge has to agree on.
//!
//! The table stands in docs/merge.md, for people. The program's merge runs it here, the SQL merge in the store's tests, and
//! the engine runs the lines about deletions.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test ends at the first thing that is not as it should be"
)]
#![allow(clippy::panic, reason = "a test ends at the first line that is not understood")]
#![allow(dead_code, reason = "each test file uses its part")]

pub mod document;
pub mod random;

use document::{Line, Recorded, Taken, lines};
use keapsync_domain::ids::EntityType;
use keapsync_domain::merge::{FieldValue, Merge, Side, Sides, reconcile};
use keapsync_domain::policy::{Policies, Policy};
use keapsync_domain::record::Record;
use keapsync_domain::schema::{Field, FieldKind, fields};
use keapsync_domain::timestamp::Timestamp;
use serde_json::{Value, json};

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

/// The merges of the table, each with what is to come out: a line without policies or without times has one for each of
/// them, because it comes out alike whatever they are. Lines about deletions are the engine's to run.
pub fn table() -> Vec<(MergeCase, Value)> {
    lines().iter().filter(|line| !line.is_about_deletion()).flat_map(cases_of).collect()
}

fn cases_of(line: &Line) -> Vec<(MergeCase, Value)> {
    let mut cases = Vec::new();
    for policies in policies_of(line) {
        for (later, keap_changed_at, supabase_changed_at) in times_of(line) {
            let case = MergeCase {
                name: format!("{} {} ({policies:?}, {later})", line.id, line.case),
                entity: line.entity,
                base: line.base.clone(),
                keap: line.keap.values.clone(),
                supabase: line.supabase.values.clone(),
                keap_changed_at,
                supabase_changed_at,
                policies: policies.clone(),
            };
            let expected = expected(line, &case);
            cases.push((case, expected));
        }
    }
    cases
}

fn policies_of(line: &Line) -> Vec<Policies> {
    let all = [Policy::NewestWins, Policy::KeapWins, Policy::SupabaseWins, Policy::Manual];
    match &line.policies {
        Some(policies) => vec![policies.clone()],
        None => all.map(|default| Policies { default, ..Policies::default() }).to_vec(),
    }
}

fn times_of(line: &Line) -> Vec<(&'static str, Option<Timestamp>, Option<Timestamp>)> {
    let noon = Timestamp(1_772_366_400_000);
    let known = [
        ("Keap", Some(noon), Some(noon.plus_ms(-3_600_000))),
        ("Supabase", Some(noon.plus_ms(-3_600_000)), Some(noon)),
        ("Supabase by 1 ms", Some(noon), Some(noon.plus_ms(1))),
        ("tie", Some(noon), Some(noon)),
        ("unknown", None, None),
        ("Keap unknown", None, Some(noon)),
        ("Supabase in 1960, Keap unknown", None, Some(Timestamp(-315_619_200_000))),
    ];
    if line.later.is_empty() {
        return known.to_vec();
    }
    let named = known.into_iter().find(|(later, ..)| *later == line.later);
    vec![named.unwrap_or_else(|| panic!("{}: no side is later by {}", line.id, line.later))]
}

/// What a line says is to come out, in the words of [`MergeCase::outcome`]: the values of a conflict are those that the
/// sides hold at its path.
fn expected(line: &Line, case: &MergeCase) -> Value {
    let taken = |taken: &Taken| match taken {
        Taken::Values(values) => Value::Object(values.clone()),
        Taken::Deletion => panic!("{}: a merge deletes nothing", line.id),
    };
    let conflicts: Vec<Value> = line
        .conflicts()
        .map(|(path, winner)| {
            let field = path.split('.').next().unwrap_or_default();
            json!({
                "path": path, "base": value_at(line.entity, &case.base, path), "keap": value_at(line.entity, &case.keap, path),
                "supabase": value_at(line.entity, &case.supabase, path),
                "policy": case.policies.of(line.entity, field).as_str(), "winner": winner,
            })
        })
        .collect();
    let refused: Vec<Value> = line
        .recorded
        .iter()
        .filter_map(|recorded| match recorded {
            Recorded::Refused(field) => Some(json!({
                "field": field, "reason": field_of(line.entity, field).access.refusal(),
                "value": value_at(line.entity, &case.supabase, field),
            })),
            _ => None,
        })
        .collect();
    let base_kept = line.recorded.iter().find_map(|recorded| match recorded {
        Recorded::BaseKept(values) => Some(values.clone()),
        _ => None,
    });
    json!({
        "to_supabase": taken(&line.to_supabase), "to_keap": taken(&line.to_keap),
        "base_kept": base_kept.unwrap_or_default(), "conflicts": conflicts, "refused": refused,
    })
}

fn field_of(entity: EntityType, name: &str) -> &'static Field {
    fields(entity)
        .iter()
        .find(|field| field.name == name)
        .unwrap_or_else(|| panic!("no {} has a {name}", entity.as_str()))
}

/// The value that a state holds at a path: a field's, or that of a slot or entry of it.
fn value_at(entity: EntityType, state: &Value, path: &str) -> Value {
    let (name, part) = path.split_once('.').unwrap_or((path, ""));
    let value = &state[name];
    let found = match field_of(entity, name).kind {
        _ if part.is_empty() => Some(value),
        FieldKind::Slots(kind) => {
            value.as_array().into_iter().flatten().rfind(|slot| slot[kind.key()] == part)
        }
        _ => value.get(part),
    };
    found.cloned().unwrap_or_default()
}
