//! Tags (API v2), their categories, and which contacts carry them.
//!
//! Tags differ from the other entities in two ways. A list can neither be filtered nor ordered by id, so a full run pages
//! by Keap's own token, in order of name, which is unique. And there are no custom fields to carry a row's id: the name
//! is the key.

mod applications;
mod categories;
pub mod convert;

pub use applications::{TagChange, change_tag};
pub use categories::{TagCategory, create_category, list_categories};

use crate::caller::{Caller, ListQuery, masked};
use crate::failure::taken;
use crate::names::NameCache;
use crate::page::{Reading, RecordPage};
use crate::transport::Transport;
use crate::walk::{Behind, Walk};
use crate::wire::WireObject;
use convert::tag_from_wire;
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::EntityType;
use keapsync_domain::remote::RemoteRecord;
use keapsync_domain::timestamp::Timestamp;
use serde_json::{Map, Value};

const PATH: &str = "/rest/v2/tags";

/// What to do when a name is in use.
const NAME_TAKEN: &str =
    "Keap has another tag of this name, and names are unique: choose another name, or use that tag";

/// Calls to the tags API.
pub struct TagsApi<'a, T> {
    /// Sends the requests.
    pub caller: Caller<'a, T>,
    /// Names of categories.
    pub names: &'a NameCache,
}

impl<T: Transport> TagsApi<'_, T> {
    async fn list(&self, query: ListQuery<'_>, observed_at: Timestamp) -> Result<RecordPage, Failure> {
        let read = reader(observed_at);
        let url = self.caller.list_url(PATH, query);
        let mut page = self.caller.read_page(url, &Reading::new(EntityType::Tag, &read)).await?;
        self.names.join_tags(&self.caller, &mut page.records).await?;
        Ok(page)
    }

    async fn joined(&self, remote: RemoteRecord) -> Result<RemoteRecord, Failure> {
        let mut records = [remote];
        self.names.join_tags(&self.caller, &mut records).await?;
        let [remote] = records;
        Ok(remote)
    }

    /// Tags that changed at `since` or later, or all of them, in order of name: one page.
    pub async fn list_all(
        &self,
        since: Option<Timestamp>,
        page_token: Option<&str>,
        observed_at: Timestamp,
    ) -> Result<RecordPage, Failure> {
        let filter = since.map(|moment| format!("since_update_time=={}", moment.to_rfc3339()));
        let query = ListQuery { filter: filter.as_deref(), order_by: Some("name asc"), page_token };
        self.list(query, observed_at).await
    }

    /// Tags of the given ids, at most 1000. Ids without a tag are absent from the answer.
    pub async fn list_ids(&self, ids: &[String], observed_at: Timestamp) -> Result<RecordPage, Failure> {
        let filter = format!("tag_ids=={}", ids.join(","));
        self.list(ListQuery { filter: Some(&filter), ..ListQuery::default() }, observed_at).await
    }

    /// Tags of that name. A name that means something in a filter cannot be asked for, so then all tags are read.
    pub async fn list_named(&self, name: &str, observed_at: Timestamp) -> Result<Vec<RemoteRecord>, Failure> {
        let filter = format!("name=={name}");
        let filter = (!name.contains([';', '*', '=', ','])).then_some(filter.as_str());
        let (mut found, mut walk) = (Vec::new(), Walk::default());
        loop {
            let query = ListQuery { filter, order_by: Some("name asc"), page_token: walk.token.as_deref() };
            let page = self.list(query, observed_at).await?;
            let behind = walk.step(page.met(), page.next_page_token.clone(), EntityType::Tag.plural())?;
            let named = page.records.into_iter().filter(|tag| {
                tag.record.get_by_name("name").as_str().is_some_and(|held| held.trim() == name.trim())
            });
            found.extend(named);
            match behind {
                Behind::Page => {}
                Behind::Pass => found.clear(),
                Behind::Nothing => return Ok(found),
            }
        }
    }

    /// One tag; `None` when Keap says that it does not exist.
    pub async fn get(&self, id: &str, observed_at: Timestamp) -> Result<Option<RemoteRecord>, Failure> {
        let read = reader(observed_at);
        match self
            .caller
            .read_one(self.caller.url(&format!("{PATH}/{id}")), &Reading::new(EntityType::Tag, &read))
            .await?
        {
            Some(remote) => self.joined(remote).await.map(Some),
            None => Ok(None),
        }
    }

    /// Makes a tag.
    pub async fn create(
        &self,
        body: Map<String, Value>,
        observed_at: Timestamp,
    ) -> Result<RemoteRecord, Failure> {
        let read = reader(observed_at);
        let reading = Reading::new(EntityType::Tag, &read);
        let made = self.caller.post_record(self.caller.url(PATH), body, &reading).await;
        self.joined(made.map_err(|failure| taken(failure, NAME_TAKEN))?).await
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
        let written = self.caller.patch_record(url, body, &Reading::new(EntityType::Tag, &read)).await;
        self.joined(written.map_err(|failure| taken(failure, NAME_TAKEN))?).await
    }

    /// Deletes a tag, which also takes it off every contact; one that does not exist (any more) counts as deleted.
    pub async fn delete(&self, id: &str) -> Result<(), Failure> {
        self.caller.delete(self.caller.url(&format!("{PATH}/{id}")), "the deletion of a tag").await
    }
}

fn reader(observed_at: Timestamp) -> impl Fn(String, WireObject<'_>) -> Result<RemoteRecord, String> {
    move |id, wire| tag_from_wire(id, wire, observed_at)
}

#[cfg(test)]
mod tests;
