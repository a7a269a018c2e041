//! The body that creates or changes a contact (`CreateUpdateContactRequest`).
//!
//! Properties outside the contract are refused. Whether Keap ignores them is unverified; a client that sends them
//! relies on something nobody promised.

use serde::Deserialize;

use super::contact::{Address, Company, CustomFieldValue, FaxNumber, PhoneNumber, Property, SocialAccount};

/// What a client may write. An absent property and a null are the same.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ContactRequest {
    pub(crate) given_name: Option<String>,
    pub(crate) middle_name: Option<String>,
    pub(crate) family_name: Option<String>,
    pub(crate) preferred_name: Option<String>,
    pub(crate) prefix: Option<String>,
    pub(crate) suffix: Option<String>,
    pub(crate) spouse_name: Option<String>,
    pub(crate) job_title: Option<String>,
    pub(crate) website: Option<String>,
    pub(crate) contact_type: Option<String>,
    pub(crate) owner_id: Option<String>,
    pub(crate) leadsource_id: Option<String>,
    pub(crate) source_type: Option<String>,
    pub(crate) preferred_locale: Option<String>,
    pub(crate) time_zone: Option<String>,
    pub(crate) referral_code: Option<String>,
    pub(crate) anniversary_date: Option<String>,
    pub(crate) birth_date: Option<String>,
    pub(crate) assistant_name: Option<String>,
    pub(crate) assistant_phone: Option<String>,
    pub(crate) billing_information: Option<String>,
    pub(crate) company: Option<Company>,
    pub(crate) origin: Option<OriginRequest>,
    pub(crate) email_addresses: Option<Vec<EmailAddressRequest>>,
    pub(crate) phone_numbers: Option<Vec<PhoneNumber>>,
    pub(crate) fax_numbers: Option<Vec<FaxNumber>>,
    pub(crate) addresses: Option<Vec<Address>>,
    pub(crate) custom_fields: Option<Vec<CustomFieldValue>>,
    pub(crate) social_accounts: Option<Vec<SocialAccount>>,
    pub(crate) utm_parameters: Option<UtmParametersRequest>,
}

/// An e-mail address as it is written: the opt-in status is Keap's own to decide.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EmailAddressRequest {
    pub(crate) email: String,
    #[serde(default)]
    pub(crate) field: Option<String>,
    #[serde(default)]
    pub(crate) opt_in_reason: Option<String>,
}

/// Where a contact came from, as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OriginRequest {
    pub(crate) ip_address: Option<String>,
}

/// How a contact was won, as it is written: snake case, unlike what is read back.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UtmParametersRequest {
    pub(crate) keap_source_id: String,
    #[serde(default)]
    pub(crate) utm_source: Option<String>,
    #[serde(default)]
    pub(crate) utm_medium: Option<String>,
    #[serde(default)]
    pub(crate) utm_term: Option<String>,
    #[serde(default)]
    pub(crate) utm_campaign: Option<String>,
    #[serde(default)]
    pub(crate) utm_content: Option<String>,
}

/// Which properties a write touches.
#[derive(Debug, Clone)]
pub(crate) enum Mask {
    /// Those the body gives a value.
    Given,
    /// Exactly these: one that the body leaves out is emptied.
    Named(Vec<Property>),
}

impl Mask {
    /// Whether a property is written, given whether the body has a value for it.
    pub(crate) fn covers(&self, property: Property, is_given: bool) -> bool {
        match self {
            Self::Given => is_given,
            Self::Named(properties) => properties.contains(&property),
        }
    }
}
