//! Changes of contacts: create, update, delete, and what Keap adds on its own to what was written.
//!
//! A list in a request replaces the stored list whole; an item that is not in it is gone. An empty text clears a
//! property. Every accepted write moves the update time, even one that changes nothing: whether Keap does so is
//! unverified, and this is the harder case for a client that must not echo.

use super::contact::{Address, Company, Contact, EmailAddress, Origin, Property, UtmParameters};
use super::record::Record;
use super::request::{ContactRequest, EmailAddressRequest, Mask};
use super::validate::{self, ADDRESS_SLOTS, EMAIL_SLOTS, FAX_SLOTS, PHONE_SLOTS};
use super::{Data, regions};
use crate::clock;
use crate::failure::Failure;

/// Which existing contact a creation may turn into an update of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DuplicateOption {
    Email,
    EmailAndName,
    EmailAndNameAndCompany,
}

impl DuplicateOption {
    /// The option of that name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "Email" => Some(Self::Email),
            "EmailAndName" => Some(Self::EmailAndName),
            "EmailAndNameAndCompany" => Some(Self::EmailAndNameAndCompany),
            _ => None,
        }
    }
}

/// Who makes a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Author {
    /// A client of the API.
    Api,
    /// A person in Keap's own screens.
    Person,
}

impl Author {
    const fn source_type(self) -> &'static str {
        match self {
            Self::Api => "API",
            Self::Person => "MANUAL",
        }
    }

    const fn user_id(self) -> &'static str {
        match self {
            Self::Api => "-1",
            Self::Person => "1",
        }
    }
}

impl Data {
    /// Creates a contact and returns its id.
    pub(crate) fn create_contact(&mut self, request: ContactRequest, author: Author) -> Result<u64, Failure> {
        validate::check(&request, self)?;
        let now_ms = clock::now_ms();
        let mut contact = Contact {
            source_type: Some(author.source_type().to_owned()),
            created_by: Some(author.user_id().to_owned()),
            tag_ids: Some(Vec::new()),
            ..Contact::default()
        };
        self.write(&mut contact, request, &Mask::Given, author, now_ms);
        require_reachable(&contact)?;
        Ok(self.contacts.insert(contact, now_ms, now_ms).id)
    }

    /// Changes a contact as far as the mask says.
    pub(crate) fn update_contact(
        &mut self,
        id: u64,
        request: ContactRequest,
        mask: &Mask,
        author: Author,
    ) -> Result<(), Failure> {
        let Some(record) = self.contacts.get(id) else {
            return Err(Failure::not_found("contact", &id.to_string()));
        };
        let mut contact = record.contact();
        validate::check(&request, self)?;
        let now_ms = clock::now_ms();
        self.write(&mut contact, request, mask, author, now_ms);
        require_reachable(&contact)?;
        self.contacts.update(id, contact, now_ms);
        Ok(())
    }

    /// Deletes a contact and its tag applications.
    pub(crate) fn delete_contact(&mut self, id: u64) -> Result<(), Failure> {
        if self.contacts.remove(id).is_none() {
            return Err(Failure::not_found("contact", &id.to_string()));
        }
        self.tags.forget_contact(id);
        Ok(())
    }

    /// The oldest contact that the option takes for the same one.
    pub(crate) fn find_duplicate(&self, request: &ContactRequest, option: DuplicateOption) -> Option<u64> {
        let email = request
            .email_addresses
            .iter()
            .flatten()
            .find(|item| item.field.as_deref().is_none_or(|field| field == "EMAIL1"))?;
        let same = |left: Option<&str>, right: Option<&str>| {
            left.unwrap_or_default().eq_ignore_ascii_case(right.unwrap_or_default())
        };
        let same_name = |record: &Record| {
            let value = |property| record.value::<String>(property);
            same(value(Property::GivenName).as_deref(), request.given_name.as_deref())
                && same(value(Property::FamilyName).as_deref(), request.family_name.as_deref())
        };
        let wanted_company = request.company.as_ref().and_then(|company| self.company_name(company));
        let same_company = |record: &Record| {
            let stored = record.value::<Company>(Property::Company).and_then(|company| company.company_name);
            same(stored.as_deref(), wanted_company.as_deref())
        };
        self.contacts
            .with_email(&email.email)
            .find(|record| match option {
                DuplicateOption::Email => true,
                DuplicateOption::EmailAndName => same_name(record),
                DuplicateOption::EmailAndNameAndCompany => same_name(record) && same_company(record),
            })
            .map(|record| record.id)
    }

    fn company_name(&self, company: &Company) -> Option<String> {
        match company.id.as_deref().and_then(|id| id.parse().ok()) {
            Some(id) => self.companies.name(id).map(str::to_owned),
            None => company.company_name.clone(),
        }
    }

