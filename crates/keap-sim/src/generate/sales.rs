//! What the app sold: the catalogue, then subscriptions, then orders.
//!
//! It draws from its own generator, so that the contacts of a seed are the same whatever was sold to them.

use super::{Size, catalogue, orders, subscriptions, words};
use crate::data::Data;
use crate::data::model::{CustomFieldRequest, OptionRequest};
use crate::random::Random;

pub(super) const CREWS: &[&str] = &["Crew north", "Crew south", "Weekend crew"];

/// Kept apart from the seed of the contacts.
const SALES_SEED: u64 = 0x5a1e_5000_0000_0000;

/// Who buys: some contacts never do, and few do a lot.
pub(super) struct Buyers {
    /// Contact and since when it is one, in the order of how much they buy.
    contacts: Vec<(u64, i64)>,
}

impl Buyers {
    fn of(data: &Data, random: &mut Random) -> Self {
        let mut contacts: Vec<(u64, i64)> =
            data.contacts.records().values().map(|record| (record.id, record.create_ms)).collect();
        // A shuffle: how much a contact buys does not follow from its id.
        for place in (1..contacts.len()).rev() {
            let other = random.below(u64::try_from(place + 1).unwrap_or(1));
            contacts.swap(place, usize::try_from(other).unwrap_or(0));
        }
        // A third only ever asked.
        contacts.truncate(contacts.len() - contacts.len() / 3);
        Self { contacts }
    }

    /// A buyer, the frequent ones more often; `None` when there are no contacts.
    pub(super) fn draw(&self, random: &mut Random) -> Option<(u64, i64)> {
        let count = u64::try_from(self.contacts.len()).unwrap_or(0);
        // The lower of two draws falls into the first half three times out of four.
        let place = random.below(count).min(random.below(count));
        self.contacts.get(usize::try_from(place).unwrap_or(0)).copied()
    }
}

/// Puts products, subscriptions and orders into the app.
pub(super) fn add(data: &mut Data, size: &Size, seed: u64) {
    let mut random = Random::new(seed ^ SALES_SEED);
    define_custom_fields(data);
    catalogue::define(data, &mut random);
    let buyers = Buyers::of(data, &mut random);
    subscriptions::add(data, &buyers, &mut random, size.subscriptions);
    orders::add(data, &buyers, &mut random, size.orders);
}

fn define_custom_fields(data: &mut Data) {
    let options = |labels: &[&str]| {
        labels.iter().map(|label| OptionRequest { label: (*label).to_owned() }).collect::<Vec<_>>()
    };
    let of_orders: [(&str, &str, &[&str]); 4] = [
        ("External ID", "TEXT", &[]),
        ("Delivery window", "DROPDOWN", words::DELIVERY_WINDOWS),
        ("Gift", "YES_NO", &[]),
        ("Delivered on", "DATE", &[]),
    ];
    let of_subscriptions: [(&str, &str, &[&str]); 2] =
        [("Crew", "DROPDOWN", CREWS), ("Agreement", "TEXT", &[])];
    let models =
        [(&mut data.order_model, &of_orders[..]), (&mut data.subscription_model, &of_subscriptions[..])];
    for (model, fields) in models {
        for (label, field_type, labels) in fields {
            // The tables above are well-formed, as the tests of this module show.
            if model.define(CustomFieldRequest::new(label, field_type, options(labels))).is_err() {
                tracing::error!(event = "custom_field_refused", label);
            }
        }
    }
}
