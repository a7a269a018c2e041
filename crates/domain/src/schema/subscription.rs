//! Fields of a subscription. What can be written: Keap's v2 contract, `CreateSubscriptionRequest` and `UpdateSubscriptionRequest`.

use super::{Field, FieldKind, WriteAccess};

/// Fields of a subscription. `contact_id` is a link within the mirror and derived from `keap_contact_id`.
pub static SUBSCRIPTION_FIELDS: [Field; 16] = [
    Field::text("keap_contact_id", 0),
    Field::read_only("product_id", FieldKind::Text, "the product follows from the plan: edit plan_id"),
    Field::read_only("product_name", FieldKind::Text, "the product's name is edited on the product in Keap"),
    Field::text("plan_id", 0),
    Field::text("status", 0),
    Field {
        name: "start_date",
        kind: FieldKind::Date,
        access: WriteAccess::CreateOnly("Keap takes the start only when a subscription is made"),
        length_max: 0,
    },
    Field::writable("end_date", FieldKind::Date),
    Field::writable("next_bill_date", FieldKind::Date),
    Field::text("billing_cycle", 0),
    Field::writable("billing_frequency", FieldKind::Integer),
    Field::writable("amount", FieldKind::Money),
    Field::read_only("currency", FieldKind::Text, "the currency is the Keap account's own"),
    Field::writable("quantity", FieldKind::Integer),
    Field::writable("auto_charge", FieldKind::Boolean),
    Field::text("cancel_reason", 0),
    Field::writable("custom_fields", FieldKind::Map),
];
