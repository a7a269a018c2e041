//! Edits of tags themselves; which contacts carry them is the contacts' part.

use crate::chaos::edit::{Action, Side, word};
use crate::chaos::people::{Done, Person};
use crate::chaos::random::Random;
use anyhow::Result;
use keapsync_domain::ids::EntityType;
use serde_json::{Value, json};

const TAG: EntityType = EntityType::Tag;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Name,
    Description,
    Create,
    Delete,
}

const KINDS: [(u64, Kind); 4] =
    [(35, Kind::Name), (45, Kind::Description), (14, Kind::Create), (6, Kind::Delete)];

/// Makes one edit of a tag.
pub async fn edit(person: &Person<'_>, side: Side, number: u64, random: &mut Random) -> Result<Option<Done>> {
    let Some(kind) = random.weighted(&KINDS) else { return Ok(None) };
    // Names are unique in Keap, and so are marks.
    let word = word(side, number);
    if matches!(kind, Kind::Create) {
        let made = match side {
            Side::Sql => {
                let sql = "insert into sync_tags (account_id, name) values ($1, $2) returning id::text";
                person.sql(sql, &[&format!("Made {word}")]).await?
            }
            Side::Keap => Some(person.make("/tags", &json!({"name": format!("Made {word}")})).await?),
        };
        return Ok(made.map(|id| (id, Action::Create, String::new())));
    }
    let Some(record) = person.pool.pick(TAG, side, random) else { return Ok(None) };
    let path = format!("/tags/{record}");
    let (is_done, action, field) = match (kind, side) {
        (Kind::Name, Side::Sql) => {
            (person.set(TAG, &record, "name = $3", &format!("Named {word}")).await?, Action::Set, "name")
        }
        (Kind::Name, Side::Keap) => {
            (change(person, &path, "name", &format!("Named {word}")).await?, Action::Set, "name")
        }
        (Kind::Description, Side::Sql) => {
            (person.set(TAG, &record, "description = $3", &word).await?, Action::Set, "description")
        }
        (Kind::Description, Side::Keap) => {
            (change(person, &path, "description", &word).await?, Action::Set, "description")
        }
        (Kind::Delete, Side::Sql) => {
            (person.delete_row(TAG, &record, random.percent(50)).await?, Action::Delete, "deleted_at")
        }
        (Kind::Delete, Side::Keap) => (person.delete(&path).await?, Action::Delete, "deleted_at"),
        (Kind::Create, _) => return Ok(None),
    };
    Ok(is_done.then(|| (record, action, field.to_owned())))
}

async fn change(person: &Person<'_>, path: &str, property: &str, value: &str) -> Result<bool> {
    let mut body = serde_json::Map::new();
    body.insert(property.to_owned(), value.into());
    person.change(path, &Value::Object(body)).await
}
