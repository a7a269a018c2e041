//! The models of contacts, orders and subscriptions, and who the caller is.

use std::sync::Arc;

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::body;
use crate::data::Data;
use crate::data::model::{CustomField, ObjectModel};
use crate::failure::Failure;
use crate::tenant::Tenant;

/// `GET /contacts/model`
pub(crate) async fn show(Extension(tenant): Extension<Arc<Tenant>>) -> Json<Value> {
    let data = tenant.data();
    Json(json!({
        "custom_fields": data.model.fields(),
        "optional_properties": ObjectModel::optional_properties(),
    }))
}

/// `GET /orders/model`. Orders have no `fields`: nothing of them is left out unless asked for.
pub(crate) async fn show_of_orders(Extension(tenant): Extension<Arc<Tenant>>) -> Json<Value> {
    Json(shown(&tenant.data().order_model))
}

/// `GET /subscriptions/model`
pub(crate) async fn show_of_subscriptions(Extension(tenant): Extension<Arc<Tenant>>) -> Json<Value> {
    Json(shown(&tenant.data().subscription_model))
}

fn shown(model: &ObjectModel) -> Value {
    json!({ "custom_fields": model.fields(), "optional_properties": [] })
}

type Defined = Result<(StatusCode, Json<CustomField>), Failure>;

/// `POST /contacts/model/customFields`
pub(crate) async fn create_custom_field(Extension(tenant): Extension<Arc<Tenant>>, bytes: Bytes) -> Defined {
    define(&tenant, &bytes, |data| &mut data.model)
}

/// `POST /orders/model/customFields`
pub(crate) async fn create_order_field(Extension(tenant): Extension<Arc<Tenant>>, bytes: Bytes) -> Defined {
    define(&tenant, &bytes, |data| &mut data.order_model)
}

/// `POST /subscriptions/model/customFields`
pub(crate) async fn create_subscription_field(
    Extension(tenant): Extension<Arc<Tenant>>,
    bytes: Bytes,
) -> Defined {
    define(&tenant, &bytes, |data| &mut data.subscription_model)
}

fn define(tenant: &Tenant, bytes: &Bytes, model: impl FnOnce(&mut Data) -> &mut ObjectModel) -> Defined {
    let request = body(bytes)?;
    let field = model(&mut tenant.data()).define(request)?.clone();
    Ok((StatusCode::CREATED, Json(field)))
}

/// `GET /oauth/connect/userinfo`
pub(crate) async fn user_info(Extension(tenant): Extension<Arc<Tenant>>) -> Json<Value> {
    let email = format!("owner@{}.example", tenant.name());
    Json(json!({
        "email": email,
        "sub": "1",
        "id": "1",
        "keap_id": email,
        "family_name": "Marsh",
        "given_name": "Dana",
        "preferred_name": "Dana",
        "is_admin": true,
        "tenant_id": tenant.name(),
    }))
}
