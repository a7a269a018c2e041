//! Lines of an order: Keap's `OrderItem` as an object of `line_items`, and the steps that bring Keap's lines to ours.
//!
//! | key of a line | wire |
//! |---|---|
//! | `id`, `name`, `description`, `notes`, `quantity`, `item_type`, `subscription_id` | the same |
//! | `price_per_unit`, `cost_per_unit`, `discount` | the `CurrencyValue`'s amount as a decimal |
//! | `product_id` | `product.id` |
//! | `subscription_plan_id` | `subscription_plan.id` |
//!
//! The rest of an item (formatted amounts, the product's own data, the plan's) is `extra.order_items`, keyed by the
//! line's id, or by its position (`#2`) where it has none of its own.
//!
//! Keap takes lines one by one, and gives a new one its id. Two invariants follow. A line that waits to be made and one
//! that Keap has beyond the base, with the same content, are one and the same: so a line whose answer was lost is not made
//! twice. And whoever makes lines learns which of the row's lines became which of Keap's ([`PlannedLines::adopted`],
//! [`LineStep::Create`]), so that the row can be given the ids before the answer is merged.

use super::convert::{read_amount, write_amount};
use crate::money::{double_of_decimal, exponent, minor_of_decimal};
use crate::wire::{insert_filled, insert_present, integer_of, is_blank, object_of, plain_text, text_of};
use keapsync_domain::canonical::slot_entries;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::schema::SlotKind;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashSet};

/// Amounts of a line.
pub(super) const AMOUNTS: [&str; 3] = ["price_per_unit", "cost_per_unit", "discount"];

/// Texts of a line.
const TEXTS: [&str; 6] = ["id", "name", "description", "notes", "item_type", "subscription_id"];

/// Objects of which a line takes the id.
const LINKED: [(&str, &str); 2] = [("product_id", "product"), ("subscription_plan_id", "subscription_plan")];

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

/// How Keap's lines become ours.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlannedLines {
    /// Changes first, then new lines, deletes last, so that an order is never without lines in between.
    pub steps: Vec<LineStep>,
    /// Lines of the row that Keap has already under an id of its own: the row's name of the line, and the id.
    pub adopted: Vec<(String, String)>,
}

/// Reads Keap's items: the column's lines, and the rest.
pub(super) fn read(
    items: Vec<Value>,
    currency: Option<&str>,
) -> Result<(Vec<Value>, Map<String, Value>), String> {
    let mut lines = Vec::with_capacity(items.len());
    let mut rests = Vec::with_capacity(items.len());
    for item in items {
        let mut rest = object_of(item, "order_items")?;
        let mut line = Map::new();
        for key in TEXTS {
            if let Some(value) = rest.remove(key) {
                insert_present(&mut line, key, &text_of(value, &format!("order_items.{key}"))?.into());
            }
        }
        if let Some(value) = rest.remove("quantity") {
            insert_present(&mut line, "quantity", &integer_of(&value, "order_items.quantity")?.into());
        }
        for key in AMOUNTS {
            if let Some(value) = rest.remove(key) {
                let (decimal, amount_rest) = read_amount(value, &format!("order_items.{key}"), currency)?;
                insert_present(&mut line, key, &decimal);
                insert_filled(&mut rest, key, amount_rest);
            }
        }
        for (key, property) in LINKED {
            if let Some(value) = rest.remove(property) {
                let property_path = format!("order_items.{property}");
                let mut linked = object_of(value, &property_path)?;
                let id = linked.remove("id").unwrap_or(Value::Null);
                insert_present(&mut line, key, &text_of(id, &format!("{property_path}.id"))?.into());
                insert_filled(&mut rest, property, linked);
            }
        }
        rest.retain(|_, value| !value.is_null());
        lines.push(Value::Object(line));
        rests.push(rest);
    }
    let mut extra = Map::new();
    for (key, rest) in keys(&lines).into_iter().zip(rests) {
        insert_filled(&mut extra, &key, rest);
    }
    Ok((lines, extra))
}

/// The inverse of [`read`].
pub(super) fn write(lines: &Value, extra: &mut Map<String, Value>, currency: Option<&str>) -> Vec<Value> {
    let lines = lines.as_array().map(Vec::as_slice).unwrap_or_default();
    let items = keys(lines).into_iter().zip(lines).map(|(key, line)| {
        let mut item = match extra.remove(&key) {
            Some(Value::Object(rest)) => rest,
            _ => Map::new(),
        };
        for key in TEXTS {
            insert_present(&mut item, key, line.get(key).unwrap_or(&Value::Null));
        }
        insert_present(&mut item, "quantity", line.get("quantity").unwrap_or(&Value::Null));
        for key in AMOUNTS {
            let rest = match item.remove(key) {
                Some(Value::Object(rest)) => rest,
                _ => Map::new(),
            };
            let amount = write_amount(line.get(key).unwrap_or(&Value::Null), rest, currency);
            insert_filled(&mut item, key, amount);
        }
        for (key, property) in LINKED {
            let mut linked = match item.remove(property) {
                Some(Value::Object(rest)) => rest,
                _ => Map::new(),
            };
            insert_present(&mut linked, "id", line.get(key).unwrap_or(&Value::Null));
            insert_filled(&mut item, property, linked);
        }
        Value::Object(item)
    });
    items.collect()
}

