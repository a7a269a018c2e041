//! What fields each entity has, how their values compare, and what Keap lets us write.
//!
//! A field's name is at once the column's name in Postgres and the key in `base`, policies, conflicts and the audit log.
//! The order of fields is the order of values in a [`Record`](crate::record::Record).

mod contact;
mod order;
mod subscription;
mod tag;

pub use contact::CONTACT_FIELDS;
pub use order::ORDER_FIELDS;
pub use subscription::SUBSCRIPTION_FIELDS;
pub use tag::TAG_FIELDS;

use crate::ids::EntityType;

/// How values of a field compare and merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// Free text: trimmed; empty is absent.
    Text,
    /// An e-mail address: trimmed, domain in lower case.
    Email,
    /// A phone number: compared by its digits and a leading plus sign.
    Phone,
    /// A calendar date, `YYYY-MM-DD`.
    Date,
    /// A moment, RFC 3339: compared in UTC to the millisecond.
    Instant,
    /// A whole number.
    Integer,
    /// True or false.
    Boolean,
    /// An amount of money, as a decimal in a text (a JSON number would lose digits): compared as a number. Its currency is a field of its own.
    Money,
    /// One postal address: a JSON object, settled as a whole because half an address of each side is neither.
    Address,
    /// A set of texts, as a JSON array: merged element by element.
    Set,
    /// A JSON array of objects told apart by a key of theirs ([`SlotKind::key`]): merged slot by slot.
    Slots(SlotKind),
    /// A JSON object: merged key by key.
    Map,
}

impl FieldKind {
    /// Whether values of this kind merge part by part instead of as a whole.
    #[must_use]
    pub const fn has_parts(self) -> bool {
        matches!(self, Self::Set | Self::Slots(_) | Self::Map)
    }
}

/// What the objects of a [`FieldKind::Slots`] field hold, which decides how they compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotKind {
    /// `{field, email, …}`
    Email,
    /// `{field, number, extension, type}`; `number_e164` is Keap's own derivation, and no edit.
    Phone,
    /// `{field, line1, …}`; `region`, `country`, `zip_code` and `zip_four` follow from `region_code`, `country_code` and `postal_code`,
    /// and are an edit only where they are edited themselves.
    Address,
    /// A line of an order, `{id, name, quantity, price_per_unit, …}`: amounts and the quantity compare as numbers.
    Item,
}

impl SlotKind {
    /// The key by which slots of one field are told apart: Keap names the slots of a contact (`EMAIL2`, `BILLING`) and
    /// numbers the lines of an order.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Email | Self::Phone | Self::Address => "field",
            Self::Item => "id",
        }
    }

    /// How a property of such a slot compares where it is known to be more than JSON: Keap sends a line's ids as texts and
    /// its quantity as a number, and people write either.
    #[must_use]
    pub fn property_kind(self, property: &str) -> Option<FieldKind> {
        match self {
            Self::Email | Self::Phone | Self::Address => None,
            Self::Item => order::line_property_kind(property),
        }
    }
}

/// Whether an edit in Supabase can be carried to Keap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteAccess {
    /// By create and by update.
    Writable,
    /// By create only; afterwards as [`WriteAccess::ReadOnly`].
    CreateOnly(&'static str),
    /// Not at all; the reason is for people. An edit is audited and the value restored from Keap.
    ReadOnly(&'static str),
}

/// One field of an entity.
#[derive(Debug)]
pub struct Field {
    /// Column name.
    pub name: &'static str,
    /// How it compares and merges.
    pub kind: FieldKind,
    /// Whether Keap takes an edit of it.
    pub access: WriteAccess,
    /// Longest text Keap takes, in characters; 0 where no length is documented.
    pub length_max: usize,
}

impl WriteAccess {
    /// Why an edit of an existing record is refused; `None` where Keap takes it.
    #[must_use]
    pub const fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Writable => None,
            Self::CreateOnly(reason) | Self::ReadOnly(reason) => Some(reason),
        }
    }
}

impl Field {
    const fn text(name: &'static str, length_max: usize) -> Self {
        Self { name, kind: FieldKind::Text, access: WriteAccess::Writable, length_max }
    }

    /// A field that Keap takes, without a documented length.
    const fn writable(name: &'static str, kind: FieldKind) -> Self {
        Self { name, kind, access: WriteAccess::Writable, length_max: 0 }
    }

    const fn read_only(name: &'static str, kind: FieldKind, reason: &'static str) -> Self {
        Self { name, kind, access: WriteAccess::ReadOnly(reason), length_max: 0 }
    }
}

/// The fields of an entity, in the order of a record's values.
#[must_use]
pub fn fields(entity: EntityType) -> &'static [Field] {
    match entity {
        EntityType::Contact => &CONTACT_FIELDS,
        EntityType::Order => &ORDER_FIELDS,
        EntityType::Tag => &TAG_FIELDS,
        EntityType::Subscription => &SUBSCRIPTION_FIELDS,
    }
}

/// The position of the field called `name`.
#[must_use]
pub fn position(entity: EntityType, name: &str) -> Option<usize> {
    fields(entity).iter().position(|field| field.name == name)
}
