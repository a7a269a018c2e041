//! `cargo xtask engine-password`: gives the workers' role the password that Hyperdrive logs in with.
//!
//! The migrations make the role without one, because what they contain is public. This connects as they do, with encryption where
//! the server has it, and may be repeated at any time.

use anyhow::{Context, Result, ensure};
use sqlx::AssertSqlSafe;

use crate::database::{ENGINE, ENGINE_PASSWORD_ADVICE, engine_password_statement};
use crate::migrate;

/// Where the password comes from: the environment, because arguments can be read by every user of the machine.
pub const PASSWORD_VARIABLE: &str = "ENGINE_DATABASE_PASSWORD";

/// Fewer characters can be guessed, and the database can be reached from the whole internet.
const PASSWORD_LENGTH_MIN: usize = 24;

/// Sets the password on the database that `url` names.
pub async fn set(url: &str, password: &str) -> Result<()> {
    check(password)?;
    let mut connection = migrate::open(url).await?;
    let role: Option<(i32,)> = sqlx::query_as("select 1 from pg_catalog.pg_roles where rolname = $1")
        .bind(ENGINE)
        .fetch_optional(&mut connection)
        .await
        .context("the roles cannot be read")?;
    ensure!(
        role.is_some(),
        "there is no role {ENGINE} yet: run `cargo xtask migrate up` first, which makes it"
    );
    sqlx::raw_sql(AssertSqlSafe(engine_password_statement(password)))
        .execute(&mut connection)
        .await
        .context(ENGINE_PASSWORD_ADVICE)?;
    migrate::close(connection).await
}

fn check(password: &str) -> Result<()> {
    ensure!(
        password.len() >= PASSWORD_LENGTH_MIN && password.bytes().all(|byte| byte.is_ascii_graphic()),
        "{PASSWORD_VARIABLE} must have {PASSWORD_LENGTH_MIN} characters or more, without blanks: `openssl rand -hex 24` makes one"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_can_be_guessed_is_refused_without_being_repeated() {
        assert!(check(&"0123456789abcdef".repeat(2)).is_ok());
        for password in [
            "",
            "short",
            "twenty four or more, but with blanks",
            "öffentlich-und-lang-genug-aber-nicht-ascii",
        ] {
            let error = check(password).unwrap_err().to_string();
            assert!(
                error.contains("openssl") && (password.is_empty() || !error.contains(password)),
                "{error}"
            );
        }
    }
}
