//! `/crm/rest/v2/tags/categories`: list, create, show, update, delete.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{body, id, mask, unknown_in_mask};
use crate::clock;
use crate::data::tags::{Category, Tags};
use crate::failure::Failure;
use crate::query::page::{PageRequest, Parameters, SortKey, parameter};
use crate::query::term;
use crate::tenant::Tenant;

/// The body that creates or changes a category (`CreateUpdateTagCategoryRequest`).
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CategoryRequest {
    name: Option<String>,
    description: Option<String>,
}

/// One condition of a filter.
type CategoryTest = Box<dyn Fn(&Category) -> bool + Send>;

/// `GET /tags/categories`
pub(crate) async fn list(
    Extension(tenant): Extension<Arc<Tenant>>,
    Query(parameters): Query<Parameters>,
) -> Result<Json<Value>, Failure> {
    let request =
        PageRequest::read(&parameters, &["name", "create_time", "update_time"], tenant.page_tokens())?;
    let terms = term::parse(parameter(&parameters, "filter").unwrap_or_default())?;
    let mut tests: Vec<CategoryTest> = Vec::new();
    for term in terms {
        tests.push(match term.field.as_str() {
            "name" => {
                let wanted = term.optional_text()?;
                Box::new(move |category| wanted.matches(Some(&category.name)))
            }
            "description" => {
                let wanted = term.optional_text()?;
                Box::new(move |category| wanted.matches(category.description.as_deref()))
            }
            "since_create_time" => {
                let from_ms = term.equal_time_ms()?;
                Box::new(move |category| category.create_ms >= from_ms)
            }
            "until_create_time" => {
                let until_ms = term.equal_time_ms()?;
                Box::new(move |category| category.create_ms <= until_ms)
            }
            "since_update_time" => {
                let from_ms = term.equal_time_ms()?;
                Box::new(move |category| category.update_ms >= from_ms)
            }
            "until_update_time" => {
                let until_ms = term.equal_time_ms()?;
                Box::new(move |category| category.update_ms <= until_ms)
            }
            _ => return Err(term.unknown()),
        });
    }
    let data = tenant.data();
    let rows = data
        .tags
        .categories
        .values()
        .filter(|category| tests.iter().all(|test| test(category)))
        .map(|category| {
            let key = match request.order {
                "create_time" => SortKey::Number(category.create_ms),
                "update_time" => SortKey::Number(category.update_ms),
                _ => SortKey::Text(category.name.to_lowercase()),
            };
            ((key, category.id), shown(category))
        })
        .collect();
    Ok(Json(request.cut("tag_categories", rows)))
}

/// `POST /tags/categories`
pub(crate) async fn create(
    Extension(tenant): Extension<Arc<Tenant>>,
    bytes: Bytes,
) -> Result<(StatusCode, Json<Value>), Failure> {
    let request: CategoryRequest = body(&bytes)?;
    let name = request.name.unwrap_or_default();
    let mut data = tenant.data();
    data.tags.require_free_category_name(&name, None)?;
    let now_ms = clock::now_ms();
    let description = request.description.filter(|text| !text.is_empty());
    let category_id = data.tags.insert_category(&name, description, now_ms, now_ms);
    Ok((StatusCode::CREATED, Json(show_by_id(&data.tags, category_id)?)))
}

/// `GET /tags/categories/{tag_category_id}`
pub(crate) async fn show(
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(category_id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let category_id = id(&category_id, "tag_category_id")?;
    show_by_id(&tenant.data().tags, category_id).map(Json)
}

/// `PATCH /tags/categories/{tag_category_id}`
pub(crate) async fn update(
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(category_id): Path<String>,
    Query(parameters): Query<Parameters>,
    bytes: Bytes,
) -> Result<Json<Value>, Failure> {
    let category_id = id(&category_id, "tag_category_id")?;
    let named = mask(&parameters);
    if let Some(unknown) = named.iter().flatten().find(|name| !["name", "description"].contains(*name)) {
        return Err(unknown_in_mask(unknown));
    }
    let covers = |name: &str, is_given: bool| named.as_ref().map_or(is_given, |names| names.contains(&name));
    let request: CategoryRequest = body(&bytes)?;
    let mut data = tenant.data();
    let mut category = data
        .tags
        .categories
        .get(&category_id)
        .cloned()
        .ok_or_else(|| Failure::not_found("tag category", &category_id.to_string()))?;
    if covers("name", request.name.is_some()) {
        let name = request.name.unwrap_or_default();
        data.tags.require_free_category_name(&name, Some(category_id))?;
        category.name = name;
    }
    if covers("description", request.description.is_some()) {
        category.description = request.description.filter(|text| !text.is_empty());
    }
    category.update_ms = clock::now_ms().max(category.update_ms + 1);
    data.tags.categories.insert(category_id, category);
    show_by_id(&data.tags, category_id).map(Json)
}

/// `DELETE /tags/categories/{tag_category_id}`
pub(crate) async fn delete(
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(category_id): Path<String>,
) -> Result<StatusCode, Failure> {
    let category_id = id(&category_id, "tag_category_id")?;
    tenant.data().delete_category(category_id)?;
    Ok(StatusCode::NO_CONTENT)
}

fn shown(category: &Category) -> Value {
    let mut answer = Map::new();
    answer.insert("id".to_owned(), category.id.to_string().into());
    answer.insert("name".to_owned(), category.name.clone().into());
    if let Some(description) = &category.description {
        answer.insert("description".to_owned(), description.clone().into());
    }
    answer.insert("create_time".to_owned(), clock::format_ms(category.create_ms).into());
    answer.insert("update_time".to_owned(), clock::format_ms(category.update_ms).into());
    Value::Object(answer)
}

fn show_by_id(tags: &Tags, category_id: u64) -> Result<Value, Failure> {
    tags.categories
        .get(&category_id)
        .map(shown)
        .ok_or_else(|| Failure::not_found("tag category", &category_id.to_string()))
}
