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
use crate::wire::{insert_filled, insert_present, integer_of, object_of, text_of};
use serde_json::{Map, Value};
use std::collections::HashSet;

/// Amounts of a line.
pub(super) const AMOUNTS: [&str; 3] = ["price_per_unit", "cost_per_unit", "discount"];

/// Texts of a line.
const TEXTS: [&str; 6] = ["id", "name", "description", "notes", "item_type", "subscription_id"];

/// Objects of which a line takes the id.
const LINKED: [(&str, &str); 2] = [("product_id", "product"), ("subscription_plan_id", "subscription_plan")];

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
