//! What people do to a task of a cluster, and what they are told, where servers are away: at its start, at
//! its end, and while a coordinator has just begun.

use rdkafka::ClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;
use tests::cluster::Cluster;
use tests::collector::{Collector, Told};
use tests::deadline::{await_some, await_true};
use tests::network::{Link, Weather};
use tests::process::{Distributary, Ended};
use tests::reader::Topics;
use tests::receiver::Receiver;
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::servers::ask;
use tests::status::Status;
use tests::task::Spec;

/// How long one call of the command line may take, in a debug build on a busy machine.
const CALL_MAX: Duration = Duration::from_secs(120);

/// Writes the spec where no worker can read: only what is sent arrives.
fn written(spec: &Spec) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = spec.write(folder.path());
    (folder, path)
}

fn apply(cluster: &Cluster<'_>, spec: &Spec, files: &[(&str, &str)]) -> Ended {
    let (folder, path) = written(spec);
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("written");
    }
    cluster.call(&["task", "apply", path.to_str().expect("UTF-8")])
}

/// The number of a cause that stands between these words; 0: there is none.
fn number(cause: &str, before: &str, after: &str) -> u32 {
    let number = cause.rsplit_once(before).and_then(|it| it.1.split_once(after));
    number.and_then(|it| it.0.parse().ok()).unwrap_or_default()
}

#[test]
fn servers_that_are_away_are_waited_for_and_what_is_wrong_is_not() {
    let scene = Scene::new("away", "postgres-15");
    scene.sql().run("CREATE TABLE orders (id int PRIMARY KEY, note text)");
    let (database, broker) = (Link::to(&scene.postgres.address), Link::to(&scene.kafka.address));
    let cluster = Cluster::start(&scene, 1, 1);
    // The certificate of the authority is beside the spec, and nowhere else.
    let folder = PathBuf::from(ask("tls", &scene.postgres.name));
    let ca = fs::read_to_string(folder.join("ca.pem")).expect("an authority");
    let tls = "tls: {mode: verify-full, ca: ca.pem}";
    let spec = cluster.spec().connection("main-db").brokers(&broker.address).source(tls);

    let unknown = apply(&cluster, &spec, &[("ca.pem", &ca)]);
    let said = &unknown.expect(2).stderr;
    assert!(said.contains("line 4: `source.connection`: there is no connection"), "{said}");
    let created = set_connection(&cluster, &database);
    assert_eq!(created, "connection `main-db` created\n");
    let missing = apply(&cluster, &spec, &[]);
    assert!(missing.expect(2).stderr.contains("ca.pem` cannot be read"), "{}", missing.stderr);
    apply(&cluster, &spec, &[("ca.pem", &ca)]).expect(0);
    let shown = cluster.call(&["task", "show", &scene.name]);
    assert!(shown.expect(0).stdout.contains("-----BEGIN CERTIFICATE-----"), "{}", shown.stdout);

    database.set(Weather::Cut);
    broker.set(Weather::Cut);
    let hurried = start_hurried(&scene, &cluster, &broker);
    cluster.call(&["task", "start", &scene.name]).expect(0);
    the_window_of_another_task_holds_while_that_runs(&cluster, &hurried);
    let waiting = cluster.await_status("the wait for both", CATCH_UP_MAX, |it| {
        it.text("state") == "retrying"
            && 2 <= number(it.text("cause"), "tried ", " times")
            && it.text("cause").contains("(`retry` of the spec)")
    });
    for part in ["source.connection: connection `main-db`: ", "sink.connection: ", "given up in "] {
        assert!(waiting.text("cause").contains(part), "`{part}` in {waiting}");
    }
    // 12 hours, less what has passed.
    let left = number(waiting.text("cause"), "given up in ", " min");
    assert!((700..=720).contains(&left), "{waiting}");
    database.set(Weather::Clear);
    broker.set(Weather::Clear);
    cluster.await_status("the stream", CATCH_UP_MAX, Status::streams);

    scene.sql().run("INSERT INTO orders SELECT n, 'x' FROM generate_series(1, 20000) n");
    let busy = cluster.await_status("a rate", CATCH_UP_MAX, |it| {
        it.number("records_per_second").is_some_and(|rate| 0.0 < rate)
    });
    let (rate, records) = (busy.number("records_per_second"), busy.number("records"));
    assert!(rate <= records, "not more than all of them a second: {busy}");
    await_true("all rows", CATCH_UP_MAX, || {
        Topics::read(&scene.kafka, &format!("{}.", scene.name)).records.len() == 20_000
    });
    cluster.await_status("rest", CATCH_UP_MAX, |it| it.number("records_per_second") == Some(0.0));

    the_history_says_what_has_happened(&scene, &cluster);
    let other = a_changed_connection_reaches_its_tasks(&scene, &cluster, &database);
    a_release_that_fails_is_said_and_tried_again(&scene, &cluster, &other);
    cluster.call(&["connection", "remove", "main-db"]).expect(0);

    // Its precheck has an item that nobody mends by waiting.
    let wrong = Spec::new(&format!("{}_x", scene.name), &scene.postgres, "no_such", &scene.kafka);
    let wrong = wrong.user(tests::sql::ROLE, Some("${env:DISTRIBUTARY_SECRET_SOURCE}"));
    apply(&cluster, &wrong, &[]).expect(0);
    let started = cluster.call(&["task", "start", wrong.task(), "--wait"]);
    let said = &started.expect(3).stderr;
    assert!(said.contains("precheck-failed") && said.contains("no_such"), "{said}");
}

