//! The list of contacts: its filter, and how a page is found without looking at every contact.
//!
//! A page walks the index of the asked order from the token's place. When the filter itself names few contacts (by id,
//! or by a recent update time), only those are looked at: a poll for changes costs what changed.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::custom::CustomCondition;
use super::page::{PageRequest, Place, SortKey};
use super::term::{self, IdRange, Term, TextMatch};
use crate::data::Data;
use crate::data::apply::e164;
use crate::data::contact::{Address, Company, CustomFieldValue, EmailAddress, PhoneNumber, Property};
use crate::data::record::Record;
use crate::data::validate::PHONE_SLOTS;
use crate::failure::Failure;

/// The orders of the contact list; the first is used when none is asked for.
pub(crate) const ORDERS: &[&str] = &["id", "create_time", "email", "update_time"];

/// Up to so many contacts are collected and sorted instead of walking an index past those that do not match.
const COLLECTED_MAX: usize = 5000;

/// The shortest prefix that a phone number may be searched by.
const PHONE_PREFIX_LENGTH_MIN: usize = 3;

/// One condition of a filter.
#[derive(Debug)]
enum Condition {
    Text(Property, TextMatch),
    Email(TextMatch),
    Company(u64),
    Phone { slots: Vec<String>, wanted: TextMatch },
    Address { slot: &'static str, part: AddressPart, wanted: TextMatch },
    LeadSource(BTreeSet<String>),
    Custom(CustomCondition),
}

#[derive(Debug, Clone, Copy)]
enum AddressPart {
    Line1,
    Locality,
    Region,
    PostalCode,
    CountryCode,
}

/// A parsed filter of the contact list.
#[derive(Debug)]
pub(crate) struct ContactFilter {
    ids: Option<BTreeSet<u64>>,
    id_range: IdRange,
    updated_from_ms: i64,
    updated_until_ms: i64,
    conditions: Vec<Condition>,
}

impl ContactFilter {
    /// Reads a filter against the custom fields the app has.
    pub(crate) fn read(filter: &str, data: &Data) -> Result<Self, Failure> {
        let terms = term::parse(filter)?;
        let mut parsed = Self {
            ids: None,
            id_range: IdRange::default(),
            updated_from_ms: i64::MIN,
            updated_until_ms: i64::MAX,
            conditions: Vec::new(),
        };
        for term in &terms {
            match term.field.as_str() {
                "ids" | "contact_ids" => {
                    let named: BTreeSet<u64> = term.ids()?.into_iter().collect();
                    parsed.ids = Some(match parsed.ids.take() {
                        None => named,
                        Some(before) => before.intersection(&named).copied().collect(),
                    });
                }
                "start_update_time" => parsed.updated_from_ms = term.equal_time_ms()?,
                "end_update_time" => parsed.updated_until_ms = term.equal_time_ms()?,
                // Read together with the number it restricts.
                "phone_fields" => {}
                "contact_id" => parsed.id_range.narrow(term.ordering()?, term.id()?),
                _ => parsed.conditions.push(read_condition(term, &terms, data)?),
            }
        }
        let has = |name: &str| terms.iter().any(|term| term.field == name);
        if has("phone_fields") && !has("phone_number") {
            return Err(Failure::bad_request("phone_fields needs phone_number"));
        }
        Ok(parsed)
    }

    fn matches(&self, record: &Record) -> bool {
        (self.updated_from_ms..=self.updated_until_ms).contains(&record.update_ms)
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&record.id))
            && self.id_range.contains(record.id)
            && self.conditions.iter().all(|condition| condition.matches(record))
    }

    /// The contacts worth looking at, when the filter names few.
    fn few_candidates<'data>(&self, data: &'data Data) -> Option<Vec<&'data Record>> {
        if let Some(ids) = &self.ids {
            return Some(ids.iter().filter_map(|id| data.contacts.get(*id)).collect());
        }
        if self.updated_from_ms == i64::MIN || self.updated_from_ms > self.updated_until_ms {
            return (self.updated_from_ms > self.updated_until_ms).then(Vec::new);
        }
        let updated = (self.updated_from_ms, 0)..=(self.updated_until_ms, u64::MAX);
        let mut found = Vec::new();
        for (_, id) in data.contacts.by_update().range(updated) {
            if found.len() == COLLECTED_MAX {
                return None;
            }
            found.extend(data.contacts.get(*id));
        }
        Some(found)
    }
}

