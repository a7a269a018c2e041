//! Calls to our own Durable Objects: JSON over `fetch`. A stub that threw is dead, so each call makes its own.

use keapsync_domain::failure::{Failure, FailureClass};
use serde::Serialize;
use serde::de::DeserializeOwned;
use worker::wasm_bindgen::JsValue;
use worker::{Env, Method, Request, RequestInit, Response, Stub, js_sys};

/// When to ask an object again that did not answer, in milliseconds.
const OBJECT_RETRY_MS: i64 = 1_000;

/// What an object answered.
#[derive(Debug)]
pub struct ObjectAnswer {
    /// HTTP status.
    pub status: u16,
    /// `Retry-After`, as sent.
    pub retry_after: Option<String>,
    /// Body.
    pub body: Vec<u8>,
}

/// What is asked.
#[derive(Debug)]
pub struct ObjectRequest<'a> {
    /// Binding of the class.
    pub binding: &'static str,
    /// Name of the object.
    pub object_name: &'a str,
    /// Method.
    pub method: Method,
    /// Path with a leading slash, query included.
    pub path: &'a str,
    /// Body.
    pub body: &'a [u8],
}

impl ObjectRequest<'_> {
    /// Sends the request and reads the whole answer.
    pub async fn send(self, env: &Env) -> Result<ObjectAnswer, Failure> {
        let binding = self.binding;
        self.exchange(env).await.map_err(|_| silent(binding))
    }

    async fn exchange(self, env: &Env) -> worker::Result<ObjectAnswer> {
        let mut init = RequestInit::new();
        init.with_method(self.method.clone());
        if !self.body.is_empty() {
            init.with_body(Some(JsValue::from(js_sys::Uint8Array::from(self.body))));
        }
        let request = Request::new_with_init(&format!("https://object.internal{}", self.path), &init)?;
        let mut response = stub(env, self.binding, self.object_name)?.fetch_with_request(request).await?;
        let retry_after = response.headers().get("retry-after")?;
        Ok(ObjectAnswer { status: response.status_code(), retry_after, body: response.bytes().await? })
    }
}

/// Hands a request over as it is and its answer back, neither of them read here: for the calls that must be fast.
pub async fn hand_over(
    env: &Env,
    binding: &'static str,
    object_name: &str,
    request: Request,
) -> Result<Response, Failure> {
    let answered = async { stub(env, binding, object_name)?.fetch_with_request(request).await };
    answered.await.map_err(|_: worker::Error| silent(binding))
}

fn silent(binding: &str) -> Failure {
    let message =
        format!("the object behind {binding} did not answer; try again, and see the coordinator's log");
    Failure::new(FailureClass::Unavailable, message).with_retry_after_ms(Some(OBJECT_RETRY_MS))
}

fn stub(env: &Env, binding: &str, object_name: &str) -> worker::Result<Stub> {
    env.durable_object(binding)?.id_from_name(object_name)?.get_stub()
}

/// Posts `body` to one of our own bookkeeping objects and reads the answer.
pub async fn post<B: Serialize, T: DeserializeOwned>(
    env: &Env,
    binding: &'static str,
    object_name: &str,
    path: &str,
    body: &B,
) -> Result<T, Failure> {
    let body = serde_json::to_vec(body)
        .map_err(|_| Failure::new(FailureClass::Unexpected, "a message to an object could not be written"))?;
    let request = ObjectRequest { binding, object_name, method: Method::Post, path, body: &body };
    let answer = request.send(env).await?;
    if answer.status != 200 {
        let message =
            format!("the object behind {binding} answered {}; see the coordinator's log", answer.status);
        return Err(Failure::new(FailureClass::Unavailable, message));
    }
    serde_json::from_slice(&answer.body).map_err(|_| {
        Failure::new(
            FailureClass::Unexpected,
            format!("the answer of the object behind {binding} has an unexpected shape"),
        )
    })
}
