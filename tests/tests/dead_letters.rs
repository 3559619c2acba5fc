//! What cannot be written is set aside, once, whatever happens to the process: every change is either in
//! its topic or in the dead-letter topic.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;
use tests::reader::{Record, Topics};
use tests::registry::{self, set_compatibility};
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::seed::{full, say, seed};
use tests::servers::Server;
use tests::sql::Sql;
use tests::task::Spec;
use tests::topics;

const PRECHECK: i32 = 3;
const LANES: u8 = 4;
/// Larger than the data topics take, and than a batch of theirs.
const LARGE: usize = 30_000;
/// PostgreSQL's last timestamp, which microseconds in 64 bits since 1970 do not reach.
const NEVER: &str = "294276-12-31 23:59:59.999999";

/// What a row holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Good,
    Large,
    Never,
}

impl Kind {
    fn any(random: &mut SmallRng) -> Self {
        match random.random_range(0..5) {
            0 => Self::Large,
            1 => Self::Never,
            _ => Self::Good,
        }
    }

    /// `body` and `at` of the row, as SQL.
    fn values(self) -> (String, String) {
        let body = if self == Self::Large { LARGE } else { 20 };
        let at = if self == Self::Never { NEVER } else { "2024-01-01" };
        (format!("repeat('b', {body})"), format!("timestamp '{at}'"))
    }
}

/// A change that was made: operation, id, version. Each happens once.
type Made = (char, i64, i64);

/// A row and everything that was done.
struct Writer {
    sql: Sql,
    random: SmallRng,
    rows: BTreeMap<i64, (i64, Kind)>,
    next: i64,
    /// Why it must be set aside; `None`: it can be written.
    made: BTreeMap<Made, Option<&'static str>>,
}

fn cause(rows: &[Kind]) -> Option<&'static str> {
    if rows.contains(&Kind::Never) {
        return Some("unrepresentable");
    }
    rows.contains(&Kind::Large).then_some("oversize")
}

impl Writer {
    fn new(scene: &Scene, seed: u64) -> Self {
        let mut sql = scene.sql();
        sql.run("CREATE TABLE mixed (id int PRIMARY KEY, version int, body text, at timestamp)");
        let random = SmallRng::seed_from_u64(seed);
        Self { sql, random, rows: BTreeMap::new(), next: 0, made: BTreeMap::new() }
    }

    /// One transaction of a few changes.
    fn write(&mut self) {
        let mut statements = vec!["BEGIN".to_owned()];
        for _ in 0..self.random.random_range(1..6) {
            statements.push(self.change());
        }
        statements.push("COMMIT".into());
        self.sql.run(&statements.join("; "));
    }

    fn change(&mut self) -> String {
        let victim = self.random.random_range(0..=self.next);
        let (id, version, kind) = match self.rows.range(victim..).next() {
            Some((&id, &(version, kind))) if self.random.random_range(0..3) != 0 => {
                (id, version, kind)
            }
            Some(_) | None => return self.insert(),
        };
        if self.random.random_range(0..4) == 0 {
            self.rows.remove(&id);
            self.made.insert(('d', id, version), cause(&[kind]));
            return format!("DELETE FROM mixed WHERE id = {id}");
        }
        let (new, version) = (Kind::any(&mut self.random), version + 1);
        self.rows.insert(id, (version, new));
        self.made.insert(('u', id, version), cause(&[kind, new]));
        let (body, at) = new.values();
        format!("UPDATE mixed SET version = {version}, body = {body}, at = {at} WHERE id = {id}")
    }

    fn insert(&mut self) -> String {
        let (id, kind) = (self.next, Kind::any(&mut self.random));
        self.next += 1;
        self.rows.insert(id, (0, kind));
        self.made.insert(('c', id, 0), cause(&[kind]));
        let (body, at) = kind.values();
        format!("INSERT INTO mixed VALUES ({id}, 0, {body}, {at})")
    }
}

fn spec(scene: &Scene) -> Spec {
    scene
        .spec()
        .sink("topic_config: {max.message.bytes: \"20000\"}")
        .sink("properties: {batch.size: \"15000\"}")
        .sink("oversize: dead-letter")
        .sink("unrepresentable: dead-letter")
        .line(&format!("lanes: {LANES}"))
}

