//! All entities behind one set of calls, so that who syncs them knows none by itself.
//!
//! What differs between them is dispatched here and described by the [capability table](crate::capability). Answers are
//! [`RemoteRecord`]s, whole and with their names joined.
//!
//! Writes take several calls where Keap wants it so: a contact's tags, an order's lines, the end of a subscription. Each
//! call may be the last one that lands. A repeated [`update`](RecordsApi::update) plans again from what Keap then holds,
//! and a repeated create is never sent before [`find_created`](RecordsApi::find_created) has looked.

mod find;
mod units;
mod write;

pub use write::{Change, Written, as_created};

use crate::caller::{Caller, Range};
use crate::capability::{Changes, DeleteSupport, FullPages, capability};
use crate::contacts::ContactsApi;
use crate::model::ensure_link_field;
use crate::names::NameCache;
use crate::orders::OrdersApi;
use crate::page::RecordPage;
use crate::subscriptions::SubscriptionsApi;
use crate::tags::TagsApi;
use crate::transport::Transport;
use crate::walk::{Behind, Walk};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::EntityType;
use keapsync_domain::limits::PAGE_RECORDS_MAX;
use keapsync_domain::remote::RemoteRecord;
use keapsync_domain::run::Cursor;
use keapsync_domain::timestamp::Timestamp;
use keapsync_domain::wire::{LinkField, LinkFields};

/// The custom fields that carry our rows' ids, once they exist.
#[derive(Clone, Copy, Debug, Default)]
pub struct Links<'a> {
    /// On contacts.
    pub contact: Option<&'a LinkField>,
    /// On orders.
    pub order: Option<&'a LinkField>,
}

impl<'a> Links<'a> {
    /// Those that exist.
    #[must_use]
    pub fn of(fields: &'a LinkFields) -> Self {
        Self { contact: fields.contact.as_ref(), order: fields.order.as_ref() }
    }
}

/// Calls for any entity. Lives for one pass over an account: what names it has learnt are those of its time.
pub struct RecordsApi<'a, T> {
    /// Sends the requests.
    pub caller: Caller<'a, T>,
    /// The custom fields that carry our rows' ids.
    pub links: Links<'a>,
    names: NameCache,
}

impl<'a, T: Transport> RecordsApi<'a, T> {
    /// Calls as `caller`.
    #[must_use]
    pub fn new(caller: Caller<'a, T>, links: Links<'a>) -> Self {
        Self { caller, links, names: NameCache::default() }
    }

