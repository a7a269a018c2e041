//! A fresh database per test, copied from a template that the migrations made.
//!
//! Migrations run as an owner without superuser rights, as on Supabase; Supabase's roles exist. The engine logs in as
//! `keapsync_engine`; a person is the owner or `authenticated`.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

use anyhow::{Context, Result, anyhow};
use keapsync_domain::extra::Extra;
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::record::Record;
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::ports::{LocalRow, RowState, RowWrite, WriteBatch, WriteSource};
use keapsync_store::Store;
use serde_json::{Map, Value, json};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio_postgres::{Client, Config, NoTls};

/// A superuser's URL of the server under test.
const URL_VARIABLE: &str = "KEAPSYNC_TEST_DATABASE_URL";

/// The engine's URL of a pooler in transaction mode before that server; the database's name is put in.
const POOLER_VARIABLE: &str = "KEAPSYNC_TEST_POOLER_URL";

/// Owner of the test databases: may create roles, and nothing else out of the ordinary.
pub const OWNER: &str = "keapsync_test_owner";

/// Password of both roles; the server under test listens on loopback and lives as long as the tests.
const PASSWORD: &str = "keapsync-test";

/// Guards the making of roles and templates against tests of other processes.
const SETUP_LOCK: i64 = 0x6b65_6170;

static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A database of its own, dropped with this value.
pub struct TestDatabase {
    name: String,
    server: Config,
}

impl TestDatabase {
    /// A copy of the migrated template.
    pub async fn migrated() -> Self {
        Self::create(true).await.expect("a test database is made")
    }

    /// A database without any migration.
    pub async fn bare() -> Self {
        Self::create(false).await.expect("a test database is made")
    }

    async fn create(migrated: bool) -> Result<Self> {
        let server = server()?;
        let admin = connect(&server).await?;
        let template = template(&server, &admin).await?;
        let name =
            format!("keapsync_test_{}_{}", std::process::id(), DATABASES.fetch_add(1, Ordering::Relaxed));
        let source = if migrated { template.as_str() } else { "template0" };
        admin.batch_execute(&format!("drop database if exists {name}")).await?;
        admin.batch_execute(&format!("create database {name} template {source} owner {OWNER}")).await?;
        Ok(Self { name, server })
    }

    fn config(&self, user: &str) -> Config {
        let mut config = self.server.clone();
        config.dbname(&self.name).user(user).password(PASSWORD);
        config
    }

    /// A session of the engine.
    pub async fn engine(&self) -> Client {
        connect(&self.config("keapsync_engine")).await.expect("keapsync_engine connects")
    }

    /// The engine as it connects in production: through a pooler that lends a server's session for one transaction only, and
    /// has fewer of them than there are clients. So a statement that relies on its session fails here.
    pub async fn pooled(&self) -> Client {
        let mut config = pooler().expect("a pooler is named");
        config.dbname(&self.name);
        connect(&config).await.expect("keapsync_engine connects through the pooler")
    }

    /// A session of the owner: a person, to the triggers.
    pub async fn person(&self) -> Client {
        connect(&self.config(OWNER)).await.expect("the owner connects")
    }

    /// A session of the server's superuser in this database.
    pub async fn superuser(&self) -> Client {
        let mut config = self.server.clone();
        config.dbname(&self.name);
        connect(&config).await.expect("the superuser connects")
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (name, server) = (self.name.clone(), self.server.clone());
        // A thread of its own, because the test's runtime may be ending.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                connect(&server).await?.batch_execute(&format!("drop database {name} with (force)")).await?;
                anyhow::Ok(())
            })
        });
        if !matches!(dropped.join(), Ok(Ok(()))) && !std::thread::panicking() {
            eprintln!("the test database {} is left behind", self.name);
        }
    }
}

fn server() -> Result<Config> {
    let url = std::env::var(URL_VARIABLE).map_err(|_| {
        anyhow!(
            "{URL_VARIABLE} is not set: run `cargo xtask test`, which starts a Postgres and sets it, or set it to a superuser's URL"
        )
    })?;
    url.parse().with_context(|| format!("{URL_VARIABLE} is no Postgres URL"))
}

fn pooler() -> Result<Config> {
    let url = std::env::var(POOLER_VARIABLE).map_err(|_| {
        anyhow!(
            "{POOLER_VARIABLE} is not set: run `cargo xtask test --only store`, which starts a PgBouncer and sets it, or set it to a URL of \
             keapsync_engine (password {PASSWORD}) at a PgBouncer in transaction mode before the server that {URL_VARIABLE} names"
        )
    })?;
    url.parse().with_context(|| format!("{POOLER_VARIABLE} is no Postgres URL"))
}

