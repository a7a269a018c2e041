//! How a delivery of Keap's hooks proves that it may be listened to.
//!
//! Keap signs nothing, so the address itself is the credential: its last part is a token derived from
//! `KEAP_WEBHOOK_SECRET` and the account, and a delivery is only ever a hint to read an object again. Proxies and tests
//! sign the raw body instead, with the secret itself. The tokens have a key of their own, so that none is at the same time the signature
//! of some text. All comparisons take constant time. While the secret is being changed, the one before counts too:
//! Keap goes on using the addresses it knows until the hooks have been registered again.
//!
//! Whatever makes or checks a token or a signature calls this: the workers, `cargo xtask send-hook`, the end-to-end tests.

use crate::derived_key::derived_key;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use keapsync_domain::ids::AccountId;
use keapsync_domain::secret::{Rotating, Secret};
use sha2::Sha256;

/// What the key of the tokens is derived for.
const PATH_KEY_PURPOSE: &str = "keapsync-hook-path";

/// Header of Keap's handshake; the answer repeats it.
pub const HANDSHAKE_HEADER: &str = "X-Hook-Secret";

/// Header of a signed delivery.
pub const SIGNATURE_HEADER: &str = "X-Hook-Signature";

/// Longest handshake secret that is repeated, in characters.
const HANDSHAKE_LENGTH_MAX: usize = 256;

/// The token of an account's hook address: base64url without padding, 43 characters.
#[must_use]
pub fn path_token(webhook_secret: &Secret, account: &AccountId) -> String {
    URL_SAFE_NO_PAD.encode(path_mac(webhook_secret, account).finalize().into_bytes())
}

/// The path of an account's hook address on the webhook handler.
#[must_use]
pub fn hook_path(webhook_secret: &Secret, account: &AccountId) -> String {
    format!("/webhook/{account}/{}", path_token(webhook_secret, account))
}

/// Whether `token` is the one in that account's hook address.
#[must_use]
pub fn verify_path_token(webhook_secret: &Rotating, account: &AccountId, token: &str) -> bool {
    URL_SAFE_NO_PAD.decode(token).is_ok_and(|given| {
        webhook_secret.accepted().any(|(_, secret)| path_mac(secret, account).verify_slice(&given).is_ok())
    })
}

/// Whether `header` is the HMAC-SHA256 of the raw body: in base64 or hexadecimal, with or without `sha256=` before it.
#[must_use]
pub fn verify_signature(webhook_secret: &Rotating, header: &str, body: &[u8]) -> bool {
    signature_bytes(header).is_some_and(|given| {
        webhook_secret.accepted().any(|(_, secret)| {
            keyed(secret.reveal().as_bytes()).chain_update(body).verify_slice(&given).is_ok()
        })
    })
}

/// The signature of a raw body, in hexadecimal.
#[must_use]
pub fn signature(webhook_secret: &Secret, body: &[u8]) -> String {
    hex::encode(keyed(webhook_secret.reveal().as_bytes()).chain_update(body).finalize().into_bytes())
}

/// Whether `header` has the form of a signature. What has not is refused before a body is read for it.
#[must_use]
pub fn is_signature(header: &str) -> bool {
    signature_bytes(header).is_some()
}

