//! Calls with a bearer token, shared by the APIs of this crate.

use crate::failure::{check, malformed};
use crate::page::{Reading, RecordPage, parse_page, parse_single};
use crate::query::Url;
use crate::transport::{Body, Credential, Method, Request, Response, Transport};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::limits::PAGE_RECORDS_MAX;
use keapsync_domain::remote::RemoteRecord;
use keapsync_domain::secret::Secret;
use keapsync_domain::timestamp::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Sends one account's requests.
pub struct Caller<'a, T> {
    /// Carries the requests.
    pub transport: &'a T,
    /// `https://api.infusionsoft.com/crm`, or the simulator's.
    pub base_url: &'a str,
    /// Bearer token.
    pub access_token: &'a Secret,
}

impl<T> Clone for Caller<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Caller<'_, T> {}

/// What part of a list is asked for, where the list is gone through in order of id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range<'a> {
    /// Only records with ids above this one.
    pub after_id: Option<&'a str>,
    /// Only records that changed at this moment or later, for lists that Keap filters by it.
    pub since: Option<Timestamp>,
}

impl Range<'_> {
    /// The filter for it, by the names that the list has for ids and, where it has one, for the time of change. `None` asks for all.
    pub(crate) fn filter(&self, id_name: &str, since_name: Option<&str>) -> Option<String> {
        let since = since_name.zip(self.since);
        let since = since.map(|(name, moment)| format!("{name}=={}", moment.to_rfc3339()));
        let above = self.after_id.map(|id| format!("{id_name}>{id}"));
        let terms: Vec<String> = since.into_iter().chain(above).collect();
        (!terms.is_empty()).then(|| terms.join(";"))
    }
}

/// The parameters of a list call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ListQuery<'a> {
    /// `field==value`, several joined by `;`.
    pub(crate) filter: Option<&'a str>,
    /// `field asc` or `field desc`.
    pub(crate) order_by: Option<&'a str>,
    /// Keap's token of a later page.
    pub(crate) page_token: Option<&'a str>,
}

impl<T: Transport> Caller<'_, T> {
    /// The address of a path.
    pub(crate) fn url(&self, path: &str) -> Url {
        Url::new(self.base_url, path)
    }

    /// The address of one page of a list.
    pub(crate) fn list_url(&self, path: &str, query: ListQuery<'_>) -> Url {
        let mut url = self.url(path);
        for (name, value) in [("filter", query.filter), ("order_by", query.order_by)] {
            if let Some(value) = value {
                url = url.with(name, value);
            }
        }
        url = url.with("page_size", &PAGE_RECORDS_MAX.to_string());
        match query.page_token {
            Some(token) => url.with("page_token", token),
            None => url,
        }
    }

    /// Sends a request; an answer that is no success is a failure. `what` names the call in messages.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: Url,
        body: Body,
        what: &str,
    ) -> Result<Response, Failure> {
        let credential = Credential::Bearer(self.access_token.clone());
        check(self.transport.send(Request { method, url: url.build(), credential, body }).await?, what)
    }

    /// Sends a JSON body.
    pub(crate) async fn send_json(
        &self,
        method: Method,
        url: Url,
        body: Map<String, Value>,
        what: &str,
    ) -> Result<Response, Failure> {
        self.send(method, url, Body::Json(Value::Object(body).to_string()), what).await
    }

    /// Reads an answer of a known shape.
    pub(crate) async fn read<A: DeserializeOwned>(&self, url: Url, what: &str) -> Result<A, Failure> {
        let response = self.send(Method::Get, url, Body::Empty, what).await?;
        serde_json::from_slice(&response.body).map_err(|error| malformed(what, &error))
    }

    /// Reads one page of records.
    pub(crate) async fn read_page(&self, url: Url, reading: &Reading<'_>) -> Result<RecordPage, Failure> {
        let what = format!("a list of {}", reading.entity.plural());
        let response = self.send(Method::Get, url, Body::Empty, &what).await?;
        parse_page(&response.body, reading).map_err(|error| malformed(&what, &error))
    }

    /// Reads one record; `None` when Keap says that it does not exist.
    pub(crate) async fn read_one(
        &self,
        url: Url,
        reading: &Reading<'_>,
    ) -> Result<Option<RemoteRecord>, Failure> {
        let what = format!("a read of {}", noun(reading));
        match self.send(Method::Get, url, Body::Empty, &what).await {
            Ok(response) => parse_single(&response.body, reading, &what).map(Some),
            Err(failure) if failure.class == FailureClass::NotFound => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Creates a record.
    pub(crate) async fn post_record(
        &self,
        url: Url,
        body: Map<String, Value>,
        reading: &Reading<'_>,
    ) -> Result<RemoteRecord, Failure> {
        let what = format!("the creation of {}", noun(reading));
        let response = self.send_json(Method::Post, url, body, &what).await?;
        parse_single(&response.body, reading, &what)
    }

    /// Changes what the mask in `url` names, and nothing else.
    pub(crate) async fn patch_record(
        &self,
        url: Url,
        body: Map<String, Value>,
        reading: &Reading<'_>,
    ) -> Result<RemoteRecord, Failure> {
        let what = format!("an update of {}", noun(reading));
        let response = self.send_json(Method::Patch, url, body, &what).await?;
        parse_single(&response.body, reading, &what)
    }

    /// Deletes; what does not exist (any more) counts as deleted.
    pub(crate) async fn delete(&self, url: Url, what: &str) -> Result<(), Failure> {
        match self.send(Method::Delete, url, Body::Empty, what).await {
            Err(failure) if failure.class != FailureClass::NotFound => Err(failure),
            _ => Ok(()),
        }
    }
}

/// Names the properties that a PATCH changes. Repeated, not comma-joined: what the contract's default style and Keap's own
/// SDK send.
pub(crate) fn masked(url: Url, mask: &[&str]) -> Url {
    mask.iter().fold(url, |url, property| url.with("update_mask", property))
}

fn noun(reading: &Reading<'_>) -> String {
    let name = reading.entity.as_str();
    let article = if name.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" };
    format!("{article} {name}")
}
