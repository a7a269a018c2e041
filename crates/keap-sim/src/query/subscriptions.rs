//! The list of subscriptions: its filter and its orders. It has no filter on the time of change.

use std::collections::BTreeSet;

use super::custom::CustomCondition;
use super::page::{PageRequest, SortKey};
use super::rows::{self, Listed, Narrowed};
use super::term::{self, Operator, Term};
use crate::data::Data;
use crate::data::subscription::Subscription;
use crate::failure::Failure;

/// The orders of the subscription list; the first is used when none is asked for.
pub(crate) const ORDERS: &[&str] = &["id", "contact_id", "subscription_plan_id", "modification_time"];

impl Listed for Subscription {
    fn key(&self, order: &str) -> SortKey {
        let of_id = |id| i64::try_from(id).unwrap_or(i64::MAX);
        SortKey::Number(match order {
            "contact_id" => of_id(self.contact_id),
            "subscription_plan_id" => of_id(self.plan_id),
            "modification_time" => self.modified_ms,
            _ => 0,
        })
    }
}

#[derive(Debug)]
enum Condition {
    Plans(BTreeSet<u64>),
    Active(bool),
    BillingAmount(Operator, f64),
    Custom(CustomCondition),
}

/// A parsed filter of the subscription list.
#[derive(Debug, Default)]
pub(crate) struct SubscriptionFilter {
    narrowed: Narrowed,
    conditions: Vec<Condition>,
}

impl SubscriptionFilter {
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
                _ => parsed.conditions.push(read_condition(&term, data)?),
            }
        }
        Ok(parsed)
    }
}

/// One page of subscriptions, and the token of the next when there is one.
pub(crate) fn page<'data>(
    data: &'data Data,
    filter: &SubscriptionFilter,
    request: &PageRequest,
) -> (Vec<&'data Subscription>, Option<String>) {
    rows::page(&data.subscriptions, &filter.narrowed, request, |subscription| {
        filter.conditions.iter().all(|condition| condition.matches(subscription))
    })
}

fn read_condition(term: &Term, data: &Data) -> Result<Condition, Failure> {
    match term.field.as_str() {
        "subscription_plan_id" => {
            term.require_equal()?;
            Ok(Condition::Plans(BTreeSet::from([term.id()?])))
        }
        "subscription_plan_ids" => Ok(Condition::Plans(term.ids()?.into_iter().collect())),
        "status" => {
            term.require_equal()?;
            match term.value.to_lowercase().as_str() {
                "active" => Ok(Condition::Active(true)),
                "inactive" => Ok(Condition::Active(false)),
                _ => Err(Failure::bad_request("filter field 'status' takes Active or Inactive")),
            }
        }
        "billing_amount" => Ok(Condition::BillingAmount(term.operator, term.number()?)),
        _ => Ok(Condition::Custom(CustomCondition::read(term, &data.subscription_model)?)),
    }
}

impl Condition {
    fn matches(&self, subscription: &Subscription) -> bool {
        match self {
            Self::Plans(ids) => ids.contains(&subscription.plan_id),
            Self::Active(is_active) => subscription.is_active == *is_active,
            Self::BillingAmount(operator, amount) => operator.holds(&subscription.billing_amount, amount),
            Self::Custom(condition) => condition.matches(&subscription.custom_fields),
        }
    }
}
