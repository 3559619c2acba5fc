//! What is wrong is refused: with its exit code, one message that names cause and remedy, nothing
//! left behind, no secret shown.

use rustix::process::{Pid, Signal, kill_process};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tests::deadline::await_true;
use tests::process::Ended;
use tests::scene::Scene;
use tests::servers::Server;
use tests::sql::{PASSWORD, ROLE, Sql};
use tests::task::Spec;
use tests::topics;

/// A refusal takes no longer, time-outs of connections included.
const REFUSAL_MAX: Duration = Duration::from_secs(60);

/// Exit codes of the interface.
const FAILED: i32 = 1;
const WRONG_SPEC: i32 = 2;
const PRECHECK: i32 = 3;

/// A database with a table that could be captured.
fn scene(label: &str, postgres: Server) -> Scene {
    let scene = Scene::on(label, postgres, Server::start("kafka"));
    scene.sql().run("CREATE TABLE one (id int PRIMARY KEY); INSERT INTO one VALUES (1)");
    scene
}

/// Runs the spec and expects a refusal that says all `words` on stderr.
#[track_caller]
fn assert_refused(scene: &Scene, spec: &Spec, code: i32, words: &[&str]) -> Ended {
    let ended = scene.run(spec, &["--until-caught-up"]).wait(REFUSAL_MAX);
    ended.expect(code);
    let said = ended.stderr.to_lowercase();
    for word in words {
        assert!(said.contains(&word.to_lowercase()), "`{word}` is not said:\n{}", ended.stderr);
    }
    assert!(!said.contains("panicked"), "{}", ended.stderr);
    // The cause is there once, beside its remedy: nobody has to guess which of several it is.
    let first = words[0].to_lowercase();
    let is_cause = |line: &&str| line.contains(&first) && !line.trim().starts_with("remedy");
    let lines = said.lines().filter(is_cause).count();
    assert_eq!(lines, 1, "`{first}` is said {lines} times:\n{}", ended.stderr);
    assert_nothing_left(scene);
    ended
}

#[track_caller]
fn assert_nothing_left(scene: &Scene) {
    assert_eq!(scene.slots(), [""; 0], "a slot is left behind");
    let publications = scene.superuser().value("SELECT count(*) FROM pg_publication");
    assert_eq!(publications, "0", "a publication is left behind");
    let left = topics::list(&scene.kafka, |topic| topic.contains(&scene.name));
    assert!(left.is_empty(), "topics are left behind: {left:?}");
}

#[track_caller]
fn assert_hidden(ended: &Ended, secret: &str) {
    let shown = ended.stdout.contains(secret) || ended.stderr.contains(secret);
    assert!(!shown, "the secret is shown:\n{}{}", ended.stdout, ended.stderr);
}

#[test]
fn a_wrong_password() {
    let scene = scene("password", Server::start("postgres-15"));
    let spec = scene.spec().user(ROLE, Some("wr0ng-pa55"));
    let ended = assert_refused(
        &scene,
        &spec,
        PRECHECK,
        &["authentication failed", "source.password", ROLE],
    );
    assert_hidden(&ended, "wr0ng-pa55");
}

#[test]
fn a_password_that_is_right_is_not_shown_either() {
    let scene = scene("hidden", Server::start("postgres-15"));
    scene.superuser().run("CREATE ROLE quiet_one LOGIN PASSWORD 'r1ght-pa55'");
    let spec = scene.spec().user("quiet_one", Some("r1ght-pa55"));
    let ended = scene.run(&spec, &["--until-caught-up"]).wait(REFUSAL_MAX);
    scene.superuser().run("DROP ROLE quiet_one");
    ended.expect(PRECHECK);
    assert_hidden(&ended, "r1ght-pa55");
    assert!(ended.stderr.contains("REPLICATION"), "{}", ended.stderr);
    assert_nothing_left(&scene);
}

#[test]
fn no_such_database() {
    let scene = scene("nodb", Server::start("postgres-15"));
    let spec = scene.spec().database("no_such_database");
    assert_refused(&scene, &spec, PRECHECK, &["no_such_database", "source.database"]);
}

#[test]
fn no_server_there() {
    let scene = scene("noserver", Server::start("postgres-15"));
    assert_refused(&scene, &scene.spec().hosts("127.0.0.1:1"), PRECHECK, &["127.0.0.1:1"]);
}

#[test]
fn wal_level_replica() {
    let server = Server::start_with("postgres-15:badwal", &["wal_level=replica"]);
    let scene = scene("wallevel", server);
    let words = ["wal_level", "ALTER SYSTEM SET wal_level = logical", "restart"];
    assert_refused(&scene, &scene.spec(), PRECHECK, &words);
}

#[test]
fn no_free_slot() {
    let server = Server::start_with("postgres-15:oneslot", &["max_replication_slots=1"]);
    let mut sql = Sql::superuser(&server, "postgres");
    let free = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots";
    sql.run(free);
    sql.run("SELECT pg_create_physical_replication_slot('taken')");
    let scene = scene("noslot", server);
    assert_refused(&scene, &scene.spec(), PRECHECK, &["max_replication_slots"]);
    sql.run(free);
}

/// `pg_recvlogical` on a slot, as somebody else's tool.
struct Stranger(Child);

