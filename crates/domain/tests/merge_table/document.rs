//! The table of cases as docs/merge.md has it. Each line is read here, and whatever is not understood ends the test, so
//! that no line of the document goes without one.

use keapsync_domain::ids::EntityType;
use keapsync_domain::policy::{Policies, Policy};
use serde_json::{Map, Value};

/// The document.
const DOCUMENT: &str = include_str!("../../../../docs/merge.md");

/// The table's heading, by which it is found.
const HEADING: &str =
    "| id | record | case | base | Keap | Supabase | policy | later | to Supabase | to Keap | recorded |";

/// The settings that the `policy` cell of a line may name beside policies.
const DELETE_IN_KEAP: &str = "delete_in_keap";

/// One side of a record before the merge.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// Its values.
    pub values: Value,
    /// Whether it was deleted, after it had these values.
    pub is_deleted: bool,
}

/// What a side is to take.
#[derive(Clone, Debug, PartialEq)]
pub enum Taken {
    /// These values; `deleted_at` as null brings the record back.
    Values(Map<String, Value>),
    /// The record's deletion.
    Deletion,
}

/// What is recorded of a line's merge.
#[derive(Clone, Debug, PartialEq)]
pub enum Recorded {
    /// A conflict about this path, and whose value stood: `keap`, `supabase`, or none while it is open.
    Conflict(String, Option<&'static str>),
    /// An edit of this field that Keap does not take.
    Refused(String),
    /// What of the base stays while a person decides.
    BaseKept(Map<String, Value>),
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Line {
    pub id: String,
    pub entity: EntityType,
    pub case: String,
    pub base: Value,
    pub keap: Held,
    pub supabase: Held,
    /// `None`: whatever the policies are.
    pub policies: Option<Policies>,
    /// Whether the account lets deletes through to Keap; `None`: either way.
    pub delete_in_keap: Option<bool>,
    /// Which side changed later; empty: whichever.
    pub later: String,
    pub to_supabase: Taken,
    pub to_keap: Taken,
    pub recorded: Vec<Recorded>,
}

impl Line {
    /// Whether a record was deleted: such lines are the engine's to run, the others the merge's.
    pub fn is_about_deletion(&self) -> bool {
        self.keap.is_deleted || self.supabase.is_deleted
    }

    /// The conflicts that are recorded: path and winner.
    pub fn conflicts(&self) -> impl Iterator<Item = (&str, Option<&'static str>)> {
        self.recorded.iter().filter_map(|recorded| match recorded {
            Recorded::Conflict(path, winner) => Some((path.as_str(), *winner)),
            _ => None,
        })
    }
}

/// Every line of the table, in order.
pub fn lines() -> Vec<Line> {
    let (_, behind) = DOCUMENT.split_once(HEADING).expect("docs/merge.md has the table of cases");
    let mut rows = behind.lines().skip(1);
    assert!(rows.next().is_some_and(|rule| rule.starts_with("|---|")), "a rule stands under the heading");
    let lines: Vec<Line> = rows.take_while(|row| row.starts_with('|')).map(read_line).collect();
    assert!(!lines.is_empty(), "the table of cases has lines");
    lines
}

fn read_line(row: &str) -> Line {
    let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
    let [id, entity, case, base, keap, supabase, policy, later, to_supabase, to_keap, recorded] =
        cells.as_slice()
    else {
        panic!("{} cells in {row}", cells.len())
    };
    let base = Value::Object(members(base).unwrap_or_else(|| panic!("{id}: no base is {base}")));
    let held = |cell: &str| held(cell, &base).unwrap_or_else(|| panic!("{id}: no side is {cell}"));
    let taken = |cell: &str| match cell {
        "deleted" => Taken::Deletion,
        _ => Taken::Values(members(cell).unwrap_or_else(|| panic!("{id}: nothing to take is {cell}"))),
    };
    let (policies, delete_in_keap) = settings(policy);
    Line {
        id: (*id).to_owned(),
        entity: EntityType::from_name(entity).unwrap_or_else(|| panic!("{id}: no record is {entity}")),
        case: (*case).to_owned(),
        keap: held(keap),
        supabase: held(supabase),
        policies,
        delete_in_keap,
        later: (*later).to_owned(),
        to_supabase: taken(to_supabase),
        to_keap: taken(to_keap),
        recorded: recorded
            .split("; ")
            .filter(|entry| !entry.is_empty())
            .map(|entry| read_recorded(entry).unwrap_or_else(|| panic!("{id}: nothing recorded is {entry}")))
            .collect(),
        base,
    }
}

/// The members of an object in code, without its braces; a dash for none.
fn members(cell: &str) -> Option<Map<String, Value>> {
    if cell == "–" {
        return Some(Map::new());
    }
    let code = cell.strip_prefix('`')?.strip_suffix('`')?;
    serde_json::from_str(&format!("{{{code}}}")).ok()
}

/// A side: its members, `=` for the base's, and whether it is deleted.
fn held(cell: &str, base: &Value) -> Option<Held> {
    if cell == "deleted" {
        return Some(Held { values: base.clone(), is_deleted: true });
    }
    let (values, is_deleted) = match cell.strip_suffix(", then deleted") {
        Some(values) => (values, true),
        None => (cell, false),
    };
    let values = if values == "=" { base.clone() } else { Value::Object(members(values)?) };
    Some(Held { values, is_deleted })
}

/// The policies that a cell names, and whether deletes go to Keap.
fn settings(cell: &str) -> (Option<Policies>, Option<bool>) {
    let (mut policies, mut delete_in_keap) = (None, None);
    for entry in cell.split(", ").filter(|entry| !entry.is_empty()) {
        let (key, value) = entry.split_once(": ").unwrap_or(("", entry));
        if key == DELETE_IN_KEAP {
            delete_in_keap = Some(value.parse().expect("delete_in_keap is true or false"));
            continue;
        }
        let policy: Policy = serde_json::from_value(value.into()).expect("a policy has one of four names");
        let policies = policies.get_or_insert_with(Policies::default);
        match key {
            "" => policies.default = policy,
            _ => drop(policies.overrides.insert(key.to_owned(), policy)),
        }
    }
    (policies, delete_in_keap)
}

fn read_recorded(entry: &str) -> Option<Recorded> {
    let code = |text: &str| Some(text.strip_prefix('`')?.strip_suffix('`')?.to_owned());
    if let Some(field) = entry.strip_prefix("refused ") {
        return Some(Recorded::Refused(code(field)?));
    }
    if let Some(base) = entry.strip_prefix("base ") {
        return Some(Recorded::BaseKept(members(base)?));
    }
    let (path, winner) = entry.strip_prefix("conflict ")?.rsplit_once(": ")?;
    let winner = match winner {
        "Keap" => Some("keap"),
        "Supabase" => Some("supabase"),
        "open" => None,
        _ => return None,
    };
    Some(Recorded::Conflict(code(path)?, winner))
}
