//! Transactions in progress (`source.streaming: on`): a task that gets them piece by piece writes the records of one that
//! gets them whole, also where savepoints are rolled back, transactions are prepared, definitions change inside, and the
//! process is killed.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tests::checker::Promises;
use tests::deadline::await_true;
use tests::disk::Disk;
use tests::process::Distributary;
use tests::reader::{Record, Topics, await_settled};
use tests::scene::{CATCH_UP_MAX, Scene, walsender};
use tests::sql::{PASSWORD, Sql, quoted};
use tests::task::{STATE_PREFIX, Spec};

const TABLES: &str = "CREATE TABLE items (id int PRIMARY KEY, note text);
CREATE TABLE shapes (id int PRIMARY KEY, size int);
CREATE TABLE others (id int PRIMARY KEY, note text)";

/// A database whose walsenders stream nearly everything, and a superuser, whose DDL is captured.
struct Ground {
    scene: Scene,
    role: String,
}

impl Ground {
    fn new(server: &str, settings: &[&str]) -> Self {
        let scene = Scene::new("streaming", server);
        let (role, database) = (format!("{}_admin", scene.name), quoted(&scene.name));
        let mut sql = scene.superuser();
        let admin = quoted(&role);
        sql.run(&format!("CREATE ROLE {admin} SUPERUSER REPLICATION LOGIN PASSWORD '{PASSWORD}'"));
        for setting in settings.iter().chain(&["logical_decoding_work_mem = '64kB'"]) {
            sql.run(&format!("ALTER DATABASE {database} SET {setting}"));
        }
        sql.run(TABLES);
        Self { scene, role }
    }

    /// A task by this name; records of two tasks differ only in their topics.
    fn spec(&self, task: &str, lines: &[&str]) -> Spec {
        let Scene { postgres, kafka, name, .. } = &self.scene;
        let spec = Spec::new(task, postgres, name, kafka).user(&self.role, Some(PASSWORD));
        let spec = spec.sink("topic_prefix: same").line("lanes: 2");
        lines.iter().fold(spec, |spec, line| spec.source(line))
    }

    fn await_streaming(&self, run: &mut Distributary, task: &str) {
        let mut sql = self.scene.superuser();
        await_true("the slot in use", CATCH_UP_MAX, || {
            assert!(!run.has_ended(), "ended before it streamed:\n{}", run.log());
            walsender(&mut sql, &format!("distributary_{task}")) != 0
        });
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let role = quoted(&self.role);
        let mut sql = self.scene.superuser();
        // One that is left behind would hold back every new slot of the server.
        for end in [KEPT, GONE] {
            drop(sql.attempt(&format!("ROLLBACK PREPARED '{}'", self.scene.name.clone() + end)));
        }
        drop(sql.attempt(&format!("REASSIGN OWNED BY {role} TO postgres; DROP ROLE {role}")));
    }
}

/// Files without a name that a process has open: its spools.
fn spools(run: &Distributary) -> usize {
    let Ok(open) = fs::read_dir(format!("/proc/{}/fd", run.id())) else { return 0 };
    let paths = open.flatten().filter_map(|it| fs::read_link(it.path()).ok());
    paths.filter(|path| path.to_string_lossy().ends_with("(deleted)")).count()
}

/// What a record says but for when and by whom it was written, and of what came before the stream began. A statement
/// is written into the WAL by each task's own trigger.
fn said(record: &Record) -> (Option<String>, Value, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut value = record.json();
    for time in ["ts_ms", "ts_us", "ts_ns"] {
        value[time].take();
    }
    if let Some(source) = value.get_mut("source").filter(|it| it.is_object()) {
        source["sequence"].take();
        if record.topic.ends_with(".ddl") {
            source["lsn"].take();
        }
    }
    let place = record.headers.iter().filter(|(name, _)| name != "distributary.task");
    let place: Vec<_> = place.map(|(name, value)| format!("{name}={}", text(value))).collect();
    (record.key.as_deref().map(text), value, place.join(" "))
}

type Said = BTreeMap<(String, i32), Vec<(Option<String>, Value, String)>>;

fn all(topics: &Topics, task: &str) -> Said {
    let mut all = Said::new();
    for record in &topics.records {
        let topic = record.topic.strip_prefix(task).expect("a topic of the task").to_owned();
        all.entry((topic, record.partition)).or_default().push(said(record));
    }
    all
}

/// How the names of two prepared transactions end.
const KEPT: &str = "_kept";
const GONE: &str = "_gone";
/// Transactions that are in progress while the task is killed.
const IN_PROGRESS: usize = 5;

/// Transactions side by side, up to where all are in progress; two of them are prepared.
struct Writers {
    one: Sql,
    two: Sql,
    three: Sql,
}

