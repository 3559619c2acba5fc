//! One test's own ground on shared servers: a database, a task name, topics, a folder; all removed
//! in the end.

use crate::catalog::contents;
use crate::checker::{Promises, Report, check, checkpoints};
use crate::deadline::await_true;
use crate::event::lsn_of;
use crate::process::{Distributary, Ended};
use crate::reader::{Topics, await_settled};
use crate::seed::{say, unique};
use crate::servers::Server;
use crate::sql::{ROLE, Sql, quoted};
use crate::task::{STATE_PREFIX, Spec};
use crate::topics;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// Longer than any test needs to deliver what it has written, in a debug build on two cores.
pub const CATCH_UP_MAX: Duration = Duration::from_secs(150);
const SLOT_FREE_MAX: Duration = Duration::from_secs(60);

/// The ground of a test.
pub struct Scene {
    pub postgres: Server,
    pub kafka: Server,
    /// Name of the task, and of its database.
    pub name: String,
    folder: TempDir,
}

impl Scene {
    /// Starts the servers and makes an empty database that belongs to the role of the tests.
    ///
    /// # Panics
    /// When a server does not start.
    #[must_use]
    pub fn new(label: &str, postgres: &str) -> Self {
        Self::on(label, Server::start(postgres), Server::start("kafka"))
    }

    /// The same on servers that run already.
    ///
    /// # Panics
    /// When the database cannot be made.
    #[must_use]
    pub fn on(label: &str, postgres: Server, kafka: Server) -> Self {
        let name = format!("{label}_{}", unique());
        let folder = tempfile::Builder::new().prefix(&name).tempdir().expect("a folder");
        let scene = Self { postgres, kafka, name, folder };
        let database = quoted(&scene.name);
        let mut sql = Sql::superuser(&scene.postgres, "postgres");
        sql.run(&format!("CREATE DATABASE {database} OWNER {ROLE}"));
        // Writers of a workload meet each other often.
        sql.run(&format!("ALTER DATABASE {database} SET deadlock_timeout = '200ms'"));
        scene
    }

    /// A connection as the role of the tests, which owns the database.
    #[must_use]
    pub fn sql(&self) -> Sql {
        Sql::connect(&self.postgres, &self.name)
    }

    /// A connection as superuser.
    #[must_use]
    pub fn superuser(&self) -> Sql {
        Sql::superuser(&self.postgres, &self.name)
    }

