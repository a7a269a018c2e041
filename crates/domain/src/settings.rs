//! What an account's owner may choose. Kept in the account's object, changed only through the API.

use crate::ids::EntityType;
use crate::policy::Policies;
use crate::schema::position;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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
    /// Minutes between two looks at whether Keap still delivers hooks.
    pub hook_watch_interval_minutes: u32,
    /// How much a run, or what waits for Keap, may destroy before somebody approves it.
    pub blast_guard: BlastGuard,
}

/// What may be destroyed without a person's word: whatever is within one of both limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlastGuard {
    /// So many records of a kind.
    pub records_max: u64,
    /// Or so many of a hundred.
    pub percent_max: u32,
}

impl Default for BlastGuard {
    fn default() -> Self {
        Self { records_max: 50, percent_max: 5 }
    }
}

impl BlastGuard {
    /// How many of `live` records may be destroyed.
    #[must_use]
    pub fn limit(self, live: u64) -> u64 {
        self.records_max.max(live.saturating_mul(u64::from(self.percent_max)) / 100)
    }
}

/// Why settings were not changed; for the person who asked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSettings {
    /// Not an object of known settings.
    #[error("the settings cannot be read: {0}")]
    Unreadable(String),
    /// An override that no field or entity answers to.
    #[error(
        "policies.overrides names {0}, which is neither a kind of record (contact) nor a field of one (contact.email)"
    )]
    UnknownOverride(String),
    /// An interval out of range.
    #[error("incremental_interval_minutes is 1 to {INTERVAL_MINUTES_MAX}")]
    Interval,
    /// A watch interval out of range.
    #[error("hook_watch_interval_minutes is 1 to {HOOK_WATCH_MINUTES_MAX}")]
    HookWatchInterval,
    /// A share of more than everything.
    #[error("blast_guard.percent_max is 0 to 100")]
    Percent,
}

/// Longest interval between incremental syncs, in minutes: a week.
pub const INTERVAL_MINUTES_MAX: u32 = 10_080;

/// Longest interval between two looks at the hooks, in minutes: a day. What Keap stops delivering is missed until the next look.
pub const HOOK_WATCH_MINUTES_MAX: u32 = 1_440;

impl AccountSettings {
    /// These settings with those of `change`, a JSON object, in place of their own; what it leaves out stays, within objects too. An
    /// override of null is taken away.
    pub fn changed(&self, change: &[u8]) -> Result<Self, InvalidSettings> {
        let unreadable = |error: serde_json::Error| InvalidSettings::Unreadable(error.to_string());
        let change: Map<String, Value> = serde_json::from_slice(change).map_err(unreadable)?;
        let mut merged = serde_json::to_value(self).map_err(unreadable)?;
        if let Some(settings) = merged.as_object_mut() {
            merge_into(settings, change);
        }
        let changed: Self = serde_json::from_value(merged).map_err(unreadable)?;
        if let Some(name) = changed.policies.overrides.keys().find(|name| !is_policy_target(name)) {
            return Err(InvalidSettings::UnknownOverride(name.clone()));
        }
        if !(1..=INTERVAL_MINUTES_MAX).contains(&changed.incremental_interval_minutes) {
            return Err(InvalidSettings::Interval);
        }
        if !(1..=HOOK_WATCH_MINUTES_MAX).contains(&changed.hook_watch_interval_minutes) {
            return Err(InvalidSettings::HookWatchInterval);
        }
        if changed.blast_guard.percent_max > 100 {
            return Err(InvalidSettings::Percent);
        }
        Ok(changed)
    }
}

fn merge_into(settings: &mut Map<String, Value>, change: Map<String, Value>) {
    for (name, value) in change {
        match (settings.get_mut(&name), value) {
            (Some(Value::Object(known)), Value::Object(value)) => merge_into(known, value),
            (_, Value::Null) => drop(settings.remove(&name)),
            (_, value) => drop(settings.insert(name, value)),
        }
    }
}

/// Whether a policy can be about `name`: a kind of record, or one of its fields.
fn is_policy_target(name: &str) -> bool {
    match name.split_once('.') {
        None => EntityType::from_name(name).is_some(),
        Some((entity, field)) => {
            EntityType::from_name(entity).is_some_and(|entity| position(entity, field).is_some())
        }
    }
}

impl Default for AccountSettings {
    fn default() -> Self {
        Self {
            policies: Policies::default(),
            delete_in_keap: false,
            incremental_interval_minutes: 30,
            hook_watch_interval_minutes: 60,
            blast_guard: BlastGuard::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;

    #[test]
    fn what_a_change_leaves_out_stays() {
        let before = AccountSettings { delete_in_keap: true, ..AccountSettings::default() };
        let after = before.changed(br#"{"policies":{"default":"manual"}}"#).unwrap();
        assert!(after.delete_in_keap);
        assert_eq!(after.policies.default, Policy::Manual);
        let narrow = after.changed(br#"{"policies":{"overrides":{"contact.email":"keap_wins"}}}"#).unwrap();
        let guarded = narrow.changed(br#"{"blast_guard":{"percent_max":0}}"#).unwrap();
        let guarded = guarded.changed(br#"{"blast_guard":{"records_max":100}}"#).unwrap();
        assert_eq!(guarded.blast_guard, BlastGuard { records_max: 100, percent_max: 0 });
        assert_eq!((guarded.policies.default, guarded.policies.overrides.len()), (Policy::Manual, 1));
        let wide = guarded.changed(br#"{"policies":{"overrides":{"contact.email":null}}}"#).unwrap();
        assert!(wide.policies.overrides.is_empty());
        assert_eq!(before.changed(b"{}"), Ok(before));
    }

    #[test]
    fn the_guard_lets_through_what_is_within_one_limit() {
        let guard = BlastGuard::default();
        assert_eq!((guard.limit(10), guard.limit(1_000), guard.limit(10_000)), (50, 50, 500));
        assert_eq!(BlastGuard { records_max: 0, percent_max: 0 }.limit(1_000), 0);
    }

    #[test]
    fn mistakes_are_named() {
        let settings = AccountSettings::default();
        for (change, said) in [
            ("[]", "cannot be read"),
            (r#"{"delete_in_kep":true}"#, "delete_in_kep"),
            (r#"{"policies":{"overrides":{"contact.emial":"manual"}}}"#, "contact.emial"),
            (r#"{"policies":{"overrides":{"person":"manual"}}}"#, "person"),
            (r#"{"incremental_interval_minutes":0}"#, "1 to 10080"),
            (r#"{"hook_watch_interval_minutes":1441}"#, "1 to 1440"),
            (r#"{"blast_guard":{"percent_max":101}}"#, "0 to 100"),
            (r#"{"blast_guard":{"records":5}}"#, "records"),
        ] {
            let error = settings.changed(change.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(said), "{change}: {error}");
        }
        assert!(
            settings
                .changed(br#"{"policies":{"overrides":{"contact.email":"keap_wins","order":"manual"}}}"#)
                .is_ok()
        );
    }
}
