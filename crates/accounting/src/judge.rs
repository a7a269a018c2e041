//! Where edits ended, and whether what was sent to Keap was anybody's.

use crate::grammar::{Edit, Takes};
use crate::keap::Sent;
use crate::parts::{Parts, decimal, digits, field_of, is_blank, is_same, parts_of, says_same, unit_of};
use crate::store::Noted;
use keapsync_domain::ids::EntityType;
use keapsync_domain::remote::RemoteRecord;
use keapsync_engine::ports::RowState;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Where an edit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// On both sides.
    Carried,
    /// In a conflict, settled or open.
    InConflict,
    /// Refused or restored, with a word on the row and in the audit log.
    Refused,
    /// Replaced by a later edit of the same part, here or after it was carried there.
    Replaced,
}

impl Fate {
    /// For people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Carried => "on both sides",
            Self::InConflict => "in a conflict",
            Self::Refused => "refused or restored with a word",
            Self::Replaced => "replaced by a later edit of the same part",
        }
    }
}

/// A row and its record when everything has come to rest.
#[derive(Debug)]
pub struct Rest<'a> {
    /// Kind of record.
    pub entity: EntityType,
    /// The row's parts.
    pub here: &'a Parts,
    /// Keap's.
    pub there: &'a Parts,
    /// `sync_status`.
    pub state: RowState,
    /// `sync_error`.
    pub word: Option<&'a str>,
    /// What was noted of the row since the edits.
    pub noted: &'a [Noted],
    /// Parts that people edited in Keap since then.
    pub in_keap: &'a BTreeSet<&'a str>,
    /// What people wrote in the row since then, in order.
    pub edits: &'a [Edit],
    /// What Keap held after each of our writes since then, where that is known.
    pub reached: &'a [Parts],
    /// The same of those whose answers were lost.
    pub unanswered: &'a [Parts],
}

static ABSENT: Value = Value::Null;

fn at<'a>(parts: &'a Parts, path: &str) -> &'a Value {
    parts.get(path).unwrap_or(&ABSENT)
}

/// Whether a value is the one that was written, in every digit.
fn is_written(entity: EntityType, edit: &Edit, value: &Value) -> bool {
    if let (Some(written), Some(held)) = (decimal(&edit.json), digits(value)) {
        return written == held;
    }
    if let (Some(written), Some(text)) = (decimal(&edit.json), value.as_str()) {
        return decimal(text) == Some(written);
    }
    is_same(entity, &edit.path, &edit.value(), value)
}

