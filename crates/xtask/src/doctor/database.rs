//! The database, asked directly: version, clock, migrations, the workers' role, and whether the workers reach this very one.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use sqlx::{Connection as _, PgConnection, Row as _};

use super::{Finding, clock_skew, own_clock};
use crate::database::ENGINE;
use crate::migrate::{self, MigrationState};
use crate::workspace::Workspace;

/// The Postgres versions that the migrations are made for.
const POSTGRES_MAJORS: std::ops::RangeInclusive<i32> = 15..=17;

/// Share of the server's connections in use from which the next one may be refused, in percent.
const CONNECTIONS_PERCENT_MAX: i64 = 90;

/// Everything that one statement tells. The server's start tells servers apart that hold databases of one name.
const FACTS: &str = "
    select current_setting('server_version'),
        floor(extract(epoch from clock_timestamp()))::bigint,
        current_database()::text,
        (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint::text,
        current_setting('max_connections')::bigint,
        (select count(*) from pg_stat_activity where backend_type = 'client backend'),
        -- What a role has of which nothing is said; what is said of this one says nothing of others.
        (select setting::bool or source in ('user', 'database user') from pg_settings where name = 'jit')";

/// The role's rights, and whether its statements are compiled before they run.
const ROLE: &str = "
    select role.rolcanlogin, role.rolsuper, role.rolbypassrls,
        pg_jit_available() and coalesce((
            select option.value::bool
            from pg_db_role_setting setting
            cross join lateral unnest(setting.setconfig) as line
            cross join lateral (select split_part(line, '=', 1) as name, split_part(line, '=', 2) as value) as option
            where setting.setrole in (0, role.oid) and option.name = 'jit'
                and setting.setdatabase in (0, (select oid from pg_database where datname = current_database()))
            -- What is said of the role in this database counts most, then of the role, then of the database.
            order by setting.setrole <> 0 desc, setting.setdatabase <> 0 desc
            limit 1
        ), $2)
    from pg_roles role
    where role.rolname = $1";

/// The workers' role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineRole {
    /// May log in.
    pub can_login: bool,
    /// May do everything.
    pub is_superuser: bool,
    /// Row level security does not hold for it.
    pub bypasses_row_security: bool,
}

/// What is seen of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseFacts {
    /// As the server says it.
    pub version: String,
    /// Its clock, in seconds since 1970.
    pub clock_seconds: i64,
    /// This machine's clock at the moment when that was told, in seconds since 1970. Later the two would differ by as long as the rest
    /// of the look took.
    pub own_clock_seconds: i64,
    /// Its name.
    pub name: String,
    /// When its server started, in microseconds since 1970.
    pub server_started_us: String,
    /// Connections that the server takes.
    pub connections_max: i64,
    /// Connections that it has.
    pub connections: i64,
    /// The workers' role, if it is there.
    pub engine: Option<EngineRole>,
    /// That role's statements are compiled before they run, which takes longer than running them.
    pub compiles: bool,
    /// The migrations of this checkout.
    pub migrations: Vec<MigrationState>,
}

/// Looks at the database; `seen` is what the workers see of theirs.
pub(super) async fn findings(workspace: &Workspace, url: Option<&str>, seen: Option<&Value>) -> Vec<Finding> {
    let Some(url) = url.filter(|url| !url.is_empty()) else {
        return vec![Finding::new(
            "database",
            Err(anyhow::anyhow!(
                "DATABASE_URL is not set: give the direct or session-pooled connection of the deployment's database"
            )),
        )];
    };
    match look(workspace, url).await {
        Ok(facts) => judge(&facts, seen),
        Err(error) => vec![Finding::new("database", Err(error))],
    }
}

async fn look(workspace: &Workspace, url: &str) -> Result<DatabaseFacts> {
    let mut connection =
        PgConnection::connect(url).await.map_err(|error| anyhow::anyhow!(refusal(&error)))?;
    let row = sqlx::query(FACTS).fetch_one(&mut connection).await?;
    let own_clock_seconds = own_clock();
    let compiles_unless_told: bool = row.try_get(6)?;
    // Postgres says that it cannot compile where the one who asks has it turned off.
    sqlx::query("set jit = on").execute(&mut connection).await?;
    let role =
        sqlx::query(ROLE).bind(ENGINE).bind(compiles_unless_told).fetch_optional(&mut connection).await?;
    let compiles = role.as_ref().map(|role| role.try_get(3)).transpose()?;
    let engine = role
        .map(|role| {
            anyhow::Ok(EngineRole {
                can_login: role.try_get(0)?,
                is_superuser: role.try_get(1)?,
                bypasses_row_security: role.try_get(2)?,
            })
        })
        .transpose()?;
    connection.close().await.context("the connection to the database did not close")?;
    let migrations = migrate::status(workspace, url).await?;
    Ok(DatabaseFacts {
        version: row.try_get(0)?,
        clock_seconds: row.try_get(1)?,
        own_clock_seconds,
        name: row.try_get(2)?,
        server_started_us: row.try_get(3)?,
        connections_max: row.try_get(4)?,
        connections: row.try_get(5)?,
        engine,
        compiles: compiles.unwrap_or_default(),
        migrations,
    })
}