/// One page of contacts, and the token of the next when there is one.
pub(crate) fn page<'data>(
    data: &'data Data,
    filter: &ContactFilter,
    request: &PageRequest,
) -> (Vec<&'data Record>, Option<String>) {
    let wanted = request.page_size + 1;
    let mut rows: Vec<&Record> = if let Some(mut few) = filter.few_candidates(data) {
        few.retain(|record| request.is_due(&place_of(record, request.order)) && filter.matches(record));
        few.sort_by(|left, right| {
            request.compare(&place_of(left, request.order), &place_of(right, request.order))
        });
        few.drain(..request.skipped.min(few.len()));
        few.truncate(wanted);
        few
    } else {
        let rows = walk(data, filter, request).filter(|record| filter.matches(record));
        rows.skip(request.skipped).take(wanted).collect()
    };
    let has_more = rows.len() == wanted;
    rows.truncate(request.page_size);
    let token =
        rows.last().filter(|_| has_more).map(|record| request.token_after(&place_of(record, request.order)));
    (rows, token)
}

fn place_of(record: &Record, order: &str) -> Place {
    let key = match order {
        "create_time" => SortKey::Number(record.create_ms),
        "update_time" => SortKey::Number(record.update_ms),
        "email" => SortKey::Text(record.email.to_string()),
        _ => SortKey::Number(0),
    };
    (key, record.id)
}

/// All contacts after the token's place in the asked order; by id, only those within the asked ids.
fn walk<'data>(
    data: &'data Data,
    filter: &ContactFilter,
    request: &PageRequest,
) -> Box<dyn Iterator<Item = &'data Record> + 'data> {
    let contacts = &data.contacts;
    let is_descending = request.is_descending;
    match request.order {
        "create_time" | "update_time" => {
            let index =
                if request.order == "create_time" { contacts.by_create() } else { contacts.by_update() };
            let after = match &request.after {
                Some((SortKey::Number(time_ms), id)) => Some((*time_ms, *id)),
                _ => None,
            };
            let ids = index.range(bounds(after, is_descending)).map(|(_, id)| *id);
            in_direction(ids, is_descending, move |id| contacts.get(id))
        }
        "email" => {
            let after = match &request.after {
                Some((SortKey::Text(email), id)) => Some((email.as_str().into(), *id)),
                _ => None,
            };
            let ids = contacts.by_email().range(bounds(after, is_descending)).map(|(_, id)| *id);
            in_direction(ids, is_descending, move |id| contacts.get(id))
        }
        _ => {
            let after = request.after.as_ref().map(|(_, id)| *id);
            let Some(ids) = filter.id_range.after(after, is_descending) else {
                return Box::new(std::iter::empty());
            };
            let found = contacts.records().range(ids).map(|(_, record)| record);
            if is_descending { Box::new(found.rev()) } else { Box::new(found) }
        }
    }
}

fn bounds<T>(after: Option<T>, is_descending: bool) -> (Bound<T>, Bound<T>) {
    let edge = after.map_or(Bound::Unbounded, Bound::Excluded);
    if is_descending { (Bound::Unbounded, edge) } else { (edge, Bound::Unbounded) }
}

fn in_direction<'data>(
    ids: impl DoubleEndedIterator<Item = u64> + 'data,
    is_descending: bool,
    get: impl Fn(u64) -> Option<&'data Record> + 'data,
) -> Box<dyn Iterator<Item = &'data Record> + 'data> {
    if is_descending { Box::new(ids.rev().filter_map(get)) } else { Box::new(ids.filter_map(get)) }
}

fn read_condition(term: &Term, terms: &[Term], data: &Data) -> Result<Condition, Failure> {
    let text = |property| term.text(true).map(|wanted| Condition::Text(property, wanted));
    let primary = |part| term.text(true).map(|wanted| Condition::Address { slot: "BILLING", part, wanted });
    match term.field.as_str() {
        "email" => Ok(Condition::Email(term.text(true)?)),
        "given_name" => text(Property::GivenName),
        "family_name" => text(Property::FamilyName),
        "middle_name" => text(Property::MiddleName),
        "website" => text(Property::Website),
        "city" => primary(AddressPart::Locality),
        "state" => primary(AddressPart::Region),
        "company_id" => {
            term.require_equal()?;
            Ok(Condition::Company(term.id()?))
        }
        "lead_source_name" => {
            let wanted = term.text(true)?;
            let known = data.lead_sources.iter().filter(|(_, name)| wanted.matches(name));
            Ok(Condition::LeadSource(known.map(|(id, _)| id.to_string()).collect()))
        }
        "phone_number" => read_phone(term, terms),
        field => match read_address_field(field) {
            Some((slot, part)) => Ok(Condition::Address { slot, part, wanted: term.text(false)? }),
            None => Ok(Condition::Custom(CustomCondition::read(term, &data.model)?)),
        },
    }
}