impl Rest<'_> {
    fn is_in_conflict(&self, path: &str, is_open: bool) -> bool {
        let unit = unit_of(path);
        let mut conflicts = self.noted.iter().flat_map(|noted| &noted.conflicts);
        conflicts.any(|(field, winner)| {
            (field == unit || field == field_of(path)) && (!is_open || winner.is_none())
        })
    }

    /// Whether the audit log keeps the field's value, and the row said so.
    fn is_told(&self, path: &str) -> bool {
        let field = field_of(path);
        let is_kept = self.noted.iter().any(|noted| {
            noted.lost.keys().any(|name| {
                name == field || unit_of(path).starts_with(name.as_str()) || path.starts_with(name.as_str())
            })
        });
        is_kept && self.is_said(path)
    }

    fn is_said(&self, path: &str) -> bool {
        let names = names_of(field_of(path));
        let said = |word: &str| names.iter().any(|name| word.contains(name));
        self.word.is_some_and(said) || self.noted.iter().filter_map(|noted| noted.word.as_deref()).any(said)
    }

    /// Where the edit ended, or what is wrong.
    pub fn fate(&self, edit: &Edit) -> Result<Fate, String> {
        let (here, there) = (at(self.here, &edit.path), at(self.there, &edit.path));
        let is_equal = is_same(self.entity, &edit.path, here, there);
        if is_equal && is_written(self.entity, edit, there) {
            return Ok(Fate::Carried);
        }
        let unit = unit_of(&edit.path);
        let is_changed_there = self.in_keap.iter().any(|path| unit_of(path) == unit);
        let others: BTreeSet<&str> =
            self.edits.iter().map(|edit| edit.path.as_str()).filter(|path| *path != edit.path).collect();
        let had_it = self.reached.iter().any(|parts| is_written(self.entity, edit, at(parts, &edit.path)));
        if self.is_in_conflict(&edit.path, !is_equal) {
            let has_other_side = is_changed_there || is_moved_with(self.entity, &edit.path, self.in_keap);
            // What Keap made of a write whose answer was lost cannot be told from what somebody did there.
            let is_unanswered = edit.takes != Takes::Yes
                && self
                    .unanswered
                    .iter()
                    .any(|parts| is_same(self.entity, &edit.path, at(parts, &edit.path), there));
            if has_other_side || is_unanswered {
                return Ok(Fate::InConflict);
            }
            if is_equal && had_it && others.iter().any(|path| says_same(path, &edit.path)) {
                return Ok(Fate::Replaced);
            }
            return Err("in a conflict, and nobody edited that in Keap".to_owned());
        }
        let said = self.word.unwrap_or("nothing");
        // What merges as one is refused as one: half an address is no address. Nor is it known what Keap takes of one that was
        // changed there as well.
        let mut in_unit = self.edits.iter().filter(|other| unit_of(&other.path) == unit);
        let takes_unit = !is_changed_there && in_unit.all(|other| other.takes == Takes::Yes);
        if is_equal {
            // Carried, and then replaced: in Keap, or by what Keap does with another edit.
            if had_it && (is_changed_there || is_moved_with(self.entity, &edit.path, &others)) {
                return Ok(Fate::Replaced);
            }
            // A name that is left blank beside its code, and what was only spelled otherwise while somebody changed it.
            let is_said_otherwise = others.iter().any(|path| says_same(path, &edit.path));
            let says_nothing = is_derived(&edit.path) && is_blank(&edit.value());
            if says_nothing && is_said_otherwise || edit.respells && (is_said_otherwise || is_changed_there) {
                return Ok(Fate::Replaced);
            }
            if takes_unit {
                return Err(format!("Keap takes it, and it is on neither side; the row says {said}"));
            }
            if self.is_told(&edit.path) {
                return Ok(Fate::Refused);
            }
            let kept = self.noted.iter().any(|noted| noted.lost.contains_key(field_of(&edit.path)));
            let what = if kept { "the row never named it" } else { "the audit log keeps nothing of it" };
            return Err(format!("restored without a word: {what}; the row says {said}"));
        }
        match self.state {
            RowState::Completed => Err("completed with a difference".to_owned()),
            RowState::Error if takes_unit => {
                Err(format!("Keap takes it, and it is held back; the row says {said}"))
            }
            RowState::Error if self.is_said(&edit.path) => Ok(Fate::Refused),
            state => Err(format!("not carried, row {}; it says {said}", state.as_str())),
        }
    }
}

/// What a word may call a field: its column and Keap's property.
fn names_of(field: &str) -> [&str; 2] {
    let property = match field {
        "email" | "emails" => "email_addresses",
        "phone" | "phones" => "phone_numbers",
        "first_name" => "given_name",
        "last_name" => "family_name",
        "lead_source_id" => "leadsource_id",
        "title" => "order_title",
        "order_date" => "order_time",
        "order_number" => "invoice_number",
        "custom_fields" => "custom field",
        "tags" => "tag",
        "line_items" => "order item",
        "amount" => "billing_amount",
        "cancel_reason" => "reason_stopped",
        "plan_id" => "subscription_plan_id",
        "status" => "active",
        other => other,
    };
    [field, property]
}

