//! Tables that come and go under a running task: made, made again, renamed, moved, attached, detached. With event
//! triggers from their first row on; without, taken in when they are seen, and copied. What others do to the
//! publication parks the task.

#[path = "tables/identity.rs"]
mod identity;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use tests::checker::Promises;
use tests::deadline::await_true;
use tests::process::Distributary;
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::seed::each;
use tests::sql::{PASSWORD, Sql, quoted};
use tests::task::Spec;

/// A running task, as superuser or as an ordinary role that owns the database.
struct Ground {
    scene: Scene,
    admin: Option<String>,
    spec: Spec,
    run: Option<Distributary>,
}

impl Ground {
    fn new(server: &str, is_super: bool, tables: &str) -> Self {
        Self::with(server, is_super, tables, |spec| spec)
    }

    fn with(server: &str, is_super: bool, tables: &str, also: impl FnOnce(Spec) -> Spec) -> Self {
        let scene = Scene::new("tables", server);
        let mut spec = also(scene.spec());
        let mut admin = None;
        if is_super {
            let role = format!("{}_admin", scene.name);
            scene.superuser().run(&format!(
                "CREATE ROLE {} SUPERUSER REPLICATION LOGIN PASSWORD '{PASSWORD}'",
                quoted(&role)
            ));
            spec = spec.user(&role, Some(PASSWORD));
            admin = Some(role);
        }
        // Statements are not what is looked at here.
        let spec = spec.sink("ddl_topic: \"ddl.{task}\"");
        scene.sql().run(tables);
        let mut run = scene.run(&spec, &[]);
        scene.await_streaming(&mut run);
        Self { scene, admin, spec, run: Some(run) }
    }

    /// The last state of each row of a table, by the column `id`.
    fn rows(&self, table: &str) -> BTreeMap<i64, Value> {
        let mut rows = BTreeMap::new();
        let id = |row: &Value| row["id"].as_i64().expect("an id");
        let topics = self.scene.topics();
        for record in topics.of(&format!("{}.{table}", self.scene.name)) {
            // A tombstone follows what it stands for.
            if record.value.is_none() {
                continue;
            }
            let event = record.json();
            let (before, after) = (&event["before"], &event["after"]);
            if !before.is_null() {
                rows.remove(&id(before));
            }
            if !after.is_null() {
                rows.insert(id(after), after.clone());
            }
        }
        rows
    }

    /// Ids whose records are in several partitions: their order is lost.
    fn strays(&self, table: &str) -> Vec<i64> {
        let topics = self.scene.topics();
        let mut places: BTreeMap<i64, BTreeSet<i32>> = BTreeMap::new();
        for record in topics.of(&format!("{}.{table}", self.scene.name)) {
            let key: Value = serde_json::from_slice(record.key.as_deref().unwrap_or_default())
                .expect("a key in JSON");
            let id = key["id"].as_i64().expect("an id");
            places.entry(id).or_default().insert(record.partition);
        }
        places.into_iter().filter(|(_, partitions)| partitions.len() != 1).map(|it| it.0).collect()
    }

    /// What a table must come to, while the task runs.
    #[track_caller]
    fn await_rows(&mut self, table: &str) {
        let wanted = self.wanted(table);
        await_true(&format!("the rows of {table}"), CATCH_UP_MAX, || {
            if let Some(run) = &mut self.run {
                assert!(!run.has_ended(), "ended:\n{}", run.log());
            }
            self.rows(table) == wanted
        });
    }

    /// The rows of a table, as a record would show them.
    fn wanted(&self, table: &str) -> BTreeMap<i64, Value> {
        let query = format!("SELECT id, to_jsonb(t) FROM {table} t");
        let rows = self.scene.superuser().rows(&query);
        let row = |row: Vec<Option<String>>| {
            let [Some(id), Some(json)] = <[_; 2]>::try_from(row).expect("two columns") else {
                panic!("nulls in {table}")
            };
            (id.parse().expect("an id"), serde_json::from_str(&json).expect("JSON"))
        };
        rows.into_iter().map(row).collect()
    }

