//! A standby as the source (`source.read_from: standby`): its primary keeps no slot for the task, and nothing is lost or
//! doubled, not even where that standby is promoted.

use std::time::Duration;
use tests::checker::Promises;
use tests::deadline::await_true;
use tests::process::Distributary;
use tests::scene::{CATCH_UP_MAX, Scene, walsender};
use tests::seed::{full, seed};
use tests::servers::Server;
use tests::sql::Sql;
use tests::standby::Pair;
use tests::task::{STATE_PREFIX, Spec};
use tests::workload::{self, Pace, Workload};

const TAKE_OVER_MAX: Duration = Duration::from_secs(180);

fn value(server: &Server, database: &str, query: &str) -> String {
    Sql::superuser(server, database).value(query)
}

/// Changes a setting of a running server.
fn set(server: &Server, setting: &str) {
    let mut sql = Sql::superuser(server, "postgres");
    sql.run(&format!("ALTER SYSTEM SET {setting}"));
    sql.run("SELECT pg_reload_conf()");
}

fn spec(scene: &Scene, pair: &Pair) -> Spec {
    let hosts = format!("{}, {}", pair.primary.address, pair.standby.address);
    scene.spec().hosts(&hosts).source("read_from: standby").line("lanes: 3")
}

/// Waits until the task reads from the standby.
fn await_streaming(scene: &Scene, pair: &Pair, run: &mut Distributary) {
    let mut sql = Sql::superuser(&pair.standby, "postgres");
    await_true("the slot of the standby in use", CATCH_UP_MAX, || {
        assert!(!run.has_ended(), "ended before it streamed:\n{}", run.log());
        walsender(&mut sql, &scene.slot()) != 0
    });
}

/// Slots of the task, publications, and schemas of helper objects.
fn left(scene: &Scene, server: &Server) -> String {
    let query = format!(
        "SELECT concat_ws(' ', \
           (SELECT count(*) FROM pg_replication_slots WHERE database = current_database()), \
           (SELECT count(*) FROM pg_publication), \
           (SELECT count(*) FROM pg_namespace WHERE nspname = '{}'))",
        scene.slot()
    );
    value(server, &scene.name, &query)
}

#[track_caller]
fn expect(scene: &Scene, spec: &Spec, state: &str, words: &[&str]) -> String {
    let (found, seen, remedy) = scene.checked(spec, "source.standby");
    assert_eq!(found, state, "{seen}");
    for word in words {
        assert!(seen.contains(word) || remedy.contains(word), "`{word}`: {seen}; {remedy}");
    }
    remedy
}

/// The precheck names what the pair lacks, and its statements mend it.
fn what_a_standby_lacks_is_named(scene: &Scene, pair: &Pair) {
    let spec = spec(scene, pair);
    let alone = spec.clone().hosts(&pair.primary.address);
    expect(scene, &alone, "fail", &["none of the hosts is in recovery"]);
    let granted = expect(scene, &spec, "warning", &["pg_log_standby_snapshot()", "15 s"]);
    // Without it a slot is made all the same, only later.
    scene.superuser().run(&granted);
    expect(scene, &spec, "pass", &[&pair.standby.address, "by slot standby"]);
    set(&pair.standby, "hot_standby_feedback = off");
    expect(scene, &spec, "fail", &["hot_standby_feedback is off", "rows_removed"]);
    set(&pair.standby, "hot_standby_feedback = on");
    expect(scene, &spec, "pass", &[]);
}

/// Snapshot and stream under load, and the process killed.
fn nothing_is_lost_or_doubled(scene: &Scene, pair: &Pair) {
    let spec = spec(scene, pair);
    workload::create(&mut scene.sql());
    // A standby replays a TRUNCATE in the moment of the snapshot as the primary runs it: that is to be seldom.
    let pace = Pace { connections: 2, pause: Duration::from_millis(60), ..Pace::default() };
    let workload = Workload::start(scene, seed("standby", 11), pace);
    let mut run = scene.run(&spec, &[]);
    await_streaming(scene, pair, &mut run);
    workload.await_committed(50);
    run.kill();
    workload.await_committed(20);
    let mut run = scene.run(&spec, &[]);
    await_streaming(scene, pair, &mut run);
    workload.await_committed(50);
    workload::large_transaction(&mut scene.sql());
    workload.stop();
    run.interrupt(CATCH_UP_MAX).expect(0);
    scene.catch_up(&spec);
    scene.check(Promises::default());
    // The role may make no event triggers, so there are no helper objects.
    assert_eq!(left(scene, &pair.primary), "0 1 0");
    assert_eq!(left(scene, &pair.standby), "1 1 0");
}

/// Without feedback the primary removes what the slot needs: the task parks, and says why.
fn a_slot_that_is_lost_parks(scene: &Scene, pair: &Pair) {
    let spec = spec(scene, pair);
    set(&pair.standby, "hot_standby_feedback = off");
    let held =
        "SELECT count(*) FROM pg_replication_slots WHERE coalesce(xmin, catalog_xmin) IS NOT NULL";
    let mut primary = scene.superuser();
    await_true("the end of the feedback", TAKE_OVER_MAX, || primary.value(held) == "0");
    let lost =
        format!("SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{}'", scene.slot());
    await_true("the loss of the slot", TAKE_OVER_MAX, || {
        primary.run("CREATE TABLE passing (id int)");
        primary.run("DROP TABLE passing");
        for table in ["pg_class", "pg_attribute", "pg_type"] {
            primary.run(&format!("VACUUM {table}"));
        }
        value(&pair.standby, "postgres", &lost) == "lost"
    });
    set(&pair.standby, "hot_standby_feedback = on");
    let ended = scene.run(&spec, &[]).wait(CATCH_UP_MAX);
    let said = &ended.expect(1).stderr;
    assert!(said.contains("hot_standby_feedback = on") && said.contains("--reseed"), "{said}");
    let ended = scene.run(&spec, &["--reseed", "--until-caught-up"]).wait(CATCH_UP_MAX);
    ended.expect(0);
    scene.await_settled();
    assert_eq!(value(&pair.standby, "postgres", &lost), "reserved");
}

