//! Who may do what, how often, and what is kept of it.

use anyhow::{Context as _, Result, ensure};
use keapsync_e2e::account::{Account, journey};
use keapsync_e2e::stage::{Answer, Stage, read};
use reqwest::Method;
use serde_json::{Value, json};

/// In which Cloudflare's edge names the client; here the tests do, with addresses that are reserved for examples.
const ADDRESS_HEADER: &str = "cf-connecting-ip";

/// More visits than an address has at once.
const VISITS: usize = 250;

pub async fn wrong_credentials_are_limited_and_good_ones_are_not(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "limits").await?;
    let access = &stage.access;
    let body = json!({"event_key": "task.add", "object_keys": [{"id": 1}]}).to_string();
    let stranger =
        account.hook_url().rsplit_once('/').map(|(front, _)| format!("{front}/AAAA")).unwrap_or_default();
    let from = |address: &'static str| {
        move |request: reqwest::RequestBuilder| request.header(ADDRESS_HEADER, address)
    };
    let good = |request: reqwest::RequestBuilder| request.bearer_auth(&access.admin_token);
    for (address, bad, fine, expected) in [
        (
            "203.0.113.11",
            stage.http.get(account.route("status")).bearer_auth("wrong"),
            good(stage.http.get(account.route("status"))),
            200,
        ),
        (
            "203.0.113.12",
            stage.http.get(format!("{}/sync/runs", access.sync)).bearer_auth("wrong"),
            good(stage.http.get(format!("{}/sync/runs?account={}", access.sync, account.name))),
            200,
        ),
        (
            "203.0.113.13",
            stage.http.post(stranger).body(body.clone()),
            stage.http.post(account.hook_url()).body(body.clone()),
            200,
        ),
        (
            "203.0.113.14",
            stage
                .http
                .post(format!("{}/webhook", access.webhook))
                .header("x-hook-signature", "0".repeat(64))
                .body(body.clone()),
            stage.http.post(account.hook_url()).body(body.clone()),
            200,
        ),
    ] {
        let again = |request: &reqwest::RequestBuilder| request.try_clone().context("a request to repeat");
        let mut limited = None;
        // A bucket holds twenty; more come back while this goes on.
        for _ in 0..100 {
            let answer = read(from(address)(again(&bad)?)).await?;
            match answer.status.as_u16() {
                401 | 400 => {}
                429 => {
                    limited = Some(answer);
                    break;
                }
                other => anyhow::bail!("{address} was answered with {other}: {}", answer.text),
            }
        }
        let limited = limited.with_context(|| format!("{address} was never limited"))?;
        let wait =
            limited.headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        ensure!(wait.is_some_and(|seconds| (1..=60).contains(&seconds)), "{:?}", limited.headers);
        for _ in 0..50 {
            let answer = read(from(address)(again(&fine)?)).await?;
            ensure!(
                answer.status.as_u16() == expected,
                "a good credential from {address}: {}",
                answer.status
            );
        }
        let elsewhere = read(from("203.0.113.99")(again(&bad)?)).await?;
        ensure!(elsewhere.status != 429, "another address pays for {address}");
    }
    Ok(())
}

pub async fn public_pages_are_limited(stage: &Stage) -> Result<()> {
    for (address, url) in [
        ("203.0.113.21", format!("{}/oauth/callback?state=forged&code=x", stage.access.coordinator)),
        ("203.0.113.22", format!("{}/oauth/initiate?ticket=demo~x", stage.access.coordinator)),
        ("203.0.113.23", format!("{}/nothing", stage.access.sync)),
        ("203.0.113.24", format!("{}/nothing", stage.access.webhook)),
    ] {
        // All at once, so that a busy machine is not slower than what comes back into the bucket.
        let asked = (0..VISITS).map(|_| read(stage.http.get(&url).header(ADDRESS_HEADER, address)));
        let answers = futures_util::future::try_join_all(asked).await?;
        let limited = answers.iter().filter(|answer| answer.status == 429).count();
        ensure!(limited > 0, "{url} was never limited");
        ensure!(VISITS - limited > 15, "{url} was limited after {}", VISITS - limited);
    }
    Ok(())
}

