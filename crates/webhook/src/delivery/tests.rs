use super::*;
use futures_util::FutureExt as _;
use keapsync_platform::config::Lookup;
use keapsync_platform::hook_auth::path_token;
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

const SECRET: &str = "webhook-secret-0123456789";
const DELIVERY: &str =
    r#"{"event_key":"contact.edit","object_type":"contact","object_keys":[{"id":12,"apiUrl":"https://x"}]}"#;
const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn config(more: &[(&str, &str)]) -> WebhookConfig {
    let mut variables =
        HashMap::from([("KEAP_WEBHOOK_SECRET", SECRET), ("INTERNAL_TOKEN", "internal-token-0123456789")]);
    variables.extend(more.iter().copied());
    WebhookConfig::read(&Lookup::new(&|name| variables.get(name).map(|text| (*text).to_owned()))).unwrap()
}

fn token(account: &str) -> String {
    path_token(config(&[]).webhook_secret.current(), &AccountId::parse(account).unwrap())
}

/// A request that remembers whether its body was read.
struct FakeRequest {
    headers: HashMap<&'static str, String>,
    body: Result<Vec<u8>, BodyError>,
    was_read: bool,
    /// Whether there is room for its body.
    has_room: bool,
    /// Whether it had proven itself when it asked for room.
    was_proven: Option<bool>,
    /// Whether the sender has shown too many wrong credentials already.
    is_over_limit: bool,
    charged: Cell<u32>,
    /// How often it was said to be stored.
    stored: Cell<u32>,
}

impl FakeRequest {
    fn new(body: &str) -> Self {
        Self {
            headers: HashMap::new(),
            body: Ok(body.as_bytes().to_vec()),
            was_read: false,
            has_room: true,
            was_proven: None,
            is_over_limit: false,
            charged: Cell::new(0),
            stored: Cell::new(0),
        }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, value.to_owned());
        self
    }

    fn without_body(mut self, error: BodyError) -> Self {
        self.body = Err(error);
        self
    }
}

impl Incoming for FakeRequest {
    fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).cloned()
    }

    fn admit(&mut self, is_proven: bool) -> bool {
        self.was_proven = Some(is_proven);
        self.has_room
    }

    fn refused_of_late(&self) -> Option<u64> {
        Some(1)
    }

    fn stored(&self) {
        self.stored.set(self.stored.get() + 1);
    }

    fn charge_wrong_credential(&self) -> Result<(), Answer> {
        self.charged.set(self.charged.get() + 1);
        if self.is_over_limit { Err(Answer::too_many_requests(1_000)) } else { Ok(()) }
    }

    async fn body(&mut self) -> Result<Vec<u8>, BodyError> {
        assert!(self.was_proven.is_some() && self.has_room, "room comes before the body");
        assert!(!self.was_read, "a body can be read once");
        self.was_read = true;
        self.body.clone()
    }
}

/// An inbox that keeps what it is given, or fails.
#[derive(Default)]
struct FakeInbox {
    failure: Option<Failure>,
    kept: RefCell<Vec<(String, EventsRequest)>>,
}

impl FakeInbox {
    fn failing(class: FailureClass) -> Self {
        Self { failure: Some(Failure::new(class, "secret detail")), kept: RefCell::default() }
    }

    fn ids(&self) -> Vec<(String, Vec<String>)> {
        let kept = self.kept.borrow();
        kept.iter().map(|(account, request)| (account.clone(), request.delivery.object_ids.clone())).collect()
    }
}

impl Inbox for FakeInbox {
    async fn push(&self, account: &AccountId, request: &EventsRequest) -> Result<EventsResponse, Failure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        self.kept.borrow_mut().push((account.as_str().to_owned(), request.clone()));
        Ok(EventsResponse { queued: 1, coalesced: 0, not_synced: 0, trace: Some(7) })
    }
}

