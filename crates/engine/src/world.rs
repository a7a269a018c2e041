//! What one pass works with: the ports, the account and its choices.

use keapsync_domain::ids::AccountId;
use keapsync_domain::settings::AccountSettings;

/// Everything that a pass over one account needs. Lives for one invocation.
pub struct World<'a, T, S, C> {
    /// Carries requests to Keap; paced by the account's quota lease and holding its bearer token.
    pub keap: &'a keapsync_keap::records::RecordsApi<'a, T>,
    /// The mirror and its outbox.
    pub store: &'a S,
    /// The clock.
    pub clock: &'a C,
    /// Whose records.
    pub account: &'a AccountId,
    /// The account's choices.
    pub settings: &'a AccountSettings,
    /// Random bits for jitter.
    pub entropy: u32,
}
