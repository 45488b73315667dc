//! What a `kafka://` URL and `SLUICE_KAFKA_…` say about the cluster and how to talk to it.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use crate::chunk::DEFAULT_MAX_RECORD_BYTES;
use crate::{Error, Result};

/// What key, headers and framing may add to the value of a record.
const RECORD_OVERHEAD_BYTES: usize = 64 * 1024;
/// The least that the largest batch on the wire may be, whatever `max-record-bytes` is: small records share one.
const MIN_BATCH_BYTES: usize = 1_000_000;
/// Default of `transaction-timeout`, the longest that a broker takes by default (`transaction.max.timeout.ms`).
const DEFAULT_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Default of `delivery-timeout`.
const DEFAULT_DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);
/// Default of `role-session-timeout`, the shortest that a broker takes by default (`group.min.session.timeout.ms`).
const DEFAULT_ROLE_SESSION_TIMEOUT: Duration = Duration::from_secs(6);
/// Default of `group-session-timeout`.
const DEFAULT_GROUP_SESSION_TIMEOUT: Duration = Duration::from_secs(15);
/// Port of a broker that is given without one.
const DEFAULT_PORT: u16 = 9092;

/// Every option, as in the URL; in the environment it is `SLUICE_KAFKA_` and the name in capitals with underscores.
const NAMES: [&str; 17] = [
    "security",
    "ca-file",
    "cert-file",
    "key-file",
    "sasl-mechanism",
    "user",
    "password-file",
    "compression",
    "max-record-bytes",
    "replication-factor",
    "min-insync-replicas",
    "transaction-timeout",
    "delivery-timeout",
    "role-session-timeout",
    "group-session-timeout",
    "reader-group",
    "client-id",
];
/// The one setting that only the environment may hold.
const PASSWORD_VARIABLE: &str = "SLUICE_KAFKA_PASSWORD";

/// A password. Prints as `<redacted>`.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Password(String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// How a connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Security {
    Plaintext,
    Tls,
    SaslTls,
    SaslPlaintext,
}

impl Security {
    const TAKES: &'static str = "plaintext, tls, sasl_tls or sasl_plaintext";

    fn protocol(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Tls => "ssl",
            Self::SaslTls => "sasl_ssl",
            Self::SaslPlaintext => "sasl_plaintext",
        }
    }

    fn has_tls(self) -> bool {
        matches!(self, Self::Tls | Self::SaslTls)
    }

    fn has_sasl(self) -> bool {
        matches!(self, Self::SaslTls | Self::SaslPlaintext)
    }
}

/// Who this client is to the brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Login {
    mechanism: &'static str,
    user: String,
    password: Password,
}

/// A parsed and checked `kafka://` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// The URL, fit to be shown.
    pub(super) url: String,
    /// `host:port,…`
    brokers: String,
    security: Security,
    ca_file: Option<String>,
    cert_file: Option<String>,
    key_file: Option<String>,
    login: Option<Login>,
    compression: &'static str,
    /// Largest value of one record; a larger one is chunked.
    pub(super) max_record_bytes: usize,
    /// Replicas of topics that are created; the broker's default where `None`.
    pub(super) replication_factor: Option<i32>,
    /// `min.insync.replicas` of topics.
    pub(super) min_insync_replicas: Option<i32>,
    /// How long the cluster keeps an open transaction of a writer that does not answer.
    pub(super) transaction_timeout: Duration,
    /// How long a record may take to be stored, and a commit to be decided.
    pub(super) delivery_timeout: Duration,
    /// After how long a silent leader loses its role.
    pub(super) role_session_timeout: Duration,
    /// After how long a silent member of a group loses its partitions.
    pub(super) group_session_timeout: Duration,
    /// The `group.id` of readers that are in no group. They neither join it nor commit to it.
    pub(super) reader_group: String,
    client_id: String,
}

impl Options {
    /// Parses `url`; what it does not say is looked up by `environment`.
    pub(super) fn parse(url: &str, environment: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let shown = redacted(url);
        parse(url, &shown, environment).map_err(|reason| Error::Url { url: shown, reason })
    }

