//! A standby takes over under a running task (delivery-protocol.md, section 7): with failover slots
//! that are kept in step, and a primary that waits for its standby, nothing is lost or doubled. What an
//! unsafe failover leads to is in `halt.rs`.

use postgres::replication::Replication;
use std::time::Duration;
use tests::checker::Promises;
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::servers::Server;
use tests::sql::Sql;
use tests::standby::Pair;
use wal::Lsn;

const TAKE_OVER_MAX: Duration = Duration::from_secs(180);

#[test]
fn a_safe_failover_under_a_running_task() {
    let pair = Pair::start(17, "safe", &["synchronized_standby_slots=standby"]);
    let mut scene = Scene::on("failover", pair.primary.clone(), Server::start("kafka"));
    let mut sql = scene.sql();
    sql.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int); \
         INSERT INTO t SELECT n, 0 FROM generate_series(1, 50) n",
    );
    let hosts = format!("{}, {}", pair.primary.address, pair.standby.address);
    let spec = scene.spec().hosts(&hosts).line("lanes: 3");
    scene.catch_up(&spec);
    pair.keep_slot(&scene.name, &scene.slot());
    let mut run = scene.run(&spec, &[]);
    scene.await_streaming(&mut run);
    pair.await_slot(&scene.slot(), || sql.run("UPDATE t SET n = n + 1"));
    for _ in 0..30 {
        sql.run("UPDATE t SET n = n + 1");
    }
    // Some of it is delivered, some not, and some the standby may not have.
    pair.primary.order("kill");
    drop(sql);
    pair.promote();
    scene.postgres = pair.standby.clone();
    run.await_log("the new timeline has all of it", TAKE_OVER_MAX);
    scene.await_streaming(&mut run);
    let mut sql = scene.sql();
    for _ in 0..10 {
        sql.run("UPDATE t SET n = n + 1");
    }
    run.interrupt(CATCH_UP_MAX).expect(0);
    scene.catch_up(&spec);
    scene.check(Promises::default());
}

#[test]
fn a_promoted_server_says_where_it_left_the_older_line() {
    let pair = Pair::start(15, "history", &[]);
    let scene = Scene::on("history", pair.primary.clone(), Server::start("kafka"));
    pair.await_database(&scene.name);
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
