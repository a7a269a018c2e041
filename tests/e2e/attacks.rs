//! What an attacker tries at the door of the deliveries and of the API: forged signatures, smuggled accounts, bodies that are too
//! much, lines for the log, addresses to be called.

use anyhow::{Context as _, Result, ensure};
use keapsync_e2e::account::Account;
use keapsync_e2e::raw::{head, send, send_until_answered};
use keapsync_e2e::stage::{Stage, read};
use keapsync_e2e::wait::until;
use keapsync_xtask::send_hook;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Of another kind than those that are synced: counted by the account, and calling nothing at Keap.
const EVENT: &str = "task.add";

fn delivery(id: u64) -> String {
    json!({"event_key": EVENT, "object_keys": [{"id": id}]}).to_string()
}

fn signature(stage: &Stage, body: &str) -> String {
    send_hook::signature(&stage.access.webhook_secret, body.as_bytes())
}

/// How many events of the kind an account has counted.
async fn counted(account: &Account<'_>) -> Result<u64> {
    let status = account.status().await?;
    Ok(status.pointer(&format!("/events/not_synced/{EVENT}")).and_then(Value::as_u64).unwrap_or(0))
}

pub async fn signatures_are_worth_one_body(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "signed").await?;
    let url = format!("{}/webhook", stage.access.webhook);
    let (body, other) = (delivery(1), delivery(2));
    let good = signature(stage, &body);
    let post = async |signature: &str, body: &str| {
        let request = stage.http.post(&url).header("x-keap-account", &account.name);
        Ok::<_, anyhow::Error>(
            read(request.header("x-hook-signature", signature).body(body.to_owned())).await?.status.as_u16(),
        )
    };
    ensure!(post(&good, &body).await? == 200, "the good one");
    let by_another_key = send_hook::signature("another secret of good length", body.as_bytes());
    let of_the_path = signature(stage, &account.name);
    for (forged, what) in [
        (by_another_key.as_str(), "by another key"),
        (of_the_path.as_str(), "of the account's name"),
        (&good[..62], "truncated by a byte"),
        (&good[..1], "one digit"),
        (&format!("{good}00"), "lengthened"),
        (&good.replace('0', "O"), "with letters for digits"),
        (&format!("sha1={good}"), "of another algorithm"),
        (&format!("sha256=sha256={good}"), "twice prefixed"),
        (&format!("{good}, {good}"), "twice in one header"),
        (&"0".repeat(64), "of zeros"),
    ] {
        ensure!(post(forged, &body).await? == 401, "a signature {what} was taken");
    }
    // Taken from one body and put to another, or to the same with a byte more.
    ensure!(post(&good, &other).await? == 401, "a signature of another body");
    ensure!(post(&good, &format!("{body} ")).await? == 401, "a signature of less than the body");
    // The same delivery again is one that Keap repeats: it is taken, and a record is fetched once more at most.
    ensure!(post(&good, &body).await? == 200, "a repeated delivery");
    ensure!(counted(&account).await? == 2, "only what was signed is counted");
    Ok(())
}

pub async fn no_header_moves_a_delivery_to_another_account(stage: &Stage) -> Result<()> {
    let mine = Account::connect(stage, "mine").await?;
    let theirs = Account::connect(stage, "theirs").await?;
    let body = delivery(3);
    let request = stage.http.post(mine.hook_url()).header("x-keap-account", &theirs.name);
    ensure!(read(request.body(body.clone())).await?.status == 200, "the token path decides");
    ensure!((counted(&mine).await?, counted(&theirs).await?) == (1, 0), "the header moved the delivery");

    let path = mine.hook_url().replace(&stage.access.webhook, "");
    let token = path.rsplit('/').next().unwrap_or_default().to_owned();
    let (me, them) = (mine.name.as_str(), theirs.name.as_str());
    let length = body.len().to_string();
    for line in [
        format!("POST /webhook/{them}/{token}"),
        format!("POST /webhook/{them}/../{me}/../{them}/{token}"),
        format!("POST /webhook/{me}%2F..%2F{them}/{token}"),
        format!("POST /webhook/{me}/{token}/../../{them}/{token}"),
        format!("POST /webhook/{me}/%2e%2e/{them}/{token}"),
        format!("POST /webhook//{me}/{token}"),
        format!("POST /webhook/{me}//{token}"),
        format!("POST /webhook/{}/{token}", me.to_uppercase()),
        format!("POST /webhook/{me};{them}/{token}"),
        format!("POST /webhook/{me}%00/{token}"),
        format!("POST /webhook/{me}%20/{token}"),
        format!("POST /webhook/m\u{456}ne/{token}"),
        format!("POST /webhook/{me}/{token}%0d%0a"),
        format!("POST /webhook/{me}/{token}="),
        format!("POST /WEBHOOK/{me}/{token}"),
    ] {
        let mut bytes = head(&stage.access.webhook, &line, &[("Content-Length", &length)]);
        bytes.extend_from_slice(body.as_bytes());
        let answer = send(&stage.access.webhook, &bytes).await?;
        ensure!([400, 401, 404].contains(&answer.status), "{line} was answered with {}", answer.status);
    }
    // Two names, two signatures, a name that is none.
    let signed = signature(stage, &body);
    let good = ("X-Hook-Signature", signed.as_str());
    for headers in [
        vec![good, ("X-Keap-Account", me), ("X-Keap-Account", them)],
        vec![good, good, ("X-Keap-Account", them)],
        vec![good, ("X-Keap-Account", "../theirs")],
        vec![good, ("X-Keap-Account", "THEIRS")],
        vec![good, ("X-Keap-Account", "")],
        vec![("X-Keap-Account", them), ("X-Internal-Token", "guess")],
    ] {
        let headers: Vec<(&str, &str)> =
            headers.into_iter().chain([("Content-Length", length.as_str())]).collect();
        let mut bytes = head(&stage.access.webhook, "POST /webhook", &headers);
        bytes.extend_from_slice(body.as_bytes());
        let answer = send(&stage.access.webhook, &bytes).await?;
        ensure!([400, 401].contains(&answer.status), "{headers:?} was answered with {}", answer.status);
    }
    ensure!((counted(&mine).await?, counted(&theirs).await?) == (1, 0), "something was smuggled");
    Ok(())
}

