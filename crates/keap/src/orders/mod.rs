//! Orders (API v2): lists, single reads, creates, updates, deletes, and their items one by one.
//!
//! Keap sends the whole order in every answer, its items included. An update takes no items: they have calls of their
//! own. Nothing here takes payments, makes invoices or refunds.

pub mod convert;
pub mod line_steps;
mod lines;
mod shipping;

use crate::caller::{Caller, ListQuery, Range, masked};
use crate::failure::clarified;
use crate::page::{Reading, RecordPage};
use crate::transport::{Method, Transport};
use crate::wire::WireObject;
use convert::order_from_wire;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::EntityType;
use keapsync_domain::remote::RemoteRecord;
use keapsync_domain::timestamp::Timestamp;
use keapsync_domain::wire::LinkField;
use line_steps::LineStep;
use serde::Deserialize;
use serde_json::{Map, Value};

const PATH: &str = "/rest/v2/orders";

/// What to do when Keap keeps an order.
const KEEPS_ORDER: &str = "Keap deletes no order that has transactions: delete its payments in Keap first, or \
    restore the row";

/// What to do when Keap keeps a line.
const KEEPS_LINE: &str = "Keap did not delete the line, as it does when the order is paid: restore the line, or \
    remove the order's payments in Keap";

/// Calls to the orders API.
pub struct OrdersApi<'a, T> {
    /// Sends the requests.
    pub caller: Caller<'a, T>,
    /// The custom field that carries our row's id, once it exists.
    pub link_field: Option<&'a LinkField>,
}

impl<T: Transport> OrdersApi<'_, T> {
    async fn list(&self, query: ListQuery<'_>, observed_at: Timestamp) -> Result<RecordPage, Failure> {
        let read = self.reader(observed_at);
        self.caller
            .read_page(self.caller.list_url(PATH, query), &Reading::new(EntityType::Order, &read))
            .await
    }

    fn reader(
        &self,
        observed_at: Timestamp,
    ) -> impl Fn(String, WireObject<'_>) -> Result<RemoteRecord, String> {
        let link_field = self.link_field.map(|field| field.id.as_str());
        move |id, wire| order_from_wire(id, wire, link_field, observed_at)
    }

    /// Orders of that range, in order of id: one page.
    pub async fn list_after(&self, range: Range<'_>, observed_at: Timestamp) -> Result<RecordPage, Failure> {
        let filter = range.filter("id", Some("modified_since_time"));
        let query = ListQuery { filter: filter.as_deref(), order_by: Some("id asc"), page_token: None };
        self.list(query, observed_at).await
    }

    /// Orders, those changed last first: one page.
    pub async fn list_newest(&self, observed_at: Timestamp) -> Result<RecordPage, Failure> {
        let query = ListQuery { order_by: Some("modification_time desc"), ..ListQuery::default() };
        self.list(query, observed_at).await
    }

    /// Orders of the given ids, at most 1000. Ids without an order are absent from the answer.
    pub async fn list_ids(&self, ids: &[String], observed_at: Timestamp) -> Result<RecordPage, Failure> {
        let filter = format!("ids=={}", ids.join(","));
        self.list(ListQuery { filter: Some(&filter), ..ListQuery::default() }, observed_at).await
    }

    /// Orders that carry `row_id` in the link field.
    pub async fn list_by_row_id(&self, row_id: &str, observed_at: Timestamp) -> Result<RecordPage, Failure> {
        let Some(link_field) = self.link_field else {
            return Err(Failure::new(
                FailureClass::Unavailable,
                "the custom field that carries row ids does not exist on Keap's orders yet; it is made right after \
                 connecting",
            ));
        };
        let filter = format!("{}=={row_id}", link_field.field_name);
        self.list(ListQuery { filter: Some(&filter), ..ListQuery::default() }, observed_at).await
    }

    /// One order; `None` when Keap says that it does not exist.
    pub async fn get(&self, id: &str, observed_at: Timestamp) -> Result<Option<RemoteRecord>, Failure> {
        let read = self.reader(observed_at);
        self.caller
            .read_one(self.caller.url(&format!("{PATH}/{id}")), &Reading::new(EntityType::Order, &read))
            .await
    }

    /// Makes an order, its lines included.
    pub async fn create(
        &self,
        body: Map<String, Value>,
        observed_at: Timestamp,
    ) -> Result<RemoteRecord, Failure> {
        let read = self.reader(observed_at);
        self.caller.post_record(self.caller.url(PATH), body, &Reading::new(EntityType::Order, &read)).await
    }

    /// Changes the properties named in `mask`, and no others.
    pub async fn update(
        &self,
        id: &str,
        mask: &[&str],
        body: Map<String, Value>,
        observed_at: Timestamp,
    ) -> Result<RemoteRecord, Failure> {
        let read = self.reader(observed_at);
        let url = masked(self.caller.url(&format!("{PATH}/{id}")), mask);
        self.caller.patch_record(url, body, &Reading::new(EntityType::Order, &read)).await
    }

    /// Deletes an order; one that does not exist (any more) counts as deleted. Keap keeps those with transactions.
    pub async fn delete(&self, id: &str) -> Result<(), Failure> {
        let url = self.caller.url(&format!("{PATH}/{id}"));
        self.caller
            .delete(url, "the deletion of an order")
            .await
            .map_err(|failure| clarified(failure, KEEPS_ORDER))
    }

    /// Makes a line; the answer is its id.
    pub async fn create_item(&self, order_id: &str, body: Map<String, Value>) -> Result<String, Failure> {
        #[derive(Deserialize)]
        struct Made {
            id: String,
        }
        let what = "the creation of an order's line";
        let url = self.caller.url(&format!("{PATH}/{order_id}/items"));
        let response = self.caller.send_json(Method::Post, url, body, what).await?;
        let made: Made = serde_json::from_slice(&response.body)
            .map_err(|error| crate::failure::malformed(what, &error))?;
        Ok(made.id)
    }

    /// Changes the properties of a line that are named in `mask`, and no others.
    pub async fn update_item(
        &self,
        order_id: &str,
        item_id: &str,
        mask: &[&str],
        body: Map<String, Value>,
    ) -> Result<(), Failure> {
        let url = masked(self.caller.url(&format!("{PATH}/{order_id}/items/{item_id}")), mask);
        self.caller.send_json(Method::Patch, url, body, "an update of an order's line").await.map(|_| ())
    }

    /// Deletes a line; one that does not exist (any more) counts as deleted.
    pub async fn delete_item(&self, order_id: &str, item_id: &str) -> Result<(), Failure> {
        let url = self.caller.url(&format!("{PATH}/{order_id}/items/{item_id}"));
        self.caller
            .delete(url, "the deletion of an order's line")
            .await
            .map_err(|failure| clarified(failure, KEEPS_LINE))
    }

    /// Takes one step; a new line's id is the answer.
    pub async fn take(&self, order_id: &str, step: LineStep) -> Result<Option<(String, String)>, Failure> {
        match step {
            LineStep::Create { key, body } => {
                self.create_item(order_id, body).await.map(|id| Some((key, id)))
            }
            LineStep::Update { id, mask, body } => {
                self.update_item(order_id, &id, &mask, body).await.map(|()| None)
            }
            LineStep::Delete { id } => self.delete_item(order_id, &id).await.map(|()| None),
        }
    }
}

#[cfg(test)]
mod tests;
