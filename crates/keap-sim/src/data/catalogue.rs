//! The catalogue: products and the subscription plans they are sold by.
//!
//! Prices are minor units here and in what a client writes; orders copy a product's price and name when an item is
//! made, so later changes of the catalogue do not move an order's total.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Number;

use super::mask::WriteMask;
use super::money::{self, Currency, CurrencyValue};
use crate::clock;
use crate::failure::Failure;

/// The cycles of a plan with the word that names it, and the word a subscription uses for the same.
const CYCLES: &[(&str, &str, &str)] = &[
    ("DAILY", "Daily", "DAY"),
    ("WEEKLY", "Weekly", "WEEK"),
    ("MONTHLY", "Monthly", "MONTH"),
    ("YEARLY", "Yearly", "YEAR"),
];

/// The word a subscription uses for a plan's cycle.
pub(crate) fn subscription_cycle(cycle_type: &str) -> &'static str {
    CYCLES.iter().find(|(plan, _, _)| *plan == cycle_type).map_or("MONTH", |(_, _, cycle)| cycle)
}

macro_rules! product_details {
    ($($field:ident: $kind:ty,)+) => {
        /// The properties of a product that are written and read alike.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(crate) struct ProductDetails {
            $(#[serde(skip_serializing_if = "Option::is_none")]
            pub(crate) $field: Option<$kind>,)+
            /// A bare number of minor units when written; read back as an object, which is not this.
            #[serde(skip_serializing)]
            pub(crate) price: Option<Number>,
        }

        impl ProductDetails {
            /// What `update_mask` takes.
            pub(crate) const NAMES: &[&str] = &[$(stringify!($field),)+ "price"];

            fn take(&mut self, request: Self, mask: &WriteMask) {
                $(if mask.covers(stringify!($field), request.$field.is_some()) {
                    self.$field = request.$field;
                })+
                if mask.covers("price", request.price.is_some()) {
                    self.price = request.price;
                }
            }
        }
    };
}

product_details! {
    name: String,
    sku: String,
    active: bool,
    description: String,
    short_description: String,
    shippable: bool,
    weight: f64,
    taxable: bool,
    country_taxable: bool,
    state_taxable: bool,
    city_taxable: bool,
    subscription_only: bool,
    storefront_hidden: bool,
    top_html: String,
    bottom_html: String,
    is_package: bool,
    needs_digital_delivery: bool,
    delivery_description: String,
}

/// One product.
#[derive(Debug, Clone)]
pub(crate) struct Product {
    pub(crate) id: u64,
    pub(crate) details: ProductDetails,
    pub(crate) price_minor: i64,
    pub(crate) create_ms: i64,
    pub(crate) update_ms: i64,
}

impl Product {
    pub(crate) fn name(&self) -> &str {
        self.details.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn is_taxable(&self) -> bool {
        self.details.taxable == Some(true)
    }

    pub(crate) fn is_shippable(&self) -> bool {
        self.details.shippable == Some(true)
    }
}

/// One subscription plan of a product.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) id: u64,
    pub(crate) product_id: u64,
    pub(crate) cycle_type: String,
    pub(crate) frequency: i32,
    pub(crate) price_minor: i64,
    /// 0 is without end.
    pub(crate) total_cycles: i32,
    pub(crate) display_order_index: i32,
    pub(crate) is_active: bool,
    pub(crate) allows_prorating: bool,
}

/// The body that makes a plan (`CreateSubscriptionPlanRequest`).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlanRequest {
    pub(crate) cycle_type: String,
    pub(crate) plan_price: Number,
    #[serde(default)]
    pub(crate) active: Option<bool>,
    #[serde(default)]
    pub(crate) frequency: Option<i32>,
    #[serde(default)]
    pub(crate) allow_prorating: Option<bool>,
    #[serde(default)]
    pub(crate) display_order_index: Option<i32>,
    #[serde(default)]
    pub(crate) total_cycles: Option<i32>,
}

/// A plan as its own routes and order items show it (`SubscriptionPlan`).
#[derive(Debug, Serialize)]
pub(crate) struct PlanView {
    id: String,
    subscription_plan_name: String,
    active: bool,
    frequency: i32,
    cycle_type: String,
    total_cycles: i32,
    plan_price: CurrencyValue,
    display_order_index: i32,
}