fn post_by_token(account: &str, token: &str, request: &mut FakeRequest, inbox: &FakeInbox) -> Answer {
    by_token(&config(&[]), (account, token), request, inbox, NOW).now_or_never().unwrap()
}

fn post_signed(config: &WebhookConfig, request: &mut FakeRequest, inbox: &FakeInbox) -> Answer {
    signed(config, request, inbox, NOW).now_or_never().unwrap()
}

/// The signature as `openssl dgst -sha256 -hmac webhook-secret-0123456789` gives it for [`DELIVERY`].
const SIGNATURE: &str = "5a66a90abc7ed7ea4575d214585e12f8aa437c8fb07caff9515ffb22ebe944c2";

#[test]
fn a_delivery_with_its_token_is_stored_and_then_answered() {
    let inbox = FakeInbox::default();
    let mut request = FakeRequest::new(DELIVERY);
    let answer = post_by_token("demo", &token("demo"), &mut request, &inbox);
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"OK".as_slice()));
    assert_eq!(request.stored.get(), 1);
    assert_eq!(answer.header(TRACE_HEADER), Some("7"));
    assert_eq!(inbox.ids(), [("demo".to_owned(), vec!["12".to_owned()])]);
    assert_eq!(inbox.kept.borrow()[0].1.received_at, NOW);
}

#[test]
fn a_wrong_token_is_refused_before_anything_is_read() {
    let inbox = FakeInbox::default();
    for (account, wrong) in [
        ("demo", String::new()),
        ("demo", token("other")),
        ("other", token("demo")),
        ("Demo", token("demo")),
        ("", token("demo")),
        ("de%6do", token("demo")),
    ] {
        let mut request = FakeRequest::new(DELIVERY).with(HANDSHAKE_HEADER, "abc");
        let answer = post_by_token(account, &wrong, &mut request, &inbox);
        assert_eq!(answer.status, 401, "{account} {wrong}");
        assert_eq!(answer.header(HANDSHAKE_HEADER), None);
        assert!(!request.was_read);
    }
    assert!(inbox.ids().is_empty());
}

#[test]
fn the_handshake_is_echoed_and_stores_nothing() {
    let inbox = FakeInbox::default();
    let mut request = FakeRequest::new(DELIVERY).with(HANDSHAKE_HEADER, "7f3b-Aa=");
    let answer = post_by_token("demo", &token("demo"), &mut request, &inbox);
    assert_eq!((answer.status, answer.header(HANDSHAKE_HEADER)), (200, Some("7f3b-Aa=")));
    assert!(inbox.ids().is_empty());
    for odd in ["", "a b", "a\r\nset-cookie: b", &"x".repeat(257)] {
        let mut request = FakeRequest::new("").with(HANDSHAKE_HEADER, odd);
        let answer = post_by_token("demo", &token("demo"), &mut request, &inbox);
        assert_eq!((answer.status, answer.header(HANDSHAKE_HEADER)), (400, None), "{odd:?}");
    }
}

#[test]
fn what_cannot_be_stored_is_sent_again() {
    for class in [
        FailureClass::Unavailable,
        FailureClass::RateLimited,
        FailureClass::Unexpected,
        FailureClass::Invalid,
        FailureClass::Conflict,
        FailureClass::Unauthorized,
    ] {
        let inbox = FakeInbox::failing(class);
        let answer = post_by_token("demo", &token("demo"), &mut FakeRequest::new(DELIVERY), &inbox);
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("30")), "{class:?}");
        assert!(!String::from_utf8(answer.body).unwrap().contains("secret detail"));
    }
    let mut inbox = FakeInbox::failing(FailureClass::Unavailable);
    inbox.failure = inbox.failure.map(|failure| failure.with_retry_after_ms(Some(2_000)));
    let answer = post_by_token("demo", &token("demo"), &mut FakeRequest::new(DELIVERY), &inbox);
    assert_eq!(answer.header("retry-after"), Some("2"));
}