pub async fn methods_and_addresses_are_taken_as_they_are(stage: &Stage) -> Result<()> {
    let access = &stage.access;
    let account = Account::connect(stage, "methods").await?;
    // Nothing overrides the method.
    for name in ["x-http-method-override", "x-http-method", "x-method-override"] {
        let settings = stage.http.get(account.route("settings")).bearer_auth(&access.admin_token);
        let body = json!({"paused": true}).to_string();
        let answer = read(settings.header(name, "PUT").body(body)).await;
        // Some clients refuse to send a body with GET; what counts is what is stored.
        drop(answer);
        let stored = stage.admin(Method::GET, &account.route("settings"), None).await?;
        ensure!(stored.json()["paused"] != true, "{name} changed the settings");
        let run = stage.http.get(format!("{}/sync/full?account={}&_method=POST", access.sync, account.name));
        let run = read(run.bearer_auth(&access.admin_token).header(name, "POST")).await?;
        ensure!(run.status == 405, "{name} started a run: {}", run.status);
    }
    // The path that a proxy might have meant does not count, nor does the one it came from.
    for name in ["x-original-url", "x-rewrite-url", "x-forwarded-path"] {
        until("the health of the sync worker", async || {
            let request = stage.http.get(format!("{}/health", access.sync)).header(name, "/sync/status");
            let answer = read(request).await?;
            ensure!(answer.json()["status"] == "healthy", "{name}: {}", answer.text);
            Ok(Some(()))
        })
        .await?;
    }
    // The workers' token is nobody's to guess, and opens no door of the admin's by another name.
    for (name, value) in [
        ("x-internal-token", "guess"),
        ("x-internal-token", access.admin_token.as_str()),
        ("authorization", &format!("Bearer {}", access.internal_token)),
        ("authorization", &format!("Basic {}", access.admin_token)),
        ("authorization", &access.admin_token),
        ("cookie", &format!("token={}", access.admin_token)),
    ] {
        for (method, url) in [
            (Method::POST, account.route("token")),
            (Method::GET, account.route("status")),
            (Method::GET, format!("{}/access-log", access.coordinator)),
            (Method::POST, format!("{}/units", access.sync)),
            (Method::GET, format!("{}/sync/status?account={}", access.sync, account.name)),
        ] {
            let answer = read(stage.http.request(method.clone(), &url).header(name, value)).await?;
            ensure!(answer.status == 401, "{name} at {method} {url} was answered with {}", answer.status);
        }
    }
    let by_query = format!("{}?token={}", account.route("status"), access.admin_token);
    ensure!(stage.anonymous(Method::GET, &by_query).await?.status == 401, "a token in the address");
    // Not even the admin gets at what is between workers.
    for resource in ["token", "units", "events"] {
        let answer = stage.admin(Method::POST, &account.route(resource), Some(&json!({}))).await?;
        ensure!(answer.status == 401, "the admin got {} from {resource}", answer.status);
    }
    Ok(())
}

