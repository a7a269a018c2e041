//! Contacts (API v2): lists, single reads, creates and updates.
//!
//! Every read asks for the same fields, so that content hashes of one contact agree whichever call returned it. Records
//! of a page are parsed one by one: a broken one is reported and the others pass.

pub mod convert;

use crate::failure::{check, malformed};
use crate::query::Url;
use crate::transport::{Body, Credential, Method, Request, Response, Transport};
use convert::contact_from_wire;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::is_keap_id;
use keapsync_domain::limits::PAGE_RECORDS_MAX;
use keapsync_domain::remote::{RejectedRecord, RemoteRecord};
use keapsync_domain::secret::Secret;
use keapsync_domain::timestamp::Timestamp;
use keapsync_domain::wire::LinkField;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// What every read asks for: all that a contact has, but what repeats another field (`groups` repeats `tag_ids`) and
/// what the contract lists without saying its shape (`notes`).
const FIELDS: &str = "addresses,anniversary_date,assistant_name,assistant_phone,billing_information,birth_date,company,\
    contact_type,create_time,created_by,custom_fields,email_addresses,family_name,fax_numbers,given_name,id,job_title,\
    last_updated_by,leadsource_id,links,middle_name,origin,owner_id,phone_numbers,preferred_locale,preferred_name,prefix,\
    referral_code,score_value,social_accounts,source_type,spouse_name,suffix,tag_ids,time_zone,update_time,\
    utm_parameters,website";

/// Label of the custom field that carries our row's id, as people see it in Keap.
pub const LINK_FIELD_LABEL: &str = "keapsync row id";

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

#[derive(Deserialize)]
struct ListResponse<'a> {
    #[serde(borrow, default)]
    contacts: Vec<&'a RawValue>,
    #[serde(default)]
    next_page_token: Option<String>,
}

