//! Tags on contacts (API v2): applied and removed by calls of their own.

use crate::failure::check;
use crate::query::Url;
use crate::transport::{Body, Credential, Method, Request, Transport};
use keapsync_domain::failure::Failure;
use keapsync_domain::secret::Secret;

/// What to do with a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagChange {
    /// Put it on the contact.
    Apply,
    /// Take it off.
    Remove,
}

/// Applies a tag to a contact, or removes it. Both are idempotent.
pub async fn change_tag<T: Transport>(
    transport: &T,
    base_url: &str,
    access_token: &Secret,
    tag_id: &str,
    contact_id: &str,
    change: TagChange,
) -> Result<(), Failure> {
    let (action, what) = match change {
        TagChange::Apply => ("applyTags", "the application of a tag"),
        TagChange::Remove => ("removeTags", "the removal of a tag"),
    };
    let request = Request {
        method: Method::Post,
        url: Url::new(base_url, &format!("/rest/v2/tags/{tag_id}/contacts:{action}")).build(),
        credential: Credential::Bearer(access_token.clone()),
        body: Body::Json(serde_json::json!({"contact_ids": [contact_id]}).to_string()),
    };
    check(transport.send(request).await?, what).map(|_| ())
}
