//! Edits of subscriptions. Deletes are made in Keap only, whose interface deletes none.

use crate::chaos::edit::{Action, Side, digits, word};
use crate::chaos::people::{Done, Person};
use crate::chaos::random::Random;
use anyhow::{Context as _, Result};
use keapsync_domain::ids::EntityType;
use serde_json::{Value, json};

const SUBSCRIPTION: EntityType = EntityType::Subscription;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Reason,
    Amount,
    CustomField,
    Create,
    Delete,
}

const KINDS: [(u64, Kind); 5] =
    [(40, Kind::Reason), (35, Kind::Amount), (12, Kind::CustomField), (8, Kind::Create), (5, Kind::Delete)];

/// Makes one edit of a subscription.
pub async fn edit(person: &Person<'_>, side: Side, number: u64, random: &mut Random) -> Result<Option<Done>> {
    let Some(kind) = random.weighted(&KINDS) else { return Ok(None) };
    match side {
        Side::Sql => by_sql(person, kind, number, random).await,
        Side::Keap => in_keap(person, kind, number, random).await,
    }
}

async fn by_sql(person: &Person<'_>, kind: Kind, number: u64, random: &mut Random) -> Result<Option<Done>> {
    let word = word(Side::Sql, number);
    if matches!(kind, Kind::Create) {
        // A contact without any, and a plan that others have: Keap takes no second subscription of one contact to a plan.
        let sql = "insert into sync_subscriptions (account_id, keap_contact_id, plan_id, start_date, quantity, cancel_reason, status) \
                   select $1, contact.keap_id, (select max(plan_id) from sync_subscriptions where account_id = $1), \
                       current_date + 30, 1, $2, 'active' \
                   from sync_contacts contact \
                   where contact.account_id = $1 and contact.keap_id is not null and contact.deleted_at is null and not exists ( \
                       select from sync_subscriptions other \
                       where other.account_id = $1 and other.keap_contact_id = contact.keap_id) \
                   order by md5(contact.id::text || $2) limit 1 returning id::text";
        return Ok(person.sql(sql, &[&word]).await?.map(|id| (id, Action::Create, String::new())));
    }
    let Some(row) = person.pool.pick(SUBSCRIPTION, Side::Sql, random) else { return Ok(None) };
    let field = person.text_field(SUBSCRIPTION)?;
    let (path, set, value) = match kind {
        Kind::Reason => ("cancel_reason".to_owned(), "cancel_reason = $3".to_owned(), word),
        Kind::Amount => {
            ("amount".to_owned(), "amount = $3::text::numeric".to_owned(), digits(Side::Sql, number))
        }
        Kind::CustomField => (
            format!("custom_fields.{field}"),
            format!(
                "custom_fields = coalesce(custom_fields, '{{}}') || jsonb_build_object('{field}', $3::text)"
            ),
            word,
        ),
        Kind::Create | Kind::Delete => return Ok(None),
    };
    let is_done = person.set(SUBSCRIPTION, &row, &set, &value).await?;
    Ok(is_done.then_some((row, Action::Set, path)))
}

async fn in_keap(person: &Person<'_>, kind: Kind, number: u64, random: &mut Random) -> Result<Option<Done>> {
    let word = word(Side::Keap, number);
    let Some(id) = person.pool.pick(SUBSCRIPTION, Side::Keap, random) else { return Ok(None) };
    let path = format!("/subscriptions/{id}");
    match kind {
        Kind::Create => {
            // A second one to the plan of another contact's: a person in Keap may make it.
            let Some(contact) = person.pool.pick(EntityType::Contact, Side::Keap, random) else {
                return Ok(None);
            };
            let Some(model) = person.keap.person(reqwest::Method::GET, &path, None).await? else {
                return Ok(None);
            };
            if person.keap.contact(&contact).await?.is_none() {
                return Ok(None);
            }
            let body = json!({"contact_id": contact, "subscription_plan_id": model["subscription_plan_id"], "quantity": 1,
                "allow_duplicate": true, "reason_stopped": word});
            let made = person.make("/subscriptions", &body).await;
            let made = made.context("a person in Keap could not make a subscription")?;
            Ok(Some((made, Action::Create, String::new())))
        }
        Kind::Delete => {
            Ok(person.delete(&path).await?.then_some((id, Action::Delete, "deleted_at".to_owned())))
        }
        Kind::Reason | Kind::CustomField => {
            set(person, id, "cancel_reason", &json!({"reason_stopped": word})).await
        }
        Kind::Amount => {
            let amount: f64 = digits(Side::Keap, number).parse()?;
            set(person, id, "amount", &json!({"billing_amount": amount})).await
        }
    }
}

async fn set(person: &Person<'_>, id: String, path: &str, body: &Value) -> Result<Option<Done>> {
    let is_done = person.change(&format!("/subscriptions/{id}"), body).await?;
    Ok(is_done.then(|| (id, Action::Set, path.to_owned())))
}
