//! Who may call: the admin's bearer token and the token that the workers show each other.
//!
//! Both sides are hashed before they are compared in constant time, so that neither the place of the first difference nor
//! the length of the secret can be measured.

use keapsync_domain::secret::Secret;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Whether `given` is the secret `expected`.
#[must_use]
pub fn is_same_secret(expected: &Secret, given: &str) -> bool {
    Sha256::digest(expected.reveal()).ct_eq(&Sha256::digest(given)).into()
}

/// Whether an `Authorization` header carries the admin's token as a bearer token.
#[must_use]
pub fn is_admin(authorization: Option<&str>, admin_token: &Secret) -> bool {
    authorization.and_then(|text| text.split_once(' ')).is_some_and(|(scheme, token)| {
        scheme.eq_ignore_ascii_case("bearer") && is_same_secret(admin_token, token.trim())
    })
}

/// Whether an `X-Internal-Token` header carries the token that the workers share.
#[must_use]
pub fn is_internal(header: Option<&str>, internal_token: &Secret) -> bool {
    header.is_some_and(|token| is_same_secret(internal_token, token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_token_passes() {
        let secret = Secret::new("correct horse battery");
        assert!(is_admin(Some("Bearer correct horse battery"), &secret));
        assert!(is_admin(Some("bearer  correct horse battery "), &secret));
        for wrong in [
            None,
            Some(""),
            Some("Bearer"),
            Some("Bearer "),
            Some("Basic correct horse battery"),
            Some("correct horse battery"),
            Some("Bearer correct horse"),
            Some("Bearer correct horse battery staple"),
            Some("Bearer Correct horse battery"),
        ] {
            assert!(!is_admin(wrong, &secret), "{wrong:?}");
        }
        assert!(is_internal(Some("correct horse battery"), &secret));
        assert!(!is_internal(Some("correct horse batterx"), &secret));
        assert!(!is_internal(None, &secret));
    }
}
