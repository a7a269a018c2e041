//! Custom fields of an entity's model, of which one carries the id of our row.
//!
//! What makes it safe to ask twice: the field is looked for by its label before it is made.

use crate::caller::Caller;
use crate::failure::malformed;
use crate::transport::{Method, Transport};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::EntityType;
use keapsync_domain::wire::LinkField;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Label of the custom field that carries our row's id, as people see it in Keap.
pub const LINK_FIELD_LABEL: &str = "keapsync row id";

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    custom_fields: Vec<ModelField>,
}

#[derive(Deserialize)]
struct ModelField {
    id: String,
    #[serde(default)]
    label: String,
    #[serde(default)]
    field_name: String,
}

/// Finds the custom field that carries row ids, or makes it. Tags have no custom fields.
pub async fn ensure_link_field<T: Transport>(
    caller: &Caller<'_, T>,
    entity: EntityType,
) -> Result<LinkField, Failure> {
    if entity == EntityType::Tag {
        return Err(Failure::new(FailureClass::Invalid, "Keap's tags have no custom fields: ask for none"));
    }
    let path = format!("/rest/v2/{}/model", entity.plural());
    let model: Model =
        caller.read(caller.url(&path), &format!("a read of the {} model", entity.as_str())).await?;
    if let Some(field) = model.custom_fields.into_iter().find(|field| field.label == LINK_FIELD_LABEL) {
        return Ok(LinkField { id: field.id, field_name: field.field_name });
    }
    let what = "the creation of a custom field";
    let body = Map::from_iter([
        ("label".to_owned(), Value::from(LINK_FIELD_LABEL)),
        ("field_type".to_owned(), Value::from("TEXT")),
    ]);
    let url = caller.url(&format!("{path}/customFields"));
    let response = caller.send_json(Method::Post, url, body, what).await?;
    let field: ModelField =
        serde_json::from_slice(&response.body).map_err(|error| malformed(what, &error))?;
    Ok(LinkField { id: field.id, field_name: field.field_name })
}
