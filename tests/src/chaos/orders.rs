//! Edits of orders: their own fields, and their lines one by one. Only orders without payments are deleted, as Keap keeps the
//! others.

use crate::chaos::edit::{Action, Side, word};
use crate::chaos::people::{Done, Person};
use crate::chaos::random::Random;
use anyhow::Result;
use keapsync_domain::ids::EntityType;
use reqwest::Method;
use serde_json::{Value, json};

const ORDER: EntityType = EntityType::Order;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Title,
    Notes,
    Number,
    ShippingLine,
    CustomField,
    LineName,
    AddLine,
    RemoveLine,
    Create,
    Delete,
}

const KINDS: [(u64, Kind); 10] = [
    (16, Kind::Title),
    (16, Kind::Notes),
    (8, Kind::Number),
    (6, Kind::ShippingLine),
    (8, Kind::CustomField),
    (18, Kind::LineName),
    (12, Kind::AddLine),
    (5, Kind::RemoveLine),
    (7, Kind::Create),
    (4, Kind::Delete),
];

/// Makes one edit of an order.
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
        let Some(contact) = person.pool.pick(EntityType::Contact, Side::Sql, random) else { return Ok(None) };
        let sql = "insert into sync_orders (account_id, contact_id, title, order_date, order_type, notes, line_items) \
                   select $1, id, $3, date_trunc('second', now()), 'OFFLINE', $3, jsonb_build_array(jsonb_build_object( \
                       'name', $3::text, 'quantity', 2, 'price_per_unit', '9.99', 'item_type', 'OTHER')) \
                   from sync_contacts where account_id = $1 and id = $2::text::uuid and deleted_at is null returning id::text";
        return Ok(person.sql(sql, &[&contact, &word]).await?.map(|id| (id, Action::Create, String::new())));
    }
    let Some(row) = person.pool.pick(ORDER, Side::Sql, random) else { return Ok(None) };
    let field = person.text_field(ORDER)?;
    let text = |column: &str| (column.to_owned(), format!("{column} = $3"));
    let (path, set) = match kind {
        Kind::Title => text("title"),
        Kind::Notes => text("notes"),
        Kind::Number => text("order_number"),
        Kind::ShippingLine => (
            "shipping_address.line2".to_owned(),
            "shipping_address = coalesce(shipping_address, '{\"line1\": \"1 Main St\", \"locality\": \"Mesa\", \
             \"country_code\": \"USA\"}') || jsonb_build_object('line2', $3::text)"
                .to_owned(),
        ),
        Kind::CustomField => (
            format!("custom_fields.{field}"),
            format!("custom_fields = coalesce(custom_fields, '{{}}') || jsonb_build_object('{field}', $3::text)"),
        ),
        Kind::AddLine => (
            "line_items.new".to_owned(),
            "line_items = coalesce(line_items, '[]') || jsonb_build_array(jsonb_build_object('name', $3::text, 'quantity', 1, \
             'price_per_unit', '5.00', 'item_type', 'OTHER'))"
                .to_owned(),
        ),
        Kind::LineName => return rename_line(person, row, &word, random).await,
        Kind::RemoveLine | Kind::Delete => return remove(person, kind, row, random).await,
        Kind::Create => return Ok(None),
    };
    let is_done = person.set(ORDER, &row, &set, &word).await?;
    Ok(is_done.then_some((row, Action::Set, path)))
}

/// A line of a row that Keap knows.
async fn a_line_of_row(person: &Person<'_>, row: &str, random: &mut Random) -> Result<Option<String>> {
    let sql = "select string_agg(line ->> 'id', ',' order by line ->> 'id') from sync_orders, jsonb_array_elements(line_items) as line \
               where account_id = $1 and sync_orders.id = $2::text::uuid and line ? 'id' having count(*) > 1";
    let ids = person.sql(sql, &[&row]).await?.unwrap_or_default();
    let ids: Vec<&str> = ids.split(',').filter(|id| !id.is_empty()).collect();
    Ok(random.pick(&ids).map(|id| (*id).to_owned()))
}

async fn rename_line(
    person: &Person<'_>,
    row: String,
    word: &str,
    random: &mut Random,
) -> Result<Option<Done>> {
    let Some(line) = a_line_of_row(person, &row, random).await? else { return Ok(None) };
    let set = format!(
        "line_items = (select jsonb_agg(case when line ->> 'id' = '{line}' then line || jsonb_build_object('notes', $3::text) \
         else line end) from jsonb_array_elements(line_items) as line)"
    );
    let is_done = person.set(ORDER, &row, &set, word).await?;
    Ok(is_done.then_some((row, Action::Set, format!("line_items.{line}"))))
}