/// A task over the same broker that is content with less, and cannot be begun.
fn start_hurried(scene: &Scene, cluster: &Cluster<'_>, broker: &Link) -> String {
    let hurried = Spec::new(&format!("{}_y", scene.name), &scene.postgres, "other", &scene.kafka)
        .user(tests::sql::ROLE, Some("${env:DISTRIBUTARY_SECRET_SOURCE}"))
        .hosts("127.0.0.1:1")
        .brokers(&broker.address)
        .line("retry: {connection: 30m}");
    apply(cluster, &hurried, &[]).expect(0);
    cluster.call(&["task", "start", hurried.task()]).expect(0);
    hurried.task().to_owned()
}

/// The shortest window of those with the same servers holds, for as long as who has it runs.
fn the_window_of_another_task_holds_while_that_runs(cluster: &Cluster<'_>, other: &str) {
    let whose = format!("(`retry` of task `{other}`, which has the same servers)");
    cluster.await_status("the shorter window", CATCH_UP_MAX, |it| {
        let cause = it.text("cause");
        cause.contains(&whose) && (1..=30).contains(&number(cause, "given up in ", " min"))
    });
    cluster.call(&["task", "suspend", other]).expect(0);
}

/// Has the connection lead over a link.
fn set_connection(cluster: &Cluster<'_>, database: &Link) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("main-db.yaml");
    fs::write(&file, format!("hosts: [\"{}\"]\n", database.address)).expect("written");
    let path = file.to_str().expect("UTF-8");
    cluster.call(&["connection", "set", "main-db", "--source", path]).expect(0).stdout.clone()
}

/// What was reached over one way is reached over another one: rows still come once the first is cut.
fn a_changed_connection_reaches_its_tasks(
    scene: &Scene,
    cluster: &Cluster<'_>,
    database: &Link,
) -> Link {
    let refused = cluster.call(&["connection", "remove", "main-db"]);
    let said = &refused.expect(1).stderr;
    assert!(said.contains(&format!("connection `main-db` is used by {}", scene.name)), "{said}");
    let other = Link::to(&scene.postgres.address);
    let changed = set_connection(cluster, &other);
    let expected = format!("connection `main-db` changed; go on by it: {}\n", scene.name);
    assert_eq!(changed, expected);
    database.set(Weather::Cut);
    scene.sql().run("INSERT INTO orders VALUES (0, 'by the other way')");
    await_true("the row", CATCH_UP_MAX, || scene.topics().records.len() == 20_001);
    cluster.await_status("the second revision", CATCH_UP_MAX, |it| {
        it.streams() && it.number("revision") == Some(2.0)
    });
    scene.check(tests::checker::Promises::default());
    other
}

fn the_history_says_what_has_happened(scene: &Scene, cluster: &Cluster<'_>) {
    let asked = cluster.call(&["task", "history", &scene.name, "-o", "json"]);
    let history: serde_json::Value = serde_json::from_str(&asked.expect(0).stdout).expect("JSON");
    let states: Vec<_> =
        history.as_array().expect("a list").iter().map(|it| (&it["state"], it)).collect();
    let mut rest = states.iter();
    for expected in ["not-configured", "prechecking", "retrying", "synchronizing"] {
        assert!(rest.any(|it| it.0 == expected), "{expected} in its turn: {history}");
    }
    assert!(states[0].1["by"].is_string(), "somebody has applied it: {history}");
    let retrying = states.iter().find(|it| it.0 == "retrying").expect("one").1;
    let cause = retrying["cause"].as_str().expect("a cause");
    assert!(cause.contains("connection"), "{history}");
    for pair in states.windows(2) {
        assert_eq!(pair[0].1["until_unix_ms"], pair[1].1["since_unix_ms"], "{history}");
    }
}

