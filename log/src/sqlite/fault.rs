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
        // Nothing of the transaction is on the disk in a way that a reader would believe, so it may be tried again; which
        // is not so when a sync fails.
        ErrorCode::SystemIoFailure if has_code(error, ffi::SQLITE_IOERR_WRITE) => {
            (Class::Retry, "writing failed; is there a quota, or a limit to the size of a file?".into())
        }
        ErrorCode::SystemIoFailure => {
            (Class::Fatal, format!("reading or writing failed ({})", extended(error)))
        }
        _ => (Class::Fatal, error.to_string()),
    }
}

fn has_code(error: &rusqlite::Error, extended_code: i32) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == extended_code)
}

fn extended(error: &rusqlite::Error) -> &'static str {
    error.sqlite_error().map_or("", |error| ffi::code_to_str(error.extended_code))
}

/// An error that SQLite has not seen.
pub(super) fn fatal(attempt: impl Into<String>, reason: impl Into<String>) -> Error {
    Error::Store { attempt: attempt.into(), reason: reason.into(), class: Class::Fatal }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn a_full_disk_names_the_file_and_can_be_tried_again() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE t (x); PRAGMA max_page_count = 3").unwrap();
        let error = conn.execute("INSERT INTO t VALUES (zeroblob(100000))", []).unwrap_err();
        let error = store("commit to /data/log.db")(error);
        assert_eq!(error.class(), Class::Retry);
        assert!(
            error.to_string().starts_with("failed to commit to /data/log.db: the disk is full"),
            "{error}"
        );
    }

    #[test]
    fn a_failed_write_can_be_tried_again_and_a_failed_sync_cannot() {
        let failure = |code| rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        assert_eq!(store("write")(failure(ffi::SQLITE_IOERR_WRITE)).class(), Class::Retry);
        assert_eq!(store("write")(failure(ffi::SQLITE_IOERR_FSYNC)).class(), Class::Fatal);
        assert_eq!(store("write")(failure(ffi::SQLITE_BUSY_SNAPSHOT)).class(), Class::Retry);
    }
}
