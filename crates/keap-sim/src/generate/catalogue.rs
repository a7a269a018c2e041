//! What the invented business sells: products, and plans to have them again and again.

use super::{FIRST_MS, LAST_MS, moment};
use crate::data::Data;
use crate::data::catalogue::{PlanRequest, ProductDetails};
use crate::data::money::Currency;
use crate::random::Random;

/// A product: name, SKU, short description, price in cents, whether it is shipped, whether it is taxed.
type Listing = (&'static str, &'static str, &'static str, u32, bool, bool);

const PRODUCTS: &[Listing] = &[
    ("Pool care", "SRV-POOL", "Cleaning and chemicals, one visit", 8_900, false, false),
    ("Garden care", "SRV-GARD", "Mowing, weeding and trimming, one visit", 7_500, false, false),
    ("Irrigation check", "SRV-IRRI", "Every valve and emitter, with a report", 12_900, false, false),
    ("Tree trimming", "SRV-TREE", "Two arborists for half a day", 49_500, false, false),
    ("Design consultation", "SRV-DSGN", "An hour on site and a sketch", 15_000, false, false),
    ("Landscape plan", "SRV-PLAN", "A planting plan, drawn to scale", 120_000, false, false),
    ("Drip kit", "PRD-DRIP", "Emitters and tubing for 20 plants", 6_495, true, true),
    ("Smart controller", "PRD-CTRL", "Irrigation controller with weather data", 24_900, true, true),
    ("Chlorine tablets 10 kg", "PRD-CHLO", "Slow-dissolving tablets", 11_999, true, true),
    ("Pool brush", "PRD-BRSH", "Stainless bristles", 2_450, true, true),
    ("Skimmer net", "PRD-SKIM", "Telescopic handle", 3_199, true, true),
    ("Garden gloves", "PRD-GLOV", "Leather palm, size M", 1_895, true, true),
    ("Pruning shears", "PRD-SHRS", "Bypass shears, forged", 4_250, true, true),
    ("Rose fertiliser 5 kg", "PRD-ROSE", "Organic", 2_799, true, true),
    ("Agave \"Blue Glow\"", "PLT-AGAV", "In a 20 cm pot", 3_900, true, true),
    ("Palo verde, 2 m", "PLT-PALO", "Delivered and planted", 34_900, false, true),
    ("LED path light", "PRD-LEDP", "Warm white, low voltage", 5_900, true, true),
    ("Koi food 3 kg", "PRD-KOIF", "Pellets for all seasons", 3_650, true, true),
    ("Gift card 50", "GFT-0050", "For anything we sell", 5_000, false, false),
    ("Workshop: saving water", "EVT-WATR", "One seat, Saturday morning", 3_500, false, true),
];

/// A plan: the place of its product above, cycle, frequency, price in cents and cycles (0 is without end).
const PLANS: &[(usize, &str, i32, u32, i32)] = &[
    (0, "WEEKLY", 1, 7_900, 0),
    (0, "MONTHLY", 1, 28_900, 0),
    (1, "WEEKLY", 2, 6_900, 0),
    (1, "MONTHLY", 1, 23_900, 12),
    (2, "YEARLY", 1, 9_900, 0),
    (2, "MONTHLY", 3, 11_900, 8),
    (8, "MONTHLY", 2, 10_999, 6),
    (17, "MONTHLY", 1, 3_450, 0),
    (4, "DAILY", 10, 4_900, 3),
];

/// Minor units of a price in cents: the same digits where there are no decimals or two, a third of a dollar's worth in
/// a currency with three.
pub(super) fn price(cents: u32, currency: Currency) -> i64 {
    i64::from(cents) * if currency.decimals == 3 { 3 } else { 1 }
}

/// Puts the products and their plans into the catalogue.
pub(super) fn define(data: &mut Data, random: &mut Random) {
    let mut product_ids = Vec::with_capacity(PRODUCTS.len());
    for (name, sku, short_description, cents, shippable, taxable) in PRODUCTS {
        let create_ms = moment(random, FIRST_MS, FIRST_MS + 300 * 86_400_000);
        let update_ms = moment(random, create_ms, LAST_MS);
        let details = ProductDetails {
            name: Some((*name).to_owned()),
            sku: Some((*sku).to_owned()),
            short_description: Some((*short_description).to_owned()),
            description: random
                .chance(50)
                .then(|| format!("{name}: {short_description}. Ask us for a quote.")),
            price: Some(price(*cents, data.currency).into()),
            active: Some(random.chance(92)),
            shippable: Some(*shippable),
            taxable: Some(*taxable),
            state_taxable: Some(*taxable),
            ..ProductDetails::default()
        };
        // The tables above are well-formed, as the tests of this module show.
        let made = data.catalogue.create_product(details, create_ms, update_ms);
        if made.is_err() {
            tracing::error!(event = "product_refused", sku);
        }
        product_ids.extend(made.ok());
    }
    for (display_order_index, (place, cycle_type, frequency, cents, total_cycles)) in (0..).zip(PLANS) {
        let request = PlanRequest {
            cycle_type: (*cycle_type).to_owned(),
            plan_price: price(*cents, data.currency).into(),
            active: Some(true),
            frequency: Some(*frequency),
            allow_prorating: None,
            display_order_index: Some(display_order_index),
            total_cycles: Some(*total_cycles),
        };
        let product_id = product_ids.get(*place).copied().unwrap_or_default();
        if data.catalogue.create_plan(product_id, request).is_err() {
            tracing::error!(event = "plan_refused", cycle_type);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_taken_whole_in_every_currency() {
        for code in ["USD", "JPY", "KWD"] {
            let mut data = Data::new(Currency::parse(code).unwrap());
            define(&mut data, &mut Random::new(1));
            assert_eq!(
                (data.catalogue.products.len(), data.catalogue.plans.len()),
                (PRODUCTS.len(), PLANS.len())
            );
        }
    }
}