fn a_release_that_fails_is_said_and_tried_again(
    scene: &Scene,
    cluster: &Cluster<'_>,
    database: &Link,
) {
    database.set(Weather::Cut);
    cluster.call(&["task", "release", &scene.name, "--yes"]).expect(0);
    let failed = cluster
        .await_status("that it failed", CATCH_UP_MAX, |it| it.text("state") == "release-failed");
    assert!(failed.text("cause").contains("PostgreSQL"), "{failed}");
    assert!(failed.text("remedy").contains("`task release` again"));
    let refused = cluster.call(&["task", "resume", &scene.name]);
    assert!(refused.expect(1).stderr.contains("possible now: release"), "{}", refused.stderr);
    assert_eq!(scene.slots(), [scene.slot()], "it is still there");
    database.set(Weather::Clear);
    cluster.call(&["task", "release", &scene.name, "--yes"]).expect(0);
    await_true("the task gone", CATCH_UP_MAX, || {
        let asked = cluster.call(&["task", "status", &scene.name]);
        asked.code == Some(1) && asked.stderr.contains("there is no task")
    });
    assert!(scene.slots().is_empty(), "{:?}", scene.slots());
}

/// The role's sessions end, as they do where a firewall or an administrator ends them.
fn end_sessions(scene: &Scene, role: &str) {
    scene.superuser().run(&format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"
    ));
}

