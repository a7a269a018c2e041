//! A Postgres client over Hyperdrive, made anew for each invocation: sockets belong to the request that opened them, so a
//! client never lives in a static or in an object's field.
//!
//! Only `query_typed` and `execute_typed` may be used with it (unnamed statements, one round trip); Hyperdrive pools by
//! transaction and promises nothing about prepared names or settings. TLS between the proxy and Postgres is the proxy's:
//! the socket from the worker to the proxy stays inside the platform and is plain.

use crate::clock::sleep_ms;
use crate::socket::ChunkedSocket;
use futures_util::future::{Either, select};
use keapsync_domain::failure::{Failure, FailureClass};
use std::pin::pin;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::{Client, Config, NoTls};
use worker::{Env, Hyperdrive, wasm_bindgen_futures};

/// Name of the Hyperdrive binding.
pub const HYPERDRIVE_BINDING: &str = "HYPERDRIVE";

/// Longest wait for a connection, in milliseconds. Hyperdrive answers from a warm pool; a minute-long wait would only hold
/// work that its queue can keep.
const CONNECT_TIMEOUT_MS: i64 = 5_000;

/// Name by which Postgres lists our sessions.
const APPLICATION_NAME: &str = "keapsync";

/// Connects to the database behind the binding. The connection runs beside this invocation and ends with the client.
pub async fn connect(env: &Env, binding: &str) -> Result<Client, Failure> {
    let hyperdrive = env.hyperdrive(binding).map_err(|_| {
        unavailable(format!(
            "the Hyperdrive binding {binding} is missing: add it under [[hyperdrive]] in this worker's wrangler configuration"
        ))
    })?;
    let opening = pin!(open(&hyperdrive));
    match select(opening, pin!(sleep_ms(CONNECT_TIMEOUT_MS))).await {
        Either::Left((client, _)) => client,
        Either::Right(((), _)) => Err(unavailable(format!(
            "Postgres did not answer within {CONNECT_TIMEOUT_MS} ms: see that the database behind {binding} is up and reachable"
        ))),
    }
}

async fn open(hyperdrive: &Hyperdrive) -> Result<Client, Failure> {
    let config = config_of(&hyperdrive.user(), &hyperdrive.password(), &hyperdrive.database());
    let socket = hyperdrive.connect().map_err(|_| {
        unavailable("no socket to Hyperdrive could be opened: see that its configuration exists".to_owned())
    })?;
    let (client, connection) = config
        .connect_raw(ChunkedSocket::new(socket), NoTls)
        .await
        .map_err(|error| connect_failure(&error))?;
    wasm_bindgen_futures::spawn_local(async move {
        // An error here also ends the client's open query, which reports it; telling it twice helps nobody.
        let _ = connection.await;
    });
    Ok(client)
}

fn config_of(user: &str, password: &str, database: &str) -> Config {
    let mut config = Config::new();
    config
        .user(user)
        .password(password)
        .dbname(database)
        .application_name(APPLICATION_NAME)
        .ssl_mode(SslMode::Disable);
    config
}

fn connect_failure(error: &tokio_postgres::Error) -> Failure {
    unavailable(advice(error.as_db_error().map(DbError::code)))
}

/// What to do about a refused connection. Postgres' own message stays out: it may repeat the user's name.
fn advice(code: Option<&SqlState>) -> String {
    match code {
        Some(&SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
            "Postgres refused user or password: give Hyperdrive the right ones (`wrangler hyperdrive update`)".to_owned()
        }
        Some(&SqlState::INVALID_CATALOG_NAME) => {
            "the database does not exist: correct its name in Hyperdrive's configuration".to_owned()
        }
        Some(&SqlState::TOO_MANY_CONNECTIONS) => {
            "Postgres has no free connection: raise max_connections or lower Hyperdrive's pool size".to_owned()
        }
        Some(code) => format!("Postgres refused the connection (SQLSTATE {}): see its log", code.code()),
        None => "the connection to Postgres was cut off: see that the database is up and reachable from Hyperdrive".to_owned(),
    }
}

fn unavailable(message: String) -> Failure {
    Failure::new(FailureClass::Unavailable, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_the_fix() {
        for (code, fix) in [
            (Some(&SqlState::INVALID_PASSWORD), "wrangler hyperdrive update"),
            (Some(&SqlState::INVALID_CATALOG_NAME), "does not exist"),
            (Some(&SqlState::TOO_MANY_CONNECTIONS), "pool size"),
            (Some(&SqlState::CANNOT_CONNECT_NOW), "57P03"),
            (None, "database is up"),
        ] {
            assert!(advice(code).contains(fix), "{}", advice(code));
        }
    }

    #[test]
    fn the_configuration_names_us_and_hides_the_password() {
        let config = config_of("postgres", "p@ss word", "app");
        assert_eq!(config.get_application_name(), Some(APPLICATION_NAME));
        assert_eq!(config.get_ssl_mode(), SslMode::Disable);
        assert_eq!((config.get_user(), config.get_dbname()), (Some("postgres"), Some("app")));
        assert!(!format!("{config:?}").contains("p@ss"));
    }
}
