//! Each worker's settings: read from variables and secrets, checked, and typed.
//!
//! Reading goes through [`Lookup`], so that the rules are tested natively. An error names the variable and the fix, never
//! the value. What was read and found good is kept as long as the isolate: its environment never changes, and reading it
//! anew would cost every delivery dozens of calls out of wasm. Mistakes are looked at again each time.

mod lookup;

pub use lookup::{ConfigError, Lookup};

use crate::log::{Level, Log};
use keapsync_domain::ids::AccountId;
use keapsync_domain::secret::{Rotating, Secret};
use keapsync_keap::oauth::Application;
use std::cell::OnceCell;
use std::rc::Rc;
use std::thread::LocalKey;
use worker::Env;
use worker::js_sys::Reflect;
use worker::wasm_bindgen::JsValue;

/// Where Keap's API is, unless configured otherwise.
pub const KEAP_API_BASE_URL_DEFAULT: &str = "https://api.infusionsoft.com/crm";
/// Where people approve the application.
pub const KEAP_AUTHORIZE_URL_DEFAULT: &str = "https://accounts.infusionsoft.com/app/oauth/authorize";
/// Where codes and refresh tokens are exchanged.
pub const KEAP_TOKEN_URL_DEFAULT: &str = "https://api.infusionsoft.com/token";

/// Longest pause between two looks at an idle outbox, unless configured otherwise, in milliseconds.
const OUTBOX_POLL_INTERVAL_MAX_MS_DEFAULT: u32 = 30_000;
/// Calls to Keap that we allow ourselves: below Keap's own limits of 25/s, 1500/min and 150,000/day.
const CALLS_PER_SECOND_DEFAULT: u32 = 20;
const CALLS_PER_MINUTE_DEFAULT: u32 = 1_400;
const CALLS_PER_DAY_DEFAULT: u32 = 140_000;

/// How many calls to Keap one credential may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimits {
    /// In any second.
    pub per_second: u32,
    /// In any minute.
    pub per_minute: u32,
    /// In any day.
    pub per_day: u32,
}

/// A 256-bit key. `Debug` hides it.
#[derive(Clone)]
pub struct EncryptionKey([u8; 32]);

impl EncryptionKey {
    /// The key's bytes, for the cipher.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for EncryptionKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("EncryptionKey(…)")
    }
}

/// What every worker has.
#[derive(Clone, Debug)]
pub struct CommonConfig {
    /// `INTERNAL_TOKEN`, and `INTERNAL_TOKEN_PREVIOUS` during a change: what the workers show each other.
    pub internal_token: Rotating,
    /// `ALLOWED_ORIGIN`: the one origin whose pages may read answers.
    pub allowed_origin: Option<String>,
    /// `METRICS_TOKEN`: opens `GET /metrics` and nothing else, beside the admin token.
    pub metrics_token: Option<Secret>,
    /// `LOG_LEVEL`.
    pub log: Log,
}

impl CommonConfig {
    fn read(lookup: &Lookup<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            internal_token: lookup.rotating("INTERNAL_TOKEN", "INTERNAL_TOKEN_PREVIOUS")?,
            allowed_origin: lookup.origin("ALLOWED_ORIGIN")?,
            metrics_token: lookup.optional_token("METRICS_TOKEN")?,
            log: Log::new(
                lookup
                    .parsed("LOG_LEVEL", Level::from_name, "debug, info, warn or error")?
                    .unwrap_or_default(),
            ),
        })
    }
}

/// Settings of the coordinator.
#[derive(Clone, Debug)]
pub struct CoordinatorConfig {
    /// What every worker has.
    pub common: CommonConfig,
    /// `ADMIN_API_TOKEN`, and `ADMIN_API_TOKEN_PREVIOUS` during a change.
    pub admin_token: Rotating,
    /// `WAKE_TOKEN`, and `WAKE_TOKEN_PREVIOUS` during a change: what the database shows to wake an account, and good for nothing else.
    pub wake_token: Rotating,
    /// `KEAP_CLIENT_ID`, `KEAP_CLIENT_SECRET`, `KEAP_REDIRECT_URI`, `KEAP_AUTHORIZE_URL`, `KEAP_TOKEN_URL`.
    pub application: Application,
    /// `KEAP_API_BASE_URL`, without a slash at its end.
    pub keap_api_base_url: String,
    /// `KEAP_WEBHOOK_SECRET`: derives the tokens of hook addresses.
    pub webhook_secret: Secret,
    /// `WEBHOOK_PUBLIC_URL`: where Keap's hooks reach the webhook handler, without a slash at its end.
    pub webhook_public_url: String,
    /// `TOKEN_ENCRYPTION_KEY`: encrypts stored tokens.
    pub encryption_key: EncryptionKey,
    /// `TOKEN_ENCRYPTION_KEY_PREVIOUS`: still decrypts what was stored before a rotation.
    pub encryption_key_previous: Option<EncryptionKey>,
    /// `KEAP_CALLS_PER_SECOND`, `KEAP_CALLS_PER_MINUTE`, `KEAP_CALLS_PER_DAY`.
    pub call_limits: CallLimits,
    /// `OUTBOX_POLL_INTERVAL_MAX_MS`.
    pub outbox_poll_interval_max_ms: i64,
}

