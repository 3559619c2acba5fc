//! Alerts and throttles of a running task: a webhook that counts hears of what lasts, once, and of its end, and nothing
//! that is secret; changed limits, retry windows and receivers hold while the task goes on.

use serde_json::Value;
use std::time::{Duration, Instant};
use tests::checker::Promises;
use tests::cluster::Cluster;
use tests::deadline::await_true;
use tests::network::{Link, Weather};
use tests::reader::Record;
use tests::receiver::Receiver;
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::seed::{full, say};
use tests::sql::{PASSWORD, quoted};
use tests::status::Status;
use tests::task::Spec;

#[test]
fn what_lasts_is_told_once_and_so_is_its_end() {
    let (scene, receiver) = (Scene::new("alerted", "postgres-15"), Receiver::start());
    let mut sql = scene.sql();
    sql.run("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    let link = Link::to(&scene.postgres.address);
    let spec = scene.spec().hosts(&link.address).line(&receiver.line(""));
    let mut run = scene.run(&spec, &[]);
    scene.await_streaming(&mut run);
    link.set(Weather::Cut);
    receiver.await_events(&[("failure", "retrying")]);
    link.set(Weather::Clear);
    sql.run("INSERT INTO t VALUES (2)");
    let expected = [("failure", "retrying"), ("recovered", "running")];
    receiver.await_events(&expected);
    let ended = run.interrupt(CATCH_UP_MAX);
    ended.expect(0);
    assert!(!ended.stderr.contains("hunter2"), "a secret: {}", ended.stderr);
    receiver.await_events(&expected);

    // What a person must decide is told at once.
    scene.superuser().run(&format!("SELECT pg_drop_replication_slot('{}')", scene.slot()));
    scene.run(&spec, &[]).wait(CATCH_UP_MAX).expect(1);
    receiver.await_events(&[expected[0], expected[1], ("failure", "parked")]);
}

#[test]
fn a_throttle_makes_a_burst_late_and_that_is_told() {
    let (scene, receiver) = (Scene::new("throttled", "postgres-15"), Receiver::start());
    let mut sql = scene.sql();
    sql.run("CREATE TABLE t (id int PRIMARY KEY, note text)");
    let spec = scene
        .spec()
        .line(&receiver.line(", latency: 2s"))
        .line("throttle: {incremental: {rows: 25, bytes: 0}}");
    let mut run = scene.run(&spec, &[]);
    scene.await_streaming(&mut run);
    // One after the other, so that each can be late by itself.
    let insert = |id| format!("INSERT INTO t VALUES ({id}, 'x');");
    sql.run(&(0..500).map(insert).collect::<Vec<_>>().join("COMMIT;"));
    let began = Instant::now();
    receiver.await_events(&[("latency", "running"), ("latency-recovered", "running")]);
    run.interrupt(CATCH_UP_MAX).expect(0);
    let report = scene.check(Promises::default());
    assert_eq!(report.rows, 500);
    // 500 rows at 25 a second take 20 s, less what the first slice and the timers may make up.
    let took = began.elapsed();
    assert!(Duration::from_secs(17) < took, "500 rows passed in {took:?}");
    say(&format!("throttled: 500 rows at 25 rows/s and the notice after {took:?}"));
}

/// A broker that refuses what waits since before the start: nothing becomes durable in this process.
#[test]
fn what_waits_since_the_start_is_late_although_nothing_became_durable() {
    let (scene, receiver) = (Scene::new("stuck", "postgres-15"), Receiver::start());
    let mut sql = scene.sql();
    sql.run("CREATE TABLE t (id int); INSERT INTO t VALUES (1)");
    scene.catch_up(&scene.spec());
    // Records without a key are refused from now on.
    let topic = format!("{}.public.t", scene.name);
    tests::topics::set(&scene.kafka, &topic, "cleanup.policy", "compact");
    sql.run("INSERT INTO t VALUES (2)");
    let spec = scene.spec().line(&receiver.line(", latency: 2s"));
    let run = scene.run(&spec, &[]);
    let is_told = |event: &str| receiver.events().iter().any(|it| it.0 == event);
    await_true("that it is late", CATCH_UP_MAX, || is_told("latency"));
    let told = receiver.texts().into_iter().find(|it| it.contains("\"event\":\"latency\""));
    let told: Value = serde_json::from_str(&told.expect("one")).expect("JSON");
    assert!(2000 < told["latency_ms"].as_u64().expect("a number"), "{told}");
    tests::topics::set(&scene.kafka, &topic, "cleanup.policy", "delete");
    await_true("that it is not", CATCH_UP_MAX, || is_told("latency-recovered"));
    run.interrupt(CATCH_UP_MAX).expect(0);
    scene.check(Promises::default());
}

#[test]
fn a_statement_that_could_not_be_captured_is_told() {
    let (scene, receiver) = (Scene::new("gap", "postgres-15"), Receiver::start());
    let mut sql = scene.superuser();
    let role = format!("{}_admin", scene.name);
    sql.run(&format!(
        "CREATE ROLE {} SUPERUSER REPLICATION LOGIN PASSWORD '{PASSWORD}'; CREATE TABLE t (id int PRIMARY KEY)",
        quoted(&role)
    ));
    let spec = scene.spec().user(&role, Some(PASSWORD)).line(&receiver.line(""));
    let mut run = scene.run(&spec, &[]);
    scene.await_streaming(&mut run);
    sql.run(&format!(
        "SET distributary.ddl_capture = off; CREATE OR REPLACE FUNCTION {}.relations(oids oid[]) \
         RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE 'broken'; END $$; RESET distributary.ddl_capture",
        quoted(&scene.slot())
    ));
    sql.run("CREATE TABLE unseen (id int PRIMARY KEY)");
    receiver.await_events(&[("ddl-gap", "running")]);
    let said: Value = serde_json::from_str(&receiver.texts()[0]).expect("JSON");
    let cause = said["cause"].as_str().expect("a cause");
    assert!(cause.starts_with("1 DDL statement could not be captured"), "{cause}");
    run.interrupt(CATCH_UP_MAX).expect(0);
    sql.run(&format!(
        "REASSIGN OWNED BY {0} TO postgres; DROP OWNED BY {0}; DROP ROLE {0}",
        quoted(&role)
    ));
}

/// A task of a cluster whose limits are changed while it runs.
struct Live<'a> {
    scene: &'a Scene,
    cluster: Cluster<'a>,
    spec: Spec,
    changes: usize,
}