    /// A spec of the task: everything in the database.
    #[must_use]
    pub fn spec(&self) -> Spec {
        Spec::new(&self.name, &self.postgres, &self.name, &self.kafka)
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts `distributary run` on a spec.
    #[must_use]
    pub fn run(&self, spec: &Spec, options: &[&str]) -> Distributary {
        let path = spec.write(self.folder());
        let mut arguments = vec![Path::new("run").as_os_str(), path.as_os_str()];
        arguments.extend(options.iter().map(|option| Path::new(option).as_os_str()));
        Distributary::start(self.folder(), &arguments)
    }

    /// What the precheck says of an item: its state, what was seen, and what mends it.
    ///
    /// # Panics
    /// When it has no such item.
    #[must_use]
    #[track_caller]
    pub fn checked(&self, spec: &Spec, item: &str) -> (String, String, String) {
        let path = spec.write(self.folder());
        let words = [Path::new("check"), &path, Path::new("-o"), Path::new("json")];
        let ended = Distributary::start(self.folder(), &words).wait(CATCH_UP_MAX);
        let found: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
        let items = found["items"].as_array().or(found.as_array()).expect("items");
        let found = items.iter().find(|it| it["name"] == item);
        let found = found.unwrap_or_else(|| panic!("no item {item}: {items:#?}"));
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        (text("state"), text("seen"), text("remedy"))
    }

    /// Runs the task until it has caught up, and all of that is visible.
    ///
    /// # Panics
    /// When it does not end with exit code 0 in time.
    #[track_caller]
    pub fn catch_up(&self, spec: &Spec) -> Ended {
        let ended = self.run(spec, &["--until-caught-up"]).wait(CATCH_UP_MAX);
        ended.expect(0);
        self.await_settled_of(spec.task());
        ended
    }

    /// Waits until the task of this scene reads from its slot: the snapshot is over.
    ///
    /// # Panics
    /// When the process ends, or does not come so far in time.
    pub fn await_streaming(&self, run: &mut Distributary) {
        let mut sql = Sql::superuser(&self.postgres, "postgres");
        await_true("the slot in use", CATCH_UP_MAX, || {
            assert!(!run.has_ended(), "ended before it streamed:\n{}", run.log());
            walsender(&mut sql, &self.slot()) != 0
        });
    }

    /// Name of the task's slot and publication.
    #[must_use]
    pub fn slot(&self) -> String {
        format!("distributary_{}", self.name)
    }

    /// Checks everything in the task's topics against the database, and its checkpoints against its
    /// slot. Nothing may be writing.
    ///
    /// # Panics
    /// When something is lost, doubled, altered or out of order.
    #[track_caller]
    pub fn check(&self, promises: Promises) -> Report {
        self.await_settled();
        let report = check(promises, &self.topics(), &contents(&mut self.superuser()));
        report.assert_clean();
        let confirmed = Sql::superuser(&self.postgres, "postgres").rows(&format!(
            "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{}'",
            self.slot()
        ));
        let confirmed = confirmed.into_iter().flatten().flatten().next();
        let confirmed = confirmed.as_deref().and_then(lsn_of);
        checkpoints(&self.state(), confirmed).assert_clean();
        report
    }

    /// Whether the task has confirmed a position of the log.
    ///
    /// # Panics
    /// When its slot does not say.
    #[must_use]
    pub fn has_confirmed(&self, sql: &mut Sql, lsn: &str) -> bool {
        let query = format!(
            "SELECT '{lsn}' <= confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{}'",
            self.slot()
        );
        match &*sql.value(&query) {
            "t" => true,
            "f" => false,
            other => panic!("`{other}` from slot {}", self.slot()),
        }
    }

    /// The internal topics of the task.
    #[must_use]
    pub fn state(&self) -> Topics {
        Topics::read(&self.kafka, &format!("{STATE_PREFIX}.{}.", self.name))
    }

    /// All data topics of the task, as a consumer with `read_committed` sees them now.
    #[must_use]
    pub fn topics(&self) -> Topics {
        Topics::read(&self.kafka, &format!("{}.", self.name))
    }

    /// Waits until everything is visible that a process has committed before it ended.
    ///
    /// # Panics
    /// When the broker does not answer.
    pub fn await_settled(&self) {
        self.await_settled_of(&self.name);
    }

    fn await_settled_of(&self, task: &str) {
        let data = format!("{task}.");
        await_settled(&self.kafka, |it| it.starts_with(&data) || is_state_of(it, &data));
    }

    /// Names of the replication slots of the database.
    #[must_use]
    pub fn slots(&self) -> Vec<String> {
        let query = format!(
            "SELECT slot_name FROM pg_replication_slots WHERE database = '{}' ORDER BY 1",
            self.name
        );
        let rows = Sql::superuser(&self.postgres, "postgres").rows(&query);
        rows.into_iter().flatten().flatten().collect()
    }

    fn remove(&self) {
        let mut sql = Sql::superuser(&self.postgres, "postgres");
        let database = &self.name;
        sql.run(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = '{database}' AND pid <> pg_backend_pid()"
        ));
        for slot in self.slots() {
            let free = format!(
                "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}' AND active"
            );
            await_true("a free slot", SLOT_FREE_MAX, || sql.value(&free) == "0");
            sql.run(&format!("SELECT pg_drop_replication_slot('{slot}')"));
        }
        sql.run(&format!("DROP DATABASE IF EXISTS {}", quoted(database)));
        topics::delete(&self.kafka, |topic| {
            topic.starts_with(database.as_str()) || is_state_of(topic, database)
        });
    }
}

/// Whether it is an internal topic of a task of this name, or of one of its streams.
fn is_state_of(topic: &str, task: &str) -> bool {
    let rest = topic.strip_prefix(STATE_PREFIX).and_then(|it| it.strip_prefix('.'));
    // Streams after the first have their number before the name.
    let name = |it: &str| {
        let name = it.trim_start_matches(|first: char| first.is_ascii_digit());
        name.strip_prefix('_').unwrap_or(name).starts_with(task)
    };
    rest.is_some_and(name)
}

/// Process id of the walsender that streams a slot; 0: none.
///
/// # Panics
/// When the server does not answer.
pub fn walsender(sql: &mut Sql, slot: &str) -> u32 {
    let query = format!(
        "SELECT coalesce(max(r.pid), 0) FROM pg_replication_slots s JOIN pg_stat_replication r \
         ON r.pid = s.active_pid AND r.state IN ('catchup', 'streaming') \
         WHERE s.slot_name = '{slot}'"
    );
    sql.value(&query).parse().expect("a process id")
}

impl Drop for Scene {
    fn drop(&mut self) {
        // A second panic would hide the first; a server that a test has stopped cannot be cleaned.
        let removed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.remove()));
        if removed.is_err() {
            say(&format!("{} could not be cleaned up on {}", self.name, self.postgres.name));
        }
    }
}