pub async fn every_answer_carries_its_headers(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "headers").await?;
    let access = &stage.access;
    let initiate = format!("{}/oauth/initiate", access.coordinator);
    let begun = stage.admin(Method::POST, &initiate, Some(&json!({"keap_account_id": account.name}))).await?;
    let connect_url = begun.json()["connect_url"].as_str().context("no connect_url")?.to_owned();
    let answers = [
        stage.anonymous(Method::GET, &format!("{}/health", access.coordinator)).await?,
        stage.anonymous(Method::GET, &format!("{}/health", access.sync)).await?,
        stage.anonymous(Method::GET, &format!("{}/health", access.webhook)).await?,
        stage.anonymous(Method::GET, &format!("{}/nothing", access.sync)).await?,
        stage.anonymous(Method::PUT, &account.hook_url()).await?,
        stage.anonymous(Method::GET, &account.route("status")).await?,
        stage.admin(Method::GET, &account.route("status"), None).await?,
        stage.admin(Method::GET, &format!("{}/metrics", access.coordinator), None).await?,
        stage.admin(Method::GET, &format!("{}/accounts", access.coordinator), None).await?,
        stage.anonymous(Method::OPTIONS, &format!("{}/accounts", access.coordinator)).await?,
        account.deliver("task.add", &["1"]).await?,
        stage.anonymous(Method::GET, &format!("{}/oauth/callback?state=x", access.coordinator)).await?,
        stage.anonymous(Method::GET, &connect_url).await?,
    ];
    for (place, answer) in answers.iter().enumerate() {
        let header =
            |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let about = format!("answer {place}, {}: {:?}", answer.status, answer.headers);
        ensure!(header("x-content-type-options") == "nosniff", "{about}");
        ensure!(header("cache-control") == "no-store", "{about}");
        ensure!(header("referrer-policy") == "no-referrer", "{about}");
        ensure!(header("strict-transport-security").starts_with("max-age="), "{about}");
        ensure!(header("content-security-policy").contains("frame-ancestors 'none'"), "{about}");
        ensure!(header("access-control-allow-origin").is_empty(), "{about}");
    }
    Ok(())
}

pub async fn no_other_origin_reads(stage: &Stage) -> Result<()> {
    let access = &stage.access;
    for url in [
        format!("{}/accounts", access.coordinator),
        format!("{}/sync/status", access.sync),
        format!("{}/health", access.webhook),
    ] {
        for origin in ["https://evil.example", "null", "http://127.0.0.1", &access.coordinator] {
            let asked = stage.http.request(Method::OPTIONS, &url).header("origin", origin);
            let asked = read(asked.header("access-control-request-method", "POST")).await?;
            let got =
                read(stage.http.get(&url).header("origin", origin).bearer_auth(&access.admin_token)).await?;
            for answer in [asked, got] {
                let opened = answer.headers.keys().any(|name| name.as_str().starts_with("access-control-"));
                ensure!(!opened, "{url} opens itself to {origin}: {:?}", answer.headers);
            }
        }
    }
    Ok(())
}

async fn entries(stage: &Stage, account: &str) -> Result<Vec<Value>> {
    let url = format!("{}/access-log?account={account}&limit=500", stage.access.coordinator);
    let answer = stage.admin(Method::GET, &url, None).await?;
    ensure!(answer.status == 200, "{}", answer.text);
    answer.json()["entries"].as_array().cloned().context("no entries")
}

pub async fn what_admins_do_is_recorded(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "record").await?;
    let access = &stage.access;
    let from = "203.0.113.31";
    let act = async |request: reqwest::RequestBuilder| -> Result<Answer> {
        read(request.header(ADDRESS_HEADER, from)).await
    };
    let settings =
        act(stage.http.put(account.route("settings")).bearer_auth(&access.admin_token).body("{}")).await?;
    ensure!(settings.status == 200, "{}", settings.text);
    let run = format!("{}/sync/contacts?account={}", access.sync, account.name);
    let started = act(stage.http.post(&run).bearer_auth(&access.admin_token)).await?;
    ensure!(started.status == 202, "{}", started.text);
    let refused = act(stage.http.put(account.route("settings")).bearer_auth("wrong").body("{}")).await?;
    ensure!(refused.status == 401, "{}", refused.text);

    let kept = entries(stage, &account.name).await?;
    let find = |actor: &str, action: &str| {
        kept.iter()
            .find(|entry| entry["actor"] == actor && entry["action"] == action)
            .cloned()
            .unwrap_or_default()
    };
    let path = format!("PUT /coordinator/{}/settings", account.name);
    let changed = find("admin", &path);
    ensure!(changed["status"] == 200 && changed["worker"] == "coordinator", "{kept:?}");
    ensure!(
        changed["address"] == from && changed["token"].is_string() && changed["at"].is_string(),
        "{changed}"
    );
    let ran = find("admin", "POST /sync/contacts");
    ensure!(ran["status"] == 202 && ran["worker"] == "sync" && ran["token"] == changed["token"], "{kept:?}");
    let denied = find("refused", &path);
    ensure!(denied["status"] == 401 && denied["token"].is_null() && denied["address"] == from, "{kept:?}");
    let connected = find("browser", "GET /oauth/callback");
    ensure!(connected["status"] == 200, "the connection itself: {kept:?}");
    ensure!(find("admin", "POST /oauth/initiate")["status"] == 200, "{kept:?}");

    // Pages of one, newest first, and nobody but the admin.
    let url = format!("{}/access-log?account={}&limit=1", access.coordinator, account.name);
    let first = stage.admin(Method::GET, &url, None).await?.json();
    let next = first["next_before"].as_i64().context("no further page")?;
    let second = stage.admin(Method::GET, &format!("{url}&before={next}"), None).await?.json();
    ensure!(second["entries"][0]["number"].as_i64().is_some_and(|number| number < next), "{second}");
    ensure!(stage.anonymous(Method::GET, &url).await?.status == 401, "anybody reads the record");
    let forged =
        stage.admin(Method::POST, &format!("{}/access-log", access.coordinator), Some(&changed)).await?;
    ensure!(forged.status == 401, "the admin writes the record");
    Ok(())
}

