//! Orders.

use super::{
    Capability, Carrier, Changes, CreateKey, DeleteSupport, FieldCapability, FullPages, SubResource,
};
use keapsync_domain::ids::EntityType;

/// Read: `OrderV2`. Create: `RestCreateOrderRequest`. Update: `UpdateOrderRequest`. Filters and orders: `listOrders`.
pub(super) static ORDER: Capability = Capability {
    entity: EntityType::Order,
    // listOrders: `id` takes `>`; order_by `id`.
    full: FullPages::ByKey("id"),
    // listOrders: `modified_since_time`; order_by `modification_time`.
    changes: Changes::Filter("modified_since_time"),
    ids_filter: "ids",
    // listOrders: "custom fields can be filtered by their field_name".
    create_key: CreateKey::RowLink,
    // deleteOrder: "must not have any transactions recorded".
    delete: DeleteSupport::WithoutTransactions,
    fields: &[
        // OrderV2.contact.id; both requests have contact_id.
        FieldCapability::written("keap_contact_id", "contact.id", "contact_id")
            .filtered("contact_id")
            .required(),
        FieldCapability::renamed("order_number", "invoice_number"),
        // `title` in a request is the invoice's title; `order_title` is read back as `title`.
        FieldCapability::written("title", "title", "order_title").filtered("title").required(),
        FieldCapability::renamed("order_date", "order_time").required(),
        FieldCapability::read_only("total_amount", Some("total")),
        FieldCapability::read_only("paid_amount", Some("total_paid")),
        FieldCapability::read_only("due_amount", Some("total_due")),
        FieldCapability::read_only("refund_amount", Some("refund_total")),
        // CurrencyValue.currency_code: in no request.
        FieldCapability::read_only("currency", Some("total.currency_code")),
        FieldCapability::read_only("status", Some("status")),
        FieldCapability::same("order_type").filtered("order_type").required(),
        // RestCreateOrderRequest.order_items; in UpdateOrderRequest only the mask names them: CreateOrderItemRequest,
        // UpdateOrderItemRequest.
        FieldCapability {
            name: "line_items",
            read: Some("order_items"),
            filter: None,
            create: Carrier::Property("order_items"),
            update: Carrier::SubResource(SubResource::OrderItems),
            required: false,
        },
        // Read as ShippingInformation, written as AddressInformation.
        FieldCapability::written("shipping_address", "shipping_information", "shipping_address"),
        // OrderV2 has none.
        FieldCapability::read_only("billing_address", None),
        FieldCapability::same("notes"),
        FieldCapability::same("custom_fields"),
    ],
};
