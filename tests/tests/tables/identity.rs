//! No table is published before its users can go on updating it (design.md, server facts 10 and 16): by a task that sets replica
//! identities, by one that keeps them, and by `tail`; also a partition that comes to a published tree.

use crate::Ground;
use std::path::Path;
use std::time::{Duration, Instant};
use tests::deadline::await_true;
use tests::process::Distributary;
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::sql::Sql;
use tests::task::Spec;

/// Major version that brought generated columns which are not stored.
const VIRTUAL_SINCE: u32 = 18;

/// Tables that users update and that none may publish as they are.
const UNFIT: &str = "CREATE TABLE bare (id int, n int); INSERT INTO bare VALUES (1, 1); \
    CREATE TABLE nothing (id int PRIMARY KEY, n int); INSERT INTO nothing VALUES (1, 1); \
    ALTER TABLE nothing REPLICA IDENTITY NOTHING; \
    CREATE TABLE late (id int PRIMARY KEY DEFERRABLE, n int); INSERT INTO late VALUES (1, 1); \
    CREATE TABLE grown (id int, n int) PARTITION BY RANGE (id); \
    CREATE TABLE grown_1 PARTITION OF grown FOR VALUES FROM (0) TO (10); INSERT INTO grown VALUES (1, 1)";
const VIRTUAL: &str = "CREATE TABLE shown (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) VIRTUAL); \
    ALTER TABLE shown REPLICA IDENTITY FULL; INSERT INTO shown VALUES (1, 1)";

/// What users do, which must not fail.
fn update(sql: &mut Sql) {
    let mut tables = vec!["bare", "nothing", "late", "grown", "kept"];
    if VIRTUAL_SINCE <= sql.version() {
        tables.push("shown");
    }
    for table in tables {
        sql.run(&format!("UPDATE {table} SET n = n + 1; INSERT INTO {table} VALUES (2, 2); DELETE FROM {table} WHERE id = 2"));
    }
}

/// `keyed`: they get a key with which they could be published, and lose what is made of it in the same breath.
fn make(sql: &mut Sql, keyed: bool) {
    let of = |text: &str| match keyed {
        true => text.to_owned(),
        false => text.replace("id int PRIMARY KEY,", "id int,"),
    };
    sql.run(&of(UNFIT));
    if VIRTUAL_SINCE <= sql.version() {
        sql.run(&of(VIRTUAL));
    }
}

/// Its temporary slot, and its publication.
fn name_of(scene: &Scene, tail: &Distributary) -> String {
    format!("{}_tail_{}", scene.slot(), tail.id())
}

fn start_tail(scene: &Scene, spec: &Spec) -> Distributary {
    let path = spec.write(scene.folder());
    let mut tail = Distributary::start(scene.folder(), &[Path::new("tail"), &path]);
    let mut look = scene.superuser();
    let query = format!(
        "SELECT count(*) FROM pg_replication_slots WHERE active AND slot_name = '{}'",
        name_of(scene, &tail)
    );
    await_true("the slot of tail", CATCH_UP_MAX, || {
        assert!(!tail.has_ended(), "ended:\n{}", tail.log());
        look.value(&query) == "1"
    });
    tail
}

/// As a crash would. Its temporary slot, by which others know that a tail runs, goes once the server has noticed.
fn kill_tail(scene: &Scene, tail: Distributary) {
    let slot = name_of(scene, &tail);
    tail.kill();
    let query = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}'");
    let mut look = scene.superuser();
    await_true("that the server notices the end of a tail", CATCH_UP_MAX, || {
        look.value(&query) == "0"
    });
}

/// Publications of tails.
fn of_tails(scene: &Scene) -> Vec<String> {
    let query = "SELECT pubname FROM pg_publication WHERE pubname ~ '_tail_[0-9]+$' ORDER BY 1";
    scene.superuser().rows(query).into_iter().flatten().flatten().collect()
}

/// Also where it was killed, and what it left is dropped by whoever comes next.
fn tail(server: &str) {
    let scene = Scene::new("tail", server);
    let (mut sql, spec) = (scene.sql(), scene.spec());
    make(&mut sql, true);
    sql.run("CREATE TABLE kept (id int PRIMARY KEY, n int); INSERT INTO kept VALUES (1, 1)");
    let first = start_tail(&scene, &spec);
    update(&mut sql);
    let log = first.log();
    let words =
        ["public.bare", "public.nothing", "public.late", "public.grown_1", "REPLICA IDENTITY"];
    assert!(words.iter().all(|word| log.contains(word)), "{log}");
    let name = |tail: &Distributary| name_of(&scene, tail);
    let left = name(&first);
    kill_tail(&scene, first);
    update(&mut sql);
    assert_eq!(of_tails(&scene), [left.as_str()]);
    // One that runs keeps its own.
    let second = start_tail(&scene, &spec);
    assert_eq!(of_tails(&scene), [name(&second)]);
    let third = start_tail(&scene, &spec);
    let mut both = [name(&second), name(&third)];
    both.sort();
    assert_eq!(of_tails(&scene), both);
    let left = name(&third);
    kill_tail(&scene, third);
    assert_eq!(second.interrupt(CATCH_UP_MAX).expect(0).code, Some(0));
    assert_eq!(of_tails(&scene), [left]);
    let path = spec.write(scene.folder());
    let words = ["slots", "--drop-orphans", "--source", path.to_str().expect("UTF-8")];
    Distributary::start(scene.folder(), &words).wait(CATCH_UP_MAX).expect(0);
    assert_eq!(of_tails(&scene), [""; 0]);
    kill_tail(&scene, start_tail(&scene, &spec));
    scene.catch_up(&spec.objects(&["{table: public.kept}"]));
    assert_eq!(of_tails(&scene), [""; 0], "a run drops it, too");
}