/// Why there is no connection, and the fix. The address stays out of it: it holds the password.
fn refusal(error: &sqlx::Error) -> String {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    match code.as_deref() {
        Some("28P01" | "28000") => {
            "refuses user or password: take the connection string from Supabase's settings anew, with %-escapes in the password".to_owned()
        }
        Some("3D000") => "has no database of this name: Supabase's is called postgres".to_owned(),
        Some("53300") => "has no free connection: close other clients, or raise max_connections".to_owned(),
        Some(code) => format!("refuses the connection (SQLSTATE {code}): see its log"),
        None => "is out of reach: see that the project is not paused and that DATABASE_URL has its host and port; the direct host is IPv6 only, \
                 Supabase's session pooler (port 5432) is not"
            .to_owned(),
    }
}

/// Judges what was seen.
#[must_use]
pub fn judge(facts: &DatabaseFacts, seen: Option<&Value>) -> Vec<Finding> {
    let mut findings = vec![
        Finding::new("postgres version", version(facts)),
        Finding::new("postgres clock", clock_skew(facts.clock_seconds, facts.own_clock_seconds)),
        Finding::new("postgres connections", connections(facts)),
        Finding::new("schema", schema(&facts.migrations)),
        Finding::new("workers' role", role(facts)),
    ];
    if let Some(seen) = seen {
        findings.push(Finding::new("one database", same(facts, seen)));
    }
    findings
}

fn version(facts: &DatabaseFacts) -> Result<String> {
    let major = facts.version.split(['.', ' ']).next().unwrap_or_default().parse::<i32>();
    ensure!(
        major.is_ok_and(|major| POSTGRES_MAJORS.contains(&major)),
        "{} is not supported: use Postgres 15 to 17",
        facts.version
    );
    Ok(facts.version.clone())
}

fn connections(facts: &DatabaseFacts) -> Result<String> {
    ensure!(
        facts.connections.saturating_mul(100) < facts.connections_max.saturating_mul(CONNECTIONS_PERCENT_MAX),
        "{} of {} are in use: close other clients, lower Hyperdrive's pool (`wrangler hyperdrive update <id> --origin-connection-limit`), or take \
         a larger instance",
        facts.connections,
        facts.connections_max
    );
    Ok(format!("{} of {}", facts.connections, facts.connections_max))
}

fn schema(migrations: &[MigrationState]) -> Result<String> {
    let missing: Vec<i64> = migrations.iter().filter(|one| !one.applied).map(|one| one.version).collect();
    ensure!(
        missing.is_empty(),
        "migrations {missing:?} are missing: run `cargo xtask migrate up` with DATABASE_URL set"
    );
    let changed: Vec<i64> =
        migrations.iter().filter(|one| one.changed_since).map(|one| one.version).collect();
    ensure!(
        changed.is_empty(),
        "migrations {changed:?} were applied with another content: restore their files, and put changes into a new one"
    );
    Ok(format!("version {}", migrations.last().map_or(0, |one| one.version)))
}

fn role(facts: &DatabaseFacts) -> Result<String> {
    let Some(engine) = facts.engine else {
        bail!("there is no role {ENGINE}: run `cargo xtask migrate up`, which makes it");
    };
    ensure!(
        !engine.is_superuser && !engine.bypasses_row_security,
        "{ENGINE} may do more than it should: run `alter role {ENGINE} nosuperuser nobypassrls` as a superuser"
    );
    ensure!(
        engine.can_login,
        "{ENGINE} may not log in: run `alter role {ENGINE} login password '…'`, and give Hyperdrive that password"
    );
    ensure!(
        !facts.compiles,
        "{ENGINE}'s statements are compiled before they run (jit), which makes syncs several times slower: run \
         `alter role {ENGINE} in database \"{}\" set jit = off`, then let Hyperdrive connect anew",
        facts.name
    );
    Ok(format!("{ENGINE}, with no more rights than it needs"))
}

fn same(facts: &DatabaseFacts, seen: &Value) -> Result<String> {
    let text = |name: &str| seen.get(name).and_then(Value::as_str).unwrap_or_default();
    ensure!(
        text("database") == facts.name && text("server_started_us") == facts.server_started_us,
        "the workers reach another database ({}) than DATABASE_URL names ({}): correct the one that is wrong; `wrangler hyperdrive get <id>` shows \
         the workers'",
        text("database"),
        facts.name
    );
    Ok("the workers' is the one of DATABASE_URL".to_owned())
}
