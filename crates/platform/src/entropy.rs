//! Randomness from the runtime (`crypto.getRandomValues`), for tokens, states and names of runs.

use keapsync_domain::failure::{Failure, FailureClass};

/// Fills an array with random bytes.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| {
        Failure::new(FailureClass::Unavailable, "the runtime gave no random bytes; try again")
    })?;
    Ok(bytes)
}

/// A random number, for jitter and sampling.
pub fn random_u32() -> Result<u32, Failure> {
    random_bytes().map(u32::from_le_bytes)
}

/// A random token of 64 hexadecimal digits (256 bits).
pub fn random_token() -> Result<String, Failure> {
    random_bytes::<32>().map(hex::encode)
}

/// A random UUID (version 4) in its usual form.
pub fn random_uuid() -> Result<String, Failure> {
    random_bytes().map(uuid_of)
}

/// Sets version and variant as RFC 9562 says and writes the groups of digits.
fn uuid_of(mut bytes: [u8; 16]) -> String {
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut bytes;
    *version = (*version & 0x0f) | 0x40;
    *variant = (*variant & 0x3f) | 0x80;
    let mut text = hex::encode(bytes);
    for place in [20, 16, 12, 8] {
        text.insert(place, '-');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_its_version_and_variant() {
        assert_eq!(uuid_of([0; 16]), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid_of([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }

    #[test]
    fn two_draws_differ() {
        assert_ne!(random_token().unwrap(), random_token().unwrap());
        assert_eq!(random_token().unwrap().len(), 64);
        assert_ne!(random_uuid().unwrap(), random_uuid().unwrap());
        assert_ne!(random_bytes::<16>().unwrap(), [0; 16]);
        // Four draws of 32 bits are alike once in 2^96 runs.
        let draws = [(); 4].map(|()| random_u32().unwrap());
        assert!(draws.iter().any(|draw| *draw != draws[0]), "{draws:?}");
    }
}