/// Puts another certificate of the same authority, with its key, in the place of the one before.
fn replace_certificate(scene: &Scene, serial: u32) {
    let authority = PathBuf::from(ask("tls", &scene.postgres.name));
    let folder = scene.folder();
    let openssl = |words: &[&str]| {
        let made = Command::new("openssl").args(words).current_dir(folder).output();
        let made = made.expect("openssl is there");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    let subject = format!("/CN=rotated-{serial}");
    openssl(
        &[
            &["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"][..],
            &["-keyout", "next.key", "-out", "next.csr", "-subj", &subject],
        ]
        .concat(),
    );
    // Without any it would be one of version 1, which rustls refuses.
    fs::write(folder.join("extensions"), "extendedKeyUsage = clientAuth\n").expect("written");
    let (ca, ca_key) = (authority.join("ca.pem"), authority.join("ca.key"));
    let (ca, ca_key) = (ca.to_str().expect("UTF-8"), ca_key.to_str().expect("UTF-8"));
    openssl(
        &[
            &["x509", "-req", "-in", "next.csr", "-out", "next.pem", "-days", "2"][..],
            &["-CA", ca, "-CAkey", ca_key, "-set_serial", &serial.to_string()],
            &["-extfile", "extensions"],
        ]
        .concat(),
    );
    for (next, present) in [("next.key", "key.pem"), ("next.pem", "cert.pem")] {
        fs::rename(folder.join(next), folder.join(present)).expect("replaced");
    }
}

/// Serial numbers of the certificates that the role's sessions have shown.
fn certificates(scene: &Scene, role: &str) -> String {
    scene.superuser().value(&format!(
        "SELECT string_agg(DISTINCT client_serial::text, ',') FROM pg_stat_ssl \
         JOIN pg_stat_activity USING (pid) WHERE usename = '{role}'"
    ))
}

#[test]
fn a_password_or_certificate_that_is_replaced_is_read_at_the_next_connection() {
    let scene = Scene::new("rotated", "postgres-15");
    let role = format!("role_{}", scene.name);
    let (one, two) = ("first hunter2", "second hunter2");
    scene.superuser().run(&format!(
        "CREATE ROLE {role} LOGIN REPLICATION PASSWORD '{one}' IN ROLE {}",
        tests::sql::ROLE
    ));
    scene.sql().run("CREATE TABLE orders (id int PRIMARY KEY)");
    let (password, next) = (scene.folder().join("password"), scene.folder().join("next"));
    fs::write(&password, format!("{one}\n")).expect("written");
    replace_certificate(&scene, 1);
    let ca = PathBuf::from(ask("tls", &scene.postgres.name)).join("ca.pem");
    let spec = scene.spec().user(&role, Some("${file:password}")).source(&format!(
        "tls: {{mode: verify-ca, ca: {}, cert: cert.pem, key: key.pem}}",
        ca.display()
    ));
    let mut run = scene.run(&spec, &[]);
    scene.await_streaming(&mut run);
    assert_eq!(certificates(&scene, &role), "1");
    let is_there = |count| scene.topics().records.len() == count;
    scene.sql().run("INSERT INTO orders VALUES (1)");
    await_true("the first row", CATCH_UP_MAX, || is_there(1));

    // At the server first: the old one is refused until the file has the new one.
    scene.superuser().run(&format!("ALTER ROLE {role} PASSWORD '{two}'"));
    end_sessions(&scene, &role);
    run.await_log("PostgreSQL refuses the login", CATCH_UP_MAX);
    scene.sql().run("INSERT INTO orders VALUES (2)");
    fs::write(&next, format!("{two}\n")).expect("written");
    fs::rename(&next, &password).expect("replaced");
    await_true("the second row", CATCH_UP_MAX, || is_there(2));
    assert!(!run.has_ended(), "{}", run.log());

    // What is open goes on with the certificate that it has; what is opened then shows the new one.
    replace_certificate(&scene, 2);
    assert_eq!(certificates(&scene, &role), "1");
    end_sessions(&scene, &role);
    scene.sql().run("INSERT INTO orders VALUES (20)");
    await_true("the row by the other certificate", CATCH_UP_MAX, || is_there(3));
    assert_eq!(certificates(&scene, &role), "2");

    // Also while nobody can read the file: what is open goes on, and the last one still holds.
    fs::remove_file(&password).expect("removed");
    end_sessions(&scene, &role);
    scene.sql().run("INSERT INTO orders VALUES (3)");
    await_true("the third row", CATCH_UP_MAX, || is_there(4));
    let ended = run.interrupt(CATCH_UP_MAX);
    assert!(!ended.expect(0).stderr.contains("hunter2"), "a secret: {}", ended.stderr);
    scene.check(tests::checker::Promises::default());
    fs::write(&password, two).expect("written");
    let released = scene.run(&spec, &["--until-caught-up", "--release"]).wait(CATCH_UP_MAX);
    released.expect(0);
    scene.superuser().run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

/// Asks one coordinator, once.
fn ask_only(scene: &Scene, address: &str, words: &[&str]) -> Ended {
    let options = ["-o", "json", "--coordinator", address];
    Distributary::start(scene.folder(), &[words, &options].concat()).wait(CALL_MAX)
}

#[test]
fn a_coordinator_that_has_just_begun_says_nothing_wrong() {
    let scene = Scene::new("begun", "postgres-15");
    let mut cluster = Cluster::start(&scene, 1, 0);
    let (_folder, path) = written(&cluster.spec());
    cluster.call(&["task", "apply", path.to_str().expect("UTF-8")]).expect(0);
    cluster.add_coordinator(2);
    let address = cluster.address("c2");
    for (what, words) in [
        ("the list", &["task", "list"][..]),
        ("the cluster", &["cluster", "status"]),
        ("the task", &["task", "status", &scene.name]),
    ] {
        cluster.kill("c2");
        cluster.begin("c2");
        // It may not listen yet: nobody has answered then.
        let answer = await_some(what, CALL_MAX, || {
            let asked = ask_only(&scene, &address, words);
            assert!(!asked.stderr.contains("there is no task"), "{}", asked.stderr);
            (asked.code == Some(0)).then_some(asked)
        });
        assert!(answer.stdout.contains(&scene.name), "{what}: {}", answer.stdout);
    }
}

/// A lost slot parks a task; each way out is one order, which is carried out once.
#[test]
fn a_lost_slot_is_left_behind_by_one_order() {
    let scene = Scene::new("reseeded", "postgres-15");
    scene.sql().run("CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders VALUES (1)");
    let mut cluster = Cluster::start(&scene, 1, 1);
    cluster.apply(&cluster.spec());
    cluster.await_status("the stream", CATCH_UP_MAX, Status::streams);
    let name = scene.name.as_str();
    let idle =
        format!("SELECT NOT active FROM pg_replication_slots WHERE slot_name = '{}'", scene.slot());
    let drop = format!("SELECT pg_drop_replication_slot('{}')", scene.slot());
    let ids = || -> Vec<i64> {
        let topics = scene.topics();
        let id = |it: &tests::reader::Record| it.json()["after"]["id"].as_i64();
        let mut ids: Vec<_> = topics.records.iter().filter_map(id).collect();
        ids.sort_unstable();
        ids
    };
    for (id, order, expected) in
        [(2, &["--accept-gap"][..], vec![1, 3]), (4, &[], vec![1, 1, 2, 3, 3, 4, 5])]
    {
        cluster.call(&["task", "suspend", name]).expect(0);
        await_true("a slot that nobody reads", CATCH_UP_MAX, || {
            scene.superuser().value(&idle) == "t"
        });
        scene.superuser().run(&drop);
        scene.sql().run(&format!("INSERT INTO orders VALUES ({id})"));
        cluster.call(&["task", "start", name]).expect(0);
        let parked =
            cluster.await_status("a parked task", CATCH_UP_MAX, |it| it.text("state") == "parked");
        assert!(parked.text("cause").contains("is gone"), "{parked}");
        cluster.call(&[&["task", "reseed", name][..], order].concat()).expect(0);
        let streaming = cluster.await_status("the stream", CATCH_UP_MAX, Status::streams);
        let is_named = streaming.text("cause").contains("the gap was accepted");
        assert_eq!(is_named, !order.is_empty(), "{streaming}");
        scene.sql().run(&format!("INSERT INTO orders VALUES ({})", id + 1));
        let is_there = || ids().len() >= expected.len();
        await_true("what was written since", CATCH_UP_MAX, is_there);
        assert_eq!(ids(), expected);
    }
    // A worker that begins again does not repeat the order.
    cluster.kill("w1");
    cluster.begin("w1");
    scene.sql().run("INSERT INTO orders VALUES (6)");
    await_true("a row behind the crash", CATCH_UP_MAX, || ids().contains(&6));
    assert_eq!(ids().len(), 8);
}

#[test]
fn a_task_that_no_worker_may_have_is_told_by_the_leader() {
    let scene = Scene::new("homeless", "postgres-15");
    scene.sql().run("CREATE TABLE t (id int PRIMARY KEY)");
    let (receiver, cluster) = (Receiver::start(), Cluster::start(&scene, 1, 1));
    fs::write(scene.folder().join("hook"), &receiver.url).expect("written");
    let spec = cluster.spec().line("alerts: {webhook: \"${file:hook}\"}");
    cluster.apply(&spec.clone().line("placement: {producers: {pool: nobody}}"));
    receiver.await_events(&[("failure", "unplaced")]);
    let told = receiver.texts().remove(0);
    assert!(told.contains("lanes have no place"), "{told}");
    apply(&cluster, &spec, &[]).expect(0);
    receiver.await_events(&[("failure", "unplaced"), ("recovered", "running")]);
    cluster.await_status("the stream", CATCH_UP_MAX, Status::flows);
}

/// Specs that are tried one after the other on a task that streams.
struct Changed<'a> {
    scene: &'a Scene,
    cluster: Cluster<'a>,
    receiver: Receiver,
    /// What was to be told so far.
    told: Vec<(&'static str, &'static str)>,
    rows: usize,
}

impl Changed<'_> {
    fn spec(&self) -> Spec {
        self.cluster.spec().line("alerts: {webhook: \"${file:hook}\"}")
    }

    fn apply(&self, spec: &Spec) {
        apply(&self.cluster, spec, &[]).expect(0);
    }

    fn await_told(&mut self, event: &'static str, state: &'static str) {
        self.told.push((event, state));
        self.receiver.await_events(&self.told);
    }

    /// A row still comes through.
    fn assert_streams(&mut self) {
        self.rows += 1;
        self.scene.sql().run(&format!("INSERT INTO t VALUES ({}, 'x')", self.rows));
        let (scene, rows) = (self.scene, self.rows);
        await_true("the row", CATCH_UP_MAX, || scene.topics().records.len() == rows);
    }

    /// The spec does not come into force, which is told, and the task goes on.
    fn assert_refused(&mut self, spec: &Spec, why: &str) {
        self.apply(spec);
        self.await_refusal(why);
        self.await_told("change-refused", "running");
        self.assert_streams();
    }

    fn await_refusal(&self, why: &str) {
        self.cluster.await_status("why it is not in force", CATCH_UP_MAX, |it| {
            let cause = it.text("cause");
            it.flows() && cause.contains("the changed spec is not in force") && cause.contains(why)
        });
    }
}

