//! What an account's owner may choose. Kept in the account's object, changed only through the API.

use crate::policy::Policies;
use serde::{Deserialize, Serialize};

/// Settings of one account; every absent one has its default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccountSettings {
    /// How conflicts are settled.
    pub policies: Policies,
    /// Whether a delete in Supabase deletes the contact in Keap. Off until the owner turns it on.
    pub delete_in_keap: bool,
    /// Minutes between incremental syncs.
    pub incremental_interval_minutes: u32,
}

impl Default for AccountSettings {
    fn default() -> Self {
        Self { policies: Policies::default(), delete_in_keap: false, incremental_interval_minutes: 30 }
    }
}
