//! What one Keap app holds: contacts, tags with their categories and applications, orders, products, subscriptions, and
//! the models of those that have custom fields.
//!
//! `Data` is plain state behind one lock of its tenant; every change is a function here or in the sub-modules, so a
//! request sees all of a change or nothing. Nothing here knows HTTP, hooks or quotas.

pub(crate) mod apply;
pub(crate) mod catalogue;
pub(crate) mod contact;
pub(crate) mod mask;
pub(crate) mod model;
pub(crate) mod money;
pub(crate) mod order;
pub(crate) mod order_change;
pub(crate) mod order_request;
pub(crate) mod order_view;
pub(crate) mod record;
pub(crate) mod regions;
pub(crate) mod request;
pub(crate) mod rows;
pub(crate) mod store;
pub(crate) mod subscription;
pub(crate) mod subscription_change;
pub(crate) mod tags;
pub(crate) mod validate;

use std::collections::BTreeMap;

use catalogue::Catalogue;
use model::ObjectModel;
use money::Currency;
use order::Order;
use rows::Rows;
use store::ContactStore;
use subscription::Subscription;
use tags::Tags;

/// Everything of one tenant that the API reads and writes.
#[derive(Debug)]
pub(crate) struct Data {
    pub(crate) contacts: ContactStore,
    /// The contact model.
    pub(crate) model: ObjectModel,
    pub(crate) currency: Currency,
    pub(crate) catalogue: Catalogue,
    pub(crate) orders: Rows<Order>,
    pub(crate) order_model: ObjectModel,
    pub(crate) subscriptions: Rows<Subscription>,
    pub(crate) subscription_model: ObjectModel,
    last_item_id: u64,
    last_payment_id: u64,
    pub(crate) tags: Tags,
    pub(crate) companies: Companies,
    /// Name by id of the places contacts came from.
    pub(crate) lead_sources: BTreeMap<u64, String>,
}

impl Data {
    /// An empty app in that currency.
    pub(crate) fn new(currency: Currency) -> Self {
        Self {
            contacts: ContactStore::default(),
            model: ObjectModel::new("CONTACT", 2),
            currency,
            catalogue: Catalogue::default(),
            orders: Rows::new(300_001),
            order_model: ObjectModel::new("ORDER", 302),
            subscriptions: Rows::new(800_002),
            subscription_model: ObjectModel::new("SUBSCRIPTION", 602),
            last_item_id: 4_000_000,
            last_payment_id: 7_000_000,
            tags: Tags::default(),
            companies: Companies::default(),
            lead_sources: BTreeMap::new(),
        }
    }

    /// The id of the next order item.
    pub(crate) const fn take_item_id(&mut self) -> u64 {
        self.last_item_id += 1;
        self.last_item_id
    }

    /// The id of the next payment.
    pub(crate) const fn take_payment_id(&mut self) -> u64 {
        self.last_payment_id += 1;
        self.last_payment_id
    }
}

/// The companies contacts belong to. Companies have no routes of their own here.
#[derive(Debug, Default)]
pub(crate) struct Companies {
    names: BTreeMap<u64, String>,
    ids: BTreeMap<String, u64>,
}

impl Companies {
    /// The company's name.
    pub(crate) fn name(&self, id: u64) -> Option<&str> {
        self.names.get(&id).map(String::as_str)
    }

    /// The id of the company of that name, made when it is new.
    pub(crate) fn id_of(&mut self, name: &str) -> u64 {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = self.names.last_key_value().map_or(501, |(last, _)| last + 2);
        self.names.insert(id, name.to_owned());
        self.ids.insert(name.to_owned(), id);
        id
    }
}