async fn remove(person: &Person<'_>, kind: Kind, row: String, random: &mut Random) -> Result<Option<Done>> {
    if matches!(kind, Kind::RemoveLine) {
        let Some(line) = a_line_of_row(person, &row, random).await? else { return Ok(None) };
        let sql = "update sync_orders set line_items = (select jsonb_agg(line) from jsonb_array_elements(line_items) as line \
                   where line ->> 'id' is distinct from $3) \
                   where account_id = $1 and id = $2::text::uuid and deleted_at is null \
                   and line_items @> jsonb_build_array(jsonb_build_object('id', $3::text)) and jsonb_array_length(line_items) > 1 \
                   returning id::text";
        let is_done = person.sql(sql, &[&row, &line]).await?.is_some();
        return Ok(is_done.then(|| (row, Action::Remove, format!("line_items.{line}"))));
    }
    let paid = "select id::text from sync_orders where account_id = $1 and id = $2::text::uuid \
                and coalesce(paid_amount, 0) = 0 and coalesce(refund_amount, 0) = 0 and status in ('DRAFT', 'SENT')";
    if person.sql(paid, &[&row]).await?.is_none() {
        return Ok(None);
    }
    let is_done = person.delete_row(ORDER, &row, random.percent(50)).await?;
    Ok(is_done.then_some((row, Action::Delete, "deleted_at".to_owned())))
}

async fn in_keap(person: &Person<'_>, kind: Kind, number: u64, random: &mut Random) -> Result<Option<Done>> {
    let word = word(Side::Keap, number);
    let line = json!({"name": word, "quantity": 1, "price_per_unit": 7.5, "item_type": "OTHER"});
    if matches!(kind, Kind::Create) {
        let Some(contact) = person.pool.pick(EntityType::Contact, Side::Keap, random) else {
            return Ok(None);
        };
        if person.keap.contact(&contact).await?.is_none() {
            return Ok(None);
        }
        let body = json!({"contact_id": contact, "order_title": word, "order_type": "OFFLINE",
            "order_time": "2026-01-02T03:04:05Z", "order_items": [line]});
        return Ok(Some((person.make("/orders", &body).await?, Action::Create, String::new())));
    }
    let Some(id) = person.pool.pick(ORDER, Side::Keap, random) else { return Ok(None) };
    let path = format!("/orders/{id}");
    let (field, body) = match kind {
        Kind::Title => ("title", json!({"order_title": word})),
        Kind::Number => ("order_number", json!({"invoice_number": word})),
        Kind::Notes | Kind::CustomField | Kind::ShippingLine => ("notes", json!({"notes": word})),
        Kind::AddLine => {
            let is_done =
                person.keap.person(Method::POST, &format!("{path}/items"), Some(&line)).await?.is_some();
            return Ok(is_done.then(|| (id, Action::Set, "line_items.new".to_owned())));
        }
        Kind::LineName | Kind::RemoveLine => return line_in_keap(person, kind, id, &word, random).await,
        Kind::Create | Kind::Delete => {
            let Some(order) = person.keap.person(Method::GET, &path, None).await? else { return Ok(None) };
            let is_paid =
                ["total_paid", "refund_total"].iter().any(|name| order[name]["amount"].as_i64() > Some(0));
            if is_paid || !matches!(order["status"].as_str(), Some("DRAFT" | "SENT")) {
                return Ok(None);
            }
            let is_done = person.delete(&path).await?;
            return Ok(is_done.then(|| (id, Action::Delete, "deleted_at".to_owned())));
        }
    };
    let is_done = person.change(&path, &body).await?;
    Ok(is_done.then(|| (id, Action::Set, field.to_owned())))
}

async fn line_in_keap(
    person: &Person<'_>,
    kind: Kind,
    id: String,
    word: &str,
    random: &mut Random,
) -> Result<Option<Done>> {
    let Some(order) = person.keap.person(Method::GET, &format!("/orders/{id}"), None).await? else {
        return Ok(None);
    };
    let lines: Vec<&str> = order["order_items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|line: &Value| line["id"].as_str())
        .collect();
    if lines.len() < 2 {
        return Ok(None);
    }
    let Some(line) = random.pick(&lines) else { return Ok(None) };
    let (path, field) = (format!("/orders/{id}/items/{line}"), format!("line_items.{line}"));
    if matches!(kind, Kind::RemoveLine) {
        let is_done = person.delete(&path).await?;
        return Ok(is_done.then_some((id, Action::Remove, field)));
    }
    let is_done = person.change(&path, &json!({"notes": word})).await?;
    Ok(is_done.then_some((id, Action::Set, field)))
}