#[test]
fn without_room_nothing_is_read_and_the_delivery_is_sent_again() {
    let inbox = FakeInbox::default();
    let mut request = FakeRequest::new(DELIVERY);
    request.has_room = false;
    let answer = post_by_token("demo", &token("demo"), &mut request, &inbox);
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert!(!request.was_read && inbox.ids().is_empty());
    assert_eq!(request.was_proven, Some(true));
    let mut request =
        FakeRequest::new(DELIVERY).with("X-Keap-Account", "demo").with(SIGNATURE_HEADER, SIGNATURE);
    request.has_room = false;
    assert_eq!(post_signed(&config(&[]), &mut request, &inbox).status, 503);
    assert_eq!(request.was_proven, Some(false));
}

#[test]
fn an_unknown_account_is_named_only_to_who_holds_its_token() {
    let inbox = FakeInbox::failing(FailureClass::NotFound);
    let answer = post_by_token("gone", &token("gone"), &mut FakeRequest::new(DELIVERY), &inbox);
    assert_eq!(answer.status, 404);
    let answer = post_by_token("gone", &token("demo"), &mut FakeRequest::new(DELIVERY), &inbox);
    assert_eq!(answer.status, 401);
}

#[test]
fn bodies_that_cannot_be_read_or_understood_are_refused() {
    let inbox = FakeInbox::default();
    let too_large = BodyError::TooLarge { limit_bytes: 1_048_576 };
    for (request, status) in [
        (FakeRequest::new("").without_body(too_large), 413),
        (FakeRequest::new("").without_body(BodyError::Unreadable), 400),
        (FakeRequest::new(""), 400),
        (FakeRequest::new("not json"), 400),
        (FakeRequest::new(r#"{"event_key":"contact.edit","object_keys":["one"]}"#), 400),
    ] {
        let mut request = request;
        let answer = post_by_token("demo", &token("demo"), &mut request, &inbox);
        assert_eq!(answer.status, status);
        assert!(answer.header("content-type").unwrap().starts_with("application/json"));
    }
    assert!(inbox.ids().is_empty());
}

#[test]
fn a_signed_delivery_goes_to_the_account_it_names() {
    let inbox = FakeInbox::default();
    let with_default = config(&[("DEFAULT_ACCOUNT_ID", "demo")]);
    let request = || FakeRequest::new(DELIVERY).with(SIGNATURE_HEADER, SIGNATURE);
    assert_eq!(post_signed(&with_default, &mut request(), &inbox).status, 200);
    assert_eq!(post_signed(&with_default, &mut request().with(ACCOUNT_HEADER, "shop-2"), &inbox).status, 200);
    assert_eq!(post_signed(&config(&[]), &mut request().with(ACCOUNT_HEADER, "shop-3"), &inbox).status, 200);
    let accounts: Vec<String> = inbox.ids().into_iter().map(|(account, _)| account).collect();
    assert_eq!(accounts, ["demo", "shop-2", "shop-3"]);
    assert_eq!(post_signed(&config(&[]), &mut request(), &inbox).status, 400);
    assert_eq!(
        post_signed(&with_default, &mut request().with(ACCOUNT_HEADER, "No/Account"), &inbox).status,
        400
    );
}

#[test]
fn a_wrong_signature_is_refused_and_size_comes_first() {
    let inbox = FakeInbox::default();
    let with_default = config(&[("DEFAULT_ACCOUNT_ID", "demo")]);
    for (body, signature) in
        [(DELIVERY, None), (DELIVERY, Some("")), (DELIVERY, Some("sha256=00")), ("{}", Some(SIGNATURE))]
    {
        let mut request = FakeRequest::new(body);
        if let Some(text) = signature {
            request = request.with(SIGNATURE_HEADER, text);
        }
        assert_eq!(post_signed(&with_default, &mut request, &inbox).status, 401, "{signature:?}");
        // What has not even the form of a signature is not worth reading a body for.
        assert_eq!(
            (request.was_read, request.charged.get()),
            (signature == Some(SIGNATURE), 1),
            "{signature:?}"
        );
    }
    let too_large = FakeRequest::new("")
        .with(SIGNATURE_HEADER, SIGNATURE)
        .without_body(BodyError::TooLarge { limit_bytes: 1 });
    assert_eq!(post_signed(&with_default, &mut { too_large }, &inbox).status, 413);
    assert!(inbox.ids().is_empty());
}

#[test]
fn who_shows_too_many_wrong_credentials_has_to_wait_and_good_ones_count_all_the_same() {
    let inbox = FakeInbox::default();
    let limited = || FakeRequest { is_over_limit: true, ..FakeRequest::new(DELIVERY) };
    let answer = post_by_token("demo", "AAAA", &mut limited(), &inbox);
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")));
    let with_default = config(&[("DEFAULT_ACCOUNT_ID", "demo")]);
    assert_eq!(post_signed(&with_default, &mut limited(), &inbox).status, 429);
    assert!(inbox.ids().is_empty());
    let mut good = limited();
    assert_eq!(post_by_token("demo", &token("demo"), &mut good, &inbox).status, 200);
    assert_eq!((good.charged.get(), inbox.ids().len()), (0, 1));
}

#[test]
fn hooks_of_the_secret_before_are_heard_until_they_are_registered_again() {
    let changed = config(&[
        ("KEAP_WEBHOOK_SECRET", "webhook-secret-of-tomorrow"),
        ("KEAP_WEBHOOK_SECRET_PREVIOUS", SECRET),
    ]);
    let over = config(&[("KEAP_WEBHOOK_SECRET", "webhook-secret-of-tomorrow")]);
    let account = AccountId::parse("demo").unwrap();
    let after = path_token(changed.webhook_secret.current(), &account);
    for (config, token, status) in [
        (&changed, &token("demo"), 200),
        (&changed, &after, 200),
        (&over, &token("demo"), 401),
        (&over, &after, 200),
    ] {
        let (mut request, inbox) = (FakeRequest::new(DELIVERY), FakeInbox::default());
        let answer = by_token(config, ("demo", token), &mut request, &inbox, NOW).now_or_never().unwrap();
        assert_eq!(answer.status, status);
    }
}

#[test]
fn a_signed_route_takes_no_handshake() {
    let with_default = config(&[("DEFAULT_ACCOUNT_ID", "demo")]);
    let mut request = FakeRequest::new("").with(HANDSHAKE_HEADER, "abc");
    let answer = post_signed(&with_default, &mut request, &FakeInbox::default());
    assert_eq!((answer.status, answer.header(HANDSHAKE_HEADER)), (401, None));
}

proptest! {
    #[test]
    fn nothing_but_the_token_opens_an_account(account in "[a-z0-9-]{1,12}", wrong in "[A-Za-z0-9_-]{0,50}") {
        prop_assume!(wrong != token(&account));
        let inbox = FakeInbox::default();
        let answer = post_by_token(&account, &wrong, &mut FakeRequest::new(DELIVERY), &inbox);
        prop_assert_eq!(answer.status, 401);
        prop_assert!(inbox.ids().is_empty());
    }

    #[test]
    fn ok_means_stored(
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..80),
            "\\{\"eventType\":\"contact\\.[a-z]{1,5}\",\"objectKeys\":\\[\"[0-9a]{1,3}\"\\]\\}".prop_map(String::into_bytes),
        ],
        fails in any::<bool>(),
    ) {
        let inbox = if fails { FakeInbox::failing(FailureClass::Unavailable) } else { FakeInbox::default() };
        let mut request = FakeRequest::new("");
        request.body = Ok(body);
        let answer = post_by_token("demo", &token("demo"), &mut request, &inbox);
        prop_assert_eq!(answer.status == 200, !inbox.ids().is_empty());
    }
}