impl Writers {
    fn begin(scene: &Scene) -> Self {
        let [mut one, mut two, mut three] = [(); 3].map(|()| scene.superuser());
        let rows = |from: u32, count: u32| {
            let to = from + count - 1;
            format!("SELECT i, repeat('x', 90) || i FROM generate_series({from}, {to}) i")
        };
        one.run(&format!("BEGIN; INSERT INTO items {}", rows(1, 1500)));
        two.run(&format!("BEGIN; INSERT INTO items {}", rows(10_001, 1500)));
        one.run(&format!("SAVEPOINT a; INSERT INTO items {}; ROLLBACK TO a", rows(20_001, 1500)));
        three.run(&format!("BEGIN; INSERT INTO others {}", rows(1, 1500)));
        // Released into one that is rolled back.
        two.run(&format!(
            "SAVEPOINT a; SAVEPOINT b; INSERT INTO others {}; RELEASE b; \
             UPDATE items SET note = 'gone' WHERE 10000 < id AND id < 11000; ROLLBACK TO a",
            rows(5_001, 1500)
        ));
        // Every second subtransaction is rolled back.
        one.run(
            "DO $$ BEGIN FOR i IN 1..60 LOOP BEGIN \
               INSERT INTO items SELECT 30000 + 10 * i + j, repeat('y', 500) FROM generate_series(1, 8) j; \
               IF i % 2 = 0 THEN RAISE EXCEPTION 'back'; END IF; \
             EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END $$",
        );
        for (from, end) in [(50_001, KEPT), (60_001, GONE)] {
            scene.superuser().run(&format!(
                "BEGIN; INSERT INTO items {}; PREPARE TRANSACTION '{}{end}'",
                rows(from, 1500),
                scene.name
            ));
        }
        scene.superuser().run(&format!("INSERT INTO others {}", rows(9_001, 3)));
        Self { one, two, three }
    }

    /// Goes on after the kill, and ends.
    fn end(mut self, scene: &Scene) {
        // One by one: each is the text of its own record.
        for statement in [
            "SAVEPOINT c",
            "ALTER TABLE shapes ADD COLUMN gone int",
            "INSERT INTO shapes SELECT i, i, i FROM generate_series(1, 1500) i",
            "ROLLBACK TO c",
            "ALTER TABLE shapes ADD COLUMN kept int NOT NULL DEFAULT 7",
            "INSERT INTO shapes SELECT i, 2 * i FROM generate_series(1, 1500) i",
            "SAVEPOINT d",
            "INSERT INTO shapes SELECT i FROM generate_series(1501, 3000) i",
            "ALTER TABLE shapes ALTER size TYPE bigint",
            "UPDATE shapes SET size = 1 WHERE id < 9",
            "UPDATE items SET note = upper(note) WHERE id <= 700",
            "DELETE FROM items WHERE id % 7 = 0 AND id < 1500",
        ] {
            self.one.run(statement);
        }
        self.two.run("INSERT INTO others VALUES (8000, 'two'); COMMIT");
        scene.superuser().run("INSERT INTO others VALUES (9100, 'alone')");
        self.three.run("ROLLBACK");
        self.three.run(&format!("COMMIT PREPARED '{}{KEPT}'", scene.name));
        self.three.run(&format!("ROLLBACK PREPARED '{}{GONE}'", scene.name));
        self.one.run("COMMIT");
        scene.superuser().run(
            "INSERT INTO shapes VALUES (4000, 1, 2); BEGIN; \
             INSERT INTO others SELECT i, repeat('z', 90) FROM generate_series(20001, 21500) i; TRUNCATE shapes; \
             INSERT INTO shapes SELECT i, i, i FROM generate_series(1, 5) i; COMMIT",
        );
    }
}

/// Two tasks on one database, one of which streams and is killed while everything is in progress.
fn records_are_the_same(server: &str, settings: &[&str], wire: &str) {
    let ground = Ground::new(server, settings);
    let scene = &ground.scene;
    let whole_task = format!("{}_whole", scene.name);
    let spec = ground.spec(&scene.name, &["streaming: on", wire]);
    let whole_spec = ground.spec(&whole_task, &[wire]);
    let mut run = scene.run(&spec, &[]);
    scene.await_streaming(&mut run);
    let mut whole = scene.run(&whole_spec, &[]);
    ground.await_streaming(&mut whole, &whole_task);

    let writers = Writers::begin(scene);
    await_true("a spool for each", CATCH_UP_MAX, || spools(&run) == IN_PROGRESS);
    drop(run.kill());
    let run = scene.run(&spec, &[]);
    await_true("a spool for each again", CATCH_UP_MAX, || spools(&run) == IN_PROGRESS);
    writers.end(scene);
    await_true("no spool at the end", CATCH_UP_MAX, || spools(&run) == 0);
    run.interrupt(CATCH_UP_MAX).expect(0);
    let ended = scene.catch_up(&spec);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    whole.interrupt(CATCH_UP_MAX).expect(0);
    scene.run(&whole_spec, &["--until-caught-up"]).wait(CATCH_UP_MAX).expect(0);
    let ours = [format!("{whole_task}."), format!("{STATE_PREFIX}.{whole_task}.")];
    await_settled(&scene.kafka, |it| ours.iter().any(|ours| it.starts_with(ours)));

    // Statements have ordinals, too.
    let report = scene.check(Promises { everything: false, ..Promises::default() });
    assert!(9_500 < report.records, "{} records", report.records);
    let (streamed, whole) = (
        all(&scene.topics(), &scene.name),
        all(&Topics::read(&scene.kafka, &format!("{whole_task}.")), &whole_task),
    );
    assert_eq!(
        streamed.keys().collect::<Vec<_>>(),
        whole.keys().collect::<Vec<_>>(),
        "other topics"
    );
    for (place, records) in &whole {
        let first = streamed[place].iter().zip(records).find(|(one, other)| one != other);
        assert_eq!(first, None, "{place:?}");
        assert_eq!(streamed[place].len(), records.len(), "{place:?}");
    }
    let statements: Vec<_> = streamed
        .iter()
        .filter(|((topic, _), _)| topic == ".ddl")
        .flat_map(|(_, records)| records.iter().map(|it| it.1["ddl"].to_string()))
        .collect();
    let has = |part: &str| statements.iter().any(|it| it.contains(part));
    assert!(has("ADD COLUMN kept") && has("ALTER size TYPE bigint"), "{statements:?}");
    assert!(!has("ADD COLUMN gone"), "of a savepoint that was rolled back: {statements:?}");
}

