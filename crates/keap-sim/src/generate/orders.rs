//! Invented orders over the years: of one to five items, with shipping, tax and discounts where they belong; most paid,
//! some in part, some refunded, some never sent.

use serde_json::Value;

use super::catalogue::price;
use super::sales::Buyers;
use super::{LAST_MS, moment, words};
use crate::clock;
use crate::data::Data;
use crate::data::contact::{Address, CustomFieldValue, Property};
use crate::data::order::{Item, Order, Payment, ShippingInformation};
use crate::data::order_change::invoice_id;
use crate::random::Random;

const DAY_MS: i64 = 86_400_000;

/// Sales tax, in hundredths of a percent.
const TAX_RATE: i64 = 825;

/// What an order begins from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Beginning {
    at_ms: i64,
    contact_id: u64,
    /// The subscription that was billed.
    subscription_id: Option<u64>,
}

/// Puts that many orders into the app, in the order they came in.
pub(super) fn add(data: &mut Data, buyers: &Buyers, random: &mut Random, count: u32) {
    let subscription_ids: Vec<u64> = data.subscriptions.all().keys().copied().collect();
    let mut beginnings: Vec<Beginning> =
        (0..count).filter_map(|_| beginning(data, buyers, random, &subscription_ids)).collect();
    beginnings.sort_unstable();
    let product_ids: Vec<u64> = data.catalogue.products.keys().copied().collect();
    for from in beginnings {
        let mut order = begun(data, random, from);
        match from.subscription_id {
            Some(id) => bill_subscription(data, &mut order, id),
            None => fill(data, random, &mut order, &product_ids),
        }
        settle(data, random, &mut order);
        order.custom_fields = custom_fields(data, random, &order);
        order.id = data.orders.take_id();
        order.invoice_id = invoice_id(order.id);
        data.orders.put(order);
    }
}

fn beginning(
    data: &Data,
    buyers: &Buyers,
    random: &mut Random,
    subscription_ids: &[u64],
) -> Option<Beginning> {
    let billed = if random.chance(12) { random.pick(subscription_ids).copied() } else { None };
    if let Some(subscription) = billed.and_then(|id| data.subscriptions.get(id)) {
        let start_ms = clock::parse_time(&format!("{}T00:00:00Z", subscription.start_date))?;
        let until_ms = subscription.modified_ms.max(start_ms);
        return Some(Beginning {
            at_ms: moment(random, start_ms, until_ms),
            contact_id: subscription.contact_id,
            subscription_id: billed,
        });
    }
    let (contact_id, since_ms) = buyers.draw(random)?;
    Some(Beginning { at_ms: moment(random, since_ms, LAST_MS), contact_id, subscription_id: None })
}

fn begun(data: &Data, random: &mut Random, from: Beginning) -> Order {
    let is_online = random.chance(55);
    let source_type = match random.below(10) {
        0..5 if from.subscription_id.is_none() => "CHECKOUT_FORM",
        8 if from.subscription_id.is_none() => "MANUAL_PAYMENT",
        9 if from.subscription_id.is_none() => "API",
        _ => "INVOICE",
    };
    Order {
        contact_id: from.contact_id,
        title: random.word(words::ORDER_TITLES).to_owned(),
        kind: if is_online { "ONLINE" } else { "OFFLINE" }.to_owned(),
        source_type,
        created_ms: from.at_ms,
        // Some were entered days after they were placed.
        placed_ms: if random.chance(8) { from.at_ms - 3 * DAY_MS } else { from.at_ms },
        notes: random.chance(12).then(|| random.word(words::NOTES).to_owned()),
        terms: random.chance(15).then(|| "Net 30".to_owned()),
        promo_codes: if random.chance(4) { vec!["SPRING".to_owned()] } else { Vec::new() },
        lead_affiliate_id: random.chance(5).then(|| (11 + random.below(4) * 2).to_string()),
        invoice_number: random.chance(10).then(|| format!("R-{:05}", random.below(100_000))),
        shipping: random.chance(30).then(|| shipping(data, random, from.contact_id)).flatten(),
        ..Order::default()
    }
}