    fn contacts(&self) -> ContactsApi<'a, T> {
        let Caller { transport, base_url, access_token } = self.caller;
        ContactsApi { transport, base_url, access_token, link_field: self.links.contact }
    }

    fn orders(&self) -> OrdersApi<'a, T> {
        OrdersApi { caller: self.caller, link_field: self.links.order }
    }

    fn tags(&self) -> TagsApi<'_, T> {
        TagsApi { caller: self.caller, names: &self.names }
    }

    fn subscriptions(&self) -> SubscriptionsApi<'_, T> {
        SubscriptionsApi { caller: self.caller, names: &self.names }
    }

    /// One page of all records, or of those that changed at `cursor.since` or later where Keap filters the entity by that; and where the
    /// next one goes on.
    pub async fn list_after(
        &self,
        entity: EntityType,
        cursor: &Cursor,
        observed_at: Timestamp,
    ) -> Result<RecordPage, Failure> {
        let range = Range { after_id: cursor.after_id.as_deref(), since: cursor.since };
        let token = cursor.page_token.as_deref();
        let mut page = match entity {
            EntityType::Contact => self.contacts().list_after(range, observed_at).await?.into(),
            EntityType::Order => self.orders().list_after(range, observed_at).await?,
            EntityType::Tag => self.tags().list_all(range.since, token, observed_at).await?,
            EntityType::Subscription => self.subscriptions().list_after(range, observed_at).await?,
        };
        page.next = match capability(entity).full {
            FullPages::ByKey(_) => behind_last_id(entity, cursor, &page)?,
            FullPages::ByToken(_) => behind_moving_page(entity, cursor, &page)?,
        };
        Ok(page)
    }

    /// The records that changed last: one page, of an entity whose full runs go by key.
    pub async fn list_newest(
        &self,
        entity: EntityType,
        observed_at: Timestamp,
    ) -> Result<RecordPage, Failure> {
        match entity {
            EntityType::Contact => self.contacts().list_newest(observed_at).await.map(RecordPage::from),
            EntityType::Order => self.orders().list_newest(observed_at).await,
            EntityType::Tag => self.tags().list_all(None, None, observed_at).await,
            EntityType::Subscription => {
                self.subscriptions().list_changed(Timestamp::default(), observed_at).await
            }
        }
    }

    /// One page of what changed at `cursor.since` or later, and where the next one goes on. Not in order of change: what is edited between
    /// two pages would move within it, and another record slide over the border.
    pub async fn list_changed(
        &self,
        entity: EntityType,
        cursor: &Cursor,
        observed_at: Timestamp,
    ) -> Result<RecordPage, Failure> {
        match capability(entity).changes {
            Changes::Filter(_) => self.list_after(entity, cursor, observed_at).await,
            Changes::NewestFirst(_) => self.list_newer(entity, cursor, observed_at).await,
        }
    }

    /// [`list_changed`](Self::list_changed) where Keap has no filter on the time of change: the page of what changed last, and where
    /// that does not reach back to `cursor.since`, all in order of id.
    async fn list_newer(
        &self,
        entity: EntityType,
        cursor: &Cursor,
        observed_at: Timestamp,
    ) -> Result<RecordPage, Failure> {
        if cursor.after_id.is_some() {
            return self.list_after(entity, cursor, observed_at).await;
        }
        let since = cursor.since.unwrap_or_default();
        let mut page = self.subscriptions().list_changed(since, observed_at).await?;
        let first = Cursor { after_id: Some("0".to_owned()), page_token: None, ..cursor.clone() };
        page.next = page.next_page_token.is_some().then_some(first);
        Ok(page)
    }

    /// Records of the given ids, at most 1000. Ids without a record are absent from the answer.
    pub async fn list_ids(
        &self,
        entity: EntityType,
        ids: &[String],
        observed_at: Timestamp,
    ) -> Result<RecordPage, Failure> {
        match entity {
            EntityType::Contact => self.contacts().list_ids(ids, observed_at).await.map(RecordPage::from),
            EntityType::Order => self.orders().list_ids(ids, observed_at).await,
            EntityType::Tag => self.tags().list_ids(ids, observed_at).await,
            EntityType::Subscription => self.subscriptions().list_ids(ids, observed_at).await,
        }
    }

    /// One record; `None` when Keap says that it does not exist.
    pub async fn get(
        &self,
        entity: EntityType,
        id: &str,
        observed_at: Timestamp,
    ) -> Result<Option<RemoteRecord>, Failure> {
        match entity {
            EntityType::Contact => self.contacts().get(id, observed_at).await,
            EntityType::Order => self.orders().get(id, observed_at).await,
            EntityType::Tag => self.tags().get(id, observed_at).await,
            EntityType::Subscription => self.subscriptions().get(id, observed_at).await,
        }
    }

    /// Deletes a record; one that does not exist (any more) counts as deleted.
    pub async fn delete(&self, entity: EntityType, id: &str) -> Result<(), Failure> {
        if let DeleteSupport::Never(advice) = capability(entity).delete {
            return Err(Failure::new(FailureClass::Invalid, advice));
        }
        match entity {
            EntityType::Contact => self.contacts().delete(id).await,
            EntityType::Order => self.orders().delete(id).await,
            EntityType::Tag => self.tags().delete(id).await,
            EntityType::Subscription => Err(no_such_call("deletes no subscription")),
        }
    }

    /// Finds the custom field that carries row ids on `entity`, or makes it.
    pub async fn ensure_link_field(&self, entity: EntityType) -> Result<LinkField, Failure> {
        ensure_link_field(&self.caller, entity).await
    }
}

/// What asking for a call that the API has not got for the kind of record ends in: never in another kind's call.
fn no_such_call(what: &str) -> Failure {
    Failure::new(FailureClass::Invalid, format!("Keap's API {what}"))
}

/// Where a list in order of id goes on: above the last id. Each page is one answer, of one moment; and what is above an id moves nowhere,
/// whatever comes, goes or changes between two of them.
fn behind_last_id(entity: EntityType, cursor: &Cursor, page: &RecordPage) -> Result<Option<Cursor>, Failure> {
    if page.length == 0 || (page.length < PAGE_RECORDS_MAX && page.next_page_token.is_none()) {
        return Ok(None);
    }
    let stuck = |why: &str| {
        let what = entity.plural();
        let message = format!("Keap sent a page of {what} {why}; the run cannot go on behind it");
        Failure::new(FailureClass::Unexpected, message)
    };
    let number = |id: &str| id.parse::<u64>().ok();
    match &page.last_id {
        Some(last_id) if number(last_id) <= cursor.after_id.as_deref().and_then(number) => {
            Err(stuck("of which none is above the id that was asked for"))
        }
        Some(last_id) => {
            Ok(Some(Cursor { after_id: Some(last_id.clone()), page_token: None, ..cursor.clone() }))
        }
        None => Err(stuck("of which none tells its id")),
    }
}

/// Where a list goes on that moves while it is read.
fn behind_moving_page(
    entity: EntityType,
    cursor: &Cursor,
    page: &RecordPage,
) -> Result<Option<Cursor>, Failure> {
    let mut walk = Walk { pass: cursor.pass.unwrap_or_default(), token: cursor.page_token.clone() };
    let behind = walk.step(page.met(), page.next_page_token.clone(), entity.plural())?;
    let next = || Cursor { page_token: walk.token, pass: Some(walk.pass), ..cursor.clone() };
    Ok((behind != Behind::Nothing).then(next))
}

#[cfg(test)]
mod sent_tests;
#[cfg(test)]
mod tests;
