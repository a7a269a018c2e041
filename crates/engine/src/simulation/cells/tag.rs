//! Tags: a unique name, and a description.

use super::values::text_number;
use super::{Cells, Shape, text_cell};
use keapsync_domain::record::Record;
use serde_json::{Map, Value};
use std::fmt::Write as _;

pub(super) static SHAPE: Shape = Shape {
    names: &["name", "description"],
    read_only: None,
    required: &[0],
    edited: &[0, 1],
    flags_name: "",
    flags: 0,
};

pub(super) fn read(cells: &mut Cells, record: &Record) {
    for (cell, name) in SHAPE.names.iter().enumerate() {
        cells.set(cell, text_number(Some(record.get_by_name(name))));
    }
}

pub(super) fn columns(cells: &Cells, columns: &mut Map<String, Value>) {
    for (cell, name) in SHAPE.names.iter().enumerate() {
        columns.insert((*name).to_owned(), text_cell(cells.get(cell)));
    }
}

pub(super) fn to_wire(cells: &Cells, id: u64, updated_at: &str) -> String {
    let mut wire = format!("{{\"id\":\"{id}\",\"update_time\":\"{updated_at}\"");
    for (cell, name) in SHAPE.names.iter().enumerate() {
        if cells.get(cell) != 0 {
            let _ = write!(wire, ",\"{name}\":\"v{}\"", cells.get(cell));
        }
    }
    wire.push('}');
    wire
}

pub(super) fn take(cells: &mut Cells, body: &Value, is_written: &impl Fn(&str) -> bool) {
    for (cell, name) in SHAPE.names.iter().enumerate().filter(|(_, name)| is_written(name)) {
        cells.set(cell, text_number(body.get(name)));
    }
}
