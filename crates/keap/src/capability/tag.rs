//! Tags. Which contacts carry them is a field of the contact.

use super::{Capability, Changes, CreateKey, DeleteSupport, FieldCapability, FullPages};
use keapsync_domain::ids::EntityType;

/// Read: `Tag`. Create and update: `CreateUpdateTagRequest`. Filters and orders: `listTags`.
pub(super) static TAG: Capability = Capability {
    entity: EntityType::Tag,
    // listTags: no comparison on ids, and order_by is one of name, create_time and update_time; only the name is unique.
    full: FullPages::ByToken("name asc"),
    // listTags: `since_update_time`; order_by `update_time`.
    changes: Changes::Filter("since_update_time"),
    ids_filter: "tag_ids",
    // Tag.name: "the unique name of this tag". Tags have no custom fields.
    create_key: CreateKey::Name,
    // deleteTag.
    delete: DeleteSupport::Always,
    fields: &[
        FieldCapability::same("name").filtered("name").required(),
        // CategoryReference holds an id alone; the name is TagCategory's.
        FieldCapability::read_only("category", None),
        FieldCapability::written("category_id", "category.id", "category").filtered("category_id"),
        FieldCapability::same("description").filtered("description"),
    ],
};