impl Stranger {
    fn attach(scene: &Scene, slot: &str) -> Self {
        let (host, port) = scene.postgres.host_and_port();
        let publication = format!("publication_names={slot}");
        let child = Command::new("/usr/lib/postgresql/15/bin/pg_recvlogical")
            .args(["--host", host, "--port", &port.to_string(), "--username", ROLE])
            .args([
                "--dbname",
                &scene.name,
                "--slot",
                slot,
                "--start",
                "--no-loop",
                "--file",
                "/dev/null",
            ])
            .args(["--option", "proto_version=1", "--option", &publication])
            .env("PGPASSWORD", PASSWORD)
            .env("PGAPPNAME", "a stranger")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pg_recvlogical 15 is installed");
        let stranger = Self(child);
        let mut sql = scene.superuser();
        let query =
            "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'a stranger'";
        await_true("the stranger", REFUSAL_MAX, || sql.value(query) == "1");
        stranger
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

#[test]
fn a_slot_that_someone_else_uses() {
    let scene = scene("inuse", Server::start("postgres-15"));
    let spec = scene.spec();
    scene.catch_up(&spec);
    let mut stranger = Stranger::attach(&scene, &scene.slot());
    let ended = scene.run(&spec, &["--until-caught-up"]).wait(REFUSAL_MAX);
    assert!([Some(FAILED), Some(PRECHECK)].contains(&ended.code), "{ended:?}");
    for word in ["in use", "a stranger", &scene.slot()] {
        assert!(ended.stderr.contains(word), "`{word}` is not said:\n{}", ended.stderr);
    }
    assert!(matches!(stranger.0.try_wait(), Ok(None)), "the stranger was thrown out");
    assert_eq!(scene.slots(), [scene.slot()], "the slot is kept");
    drop(stranger);
    scene.sql().run("INSERT INTO one VALUES (2)");
    scene.catch_up(&spec);
    scene.check(tests::checker::Promises::default());
}

#[test]
fn a_slot_of_that_name_without_checkpoints() {
    let scene = scene("foreign", Server::start("postgres-15"));
    let slot = scene.slot();
    scene
        .superuser()
        .run(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"));
    let ended = scene.run(&scene.spec(), &["--until-caught-up"]).wait(REFUSAL_MAX);
    assert!([Some(FAILED), Some(PRECHECK)].contains(&ended.code), "{ended:?}");
    for word in [slot.as_str(), "--reseed"] {
        assert!(ended.stderr.contains(word), "`{word}` is not said:\n{}", ended.stderr);
    }
    assert!(scene.topics().records.is_empty(), "it began from zero");
    assert_eq!(scene.slots(), [slot], "a slot that may be someone's is not touched");
}

#[test]
fn no_broker_there() {
    let scene = scene("nobroker", Server::start("postgres-15"));
    assert_refused(&scene, &scene.spec().brokers("127.0.0.1:1"), PRECHECK, &["127.0.0.1:1"]);
}

#[test]
fn a_missing_topic_that_may_not_be_created() {
    let scene = scene("notopic", Server::start("postgres-15"));
    let topic = format!("{}.public.one", scene.name);
    let spec = scene.spec().line("sync: {schema: false}");
    assert_refused(&scene, &spec, PRECHECK, &[&topic, "sync.schema"]);
}

#[test]
fn a_property_that_is_refused() {
    let scene = scene("property", Server::start("postgres-15"));
    for (property, word) in [
        ("plugin.library.paths: /tmp/x", "plugin.library.paths"),
        ("enable.idempotence: 'false'", "enable.idempotence"),
        ("no.such.property: '1'", "no.such.property"),
    ] {
        let spec = scene.spec().sink(&format!("properties: {{{property}}}"));
        assert_refused(&scene, &spec, WRONG_SPEC, &[word]);
    }
}

#[test]
fn an_unknown_key() {
    let scene = scene("key", Server::start("postgres-15"));
    let spec = scene.spec().sink("compresion: lz4");
    let line =
        1 + spec.yaml().lines().position(|line| line.contains("compresion")).expect("a line");
    let words = ["compresion", "compression", &format!("{line}")];
    assert_refused(&scene, &spec, WRONG_SPEC, &words);
}

#[test]
fn a_value_of_the_wrong_type() {
    let scene = scene("type", Server::start("postgres-15"));
    assert_refused(&scene, &scene.spec().line("lanes: many"), WRONG_SPEC, &["lanes"]);
    assert_refused(&scene, &scene.spec().line("lanes: 65"), WRONG_SPEC, &["lanes", "64"]);
}

#[test]
fn all_problems_of_a_spec_at_once() {
    let scene = scene("all", Server::start("postgres-15"));
    let spec = scene.spec().sink("acks: 1").line("lanes: 0").line("snapshot: {parallel: 0}");
    assert_refused(&scene, &spec, WRONG_SPEC, &["sink.acks", "lanes", "snapshot.parallel"]);
}

#[test]
fn nothing_selected() {
    let scene = scene("nothing", Server::start("postgres-15"));
    let spec = scene.spec().objects(&["{table: no_such_schema.*}"]);
    assert_refused(&scene, &spec, PRECHECK, &["no_such_schema.*"]);
}

#[test]
fn wrong_usage() {
    let scene = scene("usage", Server::start("postgres-15"));
    for arguments in [
        &["run"][..],
        &["run", "no-such-file.yaml"],
        &["no-such-command"],
        &["run", "a", "--no-such-option"],
    ] {
        let run = tests::process::Distributary::start(scene.folder(), arguments);
        let ended = run.wait(REFUSAL_MAX);
        ended.expect(WRONG_SPEC);
        assert!(!ended.stderr.is_empty(), "nothing is said for {arguments:?}");
    }
    assert_nothing_left(&scene);
}
