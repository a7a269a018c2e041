//! An order as the API shows it (`OrderV2`, `OrderItem`, `InvoiceOrderPayment`).
//!
//! The contact and the products are looked up when an order is shown, so a renamed contact shows under its new name
//! without the order having changed. Absent properties are left out, never null.

use serde::Serialize;

use super::Data;
use super::catalogue::PlanView;
use super::contact::{CustomFieldValue, EmailAddress, Property};
use super::money::CurrencyValue;
use super::order::{Item, Order, Payment, PaymentPlan, ShippingInformation};
use crate::clock;

/// The contact of an order (`BasicContact`).
#[derive(Debug, Serialize)]
struct ContactView {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    given_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    family_name: Option<String>,
}

#[derive(Debug, Serialize)]
struct PaymentPlanView<'data> {
    #[serde(flatten)]
    terms: &'data PaymentPlan,
    #[serde(skip_serializing_if = "Option::is_none")]
    initial_payment_amount: Option<CurrencyValue>,
}

#[derive(Debug, Serialize)]
struct ProductView<'data> {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'data str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sku: Option<&'data str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'data str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shippable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    taxable: Option<bool>,
}

#[derive(Debug, Serialize)]
struct SpecialView {
    /// Major units, unlike every other amount that is read.
    amount: f64,
    discount_method: &'static str,
}

/// One item as the API shows it.
#[derive(Debug, Serialize)]
pub(crate) struct ItemView<'data> {
    id: String,
    item_type: &'static str,
    name: &'data str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'data str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notes: Option<&'data str>,
    quantity: i32,
    price_per_unit: CurrencyValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_per_unit: Option<CurrencyValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    discount: Option<CurrencyValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    special: Option<SpecialView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    product: Option<ProductView<'data>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription_plan: Option<PlanView>,
}

/// One order as the API shows it.
#[derive(Debug, Serialize)]
pub(crate) struct OrderView<'data> {
    id: String,
    title: &'data str,
    status: &'static str,
    order_type: &'data str,
    source_type: &'static str,
    contact: ContactView,
    creation_time: String,
    modification_time: String,
    order_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    due_time: Option<String>,
    total: CurrencyValue,
    total_paid: CurrencyValue,
    total_due: CurrencyValue,
    refund_total: CurrencyValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    notes: Option<&'data str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    terms: Option<&'data str>,
    invoice_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    invoice_number: Option<&'data str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lead_affiliate_id: Option<&'data str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sales_affiliate_id: Option<&'data str>,
    allow_payment: bool,
    allow_paypal: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    promo_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shipping_information: Option<&'data ShippingInformation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_plan: Option<PaymentPlanView<'data>>,
    #[serde(skip_serializing_if = "<[CustomFieldValue]>::is_empty")]
    custom_fields: &'data [CustomFieldValue],
    order_items: Vec<ItemView<'data>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_create_user: Option<&'data str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_create_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_update_time: Option<String>,
}

/// One payment as the API shows it.
#[derive(Debug, Serialize)]
pub(crate) struct PaymentView {
    id: String,
    /// Major units, unlike the totals of the order.
    amount: f64,
    note: &'static str,
    invoice_id: String,
    payment_id: String,
    pay_time: String,
    pay_status: &'static str,
    last_updated_time: String,
    skip_commission: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_invoice_payment_id: Option<String>,
}