pub async fn an_account_is_asked_about_itself_only(stage: &Stage) -> Result<()> {
    let mine = Account::connect(stage, "owner").await?;
    let theirs = Account::connect(stage, "stranger").await?;
    let run = mine.start("contacts").await?;
    mine.wait_for_run(&run).await?;
    let sync = &stage.access.sync;
    for path in [format!("sync/runs/{run}"), format!("sync/runs/{run}/plan")] {
        let url = format!("{sync}/{path}?account={}", theirs.name);
        let answer = stage.admin(Method::GET, &url, None).await?;
        ensure!(answer.status == 404, "{url} was answered with {}: {}", answer.status, answer.text);
    }
    for action in ["approve", "cancel", "revert"] {
        let url = format!("{sync}/sync/runs/{run}/{action}?account={}", theirs.name);
        let answer = stage.admin(Method::POST, &url, None).await?;
        ensure!(answer.status.is_client_error(), "{url} was answered with {}", answer.status);
    }
    // Which of two accounts counts is nobody's guess.
    let both = format!("{sync}/sync/status?account={}&account={}", mine.name, theirs.name);
    ensure!(stage.admin(Method::GET, &both, None).await?.status == 400, "two accounts at once");
    Ok(())
}

/// An address that takes a body, and the credential for it.
struct BodyTaker {
    origin: String,
    line: String,
    credential: Option<(&'static str, String)>,
}

fn body_takers(account: &Account<'_>) -> [BodyTaker; 5] {
    let access = &account.stage.access;
    let taker = |origin: &String, line: String, credential: Option<(&'static str, String)>| BodyTaker {
        origin: origin.clone(),
        line,
        credential,
    };
    let bearer = || Some(("Authorization", format!("Bearer {}", access.admin_token)));
    let internal = Some(("X-Internal-Token", access.internal_token.clone()));
    let conflict = "/conflicts/018f3f6e-0000-4000-8000-00000000abcd/resolve";
    [
        taker(&access.webhook, account.hook_url().replace(&access.webhook, "POST "), None),
        taker(&access.coordinator, format!("PUT /coordinator/{}/settings", account.name), bearer()),
        taker(&access.coordinator, "POST /oauth/service-key".to_owned(), bearer()),
        taker(&access.sync, format!("POST {conflict}?account={}", account.name), bearer()),
        taker(&access.sync, "POST /units".to_owned(), internal),
    ]
}

pub async fn bodies_are_bounded_however_they_come(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "bodies").await?;
    let before = account.status().await?["settings"].clone();
    for BodyTaker { origin, line, credential } in body_takers(&account) {
        let credential = credential.as_ref().map(|(name, value)| (*name, value.as_str()));
        let bytes_of = |more: &[(&str, &str)], body: &[u8]| {
            let headers: Vec<(&str, &str)> = credential.iter().chain(more).copied().collect();
            let mut bytes = head(&origin, &line, &headers);
            bytes.extend_from_slice(body);
            bytes
        };
        let ask = async |more: &[(&str, &str)], body: &[u8]| send(&origin, &bytes_of(more, body)).await;
        let ask_until_answered = async |more: &[(&str, &str)], body: &[u8]| {
            send_until_answered(&origin, &bytes_of(more, body)).await
        };
        let large = vec![b' '; 3 * 1024 * 1024];
        let declared = ask_until_answered(&[("Content-Length", &large.len().to_string())], &large).await?;
        ensure!(declared.status == 413, "{line}: 3 MB declared: {}", declared.status);

        let mut chunked = Vec::new();
        for piece in large.chunks(64 * 1024) {
            chunked.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            chunked.extend_from_slice(piece);
            chunked.extend_from_slice(b"\r\n");
        }
        chunked.extend_from_slice(b"0\r\n\r\n");
        let undeclared = ask_until_answered(&[("Transfer-Encoding", "chunked")], &chunked).await?;
        ensure!(undeclared.status == 413, "{line}: 3 MB in chunks: {}", undeclared.status);

        // Two lengths, or a length and chunks, let two readers see two different requests.
        let both = ask(&[("Content-Length", "5"), ("Transfer-Encoding", "chunked")], b"0\r\n\r\n").await?;
        ensure!(
            both.status == 0 || (400..500).contains(&both.status),
            "{line}: two framings: {}",
            both.status
        );
        let twice = ask(&[("Content-Length", "2"), ("Content-Length", "3")], b"{} ").await?;
        ensure!(
            twice.status == 0 || (400..500).contains(&twice.status),
            "{line}: two lengths: {}",
            twice.status
        );

        let nested = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
        let nested = ask(&[("Content-Length", &nested.len().to_string())], nested.as_bytes()).await?;
        ensure!((400..500).contains(&nested.status), "{line}: deeply nested: {}", nested.status);

        // A kilobyte that would be a megabyte, and one that says it is packed and is not.
        for encoding in ["gzip", "br", "deflate", "identity, gzip"] {
            let bomb = ask(&[("Content-Encoding", encoding), ("Content-Length", "2")], b"{}").await?;
            ensure!(bomb.status == 415, "{line}: {encoding}: {}", bomb.status);
        }
        for odd in [&b"\xff\xfe{}"[..], b"\0", b"{\"a\":\"\\ud800\"}", b"nul", b"1e999999"] {
            let answer = ask(&[("Content-Length", &odd.len().to_string())], odd).await?;
            ensure!((400..500).contains(&answer.status), "{line}: {odd:?}: {}", answer.status);
        }
    }
    ensure!(account.status().await?["settings"] == before, "a refused body changed the settings");
    for origin in [&stage.access.coordinator, &stage.access.sync, &stage.access.webhook] {
        until("a healthy worker", async || {
            let health = stage.anonymous(Method::GET, &format!("{origin}/health")).await?;
            ensure!(health.status == 200, "{origin} after the bodies: {}", health.text);
            Ok(Some(()))
        })
        .await?;
    }
    Ok(())
}

