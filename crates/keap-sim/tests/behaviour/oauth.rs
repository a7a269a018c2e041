//! The approving page, codes, tokens, rotation, expiry and service keys.

use reqwest::Method;
use serde_json::{Value, json};

use crate::stage::{Answer, REDIRECT_URI, Stage, options};
use keapsync_keap_sim::Options;

async fn status_with(stage: &Stage, access_token: &str) -> u16 {
    let url = format!("{}/crm/rest/v2/contacts", stage.server.url());
    Answer::read(stage.http.get(url).bearer_auth(access_token)).await.status
}

#[tokio::test]
async fn tokens_have_keaps_form() {
    let stage = Stage::with(options(), "shop-1").await;
    assert_eq!(stage.tokens["token_type"], "bearer");
    assert_eq!(stage.tokens["expires_in"], 86_400);
    assert_eq!(stage.tokens["scope"], "full|shop-1.infusionsoft.com");
    let info = stage.get("/v2/oauth/connect/userinfo").await.json();
    assert_eq!(info["tenant_id"], "shop-1");
}

#[tokio::test]
async fn the_page_asks_first_and_escapes_everything() {
    let stage = Stage::empty().await;
    let query = [
        ("client_id", "demo-client"),
        ("redirect_uri", REDIRECT_URI),
        ("response_type", "code"),
        ("state", "\"><script>alert(1)</script>"),
    ];
    let url = format!("{}/app/oauth/authorize", stage.server.url());
    let page = Answer::read(stage.http.get(&url).query(&query)).await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("<button") && page.text.contains("<strong>demo</strong>"), "{}", page.text);
    assert!(page.text.contains("&lt;script&gt;") && !page.text.contains("<script>"), "{}", page.text);
    for change in [
        ("client_id", "other"),
        ("redirect_uri", "javascript:alert(1)"),
        ("response_type", "token"),
        ("scope", "half"),
        ("tenant", "No Such"),
    ] {
        let query: Vec<_> = query
            .iter()
            .copied()
            .filter(|(name, _)| *name != change.0)
            .chain([change, ("auto", "1")])
            .collect();
        let refused = Answer::read(stage.http.get(&url).query(&query)).await;
        assert_eq!(refused.status, 400, "{change:?}");
    }
}

#[tokio::test]
async fn a_code_works_once_and_for_its_redirect_only() {
    let stage = Stage::empty().await;
    let code = stage.approve("demo").await;
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", "http://127.0.0.1:1/other"),
    ];
    assert_eq!(stage.token(&form).await.status, 400);
    let code = stage.approve("demo").await;
    assert_eq!(stage.exchange(&code).await.status, 200);
    let again = stage.exchange(&code).await;
    assert_eq!((again.status, again.json()["error"].clone()), (400, json!("invalid_grant")));
}

#[tokio::test]
async fn the_client_proves_itself_by_header_or_body() {
    let stage = Stage::empty().await;
    let url = format!("{}/token", stage.server.url());
    let refresh_token = stage.tokens["refresh_token"].as_str().unwrap();
    let form = |secret| {
        [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token),
            ("client_id", "demo-client"),
            ("client_secret", secret),
        ]
    };
    let wrong = Answer::read(stage.http.post(&url).form(&form("guess"))).await;
    assert_eq!((wrong.status, wrong.json()["error"].clone()), (401, json!("invalid_client")));
    let wrong = Answer::read(
        stage.http.post(&url).basic_auth("demo-client", Some("guess")).form(&form("demo-secret")),
    )
    .await;
    assert_eq!(wrong.status, 401);
    let in_query = Answer::read(stage.http.post(&url).query(&form("demo-secret"))).await;
    assert!(in_query.status >= 400, "parameters in the address were taken");
    assert_eq!(Answer::read(stage.http.post(&url).form(&form("demo-secret"))).await.status, 200);
    let unknown = stage.token(&[("grant_type", "password")]).await;
    assert_eq!(unknown.json()["error"], "unsupported_grant_type");
}

#[tokio::test]
async fn a_refresh_ends_the_refresh_token_before_it() {
    let stage = Stage::empty().await;
    let old = stage.tokens["refresh_token"].as_str().unwrap();
    let renewed = stage.refresh(old).await;
    assert_eq!(renewed.status, 200, "{}", renewed.text);
    let again = stage.refresh(old).await;
    assert_eq!(again.status, 400);
    assert_eq!(
        again.json(),
        json!({ "error": "invalid_grant", "error_description": "Invalid refresh token" })
    );
    let next = renewed.json()["refresh_token"].as_str().unwrap().to_owned();
    assert_ne!(next, old);
    assert_eq!(stage.refresh(&next).await.status, 200);
    assert_eq!(status_with(&stage, renewed.json()["access_token"].as_str().unwrap()).await, 200);
    assert_eq!(stage.report().await["refreshes"], 2);
}