    fn write(
        &mut self,
        contact: &mut Contact,
        request: ContactRequest,
        mask: &Mask,
        author: Author,
        now_ms: i64,
    ) {
        macro_rules! texts {
            ($($field:ident $property:ident),+ $(,)?) => {
                $(if mask.covers(Property::$property, request.$field.is_some()) {
                    contact.$field = request.$field.filter(|text| !text.is_empty());
                })+
            };
        }
        texts! {
            given_name GivenName, middle_name MiddleName, family_name FamilyName, preferred_name PreferredName,
            prefix Prefix, suffix Suffix, spouse_name SpouseName, job_title JobTitle, website Website,
            contact_type ContactType, owner_id OwnerId, leadsource_id LeadsourceId, source_type SourceType,
            preferred_locale PreferredLocale, time_zone TimeZone, referral_code ReferralCode,
            anniversary_date AnniversaryDate, birth_date BirthDate, assistant_name AssistantName,
            assistant_phone AssistantPhone, billing_information BillingInformation,
        }
        if mask.covers(Property::Company, request.company.is_some()) {
            contact.company = request.company.and_then(|company| self.resolve_company(company));
        }
        if mask.covers(Property::Origin, request.origin.is_some()) {
            contact.origin = request
                .origin
                .map(|origin| Origin { date: Some(clock::format_ms(now_ms)), ip_address: origin.ip_address });
        }
        if mask.covers(Property::EmailAddresses, request.email_addresses.is_some()) {
            let stored = contact.email_addresses.take().unwrap_or_default();
            contact.email_addresses = Some(emails(request.email_addresses.unwrap_or_default(), &stored));
        }
        if mask.covers(Property::PhoneNumbers, request.phone_numbers.is_some()) {
            let mut items = request.phone_numbers.unwrap_or_default();
            fill_slots(&mut items, PHONE_SLOTS, |item| &mut item.field);
            for item in &mut items {
                item.number_e164 = item.number.as_deref().and_then(e164);
            }
            contact.phone_numbers = Some(items);
        }
        if mask.covers(Property::FaxNumbers, request.fax_numbers.is_some()) {
            let mut items = request.fax_numbers.unwrap_or_default();
            fill_slots(&mut items, FAX_SLOTS, |item| &mut item.field);
            contact.fax_numbers = Some(items);
        }
        if mask.covers(Property::Addresses, request.addresses.is_some()) {
            let mut items = request.addresses.unwrap_or_default();
            fill_slots(&mut items, ADDRESS_SLOTS, |item| &mut item.field);
            items.iter_mut().for_each(complete_address);
            contact.addresses = Some(items);
        }
        if mask.covers(Property::CustomFields, request.custom_fields.is_some()) {
            let mut items = request.custom_fields.unwrap_or_default();
            items.retain(|item| !item.content.is_null() && item.content != "");
            contact.custom_fields = Some(items);
        }
        if mask.covers(Property::SocialAccounts, request.social_accounts.is_some()) {
            contact.social_accounts = Some(request.social_accounts.unwrap_or_default());
        }
        if let Some(utm) = request.utm_parameters.filter(|_| mask.covers(Property::UtmParameters, true)) {
            let list = contact.utm_parameters.get_or_insert_default();
            let is_first = list.is_empty();
            for item in &mut *list {
                item.last_touch = false;
            }
            list.push(UtmParameters {
                id: self.contacts.take_utm_id(),
                keap_source_id: Some(utm.keap_source_id),
                utm_source: utm.utm_source,
                utm_medium: utm.utm_medium,
                utm_term: utm.utm_term,
                utm_campaign: utm.utm_campaign,
                utm_content: utm.utm_content,
                first_touch: is_first,
                last_touch: true,
                date_created: Some(clock::format_ms(now_ms)),
            });
        }
        contact.last_updated_by = Some(author.user_id().to_owned());
    }

    fn resolve_company(&mut self, company: Company) -> Option<Company> {
        let id = match (company.id, company.company_name) {
            (Some(id), _) => id.parse().ok()?,
            (None, Some(name)) if !name.is_empty() => self.companies.id_of(&name),
            (None, _) => return None,
        };
        Some(Company { id: Some(id.to_string()), company_name: self.companies.name(id).map(str::to_owned) })
    }
}

fn require_reachable(contact: &Contact) -> Result<(), Failure> {
    if contact.is_reachable() {
        return Ok(());
    }
    Err(Failure::bad_request("a contact needs at least one of email_addresses, phone_numbers or addresses"))
}

/// Gives each item without a slot the first free one.
fn fill_slots<T>(items: &mut [T], slots: &[&str], field: impl Fn(&mut T) -> &mut Option<String>) {
    let mut taken: Vec<String> = items.iter_mut().filter_map(|item| field(item).clone()).collect();
    for item in items {
        let slot = field(item);
        if slot.is_none()
            && let Some(free) = slots.iter().find(|slot| !taken.iter().any(|other| other == *slot))
        {
            taken.push((*free).to_owned());
            *slot = Some((*free).to_owned());
        }
    }
}

/// The opt-in states that giving a reason lifts; all others stay.
const LIFTED_BY_REASON: &[&str] =
    &["UNENGAGED_MARKETABLE", "UNENGAGED_NON_MARKETABLE", "NON_MARKETABLE", "MANUAL"];