    /// Ends the task, has the next run deliver the rest, and compares.
    #[track_caller]
    fn finish(&mut self, tables: &[&str]) {
        if let Some(run) = self.run.take() {
            run.interrupt(CATCH_UP_MAX).expect(0);
        }
        self.scene.catch_up(&self.spec);
        for table in tables {
            assert_eq!(self.rows(table), self.wanted(table), "{table}");
        }
    }

    /// Waits until the publication has a table.
    fn await_published(&self, table: &str) {
        let query = format!(
            "SELECT count(*) FROM pg_publication_tables WHERE pubname = '{}' \
             AND schemaname || '.' || tablename = '{table}'",
            self.scene.slot()
        );
        let mut sql = self.scene.superuser();
        await_true(&format!("{table} in the publication"), CATCH_UP_MAX, || {
            sql.value(&query) == "1"
        });
    }

    /// The task parks for what somebody does at once, between two of its looks.
    #[track_caller]
    fn parks_after(&mut self, statements: &[&str], words: &[&str]) {
        let run = self.run.as_mut().expect("it runs");
        let mut sql = self.scene.sql();
        statements.iter().for_each(|it| sql.run(it));
        assert!(!run.has_ended(), "ended:\n{}", run.log());
        self.parks(words);
    }

    /// The task parks by itself, and says why.
    #[track_caller]
    fn parks(&mut self, words: &[&str]) {
        let run = self.run.take().expect("it runs");
        let ended = run.wait(CATCH_UP_MAX);
        ended.expect(1);
        for word in words {
            assert!(ended.stderr.contains(word), "no `{word}`:\n{}", ended.stderr);
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // It must not hold the slot while the scene is removed.
        drop(self.run.take());
        if let Some(role) = &self.admin {
            let role = quoted(role);
            let mut sql = self.scene.superuser();
            drop(sql.attempt(&format!("REASSIGN OWNED BY {role} TO postgres; DROP ROLE {role}")));
        }
    }
}

const KEPT: &str = "CREATE TABLE kept (id int PRIMARY KEY, n int); INSERT INTO kept VALUES (1, 1)";

/// Everything in one transaction each: nothing can be seen before it is streamed.
fn from_the_first_row(server: &str) {
    let mut ground = Ground::new(server, true, KEPT);
    let mut sql = ground.scene.sql();
    sql.run(
        "BEGIN; CREATE TABLE made (id int PRIMARY KEY, n int); INSERT INTO made VALUES (1, 1), (2, 2); \
         UPDATE made SET n = 3 WHERE id = 2; ALTER TABLE made ADD COLUMN more text; \
         INSERT INTO made VALUES (3, 3, 'x'); COMMIT; \
         BEGIN; CREATE TABLE bare (id int, n int); INSERT INTO bare VALUES (1, 1); \
         UPDATE bare SET n = 2; COMMIT",
    );
    sql.run(
        "BEGIN; DROP TABLE kept; CREATE TABLE kept (id int PRIMARY KEY, word text); \
         INSERT INTO kept VALUES (1, 'again'); COMMIT",
    );
    sql.run(
        "BEGIN; ALTER TABLE made RENAME TO renamed; INSERT INTO renamed VALUES (4, 4); COMMIT; \
         CREATE SCHEMA other CREATE TABLE within (id int PRIMARY KEY); \
         INSERT INTO other.within VALUES (1); \
         ALTER TABLE renamed SET SCHEMA other; INSERT INTO other.renamed VALUES (5, 5)",
    );
    sql.run(
        "BEGIN; CREATE TABLE tree (id int PRIMARY KEY, n int) PARTITION BY RANGE (id); \
         CREATE TABLE tree_1 PARTITION OF tree FOR VALUES FROM (1) TO (10); \
         INSERT INTO tree VALUES (1, 1); UPDATE tree SET n = 2; COMMIT",
    );
    // A helper of the task is no table of its user, and temporary ones are nobody's.
    sql.run("CREATE TEMPORARY TABLE passing (id int); INSERT INTO passing VALUES (1)");
    ground.finish(&["public.kept", "public.bare", "public.tree"]);
    let ids = |table: &str| ground.rows(table).into_keys().collect::<Vec<_>>();
    assert_eq!(ids("public.made"), [1, 2, 3]);
    assert_eq!(ids("public.renamed"), [4]);
    assert_eq!(ids("other.renamed"), [5]);
    assert_eq!(ids("other.within"), [1]);
    // None of it was copied: each record has its number in its transaction.
    let topics = ground.scene.topics();
    let copied: Vec<_> = topics
        .records
        .iter()
        .filter(|it| it.header("distributary.seq").is_none())
        .map(|it| it.topic.as_str())
        .collect();
    assert_eq!(copied, [format!("{}.public.kept", ground.scene.name)], "the first snapshot's row");
    let identities = ground.scene.superuser().value(
        "SELECT string_agg(relname || ' ' || relreplident::text, ', ' ORDER BY relname) FROM pg_class \
         WHERE relname IN ('bare', 'renamed', 'tree_1', 'kept')",
    );
    assert_eq!(identities, "bare f, kept f, renamed f, tree_1 f");
}

#[test]
fn from_the_first_row_on_11() {
    from_the_first_row("postgres-11");
}

#[test]
fn from_the_first_row_on_15() {
    each(&["postgres-15"], &["postgres-14", "postgres-15"])
        .iter()
        .for_each(|it| from_the_first_row(it));
}

#[test]
fn from_the_first_row_on_18() {
    from_the_first_row("postgres-18");
}

/// A role that may not create event triggers.
fn when_they_are_seen(server: &str) {
    let mut ground = Ground::new(server, false, KEPT);
    let mut sql = ground.scene.sql();
    let fill = |table: &str| {
        format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, n int); \
             INSERT INTO {table} SELECT n, n FROM generate_series(1, 300) n"
        )
    };
    sql.run(&fill("late"));
    sql.run("CREATE TABLE made AS SELECT 1 AS id, 2 AS n; ALTER TABLE made ADD PRIMARY KEY (id)");
    sql.run("CREATE TABLE bare (id int, n int); INSERT INTO bare VALUES (1, 1)");
    // Changes of a table that is being taken in must come after its rows.
    sql.run("UPDATE late SET n = n + 1 WHERE id % 3 = 0; DELETE FROM late WHERE id % 7 = 0");
    ground.await_rows("public.late");
    ground.await_rows("public.made");
    ground.await_published("public.bare");
    sql.run("INSERT INTO bare VALUES (2, 2)");
    // Another table of the same name. The stream meets the old one for the first time when it is gone.
    sql.run(
        "BEGIN; UPDATE late SET n = n + 1; INSERT INTO late VALUES (1000, 0); DROP TABLE late; COMMIT",
    );
    sql.run(&fill("late"));
    sql.run("DELETE FROM late WHERE id > 10");
    sql.run("ALTER TABLE kept REPLICA IDENTITY DEFAULT");
    ground.await_published("public.late");
    let mut catalog = ground.scene.superuser();
    await_true("the replica identity", CATCH_UP_MAX, || {
        catalog.value("SELECT relreplident FROM pg_class WHERE relname = 'kept'") == "f"
    });
    sql.run("UPDATE late SET n = 7");
    ground.finish(&["public.kept", "public.made"]);
    assert_eq!(ground.strays("public.late"), [0i64; 0], "in two partitions");
    let mut late = ground.rows("public.late");
    late.retain(|_, row| row["n"] == 7);
    assert_eq!(late, ground.wanted("public.late"));
    // It has no key to be copied by.
    assert_eq!(ground.rows("public.bare").into_keys().collect::<Vec<_>>(), [2]);
}

