//! Contacts (API v2): lists, single reads, creates and updates.
//!
//! Every read asks for the same fields, so that content hashes of one contact agree whichever call returned it. Records
//! of a page are parsed one by one: a broken one is reported and the others pass.

pub mod convert;
mod slots;

use crate::caller::{Caller, ListQuery, Range, masked};
use crate::model::ensure_link_field;
use crate::page::{Reading, RecordPage};
use crate::query::Url;
use crate::transport::Transport;
use crate::wire::WireObject;
use convert::contact_from_wire;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::EntityType;
use keapsync_domain::remote::{RejectedRecord, RemoteRecord};
use keapsync_domain::secret::Secret;
use keapsync_domain::timestamp::Timestamp;
use keapsync_domain::wire::LinkField;
use serde_json::{Map, Value};

pub use crate::model::LINK_FIELD_LABEL;

/// What every read asks for: all that a contact has, but what repeats another field (`groups` repeats `tag_ids`) and
/// what the contract lists without saying its shape (`notes`).
const FIELDS: &str = "addresses,anniversary_date,assistant_name,assistant_phone,billing_information,birth_date,company,\
    contact_type,create_time,created_by,custom_fields,email_addresses,family_name,fax_numbers,given_name,id,job_title,\
    last_updated_by,leadsource_id,links,middle_name,origin,owner_id,phone_numbers,preferred_locale,preferred_name,prefix,\
    referral_code,score_value,social_accounts,source_type,spouse_name,suffix,tag_ids,time_zone,update_time,\
    utm_parameters,website";

/// Calls to the contacts API.
pub struct ContactsApi<'a, T> {
    /// Carries the requests.
    pub transport: &'a T,
    /// `https://api.infusionsoft.com/crm`, or the simulator's.
    pub base_url: &'a str,
    /// Bearer token.
    pub access_token: &'a Secret,
    /// The custom field that carries our row's id, once it exists.
    pub link_field: Option<&'a LinkField>,
}

/// A page of a list.
#[derive(Debug, Default)]
pub struct ContactPage {
    /// Contacts that could be read.
    pub contacts: Vec<RemoteRecord>,
    /// Contacts that could not.
    pub rejected: Vec<RejectedRecord>,
    /// Keap's token of the next page; none on the last.
    pub next_page_token: Option<String>,
    /// How many contacts the page held, readable or not.
    pub length: usize,
    /// The largest id on the page.
    pub last_id: Option<String>,
}

impl From<RecordPage> for ContactPage {
    fn from(page: RecordPage) -> Self {
        Self {
            contacts: page.records,
            rejected: page.rejected,
            next_page_token: page.next_page_token,
            length: page.length,
            last_id: page.last_id,
        }
    }
}

impl From<ContactPage> for RecordPage {
    fn from(page: ContactPage) -> Self {
        Self {
            records: page.contacts,
            rejected: page.rejected,
            length: page.length,
            last_id: page.last_id,
            next_page_token: page.next_page_token,
            next: None,
        }
    }
}

impl<T: Transport> ContactsApi<'_, T> {
    fn caller(&self) -> Caller<'_, T> {
        Caller { transport: self.transport, base_url: self.base_url, access_token: self.access_token }
    }

    async fn list(&self, url: Url, observed_at: Timestamp) -> Result<ContactPage, Failure> {
        let read = reader(self.link_field, observed_at);
        self.caller()
            .read_page(url.with("fields", FIELDS), &Reading::new(EntityType::Contact, &read))
            .await
            .map(ContactPage::from)
    }

    fn page_url(&self, query: ListQuery<'_>) -> Url {
        self.caller().list_url("/rest/v2/contacts", query)
    }

    /// Contacts of that range, in order of id: one page.
    pub async fn list_after(&self, range: Range<'_>, observed_at: Timestamp) -> Result<ContactPage, Failure> {
        let filter = range.filter("contact_id", Some("start_update_time"));
        let query = ListQuery { filter: filter.as_deref(), order_by: Some("id asc"), ..ListQuery::default() };
        self.list(self.page_url(query), observed_at).await
    }

    /// Contacts, those changed last first: one page.
    pub async fn list_newest(&self, observed_at: Timestamp) -> Result<ContactPage, Failure> {
        let query = ListQuery { order_by: Some("update_time desc"), ..ListQuery::default() };
        self.list(self.page_url(query), observed_at).await
    }

    /// Contacts of the given ids, at most 1000. Ids without a contact are absent from the answer.
    pub async fn list_ids(&self, ids: &[String], observed_at: Timestamp) -> Result<ContactPage, Failure> {
        let filter = format!("ids=={}", ids.join(","));
        let query = ListQuery { filter: Some(&filter), ..ListQuery::default() };
        self.list(self.page_url(query), observed_at).await
    }

    /// Contacts that carry `row_id` in the link field.
    pub async fn list_by_row_id(&self, row_id: &str, observed_at: Timestamp) -> Result<ContactPage, Failure> {
        let Some(link_field) = self.link_field else {
            return Err(Failure::new(
                FailureClass::Unavailable,
                "the custom field that carries row ids does not exist in Keap yet; it is made right after connecting",
            ));
        };
        let url = self
            .caller()
            .url("/rest/v2/contacts")
            .with("filter", &format!("{}=={row_id}", link_field.field_name));
        self.list(url.with("page_size", "10"), observed_at).await
    }

    /// One contact; `None` when Keap says that it does not exist.
    pub async fn get(&self, id: &str, observed_at: Timestamp) -> Result<Option<RemoteRecord>, Failure> {
        let read = reader(self.link_field, observed_at);
        self.caller()
            .read_one(self.contact_url(id).with("fields", FIELDS), &Reading::new(EntityType::Contact, &read))
            .await
    }

    /// Makes a contact.
    pub async fn create(
        &self,
        body: Map<String, Value>,
        observed_at: Timestamp,
    ) -> Result<RemoteRecord, Failure> {
        let read = reader(self.link_field, observed_at);
        let url = self.caller().url("/rest/v2/contacts").with("fields", FIELDS);
        self.caller().post_record(url, body, &Reading::new(EntityType::Contact, &read)).await
    }

    /// Changes the properties named in `mask`, and no others.
    pub async fn update(
        &self,
        id: &str,
        mask: &[&str],
        body: Map<String, Value>,
        observed_at: Timestamp,
    ) -> Result<RemoteRecord, Failure> {
        let read = reader(self.link_field, observed_at);
        let url = masked(self.contact_url(id), mask).with("fields", FIELDS);
        self.caller().patch_record(url, body, &Reading::new(EntityType::Contact, &read)).await
    }

    /// Deletes a contact; one that does not exist (any more) counts as deleted.
    pub async fn delete(&self, id: &str) -> Result<(), Failure> {
        self.caller().delete(self.contact_url(id), "the deletion of a contact").await
    }

    /// Finds the custom field that carries row ids, or makes it.
    pub async fn ensure_link_field(&self) -> Result<LinkField, Failure> {
        ensure_link_field(&self.caller(), EntityType::Contact).await
    }

    fn contact_url(&self, id: &str) -> Url {
        self.caller().url(&format!("/rest/v2/contacts/{id}"))
    }
}

fn reader(
    link_field: Option<&LinkField>,
    observed_at: Timestamp,
) -> impl Fn(String, WireObject<'_>) -> Result<RemoteRecord, String> {
    move |id, wire| contact_from_wire(id, wire, link_field.map(|field| field.id.as_str()), observed_at)
}

#[cfg(test)]
mod tests;
