//! Which Keap application an account's records are of.
//!
//! Keap names it twice: a grant's scope has the application's address, an answer's header the tenant. Neither is a secret, and
//! both are kept in plain beside the sealed credential, so that the rows of one application are never mixed with another's, not
//! even after the credential can no longer be opened.

use crate::failure::{Failure, FailureClass};
use serde::{Deserialize, Serialize};

/// Longest name that is kept, in characters.
const NAME_LENGTH_MAX: usize = 100;

/// What is known of a Keap application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeapApplication {
    /// Its address, as scopes have it: `ab123.infusionsoft.com`.
    pub address: Option<String>,
    /// Its tenant, as the header `x-keap-tenant-id` has it.
    pub tenant: Option<String>,
}

impl KeapApplication {
    /// The application that a grant's scope names (`full|ab123.infusionsoft.com`).
    #[must_use]
    pub fn of_scope(scope: Option<&str>) -> Self {
        let address = scope.and_then(|scope| scope.split_once('|')).and_then(|(_, name)| name_of(name));
        Self { address, tenant: None }
    }

    /// The application whose tenant an answer names.
    #[must_use]
    pub fn of_tenant(tenant: Option<&str>) -> Self {
        Self { address: None, tenant: tenant.and_then(name_of) }
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.address.is_none() && self.tenant.is_none()
    }

    /// Whether both are the same application; `None` when what is known of them cannot be compared.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> Option<bool> {
        let same = |one: &Option<String>, other: &Option<String>| {
            Some(one.as_ref()?.eq_ignore_ascii_case(other.as_ref()?))
        };
        match (same(&self.tenant, &other.tenant), same(&self.address, &other.address)) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), _) | (_, Some(true)) => Some(true),
            // A tenant that is called as the address begins is that application. One that is not may be written in another way.
            (None, None) => (self.begins_as(other) || other.begins_as(self)).then_some(true),
        }
    }

    fn begins_as(&self, other: &Self) -> bool {
        let label = self.address.as_ref().and_then(|address| address.split('.').next());
        label
            .zip(other.tenant.as_ref())
            .is_some_and(|(label, tenant)| !label.is_empty() && label.eq_ignore_ascii_case(tenant))
    }

    /// What is known of the account's application once a credential of `granted` has been met; a failure when the credential is
    /// another application's, or when nobody can tell.
    pub fn met(&self, granted: &Self) -> Result<Self, Failure> {
        let is_same = if self.is_unknown() { Some(true) } else { self.is_same(granted) };
        match is_same {
            Some(true) => Ok(Self {
                address: granted.address.clone().or_else(|| self.address.clone()),
                tenant: granted.tenant.clone().or_else(|| self.tenant.clone()),
            }),
            Some(false) => Err(Failure::new(
                FailureClass::Invalid,
                format!(
                    "this account holds the records of the Keap application {}, and the credential is of {}: nothing was changed. Use a credential of {}, or connect the other application under another account name",
                    self.name(),
                    granted.name(),
                    self.name()
                ),
            )),
            None => Err(Failure::new(
                FailureClass::Invalid,
                format!(
                    "this account holds the records of the Keap application {}, and Keap did not say which application the credential is of: nothing was changed. Connect by OAuth (POST /oauth/initiate), which names it",
                    self.name()
                ),
            )),
        }
    }

    /// Takes an answer that names its application; a failure when it is of another one than the account's, and then nothing of the
    /// answer may be used.
    pub fn check_answer(&self, answered: &Self) -> Result<(), Failure> {
        if self.is_same(answered) != Some(false) {
            return Ok(());
        }
        Err(Failure::new(
            FailureClass::Unauthorized,
            format!(
                "Keap answered for the application {}, and this account holds the records of {}: nothing of the answer was used. Connect the account again to its own application, and the other one under another account name",
                answered.name(),
                self.name()
            ),
        ))
    }

    /// What to call it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.address.as_deref().or(self.tenant.as_deref()).unwrap_or("(unknown)")
    }
}

/// A name as it is kept; `None` for what can't be one.
fn name_of(text: &str) -> Option<String> {
    let text = text.trim();
    let is_name = !text.is_empty()
        && text.len() <= NAME_LENGTH_MAX
        && text.chars().all(|character| character.is_ascii_graphic());
    is_name.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn application(address: &str, tenant: &str) -> KeapApplication {
        let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        KeapApplication { address: known(address), tenant: known(tenant) }
    }

    #[test]
    fn names_are_read_from_scopes_and_headers() {
        let scope = KeapApplication::of_scope(Some("full|ab123.infusionsoft.com"));
        assert_eq!(scope, application("ab123.infusionsoft.com", ""));
        for odd in [None, Some("full"), Some("full|"), Some("full|a b")] {
            assert!(KeapApplication::of_scope(odd).is_unknown(), "{odd:?}");
        }
        assert_eq!(KeapApplication::of_tenant(Some(" ab123 ")), application("", "ab123"));
        assert!(KeapApplication::of_tenant(Some("  ")).is_unknown());
        assert!(KeapApplication::of_tenant(Some(&"x".repeat(200))).is_unknown());
    }

    #[test]
    fn a_credential_of_another_application_is_refused_however_it_comes() {
        let (ours, theirs) = ("ab123.infusionsoft.com", "zz9.infusionsoft.com");
        for (known, granted, is_taken) in [
            // First of all, whatever it is.
            (application("", ""), application(theirs, "zz9"), true),
            (application("", ""), application("", ""), true),
            // OAuth again, a key after OAuth, OAuth after a key, a key after a key.
            (application(ours, "ab123"), application(ours, ""), true),
            (application(ours, "ab123"), application(theirs, ""), false),
            (application(ours, "ab123"), application("", "AB123"), true),
            (application(ours, "ab123"), application("", "zz9"), false),
            (application("", "ab123"), application(ours, "ab123"), true),
            (application("", "ab123"), application(theirs, "zz9"), false),
            (application("", "ab123"), application("", "zz9"), false),
            // One name is the same and the other is not.
            (application(ours, "ab123"), application(ours, "zz9"), false),
            // Compared across, where there is no other way.
            (application(ours, ""), application("", "ab123"), true),
            (application(ours, ""), application("", "4711"), false),
            (application(ours, "ab123"), application("", ""), false),
        ] {
            let met = known.met(&granted);
            assert_eq!(met.is_ok(), is_taken, "{known:?} met {granted:?}: {met:?}");
            if let Err(failure) = met {
                assert_eq!(failure.class, FailureClass::Invalid);
                assert!(failure.message.contains("nothing was changed"), "{failure}");
            }
        }
    }

    #[test]
    fn an_answer_of_another_application_is_not_used() {
        let known = application("ab123.infusionsoft.com", "ab123");
        for (answered, is_used) in [("ab123", true), ("AB123", true), ("", true), ("zz9", false)] {
            let checked = known.check_answer(&application("", answered));
            assert_eq!(checked.is_ok(), is_used, "{answered}: {checked:?}");
        }
        // Nothing to compare with.
        for known in [application("", ""), application("ab123.infusionsoft.com", "")] {
            assert_eq!(known.check_answer(&application("", "4711")), Ok(()));
        }
    }

    #[test]
    fn what_is_learned_is_kept() {
        let learned = application("ab123.infusionsoft.com", "").met(&application("", "ab123")).unwrap();
        assert_eq!(learned, application("ab123.infusionsoft.com", "ab123"));
    }
}
