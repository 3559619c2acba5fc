//! Debezium's own PostgreSQL connector beside ours on the same WAL.

use crate::differences::{Differences, LOSSLESS, STRICT, Table};
use std::time::Duration;
use tests::java::Connect;
use tests::reader::count;
use tests::scene::Scene;
use tests::seed::full;
use tests::sql::{PASSWORD, ROLE};
use tests::task::Spec;
use tests::workload::{self, Pace, Workload};

/// A worker starts, finds its plugins, takes its snapshot and follows the stream.
const WRITTEN_MAX: Duration = Duration::from_secs(180);

/// Types that the table of the workload lacks, of extensions that come with the server.
const EXTENSIONS: &str = "CREATE EXTENSION hstore; CREATE EXTENSION ltree; CREATE EXTENSION citext; \
     CREATE TABLE shop.extended (id int PRIMARY KEY, a_hstore hstore, a_ltree ltree, a_citext citext, \
     a_citexts citext[]); \
     INSERT INTO shop.extended VALUES (1, '\"a\"=>\"1\", b=>NULL', 'Top.a', 'Ab', '{Ab,NULL}')";
/// Types of PostGIS and of orafce, which only a superuser may bring. At orafce's own `date` Debezium's connector stops.
const FOREIGN: &str = "CREATE EXTENSION postgis; CREATE EXTENSION orafce";
const LOCATED: &str = "CREATE TABLE shop.located (id int PRIMARY KEY, a_geometry geometry, a_geography geography, \
     a_geometries geometry[], a_box2d box2d, a_varchar2 oracle.varchar2(9), a_nvarchar2 oracle.nvarchar2(9)); \
     INSERT INTO shop.located VALUES (1, 'POINT(1 2.5)', 'POLYGON((0 0,1 0,1 1,0 0))', \
     ARRAY['SRID=3857;POINT Z (1 2 3)'::geometry, NULL, 'LINESTRING EMPTY'], 'BOX(0 0,1 2)', 'größe', 'b'), \
     (2, NULL, NULL, NULL, NULL, NULL, NULL)";
/// Keys, defaults and NOT NULL, old rows by key and in full.
const TABLES: &str = "CREATE TABLE shop.plain (id bigint PRIMARY KEY, note text NOT NULL DEFAULT 'none', \
     total numeric(12,2) DEFAULT 1.5, at timestamptz DEFAULT now(), flag bool NOT NULL DEFAULT false, \
     big text, n int NOT NULL DEFAULT 7); ALTER TABLE shop.plain ALTER big SET STORAGE EXTERNAL; \
     CREATE TABLE shop.whole (LIKE shop.plain INCLUDING ALL); \
     ALTER TABLE shop.whole REPLICA IDENTITY FULL; \
     CREATE TABLE shop.keyless (a int, b text); ALTER TABLE shop.keyless REPLICA IDENTITY FULL; \
     INSERT INTO shop.plain (id, big) VALUES (1, repeat('x', 3000)); \
     INSERT INTO shop.whole (id, big) VALUES (1, repeat('x', 3000)); \
     INSERT INTO shop.keyless VALUES (1, 'a'), (1, 'a')";
const CHANGES: &[&str] = &[
    "UPDATE shop.kinds SET id = id + 1000 WHERE id = 0",
    "UPDATE shop.kinds SET a_bool = NOT a_bool",
    "UPDATE shop.extended SET a_citext = 'aB'",
    "UPDATE shop.located SET a_varchar2 = 'other'",
    "BEGIN; INSERT INTO shop.plain (id) VALUES (2), (3); INSERT INTO shop.whole (id) VALUES (2), (3); COMMIT",
    "UPDATE shop.plain SET note = 'changed' WHERE id = 1",
    "UPDATE shop.whole SET note = 'changed' WHERE id = 1",
    "UPDATE shop.plain SET id = 20 WHERE id = 2",
    "UPDATE shop.whole SET id = 20 WHERE id = 2",
    "UPDATE shop.plain SET id = 10 WHERE id = 1",
    "DELETE FROM shop.plain WHERE id = 3",
    "DELETE FROM shop.whole WHERE id = 3",
    "UPDATE shop.keyless SET b = 'b'",
    "DELETE FROM shop.keyless",
    "ALTER TABLE shop.plain ADD COLUMN more int",
    "INSERT INTO shop.plain (id, more) VALUES (4, 4)",
    "BEGIN; INSERT INTO shop.plain (id) VALUES (5); SAVEPOINT s; DELETE FROM shop.plain WHERE id = 4; \
     ROLLBACK TO s; COMMIT",
    "TRUNCATE shop.whole, shop.keyless",
];
const COMPARED: &[&str] = &["kinds", "extended", "located", "plain", "whole", "keyless"];
/// Tables of the random workload that have a topic in both, and are not partitioned.
const BUSY: &[&str] = &["orders", "lines", "events", "stock", "documents", "scratch_b"];
const SEED: u64 = 20;
/// Transactions of the random workload.
const SHORT: u64 = 60;
const LONG: u64 = 2000;

