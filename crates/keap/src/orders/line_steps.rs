//! Bringing Keap's lines of an order to ours, line by line.
//!
//! Keap takes lines one by one and gives a new one its id, so between the call and its answer a line has two names: its
//! position in the row's list, and Keap's id. Three invariants follow.
//!
//! - A line that waits to be made and one that Keap has beyond the base, with the same content, are one and the same
//!   ([`adopted`]). So a line whose answer was lost is not made twice, and a hook that tells of the new line before our
//!   answer does puts no second one into the row.
//! - Before Keap's lines are merged, the row's take their ids, and the base takes these lines as they were sent
//!   ([`aligned`]). So what Keap fills in (a product's name, its price) is Keap's change and no conflict.
//! - The lines of a new order are known by the base, which holds them as they were sent. So a line that was
//!   edited or taken off while the order was on its way is that line, and no further one.
//!
//! What is not caught: a line that was added to an order that Keap has, whose answer was lost and which was edited before the
//! retry; and one whose text Keap changed. It is made again, once.

use super::lines::AMOUNTS;
use crate::edits::Refusal;
use crate::money::{double_of_decimal, exponent, minor_of_decimal};
use crate::wire::{is_blank, plain_text, whole_number};
use keapsync_domain::canonical::slot_entries;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::EntityType;
use keapsync_domain::record::Record;
use keapsync_domain::schema::SlotKind;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashSet};

/// What `UpdateOrderItemRequest` takes.
const UPDATED: [&str; 8] = [
    "name",
    "description",
    "notes",
    "quantity",
    "price_per_unit",
    "cost_per_unit",
    "product_id",
    "subscription_plan_id",
];

/// What a line has that no write takes.
const DERIVED: [&str; 3] = ["id", "subscription_id", "discount"];

/// Kinds of line that `CreateOrderItemRequest` takes; the others Keap makes by itself.
const CREATED_TYPES: [&str; 13] = [
    "PRODUCT",
    "SHIPPING",
    "TAX",
    "FINANCE_CHARGE",
    "SUBSCRIPTION",
    "DISCOUNT",
    "DISCOUNT_FREE_TRIAL",
    "DISCOUNT_ORDER_TOTAL",
    "DISCOUNT_PRODUCT",
    "DISCOUNT_PRODUCT_CATEGORY",
    "DISCOUNT_SHIPPING",
    "OTHER",
    "FEE",
];

/// One call that brings Keap's lines nearer to ours.
#[derive(Clone, Debug, PartialEq)]
pub enum LineStep {
    /// Make a line.
    Create {
        /// How the row's list names it.
        key: String,
        /// `CreateOrderItemRequest`.
        body: Map<String, Value>,
    },
    /// Change properties of a line.
    Update {
        /// Keap's id of the line.
        id: String,
        /// The properties.
        mask: Vec<&'static str>,
        /// `UpdateOrderItemRequest`.
        body: Map<String, Value>,
    },
    /// Delete a line.
    Delete {
        /// Keap's id of the line.
        id: String,
    },
}

/// `CreateOrderItemRequest` of each line of a new order.
pub(super) fn create_bodies(lines: &Value, currency: Option<&str>) -> Result<Vec<Value>, Failure> {
    let places = currency.map_or(2, exponent);
    last_of_each(lines)
        .into_iter()
        .map(|(key, line)| create_body(&key, line, places).map(Value::Object))
        .collect()
}

/// The row's lines that Keap has already under an id of its own: the row's name of each (`#2` by position), and the id.
/// `base` is what both sides last agreed on; it tells a line that a lost answer left behind from one that was there before.
#[must_use]
pub fn adopted(base: &Value, ours: &Value, remote: &Value, currency: Option<&str>) -> Vec<(String, String)> {
    let places = currency.map_or(2, exponent);
    let held: BTreeMap<String, &Value> = slot_entries(SlotKind::Item, remote).collect();
    let mut claimed: HashSet<String> = slot_entries(SlotKind::Item, base).map(|(key, _)| key).collect();
    let entries = last_of_each(ours);
    claimed.extend(entries.iter().map(|(key, _)| key.clone()));
    let mut adopted = Vec::new();
    for (key, line) in entries.into_iter().filter(|(key, _)| !held.contains_key(key)) {
        // A person may put blanks about an id, with which the list's own rule takes it for another name.
        if let Some(id) = line.get("id").and_then(plain_text).filter(|id| held.contains_key(id)) {
            claimed.insert(id.clone());
            adopted.push((key, id));
            continue;
        }
        // What can't be made was not made either.
        let Ok(body) = create_body(&key, line, places) else { continue };
        let made = held.iter().find(|(id, line)| !claimed.contains(*id) && is_made_of(line, &body, places));
        if let Some((id, _)) = made {
            claimed.insert(id.clone());
            adopted.push((key, id.clone()));
        }
    }
    adopted
}

