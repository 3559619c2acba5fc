//! A standby takes over under a running task and a random workload (delivery-protocol.md, section 7): with failover slots
//! that are kept in step, and a primary that waits for its standby, nothing is lost or doubled. What an
//! unsafe failover leads to is in `halt.rs`.

use postgres::replication::Replication;
use std::time::Duration;
use tests::checker::Promises;
use tests::network::Link;
use tests::process::Distributary;
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::seed::{full, say, seed};
use tests::servers::Server;
use tests::sql::Sql;
use tests::standby::Pair;
use tests::workload::{self, Pace, Workload};
use wal::Lsn;

const TAKE_OVER_MAX: Duration = Duration::from_secs(180);

#[test]
fn a_safe_failover_under_a_running_task() {
    safe_failover(17, "failover", 63);
    if full() {
        safe_failover(18, "failover_18", 64);
    }
}

fn safe_failover(version: u32, label: &str, short_seed: u64) {
    let seed = seed(label, short_seed);
    let pair = Pair::start(version, "safe", &["synchronized_standby_slots=standby"]);
    let mut scene = Scene::on(label, pair.primary.clone(), Server::start("kafka"));
    let mut sql = scene.sql();
    workload::create(&mut sql);
    sql.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int); \
         INSERT INTO t SELECT n, 0 FROM generate_series(1, 50) n",
    );
    let hosts = format!("{}, {}", pair.primary.address, pair.standby.address);
    let spec = scene.spec().hosts(&hosts).line("lanes: 3");
    // One that is no failover slot becomes one.
    scene.catch_up(&spec.clone().source("slot_failover: off"));
    let failover =
        format!("SELECT failover FROM pg_replication_slots WHERE slot_name = '{}'", scene.slot());
    assert_eq!(scene.superuser().value(&failover), "f");
    let mut run = scene.run(&spec, &[]);
    scene.await_streaming(&mut run);
    assert_eq!(scene.superuser().value(&failover), "t");
    // A failover slot gives out nothing while its standby is away, and the server says nothing of it.
    pair.standby.order("stop");
    run.await_log("waits for standby standby, which is away", TAKE_OVER_MAX);
    pair.standby.order("start");
    run.await_log("the slot is out of danger", TAKE_OVER_MAX);
    pair.await_slot(&scene.slot(), || sql.run("UPDATE t SET n = n + 1"));
    let link = Link::to(&pair.primary.address);
    let linked = Server { address: link.address.clone(), ..pair.primary.clone() };
    let pace = Pace { survives_restarts: true, ..Pace::default() };
    let workload = Workload::start_at(&linked, &scene.name, seed, pace);
    workload.await_committed(if full() { 2000 } else { 100 });
    // Some of it is delivered, some not, and some the standby may not have.
    pair.primary.order("kill");
    drop(sql);
    pair.promote();
    link.lead_to(&pair.standby.address);
    scene.postgres = pair.standby.clone();
    run.await_log("the new timeline has all of it", TAKE_OVER_MAX);
    scene.await_streaming(&mut run);
    workload.await_committed(if full() { 2000 } else { 100 });
    workload.stop();
    run.interrupt(CATCH_UP_MAX).expect(0);
    scene.catch_up(&spec);
    let report = scene.check(Promises::default());
    say(&format!("{label}: {} records, {} rows", report.records, report.rows));

    // The former primary comes back by itself, with a slot that nobody reads any more.
    pair.primary.order("start");
    let left = |server: &Server| {
        let query = format!(
            "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}'",
            scene.slot()
        );
        Sql::superuser(server, "postgres").value(&query)
    };
    assert_eq!((left(&pair.primary), left(&pair.standby)), ("1".into(), "1".into()));
    let path = spec.write(scene.folder());
    let words = ["slots", "--drop-orphans", "--source", path.to_str().expect("UTF-8")];
    let ended = Distributary::start(scene.folder(), &words).wait(CATCH_UP_MAX);
    let said = &ended.expect(0).stdout;
    assert!(said.contains("left behind by a switchover"), "{said}");
    assert_eq!((left(&pair.primary), left(&pair.standby)), ("0".into(), "1".into()), "{said}");
}

/// The precheck says what it lacks; beside its primary it does no harm, and keeps no slot before 16.
fn a_standby_alone_is_no_source(scene: &Scene, standby: &Server) {
    let both = format!("{}, {}", standby.address, scene.postgres.address);
    for (hosts, state) in [(&standby.address, "fail"), (&both, "pass")] {
        let (found, _, remedy) = scene.checked(&scene.spec().hosts(hosts), "source.connection");
        assert_eq!(found, state, "{remedy}");
        assert_eq!(remedy.contains("add the primary to source.hosts"), state == "fail", "{remedy}");
    }
    let spec = scene.spec().hosts(&both).source("read_from: standby");
    let (state, seen, _) = scene.checked(&spec, "source.standby");
    assert_eq!(state, "fail", "{seen}");
    assert!(seen.contains("PostgreSQL 15") && seen.contains("16 and later"), "{seen}");
}

#[test]
fn a_promoted_server_says_where_it_left_the_older_line() {
    let pair = Pair::start(15, "history", &[]);
    let scene = Scene::on("history", pair.primary.clone(), Server::start("kafka"));
    pair.await_database(&scene.name);
    a_standby_alone_is_no_source(&scene, &pair.standby);
    let end = |server| {
        let text = Sql::superuser(server, "postgres").value("SELECT pg_current_wal_flush_lsn()");
        text.parse::<Lsn>().expect("a position")
    };
    let before = end(&pair.primary);
    pair.primary.order("stop");
    pair.promote();
    let mut scene = scene;
    scene.postgres = pair.standby.clone();
    let after = end(&pair.standby);
    let task = config::Task::parse(&scene.spec().yaml()).expect("a spec");
    let settings = postgres::settings::Settings::new(&task, scene.folder()).expect("settings");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut replication = Replication::connect(&settings).await.expect("a walsender");
        assert_eq!(replication.identify().await.expect("an identity").timeline, 2);
        let history = replication.timeline_history(2).await.expect("an answer").expect("a history");
        let left = history.left(1).expect("a switch");
        assert!(before <= left && left <= after, "{before} {left} {after}");
        assert_eq!(history.left(2), None);
        // The connection is good for more.
        assert_eq!(replication.timeline_history(7).await.expect("an answer"), None);
        assert_eq!(replication.timeline_history(1).await.expect("an answer"), None);
    });
}
