//! Categories of tags: Keap links a tag to one by id and tells its name here only.

use crate::caller::{Caller, ListQuery};
use crate::failure::malformed;
use crate::transport::{Method, Transport};
use crate::walk::{Behind, Walk};
use keapsync_domain::failure::Failure;
use keapsync_domain::timestamp::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

const PATH: &str = "/rest/v2/tags/categories";

/// A category (v2 schema `TagCategory`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TagCategory {
    /// Keap's id.
    pub id: String,
    /// Its name; unique.
    #[serde(default)]
    pub name: String,
    /// When it was last changed, as Keap writes it.
    #[serde(default)]
    pub update_time: Option<String>,
}

impl TagCategory {
    fn changed_at(&self) -> Option<Timestamp> {
        self.update_time.as_deref().and_then(Timestamp::parse_rfc3339)
    }
}

#[derive(Deserialize)]
struct ListResponse {
    #[serde(default)]
    tag_categories: Vec<TagCategory>,
    #[serde(default)]
    next_page_token: Option<String>,
}

/// All categories: one call, or where they fill more than a page at least two for each.
pub async fn list_categories<T: Transport>(caller: &Caller<'_, T>) -> Result<Vec<TagCategory>, Failure> {
    let (mut categories, mut walk) = (Vec::new(), Walk::default());
    loop {
        let query = ListQuery {
            order_by: Some("name asc"),
            page_token: walk.token.as_deref(),
            ..ListQuery::default()
        };
        let list: ListResponse =
            caller.read(caller.list_url(PATH, query), "a list of tag categories").await?;
        let met = list.tag_categories.iter().map(|category| (category.id.as_str(), category.changed_at()));
        let next_token = list.next_page_token.filter(|token| !token.is_empty());
        let behind = walk.step(met, next_token, "tag categories")?;
        categories.extend(list.tag_categories);
        match behind {
            Behind::Page => {}
            Behind::Pass => categories.clear(),
            Behind::Nothing => return Ok(categories),
        }
    }
}

/// Makes a category.
pub async fn create_category<T: Transport>(
    caller: &Caller<'_, T>,
    name: &str,
) -> Result<TagCategory, Failure> {
    let what = "the creation of a tag category";
    let body = Map::from_iter([("name".to_owned(), Value::from(name))]);
    let response = caller.send_json(Method::Post, caller.url(PATH), body, what).await?;
    serde_json::from_slice(&response.body).map_err(|error| malformed(what, &error))
}
