//! Products and their subscription plans (API v2): only what subscriptions need of them, their names and currency.
//!
//! A list of products tells their plans without names; the plans' own list tells the names, one call per product. A
//! subscription's column holds the product's name, so the product list is what pages of subscriptions are joined with.

use crate::caller::{Caller, ListQuery};
use crate::transport::Transport;
use keapsync_domain::failure::Failure;
use keapsync_domain::limits::PAGE_RECORDS_MAX;
use serde::Deserialize;

const PATH: &str = "/rest/v2/products";

/// A product (v2 schema `RestV2Product_List`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Product {
    /// Keap's id.
    pub id: String,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// What it costs.
    #[serde(default)]
    pub price: Option<Price>,
    /// Its plans, without names.
    #[serde(default)]
    pub subscription_plans: Vec<SubscriptionPlan>,
}

/// A subscription plan (v2 schemas `SubscriptionPlan` and `SubscriptionPlan_List`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct SubscriptionPlan {
    /// Keap's id.
    pub id: String,
    /// Its name; told by the plans' own list alone.
    #[serde(default, rename = "subscription_plan_name")]
    pub name: Option<String>,
    /// What a period costs.
    #[serde(default, rename = "plan_price")]
    pub price: Option<Price>,
}

/// A price, of which only the currency matters here (v2 schema `CurrencyValue`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Price {
    /// ISO 4217.
    #[serde(default)]
    pub currency_code: Option<String>,
}

impl Product {
    /// The currency of one of its plans, or its own where the plan tells none.
    #[must_use]
    pub fn currency(&self, plan_id: &str) -> Option<&str> {
        let plan = self.subscription_plans.iter().find(|plan| plan.id == plan_id);
        let price = plan.and_then(|plan| plan.price.as_ref()).or(self.price.as_ref());
        price.and_then(|price| price.currency_code.as_deref())
    }
}

#[derive(Deserialize)]
struct ProductList {
    #[serde(default)]
    products: Vec<Product>,
    #[serde(default)]
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
struct PlanList {
    #[serde(default)]
    subscriptions: Vec<SubscriptionPlan>,
}

/// Products of the given ids; ids without a product are absent from the answer.
pub async fn list_products<T: Transport>(
    caller: &Caller<'_, T>,
    ids: &[String],
) -> Result<Vec<Product>, Failure> {
    let mut products = Vec::new();
    for chunk in ids.chunks(PAGE_RECORDS_MAX) {
        let mut asked: Vec<&str> = chunk.iter().map(String::as_str).collect();
        loop {
            let filter = format!("product_ids=={}", asked.join(","));
            let query = ListQuery { filter: Some(&filter), ..ListQuery::default() };
            let list: ProductList = caller.read(caller.list_url(PATH, query), "a list of products").await?;
            let asked_before = asked.len();
            asked.retain(|id| list.products.iter().all(|product| product.id != *id));
            products.extend(list.products);
            // A list that stops half way: the rest is asked for by name, because its token may be a position.
            let has_more = list.next_page_token.is_some_and(|token| !token.is_empty());
            if !has_more || asked.is_empty() || asked.len() == asked_before {
                break;
            }
        }
    }
    Ok(products)
}

/// A product's plans with their names.
pub async fn list_plans<T: Transport>(
    caller: &Caller<'_, T>,
    product_id: &str,
) -> Result<Vec<SubscriptionPlan>, Failure> {
    let url = caller.list_url(&format!("{PATH}/{product_id}/subscriptions"), ListQuery::default());
    let list: PlanList = caller.read(url, "a list of subscription plans").await?;
    Ok(list.subscriptions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorded::{Recorded, at_once};
    use serde_json::json;

    #[test]
    fn a_list_that_stops_half_way_takes_no_names_away() {
        let page = |id: &str, token: &str| {
            (200, json!({"products": [{"id": id, "name": "Box"}], "next_page_token": token}))
        };
        let transport = Recorded::answering([page("1", "p2"), page("2", "")]);
        let asked = ["1", "2"].map(str::to_owned);
        let listed = at_once(list_products(&transport.caller(), &asked)).unwrap();
        assert_eq!(listed.iter().map(|product| product.id.as_str()).collect::<Vec<_>>(), ["1", "2"]);
        assert!(transport.asked()[1].contains("filter=product_ids%3D%3D2&"), "{:?}", transport.asked());
    }

    #[test]
    fn a_plan_without_a_price_has_the_currency_of_its_product() {
        let list: ProductList = serde_json::from_value(json!({"products": [{
            "id": "1", "name": "Box", "price": {"amount": 5, "currency_code": "EUR"},
            "subscription_plans": [{"id": "7", "plan_price": {"amount": 5, "currency_code": "USD"}}, {"id": "8"}]}]}))
        .unwrap();
        for (plan, currency) in [("7", Some("USD")), ("8", Some("EUR")), ("9", Some("EUR"))] {
            assert_eq!(list.products[0].currency(plan), currency);
        }
        assert_eq!(Product::default().currency("7"), None);
    }
}
