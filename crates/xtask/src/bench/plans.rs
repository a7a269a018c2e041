//! The plans by which Postgres executed statements, those inside functions included, in a form that stays the same from run to run.

use std::pin::pin;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, anyhow};
use futures_util::StreamExt as _;
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls};

use crate::workspace::Workspace;

/// Where plans are written, in the checkout.
const DIRECTORY: &str = "docs/plans";

/// A relation with more rows than this must not be read from end to end.
const BIG_ROWS: i32 = 10_000;

/// A connection on which Postgres tells its plans.
pub struct PlanReader {
    /// The connection; tells plans only while [`PlanReader::plan_of`] asks for them.
    pub client: Client,
    told: Arc<Mutex<Vec<String>>>,
}

impl PlanReader {
    /// Connects as a superuser, who may load the module that tells plans.
    pub async fn connect(superuser_url: &str) -> Result<Self> {
        let config: Config = superuser_url.parse().context("the server's URL cannot be read")?;
        let (client, mut connection) = config.connect(NoTls).await.context("no connection to Postgres")?;
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        tokio::spawn(async move {
            let mut messages =
                pin!(futures_util::stream::poll_fn(move |context| connection.poll_message(context)));
            while let Some(Ok(message)) = messages.next().await {
                if let (AsyncMessage::Notice(notice), Ok(mut told)) = (message, heard.lock()) {
                    told.push(notice.message().to_owned());
                }
            }
        });
        client
            .batch_execute(
                "load 'auto_explain'; set auto_explain.log_level = 'notice';
                 set auto_explain.log_nested_statements = on; set auto_explain.log_min_duration = -1",
            )
            .await
            .context("this Postgres has no auto_explain: use one with its contrib modules")?;
        Ok(Self { client, told })
    }

    /// Executes a query as the role that the connection has, and gives the plans of all statements that it took, without costs.
    pub async fn plan_of(&self, sql: &str, text: &str) -> Result<String> {
        let role: String = self.client.query_one("select current_user::text", &[]).await?.get(0);
        self.switch(&role, "0").await?;
        self.told.lock().map_err(|_| anyhow!("the plans are lost"))?.clear();
        let asked = self.client.query_typed(sql, &[(&text, Type::TEXT)]).await;
        self.switch(&role, "-1").await?;
        asked.context("the query failed")?;
        let told = self.told.lock().map_err(|_| anyhow!("the plans are lost"))?;
        let mut plans: Vec<String> = Vec::new();
        for plan in told.iter().filter_map(|message| plan(message)) {
            // A policy is asked once for each table of a query; one plan shows it.
            if !plans.contains(&plan) {
                plans.push(plan);
            }
        }
        Ok(plans.join("\n"))
    }

    /// Only the superuser, who this session belongs to, may switch plans on and off.
    async fn switch(&self, role: &str, duration: &str) -> Result<()> {
        self.client
            .batch_execute(&format!(
                "reset role; set auto_explain.log_min_duration = {duration}; set role {role}"
            ))
            .await
            .context("plans cannot be switched on or off")
    }
}

/// Relations of many rows, by name.
pub async fn big_relations(client: &Client) -> Result<Vec<String>> {
    let sql = "select relname::text from pg_class
               where relkind = 'r' and relnamespace = 'public'::regnamespace and reltuples > $1::int4";
    Ok(client.query(sql, &[&BIG_ROWS]).await?.iter().map(|row| row.get(0)).collect())
}

/// The big relations that a plan reads from end to end.
pub fn read_whole(plan: &str, big: &[String]) -> Vec<String> {
    let is_scanned = |name: &&String| {
        let name = without_months(name);
        plan.lines().any(|line| {
            line.split_once("Seq Scan on ")
                .is_some_and(|(_, rest)| rest.split_whitespace().next() == Some(name.as_str()))
        })
    };
    big.iter().filter(is_scanned).cloned().collect()
}

/// Writes a plan beside the query.
pub fn write(workspace: &Workspace, name: &str, sql: &str, plan: &str) -> Result<()> {
    let directory = workspace.root().join(DIRECTORY);
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("{} cannot be created", directory.display()))?;
    let sql: Vec<&str> = sql.lines().map(str::trim).collect();
    let path = directory.join(format!("{name}.txt"));
    std::fs::write(&path, format!("{}\n\n{}\n", sql.join("\n"), plan.trim_end()))
        .with_context(|| format!("{} cannot be written", path.display()))
}

/// What `auto_explain` says of one statement, without what differs from run to run.
fn plan(message: &str) -> Option<String> {
    let (_, told) = message.split_once("plan:\n")?;
    let lines = told.lines().filter(|line| !line.starts_with("Query Parameters: ")).map(|line| {
        let line = match line.split_once("  (cost=") {
            Some((before, _)) => before,
            None => line,
        };
        without_ids(&without_months(line.trim_end()))
    });
    Some(lines.collect::<Vec<_>>().join("\n") + "\n")
}

/// The names of monthly partitions without their month.
fn without_months(text: &str) -> String {
    let mut parts = text.split("_y20");
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        // `_y2026m11`: what follows the century is two digits, `m`, two digits.
        let is_month = part.len() >= 5 && part.as_bytes().get(2) == Some(&b'm');
        result.push_str(if is_month { "_month" } else { "_y20" });
        result.push_str(if is_month { part.get(5..).unwrap_or_default() } else { part });
    }
    result
}

/// Quoted keys of rows, which are other ones in each run, as `…`.
fn without_ids(text: &str) -> String {
    let is_id =
        |part: &str| part.len() == 36 && part.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    text.split('\'').map(|part| if is_id(part) { "…" } else { part }).collect::<Vec<_>>().join("'")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = "duration: 1.5 ms  plan:\nQuery Text: select 1\nQuery Parameters: $1 = 'x'\nAppend  (cost=0.42..1.20 rows=3 width=9)\n  \
        ->  Seq Scan on sync_audit_log_y2026m11 part_1  (cost=0.42..1.20 rows=3 width=9)\n        Filter: (id = '09e38866-ba47-49ba-a65c-624350b74651'::uuid)";

    #[test]
    fn a_plan_has_neither_costs_nor_months_nor_keys() {
        let expected = "Query Text: select 1\nAppend\n  ->  Seq Scan on sync_audit_log_month part_1\n        Filter: (id = '…'::uuid)\n";
        assert_eq!(plan(TOLD).unwrap(), expected);
        assert_eq!(plan("something else"), None);
    }

    #[test]
    fn only_big_tables_must_not_be_read_whole() {
        let big = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let plan = plan(TOLD).unwrap();
        assert_eq!(read_whole(&plan, &big(&["sync_audit_log_y2026m11"])), ["sync_audit_log_y2026m11"]);
        assert!(read_whole(&plan, &big(&["sync_audit", "sync_contacts"])).is_empty());
    }
}