fn letters_topic(scene: &Scene) -> String {
    format!("{}.dead-letter", scene.name)
}

fn number(value: &Value) -> i64 {
    // Dead letters hold PostgreSQL's texts.
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_else(|| panic!("{value}"))
}

/// What a record tells of; `None`: a tombstone.
fn told(record: &Record) -> Option<Made> {
    let event = record.json();
    let operation = event.get("op").or_else(|| event.get("operation"))?.as_str()?;
    let operation = match operation {
        "r" | "c" | "read" | "insert" => 'c',
        "u" | "update" => 'u',
        "d" | "delete" => 'd',
        other => panic!("{other}"),
    };
    let row = &event[if operation == 'd' { "before" } else { "after" }];
    Some((operation, number(&row["id"]), number(&row["version"])))
}

/// Compares what was made with what is there.
fn check(scene: &Scene, made: &BTreeMap<Made, Option<&'static str>>) -> (usize, usize) {
    let topics = scene.topics();
    let letters = letters_topic(scene);
    let (mut found, mut ids) = (BTreeMap::new(), BTreeMap::new());
    let mut tombstones = 0;
    for record in &topics.records {
        let header = |name| record.header(name);
        let id = (header("distributary.lsn"), header("distributary.seq"));
        // Rows of the snapshot have no number.
        if id.1.is_some() && ids.insert(id.clone(), ()).is_some() {
            panic!("{id:?} is there twice");
        }
        let Some(told) = told(record) else {
            tombstones += 1;
            continue;
        };
        let cause = header("distributary.dead-letter");
        assert_eq!(cause.is_some(), record.topic == letters, "{told:?}");
        assert!(found.insert(told, cause).is_none(), "{told:?} is there twice");
    }
    let expected = made.iter().map(|(&made, cause)| (made, cause.map(str::to_owned))).collect();
    assert_same(&expected, &found);
    let deleted = made.iter().filter(|((op, ..), cause)| *op == 'd' && cause.is_none()).count();
    assert_eq!(tombstones, deleted, "each deletion in its topic has a tombstone, no other has");
    let set_aside = made.values().flatten().count();
    (made.len(), set_aside)
}

type Found = BTreeMap<Made, Option<String>>;

#[track_caller]
fn assert_same(expected: &Found, found: &Found) {
    let missing: Vec<_> = expected.iter().filter(|(made, _)| !found.contains_key(*made)).collect();
    let alien: Vec<_> = found.iter().filter(|(made, _)| !expected.contains_key(*made)).collect();
    assert!(missing.is_empty() && alien.is_empty(), "missing: {missing:?}, alien: {alien:?}");
    assert_eq!(expected, found);
}

#[test]
fn every_change_is_in_its_topic_or_set_aside_once_through_kills() {
    let scene = Scene::new("letters", "postgres-15");
    let seed = seed("dead_letters", 11);
    let mut writer = Writer::new(&scene, seed);
    (0..20).for_each(|_| writer.write());
    // What the snapshot shows is all that is told of what was before it.
    let rows = writer.rows.iter();
    writer.made =
        rows.map(|(&id, &(version, kind))| (('c', id, version), cause(&[kind]))).collect();
    let spec = spec(&scene);
    for round in 0..if full() { 25 } else { 5 } {
        let mut run = scene.run(&spec, &[]);
        scene.await_streaming(&mut run);
        for _ in 0..writer.random.random_range(5..25) {
            writer.write();
        }
        // Anywhere between reading and committing.
        sleep(Duration::from_millis(writer.random.random_range(0..400)));
        let ended = run.kill();
        say(&format!("round {round}: {} changes, {}", writer.made.len(), ended.stderr.len()));
    }
    let ended = scene.catch_up(&spec);
    let (changes, set_aside) = check(&scene, &writer.made);
    say(&format!("{changes} changes, {set_aside} of them set aside"));
    assert!(20 < set_aside && set_aside < changes, "{set_aside} of {changes}");
    let partitions = topics::list(&scene.kafka, |topic| topic == letters_topic(&scene));
    assert_eq!(partitions[&letters_topic(&scene)], i32::from(LANES));
    // What happens next is told, and how much of it.
    writer.made.clear();
    let kind = Kind::Large.values();
    writer.sql.run(&format!("INSERT INTO mixed VALUES (-1, 0, {}, {})", kind.0, kind.1));
    let told = scene.catch_up(&spec);
    assert!(!ended.stdout.contains("-1"), "{}", ended.stdout);
    assert!(told.stdout.contains("1 change is set aside"), "{}", told.stdout);
    let line = told.stderr.lines().find(|line| line.contains("set aside in the dead-letter topic"));
    let line = line.unwrap_or_else(|| panic!("{}", told.stderr));
    assert!(line.contains("oversize") && line.contains("mixed"), "{line}");
    assert!(!told.stderr.contains("bbbb"), "a value is in the log:\n{}", told.stderr);
}