/// Wherever a wrong credential is shown, somebody may be guessing: also where nobody needs one, and where there is nothing.
pub async fn every_refused_credential_is_recorded(stage: &Stage) -> Result<()> {
    let access = &stage.access;
    let from = "203.0.113.32";
    let tried = [
        (&access.sync, Method::POST, "/units", 401),
        (&access.sync, Method::GET, "/nothing-here", 404),
        (&access.sync, Method::DELETE, "/sync/status", 405),
        (&access.sync, Method::GET, "/sync/status?limit=1&limit=2", 400),
        (&access.sync, Method::GET, "/health", 200),
        (&access.coordinator, Method::GET, "/nothing-here", 404),
        (&access.coordinator, Method::DELETE, "/accounts", 405),
        (&access.coordinator, Method::GET, "/health", 200),
    ];
    for (origin, method, path, status) in &tried {
        let request = stage.http.request(method.clone(), format!("{origin}{path}")).bearer_auth("a guess");
        let answer = read(request.header(ADDRESS_HEADER, from)).await?;
        ensure!(answer.status == *status, "{method} {path} answered {}: {}", answer.status, answer.text);
    }
    let url = format!("{}/access-log?limit=500", access.coordinator);
    let kept = stage.admin(Method::GET, &url, None).await?.json();
    let of_ours: Vec<_> = kept["entries"]
        .as_array()
        .context("no entries")?
        .iter()
        .filter(|entry| entry["address"] == from)
        .collect();
    for (origin, method, path, status) in &tried {
        let worker = if *origin == &access.sync { "sync" } else { "coordinator" };
        let action = format!("{method} {}", path.split('?').next().unwrap_or_default());
        let is_kept = of_ours.iter().any(|entry| {
            entry["actor"] == "refused"
                && entry["action"] == action
                && entry["worker"] == worker
                && entry["status"] == *status
        });
        ensure!(is_kept, "{action} at {worker} is not in the record: {of_ours:?}");
    }
    Ok(())
}

/// The database shows its token through a table that others there may read: it must not be worth more than a look at the outbox.
pub async fn the_databases_token_wakes_and_does_nothing_else(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "waker").await?;
    let access = &stage.access;
    let from = "203.0.113.33";
    let ask = async |method: Method, url: &str, token: &str| -> Result<Answer> {
        let request = stage.http.request(method, url).header("x-wake-token", token);
        read(request.header(ADDRESS_HEADER, from).body("{}")).await
    };
    let wake = account.route("wake");
    let woken = ask(Method::POST, &wake, &access.wake_token).await?;
    ensure!(woken.status == 202, "{}: {}", woken.status, woken.text);
    for wrong in ["", "a guess", &access.internal_token, &access.admin_token] {
        ensure!(ask(Method::POST, &wake, wrong).await?.status == 401, "another token wakes");
    }
    for (method, url) in [
        (Method::GET, account.route("status")),
        (Method::POST, account.route("token")),
        (Method::POST, account.route("events")),
        (Method::POST, account.route("pause")),
        (Method::GET, format!("{}/accounts", access.coordinator)),
        (Method::GET, format!("{}/access-log", access.coordinator)),
        (Method::POST, format!("{}/units", access.sync)),
    ] {
        let answer = ask(method.clone(), &url, &access.wake_token).await?;
        ensure!(answer.status == 401, "{method} {url} answered {}: {}", answer.status, answer.text);
    }
    // Nor in the place of another.
    let as_internal = stage.http.post(account.route("token")).header("x-internal-token", &access.wake_token);
    ensure!(read(as_internal.body("{}")).await?.status == 401, "it passes for the workers'");
    let tried = entries(stage, &account.name).await?;
    let refused = format!("GET /coordinator/{}/status", account.name);
    ensure!(
        tried.iter().any(|entry| entry["actor"] == "refused" && entry["action"] == refused),
        "that it was tried is not in the record: {tried:?}"
    );
    Ok(())
}