/// A base and a row in which lines are called as Keap calls them.
#[derive(Clone, Debug, PartialEq)]
pub struct Aligned {
    /// The base, with the lines that were sent as they were sent.
    pub base: Record,
    /// The row.
    pub row: Record,
}

/// The base and the row as a merge with `remote` is to see them; `None` where they are that already. `sent` names the lines
/// that were made just now ([`Written::made_lines`](crate::records::Written::made_lines)); others are recognised.
#[must_use]
pub fn aligned(base: &Record, row: &Record, remote: &Record, sent: &[(String, String)]) -> Option<Aligned> {
    if row.entity() != EntityType::Order {
        return None;
    }
    let [base_lines, row_lines, held] = [base, row, remote].map(|record| record.get_by_name("line_items"));
    let currency = remote.get_by_name("currency").as_str();
    let row_lines = with_ids(row_lines, sent);
    let made = named_by_base(base_lines, &row_lines, held, currency);
    let is_made = made.is_some();
    let (base_lines, row_lines) = made.unwrap_or_else(|| (base_lines.clone(), row_lines));
    let recognised = adopted(&base_lines, &row_lines, held, currency);
    if sent.is_empty() && recognised.is_empty() && !is_made {
        return None;
    }
    let row_lines = with_ids(&row_lines, &recognised);
    let is_named = |key: &String| sent.iter().chain(&recognised).any(|(name, id)| name == key || id == key);
    // Each in its place: a line without an id is called by its position, which is to stay the same in both lists.
    let id_of = |key: &str| names_of(sent, &recognised).find(|(name, _)| *name == key).map(|(_, id)| id);
    let row_entries = last_of_each(&row_lines);
    let mut taken: Vec<(String, &Value)> = row_entries.into_iter().filter(|(key, _)| is_named(key)).collect();
    let mut lines: Vec<Value> = Vec::new();
    for (key, line) in last_of_each(&base_lines) {
        // A position says nothing of another list.
        if !has_id(line) {
            lines.push(line.clone());
            continue;
        }
        let id = id_of(&key).unwrap_or(&key);
        match taken.iter().position(|(name, _)| name == id) {
            Some(position) => lines.push(taken.remove(position).1.clone()),
            None if is_named(&key) => {}
            None => lines.push(line.clone()),
        }
    }
    lines.extend(taken.into_iter().map(|(_, line)| line.clone()));
    let base_lines = Value::Array(lines);
    let with_lines = |record: &Record, lines: Value| {
        let mut record = record.clone();
        record.set_by_name("line_items", lines);
        record
    };
    Some(Aligned { base: with_lines(base, base_lines), row: with_lines(row, row_lines) })
}

