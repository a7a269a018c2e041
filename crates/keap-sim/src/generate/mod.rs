//! Data of a small business, from a seed: the same seed and size give the same contacts everywhere.
//!
//! The people are invented, the domains are reserved for examples, and North American numbers are from the block kept
//! for fiction. Times end before the present, so that anything newer was changed by somebody.

mod catalogue;
mod orders;
mod people;
mod sales;
mod subscriptions;
mod words;

use crate::data::Data;
use crate::data::contact::Contact;
use crate::data::model::{CustomFieldRequest, OptionRequest};
use crate::data::money::Currency;
use crate::data::store::show_tags;
use crate::random::Random;

/// 2018-01-01.
const FIRST_MS: i64 = 1_514_764_800_000;
/// 2025-12-31.
const LAST_MS: i64 = 1_767_139_200_000;

/// The most orders and subscriptions made when nobody asks for a number: a moment of work even unoptimised.
const ORDERS_DEFAULT_MAX: u32 = 20_000;
const SUBSCRIPTIONS_DEFAULT_MAX: u32 = 4_000;

/// How much of everything to generate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) contacts: u32,
    /// None without contacts, whatever the number.
    pub(crate) orders: u32,
    /// None without contacts, whatever the number.
    pub(crate) subscriptions: u32,
    /// Tags, when more are wanted than every app has.
    pub(crate) tags: u32,
}

impl Size {
    /// A size with two orders for each contact and four subscriptions for ten, as far as no numbers are given.
    pub(crate) fn new(contacts: u32, orders: Option<u32>, subscriptions: Option<u32>) -> Self {
        Self {
            contacts,
            orders: orders.unwrap_or_else(|| contacts.saturating_mul(2).min(ORDERS_DEFAULT_MAX)),
            subscriptions: subscriptions
                .unwrap_or_else(|| (contacts.saturating_mul(2) / 5).min(SUBSCRIPTIONS_DEFAULT_MAX)),
            tags: 0,
        }
    }

    /// The size with that many tags.
    pub(crate) const fn with_tags(self, tags: u32) -> Self {
        Self { tags, ..self }
    }
}

/// An app of that size; with nothing it still has its tags, custom fields, companies and products.
pub(crate) fn data(size: &Size, currency: Currency, seed: u64) -> Data {
    let mut random = Random::new(seed);
    let mut data = Data::new(currency);
    define_custom_fields(&mut data);
    define_tags(&mut data, &mut random);
    define_segments(&mut data, size.tags);
    for (id, name) in (1_u64..).map(|number| number * 3).zip(words::LEAD_SOURCES) {
        data.lead_sources.insert(id, (*name).to_owned());
    }
    for name in words::COMPANIES {
        data.companies.id_of(name);
    }
    for _ in 0..size.contacts {
        add_contact(&mut data, &mut random);
    }
    sales::add(&mut data, size, seed);
    data
}

fn define_custom_fields(data: &mut Data) {
    let options = |labels: &[&str]| {
        labels.iter().map(|label| OptionRequest { label: (*label).to_owned() }).collect::<Vec<_>>()
    };
    let fields: [(&str, &str, &[&str]); 8] = [
        ("Favorite service", "DROPDOWN", words::SERVICES),
        ("Lifetime visits", "WHOLE_NUMBER", &[]),
        ("Annual budget", "CURRENCY", &[]),
        ("Next review", "DATE", &[]),
        ("Newsletter", "YES_NO", &[]),
        ("Interests", "LIST_BOX", words::INTERESTS),
        ("Internal notes", "TEXT_AREA", &[]),
        ("External ID", "TEXT", &[]),
    ];
    for (label, field_type, labels) in fields {
        let request = CustomFieldRequest::new(label, field_type, options(labels));
        // The table above is well-formed, as the tests of this module show.
        if data.model.define(request).is_err() {
            tracing::error!(event = "custom_field_refused", label);
        }
    }
}

fn define_tags(data: &mut Data, random: &mut Random) {
    for (category, tags) in words::TAGS {
        let created_ms = moment(random, FIRST_MS, FIRST_MS + 30 * 86_400_000);
        let category_id =
            (!category.is_empty()).then(|| data.tags.insert_category(category, None, created_ms, created_ms));
        for name in *tags {
            let created_ms = moment(random, FIRST_MS, LAST_MS);
            let description = random.chance(40).then(|| format!("Contacts marked as {name}"));
            let updated_ms = moment(random, created_ms, LAST_MS);
            data.tags.insert_tag(name, description, category_id, created_ms, updated_ms);
        }
    }
}