#[test]
fn records_are_those_of_whole_transactions_on_14() {
    records_are_the_same("postgres-14", &[], "wire: text");
}

#[test]
fn records_are_those_of_whole_transactions_on_18_where_each_change_is_a_piece() {
    let settings = ["debug_logical_replication_streaming = 'immediate'"];
    records_are_the_same("postgres-18", &settings, "wire: binary");
}

#[test]
fn more_than_may_be_spooled_parks_and_loses_nothing() {
    let ground = Ground::new("postgres-15", &[]);
    let scene = &ground.scene;
    let spec = ground.spec(&scene.name, &["streaming: on", "spool_bytes_max: 200KiB"]);
    let mut run = scene.run(&spec, &[]);
    scene.await_streaming(&mut run);
    let mut writer = scene.superuser();
    writer
        .run("BEGIN; INSERT INTO items SELECT i, repeat('x', 90) FROM generate_series(1, 5000) i");
    let ended = run.wait(CATCH_UP_MAX);
    ended.expect(1);
    for word in ["204800 bytes of `source.spool_bytes_max`", "`source.streaming: off`"] {
        assert!(ended.stderr.contains(word), "no `{word}`:\n{}", ended.stderr);
    }
    writer.run("COMMIT");
    // Statements are captured in another way without streaming: one of before is not lost by that.
    scene.superuser().run("ALTER TABLE others ADD COLUMN more int");
    scene.catch_up(&ground.spec(&scene.name, &["streaming: off"]));
    assert_eq!(scene.check(Promises::default()).records, 5000);
    let topics = scene.topics();
    let statements: Vec<_> =
        topics.of(&format!("{}.ddl", scene.name)).map(|it| it.json()["ddl"].to_string()).collect();
    assert_eq!(statements, ["\"ALTER TABLE others ADD COLUMN more int\""]);
}

#[test]
fn a_full_disk_is_tried_again_until_there_is_room() {
    let ground = Ground::new("postgres-15", &[]);
    let scene = &ground.scene;
    let disk = Disk::mount(&scene.folder().join("disk"), 32);
    disk.fill();
    let spec = ground.spec(&scene.name, &["streaming: on"]).write(scene.folder());
    let arguments = [Path::new("run"), &spec];
    let folder = disk.path.to_str().expect("text");
    let mut run = Distributary::start_in(scene.folder(), &arguments, &[("TMPDIR", folder)]);
    scene.await_streaming(&mut run);
    let mut writer = scene.superuser();
    writer
        .run("BEGIN; INSERT INTO items SELECT i, repeat('x', 90) FROM generate_series(1, 5000) i");
    run.await_log(&format!("cannot be spooled below {folder}"), CATCH_UP_MAX);
    disk.free();
    await_true("a spool", CATCH_UP_MAX, || spools(&run) == 1);
    writer.run("COMMIT");
    await_true("no spool at the end", CATCH_UP_MAX, || spools(&run) == 0);
    run.interrupt(CATCH_UP_MAX).expect(0);
    scene.catch_up(&ground.spec(&scene.name, &["streaming: on"]));
    assert_eq!(scene.check(Promises::default()).records, 5000);
}

#[test]
fn servers_that_cannot_stream_are_named_before_the_start() {
    let scene = Scene::new("streaming", "postgres-11");
    scene.sql().run(TABLES);
    let spec = scene.spec().source("streaming: on");
    let ended = scene.run(&spec, &[]).wait(CATCH_UP_MAX);
    ended.expect(3);
    for word in ["source.streaming", "PostgreSQL 14", "set source.streaming: off"] {
        let said = ended.stdout.clone() + &ended.stderr;
        assert!(said.contains(word), "no `{word}`:\n{said}");
    }
}