#[test]
fn when_they_are_seen_on_11() {
    when_they_are_seen("postgres-11");
}

#[test]
fn when_they_are_seen_on_15() {
    each(&["postgres-15"], &["postgres-14", "postgres-15"])
        .iter()
        .for_each(|it| when_they_are_seen(it));
}

#[test]
fn when_they_are_seen_on_18() {
    when_they_are_seen("postgres-18");
}

/// Changes that are met only when their table is gone, by a process that has never seen it: they keep their key, and
/// with it their partition.
fn dropped_before_its_changes_are_met(server: &str) {
    let mut ground = Ground::new(
        server,
        false,
        "CREATE TYPE mood AS ENUM ('sad', 'glad'); \
         CREATE TABLE kept (id int PRIMARY KEY); \
         CREATE TABLE changed (id int PRIMARY KEY, n int, m mood); \
         CREATE TABLE still (n int, id int PRIMARY KEY); \
         CREATE TABLE renamed (number int PRIMARY KEY, n int); \
         CREATE TABLE tree (id int PRIMARY KEY, n int) PARTITION BY RANGE (id); \
         CREATE TABLE tree_1 PARTITION OF tree FOR VALUES FROM (0) TO (1000); \
         INSERT INTO still SELECT g, g FROM generate_series(1, 40) g",
    );
    let mut sql = ground.scene.sql();
    sql.run(
        "INSERT INTO changed SELECT g, g, 'sad' FROM generate_series(1, 40) g; \
         INSERT INTO renamed SELECT g, g FROM generate_series(1, 40) g; \
         INSERT INTO tree SELECT g, g FROM generate_series(1, 40) g",
    );
    for table in ["public.changed", "public.still", "public.tree"] {
        ground.await_rows(table);
    }
    ground.run.take().expect("it runs").kill();
    sql.run(
        "ALTER TABLE renamed RENAME COLUMN number TO id; \
         UPDATE changed SET n = -1, m = 'glad'; UPDATE still SET n = -1; UPDATE renamed SET n = -1; \
         UPDATE tree SET n = -1; DELETE FROM changed WHERE id > 20; \
         DROP TABLE changed, still, renamed, tree; DROP TYPE mood",
    );
    ground.scene.catch_up(&ground.spec);
    let topics = ground.scene.topics();
    for table in ["changed", "still", "renamed", "tree"] {
        let topic = format!("{}.public.{table}", ground.scene.name);
        let mut places: BTreeMap<i64, BTreeSet<i32>> = BTreeMap::new();
        for record in topics.of(&topic) {
            let key = record.key_json();
            let id = key["id"].as_i64().or_else(|| key["number"].as_i64());
            let id = id.unwrap_or_else(|| panic!("{table}: a record with the key {key}"));
            places.entry(id).or_default().insert(record.partition);
        }
        assert_eq!(places.len(), 40, "{table}");
        // The partition rests on the key as it is written, names included.
        let is_renamed = table == "renamed";
        assert!(is_renamed || places.values().all(|it| it.len() == 1), "{table}: {places:?}");
        let last = topics.of(&topic).filter(|it| it.value.is_some()).count();
        let expected = if table == "changed" { 100 } else { 80 };
        assert_eq!(last, expected, "{table}: each change once");
    }
    let changed = format!("{}.public.changed", ground.scene.name);
    let glad = topics.of(&changed).filter(|it| it.json()["after"]["m"] == "glad").count();
    assert_eq!(glad, 40);
    // Nothing of them can come any more.
    let described = || {
        let mut newest = BTreeMap::new();
        for record in ground.scene.state().records {
            let key = String::from_utf8(record.key.unwrap_or_default()).expect("UTF-8");
            if key.starts_with("table/") {
                newest.insert(key, record.value.is_some());
            }
        }
        newest.into_values().filter(|is_there| *is_there).count()
    };
    assert_eq!(described(), 5);
    let mut run = ground.scene.run(&ground.spec, &[]);
    await_true("the descriptions to be forgotten", CATCH_UP_MAX, || {
        assert!(!run.has_ended(), "ended:\n{}", run.log());
        described() == 1
    });
    ground.run = Some(run);
}

