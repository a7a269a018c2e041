//! Faults that were found and mended, planted again: each as what a mistaken engine would do, between the engine and its ports.

use keapsync_domain::canonical::slot_entries;
use keapsync_domain::ids::EntityType;
use keapsync_domain::remote::RemoteRecord;
use keapsync_domain::schema::{SlotKind, fields};
use keapsync_engine::inbound::DELETED_AT;
use keapsync_engine::ports::{LocalRow, RowState, RowWrite};
use keapsync_keap::transport::{Body, Request};
use serde_json::{Map, Value};

/// A fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mutation {
    /// None: the engine as it is.
    #[default]
    None,
    /// The reason for consent that belongs to one address goes along with another, or with nobody's edit.
    StickyConsent,
    /// What Keap does not take of an address is left in the row, without a word.
    SilentParts,
    /// Numbers pass through a double.
    RoundedNumbers,
    /// While one edit of a record is refused, all its others wait.
    HoldBack,
    /// A record that a retry finds again has nothing as its base.
    ForgottenCreate,
}

impl Mutation {
    /// All faults.
    pub const ALL: [Self; 5] =
        [Self::StickyConsent, Self::SilentParts, Self::RoundedNumbers, Self::HoldBack, Self::ForgottenCreate];

    /// The name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::StickyConsent => "sticky-consent",
            Self::SilentParts => "silent-parts",
            Self::RoundedNumbers => "rounded-numbers",
            Self::HoldBack => "hold-back",
            Self::ForgottenCreate => "forgotten-create",
        }
    }

    /// The fault of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mutation| mutation.as_str() == name)
    }

    pub(crate) fn of_request(self, request: Request, held: Option<&RemoteRecord>) -> Request {
        let Body::Json(text) = &request.body else { return request };
        let Ok(mut body) = serde_json::from_str::<Value>(text) else { return request };
        match self {
            Self::StickyConsent => add_reason(&mut body, held),
            Self::RoundedNumbers => round_numbers(&mut body),
            _ => return request,
        }
        Request { body: Body::Json(body.to_string()), ..request }
    }

    pub(crate) fn of_row(self, mut row: LocalRow) -> LocalRow {
        if self == Self::ForgottenCreate
            && row.keap_id.is_none()
            && row.record.entity() == EntityType::Subscription
        {
            row.has_base = true;
            for field in fields(row.record.entity()) {
                row.base_delta.insert(field.name.to_owned(), Value::Null);
            }
        }
        row
    }

    pub(crate) fn of_write(self, write: &RowWrite, held: Option<&LocalRow>) -> RowWrite {
        let mut write = write.clone();
        if self == Self::SilentParts && write.state == RowState::Error {
            let said = write.sync_error.clone().unwrap_or_default();
            if ["addresses", "emails", "phones"].iter().any(|name| said.contains(name)) {
                write.state = RowState::Completed;
                write.sync_error = None;
                write.audit_lost = Map::new();
                if let (Some(record), Some(held)) = (&mut write.record, held) {
                    for name in ["addresses", "emails", "phones"] {
                        record.set_by_name(name, held.record.get_by_name(name).clone());
                    }
                }
            }
        }
        write
    }

    /// Whether the edits of a row wait because one of its values was refused before.
    pub(crate) fn holds_back(self, row: &LocalRow, state: RowState) -> bool {
        self == Self::HoldBack && state == RowState::Error && !row.base_delta.contains_key(DELETED_AT)
    }
}

/// Gives each address of a body the reason that Keap holds in its slot, whatever the address, and one of another slot where it holds none.
fn add_reason(body: &mut Value, held: Option<&RemoteRecord>) {
    let Some(held) = held else { return };
    let first = held.extra.to_object().get("email1").and_then(|item| item.get("opt_in_reason").cloned());
    let others: Vec<(String, Value)> = slot_entries(SlotKind::Email, held.record.get_by_name("emails"))
        .filter_map(|(name, slot)| Some((name, slot.get("opt_in_reason")?.clone())))
        .collect();
    let items = body.get_mut("email_addresses").and_then(Value::as_array_mut);
    for item in items.into_iter().flatten().filter_map(Value::as_object_mut) {
        let slot = item.get("field").and_then(Value::as_str).unwrap_or_default();
        let reason = if slot == "EMAIL1" {
            first.clone()
        } else {
            others.iter().find(|(name, _)| name == slot).map(|(_, reason)| reason.clone())
        };
        if let Some(reason) = reason {
            item.entry("opt_in_reason").or_insert(reason);
        }
    }
}

fn round_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            // What is whole and small stays as it is spelled: Keap takes no 7.0 for a quantity.
            let is_small = number.as_i64().is_some_and(|number| number.abs() < 1 << 53);
            if let Some(rounded) =
                number.as_f64().filter(|_| !is_small).and_then(serde_json::Number::from_f64)
            {
                *number = rounded;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(round_numbers),
        Value::Object(object) => object.values_mut().for_each(round_numbers),
        _ => {}
    }
}