#[test]
fn a_task_goes_on_by_the_spec_before_one_that_cannot_be_carried_out() {
    let scene = Scene::new("unfit", "postgres-15");
    scene.sql().run("CREATE TABLE t (id int PRIMARY KEY, note text)");
    let (receiver, cluster) = (Receiver::start(), Cluster::start(&scene, 1, 1));
    fs::write(scene.folder().join("hook"), &receiver.url).expect("written");
    let mut task = Changed { scene: &scene, cluster, receiver, told: Vec::new(), rows: 0 };
    let with = |task: &Changed<'_>, object: &str| task.spec().objects(&[object]);
    let misspelt = with(&task, "{table: public.t, where: \"notte = 'x'\"}");

    // Nothing has run that could go on.
    task.apply(&misspelt);
    task.cluster.call(&["task", "start", &scene.name]).expect(0);
    task.await_told("failure", "precheck-failed");
    task.cluster.await_status("that it does not begin", CATCH_UP_MAX, |it| {
        it.text("state") == "precheck-failed" && it.text("cause").contains("notte")
    });
    let good = task.spec();
    task.apply(&good);
    task.cluster.call(&["task", "start", &scene.name, "--wait"]).expect(0);
    task.await_told("recovered", "running");
    task.assert_streams();

    // By a mark, and by a seal.
    task.assert_refused(&misspelt, "notte");
    let asked = task.cluster.call(&["task", "history", &scene.name, "-o", "json"]);
    assert!(asked.expect(0).stdout.contains("notte"), "{}", asked.stdout);
    let unkeyed = with(&task, "{table: public.t, partition_key: [wrong]}");
    task.assert_refused(&unkeyed, "no column `wrong`");
    let log = task.cluster.log("w1");
    assert_eq!(log.matches("front starts").count(), 1, "the front goes on: {log}");

    // Also where it begins anew.
    task.cluster.kill("w1");
    task.cluster.begin("w1");
    task.await_refusal("no column `wrong`");
    task.await_told("change-refused", "running");
    task.assert_streams();

    what_waits_is_told_and_later_changes_are_heeded(&mut task, &good);
    scene.check(tests::checker::Promises::default());
}