#[test]
fn dropped_before_its_changes_are_met_on_11() {
    dropped_before_its_changes_are_met("postgres-11");
}

#[test]
fn dropped_before_its_changes_are_met_on_15() {
    let servers = each(&["postgres-15"], &["postgres-14", "postgres-15", "postgres-18"]);
    servers.iter().for_each(|it| dropped_before_its_changes_are_met(it));
}

/// Partitions that come and go as tables of their own.
fn attached_and_detached(server: &str) {
    let mut ground = Ground::new(
        server,
        false,
        "CREATE TABLE tree (id int PRIMARY KEY, n int) PARTITION BY RANGE (id); \
         CREATE TABLE tree_1 PARTITION OF tree FOR VALUES FROM (1) TO (10); \
         INSERT INTO tree VALUES (1, 1)",
    );
    let mut sql = ground.scene.sql();
    sql.run(
        "CREATE TABLE tree_2 (id int PRIMARY KEY, n int); \
         ALTER TABLE tree ATTACH PARTITION tree_2 FOR VALUES FROM (10) TO (20); \
         CREATE TABLE tree_3 PARTITION OF tree FOR VALUES FROM (20) TO (30)",
    );
    let mut catalog = ground.scene.superuser();
    await_true("identities of the new partitions", CATCH_UP_MAX, || {
        catalog.value(
            "SELECT count(*) FROM pg_class WHERE relname IN ('tree_2', 'tree_3') AND relreplident = 'f'",
        ) == "2"
    });
    sql.run("INSERT INTO tree VALUES (11, 1), (21, 1); UPDATE tree SET n = 2");
    ground.await_rows("public.tree");
    sql.run("ALTER TABLE tree DETACH PARTITION tree_1; INSERT INTO tree_1 VALUES (2, 2)");
    if 13 <= catalog.version() {
        // Under its own name from now on, with what it holds.
        ground.await_rows("public.tree_1");
    } else {
        // It was in the publication itself, and goes on there.
        await_true("a row of the detached partition", CATCH_UP_MAX, || {
            ground.rows("public.tree_1").into_keys().eq([2])
        });
    }
    sql.run("DELETE FROM tree_1 WHERE id = 1; INSERT INTO tree VALUES (12, 1)");
    ground.finish(&["public.tree_1"]);
    let ids: Vec<_> = ground.rows("public.tree").into_keys().collect();
    // 13 and 14 go on sending rows of a detached partition by the root's name, until the publication is altered.
    let sent_by_root: &[i64] =
        if (13..15).contains(&catalog.version()) { &[1, 2, 11, 12, 21] } else { &[1, 11, 12, 21] };
    assert_eq!(ids, sent_by_root, "a detached partition takes nothing away");
}

