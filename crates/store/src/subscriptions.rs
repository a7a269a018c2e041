//! `sync_subscriptions`. `contact_id` is no column of the sync: a trigger keeps it at the row that `keap_contact_id` leads to.

use crate::mirror::table::{Column, Form, Table};
use keapsync_domain::ids::EntityType;

pub(crate) static SUBSCRIPTIONS: Table = Table {
    entity: EntityType::Subscription,
    name: "public.sync_subscriptions",
    columns: &[
        Column::new("keap_contact_id", Form::KeapId),
        Column::new("product_id", Form::Text),
        Column::new("product_name", Form::Text),
        Column::new("plan_id", Form::Text),
        Column::new("status", Form::IndexedText),
        Column::new("start_date", Form::Date),
        Column::new("end_date", Form::Date),
        Column::new("next_bill_date", Form::Date),
        Column::new("billing_cycle", Form::Text),
        Column::new("billing_frequency", Form::Integer),
        Column::new("amount", Form::Money),
        Column::new("currency", Form::Currency),
        Column::new("quantity", Form::Integer),
        Column::new("auto_charge", Form::Boolean),
        Column::new("cancel_reason", Form::Text),
        Column::new("custom_fields", Form::JsonObject),
    ],
};