/// The precheck of a changed spec may wait long for a server. What is applied meanwhile counts.
fn what_waits_is_told_and_later_changes_are_heeded(task: &mut Changed<'_>, good: &Spec) {
    let other = Link::to(&task.scene.postgres.address);
    other.set(Weather::Cut);
    let moved = good.clone().hosts(&other.address);
    task.apply(&moved);
    task.cluster.await_status("what is waited for", CATCH_UP_MAX, |it| {
        let cause = it.text("cause");
        it.text("state") == "modifying"
            && ["the changed spec waits: source.connection", "given up in "]
                .iter()
                .all(|part| cause.contains(part))
    });
    task.assert_streams();
    task.apply(&moved.clone().line("throttle: {incremental: {rows: 1000}}"));
    await_true("the throttle", CATCH_UP_MAX, || {
        task.cluster.log("w1").contains("other limits and retry windows hold")
    });
    task.apply(good);
    task.cluster.await_status("the spec taken back", CATCH_UP_MAX, |it| {
        it.flows() && it.text("cause").is_empty() && it.text("state") == "synchronizing"
    });
    assert_eq!(task.cluster.log("w1").matches("front starts").count(), 1);
    task.assert_streams();

    // What passes is carried out, in another run where it takes one.
    task.apply(&moved);
    other.set(Weather::Clear);
    await_true("the other way", CATCH_UP_MAX, || {
        task.cluster.log("w1").matches("front starts").count() == 2
    });
    task.cluster.await_status("the stream", CATCH_UP_MAX, Status::flows);
    let log = task.cluster.log("w1");
    assert!(log.contains("a changed spec has passed"), "{log}");
    task.assert_streams();
    task.receiver.await_events(&task.told);
}

/// Whether the broker refuses a record without a key, of who asks it.
fn refuses_keyless(scene: &Scene, topic: &str) -> bool {
    let config = tests::topics::client(&scene.kafka);
    let producer: BaseProducer<Reported> =
        config.create_with_context(Reported::default()).expect("a producer");
    producer.send(BaseRecord::<(), str>::to(topic).payload("of nobody")).expect("queued");
    producer.flush(CALL_MAX).expect("reported");
    let told = producer.context().0.lock().expect("no panic").take();
    told.expect("a report").is_err()
}

