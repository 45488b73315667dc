//! Credentials for RPC.

use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;

/// Credentials for RPC. Never printed.
#[derive(Clone)]
pub enum Auth {
    /// `rpcuser` and `rpcpassword` (or `rpcauth`).
    UserPassword {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// The cookie that the node writes at each start.
    CookieFile(PathBuf),
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UserPassword { user, .. } => write!(f, "UserPassword({user:?}, <redacted>)"),
            Self::CookieFile(path) => write!(f, "CookieFile({path:?})"),
        }
    }
}

/// Why there are no credentials.
#[derive(Debug)]
pub(super) enum Missing {
    /// The node has not written them yet.
    NotYet(String),
    /// They cannot be read.
    Unreadable(String),
}

impl Auth {
    /// Value of the `Authorization` header; a cookie is read anew each time.
    pub(super) fn header(&self) -> Result<String, Missing> {
        let pair = match self {
            Self::UserPassword { user, password } => format!("{user}:{password}"),
            Self::CookieFile(path) => match std::fs::read_to_string(path) {
                Ok(cookie) => cookie.trim_end().to_owned(),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Err(Missing::NotYet(format!(
                        "there is no cookie file {}; is the node running?",
                        path.display()
                    )));
                }
                Err(error) => {
                    return Err(Missing::Unreadable(format!(
                        "cookie file {} cannot be read: {error}",
                        path.display()
                    )));
                }
            },
        };
        Ok(format!("Basic {}", base64(pair.as_bytes())))
    }

    /// What to look at when the node does not accept them.
    pub(super) fn advice(&self) -> String {
        match self {
            Self::UserPassword { user, .. } => {
                format!("it does not accept the password of RPC user {user:?}")
            }
            Self::CookieFile(path) => {
                format!("it does not accept the cookie in {}; is it another node's?", path.display())
            }
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |n: usize| u32::from(group.get(n).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let used = digit <= group.len();
            text.push(if used { char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_encoded_as_rfc_4648_says() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn a_password_is_never_printed() {
        let auth = Auth::UserPassword { user: "alice".into(), password: "hunter2".into() };
        assert_eq!(format!("{auth:?}"), "UserPassword(\"alice\", <redacted>)");
        assert!(!auth.advice().contains("hunter2"));
    }
}
