//! How to reach the database, from the spec.

use crate::Error;
use crate::catalog::Naming;
use crate::tls::Connector;
use config::{LiveSecret, TlsMode};
use secrecy::SecretString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tracing::warn;

/// The server cuts longer names off, and then two of them would not compare (NAMEDATALEN).
const APPLICATION_NAME_BYTES_MAX: usize = 63;
const PORT: u16 = 5432;
/// Texts come as their bytes from now on.
pub(crate) const BYTES: &str = "SET client_encoding = 'SQL_ASCII'";

/// Hosts, login and TLS of one task's source. Cheap to clone; shows no secret.
#[derive(Clone)]
pub struct Settings(pub(crate) Arc<Inner>);

#[derive(Clone)]
pub(crate) struct Inner {
    pub(crate) hosts: Vec<Host>,
    pub(crate) database: String,
    pub(crate) user: String,
    password: Option<Arc<LiveSecret>>,
    /// What the connector is made of, again for each connection.
    tls: config::Tls,
    folder: PathBuf,
    connector: Arc<Mutex<Connector>>,
    pub(crate) application_name: String,
    /// Name of the task's slot.
    pub(crate) slot: String,
    reads_standby: bool,
    pub(crate) naming: Naming,
    /// An encoding that `source.sql_ascii` names.
    pub(crate) decoded_here: Option<&'static str>,
}

/// A host and its port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

impl Host {
    /// Reads `db1`, `db1:5432`, `::1` or `[::1]:5432`.
    fn parse(text: &str) -> Result<Self, Error> {
        let wrong =
            || Error::Config(format!("source.hosts: `{text}` is no host:port, e.g. db1:5432"));
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (name, rest) = rest.split_once(']').ok_or_else(wrong)?;
                (name, rest.strip_prefix(':'))
            }
            None if text.matches(':').count() == 1 => {
                text.split_once(':').map(|(name, port)| (name, Some(port))).ok_or_else(wrong)?
            }
            None => (text, None),
        };
        let port = port.map_or(Ok(PORT), |port| port.parse().map_err(|_| wrong()))?;
        if name.is_empty() { Err(wrong()) } else { Ok(Self { name: name.into(), port }) }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("hosts", &self.0.hosts)
            .field("database", &self.0.database)
            .field("user", &self.0.user)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Resolves the password and reads the certificates, as each new connection does again; paths are relative to `folder`.
    ///
    /// # Errors
    /// A secret that is not there, a file that cannot be read or is no certificate.
    pub fn new(task: &config::Task, folder: &Path) -> Result<Self, Error> {
        let source = &task.source;
        let hosts = source.hosts.iter().map(|host| Host::parse(host)).collect::<Result<_, _>>()?;
        let password = source.password.as_ref().map(|it| LiveSecret::new(it, folder)).transpose();
        let password =
            password.map_err(|error| Error::Config(format!("source.password: {error}")))?;
        let application_name = application_name(task);
        let naming = Naming::new(task).map_err(|error| Error::Config(error.to_string()))?;
        Ok(Self(Arc::new(Inner {
            hosts,
            database: source.database.clone(),
            user: source.user.clone(),
            password: password.map(Arc::new),
            tls: source.tls.clone(),
            folder: folder.to_owned(),
            connector: Arc::new(Mutex::new(Connector::new(&source.tls, folder)?)),
            application_name,
            slot: task.slot_of(task.stream),
            reads_standby: source.read_from == config::ReadFrom::Standby,
            naming,
            decoded_here: match config::SqlAscii::parse(&source.sql_ascii) {
                Some(config::SqlAscii::Encoding(name)) => Some(name),
                Some(_) | None => None,
            },
        })))
    }

    /// For a new connection: it may have been replaced since the last one.
    pub(crate) fn password(&self) -> Option<SecretString> {
        self.0.password.as_ref().map(|it| it.read())
    }

    /// Whether to ask for TLS, and whether to go on without it where the server has none.
    pub(crate) fn tls_mode(&self) -> TlsMode {
        self.0.tls.mode
    }

    /// For a new connection, by the certificates that are there now; while these are being replaced, by the last ones.
    pub(crate) fn connector(&self) -> Connector {
        let mut last = self.0.connector.lock().unwrap_or_else(PoisonError::into_inner);
        match Connector::new(&self.0.tls, &self.0.folder) {
            Ok(present) => *last = present,
            Err(error) => warn!(%error, "certificates cannot be read now, the last ones are used"),
        }
        last.clone()
    }

    /// Whether texts of a database in `encoding` shall come as their bytes. From SQL_ASCII the server
    /// converts nothing, and would end the stream at the first text that is no UTF-8 (`pg_server_to_any`),
    /// again and again; a text without an equivalent in UTF-8 does the same in other encodings, which
    /// whoever meets one may have decoded here.
    pub(crate) fn takes_bytes(&self, encoding: &str) -> bool {
        encoding == "SQL_ASCII" || self.0.decoded_here == Some(encoding)
    }

    /// Whether slot, stream and first snapshot are a standby's.
    #[must_use]
    pub fn reads_standby(&self) -> bool {
        self.0.reads_standby
    }

    /// How the server lists our connections; tells our own stale walsender from others.
    #[must_use]
    pub fn application_name(&self) -> &str {
        &self.0.application_name
    }

    /// Each host, and the same settings with it alone.
    pub fn each_host(&self) -> impl Iterator<Item = (String, Self)> {
        let single = |host: &Host| {
            let inner = Inner { hosts: vec![host.clone()], ..Inner::clone(&self.0) };
            (host.to_string(), Self(Arc::new(inner)))
        };
        self.0.hosts.iter().map(single)
    }

    pub(crate) fn hosts_text(&self) -> String {
        let hosts: Vec<String> = self.0.hosts.iter().map(ToString::to_string).collect();
        hosts.join(", ")
    }
}

