//! Names that Keap tells elsewhere: a tag's category, a subscription's product and currency.
//!
//! Records leave this crate with their names or not at all: a record without them would look like one whose names were
//! taken away. So the lists and reads of tags and subscriptions ask here for what they do not know yet, once per
//! lifetime of the cache, and a page that holds nothing new costs no further call.

use crate::caller::Caller;
use crate::products::{Product, list_products};
use crate::tags::list_categories;
use crate::transport::Transport;
use keapsync_domain::canonical::content_hash;
use keapsync_domain::failure::Failure;
use keapsync_domain::remote::RemoteRecord;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

/// What is known so far; `None` is known to have no name. Lives as long as one pass over an account.
#[derive(Debug, Default)]
pub struct NameCache {
    categories: RefCell<HashMap<String, Option<String>>>,
    products: RefCell<HashMap<String, Option<Product>>>,
}

impl NameCache {
    /// Gives tags the names of their categories.
    pub(crate) async fn join_tags<T: Transport>(
        &self,
        caller: &Caller<'_, T>,
        tags: &mut [RemoteRecord],
    ) -> Result<(), Failure> {
        let asked = unknown(tags, "category_id", &self.categories);
        if !asked.is_empty() {
            let names = list_categories(caller).await?;
            let mut known = self.categories.borrow_mut();
            known.extend(asked.into_iter().map(|id| (id, None)));
            known.extend(names.into_iter().map(|category| (category.id, Some(category.name))));
        }
        let known = self.categories.borrow();
        for tag in tags {
            let name = text(tag, "category_id").and_then(|id| known.get(id)).cloned().flatten();
            join(tag, &[("category", name)]);
        }
        Ok(())
    }

    /// Gives subscriptions the names of their products, and their currency.
    pub(crate) async fn join_subscriptions<T: Transport>(
        &self,
        caller: &Caller<'_, T>,
        subscriptions: &mut [RemoteRecord],
    ) -> Result<(), Failure> {
        let asked = unknown(subscriptions, "product_id", &self.products);
        if !asked.is_empty() {
            let products = list_products(caller, &asked).await?;
            let mut known = self.products.borrow_mut();
            known.extend(asked.into_iter().map(|id| (id, None)));
            known.extend(products.into_iter().map(|product| (product.id.clone(), Some(product))));
        }
        let known = self.products.borrow();
        for subscription in subscriptions {
            let product =
                text(subscription, "product_id").and_then(|id| known.get(id)).and_then(Option::as_ref);
            let name = product.and_then(|product| product.name.clone());
            let plan_id = text(subscription, "plan_id").unwrap_or_default();
            let currency = product.and_then(|product| product.currency(plan_id)).map(str::to_owned);
            join(subscription, &[("product_name", name), ("currency", currency)]);
        }
        Ok(())
    }
}

fn text<'a>(record: &'a RemoteRecord, field: &str) -> Option<&'a str> {
    record.record.get_by_name(field).as_str()
}

fn unknown<V>(
    records: &[RemoteRecord],
    field: &str,
    known: &RefCell<HashMap<String, Option<V>>>,
) -> Vec<String> {
    let known = known.borrow();
    let ids: BTreeSet<&str> = records.iter().filter_map(|record| text(record, field)).collect();
    ids.into_iter().filter(|id| !known.contains_key(*id)).map(str::to_owned).collect()
}

/// Sets the names and makes them part of what the content hash covers: a rename changes a record's content, although Keap
/// leaves its update time alone.
fn join(remote: &mut RemoteRecord, names: &[(&str, Option<String>)]) {
    let mut covered = vec![Value::from(remote.content_hash.as_str())];
    for (field, name) in names {
        let name = Value::from(name.clone());
        covered.push(name.clone());
        remote.record.set_by_name(field, name);
    }
    remote.content_hash = content_hash(&json!(covered));
}