#[test]
fn a_tail_keeps_nobody_from_updating() {
    tail("postgres-18");
    tail("postgres-11");
}

/// `replica_identity: keep`: what comes without an identity waits until it has one.
fn kept(server: &str, is_super: bool) {
    let mut ground =
        Ground::with(server, is_super, crate::KEPT, |spec| spec.source("replica_identity: keep"));
    let mut sql = ground.scene.sql();
    // An event trigger publishes a table with its key at once; whoever takes that away then is told by the server.
    make(&mut sql, !is_super);
    let run = ground.run.as_mut().expect("it runs");
    run.await_log("public.bare", CATCH_UP_MAX);
    // The next look has them all.
    await_true("all that do not fit", CATCH_UP_MAX, || {
        let log = run.log();
        ["public.nothing", "public.late", "public.grown_1"].iter().all(|it| log.contains(it))
    });
    update(&mut sql);
    let published = format!(
        "SELECT count(*) FROM pg_publication_tables WHERE pubname = '{}' AND schemaname = 'public' \
         AND tablename <> 'kept'",
        ground.scene.slot()
    );
    assert_eq!(ground.scene.superuser().value(&published), "0");
    // In a new life of the front as well.
    run.signal(rustix::process::Signal::KILL);
    ground.run = None;
    let key = if is_super { "ADD PRIMARY KEY (id), " } else { "" };
    sql.run(&format!(
        "ALTER TABLE bare ADD PRIMARY KEY (id); ALTER TABLE grown_1 REPLICA IDENTITY FULL; \
         ALTER TABLE nothing {key}REPLICA IDENTITY DEFAULT; ALTER TABLE late REPLICA IDENTITY FULL"
    ));
    if VIRTUAL_SINCE <= sql.version() {
        sql.run(&format!("ALTER TABLE shown {key}REPLICA IDENTITY DEFAULT"));
    }
    let mut run = ground.scene.run(&ground.spec, &[]);
    ground.scene.await_streaming(&mut run);
    ground.run = Some(run);
    ground.await_rows("public.bare");
    sql.run("CREATE TABLE more (id int, n int); INSERT INTO more VALUES (1, 1)");
    ground.run.as_mut().expect("it runs").await_log("public.more", CATCH_UP_MAX);
    sql.run("UPDATE more SET n = 2; ALTER TABLE more ADD PRIMARY KEY (id)");
    ground.await_rows("public.more");
    ground.run.as_mut().expect("it runs").await_log("all tables fit again", CATCH_UP_MAX);
    sql.run("UPDATE more SET n = 3");
    ground.await_rows("public.more");
    ground.finish(&["public.kept", "public.bare", "public.nothing", "public.more"]);
}

#[test]
fn a_table_that_keeps_its_identity_waits_until_it_has_one() {
    kept("postgres-15", false);
    kept("postgres-18", true);
    kept("postgres-11", true);
}

/// Partitions without a key that come to a published tree: with event triggers their users meet nothing.
fn attached(server: &str, is_super: bool) {
    let mut ground = Ground::new(
        server,
        is_super,
        "CREATE TABLE tree (id int, n int) PARTITION BY RANGE (id); \
         CREATE TABLE tree_1 PARTITION OF tree FOR VALUES FROM (0) TO (10); \
         CREATE TABLE second (id int, n int); INSERT INTO second VALUES (11, 1); \
         CREATE TABLE third (id int, n int) PARTITION BY RANGE (id); \
         CREATE TABLE third_1 PARTITION OF third FOR VALUES FROM (20) TO (30); \
         ALTER TABLE second REPLICA IDENTITY NOTHING",
    );
    let mut sql = ground.scene.sql();
    // It is one of the task's, and comes with the identity that the task has given it.
    sql.run(
        "ALTER TABLE second REPLICA IDENTITY DEFAULT; ALTER TABLE third_1 REPLICA IDENTITY DEFAULT",
    );
    let attach = "ALTER TABLE tree ATTACH PARTITION second FOR VALUES FROM (10) TO (20); \
         ALTER TABLE tree ATTACH PARTITION third FOR VALUES FROM (20) TO (30); \
         CREATE TABLE tree_4 PARTITION OF tree FOR VALUES FROM (30) TO (40)";
    let begun = Instant::now();
    sql.run(&format!("BEGIN; {attach}; COMMIT"));
    if !is_super {
        let full = "SELECT count(*) FROM pg_class WHERE relname IN ('second', 'third_1', 'tree_4') AND relreplident = 'f'";
        let mut look = ground.scene.superuser();
        await_true("their identities", Duration::from_secs(4), || look.value(full) == "3");
    }
    sql.run("INSERT INTO tree VALUES (12, 1), (22, 1), (32, 1); UPDATE tree SET n = n + 1; DELETE FROM tree WHERE id = 12");
    let took = begun.elapsed();
    ground.await_published("public.tree");
    assert!(took < Duration::from_secs(5), "before the next look: {took:?}");
    let ids = || ground.rows("public.tree").into_keys().collect::<Vec<_>>();
    await_true("the rows", CATCH_UP_MAX, || ids() == [11, 22, 32]);
    ground.finish(&[]);
}

#[test]
fn partitions_that_are_attached_can_be_updated_at_once() {
    attached("postgres-15", true);
    attached("postgres-18", true);
    attached("postgres-15", false);
}
