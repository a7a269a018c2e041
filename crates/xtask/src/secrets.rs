//! The secrets of one local system: random, made once per state directory, never printed in logs.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::private_file;

/// The bytes of a random secret; 24 bytes are 192 bits.
const SECRET_BYTES: usize = 24;

/// The bytes of the key that encrypts tokens: AES-256.
const ENCRYPTION_KEY_BYTES: usize = 32;

/// All secrets of one local system.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// Derives hook tokens and verifies signatures.
    pub keap_webhook_secret: String,
    /// 32 bytes, base64.
    pub token_encryption_key: String,
    /// What people and scripts send to the admin endpoints.
    pub admin_api_token: String,
    /// What the workers send to each other.
    pub internal_token: String,
    /// What the database would show the coordinator to wake an account.
    pub wake_token: String,
    /// The OAuth application in the simulator.
    pub keap_client_id: String,
    /// Its secret.
    pub keap_client_secret: String,
    /// The embedded Postgres' superuser.
    pub postgres_superuser_password: String,
    /// The role that owns the schema.
    pub postgres_owner_password: String,
    /// The role that the workers log in as.
    pub postgres_engine_password: String,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secrets(redacted)")
    }
}

impl Secrets {
    /// The secrets of a state directory; made on first use.
    pub fn of(state_dir: &Path) -> Result<Self> {
        let path = state_dir.join("secrets.json");
        let mut all = serde_json::to_value(Self::generate()?).context("secrets have no JSON form")?;
        let kept: Option<Value> = private_file::read_json(&path)?;
        // A directory that an earlier version made lacks what came since: that is made now, and the rest stays.
        for (name, value) in kept.as_ref().and_then(Value::as_object).into_iter().flatten() {
            if let Some(secret) = all.get_mut(name) {
                secret.clone_from(value);
            }
        }
        if kept.as_ref() != Some(&all) {
            private_file::write_json(&path, &all)?;
        }
        serde_json::from_value(all)
            .with_context(|| format!("{} is damaged: delete it and repeat the command", path.display()))
    }

    fn generate() -> Result<Self> {
        Ok(Self {
            keap_webhook_secret: random_hex()?,
            token_encryption_key: STANDARD.encode(random_bytes::<ENCRYPTION_KEY_BYTES>()?),
            admin_api_token: random_hex()?,
            internal_token: random_hex()?,
            wake_token: random_hex()?,
            keap_client_id: "keapsync-local".to_owned(),
            keap_client_secret: random_hex()?,
            postgres_superuser_password: random_hex()?,
            postgres_owner_password: random_hex()?,
            postgres_engine_password: random_hex()?,
        })
    }
}

fn random_hex() -> Result<String> {
    Ok(hex::encode(random_bytes::<SECRET_BYTES>()?))
}

fn random_bytes<const COUNT: usize>() -> Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("the system gives no random numbers: {error}"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_keep_their_form_and_stay_out_of_logs() {
        let (one, other) = (Secrets::generate().unwrap(), Secrets::generate().unwrap());
        assert_ne!(one.admin_api_token, other.admin_api_token);
        assert_ne!(one.admin_api_token, one.internal_token);
        assert_eq!(STANDARD.decode(&one.token_encryption_key).unwrap().len(), ENCRYPTION_KEY_BYTES);
        assert!(!format!("{one:?}").contains(&one.admin_api_token));
    }

    #[test]
    fn a_state_directory_keeps_its_secrets() {
        let directory = std::env::temp_dir().join(format!("keapsync-xtask-{}-secrets", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let made = Secrets::of(&directory).unwrap();
        assert_eq!(Secrets::of(&directory).unwrap(), made);
        // One of an earlier version, which had no such token.
        let path = directory.join("secrets.json");
        let mut older = serde_json::to_value(&made).unwrap();
        older.as_object_mut().unwrap().remove("wake_token");
        private_file::write_json(&path, &older).unwrap();
        let completed = Secrets::of(&directory).unwrap();
        assert_eq!(completed, Secrets { wake_token: completed.wake_token.clone(), ..made.clone() });
        assert_ne!(completed.wake_token, made.wake_token);
        assert_eq!(Secrets::of(&directory).unwrap(), completed);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
