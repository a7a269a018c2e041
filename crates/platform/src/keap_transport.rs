//! Keap over the runtime's fetch.
//!
//! Redirects are not followed, because a request carries a token. One timeout covers the answer and its body. An error of
//! the network says nothing about whether the request had its effect.

use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::limits::KEAP_TIMEOUT_MS;
use keapsync_keap::transport::{Body, Credential, Request, Response, Transport};
use worker::wasm_bindgen::{JsCast as _, JsValue};
use worker::wasm_bindgen_futures::JsFuture;
use worker::{Headers, js_sys, web_sys};

/// Largest answer that is read, in bytes: a page of 1000 contacts with every field takes a few megabytes, and the worker
/// has 128 MB in all.
const ANSWER_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Sends requests to Keap.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeapTransport;

impl Transport for KeapTransport {
    async fn send(&self, request: Request) -> Result<Response, Failure> {
        let timeout_ms = u32::try_from(KEAP_TIMEOUT_MS).unwrap_or(u32::MAX);
        let signal = web_sys::AbortSignal::timeout_with_u32(timeout_ms);
        let prepared = prepare(&request, &signal).map_err(|_| {
            let message = "the request to Keap has an invalid address or token: see KEAP_API_BASE_URL and connect the account again";
            Failure::new(FailureClass::Unexpected, message)
        })?;
        match exchange(&prepared).await {
            Ok(response) => response,
            Err(_) if signal.aborted() => {
                Err(unreachable(&format!("no complete answer within {} s", KEAP_TIMEOUT_MS / 1000)))
            }
            Err(_) => Err(unreachable("the connection failed")),
        }
    }
}

fn prepare(request: &Request, signal: &web_sys::AbortSignal) -> Result<web_sys::Request, JsValue> {
    let init = web_sys::RequestInit::new();
    init.set_method(request.method.as_str());
    init.set_redirect(web_sys::RequestRedirect::Manual);
    init.set_signal(Some(signal));
    let headers = web_sys::Headers::new()?;
    for (name, value) in headers_of(request) {
        headers.set(name, &value)?;
    }
    init.set_headers(&headers);
    if let Some(text) = body_text(&request.body) {
        init.set_body(&JsValue::from_str(text));
    }
    web_sys::Request::new_with_str_and_init(&request.url, &init)
}

/// The outer error is the network's; the inner one is an answer that will not be read.
async fn exchange(request: &web_sys::Request) -> Result<Result<Response, Failure>, JsValue> {
    let scope: web_sys::WorkerGlobalScope = js_sys::global().unchecked_into();
    let response: web_sys::Response = JsFuture::from(scope.fetch_with_request(request)).await?.dyn_into()?;
    // The runtime writes header names in lower case.
    let headers: Vec<(String, String)> = Headers(response.headers()).entries().collect();
    if let Some(length) = declared_length(&headers)
        && length > ANSWER_BYTES_MAX
    {
        let message = format!("Keap's answer is too large ({length} bytes): ask for smaller pages");
        return Ok(Err(Failure::new(FailureClass::Unexpected, message)));
    }
    let buffer = JsFuture::from(response.array_buffer()?).await?;
    let body = js_sys::Uint8Array::new(&buffer).to_vec();
    Ok(Ok(Response { status: response.status(), headers, body }))
}

fn headers_of(request: &Request) -> Vec<(&'static str, String)> {
    let authorization = match &request.credential {
        Credential::Bearer(token) => format!("Bearer {}", token.reveal()),
        Credential::Basic(pair) => format!("Basic {}", pair.reveal()),
    };
    let mut headers = vec![("authorization", authorization), ("accept", "application/json".to_owned())];
    match request.body {
        Body::Empty => {}
        Body::Json(_) => headers.push(("content-type", "application/json".to_owned())),
        Body::Form(_) => headers.push(("content-type", "application/x-www-form-urlencoded".to_owned())),
    }
    headers
}

fn body_text(body: &Body) -> Option<&str> {
    match body {
        Body::Empty => None,
        Body::Json(text) => Some(text),
        Body::Form(secret) => Some(secret.reveal()),
    }
}

fn declared_length(headers: &[(String, String)]) -> Option<u64> {
    headers.iter().find(|(name, _)| name == "content-length")?.1.trim().parse().ok()
}

fn unreachable(reason: &str) -> Failure {
    let message = format!(
        "Keap could not be reached ({reason}): it is tried again; if it lasts, see Keap's status page"
    );
    Failure::new(FailureClass::Unavailable, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keapsync_domain::secret::Secret;
    use keapsync_keap::transport::Method;

    fn request(credential: Credential, body: Body) -> Request {
        Request { method: Method::Post, url: "https://api.example/token".to_owned(), credential, body }
    }

    #[test]
    fn credentials_and_bodies_become_headers() {
        let form =
            request(Credential::Basic(Secret::new("aWQ6c2VjcmV0")), Body::Form(Secret::new("grant_type=x")));
        assert_eq!(
            headers_of(&form),
            [
                ("authorization", "Basic aWQ6c2VjcmV0".to_owned()),
                ("accept", "application/json".to_owned()),
                ("content-type", "application/x-www-form-urlencoded".to_owned()),
            ]
        );
        assert_eq!(body_text(&form.body), Some("grant_type=x"));
        let json = request(Credential::Bearer(Secret::new("t")), Body::Json("{}".to_owned()));
        assert_eq!(headers_of(&json)[0], ("authorization", "Bearer t".to_owned()));
        assert_eq!(headers_of(&json)[2], ("content-type", "application/json".to_owned()));
        let empty = request(Credential::Bearer(Secret::new("t")), Body::Empty);
        assert_eq!((headers_of(&empty).len(), body_text(&empty.body)), (2, None));
    }

    #[test]
    fn reads_the_declared_length() {
        let headers = |value: &str| vec![("content-length".to_owned(), value.to_owned())];
        assert_eq!(declared_length(&headers("123")), Some(123));
        assert_eq!(declared_length(&headers("many")), None);
        assert_eq!(declared_length(&[]), None);
    }
}
