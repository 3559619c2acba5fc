//! DDL statements from a real server to the DDL topic (product.md, P24 to P26): each once, in the user's own
//! words, in its place between the rows, whatever wraps it; and nothing left behind by a release.

use serde_json::{Value, json};
use tests::deadline::await_true;
use tests::reader::Record;
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::seed::{each, full};
use tests::sql::{PASSWORD, Sql, quoted};
use tests::task::Spec;

/// Those that send messages.
const WITH_MESSAGES: &[&str] = &["postgres-14", "postgres-15", "postgres-18"];
const ALL: &[&str] = &["postgres-11", "postgres-14", "postgres-15", "postgres-18"];

const FIRST: &str = "CREATE TABLE orders (id bigint PRIMARY KEY, note text)";

/// A task with the rights that event triggers need, over a table that has one row.
struct Ground {
    scene: Scene,
    role: String,
    spec: Spec,
}

impl Ground {
    fn new(server: &str, format: &str) -> Self {
        Self::with(server, format, |spec| spec)
    }

    fn with(server: &str, format: &str, also: impl Fn(Spec) -> Spec) -> Self {
        let scene = Scene::new("ddl", server);
        let role = format!("{}_admin", scene.name);
        scene.superuser().run(&format!(
            "CREATE ROLE {} SUPERUSER REPLICATION LOGIN PASSWORD '{PASSWORD}'; {FIRST}; \
             CREATE TABLE kept (id int PRIMARY KEY); INSERT INTO orders VALUES (0, 'before')",
            quoted(&role)
        ));
        let spec = scene
            .spec()
            .user(&role, Some(PASSWORD))
            .sink(&format!("format: {format}"))
            .sink("conflicting_topics: ignore");
        let spec = also(spec);
        scene.catch_up(&spec);
        Self { scene, role, spec }
    }

    fn topic(&self) -> String {
        format!("{}.ddl", self.scene.name)
    }

    /// What is in the DDL topic now.
    fn found(&self) -> Vec<Record> {
        self.scene.topics().of(&self.topic()).cloned().collect()
    }

    /// What a task that catches up adds to the DDL topic.
    fn carried(&self) -> Vec<Record> {
        let before = self.found().len();
        self.scene.catch_up(&self.spec);
        self.found().split_off(before)
    }

    /// Begins and releases; nothing of the task is left on the server then.
    fn release(&self) {
        let run = self.scene.run(&self.spec, &["--until-caught-up", "--release"]);
        run.wait(CATCH_UP_MAX).expect(0);
        assert_eq!(self.helpers(), "0");
        assert_eq!(self.scene.slots(), [""; 0]);
    }

    fn helpers(&self) -> String {
        self.scene.superuser().value(&format!(
            "SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = '{slot}') \
             + (SELECT count(*) FROM pg_event_trigger) + (SELECT count(*) FROM pg_publication)",
            slot = self.scene.slot()
        ))
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // What it owns goes with the database; it itself is left where that fails.
        let role = quoted(&self.role);
        let mut sql = self.scene.superuser();
        drop(sql.attempt(&format!("REASSIGN OWNED BY {role} TO postgres; DROP ROLE {role}")));
    }
}

/// Each way in which what is selected is named otherwise afterwards.
const AWAY: [&str; 5] = [
    "ALTER TABLE orders RENAME TO bills",
    "ALTER TABLE a.moved SET SCHEMA b",
    "ALTER SCHEMA c RENAME TO d",
    "ALTER TABLE leaf RENAME TO blade",
    "DO $$ BEGIN ALTER TABLE within RENAME TO without; END $$",
];

/// Who selects only the old name learns where it went.
fn renamed_away(server: &str) {
    let ground = Ground::with(server, "debezium-json", |spec| {
        spec.objects(&[
            "{table: public.orders}",
            "{table: a.moved}",
            "{table: c.one}",
            "{table: public.tree}",
            "{table: public.within}",
        ])
    });
    let mut sql = ground.scene.superuser();
    sql.run(
        "CREATE SCHEMA a; CREATE SCHEMA b; CREATE SCHEMA c; CREATE TABLE a.moved (x int); CREATE TABLE c.one (x int); \
         CREATE TABLE within (x int); CREATE TABLE aside (x int); CREATE TABLE tree (x int) PARTITION BY RANGE (x); \
         CREATE TABLE leaf PARTITION OF tree FOR VALUES FROM (0) TO (10)",
    );
    ground.carried();
    for statement in AWAY {
        sql.run(statement);
    }
    // Of others nothing is told, nor of what came back to nothing.
    sql.run(
        "ALTER TABLE aside RENAME TO beside; BEGIN; ALTER TABLE b.moved RENAME TO stays; ROLLBACK",
    );
    sql.run("ALTER TABLE bills ADD COLUMN unseen int");
    let told = texts(&ground.carried());
    let last = AWAY[4].trim_start_matches("DO $$ BEGIN ").trim_end_matches("; END $$");
    assert_eq!(told[..4], AWAY[..4]);
    assert_eq!(told[4..], [last]);
}

#[test]
fn who_selects_the_old_name_learns_where_it_went() {
    each(&["postgres-15", "postgres-11"], ALL).iter().for_each(|it| renamed_away(it));
}

/// A schema of the user's that is named like ours, and a drop of more than one record names.
#[test]
fn nothing_of_the_user_is_left_out_in_silence() {
    let ground = Ground::new("postgres-15", "debezium-json");
    let mut sql = ground.scene.superuser();
    let own = [
        "CREATE SCHEMA distributary_own",
        "CREATE TABLE distributary_own.t (x int)",
        "ALTER TABLE distributary_own.t ADD y int",
        "DROP SCHEMA distributary_own CASCADE",
    ];
    own.iter().for_each(|statement| sql.run(statement));
    sql.run(
        "SET distributary.ddl_capture = off; CREATE SCHEMA large; DO $$ BEGIN FOR n IN 1..1200 LOOP EXECUTE format(\
         'CREATE FUNCTION large.f%s() RETURNS int LANGUAGE sql AS $f$ SELECT 1 $f$', n); END LOOP; END $$; \
         CREATE TABLE large.t (x int); RESET distributary.ddl_capture; DROP SCHEMA large CASCADE",
    );
    let records = ground.carried();
    let (last, first) = records.split_last().expect("records");
    assert_eq!(texts(first), own);
    assert_eq!(text(last), "DROP SCHEMA large CASCADE");
    let statement = &last.json()["statement"];
    assert_eq!(statement["gap"], "only 1000 of 1202 objects are named");
    let dropped = statement["dropped"].as_array().expect("a list");
    assert_eq!(dropped.len(), 1000);
    assert!(dropped.iter().any(|it| it["identity"] == "large.t"), "tables come first");
}

