//! Edits of contacts: names, slots, custom fields, tags, whole contacts.

use crate::chaos::edit::{Action, Side, digits, word};
use crate::chaos::people::{Done, Person};
use crate::chaos::random::Random;
use anyhow::Result;
use keapsync_domain::ids::EntityType;
use reqwest::Method;
use serde_json::{Value, json};

const CONTACT: EntityType = EntityType::Contact;

/// What can be done to a contact.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A plain field: its column and Keap's property.
    Text(&'static str, &'static str),
    Email,
    Phone,
    /// `EMAIL2` and so on.
    EmailSlot(&'static str),
    PhoneSlot(&'static str),
    AddressSlot(&'static str),
    CustomField,
    Tag,
    Create,
    Delete,
    Undelete,
}

const KINDS: [(u64, Kind); 15] = [
    (12, Kind::Text("first_name", "given_name")),
    (10, Kind::Text("last_name", "family_name")),
    (10, Kind::Text("job_title", "job_title")),
    (6, Kind::Text("middle_name", "middle_name")),
    (9, Kind::Email),
    (7, Kind::Phone),
    (7, Kind::EmailSlot("EMAIL2")),
    (4, Kind::EmailSlot("EMAIL3")),
    (5, Kind::PhoneSlot("PHONE2")),
    (6, Kind::AddressSlot("BILLING")),
    (4, Kind::AddressSlot("SHIPPING")),
    (8, Kind::CustomField),
    (8, Kind::Tag),
    (3, Kind::Create),
    (2, Kind::Delete),
];

/// Deletes are taken back only by SQL: Keap has no way to.
const KINDS_OF_SQL: [(u64, Kind); 1] = [(1, Kind::Undelete)];

/// Makes one edit of a contact.
pub async fn edit(person: &Person<'_>, side: Side, number: u64, random: &mut Random) -> Result<Option<Done>> {
    let mut kinds = KINDS.to_vec();
    if side == Side::Sql {
        kinds.extend(KINDS_OF_SQL);
    }
    let Some(kind) = random.weighted(&kinds) else { return Ok(None) };
    match side {
        Side::Sql => by_sql(person, kind, number, random).await,
        Side::Keap => in_keap(person, kind, number, random).await,
    }
}

/// Path, assignments and value of an edit that sets a part of a row.
fn assignment(kind: Kind, field: &str, number: u64) -> Option<(String, String, String)> {
    let (word, digits) = (word(Side::Sql, number), digits(Side::Sql, number));
    let slot = |list: &str, name: &str, item: &str| {
        format!(
            "{list} = (select coalesce(jsonb_agg(part), '[]') from jsonb_array_elements(coalesce({list}, '[]')) as part \
             where part ->> 'field' <> '{name}') || jsonb_build_array({item})"
        )
    };
    Some(match kind {
        Kind::Text(column, _) => (column.to_owned(), format!("{column} = $3"), word),
        Kind::Email => ("email".to_owned(), "email = $3".to_owned(), format!("{word}@chaos.example")),
        Kind::Phone => ("phone".to_owned(), "phone = $3".to_owned(), digits),
        Kind::EmailSlot(name) => {
            let item = format!("jsonb_build_object('field', '{name}', 'email', $3::text)");
            (format!("emails.{name}"), slot("emails", name, &item), format!("{word}@chaos.example"))
        }
        Kind::PhoneSlot(name) => {
            let item = format!("jsonb_build_object('field', '{name}', 'number', $3::text)");
            (format!("phones.{name}"), slot("phones", name, &item), digits)
        }
        Kind::AddressSlot(name) => {
            let item = format!(
                "jsonb_build_object('field', '{name}', 'line1', $3::text, 'locality', 'Mesa', 'region_code', 'US-AZ', \
                 'country_code', 'USA', 'postal_code', '85201')"
            );
            (format!("addresses.{name}"), slot("addresses", name, &item), format!("{word} Main St"))
        }
        Kind::CustomField => {
            let set = format!(
                "custom_fields = coalesce(custom_fields, '{{}}') || jsonb_build_object('{field}', $3::text)"
            );
            (format!("custom_fields.{field}"), set, word)
        }
        Kind::Tag | Kind::Create | Kind::Delete | Kind::Undelete => return None,
    })
}

async fn by_sql(person: &Person<'_>, kind: Kind, number: u64, random: &mut Random) -> Result<Option<Done>> {
    match kind {
        Kind::Create => {
            let word = word(Side::Sql, number);
            let sql = "insert into sync_contacts (account_id, first_name, last_name, email, phone) \
                       values ($1, $2, 'Made here', $3, $4) returning id::text";
            let email = format!("{word}@chaos.example");
            let made = person.sql(sql, &[&word, &email, &digits(Side::Sql, number)]).await?;
            return Ok(made.map(|id| (id, Action::Create, String::new())));
        }
        Kind::Undelete => {
            let Some(row) = person.pool.pick_deleted(CONTACT, random) else { return Ok(None) };
            let is_done = person.undelete_row(CONTACT, &row).await?;
            return Ok(is_done.then_some((row, Action::Undelete, "deleted_at".to_owned())));
        }
        _ => {}
    }
    let Some(row) = person.pool.pick(CONTACT, Side::Sql, random) else { return Ok(None) };
    match kind {
        Kind::Delete => {
            let is_done = person.delete_row(CONTACT, &row, random.percent(50)).await?;
            Ok(is_done.then_some((row, Action::Delete, "deleted_at".to_owned())))
        }
        Kind::Tag => {
            let Some(tag) = a_tag(person, random).await? else { return Ok(None) };
            let path = format!("tags.{tag}");
            let add = "tags = coalesce(tags, '[]') || to_jsonb(array[$3::text])";
            let sql = |assignments: &str, condition: &str| {
                format!(
                    "update sync_contacts set {assignments} where account_id = $1 and id = $2::text::uuid and deleted_at is \
                     null and {condition} returning id::text"
                )
            };
            if random.percent(50) {
                let sql = sql(add, "not coalesce(tags, '[]') ? $3");
                let is_done = person.sql(&sql, &[&row, &tag]).await?.is_some();
                return Ok(is_done.then_some((row, Action::Add, path)));
            }
            let is_done = person.sql(&sql("tags = tags - $3", "tags ? $3"), &[&row, &tag]).await?.is_some();
            Ok(is_done.then_some((row, Action::Remove, path)))
        }
        kind => {
            let Some((path, set, value)) = assignment(kind, person.text_field(CONTACT)?, number) else {
                return Ok(None);
            };
            let is_done = person.set(CONTACT, &row, &set, &value).await?;
            Ok(is_done.then_some((row, Action::Set, path)))
        }
    }
}

/// Path and body of an edit that sets a part of a contact in Keap.
fn change(kind: Kind, field: &str, number: u64) -> Option<(String, Value)> {
    let (word, digits) = (word(Side::Keap, number), digits(Side::Keap, number));
    let email =
        |name: &str| json!({"email_addresses": [{"field": name, "email": format!("{word}@chaos.example")}]});
    let phone = |name: &str| json!({"phone_numbers": [{"field": name, "number": digits}]});
    Some(match kind {
        Kind::Text(column, property) => (column.to_owned(), json!({property: word})),
        Kind::Email => ("email".to_owned(), email("EMAIL1")),
        Kind::Phone => ("phone".to_owned(), phone("PHONE1")),
        Kind::EmailSlot(name) => (format!("emails.{name}"), email(name)),
        Kind::PhoneSlot(name) => (format!("phones.{name}"), phone(name)),
        Kind::AddressSlot(name) => {
            let address = json!({"field": name, "line1": format!("{word} Main St"), "locality": "Tempe",
                "region_code": "US-AZ", "country_code": "USA", "postal_code": "85281"});
            (format!("addresses.{name}"), json!({"addresses": [address]}))
        }
        Kind::CustomField => {
            (format!("custom_fields.{field}"), json!({"custom_fields": [{"id": field, "content": word}]}))
        }
        Kind::Tag | Kind::Create | Kind::Delete | Kind::Undelete => return None,
    })
}

async fn in_keap(person: &Person<'_>, kind: Kind, number: u64, random: &mut Random) -> Result<Option<Done>> {
    if matches!(kind, Kind::Create) {
        let (word, digits) = (word(Side::Keap, number), digits(Side::Keap, number));
        let body = json!({
            "given_name": word, "family_name": "Made there",
            "email_addresses": [{"field": "EMAIL1", "email": format!("{word}@chaos.example")}],
            "phone_numbers": [{"field": "PHONE1", "number": digits}],
        });
        return Ok(Some((person.make("/contacts", &body).await?, Action::Create, String::new())));
    }
    let Some(id) = person.pool.pick(CONTACT, Side::Keap, random) else { return Ok(None) };
    match kind {
        Kind::Delete => {
            let is_done = person.delete(&format!("/contacts/{id}")).await?;
            Ok(is_done.then_some((id, Action::Delete, "deleted_at".to_owned())))
        }
        Kind::Tag => {
            let Some(tag) = a_tag(person, random).await? else { return Ok(None) };
            let Some(contact) = person.keap.contact(&id).await? else { return Ok(None) };
            let carries = contact["tag_ids"].as_array().is_some_and(|tags| tags.contains(&json!(tag)));
            let (method, action) =
                if carries { (Method::DELETE, Action::Remove) } else { (Method::PUT, Action::Add) };
            let is_done =
                person.keap.person(method, &format!("/contacts/{id}/tags/{tag}"), None).await?.is_some();
            Ok(is_done.then_some((id, action, format!("tags.{tag}"))))
        }
        kind => {
            let Some((path, body)) = change(kind, person.text_field(CONTACT)?, number) else {
                return Ok(None);
            };
            let is_done = person.change(&format!("/contacts/{id}?keep_others=true"), &body).await?;
            Ok(is_done.then_some((id, Action::Set, path)))
        }
    }
}

/// The Keap id of a tag: of the rows where tags are in step, of Keap where they are not.
async fn a_tag(person: &Person<'_>, random: &mut Random) -> Result<Option<String>> {
    if let Some(tag) = person.pool.pick(EntityType::Tag, Side::Keap, random) {
        return Ok(Some(tag));
    }
    let tags = person.keap.all("tags").await?;
    Ok(random.pick(&tags).and_then(|tag| tag["id"].as_str()).map(str::to_owned))
}
