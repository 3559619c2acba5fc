//! What a newcomer does with `cluster/local/up`: a shop on a cluster, a node killed, drained, added and taken away, a lane
//! moved by hand, everything ended and begun again; and a consumer still holds what the database holds.

use rustix::process::{Pid, Signal, kill_process};
use std::net::TcpStream;
use std::time::Duration;
use tempfile::TempDir;
use tests::catalog::contents;
use tests::checker::{Promises, check};
use tests::deadline::{await_some, await_true};
use tests::process::{Distributary, Ended, binary};
use tests::reader::{Topics, await_settled, count};
use tests::seed::say;
use tests::servers::{self, Server, state_folder};
use tests::sql::Sql;
use tests::status::Status;

const SOON: Duration = Duration::from_secs(120);
const CALL_MAX: Duration = Duration::from_secs(60);
/// The first coordinator of `cluster/local/lib/nodes.sh`.
const FIRST_COORDINATOR: &str = "127.0.0.1:25101";

const KAFKA: &str = "kafka:up";
const ORDERS: &str = "shop.orders";

/// Runs as long as the test.
struct Local {
    folder: TempDir,
    /// As `up` names them.
    coordinators: String,
}

impl Local {
    fn new() -> Self {
        assert!(
            TcpStream::connect(FIRST_COORDINATOR).is_err(),
            "a local cluster runs, which this test would delete: `cluster/local/down --wipe` ends it"
        );
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder, coordinators: String::new() }
    }

    /// What `up` says.
    fn up(&mut self, nodes: usize, rate: u32) -> String {
        let (nodes, rate) = (nodes.to_string(), rate.to_string());
        let binary = binary().to_str().expect("UTF-8");
        let said = servers::run("up", &[&nodes, "--rate", &rate, "--binary", binary]);
        let named =
            said.lines().find_map(|it| it.trim().strip_prefix("export DISTRIBUTARY_COORDINATOR="));
        self.coordinators =
            named.unwrap_or_else(|| panic!("no coordinators named:\n{said}")).into();
        said
    }

    fn call(&self, words: &[&str]) -> Ended {
        let access = [("DISTRIBUTARY_COORDINATOR", &*self.coordinators)];
        Distributary::start_in(self.folder.path(), words, &access).wait(CALL_MAX)
    }

    /// Waits until the task is as it shall be.
    fn await_task(&self, what: &str, is: impl Fn(&Status) -> bool) -> Status {
        await_some(what, SOON, || {
            let ended = self.call(&["task", "status", "shop", "-o", "json"]);
            (ended.code == Some(0)).then(|| Status::parse(&ended.stdout)).filter(&is)
        })
    }

    /// Waits until it is well, and carries what is written then.
    fn await_carrying(&self) {
        self.await_task("all lanes", Status::flows);
        let kafka = Server::known(KAFKA);
        let before = count(&kafka, ORDERS);
        await_true("more orders", SOON, || before < count(&kafka, ORDERS));
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        servers::run("down", &["--wipe"]);
    }
}

/// Of a node that `up` has started.
fn kill(node: &str) {
    let id = std::fs::read_to_string(state_folder().join("up").join(node).join("pid"));
    let id = id.expect("the node's id").trim().parse().ok().and_then(Pid::from_raw).expect("an id");
    kill_process(id, Signal::KILL).expect("it runs");
}

#[test]
fn a_shop_on_a_local_cluster_keeps_up_with_whatever_a_newcomer_tries() {
    let mut local = Local::new();
    let said = local.up(3, 20);
    assert_eq!(said.matches("http://").count(), 6, "status pages: {said}");
    local.await_carrying();

    let lanes = local.await_task("open lanes", Status::flows).lanes();
    let other = ["w1", "w2", "w3"].into_iter().find(|it| *it != lanes[0].0).expect("three workers");
    local.call(&["cluster", "move-lane", "shop", "0", other]).expect(0);
    local.await_task("a moved lane", |it| it.flows() && it.lanes()[0].0 == other);
    local.call(&["cluster", "drain", "w1"]).expect(0);
    local.await_task("a drained worker", |it| it.flows() && !it.nodes().contains(&"w1".into()));
    local.call(&["cluster", "uncordon", "w1"]).expect(0);

    kill("w2");
    kill("c1");
    local.up(3, 20);
    local.await_carrying();
    local.up(2, 20);
    let nodes = local.await_task("all without those that left", Status::flows).nodes();
    assert!(!nodes.contains(&"w3".into()), "{nodes:?}");
    local.await_carrying();

    servers::run("down", &[]);
    local.up(2, 0);
    local.await_task("the task again", Status::flows);
    assert_whole();
}

/// What a consumer holds is what the database holds.
fn assert_whole() {
    let (postgres, kafka) = (Server::known("postgres-15:up"), Server::known(KAFKA));
    let mut sql = Sql::superuser(&postgres, "shop");
    let end = sql.value("SELECT pg_current_wal_flush_lsn()");
    await_true("everything confirmed", SOON, || {
        sql.value(&format!("SELECT '{end}' <= confirmed_flush_lsn FROM pg_replication_slots"))
            == "t"
    });
    await_settled(&kafka, |it| it.starts_with("shop."));
    let report = check(Promises::default(), &Topics::read(&kafka, "shop."), &contents(&mut sql));
    report.assert_clean();
    say(&format!("{} records, {} rows", report.records, report.rows));
    assert!(1000 < report.rows, "the shop had {} rows", report.rows);
}