#[test]
fn attached_and_detached_on_11() {
    attached_and_detached("postgres-11");
}

#[test]
fn attached_and_detached_on_18() {
    each(&["postgres-18"], &["postgres-14", "postgres-15", "postgres-18"])
        .iter()
        .for_each(|it| attached_and_detached(it));
}

#[test]
fn what_others_take_out_of_the_publication_parks_the_task() {
    let mut ground = Ground::new("postgres-15", false, KEPT);
    let publication = quoted(&ground.scene.slot());
    let mut sql: Sql = ground.scene.sql();
    sql.run("CREATE TABLE second (id int PRIMARY KEY)");
    ground.await_published("public.second");
    sql.run(&format!("ALTER PUBLICATION {publication} DROP TABLE second"));
    ground.parks(&["public.second", "not in publication", "--reseed"]);
}

#[test]
fn a_publication_that_others_alter_parks_the_task() {
    let mut ground = Ground::new("postgres-18", false, KEPT);
    let publication = quoted(&ground.scene.slot());
    ground.scene.sql().run(&format!("ALTER PUBLICATION {publication} SET (publish = 'insert')"));
    ground.parks(&["was altered", "publish = 'insert, update, delete, truncate'", "--reseed"]);
}

/// Whatever somebody has altered and altered back: rows may be missing, and nothing else would tell.
#[test]
fn a_publication_that_looks_as_before_parks_the_task() {
    let mut ground = Ground::new("postgres-15", false, KEPT);
    let publication = quoted(&ground.scene.slot());
    let (mut sql, mut admin) = (ground.scene.sql(), ground.scene.superuser());
    let out = format!("ALTER PUBLICATION {publication} DROP TABLE kept");
    let again = format!("ALTER PUBLICATION {publication} ADD TABLE kept");
    let words = ["public.kept", "added again by somebody else", "--reseed"];
    ground.parks_after(&[&out, "INSERT INTO kept VALUES (2, 2)", &again], &words);
    let reseed = |ground: &Ground| {
        ground
            .scene
            .run(&ground.spec, &["--until-caught-up", "--reseed"])
            .wait(CATCH_UP_MAX)
            .expect(0);
        ground.scene.catch_up(&ground.spec);
        assert_eq!(ground.rows("public.kept"), ground.wanted("public.kept"));
    };
    reseed(&ground);
    // While nobody looks.
    let set =
        |publish: &str| format!("ALTER PUBLICATION {publication} SET (publish = '{publish}')");
    sql.run(&set("insert"));
    sql.run("UPDATE kept SET n = n + 1");
    sql.run(&set("insert, update, delete, truncate"));
    let refused = ground.scene.run(&ground.spec, &["--until-caught-up"]).wait(CATCH_UP_MAX);
    assert!(refused.expect(1).stderr.contains("altered back"), "{}", refused.stderr);
    reseed(&ground);
    // What the server does to its catalog, another owner, and what the task does itself, are none of that.
    admin.run("VACUUM (FULL, FREEZE) pg_publication");
    ground.scene.catch_up(&ground.spec);
    admin.run(&format!("ALTER PUBLICATION {publication} OWNER TO postgres"));
    ground.scene.catch_up(&ground.spec);
    admin.run(&format!("ALTER PUBLICATION {publication} OWNER TO {}", quoted(tests::sql::ROLE)));
    sql.run("CREATE TABLE second (id int PRIMARY KEY, n int)");
    ground.scene.catch_up(&ground.spec);
    let without = ground
        .scene
        .spec()
        .sink("ddl_topic: \"ddl.{task}\"")
        .objects(&["{table: public.second, exclude: true}", "{table: '*.*'}"]);
    ground.scene.catch_up(&without);
    ground.scene.catch_up(&ground.spec);
    sql.run("INSERT INTO second VALUES (1, 1)");
    ground.scene.catch_up(&ground.spec);
    assert_eq!(ground.rows("public.second"), ground.wanted("public.second"));
}

