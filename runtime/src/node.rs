//! How a node is named and asked, on every command that talks to one.

use std::path::PathBuf;
use std::{fmt, io};

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use url::Url;

use crate::options::{Usage, parse_http};

/// Which node, and with what credentials.
#[derive(Clone, Debug, clap::Args)]
pub struct NodeOptions {
    /// A Bitcoin Core or Bitcoin SV node's RPC address, for example http://user:password@127.0.0.1:8332. The node needs
    /// `rest=1` to be a source.
    #[arg(long, env = "SLUICE_NODE", value_name = "URL", hide_env_values = true, value_parser = parse_http)]
    pub node: Option<Url>,

    /// User of the node's RPC; the password comes from SLUICE_NODE_PASSWORD or --node-password-file.
    #[arg(long, env = "SLUICE_NODE_USER", value_name = "USER", requires = "node")]
    pub node_user: Option<String>,

    /// File with the password of the node's RPC.
    #[arg(long, env = "SLUICE_NODE_PASSWORD_FILE", value_name = "FILE", requires = "node_user")]
    pub node_password_file: Option<PathBuf>,

    /// The node's cookie file, read again when the node has made a new one.
    #[arg(
        long,
        env = "SLUICE_NODE_COOKIE",
        value_name = "FILE",
        requires = "node",
        conflicts_with = "node_user"
    )]
    pub node_cookie: Option<PathBuf>,
}

/// Where a node is, and how to be let in.
#[derive(Clone, Debug)]
pub struct NodeAddress {
    /// Where RPC and REST listen: `http://127.0.0.1:8332`. Holds no credentials.
    pub url: Url,
    /// Credentials for RPC.
    pub credentials: Credentials,
}

/// Credentials for RPC. Never printed.
#[derive(Clone)]
pub enum Credentials {
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

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UserPassword { user, .. } => write!(f, "UserPassword({user:?}, <redacted>)"),
            Self::CookieFile(path) => write!(f, "CookieFile({path:?})"),
        }
    }
}

impl Credentials {
    /// Value of the `Authorization` header. A cookie is read anew each time: the node makes another at each start.
    ///
    /// # Errors
    /// The cookie cannot be read.
    pub fn authorization(&self) -> io::Result<String> {
        let pair = match self {
            Self::UserPassword { user, password } => format!("{user}:{password}"),
            Self::CookieFile(path) => std::fs::read_to_string(path)?.trim_end().to_owned(),
        };
        Ok(format!("Basic {}", BASE64_STANDARD.encode(pair)))
    }
}

impl NodeOptions {
    /// How to reach the node, where one was named.
    ///
    /// # Errors
    /// `Usage` where credentials are missing; else what is wrong with the file that should hold them.
    pub fn address(&self) -> anyhow::Result<Option<NodeAddress>> {
        let Some(url) = &self.node else { return Ok(None) };
        Ok(Some(NodeAddress { url: without_credentials(url), credentials: self.credentials(url)? }))
    }

    fn credentials(&self, url: &Url) -> anyhow::Result<Credentials> {
        if let Some(file) = &self.node_cookie {
            return Ok(Credentials::CookieFile(file.clone()));
        }
        match (&self.node_user, url.username()) {
            (Some(user), _) => {
                Ok(Credentials::UserPassword { user: user.clone(), password: self.password()? })
            }
            (None, "") => {
                let reason =
                    "needs credentials: user and password in the URL, --node-user, or --node-cookie".into();
                Err(Usage { option: "--node", reason }.into())
            }
            (None, user) => {
                let password = decoded(url.password().unwrap_or_default())?;
                Ok(Credentials::UserPassword { user: decoded(user)?, password })
            }
        }
    }

    fn password(&self) -> anyhow::Result<String> {
        let Some(file) = &self.node_password_file else {
            return std::env::var("SLUICE_NODE_PASSWORD").map_err(|_| {
                let reason = "needs --node-password-file or SLUICE_NODE_PASSWORD".into();
                Usage { option: "--node-user", reason }.into()
            });
        };
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("--node-password-file: failed to read {}", file.display()))?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }
}

fn without_credentials(url: &Url) -> Url {
    let mut url = url.clone();
    // Both fail only for a URL without a host, which the option's parser refuses.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

fn decoded(part: &str) -> anyhow::Result<String> {
    let bytes = percent_encoding::percent_decode_str(part);
    Ok(bytes.decode_utf8().context("--node: user and password must be UTF-8")?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> NodeOptions {
        let node = Some(url.parse().unwrap());
        NodeOptions { node, node_user: None, node_password_file: None, node_cookie: None }
    }

    #[test]
    fn credentials_in_the_url_are_taken_out_of_it_and_decoded() {
        let address = options("http://alice:p%40ss%2Bword@127.0.0.1:8332").address().unwrap().unwrap();
        assert_eq!(address.url.as_str(), "http://127.0.0.1:8332/");
        let printed = format!("{address:?}");
        assert!(!printed.contains("p@ss") && !printed.contains("p%40ss"), "{printed}");
        let Credentials::UserPassword { user, password } = address.credentials else {
            panic!("user and password were given")
        };
        assert_eq!((user.as_str(), password.as_str()), ("alice", "p@ss+word"));
    }

    #[test]
    fn credentials_are_encoded_as_rfc_7617_says() {
        let credentials =
            Credentials::UserPassword { user: "Aladdin".into(), password: "open sesame".into() };
        assert_eq!(credentials.authorization().unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }

    #[test]
    fn a_password_is_never_printed() {
        let credentials = Credentials::UserPassword { user: "alice".into(), password: "hunter2".into() };
        assert_eq!(format!("{credentials:?}"), "UserPassword(\"alice\", <redacted>)");
    }

    #[test]
    fn a_node_without_credentials_is_refused_and_the_options_are_named() {
        let error = options("http://127.0.0.1:8332").address().unwrap_err();
        assert!(error.to_string().starts_with("--node: needs credentials"), "{error}");
    }
}
