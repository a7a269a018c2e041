//! What Keap answers: pages and records of the four kinds, tokens, hooks, refusals, quota headers; and what another server might
//! answer in its place.

use super::{Target, text, texts};
use futures_util::FutureExt as _;
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::{EntityType, is_keap_id};
use keapsync_domain::run::Cursor;
use keapsync_domain::secret::Secret;
use keapsync_domain::timestamp::Timestamp;
use keapsync_domain::wire::{LinkField, LinkFields};
use keapsync_keap::caller::Caller;
use keapsync_keap::failure::failure_of;
use keapsync_keap::hooks::HooksApi;
use keapsync_keap::oauth::parse_token;
use keapsync_keap::products::{list_plans, list_products};
use keapsync_keap::quota::reading;
use keapsync_keap::records::{Links, RecordsApi};
use keapsync_keap::transport::{Request, Response, Transport};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "keap-contacts",
        examples: contacts,
        check: |input| check_records(EntityType::Contact, input),
    },
    Target { name: "keap-orders", examples: orders, check: |input| check_records(EntityType::Order, input) },
    Target { name: "keap-tags", examples: tags, check: |input| check_records(EntityType::Tag, input) },
    Target {
        name: "keap-subscriptions",
        examples: subscriptions,
        check: |input| check_records(EntityType::Subscription, input),
    },
    Target { name: "keap-token", examples: tokens, check: token },
    Target { name: "keap-hooks", examples: hooks, check: check_hooks },
    Target { name: "keap-products", examples: products, check: check_products },
    Target { name: "keap-refusal", examples: refusals, check: refusal },
    Target { name: "keap-quota-headers", examples: quota_headers, check: quota_header },
];

/// Longest message that a refusal becomes: Keap's part is cut.
const MESSAGE_LENGTH_MAX: usize = 600;

/// Answers everything with one body.
struct Always<'a>(u16, &'a [u8]);

impl Transport for Always<'_> {
    async fn send(&self, _: Request) -> Result<Response, Failure> {
        Ok(Response { status: self.0, headers: Vec::new(), body: self.1.to_vec() })
    }
}

fn caller<'a>(transport: &'a Always<'a>, token: &'a Secret) -> Caller<'a, Always<'a>> {
    Caller { transport, base_url: "https://keap.example/crm", access_token: token }
}

fn contacts() -> Vec<Vec<u8>> {
    let contact = r#"{"id":"12","given_name":"Zoë","family_name":"O’Neil","company":{"id":"3","company_name":"Acme"},
        "email_addresses":[{"email":"z@acme.io","field":"EMAIL1","is_opt_in":true,"email_opt_status":"CONFIRMED"},{"email":"q@home.io","field":"EMAIL2"}],
        "phone_numbers":[{"number":"(480) 555-0100","field":"PHONE1","type":"Work","number_e164":"+14805550100"}],
        "addresses":[{"field":"BILLING","line1":"1 Main St","country_code":"USA","region_code":"US-AZ"}],
        "custom_fields":[{"id":"5","content":["a","b"]},{"id":"77","content":"0b8f7a1c-3f52-4d1e-9a53-1c2d3e4f5a6b"}],
        "tag_ids":["9","10"],"birth_date":"1985-03-15","owner_id":"1","score_value":"85",
        "create_time":"2024-01-10T08:00:00Z","update_time":"2024-03-15T10:30:00.250Z"}"#;
    texts(&[
        contact,
        &format!(r#"{{"contacts":[{contact},{{"id":13}}],"next_page_token":"abc"}}"#),
        r#"{"contacts":[]}"#,
    ])
}

