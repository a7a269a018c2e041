//! Changes of orders: create, update, delete, their items one by one, and payments a person records.
//!
//! Every change of an item moves the order's time of change. A request is checked whole before anything of it is kept.
//! Nothing here charges money.

use super::Data;
use super::apply::{Author, complete_address};
use super::contact::{Address, CustomFieldValue};
use super::mask::WriteMask;
use super::order::{ITEM_TYPES, Item, Order, Payment, PaymentPlan, ShippingInformation};
use super::order_request::{AddressInformation, ItemRequest, OrderRequest, PaymentPlanRequest};
use super::{regions, validate};
use crate::clock;
use crate::failure::Failure;

impl Data {
    /// Creates an order with its items and returns its id.
    pub(crate) fn create_order(&mut self, mut request: OrderRequest, author: Author) -> Result<u64, Failure> {
        let now_ms = clock::now_ms();
        if request.payment_plan.is_some() {
            return Err(Failure::bad_request("payment_plan is not part of a new order"));
        }
        let item_requests = request.order_items.take().unwrap_or_default();
        let mut order = Order {
            source_type: match author {
                Author::Api => "API",
                Author::Person => "INVOICE",
            },
            created_ms: now_ms,
            modified_ms: now_ms,
            placed_ms: i64::MIN,
            ..Order::default()
        };
        self.write_order(&mut order, request, &WriteMask::GIVEN)?;
        for item_request in &item_requests {
            let item = self.new_item(item_request)?;
            order.items.push(item);
        }
        order.id = self.orders.take_id();
        order.invoice_id = invoice_id(order.id);
        let id = order.id;
        self.orders.put(order);
        Ok(id)
    }

    /// Changes an order as far as the mask says.
    pub(crate) fn update_order(
        &mut self,
        id: u64,
        request: OrderRequest,
        mask: &WriteMask,
    ) -> Result<(), Failure> {
        if request.order_items.is_some() {
            return Err(Failure::bad_request(
                "order_items cannot be changed here; change each item by its own route",
            ));
        }
        let mut order = self.known_order(id)?.clone();
        self.write_order(&mut order, request, mask)?;
        self.orders.put_changed(order, clock::now_ms());
        Ok(())
    }

    /// Deletes an order, unless money was recorded on it.
    pub(crate) fn delete_order(&mut self, id: u64) -> Result<(), Failure> {
        if !self.known_order(id)?.payments.is_empty() {
            return Err(Failure::conflict("an order with transactions cannot be deleted", "order"));
        }
        self.orders.remove(id);
        Ok(())
    }

    /// Adds an item to an order and returns its id.
    pub(crate) fn create_item(&mut self, order_id: u64, request: &ItemRequest) -> Result<u64, Failure> {
        let mut order = self.known_order(order_id)?.clone();
        let item = self.new_item(request)?;
        let item_id = item.id;
        order.items.push(item);
        self.orders.put_changed(order, clock::now_ms());
        Ok(item_id)
    }

    /// Changes an item as far as the mask says.
    pub(crate) fn update_item(
        &mut self,
        order_id: u64,
        item_id: u64,
        request: &ItemRequest,
        mask: &WriteMask,
    ) -> Result<(), Failure> {
        if request.item_type.is_some() {
            return Err(Failure::bad_request("item_type cannot be changed"));
        }
        let mut order = self.known_order(order_id)?.clone();
        let item = order.items.iter_mut().find(|item| item.id == item_id).ok_or_else(|| no_item(item_id))?;
        self.write_item(item, request, mask)?;
        self.orders.put_changed(order, clock::now_ms());
        Ok(())
    }

    /// Removes an item from an order.
    pub(crate) fn delete_item(&mut self, order_id: u64, item_id: u64) -> Result<(), Failure> {
        let mut order = self.known_order(order_id)?.clone();
        if order.item(item_id).is_none() {
            return Err(no_item(item_id));
        }
        order.items.retain(|item| item.id != item_id);
        self.orders.put_changed(order, clock::now_ms());
        Ok(())
    }

