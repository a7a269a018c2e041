//! The list of orders: its filter and its orders.

use super::custom::CustomCondition;
use super::page::{PageRequest, SortKey};
use super::rows::{self, Listed, Narrowed};
use super::term::{self, Term, TextMatch};
use crate::data::Data;
use crate::data::contact::Address;
use crate::data::order::Order;
use crate::failure::Failure;

/// The orders of the order list; the first is used when none is asked for.
pub(crate) const ORDERS: &[&str] = &["id", "order_time", "modification_time"];

impl Listed for Order {
    fn key(&self, order: &str) -> SortKey {
        SortKey::Number(match order {
            "order_time" => self.placed_ms,
            "modification_time" => self.modified_ms,
            _ => 0,
        })
    }
}

#[derive(Debug)]
enum Condition {
    Product(u64),
    Invoice(u64),
    /// No order here has an invoice of another system.
    Never,
    Paid(bool),
    CreatedFrom(i64),
    CreatedUntil(i64),
    Title(TextMatch),
    OrderType(String),
    Shipping(ShippingPart, TextMatch),
    Custom(CustomCondition),
}

#[derive(Debug, Clone, Copy)]
enum ShippingPart {
    Locality,
    RegionCode,
    PostalCode,
    CountryCode,
}

/// A parsed filter of the order list.
#[derive(Debug, Default)]
pub(crate) struct OrderFilter {
    narrowed: Narrowed,
    conditions: Vec<Condition>,
}

impl OrderFilter {
    /// Reads a filter against the custom fields the app has.
    pub(crate) fn read(filter: &str, data: &Data) -> Result<Self, Failure> {
        let mut parsed = Self::default();
        for term in term::parse(filter)? {
            match term.field.as_str() {
                "ids" => parsed.narrowed.add_ids(term.ids()?),
                "id" => parsed.narrowed.id_range.narrow(term.operator, term.id()?),
                "contact_id" => {
                    term.require_equal()?;
                    parsed.narrowed.contact_id = Some(term.id()?);
                }
                "modified_since_time" => parsed.narrowed.modified_from_ms = term.equal_time_ms()?,
                "modified_until_time" => parsed.narrowed.modified_until_ms = term.equal_time_ms()?,
                _ => parsed.conditions.push(read_condition(&term, data)?),
            }
        }
        Ok(parsed)
    }
}

/// One page of orders, and the token of the next when there is one.
pub(crate) fn page<'data>(
    data: &'data Data,
    filter: &OrderFilter,
    request: &PageRequest,
) -> (Vec<&'data Order>, Option<String>) {
    rows::page(&data.orders, &filter.narrowed, request, |order| {
        filter.conditions.iter().all(|condition| condition.matches(order))
    })
}

fn read_condition(term: &Term, data: &Data) -> Result<Condition, Failure> {
    let equal_id = || term.require_equal().and_then(|()| term.id());
    let shipping = |part| term.text(false).map(|wanted| Condition::Shipping(part, wanted));
    match term.field.as_str() {
        "product_id" => Ok(Condition::Product(equal_id()?)),
        "invoice_id" => Ok(Condition::Invoice(equal_id()?)),
        "invoice_xid" => term.require_equal().map(|()| Condition::Never),
        "paid" => Ok(Condition::Paid(term.flag()?)),
        "created_since_time" => Ok(Condition::CreatedFrom(term.equal_time_ms()?)),
        "created_until_time" => Ok(Condition::CreatedUntil(term.equal_time_ms()?)),
        "title" => Ok(Condition::Title(term.text(true)?)),
        "order_type" => {
            term.require_equal()?;
            if !matches!(term.value.as_str(), "ONLINE" | "OFFLINE") {
                return Err(Failure::bad_request("filter field 'order_type' takes ONLINE or OFFLINE"));
            }
            Ok(Condition::OrderType(term.value.clone()))
        }
        "shipping_locality" => shipping(ShippingPart::Locality),
        "shipping_region_code" => shipping(ShippingPart::RegionCode),
        "shipping_postal_code" => shipping(ShippingPart::PostalCode),
        "shipping_country_code" => shipping(ShippingPart::CountryCode),
        _ => Ok(Condition::Custom(CustomCondition::read(term, &data.order_model)?)),
    }
}

impl Condition {
    fn matches(&self, order: &Order) -> bool {
        match self {
            Self::Product(id) => order.items.iter().any(|item| item.product_id == Some(*id)),
            Self::Invoice(id) => order.invoice_id == *id,
            Self::Never => false,
            Self::Paid(is_paid) => order.is_paid() == *is_paid,
            Self::CreatedFrom(from_ms) => order.created_ms >= *from_ms,
            Self::CreatedUntil(until_ms) => order.created_ms <= *until_ms,
            Self::Title(wanted) => wanted.matches(&order.title),
            Self::OrderType(wanted) => order.kind == *wanted,
            Self::Shipping(part, wanted) => order
                .shipping
                .as_ref()
                .is_some_and(|shipping| shipping_matches(&shipping.address, *part, wanted)),
            Self::Custom(condition) => condition.matches(&order.custom_fields),
        }
    }
}

fn shipping_matches(address: &Address, part: ShippingPart, wanted: &TextMatch) -> bool {
    let text = match part {
        ShippingPart::Locality => &address.locality,
        ShippingPart::RegionCode => &address.region_code,
        ShippingPart::PostalCode => &address.postal_code,
        ShippingPart::CountryCode => &address.country_code,
    };
    text.as_deref().is_some_and(|text| wanted.matches(text))
}
