//! The live feed at the door: who may open it. The account's object does the rest.
//!
//! A client shows the admin's token in the request that asks for the upgrade, or a ticket in its address: browsers can set no
//! header there. The object trusts the name by which it is asked; no outside request reaches it under these names.

use crate::account::{ACCOUNT_BINDING, object_path};
use crate::entry::Surroundings;
use crate::object_call::{ObjectRequest, hand_over};
use crate::route::{AccountCall, Route};
use keapsync_domain::ids::AccountId;
use keapsync_engine::ports::Clock as _;
use keapsync_platform::clock::WorkerClock;
use keapsync_platform::respond::Answer;
use worker::{Method, Request, Response};

/// Longest parameter that is passed on, in bytes: a ticket has 64.
const PARAMETER_BYTES_MAX: usize = 64;

/// The account, when the request asks to upgrade to its live feed.
pub(crate) fn asked_for(request: &Request) -> Option<AccountId> {
    let upgrade = request.headers().get("upgrade").ok().flatten()?;
    match Route::of(request.method().as_ref(), &request.path()) {
        Route::Account(account, AccountCall::Live) if upgrade.eq_ignore_ascii_case("websocket") => {
            Some(account)
        }
        _ => None,
    }
}

impl Surroundings<'_> {
    /// Hands the request over, once it has shown who asks; the socket comes back with the answer.
    pub(crate) async fn open_live(&self, account: &AccountId, request: &Request) -> worker::Result<Response> {
        let query: Vec<(String, String)> = request.url()?.query_pairs().into_owned().collect();
        let origin = request.headers().get("origin")?;
        let visit = self.visit(request, &request.path());
        if let Err(refusal) = visit.admit(WorkerClock.now()) {
            return refusal.into_response();
        }
        let has_ticket = query.iter().any(|(name, _)| name == "ticket");
        let resource = match () {
            () if visit.caller.is_worker_or_admin() => "live/authorized",
            () if !has_ticket => {
                let message = "give the admin token, or a ticket from POST live-ticket as ?ticket=";
                let answer = Answer::unauthorized(message);
                self.record_visit(&visit, Some(account.clone()), answer.status).await;
                return answer.into_response();
            }
            () if !is_welcome(self.config.common.allowed_origin.as_deref(), origin.as_deref()) => {
                let message = "tickets are good on pages of ALLOWED_ORIGIN only";
                let answer = Answer::error(403, "forbidden_origin", message);
                self.record_visit(&visit, Some(account.clone()), answer.status).await;
                return answer.into_response();
            }
            () => "live/ticketed",
        };
        let address = format!("https://object.internal{}", feed_path(account, resource, &query));
        let inner = Request::new(&address, Method::Get)?;
        inner.headers().set("upgrade", "websocket")?;
        match hand_over(self.env, ACCOUNT_BINDING, &account.object_name(), inner).await {
            Ok(response) => {
                if has_ticket && response.status_code() == 401 {
                    visit.charge_wrong_credential(WorkerClock.now());
                }
                // A wrong credential beside a ticket, be that good or not.
                self.record_visit(&visit, Some(account.clone()), response.status_code()).await;
                Ok(response)
            }
            Err(failure) => self.unreachable(account, &failure).into_response(),
        }
    }

    /// Kept events as JSON.
    pub(crate) async fn live_page(&self, account: &AccountId, query: &[(String, String)]) -> Answer {
        let path = feed_path(account, "live/page", query);
        let request = ObjectRequest {
            binding: ACCOUNT_BINDING,
            object_name: &account.object_name(),
            method: Method::Get,
            path: &path,
            body: &[],
        };
        match request.send(self.env).await {
            Ok(answer) => self.pass_on(answer),
            Err(failure) => self.unreachable(account, &failure),
        }
    }
}

/// The object's path, with those parameters that the feed has and that cannot mean anything else.
fn feed_path(account: &AccountId, resource: &str, query: &[(String, String)]) -> String {
    let mut path = object_path(account, resource);
    let mut separator = '?';
    for (name, value) in query {
        let is_known = matches!(name.as_str(), "since" | "limit" | "ticket");
        let is_plain = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.');
        if is_known {
            // What has another form is no number and no ticket: the object says so.
            let value = if is_plain && value.len() <= PARAMETER_BYTES_MAX { value } else { "-" };
            path.push(separator);
            path.push_str(name);
            path.push('=');
            path.push_str(value);
            separator = '&';
        }
    }
    path
}

/// Whether a page of `origin` may use a ticket. Programs send no origin; a ticket is proof enough where no page is named.
fn is_welcome(allowed: Option<&str>, origin: Option<&str>) -> bool {
    match (allowed, origin) {
        (Some(allowed), Some(origin)) => allowed == origin,
        (_, None) | (None, _) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn nothing_but_the_feed_s_own_parameters_reaches_the_object() {
        let demo = AccountId::parse("demo").unwrap();
        let query =
            [pair("since", "17"), pair("account", "other"), pair("ticket", "ab&since=0"), pair("limit", "5")];
        assert_eq!(
            feed_path(&demo, "live/page", &query),
            "/coordinator/demo/live/page?since=17&ticket=-&limit=5"
        );
        let long = [pair("ticket", &"a".repeat(65))];
        assert_eq!(feed_path(&demo, "live/ticketed", &long), "/coordinator/demo/live/ticketed?ticket=-");
        assert_eq!(feed_path(&demo, "live/authorized", &[]), "/coordinator/demo/live/authorized");
    }

    #[test]
    fn only_pages_of_the_allowed_origin_use_tickets() {
        let (ours, other) = (Some("https://app.example"), Some("https://evil.example"));
        assert!(is_welcome(ours, ours) && is_welcome(ours, None) && is_welcome(None, other));
        assert!(!is_welcome(ours, other));
    }
}
