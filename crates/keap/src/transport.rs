//! One HTTP exchange with Keap, without an HTTP library.

use keapsync_domain::failure::Failure;
use keapsync_domain::secret::Secret;

/// HTTP methods that Keap's API uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Read.
    Get,
    /// Create, or call an action.
    Post,
    /// Change some properties.
    Patch,
    /// Replace.
    Put,
    /// Delete.
    Delete,
}

impl Method {
    /// The method's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// How a request says who it is.
#[derive(Clone, Debug)]
pub enum Credential {
    /// `Authorization: Bearer …`: an OAuth access token or a service key.
    Bearer(Secret),
    /// `Authorization: Basic …`: the application itself, at the token endpoint; the text is already base64.
    Basic(Secret),
}

/// A request's body.
#[derive(Clone, Debug)]
pub enum Body {
    /// None.
    Empty,
    /// `application/json`.
    Json(String),
    /// `application/x-www-form-urlencoded`, already encoded; holds secrets.
    Form(Secret),
}

/// A request, complete but for the connection.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// Absolute address, query included.
    pub url: String,
    /// Who asks.
    pub credential: Credential,
    /// What is sent.
    pub body: Body,
}

/// An answer with its whole body.
#[derive(Clone, Debug)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body, whatever its type.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of that (lower-case) name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Sends requests. An answer of any status is `Ok`; `Err` means that there was none (refused, timed out, cut off), so
/// that nobody knows whether the request had its effect. Implementations bound the wait by
/// [`KEAP_TIMEOUT_MS`](keapsync_domain::limits::KEAP_TIMEOUT_MS), the body included.
pub trait Transport {
    /// Sends one request and reads its whole answer.
    async fn send(&self, request: Request) -> Result<Response, Failure>;
}
