//! Where the tests of connections stand: a database of their own, settings, and odd servers.

pub(crate) mod proxy;

use config::TlsMode;
use postgres::settings::Settings;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tests::seed::unique;
use tests::servers::{Server, ask};
use tests::sql::{PASSWORD, ROLE, Sql, quoted};
use tokio::runtime::{Builder, Runtime};

pub(crate) const VERSIONS: [&str; 5] =
    ["postgres-11", "postgres-14", "postgres-15", "postgres-17", "postgres-18"];

/// Roles that pg_hba.conf of the test servers treats in a way of their own, and how their password is
/// stored.
const ROLES: [(&str, &str); 6] = [
    ("tls_only", "scram-sha-256"),
    ("plain_only", "scram-sha-256"),
    ("certificate_only", "scram-sha-256"),
    ("md5_only", "md5"),
    ("clear_only", "md5"),
    ("nobody", "scram-sha-256"),
];

/// A database that belongs to the role of the tests, and how to connect to it.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) server: Server,
    database: Rc<Database>,
    task: config::Task,
}

struct Database {
    server: Server,
    name: String,
}

impl Drop for Database {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut sql = Sql::superuser(&self.server, "postgres");
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'",
            self.name
        );
        sql.rows(&end);
        // A backend that was told to end may take a moment; then the database stays, as after a
        // failed test.
        drop(sql.attempt(&format!("DROP DATABASE {}", quoted(&self.name))));
    }
}

impl Ground {
    pub(crate) fn new(server: &str) -> Self {
        Self::on(Server::start(server))
    }

    pub(crate) fn on(server: Server) -> Self {
        let name = format!("connection_{}", unique());
        let mut sql = Sql::superuser(&server, "postgres");
        sql.run(&format!("CREATE DATABASE {} OWNER {ROLE}", quoted(&name)));
        let mut task = config::Task { task: name.clone(), ..config::Task::default() };
        task.source.hosts = vec![server.address.clone()];
        task.source.database.clone_from(&name);
        task.source.user = ROLE.into();
        let database = Rc::new(Database { server: server.clone(), name });
        Self { server, database, task }.password(Some(PASSWORD))
    }

    pub(crate) fn hosts(mut self, hosts: &[&str]) -> Self {
        self.task.source.hosts = hosts.iter().map(|&host| host.to_owned()).collect();
        self
    }

    pub(crate) fn database(mut self, name: &str) -> Self {
        self.task.source.database = name.into();
        self
    }

    pub(crate) fn password(mut self, password: Option<&str>) -> Self {
        self.task.source.password =
            password.map(|text| serde_json::from_value(text.into()).expect("a secret"));
        self
    }

    /// Connects as one of the roles with a way of their own.
    pub(crate) fn role(mut self, role: &str) -> Self {
        let (_, kept) = ROLES.iter().find(|(name, _)| *name == role).expect("a known role");
        // Another test may make it at this moment.
        let statements = format!(
            "SELECT pg_advisory_lock(7420); SET password_encryption = '{kept}'; \
             DO $$ BEGIN \
               IF to_regrole('{role}') IS NULL THEN \
                 CREATE ROLE {role} LOGIN REPLICATION PASSWORD '{PASSWORD}'; \
               END IF; \
             END $$"
        );
        Sql::superuser(&self.server, "postgres").run(&statements);
        self.task.source.user = role.into();
        self
    }

    pub(crate) fn tls(mut self, mode: TlsMode) -> Self {
        self.task.source.tls.mode = mode;
        self
    }

    /// A file of the test servers' TLS folder.
    pub(crate) fn ca(mut self, file: &str) -> Self {
        self.task.source.tls.ca = Some(file.into());
        self
    }

    pub(crate) fn client_certificate(mut self, name: &str) -> Self {
        self.task.source.tls.cert = Some(format!("{name}.pem"));
        self.task.source.tls.key = Some(format!("{name}.key"));
        self
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings::new(&self.task, &tls_folder()).expect("settings")
    }

    pub(crate) fn name(&self) -> &str {
        &self.database.name
    }

    pub(crate) fn sql(&self) -> Sql {
        Sql::connect(&self.server, self.name())
    }
}

/// Where the certificates lie that all test servers share.
pub(crate) fn tls_folder() -> PathBuf {
    PathBuf::from(ask("tls", "postgres-15"))
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    runtime().block_on(future)
}

/// An address where nobody listens.
pub(crate) fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

/// A server that is in recovery for ever: it waits for WAL that nobody sends.
pub(crate) fn standby() -> Server {
    const NAME: &str = "postgres-15:standby";
    let server = Server::start(NAME);
    // Its own name: in a track it is another than the one above.
    let log = ask("log", &server.name);
    let data = Path::new(&log).parent().expect("a folder").join("data");
    let signal = data.join("standby.signal");
    if !signal.exists() {
        server.order("stop");
        fs::write(&signal, "").expect("the server's folder");
        fs::set_permissions(&signal, fs::Permissions::from_mode(0o666)).expect("its file");
        return Server::start(NAME);
    }
    server
}
