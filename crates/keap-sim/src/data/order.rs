//! Orders with their items and payments, and what follows from them: totals and status.
//!
//! Totals and status are never stored: they are computed from items and payments, so they cannot disagree with them.

use serde::{Deserialize, Serialize};

use super::contact::{Address, CustomFieldValue};
use super::rows::Row;

/// What an item can be. The first thirteen can be written.
pub(crate) const ITEM_TYPES: &[&str] = &[
    "PRODUCT",
    "SHIPPING",
    "TAX",
    "FINANCE_CHARGE",
    "SUBSCRIPTION",
    "DISCOUNT",
    "DISCOUNT_FREE_TRIAL",
    "DISCOUNT_ORDER_TOTAL",
    "DISCOUNT_PRODUCT",
    "DISCOUNT_PRODUCT_CATEGORY",
    "DISCOUNT_SHIPPING",
    "OTHER",
    "FEE",
];

/// One line of an order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item {
    pub(crate) id: u64,
    /// One of [`ITEM_TYPES`].
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) notes: Option<String>,
    pub(crate) quantity: i32,
    /// As it was written: whether Keap takes a discount with or without a sign is unverified.
    pub(crate) price_minor: i64,
    pub(crate) cost_minor: Option<i64>,
    pub(crate) product_id: Option<u64>,
    pub(crate) plan_id: Option<u64>,
    /// The subscription whose billing made the order.
    pub(crate) subscription_id: Option<u64>,
}

impl Item {
    /// Whether it lowers the total.
    pub(crate) fn is_discount(&self) -> bool {
        self.kind.starts_with("DISCOUNT")
    }

    /// What it adds to the total; a discount lowers it whatever the sign of its price.
    pub(crate) fn amount_minor(&self) -> i64 {
        let amount = self.price_minor.saturating_mul(i64::from(self.quantity));
        if self.is_discount() { -amount.saturating_abs() } else { amount }
    }
}

/// Money that came in or went back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Payment {
    pub(crate) id: u64,
    /// Negative for a refund.
    pub(crate) amount_minor: i64,
    pub(crate) at_ms: i64,
    pub(crate) note: &'static str,
    /// The payment a refund gives back.
    pub(crate) refund_of: Option<u64>,
}

/// Where an order goes (`ShippingInformation`).
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct ShippingInformation {
    pub(crate) id: String,
    pub(crate) address: Address,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) company: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) given_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) family_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) phone_number: Option<String>,
    pub(crate) invoice_to_company: bool,
}

/// A plan to pay in parts. Only the terms are kept; parts are not charged here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PaymentPlan {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) auto_charge: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_charge_attempts: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) days_between_retries: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payment_method_id: Option<String>,
    /// Shown as money; see the view.
    #[serde(skip)]
    pub(crate) initial_payment_minor: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) initial_payment_date: Option<String>,
    pub(crate) plan_start_date: String,
    pub(crate) number_of_payments: i64,
    pub(crate) days_between_payments: i64,
}

/// One order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Order {
    pub(crate) id: u64,
    pub(crate) contact_id: u64,
    pub(crate) invoice_id: u64,
    pub(crate) title: String,
    /// `ONLINE` or `OFFLINE`.
    pub(crate) kind: String,
    pub(crate) source_type: &'static str,
    pub(crate) created_ms: i64,
    pub(crate) modified_ms: i64,
    pub(crate) placed_ms: i64,
    pub(crate) sent_ms: Option<i64>,
    pub(crate) due_ms: Option<i64>,
    pub(crate) is_viewed: bool,
    pub(crate) notes: Option<String>,
    pub(crate) terms: Option<String>,
    pub(crate) promo_codes: Vec<String>,
    pub(crate) lead_affiliate_id: Option<String>,
    pub(crate) sales_affiliate_id: Option<String>,
    pub(crate) invoice_number: Option<String>,
    pub(crate) external_create_user: Option<String>,
    pub(crate) external_create_ms: Option<i64>,
    pub(crate) external_update_ms: Option<i64>,
    pub(crate) shipping: Option<Box<ShippingInformation>>,
    pub(crate) payment_plan: Option<Box<PaymentPlan>>,
    pub(crate) custom_fields: Vec<CustomFieldValue>,
    pub(crate) items: Vec<Item>,
    pub(crate) payments: Vec<Payment>,
}

