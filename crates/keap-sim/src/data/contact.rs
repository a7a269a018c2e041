//! The contact of the contract (`Contact` in Keap's v2 contract) and its properties.
//!
//! Every property is optional, because an absent property is left out of answers and never sent as null.
//! Ids are strings on the wire.

use serde::{Deserialize, Serialize};
use serde_json::Value;

macro_rules! contact_properties {
    ($($variant:ident $field:ident: $kind:ty,)+) => {
        /// A property of a contact, as `fields` and `update_mask` name it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Property { $($variant,)+ }

        impl Property {
            /// All properties in the order they are written.
            pub(crate) const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name on the wire.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($field),)+ }
            }

            /// The property of that name.
            pub(crate) fn parse(name: &str) -> Option<Self> {
                match name { $(stringify!($field) => Some(Self::$variant),)+ _ => None }
            }
        }

        /// A contact with all its properties.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        pub(crate) struct Contact {
            $(#[serde(default, skip_serializing_if = "Option::is_none")]
            pub(crate) $field: Option<$kind>,)+
        }

        impl Contact {
            /// Hands each present property with its JSON writer to `visit`, in the order of [`Property::ALL`].
            pub(crate) fn for_each_property(
                &self,
                mut visit: impl FnMut(Property, Option<&dyn WriteJson>),
            ) {
                $(visit(Property::$variant, self.$field.as_ref().map(|value| value as &dyn WriteJson));)+
            }
        }
    };
}

contact_properties! {
    Id id: String,
    GivenName given_name: String,
    MiddleName middle_name: String,
    FamilyName family_name: String,
    PreferredName preferred_name: String,
    Prefix prefix: String,
    Suffix suffix: String,
    SpouseName spouse_name: String,
    JobTitle job_title: String,
    Website website: String,
    ContactType contact_type: String,
    OwnerId owner_id: String,
    LeadsourceId leadsource_id: String,
    SourceType source_type: String,
    PreferredLocale preferred_locale: String,
    TimeZone time_zone: String,
    ReferralCode referral_code: String,
    ScoreValue score_value: String,
    AnniversaryDate anniversary_date: String,
    BirthDate birth_date: String,
    CreateTime create_time: String,
    UpdateTime update_time: String,
    AccountId account_id: String,
    AssistantName assistant_name: String,
    AssistantPhone assistant_phone: String,
    BillingInformation billing_information: String,
    CreatedBy created_by: String,
    LastUpdatedBy last_updated_by: String,
    Groups groups: String,
    // In the contract's list of `fields`, but not in its `Contact` schema: it can be asked for and never has a value.
    Notes notes: String,
    Company company: Company,
    Origin origin: Origin,
    EmailAddresses email_addresses: Vec<EmailAddress>,
    PhoneNumbers phone_numbers: Vec<PhoneNumber>,
    FaxNumbers fax_numbers: Vec<FaxNumber>,
    Addresses addresses: Vec<Address>,
    CustomFields custom_fields: Vec<CustomFieldValue>,
    SocialAccounts social_accounts: Vec<SocialAccount>,
    TagIds tag_ids: Vec<String>,
    Links links: Vec<Link>,
    UtmParameters utm_parameters: Vec<UtmParameters>,
}

impl Property {
    /// What an answer carries when the request names no `fields`. The contract leaves this to the contact model's
    /// `optional_properties`; which they are for contacts is unverified, and a short list makes a client ask.
    pub(crate) const DEFAULT: &[Self] = &[
        Self::Id,
        Self::GivenName,
        Self::MiddleName,
        Self::FamilyName,
        Self::Company,
        Self::EmailAddresses,
        Self::PhoneNumbers,
        Self::Addresses,
    ];
}

/// Writes a value as JSON at the end of a buffer.
pub(crate) trait WriteJson {
    /// Appends the JSON text of the value.
    fn write_json(&self, out: &mut Vec<u8>);
}

impl<T: Serialize> WriteJson for T {
    fn write_json(&self, out: &mut Vec<u8>) {
        let start = out.len();
        // Writing plain data to memory cannot fail; if it ever did, a null is still valid JSON.
        if serde_json::to_writer(&mut *out, self).is_err() {
            out.truncate(start);
            out.extend_from_slice(b"null");
        }
    }
}

/// The company a contact belongs to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Company {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) company_name: Option<String>,
}

/// Where a contact came from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Origin {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) date: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ip_address: Option<String>,
}

/// An e-mail address in its slot, `EMAIL1` to `EMAIL3`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct EmailAddress {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) email: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) field: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) opt_in_reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) is_opt_in: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) email_opt_status: Option<String>,
}

/// A phone number in its slot, `PHONE1` to `PHONE5`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PhoneNumber {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) number: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) number_e164: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) extension: Option<String>,
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) field: Option<String>,
}

/// A fax number in its slot, `FAX1` or `FAX2`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FaxNumber {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) number: Option<String>,
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) field: Option<String>,
}

/// A postal address in its slot, `BILLING`, `SHIPPING` or `OTHER`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Address {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) field: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) line1: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) line2: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) locality: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) region: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) region_code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) country: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) country_code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) postal_code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) zip_code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) zip_four: Option<String>,
}

/// The value of a custom field; the content is any JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CustomFieldValue {
    pub(crate) id: String,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub(crate) content: Value,
}

/// A social account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SocialAccount {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    #[serde(rename = "type")]
    pub(crate) kind: String,
}

/// A link to another contact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Link {
    pub(crate) id: String,
    #[serde(rename = "linked_contact_id")]
    pub(crate) contact_id: String,
    #[serde(rename = "link_type_id")]
    pub(crate) type_id: String,
    #[serde(rename = "link_type_name")]
    pub(crate) type_name: String,
}

/// How a contact was won. The one part of a contact that the contract writes in camel case.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UtmParameters {
    pub(crate) id: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) keap_source_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) utm_source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) utm_medium: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) utm_term: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) utm_campaign: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) utm_content: Option<String>,
    #[serde(default)]
    pub(crate) first_touch: bool,
    #[serde(default)]
    pub(crate) last_touch: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) date_created: Option<String>,
}

impl Contact {
    /// The address in `EMAIL1`, in lower case: what sorting and duplicate checks go by. Empty when there is none.
    pub(crate) fn primary_email(&self) -> String {
        self.email_addresses
            .iter()
            .flatten()
            .find(|item| item.field.as_deref() == Some("EMAIL1"))
            .and_then(|item| item.email.as_deref())
            .unwrap_or_default()
            .to_lowercase()
    }

    /// Whether the contact can be reached at all; Keap refuses one that cannot.
    pub(crate) fn is_reachable(&self) -> bool {
        fn some<T>(list: Option<&Vec<T>>) -> bool {
            list.is_some_and(|items| !items.is_empty())
        }
        some(self.email_addresses.as_ref())
            || some(self.phone_numbers.as_ref())
            || some(self.addresses.as_ref())
    }
}