#[test]
fn without_a_policy_the_task_parks_and_names_it() {
    let scene = Scene::new("parks", "postgres-15");
    let mut sql = scene.sql();
    sql.run("CREATE TABLE one (id int PRIMARY KEY, at timestamp)");
    sql.run(&format!("INSERT INTO one VALUES (1, '{NEVER}')"));
    let ended = scene.run(&scene.spec(), &["--until-caught-up"]).wait(CATCH_UP_MAX);
    ended.expect(1);
    for word in ["column `at`", "sink.unrepresentable", "dead-letter"] {
        assert!(ended.stderr.contains(word), "`{word}` is not said:\n{}", ended.stderr);
    }
    // The same task goes on once the spec says how: before the stream, and in it.
    scene.catch_up(&scene.spec().sink("unrepresentable: dead-letter"));
    let letters = Topics::read(&scene.kafka, &letters_topic(&scene));
    let letter = letters.records[0].json();
    assert_eq!(
        (&letter["cause"], &letter["after"]["at"]),
        (&"unrepresentable".into(), &NEVER.into())
    );
    assert_eq!(letters.records[0].key_json(), serde_json::json!({"id": 1}));
}

#[test]
fn a_row_that_cannot_be_transformed_parks_or_is_set_aside() {
    let scene = Scene::new("untransformed", "postgres-15");
    let mut sql = scene.sql();
    sql.run(
        "CREATE TABLE one (id int PRIMARY KEY, part int); INSERT INTO one VALUES (1, 0), (2, 5)",
    );
    let spec =
        scene.spec().objects(&["{table: public.one, transform: \"{'part': 10 / row.part}\"}"]);
    let ended = scene.run(&spec, &["--until-caught-up"]).wait(CATCH_UP_MAX);
    ended.expect(1);
    for word in ["public.one", "`transform`", "division by zero", "dead-letter"] {
        assert!(ended.stderr.contains(word), "`{word}` is not said:\n{}", ended.stderr);
    }
    let spec = spec.sink("unrepresentable: dead-letter");
    scene.catch_up(&spec);
    sql.run("INSERT INTO one VALUES (3, 0), (4, 2)");
    scene.catch_up(&spec);
    let told: BTreeMap<_, _> = scene
        .topics()
        .records
        .iter()
        .filter_map(|record| {
            let after = &record.json()["after"];
            let cause = record.header("distributary.dead-letter");
            // The snapshot that parked was begun again, which a truncate says.
            let is_row = !after.is_null();
            is_row.then(|| (number(&after["id"]), (number(&after["part"]), cause)))
        })
        .collect();
    let transform = || Some("transform".to_owned());
    let expected = [(1, (0, transform())), (2, (2, None)), (3, (0, transform())), (4, (5, None))];
    assert_eq!(told, BTreeMap::from(expected));
}