/// The base and the row, with Keap's ids in the lines of the base that were sent without one and that Keap has made, and in the lines
/// that the row has of them; `None` where there are none.
///
/// A line of the row is the one of the base that it equals, best at the same place. One that equals none is the one at its place,
/// edited, when that is of its kind, because Keap changes no line's kind; all else is a new line, and what is left of the base was
/// taken off. Where the row's line was edited or taken off, what Keap filled in counts as sent: nobody has changed it since.
fn named_by_base(
    base: &Value,
    ours: &Value,
    remote: &Value,
    currency: Option<&str>,
) -> Option<(Value, Value)> {
    let places = currency.map_or(2, exponent);
    let held: BTreeMap<String, &Value> = slot_entries(SlotKind::Item, remote).collect();
    let (base, ours) = (last_of_each(base), last_of_each(ours));
    let mut claimed: HashSet<&str> = base.iter().chain(&ours).map(|(key, _)| key.as_str()).collect();
    let mut made: Vec<MadeLine<'_>> = Vec::new();
    for (place, (key, sent)) in base.iter().enumerate().filter(|(_, (_, line))| !has_id(line)) {
        let Ok(body) = create_body(key, sent, places) else { continue };
        let found =
            held.iter().find(|(id, line)| !claimed.contains(id.as_str()) && is_made_of(line, &body, places));
        if let Some((id, held)) = found {
            claimed.insert(id);
            made.push(MadeLine { place, id, sent, held, row: None });
        }
    }
    if made.is_empty() {
        return None;
    }
    let mut open: Vec<(usize, &Value)> =
        ours.iter().map(|(_, line)| *line).enumerate().filter(|(_, line)| !has_id(line)).collect();
    for is_it in [
        |line: &MadeLine<'_>, place: usize, row: &Value| line.place == place && line.sent == row,
        |line: &MadeLine<'_>, _: usize, row: &Value| line.sent == row,
        |line: &MadeLine<'_>, place: usize, row: &Value| {
            line.place == place && kind_of(line.sent) == kind_of(row)
        },
    ] {
        open.retain(|(place, row)| {
            let found = made.iter_mut().find(|line| line.row.is_none() && is_it(line, *place, row));
            found.map(|line| line.row = Some((*place, row))).is_none()
        });
    }
    let at = |place: usize| made.iter().find(|line| line.place == place);
    let base_lines = base.iter().enumerate().map(|(place, (_, line))| match at(place) {
        None => (*line).clone(),
        Some(made) if made.row.is_some_and(|(_, row)| row == made.sent) => with_id(line, made.id),
        Some(made) => filled_in(with_id(line, made.id), made.held, made.row.map(|(_, row)| row)),
    });
    let of_row = |place: usize| made.iter().find(|line| line.row.is_some_and(|(at, _)| at == place));
    let row_lines = ours.iter().enumerate().map(|(place, (_, line))| match of_row(place) {
        None => (*line).clone(),
        Some(made) if *line == made.sent => with_id(line, made.id),
        Some(made) => filled_in(with_id(line, made.id), made.held, Some(made.sent)),
    });
    Some((base_lines.collect(), row_lines.collect()))
}

/// A line that was sent without an id and that Keap has made.
struct MadeLine<'a> {
    /// Its place in the base.
    place: usize,
    id: &'a String,
    sent: &'a Value,
    held: &'a Value,
    /// The row's line of it and its place there.
    row: Option<(usize, &'a Value)>,
}

/// The line with Keap's values of what neither it nor the `other` says.
fn filled_in(mut line: Value, held: &Value, other: Option<&Value>) -> Value {
    let says = |line: &Value, name: &str| line.get(name).is_some_and(|value| !is_blank(value));
    for (name, value) in held.as_object().into_iter().flatten() {
        if !says(&line, name) && !other.is_some_and(|other| says(other, name)) {
            line.as_object_mut().map(|line| line.insert(name.clone(), value.clone()));
        }
    }
    line
}

fn has_id(line: &Value) -> bool {
    line.get("id").and_then(plain_text).is_some()
}

/// Its item type; what says none is a product.
fn kind_of(line: &Value) -> String {
    line.get("item_type").and_then(plain_text).unwrap_or_else(|| "PRODUCT".to_owned())
}

fn names_of<'a>(
    sent: &'a [(String, String)],
    recognised: &'a [(String, String)],
) -> impl Iterator<Item = (&'a str, &'a String)> {
    sent.iter().chain(recognised).map(|(name, id)| (name.as_str(), id))
}

/// What brings Keap's lines to the wanted ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinePlan {
    /// The calls: changes first, then new lines, deletes last, so that an order is never without lines in between.
    pub steps: Vec<LineStep>,
    /// What no call can carry: a line that can't be made, or one property of a line. It keeps nothing else back.
    pub refused: Vec<Refusal>,
}

