//! What is refused at the door, and how it is said.

use anyhow::{Result, ensure};
use keapsync_e2e::account::Account;
use keapsync_e2e::stage::{Stage, read};
use keapsync_xtask::send_hook;
use reqwest::Method;
use serde_json::json;

pub async fn deliveries_are_checked(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "door").await?;
    let post = |url: &str, body: &str| stage.http.post(url).body(body.to_owned());
    let url = account.hook_url();
    let good = r#"{"event_key":"contact.edit","object_keys":[{"id":1}]}"#;

    let handshake = read(post(&url, "").header("x-hook-secret", "temporary")).await?;
    ensure!(handshake.status == 200, "{}", handshake.status);
    ensure!(
        handshake.headers.get("x-hook-secret").is_some_and(|value| value == "temporary"),
        "the secret is echoed"
    );
    ensure!(read(post(&url, good)).await?.text == "OK");

    let stranger = url.rsplit_once('/').map(|(front, _)| format!("{front}/AAAA")).unwrap_or_default();
    ensure!(read(post(&stranger, good)).await?.status == 401, "a wrong token");
    let stranger = read(post(&stranger, "").header("x-hook-secret", "temporary")).await?;
    ensure!(
        stranger.status == 401 && stranger.headers.get("x-hook-secret").is_none(),
        "a handshake with a wrong token"
    );

    for (body, what) in [
        ("", "nothing"),
        ("{", "half an object"),
        ("[]", "a list"),
        ("{\"event_key\":\"contact.edit\"}", "no objects"),
        ("{\"event_key\":\"contact.edit\",\"object_keys\":[{\"id\":\"seven\"}]}", "an id that is no number"),
        ("{\"event_key\":7,\"object_keys\":[1]}", "an event of the wrong type"),
    ] {
        let answer = read(post(&url, body)).await?;
        ensure!(answer.status == 400, "{what} was answered with {}", answer.status);
        ensure!(answer.json()["error"]["message"].is_string(), "{}", answer.text);
    }
    let large = format!("{{\"event_key\":\"contact.edit\",\"object_keys\":[{}1]}}", "1,".repeat(1_000_000));
    ensure!(read(post(&url, &large)).await?.status == 413, "2 MB");
    ensure!(stage.anonymous(Method::GET, &url).await?.status == 405);

    // The signed routes, for proxies and tests.
    let signed = format!("{}/webhook", stage.access.webhook);
    let signature = send_hook::signature(&stage.access.webhook_secret, good.as_bytes());
    let send = |signature: &str| {
        read(
            post(&signed, good).header("x-hook-signature", signature).header("x-keap-account", &account.name),
        )
    };
    for form in [signature.clone(), format!("sha256={signature}")] {
        ensure!(send(&form).await?.status == 200, "a good signature");
    }
    let altered = signature.replace(&signature[..1], if signature.starts_with('0') { "1" } else { "0" });
    for bad in ["", "sha256=", "zz", &altered, &signature[..32]] {
        ensure!(send(bad).await?.status == 401, "the signature {bad:?} was taken");
    }
    ensure!(read(post(&signed, good)).await?.status == 401, "no signature");
    let status = account.status().await?;
    ensure!(status["events"].is_object(), "{status}");
    Ok(())
}

pub async fn unknown_accounts_and_paths_are_refused(stage: &Stage) -> Result<()> {
    let access = &stage.access;
    let nobody = Account {
        stage,
        name: "nobody".to_owned(),
        keap: keapsync_e2e::keap::Tenant::new(stage.http.clone(), &access.keap, "nobody"),
        mirror: keapsync_e2e::database::Mirror {
            client: keapsync_e2e::database::connect(&access.database).await?,
            account: "nobody".to_owned(),
        },
    };
    ensure!(
        nobody.deliver("contact.edit", &["1"]).await?.status == 404,
        "a delivery for an account that does not exist"
    );
    for (method, url, body, status) in [
        (Method::GET, nobody.route("status"), None, 404),
        (Method::POST, format!("{}/sync/full?account=nobody", access.sync), None, 404),
        (Method::POST, format!("{}/sync/full?account=No%20Body", access.sync), None, 400),
        (Method::POST, format!("{}/sync/orders?account=nobody", access.sync), None, 404),
        (Method::POST, format!("{}/sync/contacts?account=nobody&direction=up", access.sync), None, 400),
        (Method::GET, format!("{}/sync/full", access.sync), None, 405),
        (Method::GET, format!("{}/coordinator/UPPER/status", access.coordinator), None, 404),
        (
            Method::POST,
            format!("{}/oauth/initiate", access.coordinator),
            Some(json!({"keap_account_id": "a/b"})),
            400,
        ),
        (Method::POST, format!("{}/oauth/initiate", access.coordinator), Some(json!([1])), 400),
        (Method::GET, format!("{}/nothing", access.webhook), None, 404),
    ] {
        let answer = stage.admin(method.clone(), &url, body.as_ref()).await?;
        ensure!(
            answer.status.as_u16() == status,
            "{method} {url} answered {} {}",
            answer.status,
            answer.text
        );
        ensure!(answer.json()["error"]["message"].is_string(), "{method} {url}: {}", answer.text);
    }
    Ok(())
}
