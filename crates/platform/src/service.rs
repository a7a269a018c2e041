//! Calls to another worker over a service binding: typed JSON in both directions, with the token that the workers share.
//!
//! Each call makes its own stub, because one that threw is dead. Nothing is retried here: the caller's queue does that. One thing
//! is: while the token is being changed, the other worker may not know the new one yet, and is shown the one before.

use crate::plain_object::header_object;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::secret::{Rotating, Secret};
use keapsync_domain::wire::INTERNAL_TOKEN_HEADER;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use worker::js_sys::{Function, Promise, Reflect};
use worker::wasm_bindgen::{JsCast as _, JsValue};
use worker::wasm_bindgen_futures::JsFuture;
use worker::{Env, web_sys};

/// Longest wait for another worker's answer, its body included, in milliseconds. Calls between workers hand over work or
/// read a status; none waits for Keap or for a bulk write.
const SERVICE_TIMEOUT_MS: u32 = 10_000;

/// Longest part of another worker's message that is passed on, in characters.
const MESSAGE_LENGTH_MAX: usize = 300;

/// Another worker.
#[derive(Clone, Debug)]
pub struct Service {
    env: Env,
    binding: &'static str,
    origin: &'static str,
    internal_token: Rotating,
}

impl Service {
    /// The worker behind `binding`; `origin` only fills the address, the binding decides where calls go.
    #[must_use]
    pub fn new(env: &Env, binding: &'static str, origin: &'static str, internal_token: &Rotating) -> Self {
        Self { env: env.clone(), binding, origin, internal_token: internal_token.clone() }
    }

    /// Reads `path`, query included.
    pub async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let answer = self.send("GET", path, None).await?;
        answer.read(self.binding)
    }

    /// Posts `body` to `path` and reads the answer.
    pub async fn post_json<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, Failure> {
        let answer = self.send("POST", path, Some(written(body)?)).await?;
        answer.read(self.binding)
    }

    /// Posts `body` to `path`; only the status of the answer matters.
    pub async fn post<B: Serialize>(&self, path: &str, body: &B) -> Result<(), Failure> {
        let answer = self.send("POST", path, Some(written(body)?)).await?;
        answer.check(self.binding)
    }

    /// Reads `path`; only the status of the answer matters.
    pub async fn get(&self, path: &str) -> Result<(), Failure> {
        let answer = self.send("GET", path, None).await?;
        answer.check(self.binding)
    }

    async fn send(&self, method: &str, path: &str, body: Option<String>) -> Result<ServiceAnswer, Failure> {
        let name = JsValue::from_str(self.binding);
        let binding = Reflect::get(&self.env, &name).ok().filter(JsValue::is_object).ok_or_else(|| {
            let message = format!(
                "the service binding {} is missing: add it under [[services]] in this worker's wrangler configuration",
                self.binding
            );
            Failure::new(FailureClass::Unavailable, message)
        })?;
        let (mut answer, body) = (None, body.as_deref());
        for (_, token) in self.internal_token.accepted() {
            let exchanged = self.exchange(&binding, method, path, body, token).await.map_err(|_| {
                let message = format!(
                    "the worker behind {} did not answer: see that it is deployed and healthy",
                    self.binding
                );
                Failure::new(FailureClass::Unavailable, message)
            })?;
            let is_refused = exchanged.status == 401;
            answer = Some(exchanged);
            if !is_refused {
                break;
            }
        }
        answer.ok_or_else(|| Failure::new(FailureClass::Unexpected, "there is no internal token to show"))
    }

    async fn exchange(
        &self,
        binding: &JsValue,
        method: &str,
        path: &str,
        body: Option<&str>,
        token: &Secret,
    ) -> worker::Result<ServiceAnswer> {
        let init = web_sys::RequestInit::new();
        init.set_method(method);
        init.set_signal(Some(&web_sys::AbortSignal::timeout_with_u32(SERVICE_TIMEOUT_MS)));
        let token = (INTERNAL_TOKEN_HEADER, token.reveal());
        if let Some(text) = body {
            init.set_headers(&header_object([token, ("content-type", "application/json")])?);
            init.set_body(&JsValue::from_str(text));
        } else {
            init.set_headers(&header_object([token])?);
        }
        // Not through the SDK's `Fetcher`, which makes a `Request` and a `Headers` more of each call.
        let fetch: Function = Reflect::get(binding, &JsValue::from_str("fetch"))?.dyn_into()?;
        let url = JsValue::from_str(&format!("{}{path}", self.origin));
        let promise: Promise = fetch.call2(binding, &url, &init)?.dyn_into()?;
        let response: web_sys::Response = JsFuture::from(promise).await?.dyn_into()?;
        let status = response.status();
        let retry_after = if status < 400 { None } else { response.headers().get("retry-after")? };
        // Read to the end even when only the status matters: an unread body keeps its connection.
        let body = JsFuture::from(response.text()?).await?.as_string().unwrap_or_default();
        Ok(ServiceAnswer { status, retry_after, body })
    }
}