/// A product as the API shows it (`RestV2Product_List`, `RestV2Product_Detail`).
#[derive(Debug, Serialize)]
pub(crate) struct ProductView<'catalogue> {
    id: String,
    #[serde(flatten)]
    details: &'catalogue ProductDetails,
    price: CurrencyValue,
    categories: [String; 0],
    options: [String; 0],
    subscription_plans: Vec<PlanOfProductView<'catalogue>>,
    has_legacy_image: bool,
    create_time: String,
    update_time: String,
}

/// A plan inside its product, where the contract has other names for the same.
#[derive(Debug, Serialize)]
struct PlanOfProductView<'catalogue> {
    id: String,
    active: bool,
    prorate: bool,
    billing_cycle: &'catalogue str,
    billing_frequency: i32,
    number_of_cycles: i32,
    plan_price: CurrencyValue,
    order_index: i32,
}

/// The products and plans of one app.
#[derive(Debug)]
pub(crate) struct Catalogue {
    pub(crate) products: BTreeMap<u64, Product>,
    pub(crate) plans: BTreeMap<u64, Plan>,
    next_product_id: u64,
    next_plan_id: u64,
}

impl Default for Catalogue {
    fn default() -> Self {
        Self { products: BTreeMap::new(), plans: BTreeMap::new(), next_product_id: 31, next_plan_id: 702 }
    }
}

impl Catalogue {
    /// Makes a product and returns its id.
    pub(crate) fn create_product(
        &mut self,
        request: ProductDetails,
        create_ms: i64,
        update_ms: i64,
    ) -> Result<u64, Failure> {
        let mut details = ProductDetails {
            active: Some(true),
            shippable: Some(false),
            taxable: Some(false),
            subscription_only: Some(false),
            storefront_hidden: Some(false),
            ..ProductDetails::default()
        };
        details.take(request, &WriteMask::GIVEN);
        let price_minor = check_product(&details)?;
        let id = self.next_product_id;
        self.next_product_id += 2;
        self.products.insert(id, Product { id, details, price_minor, create_ms, update_ms });
        Ok(id)
    }

    /// Changes a product as far as the mask says.
    pub(crate) fn update_product(
        &mut self,
        id: u64,
        request: ProductDetails,
        mask: &WriteMask,
    ) -> Result<(), Failure> {
        let product = self.products.get_mut(&id).ok_or_else(|| no_product(id))?;
        let mut details = product.details.clone();
        details.take(request, mask);
        product.price_minor = check_product(&details)?;
        product.details = details;
        product.update_ms = clock::now_ms().max(product.update_ms + 1);
        Ok(())
    }

    /// Deletes a product and its plans. Orders and subscriptions that name it stay.
    pub(crate) fn delete_product(&mut self, id: u64) -> Result<(), Failure> {
        self.products.remove(&id).ok_or_else(|| no_product(id))?;
        self.plans.retain(|_, plan| plan.product_id != id);
        Ok(())
    }

    /// Makes a plan and returns its id.
    pub(crate) fn create_plan(&mut self, product_id: u64, request: PlanRequest) -> Result<u64, Failure> {
        if !self.products.contains_key(&product_id) {
            return Err(no_product(product_id));
        }
        if !CYCLES.iter().any(|(cycle, _, _)| *cycle == request.cycle_type) {
            return Err(Failure::bad_request("cycle_type must be one of DAILY, WEEKLY, MONTHLY, YEARLY"));
        }
        let price_minor = minor_price("plan_price", &request.plan_price)?;
        let (frequency, total_cycles) =
            (request.frequency.unwrap_or(1), request.total_cycles.unwrap_or_default());
        if frequency < 1 || total_cycles < 0 {
            return Err(Failure::bad_request(
                "frequency must be 1 or greater and total_cycles must not be negative",
            ));
        }
        let id = self.next_plan_id;
        self.next_plan_id += 2;
        let plan = Plan {
            id,
            product_id,
            cycle_type: request.cycle_type,
            frequency,
            price_minor,
            total_cycles,
            display_order_index: request.display_order_index.unwrap_or_default(),
            is_active: request.active.unwrap_or(true),
            allows_prorating: request.allow_prorating.unwrap_or_default(),
        };
        self.plans.insert(id, plan);
        Ok(id)
    }

