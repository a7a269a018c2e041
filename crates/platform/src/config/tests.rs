use super::*;
use keapsync_domain::secret::Generation;
use std::collections::HashMap;

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn complete() -> HashMap<&'static str, &'static str> {
    HashMap::from([
        ("ADMIN_API_TOKEN", "admin-token-0123456789"),
        ("INTERNAL_TOKEN", "internal-token-0123456789"),
        ("WAKE_TOKEN", "wake-token-0123456789"),
        ("KEAP_WEBHOOK_SECRET", "webhook-secret-0123456789"),
        ("KEAP_CLIENT_ID", "client"),
        ("KEAP_CLIENT_SECRET", "hush"),
        ("KEAP_REDIRECT_URI", "https://sync.example.com/oauth/callback"),
        ("WEBHOOK_PUBLIC_URL", "https://hooks.example.com/"),
        ("TOKEN_ENCRYPTION_KEY", KEY),
    ])
}

fn coordinator(variables: &HashMap<&str, &str>) -> Result<CoordinatorConfig, ConfigError> {
    CoordinatorConfig::read(&Lookup::new(&|name| variables.get(name).map(|text| (*text).to_owned())))
}

fn webhook(variables: &HashMap<&str, &str>) -> Result<WebhookConfig, ConfigError> {
    WebhookConfig::read(&Lookup::new(&|name| variables.get(name).map(|text| (*text).to_owned())))
}

#[test]
fn fills_in_keaps_addresses_and_limits() {
    let config = coordinator(&complete()).unwrap();
    assert_eq!(config.keap_api_base_url, KEAP_API_BASE_URL_DEFAULT);
    assert_eq!(config.application.authorize_url, KEAP_AUTHORIZE_URL_DEFAULT);
    assert_eq!(config.application.token_url, KEAP_TOKEN_URL_DEFAULT);
    assert_eq!(config.webhook_public_url, "https://hooks.example.com");
    assert_eq!(config.call_limits, CallLimits { per_second: 20, per_minute: 1_400, per_day: 140_000 });
    assert_eq!(config.outbox_poll_interval_max_ms, 30_000);
    assert_eq!(config.encryption_key.bytes(), b"0123456789abcdef0123456789abcdef");
    assert!(config.encryption_key_previous.is_none() && config.common.allowed_origin.is_none());
}

#[test]
fn takes_what_is_configured() {
    let mut variables = complete();
    variables.extend([
        ("KEAP_API_BASE_URL", "http://127.0.0.1:8900/crm/"),
        ("KEAP_TOKEN_URL", "http://localhost:8900/token"),
        ("KEAP_CALLS_PER_SECOND", " 5 "),
        ("OUTBOX_POLL_INTERVAL_MAX_MS", "1000"),
        ("TOKEN_ENCRYPTION_KEY_PREVIOUS", KEY),
        ("ALLOWED_ORIGIN", "https://app.example.com"),
        ("DEFAULT_ACCOUNT_ID", "demo"),
        ("LOG_LEVEL", "warn"),
    ]);
    let config = coordinator(&variables).unwrap();
    assert_eq!(config.keap_api_base_url, "http://127.0.0.1:8900/crm");
    assert_eq!(config.application.token_url, "http://localhost:8900/token");
    assert_eq!((config.call_limits.per_second, config.outbox_poll_interval_max_ms), (5, 1_000));
    assert_eq!(config.encryption_key_previous.unwrap().bytes(), config.encryption_key.bytes());
    assert_eq!(config.common.allowed_origin.as_deref(), Some("https://app.example.com"));
    assert_eq!(webhook(&variables).unwrap().default_account.unwrap().as_str(), "demo");
    let sync =
        SyncConfig::read(&Lookup::new(&|name| variables.get(name).map(|text| (*text).to_owned()))).unwrap();
    assert_eq!(sync.keap_api_base_url, "http://127.0.0.1:8900/crm");
}