impl Data {
    /// An order as the API shows it.
    pub(crate) fn order_view<'data>(&'data self, order: &'data Order) -> OrderView<'data> {
        let money = |minor| self.currency.shown(minor);
        let payment_plan = order.payment_plan.as_deref().map(|terms| PaymentPlanView {
            terms,
            initial_payment_amount: terms.initial_payment_minor.map(money),
        });
        OrderView {
            id: order.id.to_string(),
            title: &order.title,
            status: order.status(),
            order_type: &order.kind,
            source_type: order.source_type,
            contact: self.contact_view(order.contact_id),
            creation_time: clock::format_ms(order.created_ms),
            modification_time: clock::format_ms(order.modified_ms),
            order_time: clock::format_ms(order.placed_ms),
            sent_time: order.sent_ms.map(clock::format_ms),
            due_time: order.due_ms.map(clock::format_ms),
            total: money(order.total_minor()),
            total_paid: money(order.paid_minor()),
            total_due: money(order.due_minor()),
            refund_total: money(order.refunded_minor()),
            notes: order.notes.as_deref(),
            terms: order.terms.as_deref(),
            invoice_id: order.invoice_id.to_string(),
            invoice_number: order.invoice_number.as_deref(),
            lead_affiliate_id: order.lead_affiliate_id.as_deref(),
            sales_affiliate_id: order.sales_affiliate_id.as_deref(),
            allow_payment: true,
            allow_paypal: false,
            promo_code: (!order.promo_codes.is_empty()).then(|| order.promo_codes.join(",")),
            shipping_information: order.shipping.as_deref(),
            payment_plan,
            custom_fields: &order.custom_fields,
            order_items: order.items.iter().map(|item| self.item_view(item)).collect(),
            external_create_user: order.external_create_user.as_deref(),
            external_create_time: order.external_create_ms.map(clock::format_ms),
            external_update_time: order.external_update_ms.map(clock::format_ms),
        }
    }

    /// An item as the API shows it.
    pub(crate) fn item_view<'data>(&'data self, item: &'data Item) -> ItemView<'data> {
        let money = |minor| self.currency.shown(minor);
        let discount_minor = item.is_discount().then(|| item.amount_minor().saturating_abs());
        ItemView {
            id: item.id.to_string(),
            item_type: item.kind,
            name: &item.name,
            description: item.description.as_deref(),
            notes: item.notes.as_deref(),
            quantity: item.quantity,
            price_per_unit: money(item.price_minor),
            cost_per_unit: item.cost_minor.map(money),
            discount: discount_minor.map(money),
            special: discount_minor.map(|minor| SpecialView {
                amount: self.currency.major_of(minor),
                discount_method: "AMOUNT",
            }),
            product: item.product_id.map(|id| self.item_product_view(id)),
            subscription_id: item.subscription_id.map(|id| id.to_string()),
            subscription_plan: item
                .plan_id
                .and_then(|id| self.catalogue.plans.get(&id))
                .map(|plan| self.catalogue.plan_view(plan, self.currency)),
        }
    }

    /// A payment of an order as the API shows it.
    pub(crate) fn payment_view(&self, order: &Order, payment: &Payment) -> PaymentView {
        let at = clock::format_ms(payment.at_ms);
        PaymentView {
            id: payment.id.to_string(),
            amount: self.currency.major_of(payment.amount_minor),
            note: payment.note,
            invoice_id: order.invoice_id.to_string(),
            payment_id: payment.id.to_string(),
            pay_time: at.clone(),
            pay_status: if payment.amount_minor < 0 { "REFUNDED" } else { "APPROVED" },
            last_updated_time: at,
            skip_commission: false,
            refund_invoice_payment_id: payment.refund_of.map(|id| id.to_string()),
        }
    }

    /// A contact that is gone shows by its id alone.
    fn contact_view(&self, contact_id: u64) -> ContactView {
        let record = self.contacts.get(contact_id);
        let text = |property| record.and_then(|record| record.value::<String>(property));
        let emails = record.and_then(|record| record.value::<Vec<EmailAddress>>(Property::EmailAddresses));
        let email = emails
            .into_iter()
            .flatten()
            .find(|item| item.field.as_deref() == Some("EMAIL1"))
            .and_then(|item| item.email);
        ContactView {
            id: contact_id.to_string(),
            email,
            given_name: text(Property::GivenName),
            family_name: text(Property::FamilyName),
        }
    }

    /// A product that is gone shows by its id alone.
    fn item_product_view(&self, product_id: u64) -> ProductView<'_> {
        let details = self.catalogue.products.get(&product_id).map(|product| &product.details);
        ProductView {
            id: product_id.to_string(),
            name: details.and_then(|details| details.name.as_deref()),
            sku: details.and_then(|details| details.sku.as_deref()),
            description: details.and_then(|details| details.short_description.as_deref()),
            shippable: details.and_then(|details| details.shippable),
            taxable: details.and_then(|details| details.taxable),
        }
    }
}