/// Whether the value of [`HANDSHAKE_HEADER`] may be repeated in an answer: 1 to 256 visible ASCII characters.
#[must_use]
pub fn is_handshake_secret(text: &str) -> bool {
    (1..=HANDSHAKE_LENGTH_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn signature_bytes(header: &str) -> Option<Vec<u8>> {
    let text = header.trim();
    let text = text.strip_prefix("sha256=").unwrap_or(text);
    // 32 bytes are 64 hexadecimal digits, or 43 base64 characters and one of padding: the length tells them apart.
    match text.len() {
        64 => hex::decode(text).ok(),
        44 => STANDARD.decode(text).ok(),
        43 => STANDARD_NO_PAD.decode(text).ok(),
        _ => None,
    }
}

fn path_mac(webhook_secret: &Secret, account: &AccountId) -> Hmac<Sha256> {
    keyed(&derived_key(webhook_secret.reveal().as_bytes(), PATH_KEY_PURPOSE)).chain_update(account.as_str())
}

#[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("a key of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(secret: &str) -> Rotating {
        Rotating::new(Secret::new(secret), None)
    }

    fn account(name: &str) -> AccountId {
        AccountId::parse(name).unwrap()
    }

    #[test]
    fn a_path_token_opens_one_account_under_one_secret() {
        let secret = only("hook secret");
        let token = path_token(secret.current(), &account("demo"));
        assert_eq!(token.len(), 43);
        assert!(verify_path_token(&secret, &account("demo"), &token));
        assert!(!verify_path_token(&secret, &account("demo2"), &token));
        assert!(!verify_path_token(&only("another"), &account("demo"), &token));
        let changed = Rotating::new(Secret::new("another"), Some(Secret::new("hook secret")));
        assert!(verify_path_token(&changed, &account("demo"), &token));
        assert!(!verify_path_token(&changed, &account("demo2"), &token));
        let cut = &token[..42];
        for wrong in ["", cut, "demo", &format!("{token}="), &format!("{token}A"), "ü"] {
            assert!(!verify_path_token(&secret, &account("demo"), wrong), "{wrong}");
        }
        assert_eq!(hook_path(secret.current(), &account("demo")), format!("/webhook/demo/{token}"));
    }

    #[test]
    fn the_path_token_is_what_other_tools_derive() {
        // key=$(printf 'hook secret' | openssl dgst -sha256 -hmac 'keapsync-hook-path' -r | cut -d ' ' -f 1)
        // printf demo | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | base64 | tr '+/' '-_'
        assert_eq!(
            path_token(&Secret::new("hook secret"), &account("demo")),
            "-uRQ-StECncGK2jmQed4XQF16tR825WcABJKfBNL2DU"
        );
    }

    #[test]
    fn reads_signatures_in_every_accepted_form() {
        // RFC 4231, test case 2.
        let (secret, body) = (only("Jefe"), b"what do ya want for nothing?");
        let changed = Rotating::new(Secret::new("another"), Some(Secret::new("Jefe")));
        let in_hex = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let bytes = hex::decode(in_hex).unwrap();
        let padded = STANDARD.encode(&bytes);
        let bare = padded.trim_end_matches('=');
        for form in [in_hex, &in_hex.to_uppercase(), &padded, bare] {
            assert!(verify_signature(&secret, form, body), "{form}");
            assert!(verify_signature(&secret, &format!("sha256={form}"), body), "{form}");
            assert!(verify_signature(&secret, &format!(" {form} "), body), "{form}");
            assert!(!verify_signature(&secret, form, b"what do ya want for nothing!"), "{form}");
            assert!(!verify_signature(&only("jefe"), form, body), "{form}");
            assert!(verify_signature(&changed, form, body) && is_signature(form), "{form}");
        }
        for wrong in ["", "sha256=", "sha1=00", &in_hex[..62], &"0".repeat(64), &"A".repeat(44), "ü"] {
            assert!(!verify_signature(&secret, wrong, body), "{wrong}");
        }
    }

    /// Who has texts of their choice signed, by a proxy for instance, must not come by an account's address; and who knows an address
    /// must not come by a signature.
    #[test]
    fn a_token_is_the_signature_of_no_known_text() {
        let secret = only("hook secret");
        let token = path_token(secret.current(), &account("demo"));
        let as_signature = hex::encode(URL_SAFE_NO_PAD.decode(&token).unwrap());
        for known in ["demo", "keapsync-hook-path", "keapsync-hook-path:", "keapsync-hook-path:demo"] {
            assert!(!verify_signature(&secret, &as_signature, known.as_bytes()), "{known}");
            // Nor may the signature of a text be the key of the token.
            let signed = hex::decode(signature(secret.current(), known.as_bytes())).unwrap();
            let by_it = keyed(&signed).chain_update("demo").finalize().into_bytes();
            assert_ne!(URL_SAFE_NO_PAD.encode(by_it), token, "{known}");
        }
    }

    #[test]
    fn handshake_secrets_are_visible_ascii() {
        assert!(is_handshake_secret("7f3b-Aa=") && is_handshake_secret(&"x".repeat(256)));
        for wrong in ["", "a b", "a\r\nset-cookie: x", "ä", &"x".repeat(257)] {
            assert!(!is_handshake_secret(wrong), "{wrong:?}");
        }
    }
}