/// Event triggers that somebody takes away while the task runs, or while it does not: they come back, and a record says that
/// statements may be missing.
fn taken_away(server: &str) {
    let ground = Ground::new(server, "debezium-json");
    let mut run = ground.scene.run(&ground.spec, &[]);
    ground.scene.await_streaming(&mut run);
    let (mut sql, slot) = (ground.scene.superuser(), ground.scene.slot());
    let trigger = quoted(&format!("{slot}_ddl"));
    let ways = [
        (format!("ALTER EVENT TRIGGER {trigger} DISABLE"), "does not fire always any more"),
        (format!("DROP EVENT TRIGGER {trigger}"), "is gone"),
    ];
    let gaps = || -> Vec<String> {
        let gap = |it: &Record| it.json()["statement"]["gap"].as_str().map(str::to_owned);
        ground.found().iter().filter_map(gap).collect()
    };
    for (number, (way, word)) in ways.iter().enumerate() {
        sql.run(&format!("{way}; CREATE TABLE unseen_{number} (x int)"));
        await_true("the gap", CATCH_UP_MAX, || {
            assert!(!run.has_ended(), "ended:\n{}", run.log());
            gaps().len() == number + 1
        });
        let gap = gaps().pop().expect("a gap");
        assert!(gap.contains(word) && gap.contains(&slot), "{gap}");
        sql.run(&format!("CREATE TABLE seen_{number} (x int)"));
        await_true("the next statement", CATCH_UP_MAX, || {
            texts(&ground.found()).contains(&format!("CREATE TABLE seen_{number} (x int)"))
        });
    }
    run.interrupt(CATCH_UP_MAX).expect(0);
    sql.run(&format!("DROP SCHEMA {} CASCADE; CREATE TABLE unseen_2 (x int)", quoted(&slot)));
    let log = ground.scene.catch_up(&ground.spec).stderr;
    assert!(log.contains("DDL may be missing"), "{log}");
    assert!(gaps().pop().expect("a gap").contains("helper objects is gone"), "{:?}", gaps());
    sql.run("CREATE TABLE seen_2 (x int)");
    assert_eq!(texts(&ground.carried()), ["CREATE TABLE seen_2 (x int)"]);
    assert_eq!(gaps().len(), 3, "each once");
}

#[test]
fn event_triggers_that_are_taken_away_come_back_and_leave_a_gap() {
    each(&["postgres-15", "postgres-11"], ALL).iter().for_each(|it| taken_away(it));
}

fn text(record: &Record) -> String {
    record.json()["ddl"].as_str().expect("a statement").to_owned()
}

fn texts(records: &[Record]) -> Vec<String> {
    records.iter().map(text).collect()
}

