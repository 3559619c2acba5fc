//! Reading tables in an exported snapshot.

use crate::ground::{Ground, servers};
use futures_util::TryStreamExt;
use postgres::Error;
use postgres::snapshot::{Readable, SnapshotReader};
use tests::sql::{PASSWORD, Sql};
use wal::Table;

/// A transaction that exports its snapshot and stays open.
struct Exporter {
    _sql: Sql,
    snapshot: String,
}

impl Exporter {
    fn new(ground: &Ground) -> Self {
        let mut sql = Sql::connect_as(&ground.server, &ground.name, "distributary", Some(PASSWORD));
        sql.run("BEGIN ISOLATION LEVEL REPEATABLE READ");
        let snapshot = sql.value("SELECT pg_export_snapshot()");
        Self { _sql: sql, snapshot }
    }

    fn reader(&self, ground: &Ground) -> SnapshotReader {
        let settings = ground.settings(&ground.spec());
        ground.wait(SnapshotReader::open(&settings, &self.snapshot)).expect("a reader")
    }
}

fn readable(ground: &mut Ground, name: &str, only: bool) -> Readable {
    Readable {
        oid: ground.oid(&format!("\"{name}\"")),
        schema: "public".into(),
        name: name.into(),
        only,
    }
}

fn table(ground: &Ground, readable: &Readable) -> Table {
    let session = ground.session();
    ground.wait(session.table(readable.oid)).expect("a table")
}

/// All lines of the table.
fn read(
    ground: &Ground,
    reader: &mut SnapshotReader,
    table: &Table,
    readable: &Readable,
) -> Result<Vec<String>, Error> {
    ground.wait(async {
        let rows: Vec<_> = reader.read(table, readable, None).await?.try_collect().await?;
        let lines = rows.iter().flat_map(|rows| rows.split_inclusive(|&byte| byte == b'\n'));
        Ok(lines.map(|line| String::from_utf8(line.to_vec()).expect("text")).collect())
    })
}

#[test]
fn rows_are_those_of_the_snapshot_in_the_order_of_the_columns() {
    for server in servers() {
        let mut ground = Ground::new("rows", server);
        ground.sql.run(
            "CREATE TABLE \"T \"\"t\" (gone int, id int PRIMARY KEY, \"Wert ä\" text, b bytea, f \
             float8); \
             ALTER TABLE \"T \"\"t\" DROP gone; \
             INSERT INTO \"T \"\"t\" VALUES (1, E'tab\\t\\\\ and\\nline', '\\x00ff', 0.5), (2, \
             NULL, '', 'NaN'); \
             CREATE TABLE parent (id int); CREATE TABLE heir () INHERITS (parent); \
             INSERT INTO parent VALUES (1); INSERT INTO heir VALUES (2); \
             CREATE TABLE bare (); INSERT INTO bare DEFAULT VALUES; INSERT INTO bare DEFAULT \
             VALUES; \
             CREATE TABLE big AS SELECT repeat('x', 30000000) AS x",
        );
        let exporter = Exporter::new(&ground);
        ground.sql.run(
            "DELETE FROM \"T \"\"t\"; INSERT INTO \"T \"\"t\" VALUES (3); INSERT INTO \
                        parent VALUES (9)",
        );
        let mut reader = exporter.reader(&ground);
        let odd = Readable { name: "T \"t".into(), ..readable(&mut ground, "T \"\"t", true) };
        let columns = table(&ground, &odd);
        let lines = read(&ground, &mut reader, &columns, &odd).unwrap();
        let expected = ["1\ttab\\t\\\\ and\\nline\t\\\\x00ff\t0.5\n", "2\t\\N\t\\\\x\tNaN\n"];
        assert_eq!(lines, expected, "{server}");
        for (only, expected) in [(true, &["1\n"][..]), (false, &["1\n", "2\n"])] {
            let parent = readable(&mut ground, "parent", only);
            let columns = table(&ground, &parent);
            let mut lines = read(&ground, &mut reader, &columns, &parent).unwrap();
            lines.sort();
            assert_eq!(lines, expected, "{server}");
        }
        let bare = readable(&mut ground, "bare", true);
        let columns = table(&ground, &bare);
        assert_eq!(read(&ground, &mut reader, &columns, &bare).unwrap(), ["\n", "\n"]);
        let big = readable(&mut ground, "big", true);
        let columns = table(&ground, &big);
        let lines = read(&ground, &mut reader, &columns, &big).unwrap();
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [30_000_001]);
    }
}

/// Tables of which most will not be the same when they are read.
const BEFORE: &str = "CREATE TABLE truncated (id int); CREATE TABLE altered (id int); CREATE TABLE \
                      plain (id int); \
    CREATE TABLE dropped (id int); CREATE TABLE replaced (id int); CREATE TABLE renamed \
    (id int); \
    CREATE TABLE unused (id int); \
    CREATE TABLE whole (id int) PARTITION BY RANGE (id); \
    CREATE TABLE leaf_1 PARTITION OF whole FOR VALUES FROM (0) TO (10); \
    CREATE TABLE leaf_2 PARTITION OF whole FOR VALUES FROM (10) TO (20); \
    CREATE TABLE leaf_3 PARTITION OF whole FOR VALUES FROM (20) TO (30); \
    INSERT INTO truncated VALUES (1); INSERT INTO altered VALUES (1); INSERT INTO plain \
    VALUES (1); \
    INSERT INTO whole VALUES (1), (11), (21)";