/// Whoever truncates a table that a snapshot holds waits, and so does everybody who comes to that table then: no other
/// connection of the snapshot may have to.
#[test]
fn a_snapshot_that_holds_its_tables_ends_while_somebody_waits_to_truncate_one() {
    let scene = Scene::new("truncated", "postgres-15");
    let mut sql = scene.sql();
    for table in ["a", "b", "c", "d"] {
        sql.run(&format!("CREATE TABLE {table} (id int PRIMARY KEY)"));
        sql.run(&format!("INSERT INTO {table} SELECT generate_series(1, 2000)"));
    }
    let spec = scene.spec().line("snapshot: {parallel: 2}");
    let spec = spec.line("throttle: {snapshot: {rows: 1000}}");
    let mut run = scene.run(&spec, &[]);
    run.await_log("snapshot begins", CATCH_UP_MAX);
    // Those that nobody has come to: they read empty in the snapshot now.
    sql.run("TRUNCATE c, d; INSERT INTO c VALUES (1); INSERT INTO d VALUES (1)");
    run.await_log("holding its tables against TRUNCATE", CATCH_UP_MAX);
    let held = "SELECT count(DISTINCT relation) FROM pg_locks WHERE mode = 'AccessShareLock' \
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                AND relation::regclass::text IN ('a', 'b', 'c', 'd')";
    await_true("all tables held", CATCH_UP_MAX, || sql.value(held) == "4");
    let truncating = ["a", "b", "c", "d"].map(|table| {
        let mut sql = scene.sql();
        std::thread::spawn(move || sql.run(&format!("TRUNCATE {table}")))
    });
    run.await_log("snapshot is durable", CATCH_UP_MAX);
    for one in truncating {
        one.join().expect("the table is free again");
    }
    assert_eq!(run.log().matches("trying again").count(), 1, "{}", run.log());
    run.interrupt(CATCH_UP_MAX).expect(0);
    scene.catch_up(&spec);
    scene.check(Promises::default());
}

