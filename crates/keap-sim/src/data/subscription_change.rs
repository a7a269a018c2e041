//! Changes of subscriptions: create, update, deactivate; deletion is for a person alone.
//!
//! Nothing here bills: `last_bill_date` is Keap's own and only generated data has one.

use super::Data;
use super::apply::complete_address;
use super::catalogue::subscription_cycle;
use super::mask::WriteMask;
use super::order_change::kept_fields;
use super::subscription::{BILLING_CYCLES, Subscription, SubscriptionRequest};
use super::validate;
use crate::clock;
use crate::failure::Failure;

/// What an app is set to charge by when a client says nothing.
const MAX_CHARGE_ATTEMPTS_DEFAULT: i32 = 3;
const DAYS_BETWEEN_RETRIES_DEFAULT: i32 = 2;

impl Data {
    /// Creates a subscription and returns its id.
    pub(crate) fn create_subscription(&mut self, request: SubscriptionRequest) -> Result<u64, Failure> {
        for (name, is_given) in [
            ("billing_frequency", request.billing_frequency.is_some()),
            ("billing_cycle", request.billing_cycle.is_some()),
            ("next_bill_date", request.next_bill_date.is_some()),
            ("end_date", request.end_date.is_some()),
        ] {
            if is_given {
                return Err(Failure::bad_request(format!("{name} is not part of a new subscription")));
            }
        }
        let today = clock::today();
        let start_date = request.start_date.clone().unwrap_or_else(|| today.clone());
        not_past("start_date", &start_date, &today)?;
        let may_duplicate = request.allow_duplicate.unwrap_or_default();
        let mut subscription = Subscription {
            quantity: 1,
            is_active: true,
            auto_charge: true,
            max_charge_attempts: MAX_CHARGE_ATTEMPTS_DEFAULT,
            days_between_retries: DAYS_BETWEEN_RETRIES_DEFAULT,
            next_bill_date: Some(start_date.clone()),
            start_date,
            modified_ms: clock::now_ms(),
            ..Subscription::default()
        };
        let has_amount = request.billing_amount.is_some();
        self.write_subscription(&mut subscription, request, &WriteMask::GIVEN, &today)?;
        if subscription.contact_id == 0 || subscription.plan_id == 0 {
            return Err(Failure::bad_request("contact_id and subscription_plan_id are required"));
        }
        if !has_amount {
            let price_minor =
                self.catalogue.plans.get(&subscription.plan_id).map_or(0, |plan| plan.price_minor);
            subscription.billing_amount = self.currency.major_of(price_minor);
        }
        if !may_duplicate && self.has_identical(&subscription) {
            return Err(Failure::conflict(
                "the contact has an active subscription to this plan; allow_duplicate makes another",
                "subscription",
            ));
        }
        subscription.id = self.subscriptions.take_id();
        let id = subscription.id;
        self.subscriptions.put(subscription);
        Ok(id)
    }

    /// Changes a subscription as far as the mask says.
    pub(crate) fn update_subscription(
        &mut self,
        id: u64,
        request: SubscriptionRequest,
        mask: &WriteMask,
    ) -> Result<(), Failure> {
        if request.start_date.is_some() || request.allow_duplicate.is_some() {
            return Err(Failure::bad_request(
                "start_date and allow_duplicate are for a new subscription only",
            ));
        }
        let mut subscription = self.known_subscription(id)?.clone();
        self.write_subscription(&mut subscription, request, mask, &clock::today())?;
        self.subscriptions.put_changed(subscription, clock::now_ms());
        Ok(())
    }

    /// Ends a subscription today. One that has ended already ends again: whether Keap refuses that is unverified.
    pub(crate) fn deactivate_subscription(&mut self, id: u64, reason: Option<String>) -> Result<(), Failure> {
        let mut subscription = self.known_subscription(id)?.clone();
        subscription.is_active = false;
        subscription.reason_stopped = reason.filter(|text| !text.is_empty());
        subscription.end_date = Some(clock::today());
        subscription.next_bill_date = None;
        self.subscriptions.put_changed(subscription, clock::now_ms());
        Ok(())
    }

    /// Deletes a subscription, as a person can and a client cannot.
    pub(crate) fn delete_subscription(&mut self, id: u64) -> Result<(), Failure> {
        self.known_subscription(id)?;
        self.subscriptions.remove(id);
        Ok(())
    }

    pub(crate) fn known_subscription(&self, id: u64) -> Result<&Subscription, Failure> {
        self.subscriptions.get(id).ok_or_else(|| Failure::not_found("subscription", &id.to_string()))
    }

