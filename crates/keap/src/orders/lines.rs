//! Lines of an order: Keap's `OrderItem` as an object of `line_items`, both ways.
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
//! How lines get into Keap is [`line_steps`](super::line_steps).

use super::convert::{read_amount, write_amount};
use crate::wire::{WireObject, WireValue, insert_filled, insert_present, integer_of, object_of, text_of};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Amounts of a line.
pub(super) const AMOUNTS: [&str; 3] = ["price_per_unit", "cost_per_unit", "discount"];

/// Texts of a line.
const TEXTS: [&str; 6] = ["id", "name", "description", "notes", "item_type", "subscription_id"];

/// Objects of which a line takes the id.
const LINKED: [(&str, &str); 2] = [("product_id", "product"), ("subscription_plan_id", "subscription_plan")];

/// Reads Keap's items: the column's lines, and the rest.
pub(super) fn read<'a>(
    items: Vec<WireObject<'a>>,
    currency: Option<&str>,
) -> Result<(Vec<Value>, WireObject<'a>), String> {
    let mut lines = Vec::with_capacity(items.len());
    let mut rests = Vec::with_capacity(items.len());
    for item in items {
        let (mut line, mut rest) = (Map::new(), WireObject::default());
        for (key, value) in item {
            read_entry(key, value, currency, &mut line, &mut rest)
                .map_err(|fault| format!("order_items.{fault}"))?;
        }
        lines.push(Value::Object(line));
        rests.push(rest);
    }
    let mut extra = WireObject::default();
    for (key, rest) in keys(&lines).into_iter().zip(rests) {
        extra.insert_filled(key, rest);
    }
    Ok((lines, extra))
}

/// Divides one property of an item among its line and the rest.
fn read_entry<'a>(
    key: Cow<'a, str>,
    value: WireValue<'a>,
    currency: Option<&str>,
    line: &mut Map<String, Value>,
    rest: &mut WireObject<'a>,
) -> Result<(), String> {
    if TEXTS.contains(&key.as_ref()) {
        if let Some(text) = text_of(value, &key)? {
            line.insert(key.into_owned(), Value::String(text));
        }
    } else if key == "quantity" {
        if let Some(quantity) = integer_of(&value, &key)? {
            line.insert(key.into_owned(), quantity.into());
        }
    } else if AMOUNTS.contains(&key.as_ref()) {
        let (decimal, amount_rest) = read_amount(value, &key, currency)?;
        if !decimal.is_null() {
            line.insert(key.as_ref().to_owned(), decimal);
        }
        rest.insert_filled(key, amount_rest);
    } else if let Some((linked_key, _)) = LINKED.iter().find(|(_, property)| *property == key) {
        let mut linked = object_of(value, &key)?;
        let id = linked.remove("id").unwrap_or_default();
        if let Some(id) = text_of(id, "id").map_err(|fault| format!("{key}.{fault}"))? {
            line.insert((*linked_key).to_owned(), Value::String(id));
        }
        rest.insert_filled(key, linked);
    } else if !value.is_null() {
        rest.insert(key, value);
    }
    Ok(())
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
    let mut seen = BTreeSet::new();
    let named =
        lines.iter().enumerate().map(|(position, line)| match line.get("id").and_then(Value::as_str) {
            Some(id) if seen.insert(id) => id.to_owned(),
            _ => format!("#{position}"),
        });
    named.collect()
}
