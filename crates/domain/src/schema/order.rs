//! Fields of an order. What can be written: Keap's v2 contract, `RestCreateOrderRequest` and `UpdateOrderRequest`; lines by the
//! order's items, one by one.

use super::{Field, FieldKind, SlotKind};

const TOTALS: &str = "Keap computes an order's totals from its lines and payments: edit the lines";

/// Fields of an order. `contact_id` is a link within the mirror and derived from `keap_contact_id`.
pub static ORDER_FIELDS: [Field; 16] = [
    Field::text("keap_contact_id", 0),
    Field::text("order_number", 0),
    Field::text("title", 0),
    Field::writable("order_date", FieldKind::Instant),
    Field::read_only("total_amount", FieldKind::Money, TOTALS),
    Field::read_only("paid_amount", FieldKind::Money, TOTALS),
    Field::read_only("due_amount", FieldKind::Money, TOTALS),
    Field::read_only("refund_amount", FieldKind::Money, "Keap makes no refunds by its interface"),
    Field::read_only("currency", FieldKind::Text, "the currency is the Keap account's own"),
    Field::read_only(
        "status",
        FieldKind::Text,
        "Keap derives an order's status from its invoice and payments",
    ),
    Field::text("order_type", 0),
    Field::writable("line_items", FieldKind::Slots(SlotKind::Item)),
    Field::writable("shipping_address", FieldKind::Address),
    Field::read_only("billing_address", FieldKind::Address, "Keap's orders carry no billing address"),
    Field::text("notes", 0),
    Field::writable("custom_fields", FieldKind::Map),
];

/// How a property of an order's line compares; `None` for one that Keap's lines do not have. The `id` is the line's name.
pub(super) fn line_property_kind(property: &str) -> Option<FieldKind> {
    match property {
        "price_per_unit" | "cost_per_unit" | "discount" => Some(FieldKind::Money),
        "quantity" => Some(FieldKind::Integer),
        "name"
        | "description"
        | "notes"
        | "item_type"
        | "product_id"
        | "subscription_id"
        | "subscription_plan_id" => Some(FieldKind::Text),
        _ => None,
    }
}
