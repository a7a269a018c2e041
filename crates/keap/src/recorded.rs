//! A transport for tests: answers from a list and keeps what was asked.

use crate::caller::Caller;
use crate::transport::{Body, Request, Response, Transport};
use keapsync_domain::failure::Failure;
use keapsync_domain::secret::Secret;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::LazyLock;

static TOKEN: LazyLock<Secret> = LazyLock::new(|| Secret::new("t"));

/// Answers each request with the next of its answers, in the order they were given.
#[derive(Default)]
pub(crate) struct Recorded {
    answers: RefCell<VecDeque<(u16, String)>>,
    asked: RefCell<Vec<String>>,
}

impl Recorded {
    /// Answers by status and body.
    pub(crate) fn answering(answers: impl IntoIterator<Item = (u16, Value)>) -> Self {
        let answers = answers.into_iter().map(|(status, body)| (status, body.to_string()));
        Self { answers: RefCell::new(answers.collect()), asked: RefCell::default() }
    }

    /// Sends through this.
    pub(crate) fn caller(&self) -> Caller<'_, Self> {
        Caller { transport: self, base_url: "http://k/crm", access_token: &TOKEN }
    }

    /// What was asked, bodies included; all answers must have been used.
    pub(crate) fn asked(&self) -> Vec<String> {
        assert!(
            self.answers.borrow().is_empty(),
            "{} answers were not asked for",
            self.answers.borrow().len()
        );
        self.asked.borrow().clone()
    }
}

impl Transport for Recorded {
    async fn send(&self, request: Request) -> Result<Response, Failure> {
        let url = request.url.replace("http://k/crm/rest", "");
        let body = match request.body {
            Body::Json(text) => format!(" {text}"),
            _ => String::new(),
        };
        let asked = format!("{} {url}{body}", request.method.as_str());
        let (status, body) =
            self.answers.borrow_mut().pop_front().unwrap_or_else(|| panic!("no answer is left for {asked}"));
        self.asked.borrow_mut().push(asked);
        Ok(Response { status, headers: Vec::new(), body: body.into_bytes() })
    }
}

/// The outcome of a future that never waits.
pub(crate) fn at_once<F: Future>(future: F) -> F::Output {
    futures_util::FutureExt::now_or_never(future).expect("nothing here waits")
}