/// Connects, and drives the connection until the client is dropped.
pub async fn connect(config: &Config) -> Result<Client> {
    let (client, connection) = config.connect(NoTls).await.with_context(|| {
        format!("no connection to the server that {URL_VARIABLE} or {POOLER_VARIABLE} names; `cargo xtask test` starts both")
    })?;
    tokio::spawn(connection);
    Ok(client)
}

/// The migrations' directory.
fn migrations_directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../migrations")
}

/// Names and texts of the migrations that end in `suffix`, in order.
pub fn migrations(suffix: &str) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = std::fs::read_dir(migrations_directory())
        .expect("the migrations are there")
        .map(|entry| entry.expect("a directory entry is read").path())
        .filter(|path| path.to_string_lossy().ends_with(suffix))
        .map(|path| {
            let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).expect("a migration is read"))
        })
        .collect();
    files.sort();
    files
}

/// Applies migrations, each in a transaction of its own.
pub async fn apply(client: &Client, files: &[(String, String)]) -> Result<()> {
    for (name, text) in files {
        client.batch_execute(&format!("begin;\n{text}\n;commit")).await.with_context(|| name.clone())?;
    }
    Ok(())
}

/// Makes the roles and the template, once per state of the migrations, and answers the template's name.
async fn template(server: &Config, admin: &Client) -> Result<String> {
    let up = migrations(".up.sql");
    let mut hasher = DefaultHasher::new();
    up.hash(&mut hasher);
    let name = format!("keapsync_template_{:016x}", hasher.finish());

    admin.execute("select pg_advisory_lock($1)", &[&SETUP_LOCK]).await?;
    let known = admin.query_opt("select from pg_database where datname = $1", &[&name]).await?;
    if known.is_none() {
        for (role, attributes) in
            [(OWNER, "login createrole"), ("anon", ""), ("authenticated", ""), ("service_role", "")]
        {
            if admin.query_opt("select from pg_roles where rolname = $1", &[&role]).await?.is_none() {
                admin.batch_execute(&format!("create role {role} {attributes}")).await?;
            }
        }
        admin.batch_execute(&format!("alter role {OWNER} password '{PASSWORD}'")).await?;
        let unfinished = format!("{name}_unfinished");
        admin.batch_execute(&format!("drop database if exists {unfinished}")).await?;
        admin
            .batch_execute(&format!("create database {unfinished} template template0 owner {OWNER}"))
            .await?;
        {
            let mut config = server.clone();
            config.dbname(&unfinished);
            // What a Supabase project starts with: new objects are everybody's.
            let superuser = connect(&config).await?;
            superuser
                .batch_execute(&format!(
                    "alter default privileges for role {OWNER} in schema public
                         grant all on tables to anon, authenticated, service_role;
                     alter default privileges for role {OWNER} in schema public
                         grant all on sequences to anon, authenticated, service_role;
                     alter default privileges for role {OWNER} in schema public
                         grant all on functions to anon, authenticated, service_role"
                ))
                .await?;
            config.user(OWNER).password(PASSWORD);
            apply(&connect(&config).await?, &up).await?;
        }
        admin.batch_execute(&format!("alter role keapsync_engine password '{PASSWORD}'")).await?;
        // The sessions above end on the server a moment after their clients are dropped.
        admin
            .execute(
                "select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = $1",
                &[&unfinished],
            )
            .await?;
        admin.batch_execute(&format!("alter database {unfinished} rename to {name}")).await?;
    }
    admin.execute("select pg_advisory_unlock($1)", &[&SETUP_LOCK]).await?;
    Ok(name)
}

/// The account of the tests.
pub fn account() -> AccountId {
    AccountId::parse("demo").expect("the name is valid")
}

/// Mirrors the account, which every record needs.
pub async fn with_account(engine: &Client) {
    Store::new(engine)
        .upsert_account(&account(), "Demo", "active", "{}")
        .await
        .expect("the account is mirrored");
}

/// Mirrors a second account, called `other`.
pub async fn with_other_account(engine: &Client) {
    let other = AccountId::parse("other").expect("the name is valid");
    Store::new(engine)
        .upsert_account(&other, "Other", "active", "{}")
        .await
        .expect("the account is mirrored");
}

