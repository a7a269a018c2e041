//! Contacts: texts, parts of lists, a custom field, and tags as a set.

use super::values::text_number;
use super::{
    CUSTOM_FIELD_ID, Cells, Shape, ValueNumber, custom_column, custom_item, custom_of, push_custom_fields,
    push_list,
};
use keapsync_domain::record::Record;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// Tags that contacts carry: a set, whose elements have no values of their own.
pub(in crate::simulation) const TAG_IDS: [&str; 3] = ["31", "32", "33"];

/// The company is Keap's alone.
const READ_ONLY: usize = 8;

pub(super) static SHAPE: Shape = Shape {
    names: &[
        "first_name",
        "last_name",
        "job_title",
        "email",
        "emails.EMAIL2",
        "phone",
        "addresses.BILLING",
        "custom_fields.12",
        "company",
    ],
    read_only: Some(READ_ONLY),
    required: &[],
    edited: &[0, 1, 2, 3, 4, 5, 6, 7, 8],
    flags_name: "tags",
    flags: 3,
};

/// How a value looks in a cell.
fn text_of(cell: usize, value: ValueNumber) -> String {
    match cell {
        3 | 4 => format!("v{value}@x.io"),
        5 => format!("480{value:07}"),
        _ => format!("v{value}"),
    }
}

fn slot<'a>(list: Option<&'a Value>, name: &str) -> Option<&'a Value> {
    list?.as_array()?.iter().find(|item| item["field"] == name)
}

/// Ids of the tags that are held.
fn tag_ids(bits: u8) -> impl Iterator<Item = &'static str> {
    TAG_IDS.into_iter().enumerate().filter(move |(bit, _)| bits & (1 << bit) != 0).map(|(_, id)| id)
}

/// The bits of the tags for which `holds` says yes.
pub(in crate::simulation) fn tag_bits(holds: impl Fn(&str) -> bool) -> u8 {
    TAG_IDS.iter().enumerate().filter(|(_, tag)| holds(tag)).fold(0, |bits, (bit, _)| bits | 1 << bit)
}

pub(super) fn read(cells: &mut Cells, record: &Record) {
    for (cell, name) in
        [(0, "first_name"), (1, "last_name"), (2, "job_title"), (3, "email"), (5, "phone"), (8, "company")]
    {
        cells.set(cell, text_number(Some(record.get_by_name(name))));
    }
    let second = slot(Some(record.get_by_name("emails")), "EMAIL2").map(|item| &item["email"]);
    cells.set(4, text_number(second));
    let billing = slot(Some(record.get_by_name("addresses")), "BILLING").map(|item| &item["line1"]);
    cells.set(6, text_number(billing));
    cells.set(7, custom_of(record));
    let held = record.get_by_name("tags").as_array();
    cells.flags = tag_bits(|tag| held.is_some_and(|held| held.iter().any(|one| one == tag)));
}

pub(super) fn columns(cells: &Cells, columns: &mut Map<String, Value>) {
    let text = |cell: usize| match cells.get(cell) {
        0 => Value::Null,
        value => text_of(cell, value).into(),
    };
    for cell in [0, 1, 2, 3, 5, 8] {
        columns.insert(cells.name(cell).to_owned(), text(cell));
    }
    let present = |cell: usize, value: Value| if cells.get(cell) == 0 { Value::Null } else { value };
    columns.insert("emails".to_owned(), present(4, json!([{"field": "EMAIL2", "email": text(4)}])));
    columns.insert("addresses".to_owned(), present(6, json!([{"field": "BILLING", "line1": text(6)}])));
    columns.insert("custom_fields".to_owned(), custom_column(cells.get(7)));
    let tags: Vec<&str> = tag_ids(cells.flags).collect();
    columns.insert("tags".to_owned(), if tags.is_empty() { Value::Null } else { json!(tags) });
}

pub(super) fn to_wire(cells: &Cells, id: u64, updated_at: &str, link: Option<&str>) -> String {
    let mut wire = format!("{{\"id\":\"{id}\",\"update_time\":\"{updated_at}\"");
    for (cell, name) in [(0, "given_name"), (1, "family_name"), (2, "job_title")] {
        if cells.get(cell) != 0 {
            let _ = write!(wire, ",\"{name}\":\"v{}\"", cells.get(cell));
        }
    }
    let item = |cell: usize, head: &str, key: &str| {
        (cells.get(cell) != 0)
            .then(|| format!("{{\"field\":\"{head}\",\"{key}\":\"{}\"}}", text_of(cell, cells.get(cell))))
    };
    push_list(&mut wire, "email_addresses", [item(3, "EMAIL1", "email"), item(4, "EMAIL2", "email")]);
    push_list(&mut wire, "phone_numbers", [item(5, "PHONE1", "number")]);
    push_list(&mut wire, "addresses", [item(6, "BILLING", "line1")]);
    push_custom_fields(&mut wire, cells.get(7), link);
    if cells.get(READ_ONLY) != 0 {
        let _ = write!(wire, ",\"company\":{{\"id\":\"5\",\"company_name\":\"v{}\"}}", cells.get(READ_ONLY));
    }
    push_list(&mut wire, "tag_ids", tag_ids(cells.flags).map(|tag| Some(format!("\"{tag}\""))));
    wire.push('}');
    wire
}

pub(super) fn take(cells: &mut Cells, body: &Value, is_written: &impl Fn(&str) -> bool) {
    for (cell, name) in [(0, "given_name"), (1, "family_name"), (2, "job_title")] {
        if is_written(name) {
            cells.set(cell, text_number(body.get(name)));
        }
    }
    for (cell, name, field, key) in [
        (3, "email_addresses", "EMAIL1", "email"),
        (4, "email_addresses", "EMAIL2", "email"),
        (5, "phone_numbers", "PHONE1", "number"),
        (6, "addresses", "BILLING", "line1"),
    ] {
        if is_written(name) {
            cells.set(cell, text_number(slot(body.get(name), field).and_then(|item| item.get(key))));
        }
    }
    if is_written("custom_fields") {
        cells.set(7, text_number(custom_item(body, CUSTOM_FIELD_ID)));
    }
}