/// Settings that change the text of values, and what names mean (design.md, server fact 8): the same
/// for every connection.
pub(crate) const SESSION: &[(&str, &str)] = &[
    ("search_path", "pg_catalog"),
    ("datestyle", "ISO,MDY"),
    ("intervalstyle", "postgres"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "3"),
    ("timezone", "UTC"),
    ("lc_monetary", "C"),
    ("row_security", "off"),
    ("standard_conforming_strings", "on"),
    // What Distributary changes is no statement of a user (`ddl/capture.sql`).
    ("distributary.ddl_capture", "off"),
    // A walsender may say only by a warning that rows will not come (server fact 3).
    ("client_min_messages", "notice"),
];

/// A walsender waits for the next command as long as the snapshot is read that it has exported.
pub(crate) const WALSENDER: &[(&str, &str)] = &[
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
];

/// As the startup parameter `options`.
pub(crate) fn options(more: &[(&str, &str)]) -> String {
    let all = SESSION.iter().chain(more);
    let options: Vec<String> = all.map(|(name, value)| format!("-c {name}={value}")).collect();
    options.join(" ")
}

/// Statements that lift limits which older servers do not know, so that they cannot be in `options`.
pub(crate) fn unlimited(version: u32) -> &'static str {
    match version {
        ..140_000 => "",
        140_000..170_000 => "SET idle_session_timeout = 0",
        170_000.. => "SET idle_session_timeout = 0; SET transaction_timeout = 0",
    }
}

/// By which the task's connections are known.
pub(crate) fn application_name(task: &config::Task) -> String {
    let mut name = format!("distributary/{}/{}", task.sink.state_prefix, task.life());
    name.truncate(APPLICATION_NAME_BYTES_MAX);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read() {
        let host = |text| Host::parse(text).map(|host| host.to_string()).ok();
        assert_eq!(host("db1").as_deref(), Some("db1:5432"));
        assert_eq!(host("db1:54").as_deref(), Some("db1:54"));
        assert_eq!(host("[::1]:54").as_deref(), Some("[::1]:54"));
        assert_eq!(host("::1").as_deref(), Some("[::1]:5432"));
        assert_eq!(host("db1:port"), None);
        assert_eq!(host(":54"), None);
    }

    #[test]
    fn a_long_application_name_is_cut_here_and_not_by_the_server() {
        let mut task = config::Task { task: "t".repeat(40), ..config::Task::default() };
        task.source.hosts = vec!["db1".into()];
        let settings = Settings::new(&task, Path::new(".")).unwrap();
        assert_eq!(settings.application_name().len(), 63);
    }

    #[test]
    fn options_hold_no_blank_inside_a_value() {
        let text = options(&[("lock_timeout", "5000")]);
        assert!(text.starts_with("-c search_path=pg_catalog -c datestyle=ISO,MDY "), "{text}");
        assert!(text.split(' ').skip(1).step_by(2).all(|setting| setting.contains('=')), "{text}");
    }
}
