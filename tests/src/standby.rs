//! A primary and its physical standby, which may be promoted in its place.

use crate::deadline::await_true;
use crate::servers::{Server, ask};
use crate::sql::{Sql, quoted};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The physical slot that the standby reads from.
const SLOT: &str = "standby";
/// The worker that copies slots sleeps for up to 30 s.
const COPY_MAX: Duration = Duration::from_secs(180);
const PROMOTE_MAX: Duration = Duration::from_secs(120);

/// Two servers of one test, wiped in the end.
pub struct Pair {
    pub primary: Server,
    pub standby: Server,
}

impl Pair {
    /// Starts both, the primary with these settings. From 17 on the standby copies failover slots.
    ///
    /// # Panics
    /// When a server does not start.
    #[must_use]
    pub fn start(version: u32, label: &str, settings: &[&str]) -> Self {
        let name = format!("postgres-{version}:{label}");
        let primary = Server::start_with(&name, settings);
        let (host, port) = primary.host_and_port();
        let mut follows = vec![
            format!("primary_conninfo=host={host} port={port} user=postgres dbname=postgres"),
            format!("primary_slot_name={SLOT}"),
            "hot_standby_feedback=on".into(),
        ];
        if 17 <= version {
            follows.push("sync_replication_slots=on".into());
        }
        let follows: Vec<&str> = follows.iter().map(String::as_str).collect();
        let standby = Server::start_with(&format!("{name}-standby"), &follows);
        let pair = Self { primary, standby };
        pair.copy();
        pair
    }

    /// Cold: these PostgreSQLs come without `pg_basebackup`.
    fn copy(&self) {
        self.standby.order("stop");
        self.primary.order("stop");
        let (from, to) = (data(&self.primary), data(&self.standby));
        fs::remove_dir_all(&to).expect("the standby's data");
        let copied = Command::new("cp").arg("-a").arg(&from).arg(&to).status().expect("cp runs");
        assert!(copied.success(), "{} cannot be copied", from.display());
        let settings = to.join("postgresql.conf");
        let text = fs::read_to_string(&settings).expect("its settings");
        let [from, folder] = [&from, &to].map(|it| it.parent().expect("a folder").display());
        // Written in place: the file stays its owner's.
        fs::write(&settings, text.replace(&from.to_string(), &folder.to_string()))
            .expect("its settings");
        make_standby(&to);
        self.primary.order("start");
        Sql::superuser(&self.primary, "postgres")
            .run(&format!("SELECT pg_create_physical_replication_slot('{SLOT}', true)"));
        self.standby.order("start");
    }

    /// Makes a slot that nobody reads from one that the standby copies, as an administrator does.
    ///
    /// # Panics
    /// When it is refused.
    pub fn keep_slot(&self, database: &str, slot: &str) {
        let (host, port) = self.primary.host_and_port();
        let connection =
            format!("host={host} port={port} user=postgres dbname={database} replication=database");
        let command = format!("ALTER_REPLICATION_SLOT {slot} (FAILOVER true)");
        let altered = Command::new("psql").args(["-X", "-q", "-c", &command, &connection]).output();
        let altered = altered.expect("psql runs");
        let said = String::from_utf8_lossy(&altered.stderr);
        assert!(altered.status.success(), "{command}: {said}");
    }

    /// Waits until there is a copy of a slot that the standby would keep: the slot must move on
    /// beyond where the standby began to copy it.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn await_slot(&self, slot: &str, mut moves: impl FnMut()) {
        let mut primary = Sql::superuser(&self.primary, "postgres");
        let mut standby = Sql::superuser(&self.standby, "postgres");
        let query = format!(
            "SELECT count(*) FROM pg_replication_slots \
             WHERE slot_name = '{slot}' AND synced AND NOT temporary"
        );
        await_true("a copy of the slot", COPY_MAX, || {
            moves();
            primary.run("SELECT pg_log_standby_snapshot()");
            standby.value(&query) == "1"
        });
    }

    /// Makes the standby a primary. The other one must be down.
    ///
    /// # Panics
    /// When it does not become one.
    pub fn promote(&self) {
        promote(&self.standby);
    }

    /// Promotes the old primary, which is down, as if it had been a second standby. The other one must be down.
    ///
    /// # Panics
    /// When it does not become one.
    pub fn promote_the_other(&self) {
        make_standby(&data(&self.primary));
        self.primary.order("start");
        promote(&self.primary);
    }

    /// Makes sure that a database is on the standby, too.
    ///
    /// # Panics
    /// When it does not arrive.
    pub fn await_database(&self, name: &str) {
        let mut standby = Sql::superuser(&self.standby, "postgres");
        let query = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
        await_true(&quoted(name), PROMOTE_MAX, || standby.value(&query) == "1");
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.standby.order("wipe");
        self.primary.order("wipe");
    }
}

fn promote(server: &Server) {
    let mut sql = Sql::superuser(server, "postgres");
    let wait = PROMOTE_MAX.as_secs();
    assert_eq!(sql.value(&format!("SELECT pg_promote(true, {wait})")), "t", "not promoted");
}

/// The file is as the one beside it in owner and mode.
fn make_standby(data: &Path) {
    let signal = data.join("standby.signal");
    let copied = Command::new("cp").arg("-a").arg(data.join("PG_VERSION")).arg(&signal).status();
    assert!(copied.expect("cp runs").success(), "{} cannot be made", signal.display());
}

fn data(server: &Server) -> PathBuf {
    let log = ask("log", &server.name);
    Path::new(&log).parent().expect("a folder").join("data")
}