impl CoordinatorConfig {
    /// Reads the coordinator's settings.
    pub fn read(lookup: &Lookup<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            common: CommonConfig::read(lookup)?,
            admin_token: lookup.rotating("ADMIN_API_TOKEN", "ADMIN_API_TOKEN_PREVIOUS")?,
            wake_token: lookup.rotating("WAKE_TOKEN", "WAKE_TOKEN_PREVIOUS")?,
            application: Application {
                client_id: lookup.required("KEAP_CLIENT_ID")?,
                client_secret: Secret::new(lookup.required("KEAP_CLIENT_SECRET")?),
                redirect_uri: lookup.required_url("KEAP_REDIRECT_URI")?,
                authorize_url: lookup.url_or("KEAP_AUTHORIZE_URL", KEAP_AUTHORIZE_URL_DEFAULT)?,
                token_url: lookup.url_or("KEAP_TOKEN_URL", KEAP_TOKEN_URL_DEFAULT)?,
            },
            keap_api_base_url: lookup.url_or("KEAP_API_BASE_URL", KEAP_API_BASE_URL_DEFAULT)?,
            webhook_secret: lookup.token("KEAP_WEBHOOK_SECRET")?,
            webhook_public_url: lookup.required_url("WEBHOOK_PUBLIC_URL")?,
            encryption_key: lookup.required_key("TOKEN_ENCRYPTION_KEY")?,
            encryption_key_previous: lookup.key("TOKEN_ENCRYPTION_KEY_PREVIOUS")?,
            call_limits: CallLimits {
                per_second: lookup.count("KEAP_CALLS_PER_SECOND", CALLS_PER_SECOND_DEFAULT)?,
                per_minute: lookup.count("KEAP_CALLS_PER_MINUTE", CALLS_PER_MINUTE_DEFAULT)?,
                per_day: lookup.count("KEAP_CALLS_PER_DAY", CALLS_PER_DAY_DEFAULT)?,
            },
            outbox_poll_interval_max_ms: lookup
                .count("OUTBOX_POLL_INTERVAL_MAX_MS", OUTBOX_POLL_INTERVAL_MAX_MS_DEFAULT)?
                .into(),
        })
    }

    /// The coordinator's settings, read from its environment once per isolate.
    pub fn of_isolate(env: &Env) -> Result<Rc<Self>, ConfigError> {
        thread_local! {
            static KEPT: OnceCell<Rc<CoordinatorConfig>> = const { OnceCell::new() };
        }
        kept(&KEPT, env, Self::read)
    }
}

/// Settings of the sync worker.
#[derive(Clone, Debug)]
pub struct SyncConfig {
    /// What every worker has.
    pub common: CommonConfig,
    /// `ADMIN_API_TOKEN`, and `ADMIN_API_TOKEN_PREVIOUS` during a change.
    pub admin_token: Rotating,
    /// `KEAP_API_BASE_URL`, without a slash at its end.
    pub keap_api_base_url: String,
}

impl SyncConfig {
    /// Reads the sync worker's settings.
    pub fn read(lookup: &Lookup<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            common: CommonConfig::read(lookup)?,
            admin_token: lookup.rotating("ADMIN_API_TOKEN", "ADMIN_API_TOKEN_PREVIOUS")?,
            keap_api_base_url: lookup.url_or("KEAP_API_BASE_URL", KEAP_API_BASE_URL_DEFAULT)?,
        })
    }

    /// The sync worker's settings, read from its environment once per isolate.
    pub fn of_isolate(env: &Env) -> Result<Rc<Self>, ConfigError> {
        thread_local! {
            static KEPT: OnceCell<Rc<SyncConfig>> = const { OnceCell::new() };
        }
        kept(&KEPT, env, Self::read)
    }
}

/// Settings of the webhook handler.
#[derive(Clone, Debug)]
pub struct WebhookConfig {
    /// What every worker has.
    pub common: CommonConfig,
    /// `KEAP_WEBHOOK_SECRET`, and `KEAP_WEBHOOK_SECRET_PREVIOUS` during a change: derives the tokens of hook addresses, verifies
    /// signatures. Hooks that are registered under the secret before go on being heard.
    pub webhook_secret: Rotating,
    /// `DEFAULT_ACCOUNT_ID`: whose the signed deliveries are that name no account.
    pub default_account: Option<AccountId>,
}

impl WebhookConfig {
    /// Reads the webhook handler's settings.
    pub fn read(lookup: &Lookup<'_>) -> Result<Self, ConfigError> {
        let account = |text: &str| AccountId::parse(text).ok();
        Ok(Self {
            common: CommonConfig::read(lookup)?,
            webhook_secret: lookup.rotating("KEAP_WEBHOOK_SECRET", "KEAP_WEBHOOK_SECRET_PREVIOUS")?,
            default_account: lookup.parsed(
                "DEFAULT_ACCOUNT_ID",
                account,
                "1 to 64 characters of a-z, 0-9 and '-'",
            )?,
        })
    }

    /// The webhook handler's settings, read from its environment once per isolate.
    pub fn of_isolate(env: &Env) -> Result<Rc<Self>, ConfigError> {
        thread_local! {
            static KEPT: OnceCell<Rc<WebhookConfig>> = const { OnceCell::new() };
        }
        kept(&KEPT, env, Self::read)
    }
}

fn kept<C>(
    cell: &'static LocalKey<OnceCell<Rc<C>>>,
    env: &Env,
    read: impl FnOnce(&Lookup<'_>) -> Result<C, ConfigError>,
) -> Result<Rc<C>, ConfigError> {
    cell.with(|cell| {
        if let Some(config) = cell.get() {
            return Ok(Rc::clone(config));
        }
        let config = Rc::new(read(&Lookup::new(&|name| variable(env, name)))?);
        Ok(Rc::clone(cell.get_or_init(|| config)))
    })
}

/// A variable or secret as text. The SDK's own accessors take only strings, but a number in a wrangler file arrives as one.
fn variable(env: &Env, name: &str) -> Option<String> {
    let value = Reflect::get(env, &JsValue::from_str(name)).ok()?;
    value.as_string().or_else(|| value.as_f64().map(|number| number.to_string()))
}

#[cfg(test)]
mod tests;