/// Parts that Keap moves by itself with one that was edited.
#[must_use]
pub fn is_moved_with(entity: EntityType, path: &str, edited: &BTreeSet<&str>) -> bool {
    let unit = unit_of(path);
    let key = path.rsplit('.').next().unwrap_or_default();
    let sibling =
        |names: &[&str]| names.iter().any(|name| edited.contains(format!("{unit}.{name}").as_str()));
    let field = field_of(path);
    match (entity, field) {
        (EntityType::Contact, "emails") => {
            sibling(&["email"]) || key != "email" && sibling(&["opt_in_reason"])
        }
        (EntityType::Contact, "opt_in_status" | "extra") => edited.contains("email"),
        (EntityType::Contact, "phones") => sibling(&["number"]),
        (EntityType::Contact, "addresses") | (EntityType::Order, "shipping_address") => {
            let place: Vec<&str> = path.rsplitn(2, '.').collect();
            let prefix = place.get(1).copied().unwrap_or_default();
            let sibling = |names: &[&str]| {
                names.iter().any(|name| edited.contains(format!("{prefix}.{name}").as_str()))
            };
            // An order's address is written as a whole, under names of which one stands for two that are read.
            let is_rewritten = entity == EntityType::Order && !edited.is_empty();
            match key {
                "region" | "region_code" | "zip_code" | "postal_code" if is_rewritten => true,
                "region" | "region_code" => sibling(&["region", "region_code", "country_code"]),
                "country" | "country_code" => sibling(&["country", "country_code"]),
                "zip_code" | "postal_code" | "zip_four" => sibling(&["zip_code", "postal_code", "zip_four"]),
                _ => false,
            }
        }
        (EntityType::Order, "total_amount" | "due_amount" | "paid_amount" | "status" | "refund_amount") => {
            true
        }
        (EntityType::Order, "line_items") => edited.iter().any(|path| unit_of(path) == unit),
        (EntityType::Subscription, "end_date" | "next_bill_date" | "cancel_reason") => {
            edited.contains("status")
        }
        (EntityType::Subscription, "billing_cycle" | "billing_frequency" | "product_id" | "product_name") => {
            edited.contains("plan_id")
        }
        (EntityType::Tag, "category") => edited.contains("category_id"),
        _ => false,
    }
}

/// Whether Keap alone says what stands at a path, from other parts of the same slot.
#[must_use]
pub fn is_derived(path: &str) -> bool {
    let key = path.rsplit('.').next().unwrap_or_default();
    let field = field_of(path);
    match field {
        "phones" => key == "number_e164",
        "addresses" | "shipping_address" => matches!(key, "country" | "region" | "zip_code" | "zip_four"),
        _ => false,
    }
}

/// The edits that people made of one row since it was last at rest, and what else its writes may hold.
#[derive(Debug, Default)]
pub struct Wanted<'a> {
    /// The row's id.
    pub row_id: &'a str,
    /// What people wrote, by path: each value.
    pub edits: BTreeMap<&'a str, Vec<&'a Edit>>,
    /// Units in conflict.
    pub conflicts: BTreeSet<&'a str>,
}

/// All that is held: the parts, and the rest by path.
fn all_of(remote: &RemoteRecord) -> Parts {
    let mut parts = parts_of(&remote.record);
    for (name, value) in remote.extra.to_object() {
        if name == "email1" || name == "phone1" {
            for (key, value) in value.as_object().into_iter().flatten() {
                parts.insert(format!("extra.{name}.{key}"), value.clone());
            }
        }
    }
    parts
}