    /// Records a payment that a person took, at most what is due, and returns its id.
    pub(crate) fn record_payment(&mut self, order_id: u64, amount_minor: i64) -> Result<u64, Failure> {
        let mut order = self.known_order(order_id)?.clone();
        if amount_minor < 1 || amount_minor > order.due_minor() {
            return Err(Failure::bad_request("amount must be above 0 and not more than is due"));
        }
        let now_ms = clock::now_ms();
        let id = self.take_payment_id();
        order.payments.push(Payment {
            id,
            amount_minor,
            at_ms: now_ms,
            note: "Recorded by hand",
            refund_of: None,
        });
        self.orders.put_changed(order, now_ms);
        Ok(id)
    }

    pub(crate) fn known_order(&self, id: u64) -> Result<&Order, Failure> {
        self.orders.get(id).ok_or_else(|| Failure::not_found("order", &id.to_string()))
    }

    fn write_order(&self, order: &mut Order, request: OrderRequest, mask: &WriteMask) -> Result<(), Failure> {
        macro_rules! texts {
            ($($field:ident),+) => {
                $(if mask.covers(stringify!($field), request.$field.is_some()) {
                    order.$field = request.$field.filter(|text| !text.is_empty());
                })+
            };
        }
        macro_rules! times {
            ($($field:ident $stored:ident),+) => {
                $(if mask.covers(stringify!($field), request.$field.is_some()) {
                    order.$stored = request.$field.as_deref().map(|text| time(stringify!($field), text)).transpose()?;
                })+
            };
        }
        if mask.covers("contact_id", request.contact_id.is_some()) {
            order.contact_id = self.named_contact(request.contact_id.as_deref())?;
        }
        if mask.covers("order_title", request.order_title.is_some()) {
            order.title = request.order_title.unwrap_or_default();
        }
        if mask.covers("order_type", request.order_type.is_some()) {
            order.kind = request.order_type.unwrap_or_default();
        }
        if mask.covers("order_time", request.order_time.is_some()) {
            order.placed_ms = time("order_time", request.order_time.as_deref().unwrap_or_default())?;
        }
        texts!(notes, terms, invoice_number, external_create_user, lead_affiliate_id, sales_affiliate_id);
        times!(
            sent_time sent_ms,
            due_time due_ms,
            external_create_time external_create_ms,
            external_update_time external_update_ms
        );
        if mask.covers("promo_codes", request.promo_codes.is_some()) {
            order.promo_codes = request.promo_codes.unwrap_or_default();
        }
        if mask.covers("shipping_address", request.shipping_address.is_some()) {
            order.shipping = request.shipping_address.map(|address| shipping(address, order)).transpose()?;
        }
        if mask.covers("payment_plan", request.payment_plan.is_some()) {
            order.payment_plan = request.payment_plan.map(|terms| self.payment_plan(terms)).transpose()?;
        }
        if mask.covers("custom_fields", request.custom_fields.is_some()) {
            let items = request.custom_fields.unwrap_or_default();
            validate::check_custom_fields(&items, &self.order_model)?;
            order.custom_fields = kept_fields(items);
        }
        check_order(order)
    }

    /// The contact that a body names.
    pub(crate) fn named_contact(&self, id: Option<&str>) -> Result<u64, Failure> {
        let id = id.unwrap_or_default();
        let known = id.parse().ok().filter(|id| self.contacts.get(*id).is_some());
        known.ok_or_else(|| Failure::bad_request(format!("contact {id} does not exist")))
    }