/// What a user runs, and the statements that must come of it.
type Case = (&'static str, &'static [&'static str]);

/// Row P24, one by one.
const PLAIN: &[Case] = &[
    (
        "CREATE TABLE t (id bigserial PRIMARY KEY, note varchar(20) DEFAULT ';')",
        &["CREATE TABLE t (id bigserial PRIMARY KEY, note varchar(20) DEFAULT ';')"],
    ),
    (
        "ALTER TABLE t ADD COLUMN total numeric(10,2) NOT NULL DEFAULT 0",
        &["ALTER TABLE t ADD COLUMN total numeric(10,2) NOT NULL DEFAULT 0"],
    ),
    ("ALTER TABLE t RENAME COLUMN note TO remark", &["ALTER TABLE t RENAME COLUMN note TO remark"]),
    ("ALTER TABLE t DROP COLUMN remark", &["ALTER TABLE t DROP COLUMN remark"]),
    ("ALTER TABLE t RENAME TO renamed", &["ALTER TABLE t RENAME TO renamed"]),
    ("CREATE TABLE copied AS SELECT 1 AS a", &["CREATE TABLE copied AS SELECT 1 AS a"]),
    ("SELECT 1 AS a INTO selected", &["SELECT 1 AS a INTO selected"]),
    ("CREATE INDEX i ON renamed (total)", &["CREATE INDEX i ON renamed (total)"]),
    ("DROP INDEX i", &["DROP INDEX i"]),
    (
        "CREATE INDEX CONCURRENTLY c ON renamed (total)",
        &["CREATE INDEX CONCURRENTLY c ON renamed (total)"],
    ),
    ("DROP TABLE renamed", &["DROP TABLE renamed"]),
    ("DROP TABLE copied, selected", &["DROP TABLE copied, selected"]),
    ("CREATE VIEW v AS SELECT id FROM orders", &["CREATE VIEW v AS SELECT id FROM orders"]),
    ("ALTER VIEW v RENAME TO w", &["ALTER VIEW v RENAME TO w"]),
    ("DROP VIEW w", &["DROP VIEW w"]),
    (
        "CREATE MATERIALIZED VIEW m AS SELECT 1 AS a",
        &["CREATE MATERIALIZED VIEW m AS SELECT 1 AS a"],
    ),
    ("DROP MATERIALIZED VIEW m", &["DROP MATERIALIZED VIEW m"]),
    (
        "CREATE PROCEDURE p() LANGUAGE sql AS 'SELECT 1; SELECT 2'",
        &["CREATE PROCEDURE p() LANGUAGE sql AS 'SELECT 1; SELECT 2'"],
    ),
    ("ALTER PROCEDURE p() SECURITY DEFINER", &["ALTER PROCEDURE p() SECURITY DEFINER"]),
    ("DROP PROCEDURE p()", &["DROP PROCEDURE p()"]),
    (
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1; $$",
        &["CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1; $$"],
    ),
    ("DROP FUNCTION f()", &["DROP FUNCTION f()"]),
    ("CREATE TYPE mood AS ENUM ('sad', 'glad')", &["CREATE TYPE mood AS ENUM ('sad', 'glad')"]),
    ("ALTER TYPE mood ADD VALUE 'mad'", &["ALTER TYPE mood ADD VALUE 'mad'"]),
    ("DROP TYPE mood", &["DROP TYPE mood"]),
    ("CREATE SCHEMA s", &["CREATE SCHEMA s"]),
    ("CREATE TABLE s.t ()", &["CREATE TABLE s.t ()"]),
    ("DROP SCHEMA s CASCADE", &["DROP SCHEMA s CASCADE"]),
];

/// Row P25, one by one, and what must give nothing.
const WRAPPED: &[Case] = &[
    (
        "CREATE TABLE a (x int); CREATE VIEW on_a AS SELECT x FROM a; INSERT INTO a VALUES (1); \
      /* ; */ CREATE TABLE \"B;\" (x int);",
        &[
            "CREATE TABLE a (x int)",
            "CREATE VIEW on_a AS SELECT x FROM a",
            "CREATE TABLE \"B;\" (x int)",
        ],
    ),
    ("CREATE TABLE IF NOT EXISTS a (x int)", &[]),
    (
        "CREATE TABLE IF NOT EXISTS a (x int); CREATE TABLE IF NOT EXISTS d (x int)",
        &["CREATE TABLE IF NOT EXISTS d (x int)"],
    ),
    ("DROP TABLE IF EXISTS nothing", &[]),
    ("DROP TABLE a CASCADE", &["DROP TABLE a CASCADE"]),
    ("DROP TABLE d RESTRICT", &["DROP TABLE d RESTRICT"]),
    (
        "SET session_replication_role = replica; CREATE TABLE r (x int); RESET session_replication_role",
        &["CREATE TABLE r (x int)"],
    ),
    (
        "CREATE SCHEMA other; SET search_path TO other; CREATE TABLE unqualified (x int); RESET search_path",
        &["CREATE SCHEMA other", "CREATE TABLE unqualified (x int)"],
    ),
    (
        "DO $$ BEGIN EXECUTE 'CREATE TABLE dynamic (x int)'; DROP TABLE dynamic; END $$",
        &["CREATE TABLE dynamic (x int)", "DROP TABLE dynamic"],
    ),
    ("BEGIN; CREATE TABLE gone (x int); ROLLBACK", &[]),
    (
        "BEGIN; SAVEPOINT s; CREATE TABLE gone (x int); ROLLBACK TO s; CREATE TABLE stays (x int); COMMIT",
        &["CREATE TABLE stays (x int)"],
    ),
    ("CREATE TEMPORARY TABLE passing (x int); DROP TABLE passing", &[]),
    (
        "SET distributary.ddl_capture = off; CREATE TABLE quiet (x int); RESET distributary.ddl_capture",
        &[],
    ),
    ("COMMENT ON TABLE orders IS 'none of P24'; GRANT SELECT ON orders TO PUBLIC", &[]),
];

fn every_statement(server: &str) {
    let ground = Ground::new(server, "debezium-json");
    // Not as the task's role: the definer's rights count.
    let mut sql = ground.scene.superuser();
    for (run, _) in PLAIN.iter().chain(WRAPPED) {
        sql.run(run);
    }
    let records = ground.carried();
    let expected: Vec<_> =
        PLAIN.iter().chain(WRAPPED).flat_map(|(_, texts)| texts.iter().copied()).collect();
    assert_eq!(texts(&records), expected);
    let reconstructed = |it: &&Record| it.json()["statement"]["reconstructed"] != json!(false);
    assert_eq!(records.iter().filter(reconstructed).count(), 0);
    let of = |text: &str| {
        let found = records.iter().find(|it| it.json()["ddl"] == text);
        found.unwrap_or_else(|| panic!("no `{text}`")).json()
    };
    let made = of(PLAIN[0].0);
    assert_eq!(made["source"]["table"], "t");
    assert_eq!(made["schemaName"], "public");
    assert_eq!(made["databaseName"], ground.scene.name.as_str());
    let change = &made["tableChanges"][0];
    assert_eq!((&change["type"], &change["id"]), (&json!("CREATE"), &json!("\"public\".\"t\"")));
    assert_eq!(change["table"]["primaryKeyColumnNames"], json!(["id"]));
    let note = &change["table"]["columns"][1];
    assert_eq!(
        (&note["typeExpression"], &note["length"], &note["optional"]),
        (&json!("character varying(20)"), &json!(20), &json!(true))
    );
    let altered = &of(PLAIN[1].0)["tableChanges"][0]["table"]["columns"][2];
    assert_eq!((&altered["name"], &altered["scale"]), (&json!("total"), &json!(2)));
    assert_eq!(of("CREATE TABLE unqualified (x int)")["schemaName"], "other");
    let dropped = of("DROP TABLE a CASCADE")["statement"]["dropped"].clone();
    let names = |it: &Value| (it["identity"].clone(), it["cascaded"].clone());
    let dropped: Vec<_> = dropped.as_array().expect("a list").iter().map(names).collect();
    assert!(dropped.contains(&(json!("public.a"), json!(false))), "{dropped:?}");
    assert!(dropped.contains(&(json!("public.on_a"), json!(true))), "{dropped:?}");
    assert_eq!(of("DROP SCHEMA s CASCADE")["tableChanges"][0]["id"], "\"s\".\"t\"");
}

#[test]
fn every_statement_on_11() {
    every_statement("postgres-11");
}

#[test]
fn every_statement_on_14() {
    every_statement("postgres-14");
}

#[test]
fn every_statement_on_15() {
    every_statement("postgres-15");
}

#[test]
fn every_statement_on_18() {
    every_statement("postgres-18");
}

/// `compat.dts_ddl`: row P25, one by one, as DTS does it.
const AS_DTS: &[Case] = &[
    ("CREATE TABLE t (id int PRIMARY KEY)", &["CREATE TABLE t (id int PRIMARY KEY)"]),
    ("CREATE VIEW v AS SELECT id FROM t", &["CREATE VIEW v AS SELECT id FROM t"]),
    ("CREATE MATERIALIZED VIEW m AS SELECT 1 AS a", &[]),
    ("CREATE TYPE mood AS ENUM ('sad')", &[]),
    ("CREATE TABLE IF NOT EXISTS u (id int)", &[]),
    ("DROP TABLE t CASCADE", &["DROP TABLE t"]),
    ("BEGIN; INSERT INTO orders VALUES (1, 'a'); ALTER TABLE orders ADD b int; COMMIT", &[]),
    ("BEGIN; ALTER TABLE orders ADD c int; INSERT INTO orders (id) VALUES (2); COMMIT", &[]),
    (
        "BEGIN; ALTER TABLE orders ADD d int; CREATE TABLE n (x int); COMMIT",
        &["ALTER TABLE orders ADD d int", "CREATE TABLE n (x int)"],
    ),
    ("BEGIN; CREATE TABLE beside (x int); CREATE TABLE hidden (x int); COMMIT", &[]),
    ("DO $$ BEGIN CREATE TABLE by_code (x int); END $$", &[]),
    (
        "SET session_replication_role = replica; CREATE TABLE r (x int); RESET session_replication_role",
        &[],
    ),
    ("CREATE SCHEMA other", &[]),
    ("SET search_path TO other; CREATE TABLE unqualified (x int); RESET search_path", &[]),
    ("CREATE TABLE other.named (x int)", &["CREATE TABLE other.named (x int)"]),
];

#[test]
fn what_dts_leaves_out_is_left_out_where_that_is_asked_for() {
    let ground = Ground::with("postgres-15", "debezium-json", |spec| {
        spec.line("compat: {dts_ddl: true}")
            .objects(&["{table: public.hidden, exclude: true}", "{table: '*.*'}"])
    });
    let mut sql = ground.scene.superuser();
    for (run, _) in AS_DTS {
        sql.run(run);
    }
    let expected: Vec<_> = AS_DTS.iter().flat_map(|(_, texts)| texts.iter().copied()).collect();
    assert_eq!(texts(&ground.carried()), expected);
    let topics = ground.scene.topics();
    let topic = format!("{}.public.orders", ground.scene.name);
    assert_eq!(topics.of(&topic).filter(|it| it.json()["op"] == "c").count(), 2, "rows stay");
}

/// Statements of functions, of which the client's string says nothing.
#[test]
fn statements_of_functions() {
    each(&["postgres-15"], ALL).iter().for_each(|it| of_functions(it));
}

fn of_functions(server: &str) {
    let ground = Ground::new(server, "debezium-json");
    let mut sql = ground.scene.superuser();
    sql.run(
        "CREATE FUNCTION plain() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CREATE TABLE one (x int); \
           PERFORM inner_one(); END $$; \
         CREATE FUNCTION inner_one() RETURNS void LANGUAGE plpgsql AS $$ BEGIN \
           EXECUTE format('ALTER TABLE %I ADD y int', 'one'); END $$; \
         CREATE FUNCTION in_sql() RETURNS void LANGUAGE sql AS \
           $$ CREATE TABLE two (x int); SELECT 1; DROP TABLE two $$; \
         CREATE FUNCTION doubled() RETURNS void LANGUAGE sql AS $$ CREATE TABLE three (x int NOT NULL) $$; \
         CREATE FUNCTION doubled(int) RETURNS void LANGUAGE sql AS $$ SELECT $$",
    );
    ground.carried();
    sql.run("SELECT plain(); SELECT in_sql(); SELECT doubled()");
    let records = ground.carried();
    let found: Vec<_> = records
        .iter()
        .map(|it| (text(it), it.json()["statement"]["reconstructed"] == json!(true)))
        .collect();
    let expected = [
        ("CREATE TABLE one (x int)", false),
        ("ALTER TABLE \"one\" ADD y int", false),
        ("CREATE TABLE two (x int)", false),
        ("DROP TABLE two", false),
        // Two functions of one name: which of them it was cannot be told.
        ("CREATE TABLE public.three (x integer NOT NULL)", true),
    ];
    let expected: Vec<_> = expected.iter().map(|(text, it)| ((*text).to_owned(), *it)).collect();
    let unquoted: Vec<_> = found
        .into_iter()
        .map(|(text, it)| (text.replace("TABLE one ADD", "TABLE \"one\" ADD"), it))
        .collect();
    assert_eq!(unquoted, expected);
}

/// LSN of the commit and number in the transaction, as the headers say.
fn place(record: &Record) -> (String, u64) {
    let header = |name| record.header(name).expect("a header");
    let seq = header("distributary.seq");
    let seq = seq.split('.').next().and_then(|it| it.parse().ok()).expect("a number");
    (header("distributary.lsn"), seq)
}

/// Between the rows of its transaction, and each row with the columns of its moment.
fn in_order(server: &str) {
    let ground = Ground::new(server, "debezium-json");
    ground.scene.superuser().run(
        "BEGIN; INSERT INTO orders VALUES (1, 'a'); ALTER TABLE orders ADD COLUMN b int; \
         INSERT INTO orders VALUES (2, 'b', 2); ALTER TABLE orders DROP COLUMN note; \
         INSERT INTO orders VALUES (3, 3); TRUNCATE orders; INSERT INTO orders VALUES (4, 4); COMMIT",
    );
    ground.scene.catch_up(&ground.spec);
    let topics = ground.scene.topics();
    let mut records: Vec<_> =
        topics.records.iter().filter(|it| it.header("distributary.seq").is_some()).collect();
    records.sort_by_key(|it| place(it).1);
    let lsns: std::collections::BTreeSet<_> = records.iter().map(|it| place(it).0).collect();
    assert_eq!(lsns.len(), 1, "one transaction");
    let mut said: Vec<_> = records
        .iter()
        .map(|it| match it.json() {
            row if row["op"] == "t" => json!("TRUNCATE"),
            row if row["ddl"].is_null() => row["after"].clone(),
            statement => statement["ddl"].clone(),
        })
        .collect();
    // It is in every partition.
    said.dedup();
    let expected = [
        json!({"id": 1, "note": "a"}),
        json!("ALTER TABLE orders ADD COLUMN b int"),
        json!({"id": 2, "note": "b", "b": 2}),
        json!("ALTER TABLE orders DROP COLUMN note"),
        json!({"id": 3, "b": 3}),
        json!("TRUNCATE"),
        json!({"id": 4, "b": 4}),
    ];
    assert_eq!(said, expected);
}

#[test]
fn statements_stand_between_the_rows() {
    each(&["postgres-15"], WITH_MESSAGES).iter().for_each(|it| in_order(it));
}

#[test]
fn statements_stand_between_the_rows_without_messages() {
    in_order("postgres-11");
}

/// Partitions that go: detached, dropped alone, dropped with their root.
fn partitions_go(server: &str) {
    let ground = Ground::new(server, "debezium-json");
    let mut sql = ground.scene.superuser();
    sql.run(
        "CREATE TABLE tree (id int PRIMARY KEY, n int) PARTITION BY RANGE (id); \
         CREATE TABLE tree_1 PARTITION OF tree FOR VALUES FROM (0) TO (10); \
         CREATE TABLE tree_2 PARTITION OF tree FOR VALUES FROM (10) TO (20); \
         CREATE TABLE tree_3 PARTITION OF tree FOR VALUES FROM (20) TO (30); \
         CREATE VIEW on_tree AS SELECT id FROM tree; \
         INSERT INTO tree VALUES (1, 1), (11, 1), (21, 1)",
    );
    ground.carried();
    let statements = [
        "ALTER TABLE tree DETACH PARTITION tree_1",
        "DROP TABLE tree_2",
        "DROP TABLE tree CASCADE",
        "DROP TABLE tree_1",
    ];
    sql.run("UPDATE tree SET n = 2");
    for statement in statements {
        sql.run(statement);
        if statement == "DROP TABLE tree_2" {
            sql.run("INSERT INTO tree VALUES (22, 1)");
        }
    }
    let records = ground.carried();
    assert_eq!(texts(&records), statements);
    let dropped = |index: usize| {
        let list = records[index].json()["statement"]["dropped"].clone();
        let mut list: Vec<_> = list
            .as_array()
            .expect("a list")
            .iter()
            .map(|it| (it["identity"].as_str().expect("a name").to_owned(), it["cascaded"] == true))
            .collect();
        list.sort();
        list
    };
    let named = |name: &str, cascaded| (name.to_owned(), cascaded);
    assert_eq!(dropped(1), [named("public.tree_2", false)]);
    let whole = dropped(2);
    for gone in
        [named("public.on_tree", true), named("public.tree", false), named("public.tree_3", true)]
    {
        assert!(whole.contains(&gone), "no {gone:?} in {whole:?}");
    }
    let changes = records[2].json()["tableChanges"].clone();
    let ids: Vec<_> =
        changes.as_array().expect("a list").iter().map(|it| it["id"].clone()).collect();
    assert!(ids.contains(&json!("\"public\".\"tree_3\"")), "{ids:?}");
    // Rows of the leaves, of which none is left, go by the root's name and by their key.
    let topics = ground.scene.topics();
    let mut places: std::collections::BTreeMap<i64, Vec<i32>> = std::collections::BTreeMap::new();
    for record in topics.of(&format!("{}.public.tree", ground.scene.name)) {
        let id = record.key_json()["id"].as_i64().expect("a key");
        places.entry(id).or_default().push(record.partition);
    }
    let counts: Vec<_> = places.iter().map(|(id, places)| (*id, places.len())).collect();
    assert_eq!(counts, [(1, 2), (11, 2), (21, 2), (22, 1)]);
    for places in places.values() {
        assert!(places.iter().all(|it| *it == places[0]), "{places:?}");
    }
}

#[test]
fn partitions_go_on_11() {
    partitions_go("postgres-11");
}

#[test]
fn partitions_go_on_15() {
    each(&["postgres-15"], &["postgres-14", "postgres-15"]).iter().for_each(|it| partitions_go(it));
}

#[test]
fn partitions_go_on_18() {
    partitions_go("postgres-18");
}

/// kill -9 while statements and rows come: each once, in order.
fn killed(server: &str) {
    const STATEMENTS: u32 = 60;
    let ground = Ground::new(server, "debezium-json");
    let mut run = ground.scene.run(&ground.spec, &[]);
    ground.scene.await_streaming(&mut run);
    let mut sql = ground.scene.superuser();
    let statement = |number| format!("ALTER TABLE orders ADD COLUMN c{number} int");
    let write = |sql: &mut Sql, number: u32| {
        sql.run(&format!(
            "BEGIN; INSERT INTO orders (id) SELECT {number} * 1000 + g FROM generate_series(1, 50) g; {}; \
             INSERT INTO orders (id) SELECT {number} * 1000 + g FROM generate_series(51, 100) g; COMMIT",
            statement(number)
        ));
    };
    for number in 1..=STATEMENTS {
        write(&mut sql, number);
        if number % 20 == 0 {
            await_true("a statement delivered", CATCH_UP_MAX, || {
                assert!(!run.has_ended(), "ended:\n{}", run.log());
                u32::try_from(ground.found().len()).expect("few") + 15 > number
            });
            run.kill();
            if number == STATEMENTS {
                break;
            }
            run = ground.scene.run(&ground.spec, &[]);
        }
    }
    ground.scene.catch_up(&ground.spec);
    let found = ground.found();
    assert_eq!(texts(&found), (1..=STATEMENTS).map(statement).collect::<Vec<_>>());
    let places: Vec<_> = found.iter().map(place).collect();
    assert!(places.iter().all(|(_, seq)| *seq == 50), "after the rows before it: {places:?}");
    let topics = ground.scene.topics();
    let rows = format!("{}.public.orders", ground.scene.name);
    let ids: Vec<_> = topics
        .of(&rows)
        .filter(|it| it.json()["op"] == "c")
        .map(|it| it.json()["after"]["id"].as_i64().expect("an id"))
        .collect();
    let different: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!((ids.len(), different.len()), (6000, 6000), "each row once");
}

#[test]
fn each_statement_once_under_kill_9() {
    each(&["postgres-15"], WITH_MESSAGES).iter().for_each(|it| killed(it));
}

#[test]
fn each_statement_once_under_kill_9_without_messages() {
    killed("postgres-11");
}

/// An error inside never reaches the user, and leaves a gap that can be seen.
fn gap(server: &str) {
    let ground = Ground::new(server, "debezium-json");
    let mut sql = ground.scene.superuser();
    let broken = format!(
        "CREATE OR REPLACE FUNCTION {}.relations(oids oid[]) RETURNS jsonb LANGUAGE plpgsql AS \
         $$ BEGIN RAISE 'broken'; END $$",
        quoted(&ground.scene.slot())
    );
    sql.run(&broken);
    sql.run("CREATE TABLE unseen (x int)");
    let records = ground.carried();
    let gaps: Vec<_> = records.iter().map(|it| it.json()["statement"]["gap"].clone()).collect();
    // Also of the helper's own function, which was replaced by hand.
    assert_eq!(gaps.last(), Some(&json!("P0001: broken")));
    assert_eq!(text(records.last().expect("a gap")), "CREATE TABLE unseen (x int)");
}

#[test]
fn an_error_in_the_trigger_is_a_gap() {
    each(&["postgres-15", "postgres-11"], ALL).iter().for_each(|it| gap(it));
}

/// What tasks do themselves is never captured, and only what a task selects is.
#[test]
fn tasks_do_not_see_each_other() {
    each(&["postgres-15"], ALL).iter().for_each(|it| apart(it));
}

fn apart(server: &str) {
    let ground = Ground::new(server, "debezium-json");
    let mut sql = ground.scene.superuser();
    sql.run("CREATE TABLE second (id int PRIMARY KEY)");
    let other = Spec::new(
        &format!("{}b", ground.scene.name),
        &ground.scene.postgres,
        &ground.scene.name,
        &ground.scene.kafka,
    );
    let other = other
        .user(&ground.role, Some(PASSWORD))
        .objects(&["{table: public.second}", "{table: public.orders, operations: [insert]}"]);
    ground.scene.catch_up(&other);
    sql.run("ALTER TABLE second ADD a int; ALTER TABLE orders ADD a int");
    ground.scene.catch_up(&other);
    let theirs = format!("{}b.ddl", ground.scene.name);
    let topics = tests::reader::Topics::read(&ground.scene.kafka, &theirs);
    assert_eq!(texts(&topics.records), ["ALTER TABLE second ADD a int"]);
    // Also what somebody does to the helper objects of the other by hand.
    sql.run(&format!("DROP SCHEMA {} CASCADE", quoted(&format!("{}b", ground.scene.slot()))));
    ground.scene.run(&other, &["--until-caught-up", "--release"]).wait(CATCH_UP_MAX).expect(0);
    let expected = [
        "CREATE TABLE second (id int PRIMARY KEY)",
        "ALTER TABLE second ADD a int",
        "ALTER TABLE orders ADD a int",
    ];
    assert_eq!(texts(&ground.carried()), expected);
}

/// What is in the DDL topic of a task whose role may not create event triggers.
fn inferred(scene: &Scene) -> Vec<Record> {
    let found: Vec<_> = scene.topics().of(&format!("{}.ddl", scene.name)).cloned().collect();
    for record in &found {
        let statement = &record.json()["statement"];
        assert_eq!(
            (&statement["inferred"], &statement["reconstructed"]),
            (&json!(true), &json!(true))
        );
    }
    found
}

const INFERRED: [(&str, &str); 5] = [
    (
        "ALTER TABLE orders ADD COLUMN b int NOT NULL DEFAULT 7",
        "ALTER TABLE public.orders ADD COLUMN b integer DEFAULT '7' NOT NULL",
    ),
    (
        "ALTER TABLE orders RENAME COLUMN note TO \"Remark\"",
        "ALTER TABLE public.orders RENAME COLUMN note TO \"Remark\"",
    ),
    (
        "ALTER TABLE orders ALTER b TYPE numeric(10,2)",
        "ALTER TABLE public.orders ALTER COLUMN b TYPE numeric(10,2)",
    ),
    (
        "ALTER TABLE orders DROP COLUMN \"Remark\", ADD COLUMN c text[]",
        "ALTER TABLE public.orders DROP COLUMN \"Remark\", ADD COLUMN c text[]",
    ),
    ("ALTER TABLE orders RENAME TO bills", "ALTER TABLE public.orders RENAME TO bills"),
];

/// Each by a process of its own, which knows what was before from the meta lane alone.
#[test]
fn what_nobody_captures_is_inferred_from_the_rows() {
    each(&["postgres-15"], ALL).iter().for_each(|it| inferred_from_the_rows(it));
}

fn inferred_from_the_rows(server: &str) {
    let scene = Scene::new("inferred", server);
    let mut sql = scene.sql();
    sql.run("CREATE TABLE orders (id bigint PRIMARY KEY, note text)");
    let spec = scene.spec().sink("conflicting_topics: ignore");
    scene.catch_up(&spec);
    for (number, (run, _)) in INFERRED.iter().enumerate() {
        let table = if number + 1 == INFERRED.len() { "bills" } else { "orders" };
        sql.run(&format!("INSERT INTO orders (id) VALUES ({number})"));
        sql.run(&format!("{run}; ALTER TABLE {table} REPLICA IDENTITY FULL"));
        sql.run(&format!("INSERT INTO {table} (id) VALUES ({number} + 100)"));
        scene.catch_up(&spec);
    }
    // Nothing was done since then.
    sql.run("INSERT INTO bills (id) VALUES (1000)");
    scene.catch_up(&spec);
    let found = inferred(&scene);
    let expected: Vec<_> = INFERRED.iter().map(|(_, it)| format!("{it} /* inferred */")).collect();
    assert_eq!(texts(&found), expected);
    let altered = &found[2].json()["tableChanges"][0]["table"];
    assert_eq!(altered["primaryKeyColumnNames"], json!(["id"]));
    let column = &altered["columns"][2];
    assert_eq!((&column["name"], &column["scale"]), (&json!("b"), &json!(2)));
}

/// kill -9 while columns and rows come: each statement once, before the first row that shows it.
#[test]
fn each_inferred_statement_once_under_kill_9() {
    each(&["postgres-15"], ALL).iter().for_each(|it| inferred_once(it));
}

fn inferred_once(server: &str) {
    const STATEMENTS: i64 = 24;
    let scene = Scene::new("inferred", server);
    let mut sql = scene.sql();
    sql.run("CREATE TABLE orders (id bigint PRIMARY KEY, note text)");
    let spec = scene.spec().sink("conflicting_topics: ignore");
    scene.catch_up(&spec);
    let mut run = scene.run(&spec, &[]);
    scene.await_streaming(&mut run);
    for number in 1..=STATEMENTS {
        sql.run(&format!(
            "BEGIN; INSERT INTO orders (id) SELECT {number} * 1000 + g FROM generate_series(1, 50) g; \
             ALTER TABLE orders ADD COLUMN c{number} int; \
             INSERT INTO orders (id) SELECT {number} * 1000 + g FROM generate_series(51, 100) g; COMMIT"
        ));
        if number % 8 == 0 {
            await_true("a statement delivered", CATCH_UP_MAX, || {
                assert!(!run.has_ended(), "ended:\n{}", run.log());
                i64::try_from(inferred(&scene).len()).expect("few") + 6 > number
            });
            run.kill();
            run = scene.run(&spec, &[]);
        }
    }
    run.kill();
    scene.catch_up(&spec);
    let found = inferred(&scene);
    let statement =
        |it| format!("ALTER TABLE public.orders ADD COLUMN c{it} integer /* inferred */");
    assert_eq!(texts(&found), (1..=STATEMENTS).map(statement).collect::<Vec<_>>());
    assert!(found.iter().all(|it| it.header("distributary.seq").as_deref() == Some("50.-1")));
    let topics = scene.topics();
    let rows = format!("{}.public.orders", scene.name);
    let id = |it: &Record| it.json()["after"]["id"].as_i64().expect("an id");
    let ids: Vec<_> = topics.of(&rows).map(id).collect();
    let different: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!((ids.len(), different.len()), (2400, 2400), "each row once");
}

/// Row P20 without event triggers: each table once, whatever ends the task meanwhile.
#[test]
fn each_table_is_told_of_once() {
    let scene = Scene::new("told", "postgres-15");
    let mut sql = scene.sql();
    sql.run(
        "CREATE TABLE one (id int PRIMARY KEY, note varchar(9) NOT NULL DEFAULT 'x'); \
         INSERT INTO one SELECT n FROM generate_series(1, 100000) n; \
         CREATE SCHEMA later; CREATE TABLE later.four (id int PRIMARY KEY); INSERT INTO later.four VALUES (1)",
    );
    let all = scene.spec().sink("conflicting_topics: ignore").line("sync: {schema: true}");
    let spec = all.clone().objects(&["{table: later.*, exclude: true}", "{table: '*.*'}"]);
    let topic = format!("{}.ddl", scene.name);
    let told = || -> Vec<Record> { scene.topics().of(&topic).cloned().collect() };
    let run = scene.run(&spec, &[]);
    await_true("the definition", CATCH_UP_MAX, || !told().is_empty());
    run.kill();
    scene.catch_up(&spec);
    // One that comes while nobody looks, and one that is empty and comes under the running task.
    sql.run("CREATE TABLE two (id int PRIMARY KEY); INSERT INTO two VALUES (1)");
    scene.catch_up(&spec);
    let mut run = scene.run(&spec, &[]);
    scene.await_streaming(&mut run);
    sql.run("CREATE TABLE three (a text)");
    await_true("the new table", CATCH_UP_MAX, || {
        assert!(!run.has_ended(), "ended:\n{}", run.log());
        told().len() == 3
    });
    run.kill();
    sql.run("INSERT INTO two VALUES (2)");
    scene.catch_up(&spec);
    // A changed spec takes it in.
    scene.catch_up(&all);
    sql.run("INSERT INTO later.four VALUES (2)");
    scene.catch_up(&all);
    assert_eq!(scene.topics().of(&format!("{}.later.four", scene.name)).count(), 2);
    let told = told();
    let expected = [
        "CREATE TABLE public.one (id integer NOT NULL, note character varying(9) DEFAULT 'x' NOT NULL, \
         PRIMARY KEY (id))",
        "CREATE TABLE public.two (id integer NOT NULL, PRIMARY KEY (id))",
        "CREATE TABLE public.three (a text)",
        "CREATE TABLE later.four (id integer NOT NULL, PRIMARY KEY (id))",
    ];
    assert_eq!(texts(&told), expected);
    for record in &told {
        let value = record.json();
        assert_eq!(value["statement"]["reconstructed"], true);
        assert_eq!(value["tableChanges"][0]["type"], "CREATE");
        let header = |name| record.header(name);
        assert!(header("distributary.snapshot").is_some() && header("distributary.seq").is_none());
    }
    // Begun anew, all is told anew.
    scene.run(&all, &["--until-caught-up", "--reseed"]).wait(CATCH_UP_MAX).expect(0);
    assert_eq!(scene.topics().of(&topic).count(), 8);
}

/// With event triggers: what they have told of is not told again, what was there before them is.
#[test]
fn tables_that_were_there_before_are_told_of() {
    let ground = Ground::with("postgres-15", "debezium-json", |spec| {
        spec.line("sync: {schema: true}")
            .objects(&["{table: public.kept, exclude: true}", "{table: '*.*'}"])
    });
    let first = "CREATE TABLE public.orders (id bigint NOT NULL, note text, PRIMARY KEY (id))";
    assert_eq!(texts(&ground.found()), [first]);
    let mut sql = ground.scene.superuser();
    sql.run("CREATE TABLE copied AS SELECT 1 AS a; CREATE TABLE made (id int PRIMARY KEY)");
    sql.run("ALTER TABLE kept RENAME TO shown");
    let mut found = texts(&ground.carried());
    found.sort();
    let mut expected = [
        "CREATE TABLE copied AS SELECT 1 AS a",
        "CREATE TABLE made (id int PRIMARY KEY)",
        "ALTER TABLE kept RENAME TO shown",
        "CREATE TABLE public.shown (id integer NOT NULL, PRIMARY KEY (id))",
    ];
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert!(ground.carried().is_empty());
}

/// Nothing of the task is left on the server: also after half a creation, and when it is done again.
fn released(server: &str) {
    let ground = Ground::new(server, "debezium-json");
    assert_eq!(ground.helpers(), "5");
    ground.release();
    // Begun and released at once, from what a crash in the middle would leave.
    let slot = quoted(&ground.scene.slot());
    ground.scene.superuser().run(&format!(
        "SET distributary.ddl_capture = off; CREATE SCHEMA {slot}; \
         COMMENT ON SCHEMA {slot} IS 'Distributary: helper objects of half a creation'"
    ));
    ground.release();
    // A schema of the user's is not taken.
    ground.scene.superuser().run(&format!("CREATE SCHEMA {slot}"));
    let ended = ground.scene.run(&ground.spec, &["--until-caught-up"]).wait(CATCH_UP_MAX);
    assert_ne!(ended.code, Some(0));
    assert!(ended.stderr.contains("which is not Distributary's"), "{}", ended.stderr);
}

#[test]
fn a_release_leaves_nothing() {
    each(&["postgres-11", "postgres-18"], ALL).iter().for_each(|it| released(it));
}

/// Killed as soon as one thing more of the task is on the server: whatever is there then, a release takes away, and the next
/// run makes it whole.
fn killed_in_the_making(server: &str) {
    let ground = Ground::new(server, "debezium-json");
    let slot = ground.scene.slot();
    let things = [
        format!("pg_publication WHERE pubname = '{slot}'"),
        format!("pg_namespace WHERE nspname = '{slot}'"),
        "pg_event_trigger".to_owned(),
        format!("pg_replication_slots WHERE slot_name = '{slot}'"),
    ];
    let mut sql = ground.scene.superuser();
    ground.release();
    // In the long form also half of one creation upon half of another.
    for is_released in if full() { &[true, false][..] } else { &[true] } {
        for thing in &things {
            let run = ground.scene.run(&ground.spec, &[]);
            await_true(thing, CATCH_UP_MAX, || {
                sql.value(&format!("SELECT 0 < count(*) FROM {thing}")) == "t"
            });
            run.kill();
            if *is_released {
                ground.release();
            }
        }
    }
    sql.run("INSERT INTO orders VALUES (1, 'after')");
    ground.scene.catch_up(&ground.spec);
    assert_eq!(ground.helpers(), "5");
    ground.release();
}

#[test]
fn half_a_creation_is_released_and_made_whole() {
    each(&["postgres-18"], ALL).iter().for_each(|it| killed_in_the_making(it));
}

/// Canal's, Maxwell's and SharePlex's words for the same.
#[test]
fn statements_in_other_formats() {
    let said = |format: &str| {
        let ground = Ground::new("postgres-15", format);
        ground.scene.superuser().run(
            "ALTER TABLE orders ADD COLUMN b int; CREATE INDEX i ON orders (b); \
             ALTER TABLE orders RENAME TO bills; DROP TABLE bills",
        );
        ground.carried().iter().map(Record::json).collect::<Vec<_>>()
    };
    let canal: Vec<_> = said("canal-json")
        .iter()
        .map(|it| (it["type"].clone(), it["isDdl"].clone(), it["table"].clone(), it["sql"].clone()))
        .collect();
    let row =
        |kind: &str, table: &str, sql: &str| (json!(kind), json!(true), json!(table), json!(sql));
    let expected = [
        row("ALTER", "orders", "ALTER TABLE orders ADD COLUMN b int"),
        row("CINDEX", "i", "CREATE INDEX i ON orders (b)"),
        row("RENAME", "bills", "ALTER TABLE orders RENAME TO bills"),
        row("ERASE", "bills", "DROP TABLE bills"),
    ];
    assert_eq!(canal, expected);
    let maxwell = said("maxwell-json");
    let kinds: Vec<_> = maxwell.iter().map(|it| it["type"].clone()).collect();
    assert_eq!(kinds, ["table-alter", "table-alter", "table-drop"]);
    let columns = &maxwell[0]["def"]["columns"];
    assert_eq!(columns[2], json!({"type": "integer", "name": "b"}));
    let shareplex = said("shareplex-json");
    assert_eq!(shareplex[0]["sql"], json!({"ddl": "ALTER TABLE orders ADD COLUMN b int"}));
    assert_eq!(shareplex[0]["meta"]["op"], "ddl");
    assert_eq!(shareplex.len(), 4);
}

/// The script for a role that is allowed the least: all that a task needs, from the check to the release.
fn least_privilege(server: &str) {
    let scene = Scene::new("least", server);
    let role = format!("{}_role", scene.name);
    let script = include_str!("../../cluster/postgres/least-privilege.sql")
        .replace("'shop'", &format!("'{}'", scene.name))
        .replace("'distributary_shop'", &format!("'{role}'"));
    let mut sql = scene.superuser();
    sql.run(
        "CREATE TABLE orders (id int PRIMARY KEY, note text); INSERT INTO orders VALUES (1, 'a'); \
         CREATE TABLE parts (id int, at date) PARTITION BY RANGE (at); \
         CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2024-01-01') TO ('2025-01-01'); \
         CREATE TABLE hidden (id int, note text); CREATE TABLE later_hidden (id int, note text)",
    );
    let has_virtual = 18 <= sql.version();
    if has_virtual {
        sql.run("CREATE TABLE virtual (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) VIRTUAL)");
    }
    // Twice: it can be run again.
    for _ in 0..2 {
        sql.run(&script.replace("exclude = ''", "exclude = 'public.hidden, public.nothing'"));
    }
    let users_go_on = |sql: &mut Sql| {
        for table in
            ["hidden", "later_hidden", "virtual"].iter().take(if has_virtual { 3 } else { 2 })
        {
            sql.run(&format!("INSERT INTO {table} (id) VALUES (1); UPDATE {table} SET id = id + 1; DELETE FROM {table}"));
        }
    };
    users_go_on(&mut sql);
    let may_read = format!("SELECT has_table_privilege('{role}', 'hidden', 'SELECT')");
    assert_eq!(sql.value(&may_read), "f");
    sql.run(&format!("ALTER ROLE {} PASSWORD '{PASSWORD}'", quoted(&role)));
    // One of them is in the publication, and this role may not take it out.
    let spec = scene.spec().user(&role, Some(PASSWORD)).source("ddl: off").objects(&[
        "{table: public.hidden, exclude: true}",
        "{table: public.later_hidden, exclude: true}",
        "{table: public.virtual, exclude: true}",
        "{table: public.*}",
    ]);
    scene.catch_up(&spec);
    users_go_on(&mut sql);
    sql.run("INSERT INTO parts VALUES (1, '2024-05-05'); UPDATE orders SET note = 'b'");
    scene.catch_up(&spec);
    let topics = scene.topics();
    let ops = |table: &str| {
        let topic = format!("{}.public.{table}", scene.name);
        topics
            .of(&topic)
            .map(|it| it.json()["op"].as_str().unwrap_or("-").to_owned())
            .collect::<String>()
    };
    assert_eq!((ops("orders").as_str(), ops("parts").as_str()), ("ru", "c"));
    assert_eq!(ops("hidden") + &ops("later_hidden"), "");
    scene.run(&spec, &["--until-caught-up", "--release"]).wait(CATCH_UP_MAX).expect(0);
    assert_eq!(scene.slots(), [""; 0]);
    assert_eq!(sql.value("SELECT count(*) FROM pg_publication"), "0");
    let role = quoted(&role);
    sql.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn the_least_privilege_is_enough() {
    each(&["postgres-15", "postgres-11", "postgres-18"], ALL)
        .iter()
        .for_each(|it| least_privilege(it));
}
