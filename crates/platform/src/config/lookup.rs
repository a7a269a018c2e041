//! Reading one setting: present or not, and of the right form.

use super::EncryptionKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keapsync_domain::secret::{Rotating, Secret};
use worker::Url;

/// Shortest token that is accepted, in characters: 16 random ones hold 64 bits even in hexadecimal.
const TOKEN_LENGTH_MIN: usize = 16;

/// A setting that is missing or wrong. Names the variable and the fix, never the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} {problem}")]
pub struct ConfigError {
    /// The variable.
    pub name: &'static str,
    /// What is wrong with it and what to do.
    pub problem: String,
}

/// Reads settings by name.
#[derive(Clone, Copy)]
pub struct Lookup<'a> {
    read: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Lookup<'a> {
    /// Reads through `read`, which gives a variable's text.
    #[must_use]
    pub fn new(read: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { read }
    }

    /// A setting that may be absent; an empty or blank one is absent.
    pub(super) fn optional(&self, name: &str) -> Option<String> {
        (self.read)(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    pub(super) fn required(&self, name: &'static str) -> Result<String, ConfigError> {
        self.optional(name).ok_or_else(|| ConfigError {
            name,
            problem: format!(
                "is not set: set it with `wrangler secret put {name}` or, if it is no secret, under [vars] in the wrangler file"
            ),
        })
    }

    /// A secret that we choose ourselves, so that it can be asked to be long. Goes into headers, so visible ASCII.
    pub(super) fn token(&self, name: &'static str) -> Result<Secret, ConfigError> {
        checked_token(name, self.required(name)?)
    }

    /// A secret of our own choice that may be absent.
    pub(super) fn optional_token(&self, name: &'static str) -> Result<Option<Secret>, ConfigError> {
        self.optional(name).map(|text| checked_token(name, text)).transpose()
    }

    /// A secret of our own choice that can be changed without an interruption: `previous` names the one before, which may be
    /// absent.
    pub(super) fn rotating(
        &self,
        name: &'static str,
        previous: &'static str,
    ) -> Result<Rotating, ConfigError> {
        Ok(Rotating::new(self.token(name)?, self.optional_token(previous)?))
    }

    pub(super) fn required_url(&self, name: &'static str) -> Result<String, ConfigError> {
        checked_url(name, &self.required(name)?)
    }

    pub(super) fn url_or(&self, name: &'static str, default: &str) -> Result<String, ConfigError> {
        self.optional(name).map_or_else(|| Ok(default.to_owned()), |text| checked_url(name, &text))
    }

    /// An origin as browsers send it: scheme, host and port, nothing behind.
    pub(super) fn origin(&self, name: &'static str) -> Result<Option<String>, ConfigError> {
        let form = "one origin such as https://app.example.com, without a path";
        self.parsed(
            name,
            |text| parsed_url(text).filter(|url| url.origin().ascii_serialization() == text),
            form,
        )
        .map(|url| url.map(|url| url.origin().ascii_serialization()))
    }

    pub(super) fn required_key(&self, name: &'static str) -> Result<EncryptionKey, ConfigError> {
        checked_key(name, &self.required(name)?)
    }

    pub(super) fn key(&self, name: &'static str) -> Result<Option<EncryptionKey>, ConfigError> {
        self.optional(name).map(|text| checked_key(name, &text)).transpose()
    }

    /// A whole number above zero.
    pub(super) fn count(&self, name: &'static str, default: u32) -> Result<u32, ConfigError> {
        let number = |text: &str| text.parse().ok().filter(|count| *count > 0);
        self.parsed(name, number, "a whole number above zero").map(|count| count.unwrap_or(default))
    }

    /// A setting of another type; `form` says what it must be.
    pub(super) fn parsed<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Option<T>,
        form: &str,
    ) -> Result<Option<T>, ConfigError> {
        let Some(text) = self.optional(name) else { return Ok(None) };
        match parse(&text) {
            Some(value) => Ok(Some(value)),
            None => Err(ConfigError { name, problem: format!("must be {form}") }),
        }
    }
}

/// Only ASCII, so that two names that look alike are not taken for each other.
fn parsed_url(text: &str) -> Option<Url> {
    Some(text).filter(|text| text.is_ascii()).and_then(|text| Url::parse(text).ok())
}

/// An absolute address, without a slash at its end. Tokens go there, so it must be encrypted unless it is this machine.
fn checked_url(name: &'static str, text: &str) -> Result<String, ConfigError> {
    let error = |problem: &str| ConfigError { name, problem: problem.to_owned() };
    let url = parsed_url(text).ok_or_else(|| {
        error("must be an absolute address such as https://example.com/path, an international name in its xn-- form")
    })?;
    let is_local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    match url.scheme() {
        "https" => {}
        "http" if is_local => {}
        _ => return Err(error("must begin with https:// (http:// is only for localhost)")),
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(error("must not hold a user, a password or a fragment"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// A secret as headers can carry it, and long enough.
fn checked_token(name: &'static str, text: String) -> Result<Secret, ConfigError> {
    if text.len() < TOKEN_LENGTH_MIN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let problem = format!(
            "must be at least {TOKEN_LENGTH_MIN} visible ASCII characters: make one with `openssl rand -hex 32`"
        );
        return Err(ConfigError { name, problem });
    }
    Ok(Secret::new(text))
}

fn checked_key(name: &'static str, text: &str) -> Result<EncryptionKey, ConfigError> {
    let bytes = STANDARD.decode(text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.map(EncryptionKey).ok_or_else(|| ConfigError {
        name,
        problem: "must be 32 bytes in base64: make one with `openssl rand -base64 32`".to_owned(),
    })
}
