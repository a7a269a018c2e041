//! Fields of a contact.

use super::{Field, FieldKind, SlotKind, WriteAccess};

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