fn line(data: &mut Data, kind: &'static str, name: &str, quantity: i32, price_minor: i64) -> Item {
    Item {
        id: data.take_item_id(),
        kind,
        name: name.to_owned(),
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

fn bill_subscription(data: &mut Data, order: &mut Order, subscription_id: u64) {
    let Some(subscription) = data.subscriptions.get(subscription_id) else { return };
    let (plan_id, product_id) = (subscription.plan_id, subscription.product_id);
    let quantity = i32::try_from(subscription.quantity).unwrap_or(1);
    let name = data.catalogue.products.get(&product_id).map_or("Plan", |product| product.name()).to_owned();
    let price_minor = data.catalogue.plans.get(&plan_id).map_or(0, |plan| plan.price_minor);
    let mut item = line(data, "SUBSCRIPTION", &name, quantity, price_minor);
    (item.product_id, item.plan_id) = (Some(product_id), Some(plan_id));
    item.subscription_id = Some(subscription_id);
    order.title = format!("{name} subscription");
    order.items.push(item);
}

fn fill(data: &mut Data, random: &mut Random, order: &mut Order, product_ids: &[u64]) {
    let count = match random.below(100) {
        0..55 => 1,
        55..80 => 2,
        80..93 => 3,
        _ => 5,
    };
    let (mut is_shipped, mut taxed_minor) = (false, 0);
    for _ in 0..count {
        let Some(product_id) = random.pick(product_ids).copied() else { return };
        let quantity = if random.chance(75) { 1 } else { 2 + i32::try_from(random.below(4)).unwrap_or(0) };
        let Some(product) = data.catalogue.products.get(&product_id) else { return };
        let (name, listed_minor) = (product.name().to_owned(), product.price_minor);
        let (is_taxable, is_shippable) = (product.is_taxable(), product.is_shippable());
        // Older orders were sold at other prices.
        let price_minor = if random.chance(20) { listed_minor - listed_minor / 20 } else { listed_minor };
        let mut item = line(data, "PRODUCT", &name, quantity, price_minor);
        item.product_id = Some(product_id);
        item.cost_minor = random.chance(40).then_some(price_minor / 2);
        item.notes = random.chance(4).then(|| "Gift wrap, please".to_owned());
        is_shipped |= is_shippable;
        taxed_minor += if is_taxable { item.amount_minor() } else { 0 };
        order.items.push(item);
    }
    if random.chance(12) {
        let off_minor = (order.total_minor() / 10).max(1);
        // Written without a sign by some and with one by others.
        let price_minor = if random.chance(50) { off_minor } else { -off_minor };
        let item = line(data, "DISCOUNT", "10 % off", 1, price_minor);
        order.items.push(item);
    }
    if is_shipped {
        let item = line(data, "SHIPPING", "Standard shipping", 1, price(995, data.currency));
        order.items.push(item);
    }
    let tax_minor = (taxed_minor * TAX_RATE + 5000) / 10_000;
    if tax_minor > 0 {
        let item = line(data, "TAX", "Sales tax", 1, tax_minor);
        order.items.push(item);
    }
}

/// Sends the order, takes money for it and gives some back.
fn settle(data: &mut Data, random: &mut Random, order: &mut Order) {
    let created_ms = order.created_ms;
    order.modified_ms = if random.chance(10) { moment(random, created_ms, LAST_MS) } else { created_ms };
    let fate = random.below(100);
    if fate < 7 {
        return;
    }
    let sent_ms = (created_ms + hours(random, 48)).min(LAST_MS);
    order.sent_ms = Some(sent_ms);
    order.due_ms = Some(sent_ms + 30 * DAY_MS);
    order.modified_ms = order.modified_ms.max(sent_ms);
    if fate < 12 {
        order.is_viewed = random.chance(50);
        return;
    }
    order.is_viewed = true;
    let total_minor = order.total_minor();
    let first_minor = if fate < 18 { total_minor / 2 } else { total_minor };
    if first_minor == 0 {
        return;
    }
    let paid_ms = (sent_ms + hours(random, 20 * 24)).min(LAST_MS);
    let payment_id = data.take_payment_id();
    let note = random.word(&["Card", "Check", "Bank transfer"]);
    order.payments.push(Payment {
        id: payment_id,
        amount_minor: first_minor,
        at_ms: paid_ms,
        note,
        refund_of: None,
    });
    let mut last_ms = paid_ms;
    if fate >= 96 {
        let refund_minor = if random.chance(60) { first_minor } else { (first_minor / 4).max(1) };
        last_ms = moment(random, paid_ms, LAST_MS);
        order.payments.push(Payment {
            id: data.take_payment_id(),
            amount_minor: -refund_minor,
            at_ms: last_ms,
            note: "Refund",
            refund_of: Some(payment_id),
        });
    }
    order.modified_ms = order.modified_ms.max(last_ms);
}

fn hours(random: &mut Random, most: u64) -> i64 {
    i64::try_from(random.below(most * 3_600_000)).unwrap_or(0)
}

/// The contact's first address, as the order took it down.
fn shipping(data: &Data, random: &mut Random, contact_id: u64) -> Option<Box<ShippingInformation>> {
    let record = data.contacts.get(contact_id)?;
    let mut address = record.value::<Vec<Address>>(Property::Addresses)?.into_iter().next()?;
    address.field = Some("SHIPPING".to_owned());
    Some(Box::new(ShippingInformation {
        id: (40_000 + random.below(900_000)).to_string(),
        address,
        company: None,
        given_name: record.value(Property::GivenName),
        family_name: record.value(Property::FamilyName),
        phone_number: random.chance(40).then(|| format!("(480) 555-0{}", 100 + random.below(100))),
        invoice_to_company: random.chance(5),
    }))
}

fn custom_fields(data: &Data, random: &mut Random, order: &Order) -> Vec<CustomFieldValue> {
    let mut items = Vec::new();
    for field in data.order_model.fields() {
        let content = match field.field_type.as_str() {
            "TEXT" if random.chance(15) => Value::from(format!("SHOP-{:07}", random.below(10_000_000))),
            "DROPDOWN" if random.chance(30) => Value::from(random.word(words::DELIVERY_WINDOWS)),
            "YES_NO" if random.chance(20) => Value::from(random.chance(30)),
            "DATE" if order.sent_ms.is_some() && random.chance(25) => {
                Value::from(clock::date_of((order.created_ms + 5 * DAY_MS).min(LAST_MS)))
            }
            _ => continue,
        };
        items.push(CustomFieldValue { id: field.id.clone(), content });
    }
    items
}
