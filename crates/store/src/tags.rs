//! `sync_tags`. `color` is people's alone and no column of the sync.

use crate::mirror::table::{Column, Form, Table};
use keapsync_domain::ids::EntityType;

pub(crate) static TAGS: Table = Table {
    entity: EntityType::Tag,
    name: "public.sync_tags",
    columns: &[
        Column::new("name", Form::IndexedText),
        Column::new("category", Form::Text),
        Column::new("category_id", Form::Text),
        Column::new("description", Form::Text),
    ],
};