/// Tags as a marketing tool makes them, up to so many tags in all.
fn define_segments(data: &mut Data, tags: u32) {
    let defined = u32::try_from(data.tags.definitions.len()).unwrap_or(u32::MAX);
    for number in defined..tags {
        data.tags.insert_tag(&format!("Segment {number:04}"), None, None, FIRST_MS, FIRST_MS);
    }
}

fn add_contact(data: &mut Data, random: &mut Random) {
    let create_ms = moment(random, FIRST_MS, LAST_MS);
    let update_ms = if random.chance(15) { create_ms } else { moment(random, create_ms, LAST_MS) };
    let mut contact = people::contact(data, random, create_ms);
    let tag_ids = draw_tags(data, random);
    show_tags(&mut contact, tag_ids.iter().map(u64::to_string).collect());
    let id = insert(data, contact, create_ms, update_ms);
    for tag_id in tag_ids {
        data.tags.note(tag_id, id, moment(random, create_ms, LAST_MS));
    }
}

fn insert(data: &mut Data, contact: Contact, create_ms: i64, update_ms: i64) -> u64 {
    data.contacts.insert(contact, create_ms, update_ms).id
}

fn draw_tags(data: &Data, random: &mut Random) -> Vec<u64> {
    let all: Vec<u64> = data.tags.definitions.keys().copied().collect();
    let count = match random.below(100) {
        0..15 => 0,
        15..90 => 1 + random.below(4),
        _ => 5 + random.below(6),
    };
    let mut drawn: Vec<u64> = (0..count).filter_map(|_| random.pick(&all).copied()).collect();
    drawn.sort_unstable();
    drawn.dedup();
    drawn
}

/// A time in the span, to the millisecond.
fn moment(random: &mut Random, from_ms: i64, until_ms: i64) -> i64 {
    let span_ms = u64::try_from(until_ms - from_ms).unwrap_or(0);
    from_ms + i64::try_from(random.below(span_ms + 1)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::contact::Property;
    use crate::data::record::Record;

    fn data(contacts: u32, seed: u64) -> Data {
        super::data(&Size::new(contacts, None, None), Currency::default(), seed)
    }

    fn rendered(data: &Data) -> Vec<u8> {
        let mut out = Vec::new();
        for record in data.contacts.records().values() {
            record.write(Property::ALL, &mut out);
        }
        out
    }

    #[test]
    fn the_same_seed_gives_the_same_contacts() {
        assert_eq!(rendered(&data(200, 5)), rendered(&data(200, 5)));
        assert_ne!(rendered(&data(200, 5)), rendered(&data(200, 6)));
    }

    #[test]
    fn definitions_are_complete_even_without_contacts() {
        let data = data(0, 1);
        assert_eq!(data.model.fields().len(), 8);
        assert!(data.tags.definitions.len() > 20);
        assert_eq!(data.contacts.len(), 0);
    }

    #[test]
    fn there_are_as_many_tags_as_are_wanted_and_contacts_carry_them() {
        let data = super::data(&Size::new(300, None, None).with_tags(500), Currency::default(), 1);
        assert_eq!(data.tags.definitions.len(), 500);
        let last = data.tags.definitions.keys().rev().take(100);
        assert!(last.map(|tag| data.tags.contacts_of(*tag).count()).sum::<usize>() > 20);
    }

    #[test]
    fn contacts_have_the_size_and_the_flaws_of_real_ones() {
        let data = data(2000, 1);
        let average = rendered(&data).len() / 2000;
        assert!((1000..1500).contains(&average), "{average} bytes on average");
        let contacts: Vec<_> = data.contacts.records().values().map(Record::contact).collect();
        let without_email = contacts.iter().filter(|contact| contact.primary_email().is_empty()).count();
        assert!((100..500).contains(&without_email), "{without_email} without an e-mail");
        let is_unicode =
            |contact: &&Contact| contact.family_name.as_deref().is_some_and(|name| !name.is_ascii());
        assert!(contacts.iter().filter(is_unicode).count() > 50);
        assert!(contacts.iter().all(Contact::is_reachable));
    }
}
