//! Custom field values: Keap's list `[{id, content}]` as an object keyed by id, and the one among them that carries the
//! id of our row.
//!
//! Contacts say that what a write does not list is removed; orders and subscriptions do not say. So a write lists
//! everything, and where a value was cleared, its field with blank content too: right under either rule.

use crate::wire::{WireValue, insert_present, items_of, text_at, text_of};
use keapsync_domain::canonical::same;
use keapsync_domain::ids::is_uuid;
use keapsync_domain::schema::FieldKind;
use serde_json::{Map, Value, json};

/// Our row's id and the field that carries it.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    /// Keap's id of the custom field.
    pub field_id: &'a str,
    /// The row's id.
    pub row_id: &'a str,
}

/// Reads the list: its filled values by id, and our row's id when the link field holds one.
pub(crate) fn read(
    list: WireValue<'_>,
    link_field_id: Option<&str>,
) -> Result<(Map<String, Value>, Option<String>), String> {
    let mut row_id = None;
    let mut values = Map::new();
    for mut item in items_of(list, "custom_fields")? {
        let id = item.remove("id").map_or(Ok(None), |id| text_of(id, "custom_fields.id"))?;
        let id = id.ok_or("custom_fields holds an item without an id")?;
        let content = item.remove("content").unwrap_or_default();
        if link_field_id == Some(id.as_str()) {
            row_id = content.as_str().map(str::trim).filter(|text| is_uuid(text)).map(str::to_lowercase);
            if row_id.is_some() || content.is_blank() {
                continue;
            }
        }
        if !content.is_blank() {
            values.insert(id, content.into_value());
        }
    }
    Ok((values, row_id))
}

/// Puts the values back into Keap's list.
pub(crate) fn write(wire: &mut Map<String, Value>, values: &Value) {
    if let Some(entries) = values.as_object() {
        let list: Value = entries.iter().map(|(id, content)| json!({"id": id, "content": content})).collect();
        insert_present(wire, "custom_fields", &list);
    }
}

/// The list of everything wanted, and our row's id: what a contact takes.
pub(crate) fn with_link(wanted: &Value, link: Option<Link<'_>>) -> Value {
    let mut items = filled(wanted);
    insert_link(&mut items, link);
    Value::Array(items)
}

/// The list that turns `remote` into `wanted`: everything wanted, blanks for what is gone, and our row's id.
pub(crate) fn replacing(wanted: &Value, remote: &Value, link: Option<Link<'_>>) -> Value {
    let mut items = filled(wanted);
    for (id, content) in remote.as_object().into_iter().flatten() {
        if wanted.get(id).is_none_or(says_nothing) {
            let blank = if content.is_array() { json!([]) } else { json!("") };
            items.push(json!({"id": id, "content": blank}));
        }
    }
    insert_link(&mut items, link);
    Value::Array(items)
}

/// The values that say something, texts without the blanks about them.
fn filled(values: &Value) -> Vec<Value> {
    let values = values.as_object().into_iter().flatten().filter(|(_, content)| !says_nothing(content));
    values
        .map(|(id, content)| match content {
            Value::String(text) => json!({"id": id, "content": text.trim()}),
            content => json!({"id": id, "content": content}),
        })
        .collect()
}

/// Whether the merge takes a content for none.
fn says_nothing(content: &Value) -> bool {
    same(FieldKind::Map, &json!({"": content}), &Value::Null)
}

fn insert_link(items: &mut Vec<Value>, link: Option<Link<'_>>) {
    if let Some(link) = link {
        items.retain(|item| text_at(item, "id") != link.field_id);
        items.push(json!({"id": link.field_id, "content": link.row_id}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cleared_is_listed_blank_and_the_row_stays_linked() {
        let link = Link { field_id: "7", row_id: "row" };
        assert_eq!(
            replacing(
                &json!({"1": "a", "2": ""}),
                &json!({"1": "b", "2": "x", "3": ["y"], "7": "old"}),
                Some(link)
            ),
            json!([
                {"id": "1", "content": "a"}, {"id": "2", "content": ""}, {"id": "3", "content": []},
                {"id": "7", "content": "row"}])
        );
        assert_eq!(replacing(&Value::Null, &json!({"1": true}), None), json!([{"id": "1", "content": ""}]));
    }

    #[test]
    fn a_link_field_that_holds_something_else_is_a_custom_field() {
        let list = serde_json::from_str(r#"[{"id": "7", "content": "typed by hand"}]"#).unwrap();
        let (values, row_id) = read(list, Some("7")).unwrap();
        assert_eq!((values.get("7"), row_id), (Some(&json!("typed by hand")), None));
    }
}
