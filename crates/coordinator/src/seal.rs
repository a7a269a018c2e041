//! How secrets rest in the object's storage: AES-256-GCM, a random nonce each time, the account as associated data.
//!
//! A sealed text is `v1.<key id>.<nonce>.<ciphertext>`. The key id says which key opens it, so that a rotated
//! `TOKEN_ENCRYPTION_KEY` still opens, as `TOKEN_ENCRYPTION_KEY_PREVIOUS`, what it sealed; whatever is written next is
//! sealed with the new key. A text moved to another account does not open.

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::AccountId;
use sha2::{Digest as _, Sha256};

/// A nonce, 96 bits: random ones may be used for 2^32 messages under one key; a token is sealed about once a day.
pub const NONCE_BYTES: usize = 12;

const VERSION: &str = "v1";

/// Seals `plain` for `account`.
pub fn seal(
    key: &[u8; 32],
    account: &AccountId,
    nonce: [u8; NONCE_BYTES],
    plain: &str,
) -> Result<String, Failure> {
    let payload = Payload { msg: plain.as_bytes(), aad: account.as_str().as_bytes() };
    let sealed = Aes256Gcm::new(key.into())
        .encrypt(&Nonce::from(nonce), payload)
        .map_err(|_| Failure::new(FailureClass::Unexpected, "a secret could not be encrypted"))?;
    Ok(format!(
        "{VERSION}.{}.{}.{}",
        key_id(key),
        URL_SAFE_NO_PAD.encode(nonce),
        URL_SAFE_NO_PAD.encode(sealed)
    ))
}

/// Opens what [`seal`] made, with whichever of `keys` sealed it.
pub fn open(keys: &[&[u8; 32]], account: &AccountId, sealed: &str) -> Result<String, Failure> {
    let mut parts = sealed.split('.');
    let (Some(VERSION), Some(id), Some(nonce), Some(text), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(unreadable());
    };
    let Some(key) = keys.iter().find(|key| key_id(key) == id) else {
        return Err(Failure::new(
            FailureClass::Unauthorized,
            "the stored credential was encrypted with another key: set TOKEN_ENCRYPTION_KEY_PREVIOUS to it, or connect the account again",
        ));
    };
    let nonce =
        URL_SAFE_NO_PAD.decode(nonce).ok().and_then(|bytes| <[u8; NONCE_BYTES]>::try_from(bytes).ok());
    let (Some(nonce), Ok(text)) = (nonce, URL_SAFE_NO_PAD.decode(text)) else { return Err(unreadable()) };
    let payload = Payload { msg: &text, aad: account.as_str().as_bytes() };
    let plain =
        Aes256Gcm::new((*key).into()).decrypt(&Nonce::from(nonce), payload).map_err(|_| unreadable())?;
    String::from_utf8(plain).map_err(|_| unreadable())
}

/// The name of the key that sealed a text.
#[must_use]
pub fn sealed_with(sealed: &str) -> Option<&str> {
    sealed.strip_prefix(VERSION)?.strip_prefix('.')?.split('.').next()
}

/// Names a key without telling anything about it.
#[must_use]
pub fn key_id(key: &[u8; 32]) -> String {
    let digest = Sha256::new().chain_update("keapsync-key-id").chain_update(key).finalize();
    hex::encode(digest.get(..4).unwrap_or_default())
}

fn unreadable() -> Failure {
    Failure::new(
        FailureClass::Unauthorized,
        "the stored credential cannot be decrypted: connect the account again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OLD: [u8; 32] = [1; 32];
    const NEW: [u8; 32] = [2; 32];

    fn account(name: &str) -> AccountId {
        AccountId::parse(name).unwrap()
    }

    #[test]
    fn opens_with_its_own_key_also_after_a_rotation() {
        let sealed = seal(&OLD, &account("a"), [7; 12], "secret").unwrap();
        assert!(!sealed.contains("secret"));
        assert_eq!(open(&[&OLD], &account("a"), &sealed).unwrap(), "secret");
        assert_eq!(open(&[&NEW, &OLD], &account("a"), &sealed).unwrap(), "secret");
        assert_eq!(sealed_with(&sealed), Some(key_id(&OLD).as_str()));
        assert_ne!(key_id(&OLD), key_id(&NEW));
        assert_eq!(sealed_with("v2.ab.c.d"), None);
        let failure = open(&[&NEW], &account("a"), &sealed).unwrap_err();
        assert!(failure.message.contains("TOKEN_ENCRYPTION_KEY_PREVIOUS"));
    }

    #[test]
    fn does_not_open_for_another_account_or_when_tampered_with() {
        let sealed = seal(&OLD, &account("a"), [7; 12], "secret").unwrap();
        assert!(open(&[&OLD], &account("b"), &sealed).is_err());
        let (head, text) = sealed.rsplit_once('.').unwrap();
        for position in 0..text.len() {
            let mut changed: Vec<char> = text.chars().collect();
            changed[position] = if changed[position] == 'A' { 'B' } else { 'A' };
            let changed: String = changed.into_iter().collect();
            assert!(open(&[&OLD], &account("a"), &format!("{head}.{changed}")).is_err(), "{position}");
        }
    }

    proptest! {
        #[test]
        fn round_trips(plain in ".{0,200}", nonce: [u8; 12], key: [u8; 32]) {
            let sealed = seal(&key, &account("a"), nonce, &plain).unwrap();
            prop_assert_eq!(open(&[&key], &account("a"), &sealed).unwrap(), plain);
        }

        #[test]
        fn never_panics(text in ".{0,120}") {
            prop_assert!(open(&[&OLD], &account("a"), &text).is_err());
        }
    }
}
