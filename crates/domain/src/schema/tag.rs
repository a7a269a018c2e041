//! Fields of a tag. What can be written: Keap's v2 contract, `CreateUpdateTagRequest`.

use super::{Field, FieldKind};

/// Fields of a tag. `color` is a column of the mirror alone: Keap's tags have none.
pub static TAG_FIELDS: [Field; 4] = [
    // "Up to 255 characters will be saved": a longer one would be cut, and come back changed.
    Field::text("name", 255),
    Field::read_only(
        "category",
        FieldKind::Text,
        "Keap links a tag to its category by id: edit category_id, or rename the category in Keap",
    ),
    Field::text("category_id", 0),
    Field::text("description", 0),
];
