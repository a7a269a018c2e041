//! Invented subscriptions: most go on, some ended by themselves and some were ended, with a reason.

use jiff::civil::Date;
use jiff::{Span, ToSpan};
use serde_json::Value;

use super::sales::Buyers;
use super::{LAST_MS, moment};
use crate::clock;
use crate::data::Data;
use crate::data::catalogue::{Plan, subscription_cycle};
use crate::data::contact::CustomFieldValue;
use crate::data::subscription::Subscription;
use crate::random::Random;

const DAY_MS: i64 = 86_400_000;

const REASONS: &[&str] = &[
    "Moved away",
    "Too expensive",
    "Payment failed",
    "Switched to a competitor",
    "Sold the house",
    "Does it herself now",
    "Kündigung per E-Mail",
];

/// Puts that many subscriptions into the app, in the order of their beginnings.
pub(super) fn add(data: &mut Data, buyers: &Buyers, random: &mut Random, count: u32) {
    let plans: Vec<Plan> = data.catalogue.plans.values().cloned().collect();
    let mut starts: Vec<(i64, u64)> = (0..count)
        .filter_map(|_| {
            let (contact_id, since_ms) = buyers.draw(random)?;
            Some((moment(random, since_ms, LAST_MS), contact_id))
        })
        .collect();
    starts.sort_unstable();
    for (start_ms, contact_id) in starts {
        let Some(plan) = random.pick(&plans) else { return };
        let mut subscription = begun(data, random, plan, start_ms);
        subscription.contact_id = contact_id;
        subscription.id = data.subscriptions.take_id();
        data.subscriptions.put(subscription);
    }
}

fn begun(data: &Data, random: &mut Random, plan: &Plan, start_ms: i64) -> Subscription {
    let start_date = clock::date_of(start_ms);
    let quantity = if random.chance(90) { 1 } else { 2 };
    // Some still pay what was agreed years ago.
    let price_minor =
        if random.chance(15) { plan.price_minor - plan.price_minor / 10 } else { plan.price_minor };
    let mut subscription = Subscription {
        product_id: plan.product_id,
        plan_id: plan.id,
        quantity,
        is_active: true,
        billing_amount: data.currency.major_of(price_minor),
        auto_charge: random.chance(85),
        billing_cycle: subscription_cycle(&plan.cycle_type).to_owned(),
        billing_frequency: plan.frequency,
        merchant_account_id: random.chance(80).then(|| "3".to_owned()),
        payment_method_id: random.chance(80).then(|| (5000 + random.below(90_000)).to_string()),
        allow_tax: random.chance(20),
        max_charge_attempts: 3,
        days_between_retries: if random.chance(70) { 2 } else { 5 },
        promo_code: random.chance(5).then(|| "SPRING".to_owned()),
        custom_fields: custom_fields(data, random),
        ..Subscription::default()
    };
    let stopped_ms = random.chance(35).then(|| moment(random, start_ms, LAST_MS));
    let bills = bills(&start_date, plan, stopped_ms.unwrap_or(LAST_MS));
    subscription.last_bill_date.clone_from(&bills.last);
    let last_change_ms = bills.last_ms.unwrap_or(start_ms).max(start_ms);
    if let Some(stopped_ms) = stopped_ms {
        subscription.is_active = false;
        subscription.reason_stopped = random.chance(80).then(|| random.word(REASONS).to_owned());
        subscription.end_date = Some(clock::date_of(stopped_ms));
        subscription.modified_ms = stopped_ms;
    } else if bills.next.is_none() {
        subscription.is_active = false;
        subscription.end_date.clone_from(&bills.last);
        subscription.modified_ms = last_change_ms;
    } else {
        subscription.next_bill_date = bills.next;
        // A bill moves it; a person may have changed it since.
        subscription.modified_ms =
            if random.chance(25) { moment(random, last_change_ms, LAST_MS) } else { last_change_ms };
    }
    subscription.start_date = start_date;
    subscription
}

/// The bills of a subscription up to some time.
struct Bills {
    last: Option<String>,
    last_ms: Option<i64>,
    /// Absent once all cycles were billed.
    next: Option<String>,
}

fn bills(start_date: &str, plan: &Plan, until_ms: i64) -> Bills {
    let until = clock::date_of(until_ms);
    let mut next: Option<Date> = start_date.parse().ok();
    let mut bills = Bills { last: None, last_ms: None, next: None };
    let mut billed = 0;
    // Eight years of daily billing are under 3000 steps.
    while let Some(date) = next.filter(|date| date.to_string() <= until) {
        billed += 1;
        bills.last = Some(date.to_string());
        next = if plan.total_cycles > 0 && billed >= plan.total_cycles {
            None
        } else {
            date.checked_add(step(plan)).ok()
        };
    }
    bills.next = next.map(|date| date.to_string());
    // Bills are made in the morning, but never later than the data ends.
    bills.last_ms = bills
        .last
        .as_deref()
        .and_then(|date| clock::parse_time(&format!("{date}T00:00:00Z")))
        .map(|midnight_ms| (midnight_ms + DAY_MS / 4).min(until_ms));
    bills
}

fn step(plan: &Plan) -> Span {
    match plan.cycle_type.as_str() {
        "DAILY" => plan.frequency.days(),
        "WEEKLY" => plan.frequency.weeks(),
        "YEARLY" => plan.frequency.years(),
        _ => plan.frequency.months(),
    }
}

fn custom_fields(data: &Data, random: &mut Random) -> Vec<CustomFieldValue> {
    let mut items = Vec::new();
    for field in data.subscription_model.fields() {
        let content = match field.field_type.as_str() {
            "DROPDOWN" if random.chance(60) => Value::from(random.word(super::sales::CREWS)),
            "TEXT" if random.chance(20) => Value::from(format!("AGR-{:06}", random.below(1_000_000))),
            _ => continue,
        };
        items.push(CustomFieldValue { id: field.id.clone(), content });
    }
    items
}