impl Row for Order {
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

impl Order {
    /// The sum of the items; discounts never make it negative.
    pub(crate) fn total_minor(&self) -> i64 {
        self.items.iter().map(Item::amount_minor).fold(0, i64::saturating_add).max(0)
    }

    /// What was paid, refunds not counted.
    pub(crate) fn paid_minor(&self) -> i64 {
        self.payments.iter().map(|payment| payment.amount_minor.max(0)).sum()
    }

    /// What was given back.
    pub(crate) fn refunded_minor(&self) -> i64 {
        -self.payments.iter().map(|payment| payment.amount_minor.min(0)).sum::<i64>()
    }

    /// What is left to pay, refunds not counted.
    pub(crate) fn due_minor(&self) -> i64 {
        (self.total_minor() - self.paid_minor()).max(0)
    }

    /// Whether it is paid in full.
    pub(crate) fn is_paid(&self) -> bool {
        !self.payments.is_empty() && self.due_minor() == 0
    }

    /// `PAID`, `VIEWED`, `SENT` or `DRAFT`, by what has happened to it.
    pub(crate) fn status(&self) -> &'static str {
        if self.is_paid() {
            "PAID"
        } else if self.is_viewed {
            "VIEWED"
        } else if self.sent_ms.is_some() {
            "SENT"
        } else {
            "DRAFT"
        }
    }

    pub(crate) fn item(&self, id: u64) -> Option<&Item> {
        self.items.iter().find(|item| item.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(kind: &'static str, quantity: i32, price_minor: i64) -> Item {
        Item {
            id: 1,
            kind,
            name: kind.to_owned(),
            description: None,
            notes: None,
            quantity,
            price_minor,
            cost_minor: None,
            product_id: None,
            plan_id: None,
            subscription_id: None,
        }
    }

    fn payment(amount_minor: i64) -> Payment {
        Payment { id: 1, amount_minor, at_ms: 1, note: "", refund_of: None }
    }

    #[test]
    fn totals_follow_items_and_payments() {
        let mut order = Order {
            items: vec![item("PRODUCT", 2, 1500), item("TAX", 1, 225), item("DISCOUNT", 1, 500)],
            ..Order::default()
        };
        assert_eq!((order.total_minor(), order.due_minor(), order.status()), (2725, 2725, "DRAFT"));
        order.sent_ms = Some(1);
        order.payments = vec![payment(1000)];
        assert_eq!((order.paid_minor(), order.due_minor(), order.status()), (1000, 1725, "SENT"));
        order.payments.push(payment(1725));
        assert_eq!((order.due_minor(), order.status()), (0, "PAID"));
        order.payments.push(payment(-725));
        assert_eq!((order.paid_minor(), order.refunded_minor(), order.status()), (2725, 725, "PAID"));
        order.items.push(item("FEE", 1, 100));
        assert_eq!((order.due_minor(), order.status()), (100, "SENT"));
    }

    #[test]
    fn a_discount_lowers_the_total_whatever_its_sign_and_not_below_nothing() {
        for price in [500, -500] {
            let order = Order {
                items: vec![item("PRODUCT", 1, 800), item("DISCOUNT_PRODUCT", 1, price)],
                ..Order::default()
            };
            assert_eq!(order.total_minor(), 300);
        }
        let order = Order { items: vec![item("DISCOUNT", 3, 500)], ..Order::default() };
        assert_eq!(order.total_minor(), 0);
    }
}