impl Live<'_> {
    /// Applies the spec with these lines, and waits until its worker goes by them.
    fn change(&mut self, lines: &[&str]) {
        let spec = lines.iter().fold(self.spec.clone(), |spec, line| spec.line(line));
        let path = spec.write(self.scene.folder());
        let path = path.to_str().expect("UTF-8");
        let plan = self.cluster.call(&["task", "apply", path, "-o", "json"]);
        let plan: Value = serde_json::from_str(&plan.expect(0).stdout).expect("JSON");
        for item in plan["plan"]["items"].as_array().expect("a plan") {
            assert_eq!(item["effect"], "at-once", "{item}");
        }
        self.changes += 1;
        await_true("the changed limits", CATCH_UP_MAX, || {
            let log = self.cluster.log("w1");
            log.matches("other limits and retry windows hold").count() == self.changes
        });
    }

    /// Records of table `t`, of its copy or of the stream.
    fn records(&self, is_copied: bool) -> usize {
        let is = |it: &&Record| it.header("distributary.snapshot").is_some() == is_copied;
        self.scene.topics().records.iter().filter(is).count()
    }

    /// So many records come in ten seconds and at most one in twenty more, however late this looks.
    fn assert_rate(&self, what: &str, is_copied: bool, per_second: u32, began: Instant) {
        let before = self.records(is_copied);
        let (since, ten) = (Instant::now(), Duration::from_secs(10));
        await_true("ten seconds", CATCH_UP_MAX, || ten < since.elapsed());
        let count = self.records(is_copied);
        let rate = f64::from(per_second);
        // From before the first could pass until after the last was counted; the first slice passes at once.
        let most = 1.05 * rate * began.elapsed().as_secs_f64() + rate / 4.0;
        assert!(count as f64 <= most, "{what}: {count} passed, not {most}");
        // A busy machine may be slower; the long form is for a quiet one.
        let least = rate * ten.as_secs_f64() * if full() { 0.95 } else { 1.0 / 3.0 };
        assert!(least <= (count - before) as f64, "{what}: {count} after {before}, not {least}");
        let share = (count - before) as f64 / since.elapsed().as_secs_f64() / rate;
        say(&format!("{what}: {:.1} % of {per_second} rows/s over ten seconds", 100.0 * share));
    }
}

