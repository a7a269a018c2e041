//! The contact model, and who the caller is.

use std::sync::Arc;

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::body;
use crate::data::model::{ContactModel, CustomField};
use crate::failure::Failure;
use crate::tenant::Tenant;

/// `GET /contacts/model`
pub(crate) async fn show(Extension(tenant): Extension<Arc<Tenant>>) -> Json<Value> {
    let data = tenant.data();
    Json(json!({
        "custom_fields": data.model.fields(),
        "optional_properties": ContactModel::optional_properties(),
    }))
}

/// `POST /contacts/model/customFields`
pub(crate) async fn create_custom_field(
    Extension(tenant): Extension<Arc<Tenant>>,
    bytes: Bytes,
) -> Result<(StatusCode, Json<CustomField>), Failure> {
    let request = body(&bytes)?;
    let mut data = tenant.data();
    let field = data.model.define(request)?.clone();
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
