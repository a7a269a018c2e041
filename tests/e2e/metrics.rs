//! The pages of metrics: who may read them, and that they say what is so.

use anyhow::{Result, ensure};
use keapsync_e2e::account::Account;
use keapsync_e2e::stage::{Stage, read};
use keapsync_e2e::wait::until;
use keapsync_xtask::system::SystemOptions;
use keapsync_xtask::worker_build::Worker;
use reqwest::Method;

/// `METRICS_TOKEN` of the system under test.
const TOKEN: &str = "opens-the-metrics-alone";

/// Gives the workers a token for their metrics.
pub fn with_metrics_token(options: SystemOptions) -> SystemOptions {
    let options = options.with_variable(Worker::Coordinator, "METRICS_TOKEN", TOKEN);
    options.with_variable(Worker::Sync, "METRICS_TOKEN", TOKEN)
}

pub async fn metrics_are_for_the_admin_and_their_own_token(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "metrics").await?;
    let id = account.keap.add(&serde_json::json!({"given_name": "Mo", "email_addresses": [{"field": "EMAIL1", "email": "mo@x.example"}]})).await?;
    account.wait_for_row(&id, "the row", |row| row["first_name"] == "Mo").await?;
    let page = async |origin: &str| -> Result<String> {
        let answer = stage.admin(Method::GET, &format!("{origin}/metrics"), None).await?;
        ensure!(answer.status == 200, "{origin} answered {}", answer.status);
        let kind =
            answer.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        ensure!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
        Ok(answer.text)
    };
    let name = &account.name;
    let coordinator = page(&stage.access.coordinator).await?;
    for line in [
        format!("keapsync_up{{account=\"{name}\"}} 1"),
        format!("keapsync_connected{{account=\"{name}\"}} 1"),
        format!("keapsync_paused{{account=\"{name}\"}} 0"),
        format!("keapsync_hooks{{account=\"{name}\",state=\"Inactive\"}} 0"),
        format!("keapsync_events_dead{{account=\"{name}\"}} 0"),
    ] {
        ensure!(coordinator.lines().any(|shown| shown == line), "{line} is not in\n{coordinator}");
    }
    let applied = format!(
        "keapsync_applied_5m{{account=\"{name}\",entity=\"contact\",direction=\"keap_to_supabase\"}} "
    );
    until("the applied contact in the metrics", async || {
        let sync = page(&stage.access.sync).await?;
        ensure!(sync.lines().any(|line| line == "keapsync_database_up 1"), "{sync}");
        let records = sync.lines().find_map(|line| line.strip_prefix(&applied)?.parse::<i64>().ok());
        Ok(records.filter(|records| *records >= 1))
    })
    .await?;
    for origin in [&stage.access.coordinator, &stage.access.sync] {
        ensure!(
            stage.anonymous(Method::GET, &format!("{origin}/metrics")).await?.status == 401,
            "anybody reads"
        );
        let shown = async |path: &str| {
            anyhow::Ok(read(stage.http.get(format!("{origin}{path}")).bearer_auth(TOKEN)).await?.status)
        };
        ensure!(shown("/metrics").await? == 200, "the token of the metrics does not open them");
        for other in ["/accounts", "/access-log", "/sync/status", "/smoke/database", "/metrics/"] {
            let status = shown(other).await?;
            ensure!(status == 401 || status == 404, "the token of the metrics opens {other}: {status}");
        }
    }
    Ok(())
}