#[test]
fn changed_limits_hold_while_the_task_runs() {
    let (scene, receiver) = (Scene::new("relimited", "postgres-15"), Receiver::start());
    let mut sql = scene.sql();
    sql.run(
        "CREATE TABLE t (id int PRIMARY KEY, note text); \
         INSERT INTO t SELECT n, 'x' FROM generate_series(1, 6000) n",
    );
    std::fs::write(scene.folder().join("hook"), &receiver.url).expect("written");
    let link = Link::to(&scene.postgres.address);
    let cluster = Cluster::start(&scene, 1, 1);
    let spec = cluster.spec().hosts(&link.address).line("lanes: 2");
    let spec = spec.line("snapshot: {beside_stream: always}");
    cluster.apply(&spec.clone().line("throttle: {snapshot: {paused: true}}"));
    let mut live = Live { scene: &scene, cluster, spec, changes: 0 };

    // The copy waits, the stream does not.
    live.cluster.await_status("the stream", CATCH_UP_MAX, Status::streams);
    sql.run("INSERT INTO t VALUES (10001, 'streamed')");
    await_true("the stream", CATCH_UP_MAX, || live.records(false) == 1);
    assert_eq!(live.records(true), 0, "a copy that is paused");
    let began = Instant::now();
    live.change(&["throttle: {snapshot: {rows: 300}}"]);
    await_true("the copy", CATCH_UP_MAX, || live.records(true) != 0);
    live.assert_rate("copied", true, 300, began);
    live.change(&[]);
    await_true("the whole copy", CATCH_UP_MAX, || 6000 <= live.records(true));

    let alerts = "alerts: {webhook: \"${file:hook}\", latency: 2s}";
    live.change(&["throttle: {incremental: {rows: 100}}", alerts]);
    let began = Instant::now();
    let insert = |id: u32| format!("INSERT INTO t VALUES ({}, 'y');", 20_000 + id);
    sql.run(&(0..4000).map(insert).collect::<Vec<_>>().join("COMMIT;"));
    live.assert_rate("streamed", false, 100, began);
    receiver.await_events(&[("latency", "running")]);
    live.change(&[alerts]);
    await_true("the whole stream", CATCH_UP_MAX, || live.records(false) == 4001);
    receiver.await_events(&[("latency", "running"), ("latency-recovered", "running")]);

    // Windows that are changed hold for what is tried again already.
    live.change(&["retry: {connection: 700m}"]);
    link.set(Weather::Cut);
    let minutes = |it: &Status| {
        let (_, left) = it.text("cause").rsplit_once("given up in ")?;
        left.split_once(" min").and_then(|it| it.0.parse::<u32>().ok())
    };
    let is_tried = |it: &Status| it.text("state") == "retrying" && Some(600) <= minutes(it);
    live.cluster.await_status("that it is tried again", CATCH_UP_MAX, is_tried);
    live.change(&["retry: {connection: 20m}"]);
    let is_shorter = |it: &Status| minutes(it).is_some_and(|left| left <= 20);
    live.cluster.await_status("the shorter window", CATCH_UP_MAX, is_shorter);
    link.set(Weather::Clear);
    live.cluster.await_status("the stream", CATCH_UP_MAX, Status::streams);

    let log = live.cluster.log("w1");
    assert_eq!(log.matches("front starts").count(), 1, "the front goes on: {log}");
    assert_eq!(log.matches("lane opened").count(), 2, "so do its lanes: {log}");
    assert!(!log.contains("hunter2"), "a secret: {log}");
    live.cluster.call(&["task", "suspend", &scene.name]).expect(0);
    live.cluster.await_status("its end", CATCH_UP_MAX, |it| it.text("state") == "suspended");
    assert_eq!(receiver.events().len(), 2, "nobody is told any more: {:?}", receiver.texts());
    scene.check(Promises { beside_stream: true, ..Promises::default() });
}