#[test]
fn a_parked_stream_goes_on_once_the_spec_says_how() {
    let scene = Scene::new("freed", "postgres-15");
    let mut sql = scene.sql();
    sql.run("CREATE TABLE one (id int PRIMARY KEY, at timestamp, body text)");
    let plain =
        || scene.spec().sink("properties: {message.max.bytes: \"20000\", batch.size: \"15000\"}");
    scene.catch_up(&plain());
    sql.run(&format!("INSERT INTO one VALUES (1, '{NEVER}'), (2, '2024-01-01')"));
    sql.run("INSERT INTO one VALUES (3, '2024-01-01', repeat('b', 30000))");
    let parked = |spec: &Spec, word: &str| {
        let ended = scene.run(spec, &["--until-caught-up"]).wait(CATCH_UP_MAX);
        ended.expect(1);
        assert!(ended.stderr.contains(word), "`{word}` is not said:\n{}", ended.stderr);
    };
    parked(&plain(), "task parked");
    parked(&plain().sink("unrepresentable: dead-letter"), "set `sink.oversize`");
    let spec = plain().sink("unrepresentable: dead-letter").sink("oversize: dead-letter");
    scene.catch_up(&spec);
    let told: BTreeMap<_, _> = scene
        .topics()
        .records
        .iter()
        .filter(|record| record.header("distributary.chunk").is_none())
        .map(|record| {
            (number(&record.json()["after"]["id"]), record.header("distributary.dead-letter"))
        })
        .collect();
    // The dead letter of the large row is itself in parts.
    assert_eq!(told, BTreeMap::from([(1, Some("unrepresentable".into())), (2, None)]));
    let letters = Topics::read(&scene.kafka, &letters_topic(&scene));
    let parts = letters.records.iter().filter_map(|it| it.header("distributary.chunk"));
    let mut parts: Vec<_> = parts.collect();
    parts.sort();
    assert_eq!(parts, ["1/2", "2/2"]);
}

#[test]
fn rows_of_a_refused_schema_are_set_aside_and_the_next_version_is_written() {
    let (scene, registry) = (Scene::new("schemas", "postgres-15"), Server::start("registry"));
    let mut sql = scene.sql();
    sql.run("CREATE TABLE one (id int PRIMARY KEY, raw int); INSERT INTO one VALUES (1, 1)");
    let (url, subject) = (registry::url(&registry), format!("{}.public.one-value", scene.name));
    let spec = scene
        .spec()
        .sink("format: debezium-avro")
        .sink(&format!("registry: {{url: \"{url}\", on_incompatible: dead-letter}}"));
    scene.catch_up(&spec);
    set_compatibility(&registry, &subject, "BACKWARD");
    let mut run = scene.run(&spec, &[]);
    scene.await_streaming(&mut run);
    sql.run("ALTER TABLE one ALTER COLUMN raw TYPE text USING 'seven'");
    sql.run("INSERT INTO one VALUES (2, '8'); INSERT INTO one VALUES (3, '9')");
    run.await_log("set aside in the dead-letter topic", CATCH_UP_MAX);
    run.kill();
    sql.run("ALTER TABLE one ALTER COLUMN raw TYPE int USING 5; INSERT INTO one VALUES (4, 10)");
    scene.catch_up(&spec);
    let letters = Topics::read(&scene.kafka, &letters_topic(&scene));
    let cause = |record: &Record| record.header("distributary.dead-letter");
    let mut ids: Vec<_> = letters
        .records
        .iter()
        .map(|it| (number(&it.json()["after"]["id"]), cause(it).expect("a cause")))
        .collect();
    ids.sort();
    assert_eq!(ids, [(2, "schema-refused".to_owned()), (3, "schema-refused".to_owned())]);
    let written = Topics::read(&scene.kafka, &format!("{}.public.one", scene.name));
    assert_eq!(written.records.len(), 2, "rows 1 and 4");
}

#[test]
fn the_topic_is_looked_at_and_made_to_fit() {
    let scene = Scene::new("place", "postgres-15");
    scene.sql().run("CREATE TABLE one (id int PRIMARY KEY)");
    let topic = letters_topic(&scene);
    topics::create(&scene.kafka, &topic, 1);
    topics::create(&scene.kafka, &format!("{}.public.one", scene.name), 2);
    let fixed = spec(&scene).line("sync: {schema: false}");
    let ended = scene.run(&fixed, &["--until-caught-up"]).wait(CATCH_UP_MAX);
    ended.expect(PRECHECK);
    for word in ["sink.dead-letter-topic", &topic, "4 partitions"] {
        assert!(ended.stderr.contains(word), "`{word}` is not said:\n{}", ended.stderr);
    }
    let shared = spec(&scene).sink("dead_letter_topic: \"{task}.public.one\"");
    let ended = scene.run(&shared, &["--until-caught-up"]).wait(CATCH_UP_MAX);
    ended.expect(PRECHECK);
    assert!(ended.stderr.contains("is the topic of a table, too"), "{}", ended.stderr);
    scene.catch_up(&spec(&scene));
    assert_eq!(topics::list(&scene.kafka, |name| name == topic)[&topic], i32::from(LANES));
}
