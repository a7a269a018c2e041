//! A connected account: its Keap tenant, its mirror, and its routes.

use crate::database::{Mirror, connect};
use crate::keap::Tenant;
use crate::stage::{Answer, Stage, read};
use crate::wait::{PATIENCE, until, until_within};
use anyhow::{Context as _, Result, bail, ensure};
use keapsync_xtask::send_hook::delivery_url;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// Patience with a run whose unit died or lost its database: that unit is ordered again only when its lease ends, and more than
/// one of a run's units may be lost.
const INTERRUPTED_PATIENCE: Duration = Duration::from_mins(5);

/// A connected account.
pub struct Account<'a> {
    /// The system it lives in.
    pub stage: &'a Stage,
    /// Its name, in keapsync and as a tenant of the simulator.
    pub name: String,
    /// Its Keap.
    pub keap: Tenant,
    /// Its rows.
    pub mirror: Mirror,
}

/// What is on its way between Keap and the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnItsWay {
    /// Objects of hooks that wait at Keap.
    pub hooks: u64,
    /// Events here.
    pub events: u64,
    /// Runs that are queued or under way.
    pub runs: usize,
    /// Items in the outbox.
    pub outbox: u64,
    /// Calls that changed something in Keap while this was looked at.
    pub writes: u64,
}

/// What Keap's pages and our callback said on the way through OAuth.
#[derive(Debug)]
pub struct Journey {
    /// The address that the browser was sent back to, with code and state.
    pub callback: String,
    /// The cookie that the callback demands.
    pub cookie: String,
    /// Our answer to the callback.
    pub answer: Answer,
}

/// Goes through OAuth as a person's browser would, up to the callback's answer.
pub async fn journey(stage: &Stage, account: &str, tenant: &str) -> Result<Journey> {
    let url = format!("{}/oauth/initiate", stage.access.coordinator);
    let begun = stage.admin(Method::POST, &url, Some(&json!({"keap_account_id": account}))).await?;
    ensure!(begun.status == 200, "initiate answered {}: {}", begun.status, begun.text);
    let begun = begun.json();
    let opened =
        stage.anonymous(Method::GET, begun["connect_url"].as_str().context("no connect_url")?).await?;
    ensure!(opened.status == 302, "connect_url answered {}: {}", opened.status, opened.text);
    let header = |answer: &Answer, name: &str| {
        answer
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
            .context(name.to_owned())
    };
    let cookie = header(&opened, "set-cookie")?;
    let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
    let authorize = format!("{}&auto=1&tenant={tenant}", header(&opened, "location")?);
    let approved = stage.anonymous(Method::GET, &authorize).await?;
    ensure!(approved.status.is_redirection(), "Keap answered {}: {}", approved.status, approved.text);
    let callback = header(&approved, "location")?;
    let answer = read(stage.http.get(&callback).header("cookie", &cookie)).await?;
    Ok(Journey { callback, cookie, answer })
}

impl<'a> Account<'a> {
    /// Connects a new account to a new tenant and waits until its hooks are in place.
    pub async fn connect(stage: &'a Stage, about: &str) -> Result<Self> {
        Self::connect_as(stage, stage.fresh_name(about)).await
    }

    /// As [`connect`](Self::connect), to a tenant that is filled before. Filling it later would take away what connecting makes there.
    pub async fn connect_filled(stage: &'a Stage, about: &str, contacts: u32) -> Result<Self> {
        let name = stage.fresh_name(about);
        Tenant::new(stage.http.clone(), &stage.access.keap, &name).seed(contacts).await?;
        Self::connect_as(stage, name).await
    }

    async fn connect_as(stage: &'a Stage, name: String) -> Result<Self> {
        let account = Self {
            stage,
            keap: Tenant::new(stage.http.clone(), &stage.access.keap, &name),
            mirror: Mirror { client: connect(&stage.access.database).await?, account: name.clone() },
            name,
        };
        let journey = journey(stage, &account.name, &account.name).await?;
        ensure!(journey.answer.status == 200, "the callback answered {}", journey.answer.status);
        account.wait_for_hooks().await?;
        Ok(account)
    }

