//! What SQLite's errors mean for the caller. The one place where they are classified.

use rusqlite::{ErrorCode, ffi};

use crate::{Class, Error};

/// An error of `attempt`, which says what was attempted and with which file.
pub(super) fn store(attempt: impl Into<String>) -> impl FnOnce(rusqlite::Error) -> Error {
    let attempt = attempt.into();
    move |error| {
        let (class, reason) = classify(&error);
        Error::Store { attempt, reason, class }
    }
}

fn classify(error: &rusqlite::Error) -> (Class, String) {
    let Some(code) = error.sqlite_error_code() else {
        return (Class::Fatal, error.to_string());
    };
    match code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            (Class::Retry, "another process is writing to the database".into())
        }
        ErrorCode::DiskFull => {
            (Class::Retry, "the disk is full; nothing has been lost, free some space".into())
        }
        ErrorCode::NotADatabase => (Class::Fatal, "the file is not an SQLite database".into()),
        ErrorCode::DatabaseCorrupt => (Class::Fatal, format!("the database file is damaged ({error})")),
        ErrorCode::CannotOpen => (Class::Fatal, "the file cannot be opened or created".into()),
        ErrorCode::SystemIoFailure => {
            (Class::Fatal, format!("reading or writing failed ({})", extended(error)))
        }
        _ => (Class::Fatal, error.to_string()),
    }
}

fn extended(error: &rusqlite::Error) -> &'static str {
    error.sqlite_error().map_or("", |error| ffi::code_to_str(error.extended_code))
}

/// An error that SQLite has not seen.
pub(super) fn fatal(attempt: impl Into<String>, reason: impl Into<String>) -> Error {
    Error::Store { attempt: attempt.into(), reason: reason.into(), class: Class::Fatal }
}