#[tokio::test]
async fn of_two_refreshes_at_once_one_wins() {
    let stage = Stage::empty().await;
    let token = stage.tokens["refresh_token"].as_str().unwrap();
    let (left, right) = tokio::join!(stage.refresh(token), stage.refresh(token));
    let mut statuses = [left.status, right.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400]);
}

#[tokio::test]
async fn an_access_token_expires_with_the_gateways_fault() {
    let stage = Stage::with(Options { access_token_ttl_s: 0, ..options() }, "demo").await;
    let answer = stage.get("/v2/contacts").await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.json()["fault"]["detail"]["errorcode"], "oauth.v2.InvalidAccessToken");
    assert_eq!(
        answer.header("x-keap-product-quota-limit"),
        "",
        "an unauthenticated answer has blank quota headers"
    );
    stage.sim(Method::POST, "/token-ttl", &json!({ "seconds": 600 })).await;
    assert_eq!(stage.get("/v2/contacts").await.status, 200, "the lifetime counts for tokens there are");
    let renewed = stage.refresh(stage.tokens["refresh_token"].as_str().unwrap()).await;
    assert_eq!(renewed.json()["expires_in"], 600);
    stage.sim(Method::POST, "/token-ttl", &json!({ "seconds": 0 })).await;
    assert_eq!(stage.get("/v2/contacts").await.status, 401);
    assert_eq!(status_with(&stage, "never-issued").await, 401);
}

#[tokio::test]
async fn a_revoked_tenant_has_nothing_left_and_others_keep_theirs() {
    let stage = Stage::with(options(), "one").await;
    let other = stage.exchange(&stage.approve("two").await).await.json();
    let key = stage.sim(Method::POST, "/service-keys", &Value::Null).await.json()["key"]
        .as_str()
        .unwrap()
        .to_owned();
    stage.sim(Method::POST, "/revoke", &json!({ "access_tokens_only": true })).await;
    assert_eq!(status_with(&stage, stage.access_token()).await, 401);
    assert_eq!(status_with(&stage, &key).await, 200);
    let renewed = stage.refresh(stage.tokens["refresh_token"].as_str().unwrap()).await.json();
    assert_eq!(status_with(&stage, renewed["access_token"].as_str().unwrap()).await, 200);
    stage.sim(Method::POST, "/revoke", &Value::Null).await;
    assert_eq!(status_with(&stage, renewed["access_token"].as_str().unwrap()).await, 401);
    assert_eq!(status_with(&stage, &key).await, 401);
    assert_eq!(stage.refresh(renewed["refresh_token"].as_str().unwrap()).await.status, 400);
    assert_eq!(stage.refresh(stage.tokens["refresh_token"].as_str().unwrap()).await.status, 400);
    assert_eq!(status_with(&stage, other["access_token"].as_str().unwrap()).await, 200);
}

#[tokio::test]
async fn a_service_key_works_in_both_headers() {
    let stage = Stage::empty().await;
    let key = stage.sim(Method::POST, "/service-keys", &Value::Null).await.json()["key"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(key.starts_with("KeapAK-"));
    assert_eq!(status_with(&stage, &key).await, 200);
    let url = format!("{}/crm/rest/v2/contacts", stage.server.url());
    let by_header = Answer::read(stage.http.get(&url).header("X-Keap-API-Key", &key)).await;
    assert_eq!(by_header.status, 200);
    assert_eq!(by_header.header("x-keap-product-throttle-limit"), "240");
    let token_as_key =
        Answer::read(stage.http.get(&url).header("X-Keap-API-Key", stage.access_token())).await;
    assert_eq!(token_as_key.status, 401);
}

#[tokio::test]
async fn tenants_see_nothing_of_each_other() {
    let stage = Stage::with(options(), "one").await;
    stage.create(&crate::stage::person("Ann")).await;
    let other = stage.exchange(&stage.approve("two").await).await.json();
    let url = format!("{}/crm/rest/v2/contacts", stage.server.url());
    let seen =
        Answer::read(stage.http.get(url).bearer_auth(other["access_token"].as_str().unwrap())).await.json();
    assert_eq!(seen["contacts"], json!([]));
}
