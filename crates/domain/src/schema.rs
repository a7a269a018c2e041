//! What fields each entity has, how their values compare, and what Keap lets us write.
//!
//! A field's name is at once the column's name in Postgres and the key in `base`, policies, conflicts and the audit log.
//! The order of fields is the order of values in a [`Record`](crate::record::Record).

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
    /// A set of texts, as a JSON array: merged element by element.
    Set,
    /// A JSON array of objects told apart by their `field` (`EMAIL2`, `BILLING`): merged slot by slot.
    Slots(SlotKind),
    /// A JSON object: merged key by key.
    Map,
}

/// What the objects of a [`FieldKind::Slots`] field hold, which decides how they compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotKind {
    /// `{field, email, …}`
    Email,
    /// `{field, number, extension, type}`; `number_e164` is Keap's own derivation and never compared.
    Phone,
    /// `{field, line1, …}`; `country`, and what `region_code` and `postal_code` repeat, are never compared.
    Address,
}

/// Whether an edit in Supabase can be carried to Keap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteAccess {
    /// By create and by update.
    Writable,
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

impl Field {
    const fn text(name: &'static str, length_max: usize) -> Self {
        Self { name, kind: FieldKind::Text, access: WriteAccess::Writable, length_max }
    }
}

/// Fields of a contact. Lengths and what can be written: Keap's v2 contract, `CreateUpdateContactRequest`.
pub static CONTACT_FIELDS: [Field; 17] = [
    Field { name: "email", kind: FieldKind::Email, access: WriteAccess::Writable, length_max: 75 },
    Field::text("first_name", 40),
    Field::text("last_name", 40),
    Field::text("middle_name", 100),
    Field { name: "phone", kind: FieldKind::Phone, access: WriteAccess::Writable, length_max: 40 },
    Field {
        name: "company",
        kind: FieldKind::Text,
        access: WriteAccess::ReadOnly(
            "Keap links a contact to a company record by id; its name is edited on the company",
        ),
        length_max: 0,
    },
    Field::text("job_title", 255),
    Field::text("website", 100),
    Field { name: "birth_date", kind: FieldKind::Date, access: WriteAccess::Writable, length_max: 0 },
    Field::text("owner_id", 0),
    Field::text("lead_source_id", 0),
    Field {
        name: "opt_in_status",
        kind: FieldKind::Text,
        access: WriteAccess::ReadOnly("Keap derives the marketing status of an e-mail address itself"),
        length_max: 0,
    },
    Field {
        name: "emails",
        kind: FieldKind::Slots(SlotKind::Email),
        access: WriteAccess::Writable,
        length_max: 0,
    },
    Field {
        name: "phones",
        kind: FieldKind::Slots(SlotKind::Phone),
        access: WriteAccess::Writable,
        length_max: 0,
    },
    Field {
        name: "addresses",
        kind: FieldKind::Slots(SlotKind::Address),
        access: WriteAccess::Writable,
        length_max: 0,
    },
    Field { name: "tags", kind: FieldKind::Set, access: WriteAccess::Writable, length_max: 0 },
    Field { name: "custom_fields", kind: FieldKind::Map, access: WriteAccess::Writable, length_max: 0 },
];

/// The fields of an entity, in the order of a record's values.
#[must_use]
pub fn fields(entity: EntityType) -> &'static [Field] {
    match entity {
        EntityType::Contact => &CONTACT_FIELDS,
    }
}

/// The position of the field called `name`.
#[must_use]
pub fn position(entity: EntityType, name: &str) -> Option<usize> {
    fields(entity).iter().position(|field| field.name == name)
}