    /// Waits until Keap has verified all hooks.
    pub async fn wait_for_hooks(&self) -> Result<()> {
        self.wait_for_hooks_within(PATIENCE).await
    }

    /// As [`wait_for_hooks`](Self::wait_for_hooks), with a patience of one's own.
    pub async fn wait_for_hooks_within(&self, patience: Duration) -> Result<()> {
        until_within(patience, "verified hooks", async || {
            let hooks = self.keap.hooks().await?;
            let all_verified = !hooks.is_empty() && hooks.iter().all(|hook| hook["status"] == "Verified");
            // What Keap lists may still be growing; the account's object knows when it is done.
            let open = self.status().await?["setup_open"].as_array().cloned().unwrap_or_default();
            Ok((all_verified && !open.iter().any(|step| step == "hooks")).then_some(()))
        })
        .await
    }

    /// The address of one of the account's routes at the coordinator.
    #[must_use]
    pub fn route(&self, resource: &str) -> String {
        format!("{}/coordinator/{}/{resource}", self.stage.access.coordinator, self.name)
    }

    /// The account's status.
    pub async fn status(&self) -> Result<Value> {
        let answer = self.stage.admin(Method::GET, &self.route("status"), None).await?;
        ensure!(answer.status == 200, "status answered {}: {}", answer.status, answer.text);
        Ok(answer.json())
    }

    /// Changes the account's settings.
    pub async fn change_settings(&self, change: &Value) -> Result<()> {
        let answer = self.stage.admin(Method::PUT, &self.route("settings"), Some(change)).await?;
        ensure!(answer.status == 200, "the settings could not be changed: {}", answer.text);
        Ok(())
    }

    /// Connects the account with a service key of its tenant in place of OAuth.
    pub async fn use_service_key(&self) -> Result<()> {
        let url = format!("{}/oauth/service-key", self.stage.access.coordinator);
        let request = json!({"keap_account_id": self.name, "service_key": self.keap.service_key().await?});
        let answer = self.stage.admin(Method::POST, &url, Some(&request)).await?;
        ensure!(answer.status == 200, "service-key answered {}: {}", answer.status, answer.text);
        Ok(())
    }

    /// Asks for a refresh of the account's token.
    pub async fn refresh(&self) -> Result<Answer> {
        let url = format!("{}/oauth/refresh", self.stage.access.coordinator);
        self.stage.admin(Method::POST, &url, Some(&json!({"keap_account_id": self.name}))).await
    }

    /// A token for calls to Keap, as the sync worker asks for one.
    pub async fn token(&self) -> Result<String> {
        let request = self.stage.http.post(self.route("token")).json(&json!({}));
        let answer = read(request.header("x-internal-token", &self.stage.access.internal_token)).await?;
        ensure!(answer.status == 200, "a token request answered {}: {}", answer.status, answer.text);
        answer.json()["access_token"].as_str().map(str::to_owned).context("no access_token")
    }

    /// How often Keap has replaced the account's token.
    pub async fn refreshes(&self) -> Result<u64> {
        self.keap.counts().await?["refreshes"].as_u64().context("the simulator counts no refreshes")
    }

    /// The account's dead letters, as text.
    pub async fn dead_letters(&self) -> Result<String> {
        let answer = self.stage.admin(Method::GET, &self.route("dead-letters"), None).await?;
        ensure!(answer.status == 200, "dead-letters answered {}: {}", answer.status, answer.text);
        Ok(answer.text)
    }

    /// Runs a full sync and waits for its end.
    pub async fn full_sync(&self) -> Result<Value> {
        let run_id = self.start("full").await?;
        self.wait_for_run(&run_id).await
    }

    /// Starts a run by `POST /sync/{what}` and tells its id.
    pub async fn start(&self, what: &str) -> Result<String> {
        let separator = if what.contains('?') { '&' } else { '?' };
        let url = format!("{}/sync/{what}{separator}account={}", self.stage.access.sync, self.name);
        let answer = self.stage.admin(Method::POST, &url, None).await?;
        ensure!(answer.status == 202, "{what} answered {}: {}", answer.status, answer.text);
        answer.json()["run_id"].as_str().map(str::to_owned).context("no run_id")
    }

    /// Waits until a run has ended well.
    pub async fn wait_for_run(&self, run_id: &str) -> Result<Value> {
        self.wait_for_run_within(PATIENCE, run_id).await
    }