#[test]
fn a_window_that_passes_ends_the_run_and_that_is_told() {
    // The shortest window that a spec may have is a minute.
    if !full() {
        return;
    }
    let (scene, receiver) = (Scene::new("windowed", "postgres-15"), Receiver::start());
    let role = format!("role_{}", scene.name);
    let group = tests::sql::ROLE;
    let mut admin = scene.superuser();
    admin.run(&format!("CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'one' IN ROLE {group}"));
    scene.sql().run("CREATE TABLE t (id int PRIMARY KEY)");
    let spec = scene.spec().user(&role, Some("one")).line(&receiver.line(""));
    let spec = spec.line("retry: {connection: 10m, other: 1m}");
    let mut run = scene.run(&spec, &[]);
    scene.await_streaming(&mut run);
    admin.run(&format!(
        "ALTER ROLE {role} PASSWORD 'two'; \
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"
    ));
    let began = Instant::now();
    let ended = run.wait(CATCH_UP_MAX);
    ended.expect(1);
    assert!(Duration::from_secs(60) <= began.elapsed(), "{}", ended.stderr);
    assert!(ended.stderr.contains("tried again for"), "{}", ended.stderr);
    receiver.await_events(&[("failure", "retrying"), ("failure", "failed")]);
    let right = spec.user(&role, Some("two"));
    scene.run(&right, &["--until-caught-up", "--release"]).wait(CATCH_UP_MAX).expect(0);
    admin.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

/// A superuser for the triggers of DDL capture; and a lane that the broker refuses for as long as a spec can ask for at
/// least, while the database can be reached.
#[test]
fn a_slot_is_given_up_when_the_time_for_recovery_is_over_and_that_is_recorded() {
    if !full() {
        return;
    }
    let (scene, receiver) = (Scene::new("expired", "postgres-15"), Receiver::start());
    let role = format!("{}_admin", scene.name);
    let mut admin = scene.superuser();
    admin.run(&format!(
        "CREATE ROLE {0} SUPERUSER REPLICATION LOGIN PASSWORD '{PASSWORD}'; \
         CREATE TABLE t (id int); INSERT INTO t VALUES (0)",
        quoted(&role)
    ));
    let spec = |recover_for: &str| {
        let retry = format!(
            "retry: {{connection: 10m, other: 1m, recover_for: {recover_for}, on_expiry: drop-slot}}"
        );
        let spec = scene.spec().user(&role, Some(PASSWORD)).line(&receiver.line("")).line(&retry);
        spec.sink("delivery: at-least-once").sink("acks: 1")
    };
    scene.catch_up(&spec("7d"));
    let helpers = format!("SELECT count(*) FROM pg_namespace WHERE nspname = '{}'", scene.slot());
    let mut helpers = || admin.value(&helpers);
    assert_eq!(helpers(), "1", "DDL is captured");
    // Records without a key are refused from now on.
    let topic = format!("{}.public.t", scene.name);
    tests::topics::set(&scene.kafka, &topic, "cleanup.policy", "compact");
    scene.superuser().run("INSERT INTO t VALUES (1)");

    // What begins the process again recovers the task, for as long as the spec says.
    let failed = scene.run(&spec("7d"), &[]).wait(CATCH_UP_MAX);
    assert!(failed.expect(1).stderr.contains("its slot is kept"), "{}", failed.stderr);
    assert_eq!(scene.slots(), [scene.slot()]);
    receiver.await_events(&[("failure", "retrying"), ("failure", "failed")]);
    let expired = scene.run(&spec("0s"), &[]).wait(CATCH_UP_MAX);
    let dropped = format!("its slot `{}` was dropped (`retry.on_expiry`)", scene.slot());
    assert!(expired.expect(1).stderr.contains(&dropped), "{}", expired.stderr);
    assert!(scene.slots().is_empty(), "{:?}", scene.slots());
    assert_eq!(helpers(), "0", "nothing is captured for nobody");
    let told = ["failed", "retrying", "parked"].map(|state| ("failure", state));
    receiver.await_events(&[&[("failure", "retrying")], &told[..]].concat());

    // A later start knows why.
    let parked = scene.run(&spec("7d"), &[]).wait(CATCH_UP_MAX);
    let said = &parked.expect(1).stderr;
    assert!(said.contains("`retry.on_expiry` had it dropped 20"), "{said}");
    assert!(said.contains("was opened again for"), "{said}");
    tests::topics::set(&scene.kafka, &topic, "cleanup.policy", "delete");
    let again = scene.run(&spec("7d"), &["--reseed", "--until-caught-up", "--release"]);
    again.wait(CATCH_UP_MAX).expect(0);
    scene.superuser().run(&format!(
        "REASSIGN OWNED BY {0} TO postgres; DROP OWNED BY {0}; DROP ROLE {0}",
        quoted(&role)
    ));
}