/// Plans the steps from Keap's lines to the wanted ones.
#[must_use]
pub fn plan(base: &Value, wanted: &Value, remote: &Value, currency: Option<&str>) -> LinePlan {
    let places = currency.map_or(2, exponent);
    let mut held: BTreeMap<String, &Value> = slot_entries(SlotKind::Item, remote).collect();
    let adopted = adopted(base, wanted, remote, currency);
    let wanted = with_ids(wanted, &adopted);
    let (mut plan, mut creates) = (LinePlan::default(), Vec::new());
    for (key, line) in last_of_each(&wanted) {
        match held.remove(&key) {
            Some(held_line) => {
                // What a new line left to Keap is Keap's to say; from a line that was there it was taken away.
                let is_new = adopted.iter().any(|(_, id)| *id == key);
                plan.steps.extend(update(key, line, held_line, places, is_new, &mut plan.refused));
            }
            None => match create_body(&key, line, places) {
                Ok(body) => creates.push(LineStep::Create { body, key }),
                Err(failure) => plan.refused.push(refusal(&key, None, line.clone(), failure.message)),
            },
        }
    }
    plan.steps.extend(creates);
    plan.steps.extend(held.into_keys().map(|id| LineStep::Delete { id }));
    plan
}

/// A line, or one of its properties, that is not taken.
pub(crate) fn refusal(line: &str, key: Option<&str>, sent: Value, reason: String) -> Refusal {
    Refusal {
        field: "line_items",
        part: Some(line.to_owned()),
        key: key.map(str::to_owned),
        sent: Some(sent),
        reason,
    }
}

/// Lines with Keap's ids in place. A line that the list then names twice is kept once.
fn with_ids(lines: &Value, names: &[(String, String)]) -> Value {
    let mut seen = HashSet::new();
    let mut kept = Vec::new();
    for (key, line) in last_of_each(lines) {
        let id = names.iter().find(|(name, _)| *name == key).map_or(key.as_str(), |(_, id)| id.as_str());
        if !seen.insert(id.to_owned()) {
            continue;
        }
        kept.push(if id == key { line.clone() } else { with_id(line, id) });
    }
    Value::Array(kept)
}

fn with_id(line: &Value, id: &str) -> Value {
    let mut line = line.clone();
    if let Some(object) = line.as_object_mut() {
        object.insert("id".to_owned(), id.into());
    }
    line
}

/// The lines with their names, in order. Of several with one name the last counts, as it does in the merge.
fn last_of_each(lines: &Value) -> Vec<(String, &Value)> {
    let mut entries: Vec<(String, &Value)> = slot_entries(SlotKind::Item, lines).collect();
    let mut seen = HashSet::new();
    entries.reverse();
    entries.retain(|(key, _)| seen.insert(key.clone()));
    entries.reverse();
    entries
}

fn refused(key: &str, fault: &str) -> Failure {
    Failure::new(FailureClass::Invalid, format!("line_items: line {key} {fault}"))
}

fn property(line: &Value, key: &str, name: &str, places: u32) -> Result<Option<Value>, Failure> {
    let Some(value) = line.get(name).filter(|value| plain_text(value).is_some()) else { return Ok(None) };
    let text = plain_text(value).unwrap_or_default();
    match name {
        "quantity" => match whole_number(value) {
            Some(quantity) if quantity >= 1 => Ok(Some(quantity.into())),
            _ => Err(refused(key, "needs a whole quantity of 1 or more: correct it")),
        },
        "price_per_unit" | "cost_per_unit" => double_of_decimal(value, places)
            .map(Some)
            .map_err(|fault| refused(key, &format!("{name} {fault}"))),
        _ => Ok(Some(text.into())),
    }
}