/// What became of the last record.
#[derive(Default)]
struct Reported(Mutex<Option<Result<(), String>>>);

impl ClientContext for Reported {}

impl ProducerContext for Reported {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let told = result.as_ref().map(drop).map_err(|(error, _)| error.to_string());
        *self.0.lock().expect("no panic") = Some(told);
    }
}

/// OpenTelemetry's status of what has failed.
const ERROR: i32 = 2;
/// Where the caller of the command line is in a trace of its own.
const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// What the broker refuses is told to who asks for an answer, and to nobody else.
#[test]
fn changed_acks_are_in_force_in_a_running_task_and_traces_tell_of_it() {
    let (scene, collector) = (Scene::new("acks", "postgres-15"), Collector::start());
    let mut sql = scene.sql();
    sql.run("CREATE TABLE t (id int); INSERT INTO t VALUES (0)");
    let mut cluster = Cluster::start(&scene, 0, 0).with_environment(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=shop-cdc"),
        ("OTEL_BSP_SCHEDULE_DELAY", "200"),
        ("TRACEPARENT", CALLER),
    ]);
    cluster.add_coordinator(1);
    cluster.add_worker("w1");
    let spec = cluster.spec().sink("delivery: at-least-once").line("lanes: 2");
    cluster.apply(&spec.clone().sink("acks: all"));
    cluster.await_status("the stream", CATCH_UP_MAX, Status::streams);
    let change = |cluster: &mut Cluster<'_>, acks: &str, opened: usize| {
        let path = spec.clone().sink(acks).write(scene.folder());
        cluster.call(&["task", "apply", path.to_str().expect("UTF-8")]).expect(0);
        await_true("both lanes with other producers", CATCH_UP_MAX, || {
            cluster.log("w1").matches("lane opened").count() == opened
        });
    };
    change(&mut cluster, "acks: 0", 4);
    let topic = format!("{}.public.t", scene.name);
    tests::topics::set(&scene.kafka, &topic, "cleanup.policy", "compact");
    await_true("a topic that wants keys", CATCH_UP_MAX, || refuses_keyless(&scene, &topic));
    sql.run("INSERT INTO t VALUES (1)");
    let written = sql.value("SELECT pg_current_wal_lsn()");
    await_true("the lost row confirmed", CATCH_UP_MAX, || scene.has_confirmed(&mut sql, &written));
    traces_tell_what_was_done(&scene, &mut cluster, &collector);

    change(&mut cluster, "acks: 1", 6);
    sql.run("INSERT INTO t VALUES (2)");
    let refused = sql.value("SELECT pg_current_wal_lsn()");
    cluster.await_status("that the broker refuses it", CATCH_UP_MAX, |it| {
        !it.text("cause").is_empty() && it.text("cause").contains(&topic)
    });
    assert!(!scene.has_confirmed(&mut sql, &refused));
}

