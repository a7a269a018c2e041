//! Subscriptions: what a contact is billed for again and again.
//!
//! Dates are calendar dates as text, which sort as they stand. The billing amount is in major units, read as it was
//! written: the contract names no unit, and its one example fits both.

use serde::{Deserialize, Serialize};

use super::contact::{Address, CustomFieldValue};
use super::rows::Row;
use crate::clock;

/// The cycles of a subscription: not the words that its plan uses.
pub(crate) const BILLING_CYCLES: &[&str] = &["YEAR", "MONTH", "WEEK", "DAY"];

/// One subscription.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Subscription {
    pub(crate) id: u64,
    pub(crate) contact_id: u64,
    pub(crate) product_id: u64,
    pub(crate) plan_id: u64,
    pub(crate) quantity: i64,
    pub(crate) is_active: bool,
    pub(crate) billing_amount: f64,
    pub(crate) auto_charge: bool,
    pub(crate) billing_cycle: String,
    pub(crate) billing_frequency: i32,
    pub(crate) start_date: String,
    pub(crate) last_bill_date: Option<String>,
    pub(crate) next_bill_date: Option<String>,
    pub(crate) end_date: Option<String>,
    pub(crate) merchant_account_id: Option<String>,
    pub(crate) payment_method_id: Option<String>,
    pub(crate) allow_tax: bool,
    pub(crate) max_charge_attempts: i32,
    pub(crate) days_between_retries: i32,
    pub(crate) lead_affiliate_id: Option<String>,
    pub(crate) sale_affiliate_id: Option<String>,
    pub(crate) shipping_address: Option<Box<Address>>,
    pub(crate) promo_code: Option<String>,
    pub(crate) shipping_option_id: Option<String>,
    pub(crate) reason_stopped: Option<String>,
    pub(crate) modified_ms: i64,
    pub(crate) custom_fields: Vec<CustomFieldValue>,
}

impl Row for Subscription {
    fn id(&self) -> u64 {
        self.id
    }

    fn contact_id(&self) -> u64 {
        self.contact_id
    }

    fn modified_ms(&self) -> i64 {
        self.modified_ms
    }

    fn set_modified_ms(&mut self, modified_ms: i64) {
        self.modified_ms = modified_ms;
    }
}

/// A subscription as the API shows it.
#[derive(Debug, Serialize)]
pub(crate) struct SubscriptionView<'data> {
    id: String,
    contact_id: String,
    product_id: String,
    subscription_plan_id: String,
    quantity: i64,
    active: bool,
    billing_amount: f64,
    auto_charge: bool,
    billing_cycle: &'data str,
    billing_frequency: i32,
    start_date: &'data str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_bill_date: Option<&'data str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_bill_date: Option<&'data str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_date: Option<&'data str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    merchant_account_id: Option<&'data str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_method_id: Option<&'data str>,
    allow_tax: bool,
    max_charge_attempts: i32,
    days_between_retries: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    lead_affiliate_id: Option<&'data str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sale_affiliate_id: Option<&'data str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shipping_address: Option<&'data Address>,
    #[serde(skip_serializing_if = "Option::is_none")]
    promo_code: Option<&'data str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shipping_option_id: Option<&'data str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason_stopped: Option<&'data str>,
    modification_time: String,
    #[serde(skip_serializing_if = "<[CustomFieldValue]>::is_empty")]
    custom_fields: &'data [CustomFieldValue],
}

impl Subscription {
    /// The subscription as the API shows it.
    pub(crate) fn view(&self) -> SubscriptionView<'_> {
        SubscriptionView {
            id: self.id.to_string(),
            contact_id: self.contact_id.to_string(),
            product_id: self.product_id.to_string(),
            subscription_plan_id: self.plan_id.to_string(),
            quantity: self.quantity,
            active: self.is_active,
            billing_amount: self.billing_amount,
            auto_charge: self.auto_charge,
            billing_cycle: &self.billing_cycle,
            billing_frequency: self.billing_frequency,
            start_date: &self.start_date,
            last_bill_date: self.last_bill_date.as_deref(),
            next_bill_date: self.next_bill_date.as_deref(),
            end_date: self.end_date.as_deref(),
            merchant_account_id: self.merchant_account_id.as_deref(),
            payment_method_id: self.payment_method_id.as_deref(),
            allow_tax: self.allow_tax,
            max_charge_attempts: self.max_charge_attempts,
            days_between_retries: self.days_between_retries,
            lead_affiliate_id: self.lead_affiliate_id.as_deref(),
            sale_affiliate_id: self.sale_affiliate_id.as_deref(),
            shipping_address: self.shipping_address.as_deref(),
            promo_code: self.promo_code.as_deref(),
            shipping_option_id: self.shipping_option_id.as_deref(),
            reason_stopped: self.reason_stopped.as_deref(),
            modification_time: clock::format_ms(self.modified_ms),
            custom_fields: &self.custom_fields,
        }
    }
}

/// The body that creates or changes a subscription (`CreateSubscriptionRequest`, `UpdateSubscriptionRequest`). An
/// absent property and a null are the same.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SubscriptionRequest {
    pub(crate) contact_id: Option<String>,
    pub(crate) subscription_plan_id: Option<String>,
    pub(crate) quantity: Option<i32>,
    pub(crate) active: Option<bool>,
    pub(crate) billing_amount: Option<f64>,
    pub(crate) auto_charge: Option<bool>,
    pub(crate) max_charge_attempts: Option<i32>,
    pub(crate) days_between_retries: Option<i32>,
    /// Of a new subscription only.
    pub(crate) start_date: Option<String>,
    /// Of a new subscription only.
    pub(crate) allow_duplicate: Option<bool>,
    /// Of a change only, like the three below it.
    pub(crate) billing_frequency: Option<i32>,
    pub(crate) billing_cycle: Option<String>,
    pub(crate) next_bill_date: Option<String>,
    pub(crate) end_date: Option<String>,
    pub(crate) payment_method_id: Option<String>,
    pub(crate) allow_tax: Option<bool>,
    pub(crate) lead_affiliate_id: Option<String>,
    pub(crate) sale_affiliate_id: Option<String>,
    pub(crate) shipping_address: Option<Address>,
    pub(crate) promo_code: Option<String>,
    pub(crate) shipping_option_id: Option<String>,
    pub(crate) reason_stopped: Option<String>,
    pub(crate) custom_fields: Option<Vec<CustomFieldValue>>,
}

impl SubscriptionRequest {
    /// What `update_mask` takes.
    pub(crate) const MASK: &[&str] = &[
        "contact_id",
        "subscription_plan_id",
        "quantity",
        "billing_amount",
        "auto_charge",
        "max_charge_attempts",
        "days_between_retries",
        "active",
        "billing_frequency",
        "billing_cycle",
        "next_bill_date",
        "end_date",
        "payment_method_id",
        "allow_tax",
        "lead_affiliate_id",
        "sale_affiliate_id",
        "promo_code",
        "shipping_option_id",
        "reason_stopped",
        "shipping_address",
        "custom_fields",
    ];
}