fn create_body(key: &str, line: &Value, places: u32) -> Result<Map<String, Value>, Failure> {
    refuse_unknown_keys(key, line)?;
    let item_type = kind_of(line);
    if !CREATED_TYPES.contains(&item_type.as_str()) {
        return Err(refused(key, "has an item_type that Keap makes no lines of: use PRODUCT or OTHER"));
    }
    let is_sold = matches!(item_type.as_str(), "PRODUCT" | "SUBSCRIPTION");
    let mut body = Map::from_iter([("item_type".to_owned(), Value::from(item_type.as_str()))]);
    for name in UPDATED {
        let takes = is_sold || !matches!(name, "cost_per_unit" | "product_id" | "subscription_plan_id");
        if let Some(value) = property(line, key, name, places)?.filter(|_| takes) {
            body.insert(name.to_owned(), value);
        }
    }
    if !body.contains_key("quantity") {
        return Err(refused(key, "needs a quantity: give it one"));
    }
    if is_sold && !body.contains_key("product_id") {
        return Err(refused(key, "needs the product_id of a product in Keap, or the item_type OTHER"));
    }
    if item_type == "SUBSCRIPTION" && !body.contains_key("subscription_plan_id") {
        return Err(refused(key, "needs a subscription_plan_id, because its item_type is SUBSCRIPTION"));
    }
    if !is_sold && !body.contains_key("price_per_unit") {
        return Err(refused(key, "needs a price_per_unit, because it sells no product: give it one"));
    }
    Ok(body)
}

fn update(
    id: String,
    line: &Value,
    held: &Value,
    places: u32,
    is_new: bool,
    refusals: &mut Vec<Refusal>,
) -> Option<LineStep> {
    let mut refuse = |name: &str, failure: Failure| {
        let sent = line.get(name).cloned().unwrap_or_default();
        refusals.push(refusal(&id, Some(name), sent, failure.message));
    };
    for name in
        line.as_object().into_iter().flatten().filter_map(|(name, value)| unknown_key(name.as_str(), value))
    {
        refuse(name, unknown(&id, name));
    }
    for name in ["item_type", "subscription_id", "discount"] {
        let (ours, theirs) = (line.get(name), held.get(name));
        if ours.is_some_and(|value| !is_blank(value)) && !is_same(name, ours, theirs, places) {
            let fault = format!(
                "has another {name} than in Keap, which can't change it: put it back, or add a new line"
            );
            refuse(name, refused(&id, &fault));
        }
    }
    let (mut mask, mut body) = (Vec::new(), Map::new());
    for name in UPDATED {
        if is_same(name, line.get(name), held.get(name), places) {
            continue;
        }
        match property(line, &id, name, places) {
            Ok(Some(value)) => {
                mask.push(name);
                body.insert(name.to_owned(), value);
            }
            Ok(None) if is_new => {}
            Ok(None) => {
                let fault = format!("has no {name}, and Keap can't clear it: put a value there");
                refuse(name, refused(&id, &fault));
            }
            Err(failure) => refuse(name, failure),
        }
    }
    (!mask.is_empty()).then_some(LineStep::Update { id, mask, body })
}

fn refuse_unknown_keys(key: &str, line: &Value) -> Result<(), Failure> {
    let mut names =
        line.as_object().into_iter().flatten().filter_map(|(name, value)| unknown_key(name.as_str(), value));
    names.next().map_or(Ok(()), |name| Err(unknown(key, name)))
}

/// The name of what Keap's lines do not have.
fn unknown_key<'a>(name: &'a str, value: &Value) -> Option<&'a str> {
    let is_known = name == "item_type" || UPDATED.contains(&name) || DERIVED.contains(&name);
    (!is_known && !is_blank(value)).then_some(name)
}

fn unknown(key: &str, name: &str) -> Failure {
    let shown: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
    refused(key, &format!("has '{shown}', which Keap's lines do not have: remove it"))
}

/// Whether Keap's line is what that create would have made. What the create left to Keap may be anything.
fn is_made_of(held: &Value, body: &Map<String, Value>, places: u32) -> bool {
    body.iter().all(|(name, value)| is_same(name, Some(value), held.get(name), places))
}

fn is_same(name: &str, left: Option<&Value>, right: Option<&Value>, places: u32) -> bool {
    let form = |value: Option<&Value>| {
        let text = value.and_then(plain_text)?;
        if !AMOUNTS.contains(&name) {
            return Some(text);
        }
        let spelled = text.parse::<f64>().map_or(text.clone(), |double| double.to_string());
        let minor = minor_of_decimal(&text, places).or_else(|| minor_of_decimal(&spelled, places));
        Some(minor.map_or(text, |minor| minor.to_string()))
    };
    form(left) == form(right)
}
