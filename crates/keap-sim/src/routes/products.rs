//! `/crm/rest/v2/products`: list, create, show, update, delete. Options, categories, images and stock are not simulated.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde_json::Value;

use super::{body, id, write_mask};
use crate::clock;
use crate::data::Data;
use crate::data::apply::Author;
use crate::data::catalogue::{Product, ProductDetails};
use crate::failure::Failure;
use crate::hooks::{Event, publish};
use crate::query::page::{PageRequest, Parameters, SortKey, parameter};
use crate::query::term::{self, Term, TextMatch};
use crate::simulator::Simulator;
use crate::tenant::Tenant;

/// One condition of a filter.
type ProductTest = Box<dyn Fn(&Product) -> bool + Send>;

/// `GET /products`
pub(crate) async fn list(
    Extension(tenant): Extension<Arc<Tenant>>,
    Query(parameters): Query<Parameters>,
) -> Result<Json<Value>, Failure> {
    let request =
        PageRequest::read(&parameters, &["name", "sku", "last_updated_time"], tenant.page_tokens())?;
    let tests = term::parse(parameter(&parameters, "filter").unwrap_or_default())?
        .iter()
        .map(read_test)
        .collect::<Result<Vec<_>, _>>()?;
    let data = tenant.data();
    let mut rows = Vec::new();
    for product in data.catalogue.products.values() {
        if tests.iter().all(|test| test(product)) {
            rows.push(((sort_key(product, request.order), product.id), shown(&data, product.id)?));
        }
    }
    Ok(Json(request.cut("products", rows)))
}

fn sort_key(product: &Product, order: &str) -> SortKey {
    match order {
        "last_updated_time" => SortKey::Number(product.update_ms),
        "sku" => SortKey::Text(product.details.sku.as_deref().unwrap_or_default().to_lowercase()),
        _ => SortKey::Text(product.name().to_lowercase()),
    }
}

fn read_test(term: &Term) -> Result<ProductTest, Failure> {
    fn text(wanted: TextMatch, of: fn(&ProductDetails) -> &Option<String>) -> ProductTest {
        Box::new(move |product| of(&product.details).as_deref().is_some_and(|text| wanted.matches(text)))
    }
    Ok(match term.field.as_str() {
        "name" => text(term.text(true)?, |details| &details.name),
        "sku" => text(term.text(true)?, |details| &details.sku),
        "description" => text(term.text(true)?, |details| &details.description),
        "short_description" => text(term.text(true)?, |details| &details.short_description),
        "product_id" => {
            let (operator, wanted) = (term.ordering()?, term.id()?);
            Box::new(move |product| operator.holds(&product.id, &wanted))
        }
        "product_ids" => {
            let ids = term.ids()?;
            Box::new(move |product| ids.contains(&product.id))
        }
        _ => return Err(term.unknown()),
    })
}

/// `POST /products`
pub(crate) async fn create(
    State(simulator): State<Simulator>,
    Extension(tenant): Extension<Arc<Tenant>>,
    bytes: Bytes,
) -> Result<(StatusCode, Json<Value>), Failure> {
    let request: ProductDetails = body(&bytes)?;
    let mut data = tenant.data();
    let now_ms = clock::now_ms();
    let product_id = data.catalogue.create_product(request, now_ms, now_ms)?;
    let answer = shown(&data, product_id)?;
    drop(data);
    publish(&simulator, &tenant, Author::Api, vec![Event::now("product.add", product_id)]);
    Ok((StatusCode::CREATED, Json(answer)))
}

/// `GET /products/{product_id}`
pub(crate) async fn show(
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(product_id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let product_id = id(&product_id, "product_id")?;
    shown(&tenant.data(), product_id).map(Json)
}

/// `PATCH /products/{product_id}`
pub(crate) async fn update(
    State(simulator): State<Simulator>,
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(product_id): Path<String>,
    Query(parameters): Query<Parameters>,
    bytes: Bytes,
) -> Result<Json<Value>, Failure> {
    let product_id = id(&product_id, "product_id")?;
    let mask = write_mask(&parameters, ProductDetails::NAMES)?;
    let request: ProductDetails = body(&bytes)?;
    let mut data = tenant.data();
    data.catalogue.update_product(product_id, request, &mask)?;
    let answer = shown(&data, product_id)?;
    drop(data);
    publish(&simulator, &tenant, Author::Api, vec![Event::now("product.edit", product_id)]);
    Ok(Json(answer))
}

/// `DELETE /products/{product_id}`
pub(crate) async fn delete(
    State(simulator): State<Simulator>,
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(product_id): Path<String>,
) -> Result<StatusCode, Failure> {
    let product_id = id(&product_id, "product_id")?;
    tenant.data().catalogue.delete_product(product_id)?;
    publish(&simulator, &tenant, Author::Api, vec![Event::now("product.delete", product_id)]);
    Ok(StatusCode::NO_CONTENT)
}

fn shown(data: &Data, product_id: u64) -> Result<Value, Failure> {
    let view = data.catalogue.product_view(product_id, data.currency)?;
    Ok(serde_json::to_value(view).unwrap_or_default())
}