fn written(body: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(body).map_err(|_| {
        Failure::new(FailureClass::Unexpected, "a message between workers could not be written as JSON")
    })
}

/// What another worker answered.
#[derive(Debug)]
struct ServiceAnswer {
    status: u16,
    retry_after: Option<String>,
    body: String,
}

impl ServiceAnswer {
    fn read<T: DeserializeOwned>(&self, binding: &str) -> Result<T, Failure> {
        self.check(binding)?;
        serde_json::from_str(&self.body).map_err(|error| {
            let message = format!(
                "the answer of {binding} has an unexpected shape (line {}, column {}): deploy all workers at one version",
                error.line(),
                error.column()
            );
            Failure::new(FailureClass::Unexpected, message)
        })
    }

    fn check(&self, binding: &str) -> Result<(), Failure> {
        let class = match self.status {
            200..=299 => return Ok(()),
            // Not the account's fault: nothing may be given up because two workers are configured differently.
            401 | 403 => {
                let message =
                    format!("{binding} refused the internal token: give all workers the same INTERNAL_TOKEN");
                return Err(Failure::new(FailureClass::Unavailable, message));
            }
            404 => FailureClass::NotFound,
            409 => FailureClass::Conflict,
            429 => FailureClass::RateLimited,
            400..=499 => FailureClass::Invalid,
            502..=504 => FailureClass::Unavailable,
            _ => FailureClass::Unexpected,
        };
        let said = error_message(&self.body).unwrap_or_else(|| format!("{binding} answered {}", self.status));
        Err(Failure::new(class, said).with_retry_after_ms(self.retry_after_ms()))
    }

    fn retry_after_ms(&self) -> Option<i64> {
        let seconds: i64 = self.retry_after.as_deref()?.trim().parse().ok()?;
        (seconds >= 0).then(|| seconds.saturating_mul(1000))
    }
}

fn error_message(body: &str) -> Option<String> {
    let value: Value = serde_json::from_str(body).ok()?;
    let text = value.pointer("/error/message")?.as_str()?;
    (!text.is_empty()).then(|| text.chars().take(MESSAGE_LENGTH_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: Option<&str>, body: &str) -> ServiceAnswer {
        ServiceAnswer { status, retry_after: retry_after.map(str::to_owned), body: body.to_owned() }
    }

    #[test]
    fn statuses_become_what_to_do() {
        let said = r#"{"error":{"code":"x","message":"no such account"}}"#;
        for (status, class, message) in [
            (404, FailureClass::NotFound, "no such account"),
            (400, FailureClass::Invalid, "no such account"),
            (413, FailureClass::Invalid, "no such account"),
            (409, FailureClass::Conflict, "no such account"),
            (429, FailureClass::RateLimited, "no such account"),
            (503, FailureClass::Unavailable, "no such account"),
            (500, FailureClass::Unexpected, "no such account"),
            (302, FailureClass::Unexpected, "no such account"),
            (401, FailureClass::Unavailable, "INTERNAL_TOKEN"),
        ] {
            let failure = answer(status, None, said).check("COORDINATOR").unwrap_err();
            assert_eq!(failure.class, class, "{status}");
            assert!(failure.message.contains(message), "{}", failure.message);
        }
        assert!(answer(202, None, "").check("SYNC_WORKER").is_ok());
    }

    #[test]
    fn keeps_the_wait_and_survives_strange_bodies() {
        let failure = answer(503, Some("3"), "<html>").check("COORDINATOR").unwrap_err();
        assert_eq!(
            (failure.retry_after_ms, failure.message.as_str()),
            (Some(3_000), "COORDINATOR answered 503")
        );
        for odd in ["-1", "soon", ""] {
            assert_eq!(answer(503, Some(odd), "{}").check("C").unwrap_err().retry_after_ms, None, "{odd}");
        }
        let failure = answer(200, None, r#"{"secret":"t"}"#).read::<Vec<u8>>("COORDINATOR").unwrap_err();
        assert_eq!(failure.class, FailureClass::Unexpected);
        assert!(!failure.message.contains("secret"), "{}", failure.message);
    }
}