/// Settings of Debezium's connector on the database of a scene, where its slot and publication have this name.
pub(crate) fn connector(scene: &Scene, prefix: &str, name: &str, tables: &[String]) -> String {
    let (host, port) = scene.postgres.host_and_port();
    format!(
        "connector.class=io.debezium.connector.postgresql.PostgresConnector\n\
         database.hostname={host}\n\
         database.port={port}\n\
         database.user={ROLE}\n\
         database.password={PASSWORD}\n\
         database.dbname={}\n\
         topic.prefix={prefix}\n\
         plugin.name=pgoutput\n\
         slot.name=theirs_{}_{name}\n\
         publication.name=theirs_{name}\n\
         publication.autocreate.mode=filtered\n\
         table.include.list={},shop.last\n\
         skipped.operations=none\n\
         poll.interval.ms=10\n\
         topic.creation.default.replication.factor=1\n\
         topic.creation.default.partitions=1\n",
        scene.name,
        scene.name,
        tables.join(","),
    )
}

/// A task of ours with these `format_options`, whose records say that they are of the connector's prefix.
pub(crate) fn ours(
    scene: &Scene,
    name: &str,
    prefix: &str,
    options: &str,
    objects: &[String],
) -> Spec {
    let name = format!("{}_{name}", scene.name);
    let objects: Vec<_> = objects.iter().map(String::as_str).collect();
    Spec::new(&name, &scene.postgres, &scene.name, &scene.kafka)
        // The helper objects of one task would be transactions to the other.
        .source("ddl: off")
        .sink("partitions: 1")
        .sink(&format!("topic_prefix: {prefix}"))
        .sink(&format!("format_options: {{schemas: true, {options}}}"))
        // What the schema has no room for.
        .sink("unrepresentable: \"null\"")
        .objects(&objects)
}

/// Waits until so many connectors stream from the database of the scene. While one takes its snapshot it has its slot already, and
/// would find a table empty that is truncated then.
pub(crate) fn await_streams(connect: &mut Connect, scene: &Scene, connectors: usize) {
    let streams = "SELECT count(*) FROM pg_stat_replication r JOIN pg_replication_slots s ON s.active_pid = r.pid \
         WHERE s.database = current_database() AND s.slot_name LIKE 'theirs%' \
         AND r.state = 'streaming'";
    let (mut superuser, all) = (scene.superuser(), connectors.to_string());
    connect.await_true("Debezium's streams", WRITTEN_MAX, || superuser.value(streams) == all);
}

/// Waits until Debezium's topic has as many records as ours: what it has sent may still be on its way.
pub(crate) fn await_records(connect: &mut Connect, scene: &Scene, [theirs, ours]: [&str; 2]) {
    let ours = count(&scene.kafka, ours);
    let what = format!("Debezium's records in {theirs}");
    connect.await_true(&what, WRITTEN_MAX, || ours <= count(&scene.kafka, theirs));
}

#[test]
fn debeziums_connector_writes_the_same_records_but_for_what_is_listed() {
    let scene = Scene::new("beside", "postgres-15");
    let mut sql = scene.sql();
    workload::create(&mut sql);
    scene.postgres.order("extend");
    scene.superuser().run(FOREIGN);
    [EXTENSIONS, LOCATED, TABLES, "CREATE TABLE shop.last (id int PRIMARY KEY)"]
        .iter()
        .for_each(|statements| sql.run(statements));
    let prefix = format!("{}_theirs", scene.name);
    let compared: Vec<_> =
        COMPARED.iter().chain(BUSY).map(|table| format!("shop.{table}")).collect();
    let objects: Vec<_> = compared.iter().map(|table| format!("{{table: {table}}}")).collect();
    let ours = |name: &str, options: &str| ours(&scene, name, &prefix, options, &objects);
    let specs = [ours(LOSSLESS, ""), ours(STRICT, "compat: strict")];
    specs.iter().for_each(|spec| drop(scene.catch_up(spec)));

    let connector = connector(&scene, &prefix, "all", &compared);
    let mut connect = Connect::start(scene.folder(), &scene.kafka, &[("theirs", connector)]);
    await_streams(&mut connect, &scene, 1);
    CHANGES.iter().for_each(|statements| sql.run(statements));
    specs.iter().for_each(|spec| drop(scene.catch_up(spec)));
    // The workload changes the table of many types, too, to values of which the table of differences has no list.
    let topic = |spec: &Spec| format!("{}.shop.kinds", spec.task());
    let kinds = usize::try_from(count(&scene.kafka, &topic(&specs[0]))).expect("a count");
    let workload = Workload::start(&scene, SEED, Pace::default());
    workload.await_committed(if full() { LONG } else { SHORT });
    workload.stop();
    sql.run("INSERT INTO shop.last VALUES (1)");
    let last = format!("{prefix}.shop.last");
    connect.await_true("Debezium's last record", WRITTEN_MAX, || count(&scene.kafka, &last) == 1);
    specs.iter().for_each(|spec| drop(scene.catch_up(spec)));
    let topics = |spec: &Spec, table: &str| {
        [format!("{prefix}.{table}"), format!("{}.{table}", spec.task())]
    };
    for table in &compared {
        let [theirs, ours] = topics(&specs[0], table);
        await_records(&mut connect, &scene, [&theirs, &ours]);
    }
    connect.stop();

    let mut differences = Differences::default();
    for (spec, mode) in specs.iter().zip([LOSSLESS, STRICT]) {
        for table in &compared {
            let [theirs, ours] = topics(spec, table);
            let most = if table == "shop.kinds" { kinds } else { usize::MAX };
            differences.of_topics(mode, &scene.kafka, [&theirs, &ours], most);
        }
    }
    differences.assert_documented(Table::DEFAULTS);
}