fn read_phone(term: &Term, terms: &[Term]) -> Result<Condition, Failure> {
    let slots: Vec<String> = terms
        .iter()
        .filter(|other| other.field == "phone_fields")
        .flat_map(|other| other.value.split(','))
        .map(|slot| slot.trim().to_owned())
        .collect();
    if slots.is_empty() || slots.iter().any(|slot| !PHONE_SLOTS.contains(&slot.as_str())) {
        return Err(Failure::bad_request("phone_number needs phone_fields of PHONE1 to PHONE5"));
    }
    let wanted = term.text(true)?;
    if wanted.is_prefix() && wanted.wanted().chars().count() < PHONE_PREFIX_LENGTH_MIN {
        return Err(Failure::bad_request("a wildcard on phone_number needs at least 3 characters before it"));
    }
    Ok(Condition::Phone { slots, wanted })
}

fn read_address_field(field: &str) -> Option<(&'static str, AddressPart)> {
    let (slot, part) =
        [("billing_address_", "BILLING"), ("shipping_address_", "SHIPPING"), ("other_address_", "OTHER")]
            .into_iter()
            .find_map(|(prefix, slot)| field.strip_prefix(prefix).map(|part| (slot, part)))?;
    let part = match part {
        "line1" => AddressPart::Line1,
        "locality" => AddressPart::Locality,
        "region" => AddressPart::Region,
        "postal_code" => AddressPart::PostalCode,
        "country_code" => AddressPart::CountryCode,
        _ => return None,
    };
    Some((slot, part))
}

impl Condition {
    fn matches(&self, record: &Record) -> bool {
        match self {
            Self::Text(property, wanted) => {
                record.value::<String>(*property).is_some_and(|text| wanted.matches(&text))
            }
            Self::Email(wanted) => {
                record.value::<Vec<EmailAddress>>(Property::EmailAddresses).is_some_and(|items| {
                    items.iter().filter_map(|item| item.email.as_deref()).any(|email| wanted.matches(email))
                })
            }
            Self::Company(id) => record
                .value::<Company>(Property::Company)
                .and_then(|company| company.id)
                .is_some_and(|company| company.parse() == Ok(*id)),
            Self::Phone { slots, wanted } => record
                .value::<Vec<PhoneNumber>>(Property::PhoneNumbers)
                .is_some_and(|items| items.iter().any(|item| phone_matches(item, slots, wanted))),
            Self::Address { slot, part, wanted } => record
                .value::<Vec<Address>>(Property::Addresses)
                .is_some_and(|items| items.iter().any(|item| address_matches(item, slot, *part, wanted))),
            Self::LeadSource(ids) => {
                record.value::<String>(Property::LeadsourceId).is_some_and(|id| ids.contains(&id))
            }
            Self::Custom(condition) => {
                let values =
                    record.value::<Vec<CustomFieldValue>>(Property::CustomFields).unwrap_or_default();
                condition.matches(&values)
            }
        }
    }
}

fn phone_matches(item: &PhoneNumber, slots: &[String], wanted: &TextMatch) -> bool {
    if !item.field.as_ref().is_some_and(|slot| slots.contains(slot)) {
        return false;
    }
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    let stored = item.number.as_deref().unwrap_or_default();
    let by_digits = {
        let (stored, searched) = (digits(stored), digits(wanted.wanted()));
        !searched.is_empty()
            && if wanted.is_prefix() { stored.starts_with(&searched) } else { stored == searched }
    };
    let by_e164 =
        !wanted.is_prefix() && e164(wanted.wanted()).is_some() && e164(wanted.wanted()) == item.number_e164;
    wanted.matches(stored) || by_digits || by_e164
}

fn address_matches(item: &Address, slot: &str, part: AddressPart, wanted: &TextMatch) -> bool {
    let text = match part {
        AddressPart::Line1 => &item.line1,
        AddressPart::Locality => &item.locality,
        AddressPart::Region => &item.region,
        AddressPart::PostalCode => &item.postal_code,
        AddressPart::CountryCode => &item.country_code,
    };
    item.field.as_deref() == Some(slot) && text.as_deref().is_some_and(|text| wanted.matches(text))
}
