//! Credentials for RPC.

use std::io::ErrorKind;

use sluice_runtime::node::Credentials;

/// Why there are no credentials.
#[derive(Debug)]
pub(super) enum Missing {
    /// The node has not written them yet.
    NotYet(String),
    /// They cannot be read.
    Unreadable(String),
}

/// Value of the `Authorization` header.
pub(super) fn header(credentials: &Credentials) -> Result<String, Missing> {
    credentials.authorization().map_err(|error| match credentials {
        Credentials::CookieFile(path) if error.kind() == ErrorKind::NotFound => {
            Missing::NotYet(format!("there is no cookie file {}; is the node running?", path.display()))
        }
        Credentials::CookieFile(path) => {
            Missing::Unreadable(format!("cookie file {} cannot be read: {error}", path.display()))
        }
        Credentials::UserPassword { .. } => Missing::Unreadable(error.to_string()),
    })
}

/// What to look at when the node does not accept them.
pub(super) fn advice(credentials: &Credentials) -> String {
    match credentials {
        Credentials::UserPassword { user, .. } => {
            format!("it does not accept the password of RPC user {user:?}")
        }
        Credentials::CookieFile(path) => {
            format!("it does not accept the cookie in {}; is it another node's?", path.display())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_never_tells_the_password() {
        let credentials = Credentials::UserPassword { user: "alice".into(), password: "hunter2".into() };
        assert!(!advice(&credentials).contains("hunter2"));
    }
}