    fn has_identical(&self, wanted: &Subscription) -> bool {
        self.subscriptions
            .ids_of_contact(wanted.contact_id)
            .filter_map(|id| self.subscriptions.get(id))
            .any(|other| other.is_active && other.plan_id == wanted.plan_id)
    }

    fn write_subscription(
        &self,
        subscription: &mut Subscription,
        request: SubscriptionRequest,
        mask: &WriteMask,
        today: &str,
    ) -> Result<(), Failure> {
        macro_rules! texts {
            ($($field:ident),+) => {
                $(if mask.covers(stringify!($field), request.$field.is_some()) {
                    subscription.$field = request.$field.filter(|text| !text.is_empty());
                })+
            };
        }
        macro_rules! values {
            ($($field:ident $stored:ident),+) => {
                $(if mask.covers(stringify!($field), request.$field.is_some()) {
                    subscription.$stored = request
                        .$field
                        .ok_or_else(|| Failure::bad_request(concat!(stringify!($field), " cannot be emptied")))?
                        .into();
                })+
            };
        }
        if mask.covers("contact_id", request.contact_id.is_some()) {
            subscription.contact_id = self.named_contact(request.contact_id.as_deref())?;
        }
        // Before the cycle, which a change of plan brings along unless the same write names another.
        if mask.covers("subscription_plan_id", request.subscription_plan_id.is_some()) {
            let plan =
                self.catalogue.named_plan(request.subscription_plan_id.as_deref().unwrap_or_default())?;
            subscription.plan_id = plan.id;
            subscription.product_id = plan.product_id;
            subscription_cycle(&plan.cycle_type).clone_into(&mut subscription.billing_cycle);
            subscription.billing_frequency = plan.frequency;
        }
        values!(
            quantity quantity,
            billing_amount billing_amount,
            auto_charge auto_charge,
            max_charge_attempts max_charge_attempts,
            days_between_retries days_between_retries,
            active is_active,
            billing_frequency billing_frequency,
            billing_cycle billing_cycle,
            allow_tax allow_tax
        );
        for (name, date) in [("next_bill_date", &request.next_bill_date), ("end_date", &request.end_date)] {
            if let Some(date) = date.as_deref().filter(|date| !date.is_empty()) {
                not_past(name, date, today)?;
            }
        }
        texts!(
            next_bill_date,
            end_date,
            payment_method_id,
            lead_affiliate_id,
            sale_affiliate_id,
            promo_code,
            shipping_option_id,
            reason_stopped
        );
        if mask.covers("shipping_address", request.shipping_address.is_some()) {
            if let Some(address) = &request.shipping_address {
                validate::check_addresses(std::slice::from_ref(address))?;
            }
            subscription.shipping_address = request.shipping_address.map(|mut address| {
                complete_address(&mut address);
                Box::new(address)
            });
        }
        if mask.covers("custom_fields", request.custom_fields.is_some()) {
            let items = request.custom_fields.unwrap_or_default();
            validate::check_custom_fields(&items, &self.subscription_model)?;
            subscription.custom_fields = kept_fields(items);
        }
        check_subscription(subscription)
    }
}

fn not_past(name: &str, date: &str, today: &str) -> Result<(), Failure> {
    validate::date(name, Some(date))?;
    if date < today {
        return Err(Failure::bad_request(format!("{name} must not be in the past")));
    }
    Ok(())
}

/// Checks what every subscription has, whoever wrote it.
fn check_subscription(subscription: &Subscription) -> Result<(), Failure> {
    if subscription.quantity < 1
        || subscription.max_charge_attempts < 1
        || subscription.days_between_retries < 1
        || (subscription.plan_id != 0 && subscription.billing_frequency < 1)
    {
        return Err(Failure::bad_request(
            "quantity, max_charge_attempts, days_between_retries and billing_frequency must be 1 or greater",
        ));
    }
    if subscription.billing_amount < 0.0 {
        return Err(Failure::bad_request("billing_amount must be 0 or greater"));
    }
    if subscription.plan_id != 0 && !BILLING_CYCLES.contains(&subscription.billing_cycle.as_str()) {
        return Err(Failure::bad_request("billing_cycle must be one of YEAR, MONTH, WEEK, DAY"));
    }
    for (name, id) in [
        ("payment_method_id", &subscription.payment_method_id),
        ("lead_affiliate_id", &subscription.lead_affiliate_id),
        ("sale_affiliate_id", &subscription.sale_affiliate_id),
        ("shipping_option_id", &subscription.shipping_option_id),
    ] {
        validate::number_in_text(name, id.as_deref())?;
    }
    Ok(())
}