    /// What every client of this cluster is configured with.
    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", &self.client_id)
            .set("security.protocol", self.security.protocol())
            .set("socket.keepalive.enable", "true")
            // A broker that comes back is found within a second.
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.connection.setup.timeout.ms", "10000")
            .set_log_level(RDKafkaLogLevel::Warning);
        let files = [
            ("ssl.ca.location", &self.ca_file),
            ("ssl.certificate.location", &self.cert_file),
            ("ssl.key.location", &self.key_file),
        ];
        for (key, file) in files {
            if let Some(file) = file {
                config.set(key, file);
            }
        }
        if let Some(login) = &self.login {
            config
                .set("sasl.mechanism", login.mechanism)
                .set("sasl.username", &login.user)
                .set("sasl.password", &login.password.0);
        }
        config
    }

    /// What a transactional producer adds to `client`.
    pub(super) fn compression(&self) -> &'static str {
        self.compression
    }

    /// Largest batch on the wire, what a topic's `max.message.bytes` must take.
    pub(super) fn batch_bytes(&self) -> usize {
        MIN_BATCH_BYTES.max(self.max_record_bytes + RECORD_OVERHEAD_BYTES)
    }
}

/// The URL with everything that could be a secret taken out.
fn redacted(url: &str) -> String {
    let (place, query) = match url.split_once('?') {
        Some((place, query)) => (place, Some(query)),
        None => (url, None),
    };
    let place = match place.strip_prefix("kafka://") {
        Some(rest) => format!("kafka://{}", rest.rsplit_once('@').map_or(rest, |(_, brokers)| brokers)),
        None => "kafka://<redacted>".to_owned(),
    };
    let known = |pair: &&str| NAMES.contains(&pair.split('=').next().unwrap_or_default());
    let shown: Vec<&str> = query.unwrap_or_default().split('&').filter(known).collect();
    if shown.is_empty() { place } else { format!("{place}?{}", shown.join("&")) }
}

fn parse(url: &str, shown: &str, environment: impl Fn(&str) -> Option<String>) -> Result<Options, String> {
    let rest = url.strip_prefix("kafka://").ok_or("it does not start with kafka://")?;
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    if place.contains('@') {
        return Err(format!(
            "user and password do not belong here: give ?user=NAME and {PASSWORD_VARIABLE} or ?password-file=PATH"
        ));
    }
    let brokers = brokers(place)?;
    let mut given: Vec<(String, String)> = Vec::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if name == "password" {
            return Err(format!(
                "a password does not belong here: give {PASSWORD_VARIABLE} or ?password-file=PATH"
            ));
        }
        if !NAMES.contains(&&*name) {
            return Err(format!("unknown option {name:?}; known are {}", NAMES.join(", ")));
        }
        if given.iter().any(|(n, _)| *n == name) {
            return Err(format!("option {name} is given twice"));
        }
        given.push((name.into_owned(), value.into_owned()));
    }
    let variable = |name: &str| format!("SLUICE_KAFKA_{}", name.to_uppercase().replace('-', "_"));
    let option = |name: &str| -> Option<String> {
        debug_assert!(NAMES.contains(&name));
        given
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.clone())
            .or_else(|| environment(&variable(name)))
            .filter(|value| !value.is_empty())
    };

    let security = match option("security").as_deref() {
        None | Some("plaintext") => Security::Plaintext,
        Some("tls") => Security::Tls,
        Some("sasl_tls") => Security::SaslTls,
        Some("sasl_plaintext") => Security::SaslPlaintext,
        Some(other) => return Err(format!("security={other} is unknown, it takes {}", Security::TAKES)),
    };
    let file = |name: &str| -> Result<Option<String>, String> {
        let Some(path) = option(name) else { return Ok(None) };
        if !security.has_tls() {
            return Err(format!("{name} needs security=tls or sasl_tls"));
        }
        readable(name, &path)?;
        Ok(Some(path))
    };
    let (ca_file, cert_file, key_file) = (file("ca-file")?, file("cert-file")?, file("key-file")?);
    if cert_file.is_some() != key_file.is_some() {
        return Err("cert-file and key-file need each other".into());
    }
    let login = login(security, &option, &environment)?;
    let compression = match option("compression").as_deref() {
        None | Some("zstd") => "zstd",
        Some("lz4") => "lz4",
        Some("none") => "none",
        Some(other) => return Err(format!("compression={other} is unknown, it takes zstd, lz4 or none")),
    };
    let number = |name: &str, range: std::ops::RangeInclusive<i32>| -> Result<Option<i32>, String> {
        let Some(value) = option(name) else { return Ok(None) };
        let number = value.parse().ok().filter(|n| range.contains(n));
        number.map(Some).ok_or(format!(
            "{name}={value} is not a number from {} to {}",
            range.start(),
            range.end()
        ))
    };
    let time = |name: &str, default: Duration, least: Duration| -> Result<Duration, String> {
        let Some(value) = option(name) else { return Ok(default) };
        let time = humantime::parse_duration(&value).ok().filter(|t| (least..=MAX_TIMEOUT).contains(t));
        time.ok_or(format!(
            "{name}={value} is not a time from {} to {} with its unit, such as 90s or 15m",
            humantime::format_duration(least),
            humantime::format_duration(MAX_TIMEOUT)
        ))
    };
    const SECOND: Duration = Duration::from_secs(1);
    const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
    let max_record_bytes = number("max-record-bytes", 1_000..=500_000_000)?;
    let options = Options {
        url: shown.to_owned(),
        brokers,
        security,
        ca_file,
        cert_file,
        key_file,
        login,
        compression,
        max_record_bytes: max_record_bytes.map_or(DEFAULT_MAX_RECORD_BYTES, |n| n as usize),
        replication_factor: number("replication-factor", 1..=i32::from(i16::MAX))?,
        min_insync_replicas: number("min-insync-replicas", 1..=i32::from(i16::MAX))?,
        transaction_timeout: time("transaction-timeout", DEFAULT_TRANSACTION_TIMEOUT, SECOND)?,
        delivery_timeout: time("delivery-timeout", DEFAULT_DELIVERY_TIMEOUT, SECOND)?,
        role_session_timeout: time("role-session-timeout", DEFAULT_ROLE_SESSION_TIMEOUT, SECOND)?,
        group_session_timeout: time("group-session-timeout", DEFAULT_GROUP_SESSION_TIMEOUT, SECOND)?,
        reader_group: option("reader-group").unwrap_or_else(|| "sluice.reader".into()),
        client_id: option("client-id").unwrap_or_else(|| "sluice".into()),
    };
    if options.delivery_timeout > options.transaction_timeout {
        return Err("delivery-timeout is longer than transaction-timeout".into());
    }
    Ok(options)
}