/// Kinds of the slots of a database, by name, after `distributary slots`.
fn kinds(scene: &Scene, spec: &Spec, options: &[&str]) -> BTreeMap<String, (String, bool)> {
    let path = spec.write(scene.folder());
    let path = path.to_str().expect("UTF-8");
    let words = [&["slots", "-o", "json", "--source", path], options].concat();
    let ended = Distributary::start(scene.folder(), &words).wait(CATCH_UP_MAX);
    let list: Value = serde_json::from_str(&ended.expect(0).stdout).expect("JSON");
    let slots = list["slots"].as_array().expect("a list").iter();
    let text = |slot: &Value, key: &str| slot[key].as_str().expect("a text").to_owned();
    slots
        .filter(|slot| text(slot, "database") == scene.name)
        .map(|slot| (text(slot, "slot"), (text(slot, "kind"), slot["dropped"] == true)))
        .collect()
}

#[test]
fn slots_say_whose_they_are_and_only_orphans_are_dropped() {
    let mut ground = Ground::new("postgres-15", false, KEPT);
    let (slot, foreign) = (ground.scene.slot(), format!("{}_else", ground.scene.slot()));
    let mut sql = ground.scene.superuser();
    sql.run(&format!("SELECT pg_create_logical_replication_slot('{foreign}', 'pgoutput')"));
    let comment = format!(
        "SELECT count(*) FROM pg_publication WHERE pubname = '{slot}' \
         AND obj_description(oid, 'pg_publication') LIKE 'Distributary: %'"
    );
    await_true("the owner's record", CATCH_UP_MAX, || sql.value(&comment) == "1");
    let said = |kind: &str, dropped: bool| (kind.to_owned(), dropped);
    let expected = |own: (String, bool)| {
        BTreeMap::from([(slot.clone(), own), (foreign.clone(), said("foreign", false))])
    };
    let drop_orphans = &["--drop-orphans"];
    // In use, then kept for its task.
    assert_eq!(kinds(&ground.scene, &ground.spec, drop_orphans), expected(said("task", false)));
    ground.run.take().expect("it runs").interrupt(CATCH_UP_MAX).expect(0);
    assert_eq!(kinds(&ground.scene, &ground.spec, drop_orphans), expected(said("task", false)));
    // Without its internal topics nobody can go on.
    let state = format!("{}.{}.", tests::task::STATE_PREFIX, ground.scene.name);
    tests::topics::delete(&ground.scene.kafka, |topic| topic.starts_with(&state));
    // Brokers show a topic for a moment that is being deleted.
    await_true("an orphan", CATCH_UP_MAX, || {
        kinds(&ground.scene, &ground.spec, &[]) == expected(said("orphan", false))
    });
    assert_eq!(kinds(&ground.scene, &ground.spec, drop_orphans), expected(said("orphan", true)));
    assert_eq!(ground.scene.slots(), [foreign]);
    let publications = format!("SELECT count(*) FROM pg_publication WHERE pubname = '{slot}'");
    assert_eq!(sql.value(&publications), "0");
}

