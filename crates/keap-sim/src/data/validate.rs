//! What Keap refuses in a contact: lengths, slots, codes and references, as the contract states them.
//!
//! Nothing is changed here; a request is checked whole before anything of it is applied.

use std::collections::BTreeSet;

use super::Data;
use super::contact::{Address, CustomFieldValue};
use super::model::ObjectModel;
use super::regions;
use super::request::{ContactRequest, EmailAddressRequest};
use crate::clock;
use crate::failure::Failure;

const SOURCE_TYPES: &[&str] = &[
    "SOURCE_TYPE_UNSPECIFIED",
    "API",
    "APPOINTMENT",
    "FORM_API_HOSTED",
    "FORM_API_INTERNAL",
    "IMPORT",
    "INTERNAL_FORM",
    "LANDING_PAGE",
    "MANUAL",
    "OTHER",
    "UNKNOWN",
    "WEBFORM",
];
const SOCIAL_TYPES: &[&str] = &[
    "SOCIAL_ACCOUNT_TYPE_UNSPECIFIED",
    "FACEBOOK",
    "LINKED_IN",
    "TWITTER",
    "INSTAGRAM",
    "SNAPCHAT",
    "YOUTUBE",
    "PINTEREST",
];
pub(crate) const EMAIL_SLOTS: &[&str] = &["EMAIL1", "EMAIL2", "EMAIL3"];
pub(crate) const PHONE_SLOTS: &[&str] = &["PHONE1", "PHONE2", "PHONE3", "PHONE4", "PHONE5"];
pub(crate) const FAX_SLOTS: &[&str] = &["FAX1", "FAX2"];
pub(crate) const ADDRESS_SLOTS: &[&str] = &["BILLING", "SHIPPING", "OTHER"];

/// The longest text content of a custom field.
const CUSTOM_TEXT_LENGTH_MAX: usize = 65_535;

/// Checks everything of a request that does not depend on the stored contact.
pub(crate) fn check(request: &ContactRequest, data: &Data) -> Result<(), Failure> {
    check_lengths(request)?;
    check_scalars(request)?;
    check_emails(request.email_addresses.as_deref().unwrap_or_default())?;
    check_phones(request)?;
    check_addresses(request.addresses.as_deref().unwrap_or_default())?;
    check_custom_fields(request.custom_fields.as_deref().unwrap_or_default(), &data.model)?;
    for account in request.social_accounts.iter().flatten() {
        one_of("social_accounts.type", Some(&account.kind), SOCIAL_TYPES)?;
        at_most("social_accounts.name", account.name.as_deref(), 255)?;
    }
    if let Some(id) = request.company.as_ref().and_then(|company| company.id.as_deref()) {
        let is_known = id.parse().is_ok_and(|id| data.companies.name(id).is_some());
        if !is_known {
            return Err(Failure::bad_request(format!("company {id} does not exist")));
        }
    }
    Ok(())
}

fn check_lengths(request: &ContactRequest) -> Result<(), Failure> {
    let limits = [
        ("given_name", &request.given_name, 40),
        ("family_name", &request.family_name, 40),
        ("middle_name", &request.middle_name, 100),
        ("preferred_name", &request.preferred_name, 100),
        ("spouse_name", &request.spouse_name, 100),
        ("website", &request.website, 100),
        ("job_title", &request.job_title, 255),
        ("assistant_name", &request.assistant_name, 20),
        ("assistant_phone", &request.assistant_phone, 15),
        ("billing_information", &request.billing_information, 100),
    ];
    limits.iter().try_for_each(|(name, value, limit)| at_most(name, value.as_deref(), *limit))
}

fn check_scalars(request: &ContactRequest) -> Result<(), Failure> {
    one_of("source_type", request.source_type.as_ref(), SOURCE_TYPES)?;
    for (name, value) in [("owner_id", &request.owner_id), ("leadsource_id", &request.leadsource_id)] {
        number_in_text(name, value.as_deref())?;
    }
    for (name, value) in
        [("birth_date", &request.birth_date), ("anniversary_date", &request.anniversary_date)]
    {
        date(name, value.as_deref())?;
    }
    Ok(())
}

/// Refuses an id that is not a number in a string.
pub(crate) fn number_in_text(name: &str, value: Option<&str>) -> Result<(), Failure> {
    if value.is_some_and(|id| !id.is_empty() && id.parse::<u64>().is_err()) {
        return Err(Failure::bad_request(format!("{name} must be a number in a string")));
    }
    Ok(())
}

/// Refuses a date that is not one of the calendar.
pub(crate) fn date(name: &str, value: Option<&str>) -> Result<(), Failure> {
    if value.is_some_and(|date| !date.is_empty() && !clock::is_date(date)) {
        return Err(Failure::bad_request(format!("{name} must be a date such as 1985-03-15")));
    }
    Ok(())
}