pub async fn attempts_to_connect_belong_to_one_browser(stage: &Stage) -> Result<()> {
    let (mine, theirs) = (stage.fresh_name("browser"), stage.fresh_name("fixation"));
    let finished = journey(stage, &mine, &mine).await?;
    ensure!(finished.answer.status == 200, "{}", finished.answer.status);
    let begin = async |name: &str| {
        let url = format!("{}/oauth/initiate", stage.access.coordinator);
        let begun = stage.admin(Method::POST, &url, Some(&json!({"keap_account_id": name}))).await?.json();
        let text = |field: &str| begun[field].as_str().map(str::to_owned).context("not begun");
        Ok::<_, anyhow::Error>((text("auth_url")?, text("connect_url")?))
    };
    let approve = async |authorize: &str, name: &str| {
        let answer = stage.anonymous(Method::GET, &format!("{authorize}&auto=1&tenant={name}")).await?;
        Ok::<_, anyhow::Error>(answer.headers.get("location").context("not approved")?.to_str()?.to_owned())
    };
    let refuse = async |callback: &str, cookie: Option<&str>, what: &str| {
        let request = stage.http.get(callback);
        let request = cookie.into_iter().fold(request, |request, cookie| request.header("cookie", cookie));
        let answer = read(request).await?;
        ensure!(answer.status == 400, "{what} was answered with {}", answer.status);
        ensure!(answer.headers.get("location").is_none(), "{what} leads elsewhere");
        Ok(())
    };
    // `auth_url` opened directly: Keap approves, but no browser began the attempt here.
    let (auth_url, connect_url) = begin(&theirs).await?;
    let callback = approve(&auth_url, &theirs).await?;
    refuse(&callback, None, "auth_url without the cookie").await?;
    refuse(&callback, Some(&finished.cookie), "the cookie of another attempt").await?;
    // An attacker opens the link and leaves the callback to a victim's browser, which has its own cookie.
    let opened = stage.anonymous(Method::GET, &connect_url).await?;
    let cookie = opened.headers.get("set-cookie").context("no cookie")?.to_str()?.to_owned();
    ensure!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
    let callback = approve(opened.headers["location"].to_str()?, &theirs).await?;
    refuse(&callback, Some(&finished.cookie), "a fixed state").await?;
    refuse(&callback, Some("keapsync_oauth="), "an empty cookie").await?;
    // The state of one account does not connect another, and every change of it is noticed.
    for changed in [
        callback.replace(&theirs, &mine),
        callback.replace("state=", "state=x"),
        callback.replace("%7E", "~~").replace('~', "%7E%7E"),
        callback.replace("state=", "state=a&state="),
    ] {
        ensure!(changed != callback, "{callback} was not changed");
        refuse(&changed, Some(&cookie), "a changed state").await?;
    }
    let status = format!("{}/oauth/status?keap_account_id={theirs}", stage.access.coordinator);
    ensure!(stage.admin(Method::GET, &status, None).await?.status == 404, "something was connected");
    // None of this spent the attempt: its own browser finishes it, once.
    let done = read(stage.http.get(&callback).header("cookie", &cookie)).await?;
    ensure!(done.status == 200, "{}: {}", done.status, done.text);
    refuse(&callback, Some(&cookie), "a state used twice").await?;
    refuse(&connect_url, None, "a ticket used twice").await
}

pub async fn no_redirect_leads_elsewhere(stage: &Stage) -> Result<()> {
    let name = stage.fresh_name("redirect");
    let coordinator = &stage.access.coordinator;
    let url = format!("{coordinator}/oauth/initiate");
    let begun = stage.admin(Method::POST, &url, Some(&json!({"keap_account_id": name}))).await?.json();
    let connect_url = begun["connect_url"].as_str().context("no connect_url")?;
    let tempting = "redirect_uri=https://evil.example&next=//evil.example&url=https://evil.example";
    let opened =
        stage.http.get(format!("{connect_url}&{tempting}")).header("x-forwarded-host", "evil.example");
    let opened = read(opened).await?;
    let location = opened.headers.get("location").context("not opened")?.to_str()?;
    ensure!(location.starts_with(&stage.access.keap) && !location.contains("evil"), "{location}");
    for path in [
        "//evil.example/%2e%2e",
        "/\\evil.example",
        "/oauth/callback?redirect=https://evil.example",
        "/https://evil.example",
    ] {
        let answer = stage.anonymous(Method::GET, &format!("{coordinator}{path}")).await?;
        ensure!(answer.headers.get("location").is_none(), "{path} leads to {:?}", answer.headers);
        ensure!(answer.status.is_client_error(), "{path} was answered with {}", answer.status);
    }
    Ok(())
}
