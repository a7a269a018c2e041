//! Subscriptions: the plan that makes the key with contact and start, an amount, a number, a day, texts, and whether it bills.

use super::values::{amount, day, id_text, integer, text_number};
use super::{
    CUSTOM_FIELD_ID, Cells, Shape, custom_column, custom_item, custom_of, push_custom_fields, text_cell,
};
use keapsync_domain::record::Record;
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// The plan: each subscription has its own, so that the key is one.
pub(in crate::simulation) const PLAN: usize = 0;
const AMOUNT: usize = 1;
const QUANTITY: usize = 2;
const REASON: usize = 3;
const CUSTOM: usize = 4;
const END: usize = 5;

/// The day on which all begin.
const START: &str = "2030-01-01";

pub(super) static SHAPE: Shape = Shape {
    names: &["plan_id", "amount", "quantity", "cancel_reason", "custom_fields.12", "end_date"],
    read_only: None,
    required: &[PLAN, AMOUNT, QUANTITY, END],
    edited: &[AMOUNT, QUANTITY, REASON, CUSTOM, END],
    flags_name: "status",
    flags: 1,
};

/// Cells by column and property.
const CELLS: [(usize, &str, &str); 5] = [
    (PLAN, "plan_id", "subscription_plan_id"),
    (AMOUNT, "amount", "billing_amount"),
    (QUANTITY, "quantity", "quantity"),
    (REASON, "cancel_reason", "reason_stopped"),
    (END, "end_date", "end_date"),
];

pub(super) fn read(cells: &mut Cells, record: &Record) {
    for (cell, column, _) in CELLS {
        cells.set(cell, text_number(Some(record.get_by_name(column))));
    }
    cells.set(CUSTOM, custom_of(record));
    cells.flags = u8::from(record.get_by_name("status") == "active");
    let contact = record.get_by_name("keap_contact_id").as_str();
    cells.contact = contact.and_then(|id| id.parse().ok()).unwrap_or(0);
}

pub(super) fn columns(cells: &Cells, columns: &mut Map<String, Value>) {
    for (cell, column, _) in CELLS {
        let value = cells.get(cell);
        let shown = match cell {
            _ if value == 0 => Value::Null,
            PLAN => id_text(value).into(),
            AMOUNT => format!("{}.00", amount(value)).into(),
            QUANTITY => integer(value).into(),
            END => day(value).into(),
            _ => text_cell(value),
        };
        columns.insert(column.to_owned(), shown);
    }
    columns.insert("custom_fields".to_owned(), custom_column(cells.get(CUSTOM)));
    columns.insert("status".to_owned(), if cells.flags == 0 { "inactive" } else { "active" }.into());
}

/// What a new subscription needs besides.
pub(super) fn complete(columns: &mut Map<String, Value>) {
    columns.insert("start_date".to_owned(), START.into());
}

pub(super) fn to_wire(cells: &Cells, id: u64, updated_at: &str) -> String {
    let mut wire = format!(
        "{{\"id\":\"{id}\",\"modification_time\":\"{updated_at}\",\"contact_id\":\"{}\",\"product_id\":\"3\",\
         \"start_date\":\"{START}\",\"auto_charge\":false,\"active\":{}",
        cells.contact,
        cells.flags != 0
    );
    for (cell, _, property) in CELLS {
        let value = cells.get(cell);
        if value == 0 {
            continue;
        }
        let _ = match cell {
            PLAN => write!(wire, ",\"{property}\":\"{}\"", id_text(value)),
            AMOUNT => write!(wire, ",\"{property}\":{}.0", amount(value)),
            QUANTITY => write!(wire, ",\"{property}\":{}", integer(value)),
            END => write!(wire, ",\"{property}\":\"{}\"", day(value)),
            _ => write!(wire, ",\"{property}\":\"v{value}\""),
        };
    }
    push_custom_fields(&mut wire, cells.get(CUSTOM), None);
    wire.push('}');
    wire
}

pub(super) fn take(cells: &mut Cells, body: &Value, is_written: &impl Fn(&str) -> bool) {
    for (cell, _, property) in CELLS {
        if is_written(property) {
            cells.set(cell, text_number(body.get(property)));
        }
    }
    if is_written("custom_fields") {
        cells.set(CUSTOM, text_number(custom_item(body, CUSTOM_FIELD_ID)));
    }
    if is_written("active") {
        cells.flags = u8::from(body["active"] == true);
    }
    if is_written("contact_id") {
        let contact = body["contact_id"].as_str();
        cells.contact = contact.and_then(|id| id.parse().ok()).unwrap_or(0);
    }
}
