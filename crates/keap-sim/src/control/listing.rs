//! Full records in the order of their ids, as the control API lists them.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use crate::data::contact::WriteJson;
use crate::routes::contacts::json;

/// The most full records of one answer.
const LIST_LENGTH_MAX: usize = 10_000;

/// Which full records to list.
#[derive(Debug, Deserialize)]
pub(crate) struct ListQuery {
    #[serde(default)]
    pub(crate) after_id: u64,
    limit: Option<usize>,
}

impl ListQuery {
    /// How many records one answer has at most.
    pub(crate) fn limit(&self) -> usize {
        self.limit.unwrap_or(1000).clamp(1, LIST_LENGTH_MAX)
    }
}

/// The records after the given id, with `next_after_id` while there are more.
pub(crate) fn full_rows<'rows, T, V: Serialize>(
    name: &str,
    rows: &'rows BTreeMap<u64, T>,
    query: &ListQuery,
    view: impl Fn(&'rows T) -> V,
) -> Response {
    let mut rest = rows.range(query.after_id.saturating_add(1)..);
    let mut out = format!("{{\"{name}\":[").into_bytes();
    let mut last_id = None;
    for (id, row) in rest.by_ref().take(query.limit()) {
        if last_id.is_some() {
            out.push(b',');
        }
        last_id = Some(*id);
        view(row).write_json(&mut out);
    }
    out.push(b']');
    if let Some(last_id) = last_id.filter(|_| rest.next().is_some()) {
        out.extend_from_slice(format!(",\"next_after_id\":{last_id}").as_bytes());
    }
    out.push(b'}');
    json(StatusCode::OK, out)
}
