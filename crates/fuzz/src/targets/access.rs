//! What strangers send: deliveries, signatures, credentials, OAuth's addresses and cookies.

use super::{Target, text, texts};
use futures_util::FutureExt as _;
use keapsync_coordinator::oauth::browser::{cookie_of, page};
use keapsync_coordinator::oauth::state::{STATE_TTL_MS, State};
use keapsync_coordinator::seal;
use keapsync_domain::failure::Failure;
use keapsync_domain::hook::Delivery;
use keapsync_domain::ids::{AccountId, is_keap_id};
use keapsync_domain::limits::WEBHOOK_OBJECTS_MAX;
use keapsync_domain::secret::{Rotating, Secret};
use keapsync_domain::timestamp::Timestamp;
use keapsync_domain::wire::{EventsRequest, EventsResponse};
use keapsync_platform::access::{Caller, Tokens, Visit, caller};
use keapsync_platform::body::BodyError;
use keapsync_platform::config::{CoordinatorConfig, Lookup, WebhookConfig};
use keapsync_platform::hook_auth::{is_handshake_secret, path_token, verify_path_token, verify_signature};
use keapsync_platform::respond::Answer;
use keapsync_webhook::delivery::{Inbox, Incoming, by_token, signed};
use keapsync_webhook::route::Route;
use std::cell::Cell;

pub(super) const TARGETS: &[Target] = &[
    Target { name: "delivery", examples: deliveries, check: delivery },
    Target { name: "webhook-request", examples: webhook_requests, check: webhook_request },
    Target { name: "signature", examples: signatures, check: signature },
    Target { name: "credentials", examples: credentials, check: credential },
    Target { name: "oauth-state", examples: states, check: state },
    Target { name: "oauth-cookie", examples: cookies, check: cookie },
    Target { name: "sealed-secret", examples: sealed_secrets, check: sealed_secret },
    Target { name: "configuration", examples: configurations, check: configuration },
];

const SECRET: &str = "webhook-secret-0123456789";
const NOW: Timestamp = Timestamp(1_700_000_000_000);
const STATE_KEY: &[u8] = b"a key for states";
const SEAL_KEY: [u8; 32] = [7; 32];

fn deliveries() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"event_key":"contact.edit","object_type":"contact","object_keys":[{"id":12,"apiUrl":"https://x","timestamp":"2026-01-01T00:00:00Z"},{"id":"13"}]}"#,
        r#"{"eventType":"order.add","objectKeys":["12",13]}"#,
        r#"{"event_type":"subscription.edit","data":{"id":"12"}}"#,
        r#"{"event_key":"contactGroup.applied","object_keys":[{"id":5,"contact_details":[{"id":1},{"id":2}]}]}"#,
        r#"{"event_key":"contactGroup.removed","object_keys":[{"tagId":5,"applied":[1,2],"removed":["3"]}]}"#,
    ])
}

fn delivery(input: &[u8]) {
    if let Ok(delivery) = Delivery::parse(input) {
        assert!((1..=WEBHOOK_OBJECTS_MAX).contains(&delivery.object_ids.len()));
        assert!(delivery.object_ids.iter().chain(&delivery.contact_ids).all(|id| is_keap_id(id)));
        assert!(delivery.event_key.bytes().all(|byte| byte.is_ascii_graphic()));
        assert!(delivery.concerned().iter().all(|(_, id)| is_keap_id(id)));
    }
}

fn webhook_config() -> Option<WebhookConfig> {
    let read = |name: &str| match name {
        "KEAP_WEBHOOK_SECRET" => Some(SECRET.to_owned()),
        "INTERNAL_TOKEN" => Some("internal-token-0123456789".to_owned()),
        "LOG_LEVEL" => Some("error".to_owned()),
        _ => None,
    };
    WebhookConfig::read(&Lookup::new(&read)).ok()
}

fn demo() -> Option<AccountId> {
    AccountId::parse("demo").ok()
}

fn hook_token() -> String {
    demo().map(|account| path_token(&Secret::new(SECRET), &account)).unwrap_or_default()
}

/// A request by lines: method and path, headers, an empty line, the body.
fn webhook_requests() -> Vec<Vec<u8>> {
    let token = hook_token();
    let body = r#"{"event_key":"contact.edit","object_keys":[{"id":12}]}"#;
    texts(&[
        &format!("POST /webhook/demo/{token}\n\n{body}"),
        &format!("POST /webhook/demo/{token}\nX-Hook-Secret: temporary\n\n"),
        &format!(
            "POST /webhook\nX-Keap-Account: demo\nX-Hook-Signature: sha256={}\n\n{body}",
            "0".repeat(64)
        ),
        &format!("POST /\nX-Hook-Signature: {}\nX-Keap-Account: demo\n\n{body}", "A".repeat(44)),
        "GET /health\n\n",
    ])
}

