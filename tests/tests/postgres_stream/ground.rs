//! A database of a test's own, one table and its publication in it, and streams of it.

use postgres::replication::{CreatedSlot, Received, Replication, StreamOptions, WalStream};
use postgres::settings::Settings;
use postgres::{Error, Session};
use std::future::Future;
use std::path::Path;
use std::time::Duration;
use tests::deadline::await_true;
use tests::seed::{full, unique};
use tests::servers::Server;
use tests::sql::{PASSWORD, ROLE, Sql, quoted};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use wal::frame::{Frame, Frames};
use wal::message::{Context, Message};
use wal::{Datum, Lsn};

/// What a server sends at once on a machine that is busy with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// Publications are named so that quoting must be right.
pub(crate) const PUBLICATION: &str = "it's \"p\"";

/// Every version, or the oldest, the middle and the newest.
pub(crate) fn servers() -> Vec<&'static str> {
    if full() {
        vec!["postgres-11", "postgres-14", "postgres-15", "postgres-17", "postgres-18"]
    } else {
        vec!["postgres-11", "postgres-15", "postgres-18"]
    }
}

pub(crate) struct Ground {
    pub(crate) server: Server,
    /// Of the database, and of the slot.
    pub(crate) name: String,
    pub(crate) sql: Sql,
    pub(crate) admin: Sql,
    /// `server_version_num / 10000`.
    pub(crate) version: u32,
    runtime: Runtime,
}

impl Ground {
    pub(crate) fn new(server: &str) -> Self {
        Self::on(Server::start(server))
    }

    pub(crate) fn on(server: Server) -> Self {
        let name = format!("stream_{}", unique());
        Sql::superuser(&server, "postgres")
            .run(&format!("CREATE DATABASE {} OWNER {ROLE}", quoted(&name)));
        let mut sql = Sql::connect(&server, &name);
        sql.run("CREATE TABLE t (id bigint PRIMARY KEY, body text)");
        sql.run(&format!("CREATE PUBLICATION {} FOR TABLE t", quoted(PUBLICATION)));
        let mut admin = Sql::superuser(&server, &name);
        let version = admin.version();
        let runtime = runtime();
        Self { server, name, sql, admin, version, runtime }
    }

    /// Runs something of the crate to its end.
    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub(crate) fn settings(&self) -> Settings {
        self.settings_of(ROLE)
    }

    pub(crate) fn settings_of(&self, role: &str) -> Settings {
        let mut task = config::Task { task: self.name.clone(), ..config::Task::default() };
        task.source.hosts = vec![self.server.address.clone()];
        task.source.database.clone_from(&self.name);
        task.source.user = role.into();
        task.source.password = Some(serde_json::from_value(PASSWORD.into()).expect("a secret"));
        Settings::new(&task, Path::new(".")).expect("settings")
    }

    pub(crate) fn replication(&self) -> Replication {
        self.wait(Replication::connect(&self.settings())).expect("a walsender")
    }

    pub(crate) fn session(&self) -> Session {
        self.wait(Session::connect(&self.settings())).expect("a session")
    }

    /// Makes the slot of this ground.
    pub(crate) fn create_slot(&self) -> CreatedSlot {
        let mut replication = self.replication();
        self.wait(replication.create_slot(&self.name, false, false)).expect("a slot")
    }

    pub(crate) fn options(&self, from: Lsn) -> StreamOptions {
        StreamOptions {
            slot: self.name.clone(),
            from,
            line: None,
            publications: vec![PUBLICATION.into()],
            protocol: 1,
            messages: false,
            binary: false,
            streaming: false,
        }
    }

    pub(crate) fn start(&self, options: &StreamOptions) -> Result<WalStream, Error> {
        let replication = self.replication();
        self.wait(replication.start(options))
    }

    /// A new slot and its stream.
    pub(crate) fn stream(&self) -> WalStream {
        let created = self.create_slot();
        self.start(&self.options(created.consistent_point)).expect("a stream")
    }

    pub(crate) fn wal_end(&self) -> Lsn {
        self.wait(self.session().wal_end()).expect("a position")
    }

    /// An expression over this ground's slot in `pg_replication_slots`.
    pub(crate) fn slot(&mut self, expression: &str) -> String {
        self.admin.value(&format!(
            "SELECT {expression} FROM pg_replication_slots WHERE slot_name = '{}'",
            self.name
        ))
    }

    pub(crate) fn confirmed(&mut self) -> Lsn {
        self.slot("confirmed_flush_lsn").parse().expect("a position")
    }

    /// Whether a walsender is on the slot.
    pub(crate) fn is_active(&mut self) -> bool {
        self.slot("count(active_pid)") == "1"
    }

    /// A setting of the database, for sessions that begin later.
    pub(crate) fn set(&mut self, setting: &str) {
        self.admin.run(&format!("ALTER DATABASE {} SET {setting}", quoted(&self.name)));
    }

    #[track_caller]
    pub(crate) fn read(&self, stream: &mut WalStream) -> Received {
        let read = self.wait(async { timeout(SOON, stream.read()).await });
        read.expect("something in time").expect("the stream goes on")
    }

    /// Reads until so many rows of `t` were inserted.
    #[track_caller]
    pub(crate) fn rows(&self, stream: &mut WalStream, rows: usize) -> Vec<Inserted> {
        let mut found = Vec::new();
        while found.len() < rows {
            inserted(&self.read(stream).bytes, &mut found);
        }
        found
    }

    /// Reads until the stream ends.
    pub(crate) fn end_of(&self, stream: &mut WalStream) -> Error {
        self.wait(async {
            loop {
                if let Err(error) = timeout(SOON, stream.read()).await.expect("an end in time") {
                    return error;
                }
            }
        })
    }

    /// The server was started again.
    pub(crate) fn reconnect(&mut self, server: Server) {
        self.sql = Sql::connect(&server, &self.name);
        self.admin = Sql::superuser(&server, &self.name);
        self.server = server;
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut sql = Sql::superuser(&self.server, "postgres");
        let name = &self.name;
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        );
        let drop = format!(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
             WHERE database = '{name}'"
        );
        sql.run(&end);
        await_true("free slots", SOON, || sql.attempt(&drop).is_ok());
        await_true("nobody in the database", SOON, || {
            sql.attempt(&format!("DROP DATABASE {}", quoted(name))).is_ok()
        });
    }
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// One inserted row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Inserted {
    /// The values in their text form.
    pub(crate) values: Vec<String>,
}

impl Inserted {
    pub(crate) fn id(&self) -> u64 {
        self.values[0].parse().expect("a number")
    }
}

/// Rows inserted by a batch of whole messages; it must hold nothing but those.
pub(crate) fn inserted(bytes: &[u8], found: &mut Vec<Inserted>) {
    for frame in Frames::new(bytes) {
        let Frame::XLogData { payload, .. } = frame.expect("a whole message") else { continue };
        let message = Message::parse(&bytes[payload], Context::default());
        if let Message::Insert(insert) = message.expect("a message") {
            found.push(Inserted { values: insert.new.iter().map(text).collect() });
        }
    }
}

fn text(datum: Datum<'_>) -> String {
    match datum {
        Datum::Text(bytes) => String::from_utf8(bytes.to_vec()).expect("text"),
        Datum::Null | Datum::Unchanged | Datum::Binary(_) => panic!("{datum:?} in a new row"),
    }
}