/// Without its internal topics nobody can go on with the slot; what belongs to it is on the primary.
fn an_orphan_goes_with_what_the_primary_has_of_it(scene: &Scene, pair: &Pair) {
    // What the task had written before it was released is still there.
    let spec = spec(scene, pair).sink("conflicting_topics: ignore");
    let mut run = scene.run(&spec, &[]);
    await_streaming(scene, pair, &mut run);
    let owner = "SELECT count(*) FROM pg_publication WHERE \
                 obj_description(oid, 'pg_publication') LIKE 'Distributary: %'";
    // The standby is asked, which replays it.
    await_true("the owner's record", CATCH_UP_MAX, || {
        value(&pair.standby, &scene.name, owner) == "1"
    });
    run.interrupt(CATCH_UP_MAX).expect(0);
    let state = format!("{STATE_PREFIX}.{}.", scene.name);
    tests::topics::delete(&scene.kafka, |topic| topic.starts_with(&state));
    let path = spec.write(scene.folder());
    let path = path.to_str().expect("UTF-8");
    let words = ["slots", "--source", path, "--drop-orphans"];
    // Brokers show a topic for a moment that is being deleted.
    await_true("the end of the orphan", CATCH_UP_MAX, || {
        Distributary::start(scene.folder(), &words).wait(CATCH_UP_MAX).expect(0);
        left(scene, &pair.primary) == "0 0 0"
    });
    await_true("the same on the standby", CATCH_UP_MAX, || left(scene, &pair.standby) == "0 0 0");
}

/// A table that comes while the task runs is copied from the primary, and its rows come from the standby.
fn a_promoted_standby_goes_on(scene: &mut Scene, pair: &Pair) {
    let spec = spec(scene, pair);
    let mut sql = scene.sql();
    sql.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int); \
         INSERT INTO t SELECT n, 0 FROM generate_series(1, 50) n",
    );
    let mut run = scene.run(&spec, &[]);
    await_streaming(scene, pair, &mut run);
    sql.run(
        "CREATE TABLE late (id int PRIMARY KEY, n int); \
         INSERT INTO late SELECT n, 0 FROM generate_series(1, 500) n",
    );
    run.await_log("everything is copied", CATCH_UP_MAX);
    for _ in 0..20 {
        sql.run("UPDATE t SET n = n + 1; UPDATE late SET n = n + 1 WHERE id < 10");
    }
    pair.primary.order("kill");
    drop(sql);
    pair.promote();
    scene.postgres = pair.standby.clone();
    let mut sql = scene.sql();
    // What comes until that is seen has positions that the older line never had.
    for _ in 0..10 {
        sql.run("UPDATE t SET n = n + 1");
    }
    run.await_log("the standby that is read from was promoted", TAKE_OVER_MAX);
    run.await_log("the new timeline has all of it", TAKE_OVER_MAX);
    for _ in 0..10 {
        sql.run("UPDATE t SET n = n + 1");
    }
    run.interrupt(CATCH_UP_MAX).expect(0);
    let spec = spec.hosts(&pair.standby.address);
    scene.catch_up(&spec);
    scene.check(Promises { beside_stream: true, ..Promises::default() });
    expect(scene, &spec, "warning", &["was promoted", "goes on there"]);
    scene.run(&spec, &["--release", "--until-caught-up"]).wait(CATCH_UP_MAX).expect(0);
    assert_eq!(left(scene, &pair.standby), "0 0 0");
}

fn a_task_reads_from_a_standby(version: u32) {
    let pair = Pair::start(version, "source", &[]);
    // Feedback goes with it.
    set(&pair.standby, "wal_receiver_status_interval = '1s'");
    let kafka = Server::start("kafka");
    {
        let scene = Scene::on("standby", pair.primary.clone(), kafka.clone());
        pair.await_database(&scene.name);
        what_a_standby_lacks_is_named(&scene, &pair);
        nothing_is_lost_or_doubled(&scene, &pair);
        a_slot_that_is_lost_parks(&scene, &pair);
        let spec = spec(&scene, &pair);
        scene.run(&spec, &["--release", "--until-caught-up"]).wait(CATCH_UP_MAX).expect(0);
        assert_eq!(left(&scene, &pair.primary), "0 0 0");
        assert_eq!(left(&scene, &pair.standby), "0 0 0");
        an_orphan_goes_with_what_the_primary_has_of_it(&scene, &pair);
    }
    let mut scene = Scene::on("promoted", pair.primary.clone(), kafka);
    pair.await_database(&scene.name);
    a_promoted_standby_goes_on(&mut scene, &pair);
}

/// In the full form of 17, too.
#[test]
fn tasks_read_from_standbys() {
    let versions: &[u32] = if full() { &[17, 18] } else { &[18] };
    for &version in versions {
        a_task_reads_from_a_standby(version);
    }
}