fn orders() -> Vec<Vec<u8>> {
    let order = r#"{"id":"900","title":"Spring order","status":"PAID","order_type":"ONLINE","contact":{"id":"12"},
        "creation_time":"2024-05-21T14:30:00Z","modification_time":"2024-05-22T08:00:00.500Z",
        "total":{"amount":5998,"currency_code":"USD","formatted_amount":"$59.98"},
        "order_items":[{"id":"456","name":"Tea","quantity":2,"item_type":"PRODUCT","price_per_unit":{"amount":2999,"currency_code":"USD"},
          "product":{"id":"3","name":"Tea"}},{"id":"99","quantity":1,"item_type":"DISCOUNT","special":{"amount":10.5}}],
        "shipping_information":{"id":"55","company":"Acme","address":{"line1":"1 Main St","country_code":"USA"}},
        "custom_fields":[{"id":"5","content":"a"}]}"#;
    texts(&[order, &format!(r#"{{"orders":[{order}],"next_page_token":""}}"#)])
}

fn tags() -> Vec<Vec<u8>> {
    let tag = r#"{"id":"9","name":"Gold","description":"d","category":{"id":"4","name":"Level"},"create_time":"2024-01-10T08:00:00Z","update_time":null}"#;
    texts(&[tag, &format!(r#"{{"tags":[{tag},{tag}],"next_page_token":"abc"}}"#)])
}

fn subscriptions() -> Vec<Vec<u8>> {
    let subscription = r#"{"id":"8","contact_id":"12","active":true,"auto_charge":false,"billing_amount":9.5,"billing_cycle":"MONTH",
        "frequency":1,"subscription_plan_id":"4","product_id":"3","start_date":"2024-01-01","next_bill_date":"2024-02-01","end_date":null,
        "payment_gateway_id":"2","quantity":1,"sale_affiliate_id":"0","modification_time":"2024-03-15T10:30:00.250Z"}"#;
    texts(&[subscription, &format!(r#"{{"subscriptions":[{subscription}],"next_page_token":null}}"#)])
}

fn check_records(entity: EntityType, input: &[u8]) {
    let token = Secret::new("t");
    let transport = Always(200, input);
    let field = |id: &str| Some(LinkField { id: id.to_owned(), field_name: "_KeapsyncRowId".to_owned() });
    let links = LinkFields { contact: field("77"), order: field("78") };
    let api = RecordsApi::new(caller(&transport, &token), Links::of(&links));
    if let Some(Ok(page)) = api.list_after(entity, &Cursor::default(), Timestamp(7)).now_or_never() {
        assert!(page.ids().all(is_keap_id));
        assert!(page.records.len() + page.rejected.len() <= page.length);
        assert!(page.records.iter().all(|record| record.record.entity() == entity));
    }
    if let Some(Ok(Some(record))) = api.get(entity, "12", Timestamp(7)).now_or_never() {
        assert!(is_keap_id(&record.keap_id));
        assert!(!format!("{:?}", record.record).contains('\0'));
    }
}

fn tokens() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"access_token":"secret-access","refresh_token":"secret-refresh","token_type":"bearer","expires_in":86400,"scope":"full|app.infusionsoft.com"}"#,
        r#"{"error":"invalid_grant","error_description":"Invalid refresh token"}"#,
    ])
}

fn token(input: &[u8]) {
    for status in [200, 400, 503] {
        match parse_token(&Response { status, headers: Vec::new(), body: input.to_vec() }) {
            Ok(token) => {
                assert!(!format!("{:?}", (&token.access_token, &token.refresh_token)).contains("secret-"));
            }
            Err(failure) => assert!(
                failure.message.len() <= MESSAGE_LENGTH_MAX
                    && (status != 200 || !failure.message.contains("secret-"))
            ),
        }
    }
}

fn hooks() -> Vec<Vec<u8>> {
    let hook =
        r#"{"key":"55","eventKey":"contact.edit","hookUrl":"https://h/webhook/demo/t","status":"Verified"}"#;
    texts(&[hook, &format!("[{hook},{hook}]"), r#"["contact.add","contact.edit"]"#])
}

fn check_hooks(input: &[u8]) {
    let token = Secret::new("t");
    let transport = Always(200, input);
    let api = HooksApi { transport: &transport, base_url: "https://keap.example/crm", access_token: &token };
    let _ = (api.list().now_or_never(), api.event_keys().now_or_never(), api.verify("55").now_or_never());
}

fn products() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"products":[{"id":"1","name":"Box","price":{"amount":5,"currency_code":"EUR"},"subscription_plans":[{"id":"7","plan_price":{"amount":5,"currency_code":"USD"}}]}]}"#,
        r#"{"subscriptions":[{"id":"7","name":"Monthly","plan_price":{"amount":5,"currency_code":"USD"}}]}"#,
    ])
}

fn check_products(input: &[u8]) {
    let token = Secret::new("t");
    let transport = Always(200, input);
    let caller = caller(&transport, &token);
    if let Some(Ok(products)) = list_products(&caller, &["1".to_owned()]).now_or_never() {
        let _ = products.first().and_then(|product| product.currency("7"));
    }
    let _ = list_plans(&caller, "1").now_or_never();
}

fn refusals() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"code":404,"message":"gone","status":"NOT_FOUND","details":[{"domain":"x"}]}"#,
        r#"{"code":"429","message":"Quota Exceeded","status":"Request Throttled","details":null}"#,
        r#"{"fault":{"faultstring":"Invalid access token","detail":{"errorcode":"oauth.v2.InvalidAccessToken"}}}"#,
        r#"{"message":"Input could not be converted to a valid request"}"#,
        "<html>502 Bad Gateway</html>",
    ])
}

fn refusal(input: &[u8]) {
    for status in [400, 401, 404, 409, 429, 500, 302] {
        let headers = vec![("retry-after".to_owned(), text(input).into_owned())];
        let failure = failure_of(&Response { status, headers, body: input.to_vec() }, "a test");
        assert!(failure.message.chars().count() <= MESSAGE_LENGTH_MAX);
        assert!(!failure.message.chars().any(char::is_control));
        assert!(failure.retry_after_ms.is_none_or(|wait_ms| (0..=3_600_000).contains(&wait_ms)));
    }
}

fn quota_headers() -> Vec<Vec<u8>> {
    texts(&["149000", " 9|8 ", "", "24|1499|abc", "2026-01-01T00:00:00Z", "1700000000000", "-5"])
}

fn quota_header(input: &[u8]) {
    let value = text(input);
    let names = [
        "x-keap-product-quota-available",
        "x-keap-product-throttle-available",
        "x-keap-product-quota-limit",
        "x-keap-product-quota-time-unit",
        "x-keap-product-quota-interval",
        "x-keap-product-quota-expiry-time",
        "x-keap-product-throttle-limit",
        "x-keap-tenant-throttle-available",
        "x-keap-tenant-id",
        "retry-after",
    ];
    let headers = names.map(|name| (name.to_owned(), value.clone().into_owned())).to_vec();
    let _ = reading(&Response { status: 200, headers, body: Vec::new() });
}