fn emails(requests: Vec<EmailAddressRequest>, stored: &[EmailAddress]) -> Vec<EmailAddress> {
    let mut items: Vec<EmailAddress> = requests
        .into_iter()
        .map(|request| {
            let known = stored.iter().find(|item| {
                item.email.as_deref().is_some_and(|email| email.eq_ignore_ascii_case(&request.email))
            });
            let status = known
                .and_then(|item| item.email_opt_status.clone())
                .unwrap_or_else(|| "UNENGAGED_NON_MARKETABLE".to_owned());
            let reason = request.opt_in_reason.filter(|reason| !reason.is_empty());
            let status = if reason.is_some() && LIFTED_BY_REASON.contains(&status.as_str()) {
                "SINGLE_OPT_IN".to_owned()
            } else {
                status
            };
            EmailAddress {
                email: Some(request.email),
                field: request.field,
                opt_in_reason: reason.or_else(|| known.and_then(|item| item.opt_in_reason.clone())),
                is_opt_in: Some(is_opt_in(&status)),
                email_opt_status: Some(status),
            }
        })
        .collect();
    fill_slots(&mut items, EMAIL_SLOTS, |item| &mut item.field);
    items
}

/// Whether mail may be sent to an address of that state.
pub(crate) fn is_opt_in(status: &str) -> bool {
    matches!(status, "SINGLE_OPT_IN" | "DOUBLE_OPT_IN" | "CONFIRMED" | "UNENGAGED_MARKETABLE")
}

/// The E.164 form, for numbers that plainly have one: with a leading `+`, or North American.
pub(crate) fn e164(number: &str) -> Option<String> {
    // What follows an extension mark or a remark is not part of the number.
    let end = number.find(['x', 'X']).unwrap_or(number.len());
    let main = number.get(..end).unwrap_or(number);
    let digits: String = main.chars().filter(char::is_ascii_digit).collect();
    if main.trim_start().starts_with('+') && (8..=15).contains(&digits.len()) {
        return Some(format!("+{digits}"));
    }
    match digits.len() {
        10 if !digits.starts_with(['0', '1']) => Some(format!("+1{digits}")),
        11 if digits.starts_with('1') => Some(format!("+{digits}")),
        _ => None,
    }
}

/// Adds the long names to codes, and the region's code to a long name, as Keap stores them.
pub(crate) fn complete_address(address: &mut Address) {
    if let Some(code) = address.country_code.as_deref() {
        address.country = regions::country_name(code).map(str::to_owned);
    }
    if let Some(code) = address.region_code.as_deref() {
        if let Some(name) = regions::region_name(code) {
            address.region = Some(name.to_owned());
        }
    } else if let Some(name) = address.region.as_deref() {
        address.region_code = regions::region_code(name).map(str::to_owned);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::contact::PhoneNumber;

    #[test]
    fn numbers_with_a_plain_e164_form_get_it() {
        for (number, expected) in [
            ("(480) 555-0134", Some("+14805550134")),
            ("1-480-555-0134 x12", Some("+14805550134")),
            ("+44 20 7946 0958", Some("+442079460958")),
            ("555-0134", None),
            ("call me", None),
        ] {
            assert_eq!(e164(number).as_deref(), expected, "{number}");
        }
    }

    #[test]
    fn codes_are_completed_by_long_names() {
        let mut address = Address {
            region_code: Some("US-AZ".to_owned()),
            country_code: Some("USA".to_owned()),
            ..Address::default()
        };
        complete_address(&mut address);
        assert_eq!(address.region.as_deref(), Some("Arizona"));
        assert_eq!(address.country.as_deref(), Some("United States"));
    }

    #[test]
    fn a_reason_lifts_only_the_states_that_keap_lifts() {
        let write = |status: &str| {
            let stored = [EmailAddress {
                email: Some("a@example.com".to_owned()),
                email_opt_status: Some(status.to_owned()),
                ..EmailAddress::default()
            }];
            let request = EmailAddressRequest {
                email: "A@example.com".to_owned(),
                field: None,
                opt_in_reason: Some("asked".to_owned()),
            };
            emails(vec![request], &stored).remove(0).email_opt_status.unwrap()
        };
        assert_eq!(write("MANUAL"), "SINGLE_OPT_IN");
        assert_eq!(write("HARD_BOUNCE"), "HARD_BOUNCE");
        assert_eq!(write("SPAM"), "SPAM");
    }

    #[test]
    fn items_without_a_slot_take_the_free_ones() {
        let mut items = [None, Some("PHONE1".to_owned()), None]
            .map(|field| PhoneNumber { field, ..PhoneNumber::default() });
        fill_slots(&mut items, PHONE_SLOTS, |item| &mut item.field);
        let slots = items.map(|item| item.field.unwrap());
        assert_eq!(slots, ["PHONE2", "PHONE1", "PHONE3"]);
    }
}