/// What a write changed or sent that nobody asked for; one line each.
#[must_use]
pub fn unasked(sent: &Sent, wanted: &Wanted<'_>) -> Vec<String> {
    let mut problems = Vec::new();
    let edited: BTreeSet<&str> = wanted.edits.keys().copied().collect();
    if let (Some(before), Some(after)) = (&sent.before, &sent.after) {
        let (before, after) = (all_of(before), all_of(after));
        let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for path in paths {
            let (old, new) = (at(&before, path), at(&after, path));
            if is_same(sent.entity, path, old, new) || wanted.conflicts.contains(unit_of(path)) {
                continue;
            }
            if path.ends_with("opt_in_reason") {
                let is_written = wanted.edits.contains_key(path.as_str());
                let is_address_gone = new.is_null()
                    && (edited.contains("email")
                        || edited.iter().any(|known| unit_of(known) == unit_of(path)));
                if !is_written && !is_address_gone {
                    problems.push(format!("{path} became {new} in Keap, and nobody wrote that"));
                }
                continue;
            }
            if path.starts_with("extra.") {
                continue;
            }
            let is_wanted = wanted.edits.get(path.as_str()).is_some_and(|edits| {
                edits.iter().any(|edit| {
                    is_written(sent.entity, edit, new) || is_blank(&edit.value()) && is_blank(new)
                })
            });
            if !is_wanted && !is_moved_with(sent.entity, path, &edited) {
                problems.push(format!("{path} went from {old} to {new} in Keap, and nobody wrote that"));
            }
        }
    }
    consent(sent, wanted, &mut problems);
    strange_values(sent, wanted, &mut problems);
    problems
}

/// A reason for consent goes only where a person wrote it.
fn consent(sent: &Sent, wanted: &Wanted<'_>, problems: &mut Vec<String>) {
    let items = sent.body.get("email_addresses").and_then(Value::as_array);
    for item in items.into_iter().flatten() {
        let Some(reason) = item.get("opt_in_reason").filter(|reason| !is_blank(reason)) else { continue };
        let slot = item.get("field").and_then(Value::as_str).unwrap_or_default();
        let path = format!("emails.{slot}.opt_in_reason");
        let edits = wanted.edits.get(path.as_str());
        if !edits.is_some_and(|edits| edits.iter().any(|edit| is_written(sent.entity, edit, reason))) {
            problems.push(format!("sent opt_in_reason {reason} for {slot}, and nobody wrote that"));
        }
    }
}

/// Every value of a body is somebody's, or is what Keap held.
fn strange_values(sent: &Sent, wanted: &Wanted<'_>, problems: &mut Vec<String>) {
    let Some(before) = &sent.before else { return };
    if !wanted.conflicts.is_empty() || sent.call.contains("contacts:") {
        return;
    }
    let held = all_of(before);
    let spellings: BTreeSet<String> = held.values().map(spelling).collect();
    let written = || wanted.edits.values().flatten();
    let mut leaves = Vec::new();
    collect(&sent.body, "", &mut leaves);
    for (name, value) in leaves {
        let is_name = matches!(name, "field" | "id" | "opt_in_reason");
        // A place is sent in the form that Keap takes: by its code.
        let keys: &[&str] = match name {
            "country_code" => &["country"],
            "region_code" | "region" => &["region", "region_code"],
            "zip_code" | "postal_code" => &["zip_code", "postal_code", "zip_four"],
            _ => &[],
        };
        if wanted.edits.keys().any(|path| keys.iter().any(|key| path.ends_with(&format!(".{key}")))) {
            continue;
        }
        let is_status = name == "active";
        if is_name || is_status || is_blank(value) || value.as_str() == Some(wanted.row_id) {
            continue;
        }
        let spelled = spelling(value);
        let is_known = spellings.contains(&spelled)
            || written().any(|edit| spelling(&edit.value()) == spelled || edit.value() == *value);
        if !is_known {
            problems.push(format!("sent {name} {value}, which nobody wrote and Keap did not hold"));
        }
    }
}

/// What is left of a value when its spelling is taken away.
fn spelling(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Array(items) => items.iter().map(spelling).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    };
    if let Some(number) = decimal(&text) {
        return number;
    }
    let text = text.to_lowercase();
    // A moment in UTC, however its zone and fraction are written.
    text.replace("+00:00", "z").replace(".000z", "z")
}

fn collect<'a>(value: &'a Value, name: &'a str, leaves: &mut Vec<(&'a str, &'a Value)>) {
    match value {
        Value::Object(object) => object.iter().for_each(|(name, value)| collect(value, name, leaves)),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for item in items {
                collect(item, name, leaves);
            }
        }
        other => leaves.push((name, other)),
    }
}