    async fn wait_for_run_within(&self, patience: Duration, run_id: &str) -> Result<Value> {
        let url = format!("{}/sync/runs/{run_id}?account={}", self.stage.access.sync, self.name);
        let run = until_within(patience, "the end of a run", async || {
            let run = self.stage.admin(Method::GET, &url, None).await?.json();
            Ok(["completed", "failed"].iter().any(|state| run["state"] == *state).then_some(run))
        })
        .await?;
        if run["state"] != "completed" {
            bail!("the run failed: {run}");
        }
        Ok(run)
    }

    /// Waits until a run has ended well whose unit died or lost its database.
    pub async fn wait_for_run_that_was_interrupted(&self, run_id: &str) -> Result<Value> {
        self.wait_for_run_within(INTERRUPTED_PATIENCE, run_id).await
    }

    /// The address that Keap's hooks are registered with.
    #[must_use]
    pub fn hook_url(&self) -> String {
        let access = &self.stage.access;
        // The tests name their accounts well.
        delivery_url(&access.webhook, &access.webhook_secret, &self.name).unwrap_or_default()
    }

    /// Delivers a hook as Keap does.
    pub async fn deliver(&self, event_key: &str, ids: &[&str]) -> Result<Answer> {
        let keys: Vec<Value> =
            ids.iter().map(|id| json!({"id": id, "apiUrl": "", "timestamp": "now"})).collect();
        let body = json!({"event_key": event_key, "object_type": "contact", "object_keys": keys});
        read(self.stage.http.post(self.hook_url()).json(&body)).await
    }

    /// Waits until the row of a contact satisfies `condition`, and returns it.
    pub async fn wait_for_row(
        &self,
        keap_id: &str,
        what: &str,
        condition: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        until(what, async || {
            let row = self.mirror.contact(keap_id).await?;
            Ok(condition(&row).then_some(row))
        })
        .await
    }

    /// Waits until Keap's contact satisfies `condition`, and returns it.
    pub async fn wait_for_keap(
        &self,
        keap_id: &str,
        what: &str,
        condition: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        until(what, async || Ok(self.keap.contact(keap_id).await?.filter(&condition))).await
    }

    /// What is on its way, by two looks in a row: the places are asked in turn, and what moves on meanwhile, from one that was not
    /// asked yet to one that was, is seen by the second look or by what was written in Keap between the two.
    pub async fn on_its_way(&self) -> Result<OnItsWay> {
        let (one, other) = (self.look().await?, self.look().await?);
        Ok(OnItsWay {
            hooks: one.hooks.max(other.hooks),
            events: one.events.max(other.events),
            runs: one.runs.max(other.runs),
            outbox: one.outbox.max(other.outbox),
            writes: other.writes.saturating_sub(one.writes),
        })
    }

    /// One look at what is on its way, with all writes in Keap so far.
    async fn look(&self) -> Result<OnItsWay> {
        let keap = self.keap.counts().await?;
        let status = self.status().await?;
        let sql = "select count(*) as n from sync_queue where account_id = $1 and status in ('pending', 'processing')";
        let outbox = self.mirror.one(sql, &[]).await?;
        let under_way = |run: &&Value| matches!(run["state"].as_str(), Some("queued" | "running"));
        Ok(OnItsWay {
            hooks: keap["deliveries"]["pending"].as_u64().context("the simulator counts no deliveries")?,
            events: status["events"]["open"].as_u64().context("the status counts no events")?,
            runs: status["runs"].as_array().into_iter().flatten().filter(under_way).count(),
            outbox: outbox["n"].as_u64().context("the outbox was not counted")?,
            writes: keap["calls"]["writes"].as_u64().context("the simulator counts no writes")?,
        })
    }

    /// Waits until nothing is on its way: no hook waits at Keap, no event here, no item in the outbox.
    pub async fn wait_for_quiet(&self) -> Result<()> {
        until("quiet", async || {
            let open = self.on_its_way().await?;
            ensure!(OnItsWay { runs: 0, ..open } == OnItsWay::default(), "still open: {open:?}");
            Ok(Some(()))
        })
        .await
    }
}
