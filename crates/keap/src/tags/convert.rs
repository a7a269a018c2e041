//! A tag on Keap's wire (v2 schema `Tag`) and as a record, both ways.
//!
//! | field | wire |
//! |---|---|
//! | `name`, `description` | the same |
//! | `category_id` | `category.id`; the rest is `extra.category` |
//! | `category` | the category's name, from the list of categories; no part of the tag |
//!
//! The category's name is joined by [`names`](crate::names). [`tag_to_wire`] gives back what [`tag_from_wire`] read.

use crate::wire::{
    WireObject, extra_object, insert_filled, insert_present, object_of, pair, plain_text, text_of, time_at,
};
use keapsync_domain::ids::EntityType;
use keapsync_domain::record::Record;
use keapsync_domain::remote::RemoteRecord;
use keapsync_domain::timestamp::Timestamp;
use serde_json::{Map, Value, json};

/// Reads a tag without its id. The error names the property that has another shape than the contract says.
pub fn tag_from_wire(
    keap_id: String,
    wire: WireObject<'_>,
    observed_at: Timestamp,
) -> Result<RemoteRecord, String> {
    let updated_at = time_at(&wire, "update_time");
    let created_at = time_at(&wire, "create_time");
    let times = [updated_at.map(|_| "update_time"), created_at.map(|_| "create_time")];
    let content_hash = wire.content_hash_without(&times);

    let mut record = Record::empty(EntityType::Tag);
    let mut extra = WireObject::default();
    for (key, value) in wire {
        match key.as_ref() {
            "update_time" if updated_at.is_some() => {}
            "create_time" if created_at.is_some() => {}
            property @ ("name" | "description") => {
                record.set_by_name(property, text_of(value, property)?.into());
            }
            "category" => {
                let mut category = object_of(value, "category")?;
                if let Some(id) = category.remove("id") {
                    record.set_by_name("category_id", text_of(id, "category.id")?.into());
                }
                extra.insert_filled("category", category);
            }
            _ if value.is_null() => {}
            _ => extra.insert(key, value),
        }
    }
    Ok(RemoteRecord {
        keap_id,
        record,
        extra: extra.to_extra()?,
        row_id: None,
        content_hash,
        created_at,
        updated_at,
        observed_at,
    })
}

/// The tag as Keap would send it (without id and times): the inverse of [`tag_from_wire`].
#[must_use]
pub fn tag_to_wire(record: &Record, extra: &Map<String, Value>) -> Map<String, Value> {
    let mut wire: Map<String, Value> = extra.iter().map(pair).collect();
    for property in ["name", "description"] {
        insert_present(&mut wire, property, record.get_by_name(property));
    }
    let mut category = extra_object(extra, "category");
    insert_present(&mut category, "id", record.get_by_name("category_id"));
    insert_filled(&mut wire, "category", category);
    wire
}

/// The properties of `CreateUpdateTagRequest` named in `properties`, as `record` is to be in Keap. A category is taken
/// away by naming it in the mask and leaving it out of the body: the contract says "if not provided, the tag will not be
/// assigned to a category".
#[must_use]
pub fn write_body(record: &Record, properties: &[&str]) -> Map<String, Value> {
    let mut body = Map::new();
    for property in properties {
        let name = if *property == "category" { "category_id" } else { property };
        let text = plain_text(record.get_by_name(name));
        match (*property, text) {
            ("category", Some(id)) => drop(body.insert("category".to_owned(), json!({"id": id}))),
            ("category", None) => {}
            (_, text) => drop(body.insert((*property).to_owned(), text.unwrap_or_default().into())),
        }
    }
    body
}

/// `CreateUpdateTagRequest` of a new tag: every property that has a value.
#[must_use]
pub fn create_body(record: &Record) -> Map<String, Value> {
    let mut body = write_body(record, &["name", "description", "category"]);
    body.retain(|_, value| value != "");
    body
}
