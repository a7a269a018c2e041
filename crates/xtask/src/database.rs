//! The database of a local system: connections, roles and the shim that makes a bare Postgres look like Supabase's.
//!
//! Three roles: a superuser for what a Supabase project would have done already, `keapsync_owner` (no superuser, may make
//! roles) for the migrations and for people, and `keapsync_engine` for the workers.

use anyhow::{Context, Result};
use postgres_protocol::password::scram_sha_256;
use tokio_postgres::{Client, Config, NoTls};

use crate::secrets::Secrets;

/// The database of an embedded server.
pub const DATABASE: &str = "keapsync";

/// The role that owns the database and its schema.
pub const OWNER: &str = "keapsync_owner";

/// The role that the workers log in as; the migrations make it.
pub const ENGINE: &str = "keapsync_engine";

/// What a Supabase project has and a bare Postgres lacks.
pub const SUPABASE_SHIM: &str = include_str!("../sql/supabase_shim.sql");

/// Opens a connection without encryption and drives it until the client is dropped; for servers on this machine.
pub async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = url
        .parse::<Config>()
        .context("the database's URL is not of the form postgres://user:password@host:port/database")?
        .connect(NoTls)
        .await
        .context("no connection to Postgres: is it running, and does it accept this user and password?")?;
    // The task ends with the client; an error on the connection reaches whoever uses the client next.
    drop(tokio::spawn(connection));
    Ok(client)
}

/// Makes the owner and the database on an embedded server, and applies the shim there.
pub async fn prepare_embedded(server_url: &str, database_url: &str, secrets: &Secrets) -> Result<()> {
    let server = connect(server_url).await?;
    let has_owner = server.query_opt("select from pg_roles where rolname = $1", &[&OWNER]).await?;
    if has_owner.is_none() {
        server.batch_execute(&format!("create role {OWNER} login createrole nosuperuser")).await?;
    }
    // A generated password is hexadecimal: nothing in it needs quoting.
    let password = &secrets.postgres_owner_password;
    server.batch_execute(&format!("alter role {OWNER} password '{password}'")).await?;
    let has_database = server.query_opt("select from pg_database where datname = $1", &[&DATABASE]).await?;
    if has_database.is_none() {
        server.batch_execute(&format!("create database {DATABASE} owner {OWNER}")).await?;
    }
    let database = connect(database_url).await?;
    database.batch_execute(SUPABASE_SHIM).await.context("the stand-in for Supabase cannot be applied")?;
    database
        .batch_execute(&format!(
            "grant references, select on auth.users to {OWNER};
             grant usage on schema auth to {OWNER};
             alter publication supabase_realtime owner to {OWNER}"
        ))
        .await
        .context("the owner cannot be given its rights")
}

/// Applies the shim to a database of somebody's own, unless it is Supabase's or has it already.
pub async fn prepare_external(url: &str) -> Result<()> {
    let client = connect(url).await?;
    let roles: i64 = client
        .query_one(
            "select count(*) from pg_roles where rolname in ('anon', 'authenticated', 'service_role')",
            &[],
        )
        .await?
        .get(0);
    let has_users: bool = client.query_one("select to_regclass('auth.users') is not null", &[]).await?.get(0);
    if roles == 3 && has_users {
        return Ok(());
    }
    client.batch_execute(SUPABASE_SHIM).await.with_context(|| {
        "DATABASE_URL names a Postgres without Supabase's roles and schema auth, and its user may not make them: use a \
         user who may create roles and schemas"
    })
}

/// Gives the workers' role its password, which no migration knows.
pub async fn set_engine_password(url: &str, secrets: &Secrets) -> Result<()> {
    let client = connect(url).await?;
    client
        .batch_execute(&engine_password_statement(&secrets.postgres_engine_password))
        .await
        .context(ENGINE_PASSWORD_ADVICE)
}

/// What to do when the workers' role cannot be given its password.
pub const ENGINE_PASSWORD_ADVICE: &str =
    "the password of keapsync_engine cannot be set: the database's user must have made that role";

/// The statement that gives the workers' role its password. It holds a salted digest, not the password, which therefore stands in
/// no log of the server.
#[must_use]
pub fn engine_password_statement(password: &str) -> String {
    format!("alter role {ENGINE} password '{}'", scram_sha_256(password.as_bytes()))
}

/// The same server and database, as another user.
pub fn url_as(url: &str, user: &str, password: &str) -> Result<String> {
    let mut parsed = reqwest::Url::parse(url).context("the database's URL cannot be read")?;
    let replaced = parsed.set_username(user).and_then(|()| parsed.set_password(Some(password)));
    replaced.ok().context("the database's URL has no host")?;
    Ok(parsed.into())
}

/// The same user and database, at another port of the same host.
pub fn at_port(url: &str, port: u16) -> Result<String> {
    let mut parsed = reqwest::Url::parse(url).context("the database's URL cannot be read")?;
    parsed.set_port(Some(port)).ok().context("the database's URL has no host")?;
    Ok(parsed.into())
}

/// The same server and user, in another database.
pub fn in_database(url: &str, database: &str) -> Result<String> {
    let mut parsed = reqwest::Url::parse(url).context("the database's URL cannot be read")?;
    parsed.set_path(database);
    Ok(parsed.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_stands_in_no_statement() {
        let statement = engine_password_statement("a password of the engine");
        assert!(
            statement.starts_with("alter role keapsync_engine password 'SCRAM-SHA-256$4096:"),
            "{statement}"
        );
        assert!(!statement.contains("a password") && statement.matches('\'').count() == 2);
        assert_ne!(
            statement,
            engine_password_statement("a password of the engine"),
            "each has a salt of its own"
        );
    }

    #[test]
    fn another_user_reaches_the_same_database() {
        let url = url_as("postgres://me:old@db.example:6543/app?sslmode=disable", ENGINE, "new").unwrap();
        assert_eq!(url, "postgres://keapsync_engine:new@db.example:6543/app?sslmode=disable");
        assert_eq!(
            in_database("postgres://me:old@db.example/app", "other").unwrap(),
            "postgres://me:old@db.example/other"
        );
        assert_eq!(
            at_port("postgres://me:old@db.example/app", 6432).unwrap(),
            "postgres://me:old@db.example:6432/app"
        );
    }
}