/// Each line's id; its position where it has none or an earlier line has the same.
fn keys(lines: &[Value]) -> Vec<String> {
    let mut seen = HashSet::new();
    let named =
        lines.iter().enumerate().map(|(position, line)| match line.get("id").and_then(Value::as_str) {
            Some(id) if seen.insert(id) => id.to_owned(),
            _ => format!("#{position}"),
        });
    named.collect()
}

/// `CreateOrderItemRequest` of each line of a new order.
pub(super) fn create_bodies(lines: &Value, currency: Option<&str>) -> Result<Vec<Value>, Failure> {
    let places = currency.map_or(2, exponent);
    last_of_each(lines)
        .into_iter()
        .map(|(key, line)| create_body(&key, line, places).map(Value::Object))
        .collect()
}

/// The steps from Keap's lines to the wanted ones. `base` is what both sides last agreed on; it tells a line that a lost
/// answer left behind from one that was there before.
pub fn plan(
    base: &Value,
    wanted: &Value,
    remote: &Value,
    currency: Option<&str>,
) -> Result<PlannedLines, Failure> {
    let places = currency.map_or(2, exponent);
    let held: BTreeMap<String, &Value> = slot_entries(SlotKind::Item, remote).collect();
    let known: HashSet<String> = slot_entries(SlotKind::Item, base).map(|(key, _)| key).collect();
    let mut planned = PlannedLines::default();
    let mut creates = Vec::new();
    let mut new_lines = Vec::new();
    let mut kept: HashSet<String> = HashSet::new();
    for (key, line) in last_of_each(wanted) {
        // A person may spell an id as a number, which the list's own rule does not take for a name.
        let id = line.get("id").and_then(plain_text).filter(|id| held.contains_key(id));
        let Some((id, held_line)) = id.and_then(|id| held.get(&id).map(|held_line| (id, held_line))) else {
            new_lines.push((key, line));
            continue;
        };
        if key != id {
            planned.adopted.push((key, id.clone()));
        }
        if !kept.insert(id.clone()) {
            continue;
        }
        if let Some((mask, body)) = update_body(&id, line, held_line, places)? {
            planned.steps.push(LineStep::Update { id, mask, body });
        }
    }
    let mut claimed: HashSet<&str> = HashSet::new();
    for (key, line) in new_lines {
        let body = create_body(&key, line, places)?;
        let made = held.iter().find(|(id, held_line)| {
            !known.contains(*id) && !claimed.contains(id.as_str()) && is_made_of(held_line, &body, places)
        });
        match made {
            Some((id, _)) => {
                claimed.insert(id);
                kept.insert(id.clone());
                planned.adopted.push((key, id.clone()));
            }
            None => creates.push(LineStep::Create { key, body }),
        }
    }
    planned.steps.extend(creates);
    let gone = held.keys().filter(|id| !kept.contains(*id)).cloned();
    planned.steps.extend(gone.map(|id| LineStep::Delete { id }));
    Ok(planned)
}

/// The row's lines with Keap's ids in place: what the row is to hold before Keap's answer is merged into it. A line that
/// the list names twice this way is kept once.
#[must_use]
pub fn with_ids(lines: &Value, adopted: &[(String, String)]) -> Value {
    let mut seen = HashSet::new();
    let mut named = Vec::new();
    for (key, line) in slot_entries(SlotKind::Item, lines) {
        let id = adopted.iter().find(|(name, _)| *name == key).map_or(key.as_str(), |(_, id)| id.as_str());
        if !seen.insert(id.to_owned()) {
            continue;
        }
        let mut line = line.clone();
        if let Some(object) = line.as_object_mut().filter(|_| id != key) {
            object.insert("id".to_owned(), id.into());
        }
        named.push(line);
    }
    Value::Array(named)
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
        "quantity" => match text.parse::<i32>() {
            Ok(quantity) if quantity >= 1 => Ok(Some(quantity.into())),
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
    let item_type = line.get("item_type").and_then(plain_text).unwrap_or_else(|| "PRODUCT".to_owned());
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

type Change = (Vec<&'static str>, Map<String, Value>);

fn update_body(id: &str, line: &Value, held: &Value, places: u32) -> Result<Option<Change>, Failure> {
    refuse_unknown_keys(id, line)?;
    for name in ["item_type", "subscription_id", "discount"] {
        let (ours, theirs) = (line.get(name), held.get(name));
        if !is_same(name, ours, theirs, places) {
            return Err(refused(
                id,
                &format!(
                    "has another {name} than in Keap, which can't change it: put it back, or add a new line"
                ),
            ));
        }
    }
    let (mut mask, mut body) = (Vec::new(), Map::new());
    for name in UPDATED {
        if is_same(name, line.get(name), held.get(name), places) {
            continue;
        }
        let Some(value) = property(line, id, name, places)? else {
            return Err(refused(id, &format!("has no {name}, and Keap can't clear it: put a value there")));
        };
        mask.push(name);
        body.insert(name.to_owned(), value);
    }
    Ok((!mask.is_empty()).then_some((mask, body)))
}

fn refuse_unknown_keys(key: &str, line: &Value) -> Result<(), Failure> {
    let known = |name: &str| name == "item_type" || UPDATED.contains(&name) || DERIVED.contains(&name);
    let unknown =
        line.as_object().into_iter().flatten().find(|(name, value)| !known(name) && !is_blank(value));
    match unknown {
        None => Ok(()),
        Some((name, _)) => {
            let shown: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
            Err(refused(key, &format!("has '{shown}', which Keap's lines do not have: remove it")))
        }
    }
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