    /// The plans of a product, by id.
    pub(crate) fn plans_of(&self, product_id: u64) -> impl Iterator<Item = &Plan> {
        self.plans.values().filter(move |plan| plan.product_id == product_id)
    }

    /// The product that a body names.
    pub(crate) fn named_product(&self, id: &str) -> Result<&Product, Failure> {
        let found = id.parse().ok().and_then(|id: u64| self.products.get(&id));
        found.ok_or_else(|| Failure::bad_request(format!("product {id} does not exist")))
    }

    /// The plan that a body names.
    pub(crate) fn named_plan(&self, id: &str) -> Result<&Plan, Failure> {
        let found = id.parse().ok().and_then(|id: u64| self.plans.get(&id));
        found.ok_or_else(|| Failure::bad_request(format!("subscription plan {id} does not exist")))
    }

    /// A product as the API shows it.
    pub(crate) fn product_view(&self, id: u64, currency: Currency) -> Result<ProductView<'_>, Failure> {
        let product = self.products.get(&id).ok_or_else(|| no_product(id))?;
        let plan = |plan: &'_ Plan| PlanOfProductView {
            id: plan.id.to_string(),
            active: plan.is_active,
            prorate: plan.allows_prorating,
            billing_cycle: self.plans.get(&plan.id).map_or("MONTHLY", |plan| plan.cycle_type.as_str()),
            billing_frequency: plan.frequency,
            number_of_cycles: plan.total_cycles,
            plan_price: currency.shown(plan.price_minor),
            order_index: plan.display_order_index,
        };
        Ok(ProductView {
            id: id.to_string(),
            details: &product.details,
            price: currency.shown(product.price_minor),
            categories: [],
            options: [],
            subscription_plans: self.plans_of(id).map(plan).collect(),
            has_legacy_image: false,
            create_time: clock::format_ms(product.create_ms),
            update_time: clock::format_ms(product.update_ms),
        })
    }

    /// A plan as the API shows it; it is named after its product and cycle.
    pub(crate) fn plan_view(&self, plan: &Plan, currency: Currency) -> PlanView {
        let product = self.products.get(&plan.product_id).map_or("Plan", Product::name);
        let cycle =
            CYCLES.iter().find(|(cycle, _, _)| *cycle == plan.cycle_type).map_or("", |(_, word, _)| word);
        let subscription_plan_name = match plan.frequency {
            1 => format!("{product} {cycle}"),
            frequency => format!("{product} {cycle} x{frequency}"),
        };
        PlanView {
            id: plan.id.to_string(),
            subscription_plan_name,
            active: plan.is_active,
            frequency: plan.frequency,
            cycle_type: plan.cycle_type.clone(),
            total_cycles: plan.total_cycles,
            plan_price: currency.shown(plan.price_minor),
            display_order_index: plan.display_order_index,
        }
    }
}

fn no_product(id: u64) -> Failure {
    Failure::not_found("product", &id.to_string())
}

/// Checks a product whole and gives its price.
fn check_product(details: &ProductDetails) -> Result<i64, Failure> {
    for (name, value) in [("name", &details.name), ("short_description", &details.short_description)] {
        if value.as_deref().is_none_or(|text| text.trim().is_empty()) {
            return Err(Failure::bad_request(format!("{name} must not be empty")));
        }
    }
    if details.weight.is_some_and(|weight| weight < 0.0) {
        return Err(Failure::bad_request("weight must not be negative"));
    }
    let price = details.price.as_ref().ok_or_else(|| Failure::bad_request("price is required"))?;
    minor_price("price", price)
}

fn minor_price(name: &str, price: &Number) -> Result<i64, Failure> {
    money::whole_minor(price).filter(|minor| *minor >= 0).ok_or_else(|| {
        Failure::bad_request(format!("{name} must be a whole number of the smallest unit, 0 or greater"))
    })
}