impl<T: Transport> ContactsApi<'_, T> {
    fn request(&self, method: Method, url: String, body: Body) -> Request {
        Request { method, url, credential: Credential::Bearer(self.access_token.clone()), body }
    }

    async fn list(&self, url: Url, observed_at: Timestamp) -> Result<ContactPage, Failure> {
        let what = "a list of contacts";
        let url = url.with("fields", FIELDS).build();
        let response = check(self.transport.send(self.request(Method::Get, url, Body::Empty)).await?, what)?;
        self.parse_page(&response, observed_at).map_err(|error| malformed(what, &error))
    }

    fn parse_page(
        &self,
        response: &Response,
        observed_at: Timestamp,
    ) -> Result<ContactPage, serde_json::Error> {
        let list: ListResponse<'_> = serde_json::from_slice(&response.body)?;
        let mut page = ContactPage {
            length: list.contacts.len(),
            next_page_token: list.next_page_token.filter(|token| !token.is_empty()),
            contacts: Vec::with_capacity(list.contacts.len()),
            ..ContactPage::default()
        };
        let mut last_id: Option<u64> = None;
        for raw in list.contacts {
            let id = match parse_contact(raw.get(), self.link_field, observed_at) {
                Ok(contact) => {
                    let id = contact.keap_id.parse().ok();
                    page.contacts.push(contact);
                    id
                }
                Err(rejected) => {
                    let id = rejected.keap_id.as_ref().and_then(|id| id.parse().ok());
                    page.rejected.push(rejected);
                    id
                }
            };
            last_id = last_id.max(id);
        }
        page.last_id = last_id.map(|id| id.to_string());
        Ok(page)
    }

    fn contacts_url(&self) -> Url {
        Url::new(self.base_url, "/rest/v2/contacts")
    }

    /// Contacts with ids above `after_id`, in order of id: one page.
    pub async fn list_after(
        &self,
        after_id: Option<&str>,
        observed_at: Timestamp,
    ) -> Result<ContactPage, Failure> {
        let mut url = self.contacts_url();
        if let Some(id) = after_id {
            url = url.with("filter", &format!("contact_id>{id}"));
        }
        let url = url.with("order_by", "id asc").with("page_size", &PAGE_RECORDS_MAX.to_string());
        self.list(url, observed_at).await
    }

    /// Contacts that changed at `since` or later, in order of change: one page.
    pub async fn list_changed(
        &self,
        since: Timestamp,
        page_token: Option<&str>,
        observed_at: Timestamp,
    ) -> Result<ContactPage, Failure> {
        let mut url = self
            .contacts_url()
            .with("filter", &format!("start_update_time=={}", since.to_rfc3339()))
            .with("order_by", "update_time asc")
            .with("page_size", &PAGE_RECORDS_MAX.to_string());
        if let Some(token) = page_token {
            url = url.with("page_token", token);
        }
        self.list(url, observed_at).await
    }

    /// Contacts of the given ids, at most 1000. Ids without a contact are absent from the answer.
    pub async fn list_ids(&self, ids: &[String], observed_at: Timestamp) -> Result<ContactPage, Failure> {
        let url = self
            .contacts_url()
            .with("filter", &format!("ids=={}", ids.join(",")))
            .with("page_size", &PAGE_RECORDS_MAX.to_string());
        self.list(url, observed_at).await
    }

    /// Contacts that carry `row_id` in the link field.
    pub async fn list_by_row_id(&self, row_id: &str, observed_at: Timestamp) -> Result<ContactPage, Failure> {
        let Some(link_field) = self.link_field else {
            return Err(Failure::new(
                FailureClass::Unavailable,
                "the custom field that carries row ids does not exist in Keap yet; it is made right after connecting",
            ));
        };
        let url = self.contacts_url().with("filter", &format!("{}=={row_id}", link_field.field_name));
        self.list(url.with("page_size", "10"), observed_at).await
    }

    /// One contact; `None` when Keap says that it does not exist.
    pub async fn get(&self, id: &str, observed_at: Timestamp) -> Result<Option<RemoteRecord>, Failure> {
        let what = "a read of a contact";
        let url = self.contact_url(id).with("fields", FIELDS).build();
        let response = self.transport.send(self.request(Method::Get, url, Body::Empty)).await?;
        match check(response, what) {
            Ok(response) => self.single(&response, what, observed_at).map(Some),
            Err(failure) if failure.class == FailureClass::NotFound => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Makes a contact.
    pub async fn create(
        &self,
        body: Map<String, Value>,
        observed_at: Timestamp,
    ) -> Result<RemoteRecord, Failure> {
        let what = "the creation of a contact";
        let url = self.contacts_url().with("fields", FIELDS).build();
        let request = self.request(Method::Post, url, Body::Json(Value::Object(body).to_string()));
        let response = check(self.transport.send(request).await?, what)?;
        self.single(&response, what, observed_at)
    }

    /// Changes the properties named in `mask`, and no others.
    pub async fn update(
        &self,
        id: &str,
        mask: &[&str],
        body: Map<String, Value>,
        observed_at: Timestamp,
    ) -> Result<RemoteRecord, Failure> {
        let what = "an update of a contact";
        let mut url = self.contact_url(id);
        for property in mask {
            // Repeated, not comma-joined: what the contract's default style and Keap's own SDK send.
            url = url.with("update_mask", property);
        }
        let url = url.with("fields", FIELDS).build();
        let request = self.request(Method::Patch, url, Body::Json(Value::Object(body).to_string()));
        let response = check(self.transport.send(request).await?, what)?;
        self.single(&response, what, observed_at)
    }

    /// Deletes a contact; one that does not exist (any more) counts as deleted.
    pub async fn delete(&self, id: &str) -> Result<(), Failure> {
        let request = self.request(Method::Delete, self.contact_url(id).build(), Body::Empty);
        match check(self.transport.send(request).await?, "the deletion of a contact") {
            Err(failure) if failure.class != FailureClass::NotFound => Err(failure),
            _ => Ok(()),
        }
    }

    /// Finds the custom field that carries row ids, or makes it.
    pub async fn ensure_link_field(&self) -> Result<LinkField, Failure> {
        let what = "a read of the contact model";
        let url = Url::new(self.base_url, "/rest/v2/contacts/model").build();
        let response = check(self.transport.send(self.request(Method::Get, url, Body::Empty)).await?, what)?;
        let model: Model = serde_json::from_slice(&response.body).map_err(|error| malformed(what, &error))?;
        if let Some(field) = model.custom_fields.into_iter().find(|field| field.label == LINK_FIELD_LABEL) {
            return Ok(LinkField { id: field.id, field_name: field.field_name });
        }
        let what = "the creation of a custom field";
        let url = Url::new(self.base_url, "/rest/v2/contacts/model/customFields").build();
        let body = serde_json::json!({"label": LINK_FIELD_LABEL, "field_type": "TEXT"}).to_string();
        let response =
            check(self.transport.send(self.request(Method::Post, url, Body::Json(body))).await?, what)?;
        let field: ModelField =
            serde_json::from_slice(&response.body).map_err(|error| malformed(what, &error))?;
        Ok(LinkField { id: field.id, field_name: field.field_name })
    }

    fn contact_url(&self, id: &str) -> Url {
        Url::new(self.base_url, &format!("/rest/v2/contacts/{id}"))
    }

    fn single(
        &self,
        response: &Response,
        what: &str,
        observed_at: Timestamp,
    ) -> Result<RemoteRecord, Failure> {
        let text = std::str::from_utf8(&response.body).map_err(|_| {
            Failure::new(FailureClass::Unexpected, format!("Keap's answer to {what} is not UTF-8 text"))
        })?;
        parse_contact(text, self.link_field, observed_at).map_err(|rejected| {
            Failure::new(FailureClass::Unexpected, format!("Keap's answer to {what}: {}", rejected.reason))
        })
    }
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    custom_fields: Vec<ModelField>,
}

#[derive(Deserialize)]
struct ModelField {
    id: String,
    #[serde(default)]
    label: String,
    #[serde(default)]
    field_name: String,
}

/// Reads one contact's JSON.
fn parse_contact(
    text: &str,
    link_field: Option<&LinkField>,
    observed_at: Timestamp,
) -> Result<RemoteRecord, RejectedRecord> {
    let value: Value = serde_json::from_str(text).map_err(|error| RejectedRecord {
        keap_id: None,
        reason: format!("the contact is not valid JSON (line {}, column {})", error.line(), error.column()),
    })?;
    let keap_id = match value.get("id") {
        Some(Value::String(id)) if is_keap_id(id) => Some(id.clone()),
        Some(Value::Number(id)) if is_keap_id(&id.to_string()) => Some(id.to_string()),
        _ => None,
    };
    let rejected = |reason: String| RejectedRecord { keap_id: keap_id.clone(), reason };
    // Postgres stores no NUL; the search of the text spares the walk in all but the rarest case.
    if text.contains("\\u0000") && holds_nul(&value) {
        return Err(rejected(
            "a text holds a NUL character, which Postgres cannot store: remove it in Keap".to_owned(),
        ));
    }
    let Value::Object(object) = value else {
        return Err(rejected("the contact is not a JSON object".to_owned()));
    };
    let Some(id) = keap_id.clone() else { return Err(rejected("the contact has no numeric id".to_owned())) };
    contact_from_wire(id, object, link_field.map(|field| field.id.as_str()), observed_at).map_err(rejected)
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(object) => object.iter().any(|(key, value)| key.contains('\0') || holds_nul(value)),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
