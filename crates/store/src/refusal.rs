//! What an error of Postgres calls for. The codes: PostgreSQL documentation, appendix A.
//!
//! Messages are made from the code and from names of constraints and columns, never from Postgres' own text or detail, which
//! quote values.

use keapsync_domain::failure::{Failure, FailureClass};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::{Error, Row};

/// Times a statement is sent when others keep winning over it.
const ATTEMPTS_MAX: usize = 5;

/// Sends a statement again while Postgres ended it only because of concurrent ones. Nothing of it has taken effect then.
pub(crate) async fn retried<T>(send: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
    let mut attempt = 1;
    loop {
        match send().await {
            Err(error) if attempt < ATTEMPTS_MAX && lost_to_others(&error) => attempt += 1,
            outcome => return outcome,
        }
    }
}

fn lost_to_others(error: &Error) -> bool {
    error.code().is_some_and(|code| {
        *code == SqlState::T_R_SERIALIZATION_FAILURE || *code == SqlState::T_R_DEADLOCK_DETECTED
    })
}

/// Why a batch of writes was refused, by what to do with the batch.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Some record of the batch can't be stored; the text says why, for a record that stands alone.
    Data(String),
    /// Some key of the batch exists already: for a record that stands alone, read it again.
    Duplicate,
    /// The batch is not to blame.
    Other(Failure),
}

/// Sorts an error of a write.
pub(crate) fn refusal(error: &Error) -> Refusal {
    let Some(db_error) = error.as_db_error() else {
        return Refusal::Other(failure(error));
    };
    let code = db_error.code().code();
    if *db_error.code() == SqlState::UNIQUE_VIOLATION {
        Refusal::Duplicate
    } else if *db_error.code() == SqlState::FOREIGN_KEY_VIOLATION {
        Refusal::Other(Failure::new(
            FailureClass::Unexpected,
            "the account has no row in sync_accounts: mirror the account before its records",
        ))
    } else if code.starts_with("22")
        || code.starts_with("23")
        || *db_error.code() == SqlState::PROGRAM_LIMIT_EXCEEDED
    {
        Refusal::Data(describe_data_error(db_error))
    } else {
        Refusal::Other(failure(error))
    }
}

fn describe_data_error(error: &DbError) -> String {
    let code = error.code();
    let what =
        if *code == SqlState::CHARACTER_NOT_IN_REPERTOIRE || *code == SqlState::UNTRANSLATABLE_CHARACTER {
            "a text holds a character that Postgres cannot store"
        } else if *code == SqlState::CHECK_VIOLATION {
            "a value is outside of what its column takes"
        } else if *code == SqlState::NOT_NULL_VIOLATION {
            "a value is missing"
        } else if *code == SqlState::DATETIME_FIELD_OVERFLOW || *code == SqlState::INVALID_DATETIME_FORMAT {
            "a date or time does not exist"
        } else if *code == SqlState::INVALID_TEXT_REPRESENTATION {
            "a value has the wrong form for its column"
        } else if *code == SqlState::PROGRAM_LIMIT_EXCEEDED {
            "a value is too large"
        } else {
            "a value does not fit"
        };
    let place = match (error.constraint(), error.column()) {
        (Some(constraint), _) => format!(", constraint {constraint}"),
        (None, Some(column)) => format!(", column {column}"),
        (None, None) => String::new(),
    };
    format!(
        "Postgres refused the record: {what} (SQLSTATE {}{place}). Correct the record in Keap; it is read again then.",
        code.code()
    )
}

/// Reads every row of an answer; one that does not have the form it should have fails the whole.
pub(crate) fn read_all<T>(rows: &[Row], read: impl Fn(&Row) -> Result<T, Error>) -> Result<Vec<T>, Failure> {
    rows.iter().map(read).collect::<Result<_, Error>>().map_err(|error| failure(&error))
}

/// Classifies an error that is no fault of a record.
pub(crate) fn failure(error: &Error) -> Failure {
    let Some(db_error) = error.as_db_error() else {
        // No answer of the server: the connection broke, or the answer made no sense.
        let broken = error.is_closed()
            || std::error::Error::source(error)
                .is_some_and(<dyn std::error::Error + 'static>::is::<std::io::Error>);
        return if broken {
            Failure::new(FailureClass::Unavailable, "the connection to Postgres broke; it is tried again")
        } else {
            Failure::new(
                FailureClass::Unexpected,
                "Postgres' answer could not be read; check that the migrations are applied",
            )
        };
    };
    let code = db_error.code().code();
    let (class, what) = match code {
        "40001" | "40P01" => {
            (FailureClass::Conflict, "Postgres ended the statement in favour of concurrent ones; try again")
        }
        "57014" => (
            FailureClass::Unavailable,
            "Postgres cancelled the statement, mostly for taking too long; it is tried again",
        ),
        "25006" => (FailureClass::Unavailable, "Postgres is read-only; it is tried again"),
        "55P03" => (FailureClass::Unavailable, "a lock in Postgres was not free in time; it is tried again"),
        "42501" => (
            FailureClass::Unexpected,
            "the role lacks a privilege: connect as keapsync_engine and apply the migrations",
        ),
        "42P01" | "42703" | "42883" | "3F000" => (
            FailureClass::Unexpected,
            "the schema lacks something that this version needs: apply the migrations",
        ),
        _ if ["08", "53", "57P", "58"].iter().any(|prefix| code.starts_with(prefix)) => {
            (FailureClass::Unavailable, "Postgres is overloaded, restarting or away; it is tried again")
        }
        _ => (
            FailureClass::Unexpected,
            "Postgres refused the statement; look the code up in its documentation and in its log",
        ),
    };
    Failure::new(class, format!("{what} (SQLSTATE {code})"))
}
