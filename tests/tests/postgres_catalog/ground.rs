//! A database of a test's own, and the crate's view of it.

use postgres::Session;
use postgres::settings::Settings;
use std::future::Future;
use std::path::Path;
use tests::seed::{full, say, unique};
use tests::servers::Server;
use tests::sql::{ROLE, Sql, quoted};
use tests::task::Spec;
use tokio::runtime::{Builder, Runtime};
use wal::Table;
use wal::table::Column;

/// The servers that each test runs on.
pub(crate) fn servers() -> Vec<&'static str> {
    if full() {
        vec!["postgres-11", "postgres-14", "postgres-15", "postgres-17", "postgres-18"]
    } else {
        vec!["postgres-11", "postgres-15", "postgres-18"]
    }
}

/// A database that belongs to the role of the tests, and is removed in the end.
pub(crate) struct Ground {
    pub(crate) server: Server,
    pub(crate) name: String,
    /// As the owner.
    pub(crate) sql: Sql,
    pub(crate) admin: Sql,
    /// `server_version_num / 10000`.
    pub(crate) version: u32,
    runtime: Runtime,
}

impl Ground {
    pub(crate) fn new(label: &str, server: &str) -> Self {
        Self::on(label, Server::start(server), "")
    }

    /// `options`: of CREATE DATABASE.
    pub(crate) fn on(label: &str, server: Server, options: &str) -> Self {
        let name = format!("{label}_{}", unique());
        Sql::superuser(&server, "postgres")
            .run(&format!("CREATE DATABASE {} OWNER {ROLE} {options}", quoted(&name)));
        let mut admin = Sql::superuser(&server, &name);
        let version = admin.version();
        let sql = Sql::connect(&server, &name);
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { server, name, sql, admin, version, runtime }
    }

    /// A task that captures everything. There is no Kafka: nothing here asks for it.
    pub(crate) fn spec(&self) -> Spec {
        let kafka = Server { name: "kafka".into(), address: "127.0.0.1:1".into() };
        Spec::new(&self.name, &self.server, &self.name, &kafka)
    }

    pub(crate) fn task(&self, spec: &Spec) -> config::Task {
        config::Task::parse(&spec.yaml()).expect("a spec")
    }

    pub(crate) fn settings(&self, spec: &Spec) -> Settings {
        Settings::new(&self.task(spec), Path::new(".")).expect("settings")
    }

    pub(crate) fn session(&self) -> Session {
        self.session_of(&self.spec())
    }

    pub(crate) fn session_of(&self, spec: &Spec) -> Session {
        self.wait(Session::connect(&self.settings(spec))).expect("a session")
    }

    /// Runs something of the crate to its end.
    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub(crate) fn oid(&mut self, table: &str) -> u32 {
        let oid = self.admin.value(&format!("SELECT '{table}'::regclass::oid"));
        oid.parse().expect("an OID")
    }

    fn remove(&mut self) {
        let mut sql = Sql::superuser(&self.server, "postgres");
        let name = &self.name;
        sql.run(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        ));
        let drop = format!(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = \
             '{name}'"
        );
        // A walsender that was ended may hold its slot for a moment.
        tests::deadline::await_true("free slots", std::time::Duration::from_secs(60), || {
            sql.attempt(&drop).is_ok()
        });
        sql.run(&format!("DROP DATABASE IF EXISTS {}", quoted(name)));
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // A second panic would hide the first.
        let removed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.remove()));
        if removed.is_err() {
            say(&format!("{} could not be cleaned up on {}", self.name, self.server.name));
        }
    }
}

#[track_caller]
pub(crate) fn column<'a>(table: &'a Table, name: &str) -> &'a Column {
    table.columns.iter().find(|it| &*it.name == name).unwrap_or_else(|| panic!("no column {name}"))
}
