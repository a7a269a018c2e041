//! Orders: texts, an address, a custom field, lines of which each has a call of its own, and what Keap derives of them.

use super::values::text_number;
use super::{
    CUSTOM_FIELD_ID, Cells, Line, Lines, Shape, custom_column, custom_item, custom_of, push_custom_fields,
    text_cell,
};
use keapsync_domain::record::Record;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// Where it goes.
const ADDRESS: usize = 3;

/// The custom field.
const CUSTOM: usize = 4;

/// The status is Keap's alone.
const STATUS: usize = 5;

pub(super) static SHAPE: Shape = Shape {
    names: &["title", "order_number", "notes", "shipping_address", "custom_fields.12", "status"],
    read_only: Some(STATUS),
    required: &[0],
    edited: &[0, 1, 2, 3, 4, 5],
    flags_name: "",
    flags: 0,
};

/// Texts: the cell, the column, the property as it is read, and as it is written.
const TEXTS: [(usize, &str, &str, &str); 4] = [
    (0, "title", "title", "order_title"),
    (1, "order_number", "invoice_number", "invoice_number"),
    (2, "notes", "notes", "notes"),
    (STATUS, "status", "status", ""),
];

pub(super) fn read(cells: &mut Cells, record: &Record) {
    for (cell, column, ..) in TEXTS {
        cells.set(cell, text_number(Some(record.get_by_name(column))));
    }
    cells.set(ADDRESS, text_number(record.get_by_name("shipping_address").get("line1")));
    cells.set(CUSTOM, custom_of(record));
    cells.contact = id_of(Some(record.get_by_name("keap_contact_id")));
    cells.lines = lines_of(record.get_by_name("line_items"));
}

fn id_of(value: Option<&Value>) -> u64 {
    value.and_then(Value::as_str).and_then(|id| id.parse().ok()).unwrap_or(0)
}

/// Lines of a column or of a body.
fn lines_of(items: &Value) -> Lines {
    let mut lines = Lines::default();
    for item in items.as_array().into_iter().flatten() {
        lines.push(Line { id: id_of(item.get("id")), value: text_number(item.get("name")) });
    }
    lines
}

pub(super) fn columns(cells: &Cells, columns: &mut Map<String, Value>) {
    for (cell, column, ..) in TEXTS {
        columns.insert(column.to_owned(), text_cell(cells.get(cell)));
    }
    let address = match cells.get(ADDRESS) {
        0 => Value::Null,
        value => json!({"line1": format!("v{value}")}),
    };
    columns.insert("shipping_address".to_owned(), address);
    columns.insert("custom_fields".to_owned(), custom_column(cells.get(CUSTOM)));
    let line = |line: &Line| {
        let mut item = json!({"name": format!("v{}", line.value), "item_type": "OTHER", "quantity": 1, "price_per_unit": "1.00"});
        if line.id != 0 {
            item["id"] = line.id.to_string().into();
        }
        item
    };
    let lines: Vec<Value> = cells.lines.iter().map(line).collect();
    columns.insert("line_items".to_owned(), if lines.is_empty() { Value::Null } else { lines.into() });
}

/// What a new order needs besides.
pub(super) fn complete(columns: &mut Map<String, Value>) {
    columns.insert("order_type".to_owned(), "ONLINE".into());
    columns.insert("order_date".to_owned(), "2026-01-01T00:00:00Z".into());
}

pub(super) fn to_wire(cells: &Cells, id: u64, updated_at: &str, link: Option<&str>) -> String {
    let mut wire = format!(
        "{{\"id\":\"{id}\",\"modification_time\":\"{updated_at}\",\"contact\":{{\"id\":\"{}\"}},\"order_type\":\"ONLINE\",\
         \"order_time\":\"2026-01-01T00:00:00Z\",\"total\":{{\"amount\":{},\"currency_code\":\"USD\"}}",
        cells.contact,
        cells.lines.len() * 100
    );
    for (cell, _, property, _) in TEXTS {
        if cells.get(cell) != 0 {
            let _ = write!(wire, ",\"{property}\":\"v{}\"", cells.get(cell));
        }
    }
    if cells.get(ADDRESS) != 0 {
        let _ = write!(
            wire,
            ",\"shipping_information\":{{\"id\":\"9\",\"address\":{{\"line1\":\"v{}\"}}}}",
            cells.get(ADDRESS)
        );
    }
    push_custom_fields(&mut wire, cells.get(CUSTOM), link);
    let item = |line: &Line| {
        format!(
            "{{\"id\":\"{}\",\"name\":\"v{}\",\"item_type\":\"OTHER\",\"quantity\":1,\
             \"price_per_unit\":{{\"amount\":100,\"currency_code\":\"USD\"}}}}",
            line.id, line.value
        )
    };
    super::push_list(&mut wire, "order_items", cells.lines.iter().map(|line| Some(item(line))));
    wire.push('}');
    wire
}

pub(super) fn take(cells: &mut Cells, body: &Value, is_written: &impl Fn(&str) -> bool) {
    for (cell, _, _, property) in TEXTS {
        if !property.is_empty() && is_written(property) {
            cells.set(cell, text_number(body.get(property)));
        }
    }
    if is_written("shipping_address") {
        cells.set(ADDRESS, text_number(body["shipping_address"].get("line1")));
    }
    if is_written("custom_fields") {
        cells.set(CUSTOM, text_number(custom_item(body, CUSTOM_FIELD_ID)));
    }
    if is_written("contact_id") {
        cells.contact = id_of(body.get("contact_id"));
    }
    if is_written("order_items") {
        cells.lines = lines_of(&body["order_items"]);
    }
}

/// What is shown as the total of an order with that many lines.
pub(in crate::simulation) fn total_of(lines: usize) -> String {
    format!("{lines}.00")
}