struct Request<'a> {
    headers: Vec<(&'a str, &'a str)>,
    body: &'a [u8],
}

impl Incoming for Request<'_> {
    fn header(&self, name: &str) -> Option<String> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| (*value).to_owned())
    }

    fn admit(&mut self, _: bool) -> bool {
        true
    }

    fn refused_of_late(&self) -> Option<u64> {
        None
    }

    fn stored(&self) {}

    fn charge_wrong_credential(&self) -> Result<(), Answer> {
        Ok(())
    }

    async fn body(&mut self) -> Result<Vec<u8>, BodyError> {
        Ok(self.body.to_vec())
    }
}

#[derive(Default)]
struct Kept(Cell<Option<bool>>);

impl Inbox for Kept {
    async fn push(&self, account: &AccountId, _: &EventsRequest) -> Result<EventsResponse, Failure> {
        self.0.set(Some(account.as_str() == "demo"));
        Ok(EventsResponse { queued: 1, coalesced: 0, not_synced: 0, trace: None })
    }
}

fn webhook_request(input: &[u8]) {
    let Some(config) = webhook_config() else { return };
    let shown = text(input);
    let (head, body) = shown.split_once("\n\n").unwrap_or((shown.as_ref(), ""));
    let mut lines = head.lines();
    let (method, path) = lines.next().and_then(|line| line.split_once(' ')).unwrap_or_default();
    let headers = lines.filter_map(|line| line.split_once(": ")).collect();
    let mut request = Request { headers, body: body.as_bytes() };
    let inbox = Kept::default();
    let answer = match Route::of(method, path) {
        Route::ByToken { account, token } => {
            by_token(&config, (account, token), &mut request, &inbox, NOW).now_or_never()
        }
        Route::Signed => signed(&config, &mut request, &inbox, NOW).now_or_never(),
        Route::Health | Route::OtherMethod(_) | Route::Unknown => None,
    };
    // Only the account whose token is in the path is ever reached: no signature here is a right one.
    assert_ne!(inbox.0.get(), Some(false));
    if let Some(answer) = answer {
        assert!([200, 400, 401].contains(&answer.status), "{}", answer.status);
        assert_eq!(
            inbox.0.get().is_some(),
            answer.status == 200 && request.header("x-hook-secret").is_none()
        );
        assert!(
            answer
                .headers
                .iter()
                .all(|(_, value)| value.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_control()))
        );
    }
}

fn signatures() -> Vec<Vec<u8>> {
    let hex = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    let base64 = "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=";
    texts(&[
        hex,
        &format!("sha256={hex}"),
        base64,
        &format!(" sha256={base64} "),
        base64.trim_end_matches('='),
        &hook_token(),
    ])
}

fn signature(input: &[u8]) {
    let given = text(input);
    let secret = Rotating::new(Secret::new("Jefe"), Some(Secret::new("the one before")));
    let _ = is_handshake_secret(&given);
    if verify_signature(&secret, &given, b"what do ya want for nothing?") {
        let bare = given.trim();
        let bare = bare.strip_prefix("sha256=").unwrap_or(bare);
        let is_ours = |example: &[u8]| text(example).trim().ends_with(bare);
        assert!(
            bare.eq_ignore_ascii_case(&text(&signatures().swap_remove(0)))
                || signatures().iter().any(|example| is_ours(example))
        );
    }
    assert!(!verify_signature(&secret, &given, b"another body"));
    if let Some(account) = demo() {
        let hooks = Rotating::new(Secret::new(SECRET), None);
        assert_eq!(verify_path_token(&hooks, &account, &given), given == hook_token());
    }
}

fn credentials() -> Vec<Vec<u8>> {
    texts(&[
        "Bearer an-admin-token-of-length",
        "bearer  an-admin-token-of-length ",
        "an-internal-token-of-length",
        "a-wake-token-of-length",
        "203.0.113.7",
        "2001:db8::1",
    ])
}

