//! Subscriptions (API v2): lists, single reads, creates, updates, and their end.
//!
//! Keap filters them by no time and deletes none. What changed is read from the newest change backwards. Nothing here
//! bills: `:invoice` is never called.

pub mod convert;

use crate::caller::{Caller, ListQuery, Range, masked};
use crate::failure::taken;
use crate::names::NameCache;
use crate::page::{Reading, RecordPage};
use crate::transport::{Method, Transport};
use crate::wire::WireObject;
use convert::subscription_from_wire;
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::EntityType;
use keapsync_domain::remote::RemoteRecord;
use keapsync_domain::timestamp::Timestamp;
use serde_json::{Map, Value};

const PATH: &str = "/rest/v2/subscriptions";

/// What to do when Keap holds the same subscription.
const HELD_ALREADY: &str = "Keap makes no second subscription of a contact to the same plan: end the other one in Keap \
    or change the plan, then replay this item";

/// Calls to the subscriptions API.
pub struct SubscriptionsApi<'a, T> {
    /// Sends the requests.
    pub caller: Caller<'a, T>,
    /// Names of products.
    pub names: &'a NameCache,
}

impl<T: Transport> SubscriptionsApi<'_, T> {
    async fn list(&self, query: ListQuery<'_>, observed_at: Timestamp) -> Result<RecordPage, Failure> {
        let read = reader(observed_at);
        let url = self.caller.list_url(PATH, query);
        let mut page = self.caller.read_page(url, &Reading::new(EntityType::Subscription, &read)).await?;
        self.names.join_subscriptions(&self.caller, &mut page.records).await?;
        Ok(page)
    }

    /// With what is of its product.
    pub(crate) async fn joined(&self, remote: RemoteRecord) -> Result<RemoteRecord, Failure> {
        let mut records = [remote];
        self.names.join_subscriptions(&self.caller, &mut records).await?;
        let [remote] = records;
        Ok(remote)
    }

    /// Subscriptions of that range, in order of id: one page. Whatever the range says of times, Keap filters them by none.
    pub async fn list_after(&self, range: Range<'_>, observed_at: Timestamp) -> Result<RecordPage, Failure> {
        let filter = range.filter("id", None);
        let query = ListQuery { filter: filter.as_deref(), order_by: Some("id asc"), page_token: None };
        self.list(query, observed_at).await
    }

    /// Subscriptions that changed at `since` or later, those changed last first: one page, without a token when what
    /// is behind it is older. Ones of which Keap tells no time count as changed.
    pub async fn list_changed(
        &self,
        since: Timestamp,
        observed_at: Timestamp,
    ) -> Result<RecordPage, Failure> {
        let read = reader(observed_at);
        let query = ListQuery { order_by: Some("modification_time desc"), ..ListQuery::default() };
        let url = self.caller.list_url(PATH, query);
        let reading = Reading::new(EntityType::Subscription, &read);
        let mut page = self.caller.read_page(url, &reading).await?;
        let read_count = page.records.len();
        page.records.retain(|subscription| subscription.updated_at.is_none_or(|changed| changed >= since));
        if page.records.len() < read_count {
            page.next_page_token = None;
        }
        self.names.join_subscriptions(&self.caller, &mut page.records).await?;
        Ok(page)
    }

    /// Subscriptions of the given ids, at most 1000. Ids without a subscription are absent from the answer.
    pub async fn list_ids(&self, ids: &[String], observed_at: Timestamp) -> Result<RecordPage, Failure> {
        let filter = format!("ids=={}", ids.join(","));
        self.list(ListQuery { filter: Some(&filter), ..ListQuery::default() }, observed_at).await
    }

    /// A contact's subscriptions to a plan.
    pub async fn list_of_contact(
        &self,
        contact_id: &str,
        plan_id: &str,
        observed_at: Timestamp,
    ) -> Result<RecordPage, Failure> {
        let filter = format!("contact_id=={contact_id};subscription_plan_id=={plan_id}");
        self.list(ListQuery { filter: Some(&filter), ..ListQuery::default() }, observed_at).await
    }

    /// One subscription; `None` when Keap says that it does not exist.
    pub async fn get(&self, id: &str, observed_at: Timestamp) -> Result<Option<RemoteRecord>, Failure> {
        let read = reader(observed_at);
        match self
            .caller
            .read_one(
                self.caller.url(&format!("{PATH}/{id}")),
                &Reading::new(EntityType::Subscription, &read),
            )
            .await?
        {
            Some(remote) => self.joined(remote).await.map(Some),
            None => Ok(None),
        }
    }

    /// Makes a subscription, and leaves out what is of its product. Keap refuses one that is identical to another of the contact, and
    /// is to go on doing so: `allow_duplicate` is never sent.
    pub async fn create(
        &self,
        body: Map<String, Value>,
        observed_at: Timestamp,
    ) -> Result<RemoteRecord, Failure> {
        let read = reader(observed_at);
        let reading = Reading::new(EntityType::Subscription, &read);
        let made = self.caller.post_record(self.caller.url(PATH), body, &reading).await;
        made.map_err(|failure| taken(failure, HELD_ALREADY))
    }

    /// Changes the properties named in `mask`, and no others.
    pub async fn update(
        &self,
        id: &str,
        mask: &[&str],
        body: Map<String, Value>,
        observed_at: Timestamp,
    ) -> Result<RemoteRecord, Failure> {
        let read = reader(observed_at);
        let url = masked(self.caller.url(&format!("{PATH}/{id}")), mask);
        self.joined(
            self.caller.patch_record(url, body, &Reading::new(EntityType::Subscription, &read)).await?,
        )
        .await
    }

    /// Ends a subscription; one that has ended already stays so.
    pub async fn deactivate(&self, id: &str, reason: Option<&str>) -> Result<(), Failure> {
        let body = reason.map(|reason| ("reason".to_owned(), Value::from(reason))).into_iter().collect();
        let url = self.caller.url(&format!("{PATH}/{id}:deactivate"));
        self.caller.send_json(Method::Post, url, body, "the end of a subscription").await.map(|_| ())
    }
}

fn reader(observed_at: Timestamp) -> impl Fn(String, WireObject<'_>) -> Result<RemoteRecord, String> {
    move |id, wire| subscription_from_wire(id, wire, observed_at)
}

#[cfg(test)]
mod tests;
