//! How a field on which both sides differ since the base is settled.

use crate::ids::EntityType;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What settles a conflict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// The side whose record changed later; a tie goes to Keap. Keap gives times per record only, so its record's time
    /// stands for each of its fields.
    #[default]
    NewestWins,
    /// Keap's value.
    KeapWins,
    /// Supabase's value.
    SupabaseWins,
    /// Nobody but a person: the field stays as it is on both sides.
    Manual,
}

impl Policy {
    /// The name in settings and in the conflicts table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NewestWins => "newest_wins",
            Self::KeapWins => "keap_wins",
            Self::SupabaseWins => "supabase_wins",
            Self::Manual => "manual",
        }
    }
}

/// An account's policies: one for everything, then narrower ones by `entity` and by `entity.field`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policies {
    /// For whatever no narrower entry names.
    #[serde(default)]
    pub default: Policy,
    /// Keyed by `contact` or `contact.email`.
    #[serde(default)]
    pub overrides: BTreeMap<String, Policy>,
}

impl Policies {
    /// The policy of one field: its own, else its entity's, else the account's.
    #[must_use]
    pub fn of(&self, entity: EntityType, field: &str) -> Policy {
        if self.overrides.is_empty() {
            return self.default;
        }
        self.overrides
            .get(&format!("{}.{field}", entity.as_str()))
            .or_else(|| self.overrides.get(entity.as_str()))
            .copied()
            .unwrap_or(self.default)
    }
}