/// `host:port,…` with every port.
fn brokers(place: &str) -> Result<String, String> {
    let place = place.strip_suffix('/').unwrap_or(place);
    let mut all = Vec::new();
    for broker in place.split(',') {
        let (host, port) = match broker.rsplit_once(':') {
            // The colons of [::1] are inside the brackets.
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (broker, ""),
        };
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let host_ok = !bare.is_empty()
            && bare
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c) || (bare != host && c == ':'));
        let port = if port.is_empty() { Some(DEFAULT_PORT) } else { port.parse().ok().filter(|p| *p != 0) };
        match port {
            Some(port) if host_ok => all.push(format!("{host}:{port}")),
            _ => return Err(format!("{broker:?} is not HOST:PORT")),
        }
    }
    Ok(all.join(","))
}

fn login(
    security: Security,
    option: &impl Fn(&str) -> Option<String>,
    environment: &impl Fn(&str) -> Option<String>,
) -> Result<Option<Login>, String> {
    let mechanism = match option("sasl-mechanism").as_deref() {
        None | Some("SCRAM-SHA-512") => "SCRAM-SHA-512",
        Some("SCRAM-SHA-256") => "SCRAM-SHA-256",
        Some("PLAIN") => "PLAIN",
        Some(other) => {
            return Err(format!(
                "sasl-mechanism={other} is unknown, it takes PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
            ));
        }
    };
    if !security.has_sasl() {
        let needless = ["user", "sasl-mechanism", "password-file"].into_iter().find(|n| option(n).is_some());
        return match needless {
            Some(name) => Err(format!("{name} needs security=sasl_tls or sasl_plaintext")),
            None => Ok(None),
        };
    }
    let user = option("user").ok_or("a security with sasl needs user=NAME")?;
    let password = match (option("password-file"), environment(PASSWORD_VARIABLE)) {
        (Some(_), Some(_)) => return Err(format!("give one of password-file and {PASSWORD_VARIABLE}")),
        (Some(path), None) => {
            let text = std::fs::read_to_string(&path)
                .map_err(|e| format!("password-file={path} cannot be read: {e}"))?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        (None, Some(password)) => password,
        (None, None) => {
            return Err(format!("user {user} needs a password: {PASSWORD_VARIABLE} or password-file=PATH"));
        }
    };
    Ok(Some(Login { mechanism, user, password: Password(password) }))
}

fn readable(name: &str, path: &str) -> Result<(), String> {
    std::fs::File::open(Path::new(path)).map(drop).map_err(|e| format!("{name}={path} cannot be read: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Result<Options> {
        Options::parse(url, |_| None)
    }

    fn refusal(url: &str, environment: impl Fn(&str) -> Option<String>) -> String {
        Options::parse(url, environment).unwrap_err().to_string()
    }

    #[test]
    fn brokers_without_a_port_have_the_usual_one() {
        let options = parsed("kafka://a,b.example:19092,[::1],[::1]:7/").unwrap();
        assert_eq!(options.brokers, "a:9092,b.example:19092,[::1]:9092,[::1]:7");
    }

    #[test]
    fn a_url_without_a_usable_broker_is_refused() {
        for url in
            ["kafka://", "kafka://a,,b", "kafka://a:0", "kafka://a:x", "kafka://a/topic", "kafka://a b"]
        {
            let line = refusal(url, |_| None);
            assert!(line.contains("is not HOST:PORT"), "{line}");
        }
    }

    #[test]
    fn an_unknown_option_is_named() {
        let line = refusal("kafka://a?acks=1", |_| None);
        assert!(line.contains("unknown option \"acks\""), "{line}");
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_never_shown() {
        for url in [
            "kafka://alice:hunter2@a?security=sasl_tls",
            "kafka://a?security=sasl_tls&user=alice&password=hunter2",
            "kafka://a?pass%77ord=hunter2",
            "kafka://a?sasl.password=hunter2",
        ] {
            let line = refusal(url, |_| None);
            assert!(!line.contains("hunter2"), "{line}");
            assert!(line.contains("password"), "{line}");
        }
    }

    #[test]
    fn the_url_wins_over_the_environment() {
        let environment = |name: &str| match name {
            "SLUICE_KAFKA_COMPRESSION" => Some("none".to_owned()),
            "SLUICE_KAFKA_MAX_RECORD_BYTES" => Some("5000".to_owned()),
            _ => None,
        };
        let options = Options::parse("kafka://a?compression=lz4", environment).unwrap();
        assert_eq!((options.compression, options.max_record_bytes), ("lz4", 5000));
    }

    #[test]
    fn the_password_comes_from_the_environment_or_a_file() {
        let url = "kafka://a?security=sasl_plaintext&user=alice&sasl-mechanism=PLAIN";
        let options =
            Options::parse(url, |name| (name == PASSWORD_VARIABLE).then(|| "hunter2".into())).unwrap();
        assert_eq!(options.client().get("sasl.password"), Some("hunter2"));
        assert!(!format!("{options:?}").contains("hunter2"), "{options:?}");

        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter3\n").unwrap();
        let options = parsed(&format!("{url}&password-file={}", file.path().display())).unwrap();
        assert_eq!(options.client().get("sasl.password"), Some("hunter3"));

        let line = refusal(url, |_| None);
        assert!(line.contains("needs a password"), "{line}");
    }

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        for (url, why) in [
            ("kafka://a?user=alice", "user needs security"),
            ("kafka://a?security=sasl_tls", "needs user"),
            ("kafka://a?security=ssl", "it takes plaintext, tls"),
            ("kafka://a?ca-file=/dev/null", "ca-file needs security"),
            ("kafka://a?security=tls&ca-file=/nowhere", "cannot be read"),
            ("kafka://a?security=tls&cert-file=/dev/null", "need each other"),
            ("kafka://a?compression=gzip", "it takes zstd"),
            ("kafka://a?compression=lz4&compression=zstd", "given twice"),
            ("kafka://a?max-record-bytes=12", "from 1000 to"),
            ("kafka://a?transaction-timeout=15", "with its unit"),
            ("kafka://a?transaction-timeout=30s", "longer than transaction-timeout"),
            ("kafka://a?security=sasl_tls&user=u&sasl-mechanism=GSSAPI", "it takes PLAIN"),
        ] {
            let line = refusal(url, |_| None);
            assert!(line.contains(why), "{line}");
        }
    }

    #[test]
    fn the_shown_url_keeps_its_harmless_options() {
        let options = parsed("kafka://a:9?compression=lz4&client-id=me").unwrap();
        assert_eq!(options.url, "kafka://a:9?compression=lz4&client-id=me");
    }
}
