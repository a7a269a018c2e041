//! `/crm/rest/v2/tags`: list, create, show, update, delete.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{body, id, mask, unknown_in_mask};
use crate::clock;
use crate::data::apply::Author;
use crate::data::tags::{self, Tag, Tags};
use crate::failure::Failure;
use crate::hooks::{Event, publish};
use crate::query::page::{PageRequest, Parameters, SortKey, parameter};
use crate::query::term::{self, Asked, NONE, TextMatch};
use crate::simulator::Simulator;
use crate::tenant::Tenant;

/// The body that creates or changes a tag (`CreateUpdateTagRequest`).
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TagRequest {
    name: Option<String>,
    description: Option<String>,
    category: Option<CategoryReference>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CategoryReference {
    id: String,
}

/// `GET /tags`
pub(crate) async fn list(
    Extension(tenant): Extension<Arc<Tenant>>,
    Query(parameters): Query<Parameters>,
) -> Result<Json<Value>, Failure> {
    let request =
        PageRequest::read(&parameters, &["name", "create_time", "update_time"], tenant.page_tokens())?;
    let mut filter = TagFilter::default();
    for term in term::parse(parameter(&parameters, "filter").unwrap_or_default())? {
        if term.field == "tag_ids" {
            filter.ids = Some(term.ids()?);
        } else if !filter.read(&term)? {
            return Err(term.unknown());
        }
    }
    let data = tenant.data();
    let rows = data
        .tags
        .definitions
        .values()
        .filter(|tag| filter.matches(tag))
        .map(|tag| ((sort_key(tag, request.order), tag.id), shown(tag)))
        .collect();
    Ok(Json(request.cut("tags", rows)))
}

/// What a tag is sorted by.
pub(crate) fn sort_key(tag: &Tag, order: &str) -> SortKey {
    match order {
        "create_time" => SortKey::Number(tag.create_ms),
        "update_time" => SortKey::Number(tag.update_ms),
        _ => SortKey::Text(tag.name.to_lowercase()),
    }
}

/// The conditions on a tag that lists of tags share.
#[derive(Debug, Default)]
pub(crate) struct TagFilter {
    ids: Option<Vec<u64>>,
    name: Option<TextMatch>,
    description: Asked<TextMatch>,
    category_id: Asked<u64>,
    created_from_ms: Option<i64>,
    created_until_ms: Option<i64>,
    updated_from_ms: Option<i64>,
    updated_until_ms: Option<i64>,
}

impl TagFilter {
    /// Takes up a term; false when it is not one on tags.
    pub(crate) fn read(&mut self, term: &term::Term) -> Result<bool, Failure> {
        match term.field.as_str() {
            "name" => self.name = Some(term.text(false)?),
            "description" => self.description = term.optional_text()?,
            "category_id" => {
                term.require_equal()?;
                self.category_id = if term.value == NONE { Asked::Absent } else { Asked::Value(term.id()?) };
            }
            "since_create_time" => self.created_from_ms = Some(term.equal_time_ms()?),
            "until_create_time" => self.created_until_ms = Some(term.equal_time_ms()?),
            "since_update_time" => self.updated_from_ms = Some(term.equal_time_ms()?),
            "until_update_time" => self.updated_until_ms = Some(term.equal_time_ms()?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether a tag meets all conditions.
    pub(crate) fn matches(&self, tag: &Tag) -> bool {
        let within = |time_ms: i64, from_ms: Option<i64>, until_ms: Option<i64>| {
            from_ms.is_none_or(|from_ms| time_ms >= from_ms)
                && until_ms.is_none_or(|until_ms| time_ms <= until_ms)
        };
        self.ids.as_ref().is_none_or(|ids| ids.contains(&tag.id))
            && self.name.as_ref().is_none_or(|wanted| wanted.matches(&tag.name))
            && self.description.matches(tag.description.as_deref())
            && match self.category_id {
                Asked::Anything => true,
                Asked::Absent => tag.category_id.is_none(),
                Asked::Value(wanted) => tag.category_id == Some(wanted),
            }
            && within(tag.create_ms, self.created_from_ms, self.created_until_ms)
            && within(tag.update_ms, self.updated_from_ms, self.updated_until_ms)
    }
}

/// `POST /tags`
pub(crate) async fn create(
    State(simulator): State<Simulator>,
    Extension(tenant): Extension<Arc<Tenant>>,
    bytes: Bytes,
) -> Result<(StatusCode, Json<Value>), Failure> {
    create_by(Author::Api, &simulator, &tenant, &bytes)
}

/// Makes a tag.
pub(crate) fn create_by(
    author: Author,
    simulator: &Simulator,
    tenant: &Arc<Tenant>,
    bytes: &Bytes,
) -> Result<(StatusCode, Json<Value>), Failure> {
    let request: TagRequest = body(bytes)?;
    let name = request.name.unwrap_or_default();
    let mut data = tenant.data();
    data.tags.require_free_tag_name(&name, None)?;
    let category_id = category(request.category.as_ref(), &data.tags)?;
    let now_ms = clock::now_ms();
    let description = request.description.filter(|text| !text.is_empty());
    let tag_id = data.tags.insert_tag(&name, description, category_id, now_ms, now_ms);
    let answer = show_by_id(&data.tags, tag_id)?;
    drop(data);
    publish(simulator, tenant, author, vec![Event::now("contactGroup.add", tag_id)]);
    Ok((StatusCode::CREATED, Json(answer)))
}

/// `GET /tags/{tag_id}`
pub(crate) async fn show(
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(tag_id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let tag_id = id(&tag_id, "tag_id")?;
    show_by_id(&tenant.data().tags, tag_id).map(Json)
}

/// `PATCH /tags/{tag_id}`
pub(crate) async fn update(
    State(simulator): State<Simulator>,
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(tag_id): Path<String>,
    Query(parameters): Query<Parameters>,
    bytes: Bytes,
) -> Result<Json<Value>, Failure> {
    update_by(Author::Api, &simulator, &tenant, &tag_id, &parameters, &bytes)
}

/// Changes a tag.
pub(crate) fn update_by(
    author: Author,
    simulator: &Simulator,
    tenant: &Arc<Tenant>,
    tag_id: &str,
    parameters: &Parameters,
    bytes: &Bytes,
) -> Result<Json<Value>, Failure> {
    let tag_id = id(tag_id, "tag_id")?;
    let named = mask(parameters);
    if let Some(unknown) =
        named.iter().flatten().find(|name| !["name", "description", "category"].contains(*name))
    {
        return Err(unknown_in_mask(unknown));
    }
    let covers = |name: &str, is_given: bool| named.as_ref().map_or(is_given, |names| names.contains(&name));
    let request: TagRequest = body(bytes)?;
    let mut data = tenant.data();
    let mut tag = data
        .tags
        .definitions
        .get(&tag_id)
        .cloned()
        .ok_or_else(|| Failure::not_found("tag", &tag_id.to_string()))?;
    if covers("name", request.name.is_some()) {
        let name = request.name.as_deref().unwrap_or_default();
        data.tags.require_free_tag_name(name, Some(tag_id))?;
        tag.name = tags::cut(name);
    }
    if covers("description", request.description.is_some()) {
        tag.description = request.description.filter(|text| !text.is_empty());
    }
    if covers("category", request.category.is_some()) {
        tag.category_id = category(request.category.as_ref(), &data.tags)?;
    }
    tag.update_ms = clock::now_ms().max(tag.update_ms + 1);
    data.tags.definitions.insert(tag_id, tag);
    let answer = show_by_id(&data.tags, tag_id)?;
    drop(data);
    publish(simulator, tenant, author, vec![Event::now("contactGroup.edit", tag_id)]);
    Ok(Json(answer))
}

/// `DELETE /tags/{tag_id}`
pub(crate) async fn delete(
    State(simulator): State<Simulator>,
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(tag_id): Path<String>,
) -> Result<StatusCode, Failure> {
    delete_by(Author::Api, &simulator, &tenant, &tag_id)
}

/// Deletes a tag.
pub(crate) fn delete_by(
    author: Author,
    simulator: &Simulator,
    tenant: &Arc<Tenant>,
    tag_id: &str,
) -> Result<StatusCode, Failure> {
    let tag_id = id(tag_id, "tag_id")?;
    tenant.data().delete_tag(tag_id)?;
    publish(simulator, tenant, author, vec![Event::now("contactGroup.delete", tag_id)]);
    Ok(StatusCode::NO_CONTENT)
}

/// A tag as the API shows it.
pub(crate) fn shown(tag: &Tag) -> Value {
    let mut answer = Map::new();
    answer.insert("id".to_owned(), tag.id.to_string().into());
    answer.insert("name".to_owned(), tag.name.clone().into());
    if let Some(description) = &tag.description {
        answer.insert("description".to_owned(), description.clone().into());
    }
    if let Some(category_id) = tag.category_id {
        answer.insert("category".to_owned(), json!({ "id": category_id.to_string() }));
    }
    answer.insert("create_time".to_owned(), clock::format_ms(tag.create_ms).into());
    answer.insert("update_time".to_owned(), clock::format_ms(tag.update_ms).into());
    Value::Object(answer)
}

/// A tag as the API shows it, by its id.
pub(crate) fn show_by_id(tags: &Tags, tag_id: u64) -> Result<Value, Failure> {
    tags.definitions.get(&tag_id).map(shown).ok_or_else(|| Failure::not_found("tag", &tag_id.to_string()))
}

fn category(reference: Option<&CategoryReference>, tags: &Tags) -> Result<Option<u64>, Failure> {
    let Some(reference) = reference else {
        return Ok(None);
    };
    let category_id = id(&reference.id, "category.id")?;
    if tags.categories.contains_key(&category_id) {
        return Ok(Some(category_id));
    }
    Err(Failure::bad_request(format!("tag category {category_id} does not exist")))
}
