//! Which contact carries which tag: the five lists, applying and removing.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::tags::{TagFilter, shown, sort_key};
use super::{body, id};
use crate::clock;
use crate::data::Data;
use crate::data::apply::Author;
use crate::data::contact::Property;
use crate::data::record::Record;
use crate::data::tags::Applied;
use crate::failure::Failure;
use crate::hooks::{Event, publish};
use crate::query::page::{PageRequest, Parameters, SortKey, parameter};
use crate::query::term::{self, Asked, Term, TextMatch};
use crate::simulator::Simulator;
use crate::tenant::Tenant;

/// Contacts in one call of applying or removing. Unverified for v2; v1 takes as many.
const CONTACT_IDS_MAX: usize = 100;

/// Ids in the filter of a list across contacts or tags.
const FILTER_IDS_MAX: usize = 100;

/// A span of application times; both ends belong to it.
#[derive(Debug, Default)]
struct AppliedSpan {
    from_ms: Option<i64>,
    until_ms: Option<i64>,
}

impl AppliedSpan {
    fn read(&mut self, term: &Term) -> Result<bool, Failure> {
        match term.field.as_str() {
            "since_applied_time" => self.from_ms = Some(term.equal_time_ms()?),
            "until_applied_time" => self.until_ms = Some(term.equal_time_ms()?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn contains(&self, at_ms: i64) -> bool {
        self.from_ms.is_none_or(|from_ms| at_ms >= from_ms)
            && self.until_ms.is_none_or(|until_ms| at_ms <= until_ms)
    }
}

/// `GET /contacts/{contact_id}/tags`
pub(crate) async fn list_of_contact(
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(contact_id): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Result<Json<Value>, Failure> {
    const ORDERS: &[&str] = &["name", "create_time", "update_time", "applied_time", "category_id"];
    let contact_id = id(&contact_id, "contact_id")?;
    let request = PageRequest::read(&parameters, ORDERS, tenant.page_tokens())?;
    let (mut filter, mut span) = (TagFilter::default(), AppliedSpan::default());
    for term in term::parse(parameter(&parameters, "filter").unwrap_or_default())? {
        if !filter.read(&term)? && !span.read(&term)? {
            return Err(term.unknown());
        }
    }
    let data = tenant.data();
    require_contact(&data, contact_id)?;
    let rows = data
        .tags
        .tags_of(contact_id)
        .filter(|(_, at_ms)| span.contains(*at_ms))
        .filter_map(|(tag_id, at_ms)| Some((data.tags.definitions.get(&tag_id)?, at_ms)))
        .filter(|(tag, _)| filter.matches(tag))
        .map(|(tag, at_ms)| {
            let key = match request.order {
                "applied_time" => SortKey::Number(at_ms),
                "category_id" => {
                    SortKey::Number(tag.category_id.and_then(|id| id.try_into().ok()).unwrap_or(0))
                }
                order => sort_key(tag, order),
            };
            ((key, tag.id), json!({ "tag": shown(tag), "applied_time": clock::format_ms(at_ms) }))
        })
        .collect();
    Ok(Json(request.cut("tags", rows)))
}

/// The conditions on a tagged contact.
#[derive(Debug, Default)]
struct TaggedFilter {
    given_name: Asked<TextMatch>,
    family_name: Asked<TextMatch>,
    email: Asked<TextMatch>,
    span: AppliedSpan,
}

impl TaggedFilter {
    fn read(filter: &str) -> Result<Self, Failure> {
        let mut parsed = Self::default();
        for term in term::parse(filter)? {
            match term.field.as_str() {
                "given_name" => parsed.given_name = term.optional_text()?,
                "family_name" => parsed.family_name = term.optional_text()?,
                "email" => parsed.email = term.optional_text()?,
                _ => {
                    if !parsed.span.read(&term)? {
                        return Err(term.unknown());
                    }
                }
            }
        }
        Ok(parsed)
    }

    fn matches(&self, contact: &TaggedContact) -> bool {
        self.given_name.matches(contact.given_name.as_deref())
            && self.family_name.matches(contact.family_name.as_deref())
            && self.email.matches(contact.email.as_deref())
    }
}

/// A contact as a list of a tag shows it.
struct TaggedContact {
    given_name: Option<String>,
    family_name: Option<String>,
    email: Option<String>,
}

impl TaggedContact {
    fn of(record: &Record) -> Self {
        Self {
            given_name: record.value(Property::GivenName),
            family_name: record.value(Property::FamilyName),
            email: (!record.email.is_empty()).then(|| record.email.to_string()),
        }
    }

    fn sort_key(&self, order: &str, at_ms: i64) -> SortKey {
        let text = |text: &Option<String>| SortKey::Text(text.as_deref().unwrap_or_default().to_lowercase());
        match order {
            "given_name" => text(&self.given_name),
            "family_name" => text(&self.family_name),
            "email" => text(&self.email),
            _ => SortKey::Number(at_ms),
        }
    }

    fn shown(self, id: u64, at_ms: i64) -> Value {
        let mut answer = Map::new();
        answer.insert("id".to_owned(), id.to_string().into());
        let texts =
            [("email", self.email), ("given_name", self.given_name), ("family_name", self.family_name)];
        for (name, text) in texts {
            if let Some(text) = text {
                answer.insert(name.to_owned(), text.into());
            }
        }
        answer.insert("applied_time".to_owned(), clock::format_ms(at_ms).into());
        Value::Object(answer)
    }
}

/// `GET /tags/{tag_id}/contacts`
pub(crate) async fn list_of_tag(
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(tag_id): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Result<Json<Value>, Failure> {
    const ORDERS: &[&str] = &["applied_time", "given_name", "family_name", "email"];
    let tag_id = id(&tag_id, "tag_id")?;
    let request = PageRequest::read(&parameters, ORDERS, tenant.page_tokens())?;
    let filter = TaggedFilter::read(parameter(&parameters, "filter").unwrap_or_default())?;
    let data = tenant.data();
    require_tag(&data, tag_id)?;
    let mut rows = Vec::new();
    for (contact_id, at_ms) in data.tags.contacts_of(tag_id) {
        let Some(record) = data.contacts.get(contact_id).filter(|_| filter.span.contains(at_ms)) else {
            continue;
        };
        let contact = TaggedContact::of(record);
        if filter.matches(&contact) {
            let place = (contact.sort_key(request.order, at_ms), contact_id);
            rows.push((place, contact.shown(contact_id, at_ms)));
        }
    }
    Ok(Json(request.cut("contacts", rows)))
}

/// `GET /tags/{tag_id}/contacts/count`
pub(crate) async fn count_of_tag(
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(tag_id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let tag_id = id(&tag_id, "tag_id")?;
    let data = tenant.data();
    require_tag(&data, tag_id)?;
    Ok(Json(json!({ "count": data.tags.contacts_of(tag_id).count() })))
}

/// `GET /contacts/-/tags`
pub(crate) async fn list_tags_across_contacts(
    Extension(tenant): Extension<Arc<Tenant>>,
    Query(parameters): Query<Parameters>,
) -> Result<Json<Value>, Failure> {
    let (contact_ids, span, request) = read_across(&tenant, &parameters, "contact_ids")?;
    let data = tenant.data();
    let rows = contact_ids
        .iter()
        .flat_map(|contact_id| data.tags.tags_of(*contact_id).map(|(tag_id, at)| (*contact_id, tag_id, at)));
    Ok(Json(cut_across("tags", &request, &span, rows)))
}

/// `GET /tags/-/contacts`
pub(crate) async fn list_contacts_across_tags(
    Extension(tenant): Extension<Arc<Tenant>>,
    Query(parameters): Query<Parameters>,
) -> Result<Json<Value>, Failure> {
    let (tag_ids, span, request) = read_across(&tenant, &parameters, "tag_ids")?;
    let data = tenant.data();
    let rows = tag_ids
        .iter()
        .flat_map(|tag_id| data.tags.contacts_of(*tag_id).map(|(contact_id, at)| (contact_id, *tag_id, at)));
    Ok(Json(cut_across("contacts", &request, &span, rows)))
}

/// The ids are demanded here, as the operation's text says; its parameter's text would also take a span of time alone.
fn read_across(
    tenant: &Tenant,
    parameters: &Parameters,
    ids_field: &str,
) -> Result<(BTreeSet<u64>, AppliedSpan, PageRequest), Failure> {
    let request = PageRequest::read(parameters, &["applied_time"], tenant.page_tokens())?;
    let (mut ids, mut span) = (BTreeSet::new(), AppliedSpan::default());
    for term in term::parse(parameter(parameters, "filter").unwrap_or_default())? {
        if term.field == ids_field {
            ids.extend(term.ids()?);
        } else if !span.read(&term)? {
            return Err(term.unknown());
        }
    }
    if ids.is_empty() || ids.len() > FILTER_IDS_MAX {
        return Err(Failure::bad_request(format!("filter needs {ids_field} with 1 to {FILTER_IDS_MAX} ids")));
    }
    Ok((ids, span, request))
}

fn cut_across(
    name: &str,
    request: &PageRequest,
    span: &AppliedSpan,
    rows: impl Iterator<Item = (u64, u64, i64)>,
) -> Value {
    let rows = rows
        .filter(|(_, _, at_ms)| span.contains(*at_ms))
        .map(|(contact_id, tag_id, at_ms)| {
            let row = json!({
                "contact_id": contact_id.to_string(),
                "tag_id": tag_id.to_string(),
                "applied_at": clock::format_ms(at_ms),
            });
            // One number that tells any two applications of one time apart: ids stay far below 2^32 here.
            ((SortKey::Number(at_ms), (contact_id << 32) | tag_id), row)
        })
        .collect();
    request.cut(name, rows)
}

/// The body that names contacts (`ApplyRemoveTagRequest`).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ContactIds {
    contact_ids: Vec<String>,
}

fn read_contact_ids(bytes: &Bytes) -> Result<Vec<u64>, Failure> {
    let request: ContactIds = body(bytes)?;
    if request.contact_ids.is_empty() || request.contact_ids.len() > CONTACT_IDS_MAX {
        return Err(Failure::bad_request(format!("contact_ids takes 1 to {CONTACT_IDS_MAX} ids")));
    }
    request.contact_ids.iter().map(|text| id(text, "contact_ids")).collect()
}

/// `POST /tags/{tag_id}/contacts:applyTags`
pub(crate) async fn apply(
    State(simulator): State<Simulator>,
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(tag_id): Path<String>,
    bytes: Bytes,
) -> Result<Json<Value>, Failure> {
    let tag_id = id(&tag_id, "tag_id")?;
    let contact_ids = read_contact_ids(&bytes)?;
    let results = apply_by(Author::Api, &simulator, &tenant, tag_id, &contact_ids)?;
    let words: Map<String, Value> = results
        .into_iter()
        .map(|(contact_id, applied)| (contact_id.to_string(), applied.word().into()))
        .collect();
    Ok(Json(json!({ "results": words })))
}

/// Applies a tag, and says for each contact what came of it.
pub(crate) fn apply_by(
    author: Author,
    simulator: &Simulator,
    tenant: &Arc<Tenant>,
    tag_id: u64,
    contact_ids: &[u64],
) -> Result<Vec<(u64, Applied)>, Failure> {
    let mut data = tenant.data();
    require_tag(&data, tag_id)?;
    let results = data.apply_tag(tag_id, contact_ids);
    drop(data);
    let applied: Vec<u64> = results
        .iter()
        .filter(|(_, applied)| *applied == Applied::Success)
        .map(|(contact_id, _)| *contact_id)
        .collect();
    if !applied.is_empty() {
        let event = Event::now("contactGroup.applied", tag_id).with_contacts(applied);
        publish(simulator, tenant, author, vec![event]);
    }
    Ok(results)
}

/// `POST /tags/{tag_id}/contacts:removeTags`
pub(crate) async fn remove(
    State(simulator): State<Simulator>,
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(tag_id): Path<String>,
    bytes: Bytes,
) -> Result<StatusCode, Failure> {
    let tag_id = id(&tag_id, "tag_id")?;
    let contact_ids = read_contact_ids(&bytes)?;
    remove_by(Author::Api, &simulator, &tenant, tag_id, &contact_ids)
}

/// Takes a tag off contacts.
pub(crate) fn remove_by(
    author: Author,
    simulator: &Simulator,
    tenant: &Arc<Tenant>,
    tag_id: u64,
    contact_ids: &[u64],
) -> Result<StatusCode, Failure> {
    let mut data = tenant.data();
    require_tag(&data, tag_id)?;
    let removed = data.remove_tag(tag_id, contact_ids);
    drop(data);
    if !removed.is_empty() {
        let event = Event::now("contactGroup.removed", tag_id).with_contacts(removed);
        publish(simulator, tenant, author, vec![event]);
    }
    Ok(StatusCode::NO_CONTENT)
}

fn require_tag(data: &Data, tag_id: u64) -> Result<(), Failure> {
    if data.tags.definitions.contains_key(&tag_id) {
        return Ok(());
    }
    Err(Failure::not_found("tag", &tag_id.to_string()))
}

fn require_contact(data: &Data, contact_id: u64) -> Result<(), Failure> {
    if data.contacts.get(contact_id).is_some() {
        return Ok(());
    }
    Err(Failure::not_found("contact", &contact_id.to_string()))
}