fn check_emails(items: &[EmailAddressRequest]) -> Result<(), Failure> {
    distinct_slots("email_addresses", items.iter().map(|item| item.field.as_deref()), EMAIL_SLOTS)?;
    for (place, item) in items.iter().enumerate() {
        let slot = item.field.as_deref().or_else(|| EMAIL_SLOTS.get(place).copied());
        let limit = if slot == Some("EMAIL1") { 75 } else { 100 };
        at_most("email_addresses.email", Some(&item.email), limit)?;
        let is_address = item.email.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty() && domain.contains('.') && !domain.contains('@')
        });
        if !is_address || item.email.chars().any(char::is_whitespace) {
            return Err(Failure::bad_request("email_addresses.email is not an e-mail address"));
        }
    }
    Ok(())
}

fn check_phones(request: &ContactRequest) -> Result<(), Failure> {
    let phones = request.phone_numbers.as_deref().unwrap_or_default();
    distinct_slots("phone_numbers", phones.iter().map(|item| item.field.as_deref()), PHONE_SLOTS)?;
    for item in phones {
        let is_short = matches!(item.field.as_deref(), Some("PHONE4" | "PHONE5"));
        at_most("phone_numbers.number", item.number.as_deref(), if is_short { 20 } else { 40 })?;
        if item.number.as_deref().is_none_or(str::is_empty) {
            return Err(Failure::bad_request("phone_numbers.number must not be empty"));
        }
    }
    let faxes = request.fax_numbers.as_deref().unwrap_or_default();
    distinct_slots("fax_numbers", faxes.iter().map(|item| item.field.as_deref()), FAX_SLOTS)
}

/// Refuses addresses whose slots, lengths or codes Keap does not take.
pub(crate) fn check_addresses(items: &[Address]) -> Result<(), Failure> {
    distinct_slots("addresses", items.iter().map(|item| item.field.as_deref()), ADDRESS_SLOTS)?;
    for (place, item) in items.iter().enumerate() {
        let slot = item.field.as_deref().or_else(|| ADDRESS_SLOTS.get(place).copied());
        let (line, locality) = if slot == Some("BILLING") { (75, 50) } else { (100, 100) };
        let postal = if slot == Some("SHIPPING") { 20 } else { 15 };
        at_most("addresses.line1", item.line1.as_deref(), line)?;
        at_most("addresses.line2", item.line2.as_deref(), line)?;
        at_most("addresses.locality", item.locality.as_deref(), locality)?;
        at_most("addresses.region", item.region.as_deref(), 50)?;
        at_most("addresses.postal_code", item.postal_code.as_deref(), postal)?;
        at_most("addresses.zip_code", item.zip_code.as_deref(), postal)?;
        at_most("addresses.zip_four", item.zip_four.as_deref(), 10)?;
        let has_region = present(item.region.as_deref()) || present(item.region_code.as_deref());
        if has_region && !present(item.country_code.as_deref()) {
            return Err(Failure::bad_request("addresses.country_code is required when a region is given"));
        }
        if item
            .country_code
            .as_deref()
            .is_some_and(|code| !code.is_empty() && !regions::is_country_code(code))
        {
            return Err(Failure::bad_request("addresses.country_code must be an ISO 3166-1 alpha-3 code"));
        }
    }
    Ok(())
}

/// Refuses values of fields that the model does not have, and two values of one field.
pub(crate) fn check_custom_fields(items: &[CustomFieldValue], model: &ObjectModel) -> Result<(), Failure> {
    let mut seen = BTreeSet::new();
    for item in items {
        if model.by_id(&item.id).is_none() {
            return Err(Failure::bad_request(format!("custom field {} does not exist", item.id)));
        }
        if !seen.insert(item.id.as_str()) {
            return Err(Failure::bad_request(format!("custom field {} is given twice", item.id)));
        }
        at_most("custom_fields.content", item.content.as_str(), CUSTOM_TEXT_LENGTH_MAX)?;
    }
    Ok(())
}

fn present(text: Option<&str>) -> bool {
    text.is_some_and(|text| !text.is_empty())
}

fn at_most(name: &str, value: Option<&str>, limit: usize) -> Result<(), Failure> {
    if value.is_some_and(|text| text.chars().count() > limit) {
        return Err(Failure::bad_request(format!("{name} must not be longer than {limit} characters")));
    }
    Ok(())
}

fn one_of(name: &str, value: Option<&String>, allowed: &[&str]) -> Result<(), Failure> {
    if value.is_some_and(|text| !allowed.contains(&text.as_str())) {
        return Err(Failure::bad_request(format!("{name} must be one of {}", allowed.join(", "))));
    }
    Ok(())
}

fn distinct_slots<'text>(
    name: &str,
    slots: impl ExactSizeIterator<Item = Option<&'text str>>,
    allowed: &[&str],
) -> Result<(), Failure> {
    if slots.len() > allowed.len() {
        return Err(Failure::bad_request(format!("{name} takes at most {} items", allowed.len())));
    }
    let mut seen = BTreeSet::new();
    for slot in slots.flatten() {
        if !allowed.contains(&slot) {
            return Err(Failure::bad_request(format!("{name}.field must be one of {}", allowed.join(", "))));
        }
        if !seen.insert(slot) {
            return Err(Failure::bad_request(format!("{name}.field {slot} is given twice")));
        }
    }
    Ok(())
}
