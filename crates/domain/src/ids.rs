//! Names of accounts and entities, validated where they enter.

use serde::{Deserialize, Deserializer, Serialize};

/// Longest account name, in characters.
pub const ACCOUNT_ID_LENGTH_MAX: usize = 64;

/// The name of one Keap account: `[a-z0-9-]{1,64}`. It names the account's Durable Object, its KV keys and its rows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct AccountId(String);

/// Why a text is not an account name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an account id is 1 to 64 characters of a-z, 0-9 and '-'")]
pub struct InvalidAccountId;

impl AccountId {
    /// Validates `text` as an account name.
    pub fn parse(text: &str) -> Result<Self, InvalidAccountId> {
        let fits = (1..=ACCOUNT_ID_LENGTH_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits { Ok(Self(text.to_owned())) } else { Err(InvalidAccountId) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the account's Durable Object.
    #[must_use]
    pub fn object_name(&self) -> String {
        format!("keap-{}", self.0)
    }
}

impl std::fmt::Display for AccountId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for AccountId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// The kinds of record that are mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntityType {
    /// A person or company contact: Keap's `contact`, the table `sync_contacts`.
    Contact,
    /// An order with its lines: the table `sync_orders`.
    Order,
    /// A tag: the table `sync_tags`. Which contacts carry it is a field of the contact.
    Tag,
    /// A subscription of a contact to a product's plan: the table `sync_subscriptions`.
    Subscription,
}

impl EntityType {
    /// Every kind that has a table.
    pub const ALL: [Self; 4] = [Self::Contact, Self::Order, Self::Tag, Self::Subscription];

    /// The name in `entity_type` columns, in JSON and in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Contact => "contact",
            Self::Order => "order",
            Self::Tag => "tag",
            Self::Subscription => "subscription",
        }
    }

    /// The plural in routes (`/sync/contacts`).
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::Contact => "contacts",
            Self::Order => "orders",
            Self::Tag => "tags",
            Self::Subscription => "subscriptions",
        }
    }

    /// Finds the kind by its plural in a route.
    #[must_use]
    pub fn from_plural(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.plural() == text)
    }

    /// Finds the kind by its name.
    #[must_use]
    pub fn from_name(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Longest Keap id, in digits: ids are 64-bit integers.
pub const KEAP_ID_DIGITS_MAX: usize = 19;

/// Whether `text` has the form of a Keap id: 1 to 19 ASCII digits.
#[must_use]
pub fn is_keap_id(text: &str) -> bool {
    (1..=KEAP_ID_DIGITS_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// Whether `text` is a UUID in its canonical form, hyphens included: what ids of rows, runs and conflicts are.
#[must_use]
pub fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(position, byte)| match position {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_uuids_are_uuids() {
        assert!(is_uuid("018f3f6e-0000-4000-8000-00000000abCD"));
        for bad in [
            "",
            "018f3f6e00004000800000000000abcd",
            "018f3f6e-0000-4000-8000-00000000abcg",
            "{018f3f6e-0000-4000-8000-00000000abc}",
        ] {
            assert!(!is_uuid(bad), "{bad}");
        }
    }

    #[test]
    fn account_ids_are_lower_case_digits_and_hyphens() {
        for good in ["a", "demo", "shop-2", &"x".repeat(64)] {
            assert!(AccountId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "Demo", "a b", "a/b", "ä", "a_b", &"x".repeat(65)] {
            assert!(AccountId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keap_ids_are_digits() {
        assert!(is_keap_id("1") && is_keap_id("9223372036854775807"));
        for bad in ["", "-1", "1.0", "abc", "12345678901234567890", "١"] {
            assert!(!is_keap_id(bad), "{bad}");
        }
    }
}