#[test]
fn a_table_that_was_rewritten_since_is_noticed() {
    for server in servers() {
        let mut ground = Ground::new("rewritten", server);
        let tables =
            ["truncated", "altered", "plain", "whole", "dropped", "replaced", "renamed", "unused"];
        ground.sql.run(BEFORE);
        let exporter = Exporter::new(&ground);
        let targets: Vec<(Readable, Table)> = tables
            .iter()
            .map(|name| {
                let readable = readable(&mut ground, name, *name != "whole");
                let table = table(&ground, &readable);
                (readable, table)
            })
            .collect();
        let mut reader = exporter.reader(&ground);
        ground.sql.run(
            "TRUNCATE truncated; ALTER TABLE altered ALTER id TYPE bigint; \
             ALTER TABLE plain ADD later int DEFAULT 5; DROP TABLE dropped; \
             DROP TABLE replaced; CREATE TABLE replaced (id int); \
             ALTER TABLE renamed RENAME id TO number; CREATE TABLE young (id int); INSERT INTO \
             young VALUES (1)",
        );
        let mut outcomes = Vec::new();
        for (readable, table) in &targets {
            let outcome = match read(&ground, &mut reader, table, readable) {
                Ok(lines) => format!("{} rows", lines.len()),
                Err(Error::TableRewritten { table }) => format!("rewritten {table}"),
                Err(Error::TableMissing { table }) => format!("missing {table}"),
                Err(error) => panic!("{} on {server}: {error}", readable.name),
            };
            outcomes.push(outcome);
        }
        let expected = [
            "rewritten public.truncated",
            "rewritten public.altered",
            "1 rows",
            "3 rows",
            "missing public.dropped",
            "missing public.replaced",
            "rewritten public.renamed",
            "0 rows",
        ];
        assert_eq!(outcomes, expected, "{server}");
        let young = readable(&mut ground, "young", true);
        let columns = table(&ground, &young);
        let error = read(&ground, &mut reader, &columns, &young).unwrap_err();
        assert!(matches!(error, Error::TableMissing { .. }), "made after the snapshot: {error}");

        // Of a partition tree, each leaf counts.
        let (whole, columns) = &targets[3];
        ground.sql.run("DROP TABLE leaf_3");
        assert_eq!(read(&ground, &mut reader, columns, whole).unwrap().len(), 2);
        // The reader has read the tree: it does not hold it any more once it reads something else.
        let (plain, plain_columns) = &targets[2];
        read(&ground, &mut reader, plain_columns, plain).unwrap();
        ground.sql.run("SET lock_timeout = '5s'; TRUNCATE leaf_2");
        let error = read(&ground, &mut reader, columns, whole).unwrap_err();
        assert!(
            matches!(&error, Error::TableRewritten { table } if table == "public.leaf_2"),
            "{error}"
        );
    }
}

#[test]
fn readers_share_a_snapshot_and_an_early_end_does_no_harm() {
    let mut ground = Ground::new("shared", "postgres-15");
    ground.sql.run(
        "CREATE TABLE a AS SELECT i AS id, repeat('x', 200) AS x FROM generate_series(1, 50000) AS \
         i; \
         CREATE TABLE b (id int); INSERT INTO b VALUES (1)",
    );
    let exporter = Exporter::new(&ground);
    ground.sql.run("INSERT INTO b VALUES (2)");
    let (mut one, mut two) = (exporter.reader(&ground), exporter.reader(&ground));
    let (a, b) = (readable(&mut ground, "a", true), readable(&mut ground, "b", true));
    let (a_columns, b_columns) = (table(&ground, &a), table(&ground, &b));
    ground.wait(async {
        let mut rows = std::pin::pin!(one.read(&a_columns, &a, None).await.unwrap());
        assert!(rows.try_next().await.unwrap().is_some());
    });
    assert_eq!(read(&ground, &mut one, &b_columns, &b).unwrap(), ["1\n"]);
    assert_eq!(read(&ground, &mut two, &b_columns, &b).unwrap(), ["1\n"]);
    assert_eq!(read(&ground, &mut two, &a_columns, &a).unwrap().len(), 50_000);
}

#[test]
fn a_snapshot_that_is_gone_and_a_table_that_may_not_be_read_are_refused() {
    for server in servers() {
        let mut ground = Ground::new("gone", server);
        ground.admin.run(
            "CREATE TABLE theirs (id int); CREATE TABLE ours (id int); GRANT SELECT \
                          ON ours TO PUBLIC",
        );
        let exporter = Exporter::new(&ground);
        let mut reader = exporter.reader(&ground);
        let theirs = readable(&mut ground, "theirs", true);
        let columns = table(&ground, &theirs);
        let error = read(&ground, &mut reader, &columns, &theirs).unwrap_err();
        assert!(matches!(error, Error::NotAuthorized { .. }), "{error}");
        let ours = readable(&mut ground, "ours", true);
        let columns = table(&ground, &ours);
        assert_eq!(
            read(&ground, &mut reader, &columns, &ours).unwrap(),
            [""; 0],
            "reading is enough"
        );
        let snapshot = exporter.snapshot.clone();
        drop(exporter);
        drop(reader);
        let settings = ground.settings(&ground.spec());
        for name in [&*snapshot, "'; DROP TABLE ours; --"] {
            assert!(
                ground.wait(SnapshotReader::open(&settings, name)).is_err(),
                "{name} on {server}"
            );
        }
        ground.oid("ours");
    }
}
