//! OAuth's `state`: names the account and one attempt to connect it, signed, and dead after ten minutes.
//!
//! It is `<account>~<nonce>~<expiry>~<signature>`, all of it safe in an address. Single use is the account's object's to
//! enforce: it keeps the nonce and forgets it when it is redeemed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use keapsync_domain::ids::AccountId;
use keapsync_domain::timestamp::Timestamp;
use sha2::Sha256;

/// How long an attempt to connect may take, in milliseconds.
pub const STATE_TTL_MS: i64 = 10 * 60_000;

/// Said before what is signed, so that the signature serves nothing else.
const PURPOSE: &str = "keapsync-oauth-state:";

/// What a state says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The account to connect.
    pub account: AccountId,
    /// Names the attempt.
    pub nonce: String,
    /// When it dies.
    pub expires_at: Timestamp,
}

/// Why a state is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidState {
    /// It was not made here, or it was changed.
    Forged,
    /// It is older than ten minutes.
    Expired,
}

impl State {
    /// Writes and signs the state.
    #[must_use]
    pub fn sign(&self, key: &[u8]) -> String {
        let text = format!("{}~{}~{}", self.account, self.nonce, self.expires_at.0);
        let signature = URL_SAFE_NO_PAD.encode(mac(key, &text).finalize().into_bytes());
        format!("{text}~{signature}")
    }

    /// Reads a state back, when it was signed with any of `keys` and still lives: a key may be changed while somebody connects.
    pub fn verify_any(keys: &[impl AsRef<[u8]>], signed: &str, now: Timestamp) -> Result<Self, InvalidState> {
        let mut outcome = Err(InvalidState::Forged);
        for key in keys {
            outcome = Self::verify(key.as_ref(), signed, now);
            if outcome != Err(InvalidState::Forged) {
                break;
            }
        }
        outcome
    }

    /// Reads a state back, when it was signed with `key` and still lives.
    pub fn verify(key: &[u8], signed: &str, now: Timestamp) -> Result<Self, InvalidState> {
        let (text, signature) = signed.rsplit_once('~').ok_or(InvalidState::Forged)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| InvalidState::Forged)?;
        mac(key, text).verify_slice(&signature).map_err(|_| InvalidState::Forged)?;
        let mut parts = text.split('~');
        let (Some(account), Some(nonce), Some(expires_at), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidState::Forged);
        };
        let account = AccountId::parse(account).map_err(|_| InvalidState::Forged)?;
        let expires_at = Timestamp(expires_at.parse().map_err(|_| InvalidState::Forged)?);
        if now >= expires_at {
            return Err(InvalidState::Expired);
        }
        Ok(Self { account, nonce: nonce.to_owned(), expires_at })
    }
}

#[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
fn mac(key: &[u8], text: &str) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("a key of any length").chain_update(PURPOSE).chain_update(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            account: AccountId::parse("demo-1").unwrap(),
            nonce: "abc123".to_owned(),
            expires_at: Timestamp(1_000),
        }
    }

    #[test]
    fn round_trips_until_it_expires() {
        let signed = state().sign(b"key");
        assert_eq!(State::verify(b"key", &signed, Timestamp(999)), Ok(state()));
        assert_eq!(State::verify(b"key", &signed, Timestamp(1_000)), Err(InvalidState::Expired));
        let keys = [b"new".to_vec(), b"key".to_vec()];
        assert_eq!(State::verify_any(&keys, &signed, Timestamp(999)), Ok(state()));
        assert_eq!(State::verify_any(&keys, &signed, Timestamp(1_000)), Err(InvalidState::Expired));
        assert_eq!(State::verify_any(&keys[..1], &signed, Timestamp(999)), Err(InvalidState::Forged));
    }

    #[test]
    fn every_change_and_every_other_key_is_noticed() {
        let signed = state().sign(b"key");
        assert_eq!(State::verify(b"other", &signed, Timestamp(0)), Err(InvalidState::Forged));
        for position in 0..signed.len() {
            let mut changed: Vec<char> = signed.chars().collect();
            changed[position] = if changed[position] == '7' { '8' } else { '7' };
            let changed: String = changed.into_iter().collect();
            // The last character of base64 holds bits that say nothing; strict decoding refuses those too.
            assert_eq!(
                State::verify(b"key", &changed, Timestamp(0)),
                Err(InvalidState::Forged),
                "{position}"
            );
        }
        for text in ["", "~", "~~~", "demo~n~9"] {
            assert_eq!(State::verify(b"key", text, Timestamp(0)), Err(InvalidState::Forged));
        }
    }
}
