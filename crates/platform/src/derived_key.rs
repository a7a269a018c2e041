//! Keys for one purpose each, derived from one secret.
//!
//! The purpose is the key of the HMAC and the secret its message (RFC 5869's extraction, with the purpose as salt), not the other way
//! round: some secrets sign texts that others choose, and none of those signatures may be a derived key.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Derives the key of 32 bytes for one purpose, so that no two uses of a secret can be mistaken for each other.
#[must_use]
#[expect(clippy::expect_used, clippy::missing_panics_doc, reason = "HMAC takes keys of every length")]
pub fn derived_key(secret: &[u8], purpose: &str) -> [u8; 32] {
    let mac = Hmac::<Sha256>::new_from_slice(purpose.as_bytes()).expect("a key of any length");
    mac.chain_update(secret).finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_of_one_secret_and_one_purpose() {
        // printf 'hook secret' | openssl dgst -sha256 -hmac 'keapsync-hook-path'
        let key = derived_key(b"hook secret", "keapsync-hook-path");
        assert_eq!(hex::encode(key), "9f544d30679f5d763a8a852e61e9edc67cbaa78b14f0806dad3a54493bcc01bc");
        assert_ne!(key, derived_key(b"hook secret", "keapsync-hook-paths"));
        assert_ne!(key, derived_key(b"hook secrets", "keapsync-hook-path"));
        // As a signature the other way round.
        assert_ne!(key, derived_key(b"keapsync-hook-path", "hook secret"));
    }
}