#[test]
fn names_what_is_missing() {
    for name in complete().into_keys() {
        for gone in [None, Some(""), Some("  ")] {
            let mut variables = complete();
            variables.remove(name);
            variables.extend(gone.map(|text| (name, text)));
            let error = coordinator(&variables).unwrap_err();
            assert_eq!(error.name, name);
            assert!(error.to_string().contains(&format!("wrangler secret put {name}")), "{error}");
        }
    }
}

#[test]
fn names_what_is_wrong_without_repeating_it() {
    for (name, wrong) in [
        ("ADMIN_API_TOKEN", "too-short-value"),
        ("ADMIN_API_TOKEN_PREVIOUS", "too-short-value"),
        ("INTERNAL_TOKEN", "wrong because of spaces"),
        ("INTERNAL_TOKEN_PREVIOUS", "wrong because of spaces"),
        ("WAKE_TOKEN", "too-short-value"),
        ("KEAP_WEBHOOK_SECRET", "wröng-0123456789-wrong"),
        ("KEAP_REDIRECT_URI", "/oauth/wrong"),
        ("KEAP_API_BASE_URL", "http://wrong.example.com"),
        ("KEAP_API_BASE_URL", "ftp://wrong.example.com"),
        ("KEAP_API_BASE_URL", "https://api.wröng.example.com"),
        ("KEAP_API_BASE_URL", "https://API.wr\u{43e}ng.com"),
        ("KEAP_TOKEN_URL", "https://user:wrong@example.com"),
        ("WEBHOOK_PUBLIC_URL", "https://example.com#wrong"),
        ("TOKEN_ENCRYPTION_KEY", "d3Jvbmc="),
        ("TOKEN_ENCRYPTION_KEY_PREVIOUS", "wrong"),
        ("KEAP_CALLS_PER_MINUTE", "0"),
        ("KEAP_CALLS_PER_DAY", "wrong"),
        ("OUTBOX_POLL_INTERVAL_MAX_MS", "-5"),
        ("ALLOWED_ORIGIN", "https://wrong.example.com/path"),
        ("ALLOWED_ORIGIN", "*"),
        ("LOG_LEVEL", "wrong"),
    ] {
        let mut variables = complete();
        variables.insert(name, wrong);
        let error = coordinator(&variables).unwrap_err();
        assert_eq!(error.name, name);
        assert!(!error.to_string().contains("wrong.") && !error.to_string().contains(wrong), "{error}");
    }
    let mut variables = complete();
    variables.insert("DEFAULT_ACCOUNT_ID", "Not An Account");
    assert_eq!(webhook(&variables).unwrap_err().name, "DEFAULT_ACCOUNT_ID");
}

#[test]
fn the_secret_before_counts_while_it_is_set() {
    let mut variables = complete();
    assert!(coordinator(&variables).unwrap().admin_token.previous().is_none());
    variables.extend([
        ("ADMIN_API_TOKEN_PREVIOUS", "admin-before-0123456789"),
        ("INTERNAL_TOKEN_PREVIOUS", "internal-before-0123456789"),
        ("KEAP_WEBHOOK_SECRET_PREVIOUS", "webhook-before-0123456789"),
        ("WAKE_TOKEN_PREVIOUS", "wake-before-0123456789"),
    ]);
    let config = coordinator(&variables).unwrap();
    assert_eq!(config.admin_token.which("admin-before-0123456789"), Some(Generation::Previous));
    assert_eq!(config.admin_token.which("admin-token-0123456789"), Some(Generation::Current));
    assert_eq!(config.wake_token.which("wake-before-0123456789"), Some(Generation::Previous));
    assert!(
        config.common.internal_token.previous().is_some_and(|token| token.is("internal-before-0123456789"))
    );
    assert!(webhook(&variables).unwrap().webhook_secret.which("webhook-before-0123456789").is_some());
}

#[test]
fn debug_output_hides_every_secret() {
    let shown = format!("{:?}", coordinator(&complete()).unwrap());
    for secret in ["admin-token", "internal-token", "webhook-secret", "hush", KEY, "0123456789abcdef"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