/// A lane that moves, a front that moves, and changed specs, on two nodes.
#[test]
fn traces_lead_from_node_to_node() {
    let (scene, collector) = (Scene::new("nodes", "postgres-15"), Collector::start());
    let mut sql = scene.sql();
    sql.run("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (0)");
    let mut cluster = Cluster::start(&scene, 0, 0).with_environment(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "200"),
    ]);
    cluster.add_coordinator(1);
    cluster.add_worker("w1");
    cluster.apply(&cluster.spec().line("lanes: 2"));
    cluster.await_status("the stream", CATCH_UP_MAX, Status::flows);
    let named = |name: &str| {
        await_true(name, CATCH_UP_MAX, || !collector.named(name).is_empty());
        collector.named(name)
    };
    // Of one trace, the one below the other.
    let is_below = |part: &Told, whole: &Told| {
        let ids = (&part.span.trace_id, &part.span.parent_span_id);
        ids == (&whole.span.trace_id, &whole.span.span_id)
            && whole.span.start_time_unix_nano <= part.span.start_time_unix_nano
    };

    cluster.add_worker("w2");
    cluster.await_status("a lane on each", CATCH_UP_MAX, |it| {
        it.nodes() == ["w1", "w2"] && it.flows()
    });
    let moved = named("lane.move").remove(0);
    assert_eq!((moved.attribute("from"), moved.attribute("to")), ("this node".into(), "w2".into()));
    let lane = moved.attribute("lane");
    let hosted = named("lane.host").remove(0);
    assert_eq!((hosted.attribute("task"), hosted.attribute("lane")), (scene.name.clone(), lane));
    assert!(named("lane.open").iter().any(|it| is_below(&hosted, it)), "{hosted:?}");

    cluster.call(&["cluster", "drain", "w1"]).expect(0);
    cluster.await_status("all on the other", CATCH_UP_MAX, |it| {
        it.front() == "w2" && it.nodes() == ["w2"] && it.flows()
    });
    let (taken, handed) = (named("front.take_over").remove(0), named("front.hand_over").remove(0));
    assert_eq!((taken.attribute("from"), handed.attribute("to")), ("w1".into(), "w2".into()));
    assert!(is_below(&handed, &taken), "{handed:?} {taken:?}");
    assert!(named("task.start").iter().any(|it| is_below(&taken, it)), "{taken:?}");

    for (lanes, name) in [(2, "revision.mark"), (3, "revision.seal")] {
        let spec = cluster.spec().topic("{task}.other.{table}").line(&format!("lanes: {lanes}"));
        let path = spec.write(scene.folder());
        cluster.call(&["task", "apply", path.to_str().expect("UTF-8")]).expect(0);
        let told = named(name);
        assert!(told.iter().all(|it| it.attribute("task") == scene.name), "{told:?}");
        cluster.await_status("the changed task", CATCH_UP_MAX, Status::flows);
    }
}

fn traces_tell_what_was_done(scene: &Scene, cluster: &mut Cluster<'_>, collector: &Collector) {
    let named = |name: &str| collector.named(name);
    let of_task = [
        "task.start",
        "precheck",
        "meta.open",
        "lane.open",
        "snapshot",
        "task.begin",
        "lane.renew",
        "transaction",
    ];
    for name in of_task {
        await_true(name, CATCH_UP_MAX, || !named(name).is_empty());
        let told = named(name);
        assert!(told.iter().all(|it| it.attribute("task") == scene.name), "{name}: {told:?}");
    }
    let start = named("task.start").remove(0).span;
    for name in ["precheck", "meta.open", "snapshot", "task.begin"] {
        let part = named(name).remove(0).span;
        assert_eq!((&part.trace_id, &part.parent_span_id), (&start.trace_id, &start.span_id));
        assert!(start.start_time_unix_nano <= part.start_time_unix_nano, "{part:?}");
        assert!(part.end_time_unix_nano <= start.end_time_unix_nano, "{part:?}");
    }
    let opened: Vec<_> = named("lane.open").iter().map(|it| it.attribute("lane")).collect();
    assert_eq!(opened.iter().filter(|it| *it == "1").count(), 2, "{opened:?}");

    // From the caller's span over the command line's and the coordinator's to what was written.
    let calls = named("admin.call");
    // One that was refused, as there was no leader yet, was made again.
    let is_done = |it: &&Told| it.span.status.as_ref().is_none_or(|status| status.code != ERROR);
    let is_served = |it: &&Told| !it.attribute("rpc.method").is_empty();
    let served: Vec<_> = calls.iter().filter(is_served).filter(is_done).collect();
    let methods: Vec<_> = served.iter().map(|it| it.attribute("rpc.method")).collect();
    assert_eq!(methods, ["ApplyTask", "StartTask", "ApplyTask"]);
    for it in &served {
        let own = calls.iter().find(|caller| caller.span.span_id == it.span.parent_span_id);
        let own = &own.expect("the command line's span").span;
        let trace: String = own.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
        let caller: String = own.parent_span_id.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(CALLER.contains(&format!("-{trace}-{caller}-")), "{own:?}");
        assert_eq!(it.span.trace_id, own.trace_id);
        let is_order = |order: &&Told| order.span.parent_span_id == it.span.span_id;
        assert_eq!(named("coordinator.order").iter().filter(is_order).count(), 1, "{it:?}");
    }
    assert!(!named("coordinator.write").is_empty());

    let (told, heads) = (collector.spans(), collector.heads());
    assert!(told.iter().all(|it| it.service == "shop-cdc"), "the environment names the service");
    assert!(heads.contains("POST /v1/traces") && heads.contains("hunter2"), "{heads}");
    for (what, text) in [("spans", format!("{told:?}")), ("log", cluster.log("w1"))] {
        assert!(!text.contains("hunter2"), "a secret in the {what}: {text}");
    }
}