/// A hash-shaped text that stands for `seed`.
pub fn hash(seed: &str) -> String {
    format!("{seed:0>32}")
}

/// A contact's record from a JSON object.
pub fn record(values: &Value) -> Record {
    record_of(EntityType::Contact, values)
}

/// A record of any kind from a JSON object.
pub fn record_of(entity: EntityType, values: &Value) -> Record {
    Record::from_object(entity, values.as_object().cloned().unwrap_or_default())
}

/// Every column of a kind of record filled, with what is hard to carry.
pub fn full_record(entity: EntityType) -> Value {
    match entity {
        EntityType::Contact => json!({
            "email": "ann@example.com", "first_name": "Änn \"the\" O'Neil\\", "last_name": "{a,b}",
            "middle_name": "\u{1F600}", "phone": "+1 555 0100", "company": "NULL", "job_title": "line\nbreak",
            "website": "https://example.com/?a=1&b=2", "birth_date": "1980-02-29", "owner_id": "7",
            "lead_source_id": "12", "opt_in_status": "SINGLE_OPT_IN",
            "emails": [{"field": "EMAIL2", "email": "b@example.com"}], "phones": [{"field": "PHONE2", "number": "1"}],
            "addresses": [{"field": "BILLING", "line1": "x"}], "tags": ["2", "10"],
            "custom_fields": {"5": "gold", "6": 1.5},
        }),
        EntityType::Order => json!({
            "keap_contact_id": "9223372036854775807", "order_number": "{1,\"2\"}", "title": "Tea & 'more'",
            "order_date": "2026-03-01T08:00:00.123Z", "total_amount": "99999999999.999", "paid_amount": "12.5",
            "due_amount": "-0.001", "refund_amount": "0", "currency": "KWD", "status": "PAID", "order_type": "Online",
            "line_items": [{"id": "7", "name": "Tea", "quantity": 2, "price_per_unit": "1.25"}],
            "shipping_address": {"line1": "1 Main", "country_code": "USA"}, "billing_address": {"line1": "2 Main"},
            "notes": "line\nbreak", "custom_fields": {"5": [1, null]},
        }),
        EntityType::Tag => json!({
            "name": "VIP \"gold\"", "category": "Level", "category_id": "4", "description": "line\nbreak",
        }),
        EntityType::Subscription => json!({
            "keap_contact_id": "7", "product_id": "3", "product_name": "Tea box", "plan_id": "9", "status": "active",
            "start_date": "0001-01-01", "end_date": "9999-12-31", "next_bill_date": "2028-02-29",
            "billing_cycle": "MONTH", "billing_frequency": 2_147_483_647, "amount": "29.95", "currency": "US",
            "quantity": -1, "auto_charge": false, "cancel_reason": "moved", "custom_fields": {"5": {"a": true}},
        }),
    }
}

/// The write that inserts a contact of Keap.
pub fn insert_of(keap_id: &str, values: &Value) -> RowWrite {
    insert_as(EntityType::Contact, keap_id, values)
}

/// The write that inserts a Keap record of any kind.
pub fn insert_as(entity: EntityType, keap_id: &str, values: &Value) -> RowWrite {
    RowWrite {
        id: None,
        expected_version: 0,
        keap_id: keap_id.to_owned(),
        record: Some(record_of(entity, values)),
        extra: Extra::default(),
        keap_created_at: Some(Timestamp(1_600_000_000_123)),
        keap_updated_at: Some(Timestamp(1_700_000_000_456)),
        keap_observed_at: Timestamp(1_800_000_000_789),
        keap_hash: hash(keap_id),
        base_hash: hash("ba5e"),
        base_delta: Map::new(),
        state: RowState::Completed,
        sync_error: None,
        deleted_at: None,
        audit_operation: Some("create"),
        audit_old: Map::new(),
        audit_lost: Map::new(),
        conflicts: Vec::new(),
    }
}

/// The write that brings a row that was read to new values.
pub fn update_of(row: &LocalRow, values: &Value) -> RowWrite {
    let keap_id = row.keap_id.clone().expect("the row is linked");
    RowWrite {
        id: Some(row.id.clone()),
        expected_version: row.version,
        audit_operation: Some("update"),
        ..insert_as(row.record.entity(), &keap_id, values)
    }
}

/// A batch of a full sync.
pub fn batch(rows: Vec<RowWrite>) -> WriteBatch {
    WriteBatch { run_id: None, source: WriteSource::FullSync, rows }
}
