//! Categories of tags: Keap links a tag to one by id and tells its name here only.

use crate::caller::{Caller, ListQuery};
use crate::failure::malformed;
use crate::transport::{Method, Transport};
use keapsync_domain::failure::Failure;
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
}

#[derive(Deserialize)]
struct ListResponse {
    #[serde(default)]
    tag_categories: Vec<TagCategory>,
    #[serde(default)]
    next_page_token: Option<String>,
}

/// All categories: one call per thousand.
pub async fn list_categories<T: Transport>(caller: &Caller<'_, T>) -> Result<Vec<TagCategory>, Failure> {
    let (mut categories, mut page_token) = (Vec::new(), None);
    loop {
        let query = ListQuery { page_token: page_token.as_deref(), ..ListQuery::default() };
        let list: ListResponse =
            caller.read(caller.list_url(PATH, query), "a list of tag categories").await?;
        categories.extend(list.tag_categories);
        let next = list.next_page_token.filter(|token| !token.is_empty());
        // A token that leads to itself would be read for ever.
        if next.is_none() || next == page_token {
            return Ok(categories);
        }
        page_token = next;
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
