//! Subscriptions.

use super::{
    Capability, Carrier, Changes, CreateKey, DeleteSupport, FieldCapability, FullPages, SubResource,
};
use keapsync_domain::ids::EntityType;

/// Read: `Subscription`. Create: `CreateSubscriptionRequest`. Update: `UpdateSubscriptionRequest`. Filters and orders:
/// `listSubscriptions`.
pub(super) static SUBSCRIPTION: Capability = Capability {
    entity: EntityType::Subscription,
    // listSubscriptions: `id` takes `>`; order_by `id`.
    full: FullPages::ByKey("id"),
    // listSubscriptions: no filter by time; order_by `modification_time`.
    changes: Changes::NewestFirst("modification_time desc"),
    ids_filter: "ids",
    // CreateSubscriptionRequest.allow_duplicate, false by default: "check to see if there is already an identical
    // subscription".
    create_key: CreateKey::ContactPlanStart,
    // The contract has no deletion; cancelSubscription ends one and keeps it.
    delete: DeleteSupport::Never(
        "Keap deletes no subscription: restore the row, and set status to inactive to end it",
    ),
    fields: &[
        FieldCapability::renamed("keap_contact_id", "contact_id").filtered("contact_id").required(),
        // In no request: it follows from the plan.
        FieldCapability::read_only("product_id", Some("product_id")),
        // RestV2Product_List.name.
        FieldCapability::read_only("product_name", None),
        FieldCapability::renamed("plan_id", "subscription_plan_id")
            .filtered("subscription_plan_id")
            .required(),
        // `active` of both requests; CancelSubscriptionRequest ends one with its reason.
        FieldCapability {
            name: "status",
            read: Some("active"),
            filter: Some("status"),
            create: Carrier::Property("active"),
            update: Carrier::SubResource(SubResource::Deactivation),
            required: false,
        },
        // Keap takes today where it is missing. It is a part of the key that keeps a repeated create from making two, so
        // here a create is refused without it.
        FieldCapability { update: Carrier::Refused, ..FieldCapability::same("start_date") }.required(),
        // These four are in UpdateSubscriptionRequest alone.
        FieldCapability::update_only("end_date"),
        FieldCapability::update_only("next_bill_date"),
        FieldCapability::update_only("billing_cycle"),
        FieldCapability::update_only("billing_frequency"),
        FieldCapability::renamed("amount", "billing_amount").filtered("billing_amount"),
        // SubscriptionPlan_List.plan_price.currency_code.
        FieldCapability::read_only("currency", None),
        FieldCapability::same("quantity"),
        FieldCapability::same("auto_charge"),
        FieldCapability::renamed("cancel_reason", "reason_stopped"),
        FieldCapability::same("custom_fields"),
    ],
};