    fn payment_plan(&self, request: PaymentPlanRequest) -> Result<Box<PaymentPlan>, Failure> {
        let (Some(plan_start_date), Some(number_of_payments @ 1..), Some(days_between_payments @ 1..)) =
            (request.plan_start_date, request.number_of_payments, request.days_between_payments)
        else {
            return Err(Failure::bad_request(
                "payment_plan needs plan_start_date, number_of_payments and days_between_payments",
            ));
        };
        validate::date("plan_start_date", Some(&plan_start_date))?;
        validate::date("initial_payment_date", request.initial_payment_date.as_deref())?;
        let initial = request.initial_payment_amount;
        Ok(Box::new(PaymentPlan {
            auto_charge: request.auto_charge,
            max_charge_attempts: request.max_charge_attempts,
            days_between_retries: request.days_between_retries,
            payment_method_id: request.payment_method_id,
            initial_payment_minor: initial
                .map(|amount| self.minor("initial_payment_amount", &amount))
                .transpose()?,
            initial_payment_date: request.initial_payment_date,
            plan_start_date,
            number_of_payments,
            days_between_payments,
        }))
    }

    fn new_item(&mut self, request: &ItemRequest) -> Result<Item, Failure> {
        let wanted = request.item_type.as_deref().unwrap_or("PRODUCT");
        let kind = ITEM_TYPES.iter().copied().find(|known| *known == wanted).ok_or_else(|| {
            Failure::bad_request(format!("item_type must be one of {}", ITEM_TYPES.join(", ")))
        })?;
        let mut item = Item {
            id: 0,
            kind,
            name: String::new(),
            description: None,
            notes: None,
            quantity: 0,
            price_minor: 0,
            cost_minor: None,
            product_id: None,
            plan_id: None,
            subscription_id: None,
        };
        let is_sold = matches!(kind, "PRODUCT" | "SUBSCRIPTION");
        if is_sold {
            let product = self.catalogue.named_product(request.product_id.as_deref().unwrap_or_default())?;
            item.price_minor = product.price_minor;
            product.name().clone_into(&mut item.name);
        } else {
            if request.price_per_unit.is_none() {
                return Err(Failure::bad_request(format!("price_per_unit is required for {kind}")));
            }
            kind.clone_into(&mut item.name);
        }
        if kind == "SUBSCRIPTION" && request.subscription_plan_id.is_none() {
            return Err(Failure::bad_request("subscription_plan_id is required for SUBSCRIPTION"));
        }
        self.write_item(&mut item, request, &WriteMask::GIVEN)?;
        item.id = self.take_item_id();
        Ok(item)
    }

    fn write_item(&self, item: &mut Item, request: &ItemRequest, mask: &WriteMask) -> Result<(), Failure> {
        for (name, value) in [
            ("name", &request.name),
            ("description", &request.description),
            ("notes", &request.notes),
            ("subscription_plan_description", &request.subscription_plan_description),
        ] {
            if value.as_deref().is_some_and(|text| !text.is_empty() && text.trim().is_empty()) {
                return Err(Failure::bad_request(format!("{name} must not be whitespace")));
            }
        }
        let text = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
        if mask.covers("name", request.name.is_some()) {
            item.name = text(&request.name).ok_or_else(|| Failure::bad_request("name must not be empty"))?;
        }
        if mask.covers("description", request.description.is_some()) {
            item.description = text(&request.description);
        }
        if mask.covers("notes", request.notes.is_some()) {
            item.notes = text(&request.notes);
        }
        if mask.covers("quantity", request.quantity.is_some()) {
            item.quantity = request.quantity.unwrap_or_default();
        }
        if mask.covers("price_per_unit", request.price_per_unit.is_some()) {
            let price = request.price_per_unit.as_ref();
            let price = price.ok_or_else(|| Failure::bad_request("price_per_unit must be a number"))?;
            item.price_minor = self.minor("price_per_unit", price)?;
        }
        if mask.covers("cost_per_unit", request.cost_per_unit.is_some()) {
            let cost = request.cost_per_unit.as_ref();
            item.cost_minor = cost.map(|cost| self.minor("cost_per_unit", cost)).transpose()?;
        }
        if mask.covers("product_id", request.product_id.is_some()) {
            let product = self.catalogue.named_product(request.product_id.as_deref().unwrap_or_default())?;
            item.product_id = Some(product.id);
        }
        if mask.covers("subscription_plan_id", request.subscription_plan_id.is_some()) {
            let plan_id = request.subscription_plan_id.as_deref().unwrap_or_default();
            item.plan_id = Some(self.catalogue.named_plan(plan_id)?.id);
        }
        if item.quantity < 1 {
            return Err(Failure::bad_request("quantity must be 1 or greater"));
        }
        Ok(())
    }