const PLAIN: &str =
    "CREATE TABLE plain (id int PRIMARY KEY, n int); INSERT INTO plain VALUES (1, 1)";
const WITH_TEXT: &str = "the stream begins again with text";

#[test]
fn a_type_without_a_decoder_takes_the_stream_back_to_text_and_loses_nothing() {
    let mut ground = Ground::new("postgres-18", false, PLAIN);
    let mut sql = ground.scene.sql();
    // The first one arrives in a form that nobody here reads, the second the server cannot send in binary form at all.
    for (id, type_, value) in [(10, "regtype", "integer"), (20, "aclitem[]", "{=r/postgres}")] {
        let run = ground.run.as_mut().expect("it runs");
        run.await_log("wire=\"binary\"", CATCH_UP_MAX);
        sql.run(&format!(
            "BEGIN; INSERT INTO plain (id, n) VALUES ({id}, 1); ALTER TABLE plain ADD v {type_}; \
             INSERT INTO plain VALUES ({id} + 1, 2, '{value}'); UPDATE plain SET n = 3 WHERE id = {id}; \
             COMMIT; INSERT INTO plain VALUES ({id} + 2, 4, NULL); UPDATE plain SET n = n + 1"
        ));
        run.await_log(WITH_TEXT, CATCH_UP_MAX);
        run.await_log("wire=\"text\"", CATCH_UP_MAX);
        ground.await_rows("public.plain");
        ground.finish(&["public.plain"]);
        sql.run("ALTER TABLE plain DROP COLUMN v");
        ground.run = Some(ground.scene.run(&ground.spec, &[]));
    }
    let topic = format!("{}.public.plain", ground.scene.name);
    let update_of_all = 4 + 7;
    assert_eq!(ground.scene.topics().of(&topic).count(), 1 + 2 * 4 + update_of_all);
    sql.run("ALTER TABLE plain ADD v regtype");
    ground.finish(&[]);
    let log = ground.scene.run(&ground.spec, &["--until-caught-up"]).wait(CATCH_UP_MAX);
    let log = &log.expect(0).stderr;
    assert!(
        !log.contains(WITH_TEXT) && log.contains("column public.plain.v: type `regtype`"),
        "{log}"
    );
}

#[test]
fn where_only_binary_values_are_wanted_a_type_without_a_decoder_parks_the_task() {
    let scene = Scene::new("tables", "postgres-15");
    scene.sql().run(PLAIN);
    scene.sql().run("ALTER TABLE plain ADD v regtype");
    let spec = scene.spec().source("wire: binary");
    let refused = scene.run(&spec, &[]).wait(CATCH_UP_MAX);
    let words = ["column public.plain.v", "regtype", "`source.wire` to auto or text"];
    let says = |log: &str| words.iter().all(|word| log.contains(word));
    assert!(says(&refused.expect(1).stderr), "{}", refused.stderr);
    scene.sql().run("ALTER TABLE plain DROP COLUMN v");
    let mut run = scene.run(&spec, &[]);
    run.await_log("wire=\"binary\"", CATCH_UP_MAX);
    scene.sql().run("ALTER TABLE plain ADD v regtype; INSERT INTO plain VALUES (2, 2, 'text')");
    let parked = run.wait(CATCH_UP_MAX);
    let log = &parked.expect(1).stderr;
    assert!(log.contains("`source.wire` to auto or text") && log.contains("regtype"), "{log}");
    // Nothing of it was confirmed.
    scene.catch_up(&scene.spec());
    let topics = scene.topics();
    assert_eq!(topics.of(&format!("{}.public.plain", scene.name)).count(), 2);
}