fn credential(input: &[u8]) {
    let given = text(input);
    let admin = Rotating::new(Secret::new("an-admin-token-of-length"), None);
    let internal = Rotating::new(Secret::new("an-internal-token-of-length"), None);
    let wake = Rotating::new(Secret::new("a-wake-token-of-length"), None);
    let tokens = Tokens { admin: &admin, internal: &internal, wake: Some(&wake) };
    let as_header = |wanted: &'static str| {
        let given = given.clone();
        move |name: &str| (name == wanted).then(|| given.clone().into_owned())
    };
    let by_bearer = caller(as_header("authorization"), tokens);
    assert_eq!(
        by_bearer.is_worker_or_admin(),
        given.split_once(' ').is_some_and(|(scheme, token)| {
            scheme.eq_ignore_ascii_case("bearer") && token.trim() == "an-admin-token-of-length"
        })
    );
    let by_internal = caller(as_header("x-internal-token"), tokens);
    assert_eq!(by_internal == Caller::Worker, given == "an-internal-token-of-length");
    let by_wake = caller(as_header("x-wake-token"), tokens);
    assert_eq!(by_wake == Caller::Waker, given == "a-wake-token-of-length");
    assert!(!by_wake.is_worker_or_admin());
    let visit = Visit::new("POST", &given, as_header("CF-Connecting-IP"), tokens);
    let entry = visit.browser_entry("sync", None, 200, NOW);
    for shown in [Some(&entry.action), entry.address.as_ref()].into_iter().flatten() {
        assert!(shown.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{shown}");
    }
}

fn good_state() -> Option<State> {
    Some(State { account: demo()?, nonce: "0123abcd".to_owned(), expires_at: NOW.plus_ms(STATE_TTL_MS) })
}

fn states() -> Vec<Vec<u8>> {
    let signed = good_state().map(|state| state.sign(STATE_KEY)).unwrap_or_default();
    vec![signed.into_bytes(), b"demo~0123abcd~1700000600000~c2lnbmF0dXJl".to_vec()]
}

fn state(input: &[u8]) {
    let given = text(input);
    if let Ok(state) = State::verify_any(&[b"another".to_vec(), STATE_KEY.to_vec()], &given, NOW) {
        assert_eq!(Some(state.clone()), good_state());
        assert_eq!(state.sign(STATE_KEY), given);
    }
}

fn cookies() -> Vec<Vec<u8>> {
    texts(&["a=b; keapsync_oauth=s3; c=d", "__Host-keapsync_oauth=0123", "keapsync_oauth=", "; ;=;"])
}

fn cookie(input: &[u8]) {
    let given = text(input);
    for is_https in [false, true] {
        if let Some(value) = cookie_of(&given, is_https) {
            assert!(!value.contains(';'));
        }
    }
    let shown = page(&given, &given);
    assert_eq!(shown.matches('<').count(), page("", "").matches('<').count());
}

fn sealed_secrets() -> Vec<Vec<u8>> {
    let sealed =
        demo().and_then(|account| seal::seal(&SEAL_KEY, &account, [9; seal::NONCE_BYTES], "a token").ok());
    vec![sealed.unwrap_or_default().into_bytes(), b"v1.0a0b0c0d.AAAAAAAAAAAAAAAA.AAAA".to_vec()]
}

fn sealed_secret(input: &[u8]) {
    let Some(account) = demo() else { return };
    if let Ok(plain) = seal::open(&[&[1; 32], &SEAL_KEY], &account, &text(input)) {
        assert_eq!(plain, "a token");
    }
}

/// Variables by lines.
fn configurations() -> Vec<Vec<u8>> {
    texts(&["ADMIN_API_TOKEN=admin-token-0123456789\nADMIN_API_TOKEN_PREVIOUS=admin-before-0123456789\n\
        INTERNAL_TOKEN=internal-token-0123456789\nWAKE_TOKEN=wake-token-0123456789\nKEAP_WEBHOOK_SECRET=webhook-secret-0123456789\nKEAP_CLIENT_ID=client\n\
        KEAP_CLIENT_SECRET=hush\nKEAP_REDIRECT_URI=https://sync.example.com/oauth/callback\n\
        WEBHOOK_PUBLIC_URL=https://hooks.example.com/\nTOKEN_ENCRYPTION_KEY=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n\
        ALLOWED_ORIGIN=https://app.example.com\nLOG_LEVEL=warn\nKEAP_CALLS_PER_SECOND=20\nOUTBOX_POLL_INTERVAL_MAX_MS=1000"])
}

fn configuration(input: &[u8]) {
    let shown = text(input);
    let read = |name: &str| {
        let value = shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.map(str::to_owned)
    };
    match CoordinatorConfig::read(&Lookup::new(&read)) {
        Ok(config) => {
            assert!(config.keap_api_base_url.starts_with("http") && config.call_limits.per_second > 0);
        }
        // The error names the setting, never its value.
        Err(error) => assert!(!error.to_string().contains("0123456789"), "{error}"),
    }
}
