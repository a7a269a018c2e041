//! The answers of orders and subscriptions: a page of rows, written straight to JSON, and single rows.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::contacts::json;
use crate::data::contact::WriteJson;
use crate::data::rows::Row;
use crate::faults::Broken;
use crate::tenant::Tenant;

/// What an order with its items takes, for sizing buffers.
const ROW_SIZE: usize = 2000;

/// A page as its query found it.
pub(crate) struct Page<'rows, T> {
    /// What the list is called in the answer.
    pub(crate) name: &'static str,
    pub(crate) rows: Vec<&'rows T>,
    pub(crate) token: Option<String>,
}

impl<'rows, T: Row> Page<'rows, T> {
    /// Writes the page. Rows that a fault breaks come in the wrong shape; the ids of those are the second result.
    pub(crate) fn write<V: Serialize>(
        self,
        broken_ids: &[u64],
        view: impl Fn(&'rows T) -> V,
    ) -> (Vec<u8>, Vec<u64>) {
        let mut broke = Vec::new();
        let mut out = Vec::with_capacity(64 + self.rows.len() * ROW_SIZE);
        out.extend_from_slice(format!("{{\"{}\":[", self.name).as_bytes());
        for (place, row) in self.rows.into_iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            if broken_ids.contains(&row.id()) {
                broke.push(row.id());
                out.extend_from_slice(broken_row(row.id()).as_bytes());
            } else {
                view(row).write_json(&mut out);
            }
        }
        out.push(b']');
        if let Some(token) = self.token {
            // A token is base64 for addresses: nothing in it needs escaping.
            out.extend_from_slice(format!(",\"next_page_token\":\"{token}\"").as_bytes());
        }
        out.push(b'}');
        (out, broke)
    }
}

/// Answers with a page, and counts the faults that took part in it. The caller holds no lock of the tenant.
pub(crate) fn answer(tenant: &Tenant, kind: Broken, text: Vec<u8>, broke: Vec<u64>) -> Response {
    for id in broke {
        tenant.faults().broke(kind, id);
    }
    json(StatusCode::OK, text)
}

/// A row whose parts are of the wrong kind, though it is good JSON and still names itself.
fn broken_row(id: u64) -> String {
    format!(
        "{{\"id\":\"{id}\",\"title\":[\"wrong\"],\"order_items\":\"wrong\",\"quantity\":\"wrong\",\"active\":{{}},\"modification_time\":17}}"
    )
}