pub async fn api_urls_are_never_followed(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "ssrf").await?;
    let person =
        json!({"given_name": "Ann", "email_addresses": [{"field": "EMAIL1", "email": "ann@x.example"}]});
    let id = account.keap.add(&person).await?;
    account.wait_for_row(&id, "the row", |row| row["first_name"] == "Ann").await?;
    let trap = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}", trap.local_addr()?);
    account.keap.edit(&id, &json!({"given_name": "Anna"})).await?;
    let body = json!({
        "event_key": "contact.edit", "object_type": "contact", "resthook_url": address, "callback": address,
        "object_keys": [{"id": id, "apiUrl": format!("{address}/contacts/{id}"), "timestamp": address}],
    });
    let answer = read(stage.http.post(account.hook_url()).json(&body)).await?;
    ensure!(answer.status == 200, "{}", answer.text);
    account.wait_for_row(&id, "the delivery's effect", |row| row["first_name"] == "Anna").await?;
    account.wait_for_quiet().await?;
    // Everything that the delivery brought about has happened; a call to the trap would wait in its queue.
    let called = tokio::time::timeout(std::time::Duration::from_millis(1), trap.accept()).await;
    ensure!(called.is_err(), "somebody called the address that the delivery named");
    Ok(())
}

pub async fn nothing_is_injected_into_the_logs(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "logs").await?;
    let access = &stage.access;
    let marker = stage.fresh_name("forged");
    let line = format!("%0a{{\"event\":\"{marker}\"}}%0d%0a%1b[31m");
    let header = format!("\u{1b}[31m{{\"event\":\"{marker}\"}}");
    let address = format!("198.51.100.7\u{85}{marker}");
    for (origin, path) in [
        (&access.coordinator, format!("/coordinator/{line}/status")),
        (&access.coordinator, format!("/oauth/callback?state={line}&error={line}&code={line}")),
        (&access.sync, format!("/sync/runs/{line}?account={line}")),
        (&access.webhook, format!("/webhook/{line}/{line}")),
    ] {
        for method in ["GET", "POST"] {
            let headers = [
                ("Authorization", header.as_str()),
                ("X-Hook-Signature", header.as_str()),
                ("X-Keap-Account", header.as_str()),
                ("User-Agent", header.as_str()),
                ("CF-Connecting-IP", address.as_str()),
                ("Content-Length", "0"),
            ];
            send(origin, &head(origin, &format!("{method} {path}"), &headers)).await?;
        }
    }
    let body =
        json!({"event_key": format!("{marker}\n"), "object_keys": [{"id": format!("\u{1b}{marker}")}]});
    read(stage.http.post(account.hook_url()).json(&body)).await?;
    // A line after all of these, so that what they wrote is on disk before it is read.
    let sync_status = format!("{}/sync/status?account={}", access.sync, account.name);
    for url in [&sync_status, &account.route("status")] {
        let last = read(stage.http.get(url).bearer_auth("wrong")).await?;
        ensure!(last.status == 401, "{url}: {}", last.text);
    }
    let secrets = [
        ("the admin token", access.admin_token.clone()),
        ("the internal token", access.internal_token.clone()),
        ("the webhook secret", access.webhook_secret.clone()),
        ("the hook's token", account.hook_url().rsplit('/').next().unwrap_or_default().to_owned()),
        ("a forged event", marker),
    ];
    let logs = until("the workers' logs", async || {
        let mut all = String::new();
        for worker in ["coordinator", "sync", "webhook"] {
            let path = format!("{}/{worker}.log", access.logs);
            let bytes = tokio::fs::read(&path).await.with_context(|| path.clone())?;
            all.push_str(&String::from_utf8_lossy(&bytes));
        }
        let of_both = [format!("GET /coordinator/{}/status", account.name), "GET /sync/status".to_owned()];
        Ok(of_both.iter().all(|action| all.contains(action)).then_some(all))
    })
    .await?;
    for (what, secret) in secrets {
        ensure!(!logs.contains(&secret), "the logs hold {what}");
    }
    Ok(())
}