    fn minor(&self, name: &str, major: &serde_json::Number) -> Result<i64, Failure> {
        self.currency.minor_of(major).ok_or_else(|| Failure::bad_request(format!("{name} is out of range")))
    }
}

/// The invoice an order has.
pub(crate) const fn invoice_id(order_id: u64) -> u64 {
    order_id + 1_000_000
}

/// The values that are kept: one that is empty is not.
pub(crate) fn kept_fields(mut items: Vec<CustomFieldValue>) -> Vec<CustomFieldValue> {
    items.retain(|item| !item.content.is_null() && item.content != "");
    items
}

fn no_item(item_id: u64) -> Failure {
    Failure::not_found("order item", &item_id.to_string())
}

fn time(name: &str, text: &str) -> Result<i64, Failure> {
    clock::parse_time(text)
        .ok_or_else(|| Failure::bad_request(format!("{name} must be a time such as 2026-01-01T00:00:00Z")))
}

/// Checks what every order has.
fn check_order(order: &Order) -> Result<(), Failure> {
    if order.contact_id == 0 {
        return Err(Failure::bad_request("contact_id is required"));
    }
    if order.title.trim().is_empty() {
        return Err(Failure::bad_request("order_title is required"));
    }
    if !matches!(order.kind.as_str(), "ONLINE" | "OFFLINE") {
        return Err(Failure::bad_request("order_type is required and must be ONLINE or OFFLINE"));
    }
    if order.placed_ms == i64::MIN {
        return Err(Failure::bad_request("order_time is required"));
    }
    for (name, id) in
        [("lead_affiliate_id", &order.lead_affiliate_id), ("sales_affiliate_id", &order.sales_affiliate_id)]
    {
        validate::number_in_text(name, id.as_deref())?;
    }
    Ok(())
}

fn shipping(request: AddressInformation, order: &Order) -> Result<Box<ShippingInformation>, Failure> {
    let country = request.country_code.as_deref().filter(|code| !code.is_empty());
    if country.is_some_and(|code| !regions::is_country_code(code)) {
        return Err(Failure::bad_request("shipping_address.country_code must be an ISO 3166-1 alpha-3 code"));
    }
    let region = request.region.filter(|text| !text.is_empty());
    if region.is_some() && country.is_none() {
        return Err(Failure::bad_request("shipping_address.country_code is required when a region is given"));
    }
    let is_code = region.as_deref().is_some_and(|text| regions::region_name(text).is_some());
    let (region_code, region) = if is_code { (region, None) } else { (None, region) };
    let mut address = Address {
        field: Some("SHIPPING".to_owned()),
        line1: request.line1,
        line2: request.line2,
        locality: request.locality,
        region,
        region_code,
        country: None,
        country_code: request.country_code,
        postal_code: request.zip_code.clone(),
        zip_code: request.zip_code,
        zip_four: request.zip_four,
    };
    complete_address(&mut address);
    // The information is the order's own: it keeps its id when it is written again.
    let id = order
        .shipping
        .as_ref()
        .map_or_else(|| (order.created_ms % 1_000_000).to_string(), |old| old.id.clone());
    Ok(Box::new(ShippingInformation {
        id,
        address,
        company: request.company,
        given_name: request.first_name,
        family_name: request.last_name,
        phone_number: request.phone,
        invoice_to_company: request.is_invoice_to_company.unwrap_or_default(),
    }))
}
