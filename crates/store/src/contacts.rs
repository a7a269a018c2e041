//! `sync_contacts`.

use crate::mirror::table::{Column, Form, Table};
use keapsync_domain::ids::EntityType;

pub(crate) static CONTACTS: Table = Table {
    entity: EntityType::Contact,
    name: "public.sync_contacts",
    columns: &[
        Column::new("email", Form::IndexedText),
        Column::new("first_name", Form::IndexedText),
        Column::new("last_name", Form::IndexedText),
        Column::new("middle_name", Form::Text),
        Column::new("phone", Form::Text),
        Column::new("company", Form::Text),
        Column::new("job_title", Form::Text),
        Column::new("website", Form::Text),
        Column::new("birth_date", Form::Date),
        Column::new("owner_id", Form::Text),
        Column::new("lead_source_id", Form::Text),
        Column::new("opt_in_status", Form::Text),
        Column::new("emails", Form::JsonArray),
        Column::new("phones", Form::JsonArray),
        Column::new("addresses", Form::JsonArray),
        Column::new("tags", Form::JsonArray),
        Column::new("custom_fields", Form::JsonObject),
    ],
};
