//! The bodies that create and change orders and their items.
//!
//! Prices are JSON numbers in major units, unlike what is read back. Properties outside the contract are refused; so
//! is `order_items` in a change of an order, which the contract's mask names but its body does not have.

use serde::Deserialize;
use serde_json::Number;

use super::contact::CustomFieldValue;

/// The body that creates or changes an order (`RestCreateOrderRequest`, `UpdateOrderRequest`). An absent property and
/// a null are the same.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OrderRequest {
    pub(crate) contact_id: Option<String>,
    pub(crate) order_title: Option<String>,
    /// The invoice's title. It is not the order's, and nothing shows it.
    #[serde(rename = "title")]
    pub(crate) _invoice_title: Option<String>,
    pub(crate) order_time: Option<String>,
    pub(crate) order_type: Option<String>,
    pub(crate) order_items: Option<Vec<ItemRequest>>,
    pub(crate) notes: Option<String>,
    pub(crate) terms: Option<String>,
    pub(crate) promo_codes: Option<Vec<String>>,
    pub(crate) lead_affiliate_id: Option<String>,
    pub(crate) sales_affiliate_id: Option<String>,
    pub(crate) shipping_address: Option<AddressInformation>,
    pub(crate) payment_plan: Option<PaymentPlanRequest>,
    pub(crate) custom_fields: Option<Vec<CustomFieldValue>>,
    pub(crate) sent_time: Option<String>,
    pub(crate) due_time: Option<String>,
    pub(crate) invoice_number: Option<String>,
    pub(crate) external_create_user: Option<String>,
    pub(crate) external_create_time: Option<String>,
    pub(crate) external_update_time: Option<String>,
}

impl OrderRequest {
    /// What `update_mask` takes. `order_items` is taken and changes nothing.
    pub(crate) const MASK: &[&str] = &[
        "contact_id",
        "order_items",
        "order_title",
        "order_time",
        "order_type",
        "promo_codes",
        "lead_affiliate_id",
        "sales_affiliate_id",
        "shipping_address",
        "notes",
        "terms",
        "payment_plan",
        "custom_fields",
        "sent_time",
        "title",
        "due_time",
        "invoice_number",
        "external_create_user",
        "external_create_time",
        "external_update_time",
    ];
}

/// An address as orders take it (`AddressInformation`): other names than a contact's for the same.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AddressInformation {
    pub(crate) line1: Option<String>,
    pub(crate) line2: Option<String>,
    pub(crate) locality: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) company: Option<String>,
    pub(crate) phone: Option<String>,
    pub(crate) zip_code: Option<String>,
    pub(crate) zip_four: Option<String>,
    pub(crate) country_code: Option<String>,
    pub(crate) first_name: Option<String>,
    /// Read back nowhere.
    #[serde(rename = "middle_name")]
    pub(crate) _middle_name: Option<String>,
    pub(crate) last_name: Option<String>,
    pub(crate) is_invoice_to_company: Option<bool>,
}

/// The terms of a payment plan (`UpdatedPaymentPlan`).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PaymentPlanRequest {
    pub(crate) auto_charge: Option<bool>,
    pub(crate) max_charge_attempts: Option<i64>,
    pub(crate) days_between_retries: Option<i64>,
    pub(crate) payment_method_id: Option<String>,
    pub(crate) initial_payment_amount: Option<Number>,
    pub(crate) initial_payment_date: Option<String>,
    pub(crate) plan_start_date: Option<String>,
    pub(crate) number_of_payments: Option<i64>,
    pub(crate) days_between_payments: Option<i64>,
}

/// The body that creates or changes an item (`CreateOrderItemRequest`, `UpdateOrderItemRequest`).
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ItemRequest {
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) notes: Option<String>,
    pub(crate) quantity: Option<i32>,
    pub(crate) product_id: Option<String>,
    pub(crate) subscription_plan_id: Option<String>,
    /// Read back nowhere: plans are named after their product and cycle.
    pub(crate) subscription_plan_description: Option<String>,
    /// Of a new item only; the kind of an item never changes.
    pub(crate) item_type: Option<String>,
    pub(crate) price_per_unit: Option<Number>,
    pub(crate) cost_per_unit: Option<Number>,
}

impl ItemRequest {
    /// What `update_mask` takes.
    pub(crate) const MASK: &[&str] = &[
        "name",
        "description",
        "notes",
        "quantity",
        "price_per_unit",
        "cost_per_unit",
        "product_id",
        "subscription_plan_id",
        "subscription_plan_description",
    ];
}
