//! How fast people's queries are on a large mirror, as a signed-in member asks them: through row level security.
//!
//! # Invariants
//! - The plans that are shown are those that were executed, the statements inside functions included.
//! - A plan that reads a big table from end to end is a failed check, however fast it was.

use anyhow::{Context as _, Result, ensure};
use tokio::time::Instant;
use tokio_postgres::types::{ToSql, Type};

use super::plans::{self, PlanReader};
use super::report::{Measurement, Target};
use super::samples::Samples;
use crate::database;
use crate::progress::Step;
use crate::scratch_postgres::{MigratedDatabase, ScratchPostgres};
use crate::workspace::Workspace;

/// The database that is asked.
const DATABASE: &str = "keapsync_bench_queries";

/// Fills it.
const FILL: &str = include_str!("../../sql/million_contacts.sql");

/// The member who asks.
const MEMBER: &str = "5eed0000-0000-4000-8000-000000000001";

/// How often each query runs.
const RUNS: usize = 50;

/// How long any of them may take, in milliseconds.
const MS_MAX: f64 = 20.0;

/// A query as the dashboard asks it.
struct Question {
    /// The name of the plan's file.
    name: &'static str,
    /// What it is, in words.
    title: &'static str,
    /// `$1` is text and changes with each run.
    sql: &'static str,
    /// The text of one run.
    text: fn(&Samplings, usize) -> String,
    /// How many rows it gives at least.
    rows_min: usize,
}

/// Values that are there to be found.
struct Samplings {
    emails: Vec<String>,
    ids: Vec<String>,
}

const QUESTIONS: [Question; 7] = [
    Question {
        name: "newest_contacts",
        title: "the 50 contacts changed last",
        sql: "select id, first_name, last_name, email, company, sync_status, updated_at from public.sync_contacts
              where account_id = $1 and deleted_at is null order by updated_at desc limit 50",
        text: |_, _| "demo".to_owned(),
        rows_min: 50,
    },
    Question {
        name: "contact_by_email",
        title: "a contact by its e-mail address, in any case",
        sql: "select * from public.find_contacts('demo', $1)",
        text: |found, run| found.email(run).to_uppercase(),
        rows_min: 1,
    },
    Question {
        name: "contacts_by_name",
        title: "contacts by the beginning of a last name",
        sql: "select * from public.find_contacts('demo', $1)",
        text: |_, run| ["me", "smi", "Garcia-1", "k", "novak-20"].get(run % 5).copied().unwrap_or("s").to_owned(),
        rows_min: 1,
    },
    Question {
        name: "open_conflicts",
        title: "open conflicts, oldest first",
        sql: "select * from public.keap_open_conflicts where account_id = $1 order by detected_at limit 50",
        text: |_, _| "demo".to_owned(),
        rows_min: 50,
    },
    Question {
        name: "health",
        title: "health of every kind of record",
        sql: "select * from public.sync_health where account_id = $1",
        text: |_, _| "demo".to_owned(),
        rows_min: 4,
    },
    Question {
        name: "history",
        title: "the history of one contact",
        sql: "select operation, old_data, changed_fields, sync_source, user_id, created_at from public.sync_audit_log
              where account_id = 'demo' and entity_type = 'contact' and entity_id = $1::text::uuid
              order by created_at desc limit 100",
        text: |found, run| found.id(run),
        rows_min: 3,
    },
    Question {
        name: "newest_orders",
        title: "the 50 newest orders with their contacts",
        sql: "select * from public.keap_orders where account_id = $1 order by order_date desc limit 50",
        text: |_, _| "demo".to_owned(),
        rows_min: 50,
    },
];

impl Samplings {
    fn email(&self, run: usize) -> String {
        self.emails.get(run % self.emails.len().max(1)).cloned().unwrap_or_default()
    }

    fn id(&self, run: usize) -> String {
        self.ids.get(run % self.ids.len().max(1)).cloned().unwrap_or_default()
    }
}

/// Measures on a server of its own, and writes the plans to `docs/plans`.
pub async fn measure(
    workspace: &Workspace,
    server: &ScratchPostgres,
    measurement: &mut Measurement,
) -> Result<()> {
    let database = server.migrated_database(workspace, DATABASE).await?;
    let step = Step::start("Making 1,000,000 contacts, 200,000 orders and 3,000,000 audit entries");
    fill(&database).await?;
    step.done();
    measurement.condition(format!(
        "1,000,000 contacts, 200,000 orders, 3,000,000 audit entries; each query {RUNS} times over loopback by a member with the role \
         authenticated, other values each time, after one run that is not counted; in a connection of its own, as a pooler gives it"
    ));
    let superuser = database::connect(&database.superuser_url).await?;
    let samplings =
        Samplings { emails: texts(&superuser, "email").await?, ids: texts(&superuser, "id::text").await? };
    let big = plans::big_relations(&superuser).await?;
    for question in &QUESTIONS {
        let reader = PlanReader::connect(&database.superuser_url).await?;
        reader
            .client
            .batch_execute(&format!(
                "select set_config('request.jwt.claims', '{{\"sub\": \"{MEMBER}\", \"role\": \"authenticated\"}}', false);
                 set role authenticated"
            ))
            .await?;
        let mut times = Vec::new();
        for run in 0..=RUNS {
            let text = (question.text)(&samplings, run);
            let started = Instant::now();
            let parameters: [(&(dyn ToSql + Sync), Type); 1] = [(&text, Type::TEXT)];
            let rows = reader
                .client
                .query_typed(question.sql, &parameters)
                .await
                .with_context(|| question.title.to_owned())?;
            times.push(started.elapsed());
            ensure!(rows.len() >= question.rows_min, "{}: {} rows for {text}", question.title, rows.len());
        }
        let plan = reader.plan_of(question.sql, &(question.text)(&samplings, RUNS)).await?;
        plans::write(workspace, question.name, question.sql, &plan)?;
        let times: Samples = times.into_iter().skip(1).collect();
        measurement.figure(format!("{}, median", question.title), times.median_ms(), "ms");
        let name = format!("{}, p95", question.title);
        measurement.figure_with_target(name, times.percentile_ms(95), "ms", Target::Under(MS_MAX));
        let scanned = plans::read_whole(&plan, &big);
        let verdict = if scanned.is_empty() { "none".to_owned() } else { scanned.join(", ") };
        measurement.check(format!("{}: big tables read whole", question.name), scanned.is_empty(), verdict);
    }
    Ok(())
}

async fn fill(database: &MigratedDatabase) -> Result<()> {
    let engine = database::connect(&database.engine_url).await?;
    engine.batch_execute(FILL).await.context("the large mirror cannot be made")?;
    let superuser = database::connect(&database.superuser_url).await?;
    superuser
        .batch_execute(&format!(
            "insert into auth.users (id, email) values ('{MEMBER}', 'member@example.com');
             insert into public.sync_account_members (account_id, user_id, role) values ('demo', '{MEMBER}', 'viewer');"
        ))
        .await
        .context("the member cannot be made")?;
    superuser.batch_execute("vacuum analyze").await?;
    superuser.batch_execute("checkpoint").await.map_err(Into::into)
}

async fn texts(client: &tokio_postgres::Client, column: &str) -> Result<Vec<String>> {
    let sql = format!(
        "select {column} from public.sync_contacts
         where account_id = 'demo' and email is not null and keap_id::integer % 16807 = 1"
    );
    Ok(client.query(&sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}
