//! Tables, their columns and keys, and what the stream says of them.

use crate::ground::{Ground, column, servers};
use postgres::Error;
use postgres::catalog::{Candidate, RelationKind};
use std::time::{Duration, Instant};
use tests::seed::full;
use wal::Table;
use wal::relation::{ColumnDescription, RelationDescription};
use wal::table::{Column, ReplicaIdentity};
use wal::types::Kind;

fn names(candidates: &[Candidate]) -> Vec<&str> {
    candidates.iter().map(|it| it.name.as_str()).collect()
}

#[track_caller]
fn find<'a>(candidates: &'a [Candidate], name: &str) -> &'a Candidate {
    candidates.iter().find(|it| it.name == name).unwrap_or_else(|| panic!("no candidate {name}"))
}

fn key(table: &Table) -> Vec<&str> {
    table.key.iter().map(|&index| &*table.columns[index].name).collect()
}

/// What the stream would say of the table as it is.
fn described(table: &Table) -> RelationDescription {
    let column = |it: &Column| ColumnDescription {
        name: it.name.clone(),
        type_oid: it.type_.oid,
        type_modifier: it.type_modifier,
        in_identity: it.in_identity,
    };
    RelationDescription {
        oid: table.oid,
        version: 7,
        schema: table.schema.clone(),
        name: table.name.clone(),
        identity: table.identity,
        columns: table.columns.iter().map(column).collect(),
        differences: Vec::new(),
    }
}

/// One of each kind.
const TABLES: &str = "\
    CREATE SCHEMA \"Odd \"\"Name\"; \
    CREATE TABLE \"Odd \"\"Name\".\"Tä.ble\" (id int PRIMARY KEY); \
    CREATE TABLE plain (n int); CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY); \
    CREATE TABLE late (id int PRIMARY KEY DEFERRABLE); \
    CREATE TABLE full_one (n int); ALTER TABLE full_one REPLICA IDENTITY FULL; \
    CREATE TABLE none_one (n int PRIMARY KEY); ALTER TABLE none_one REPLICA IDENTITY \
    NOTHING; \
    CREATE TABLE indexed (n int NOT NULL); CREATE UNIQUE INDEX indexed_n ON indexed (n); \
    ALTER TABLE indexed REPLICA IDENTITY USING INDEX indexed_n; \
    CREATE TEMP TABLE fleeting (id int); CREATE VIEW seen AS SELECT 1 AS one; \
    CREATE MATERIALIZED VIEW kept AS SELECT 1 AS one; \
    CREATE TABLE heir (m int) INHERITS (plain); \
    CREATE TABLE whole (id int, n int, PRIMARY KEY (id)) PARTITION BY RANGE (id); \
    CREATE TABLE part_1 PARTITION OF whole FOR VALUES FROM (0) TO (10); \
    CREATE TABLE part_2 PARTITION OF whole FOR VALUES FROM (10) TO (20) PARTITION BY \
    RANGE (id); \
    CREATE TABLE part_2_1 PARTITION OF part_2 FOR VALUES FROM (10) TO (20); \
    INSERT INTO whole SELECT i, i FROM generate_series(0, 19) AS i; \
    ANALYZE part_1; ANALYZE part_2_1";

#[test]
fn candidates_are_the_tables_of_users() {
    for server in servers() {
        let mut ground = Ground::new("candidates", server);
        ground.sql.run(TABLES);
        ground.admin.run(
            "CREATE TABLE foreign_owned (id int); CREATE TABLE of_extension (id int); \
             ALTER EXTENSION plpgsql ADD TABLE of_extension; \
             CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER nowhere FOREIGN DATA WRAPPER \
             nothing; \
             CREATE FOREIGN TABLE far (id int) SERVER nowhere",
        );
        let session = ground.session();
        let found = ground.wait(session.candidates()).unwrap();
        let expected = [
            "Tä.ble",
            "foreign_owned",
            "full_one",
            "heir",
            "indexed",
            "late",
            "none_one",
            "part_1",
            "part_2",
            "part_2_1",
            "plain",
            "unlogged",
            "whole",
        ];
        assert_eq!(names(&found), expected, "{server}");
        assert_eq!(found[0].schema, "Odd \"Name");

        let root = Some(("public".to_owned(), "whole".to_owned()));
        for (name, kind, parent) in [
            ("whole", RelationKind::Partitioned, None),
            ("part_1", RelationKind::Ordinary, root.clone()),
            ("part_2", RelationKind::Partitioned, root.clone()),
            ("part_2_1", RelationKind::Ordinary, root),
            ("heir", RelationKind::Ordinary, None),
        ] {
            let found = find(&found, name);
            assert_eq!((found.kind, &found.parent), (kind, &parent), "{name} on {server}");
        }
        assert_eq!(find(&found, "whole").rows_estimated, 20);
        assert_eq!(find(&found, "part_1").rows_estimated, 10);
        assert!(0 < find(&found, "whole").bytes);
        for (name, identity, has_key, usable) in [
            ("Tä.ble", ReplicaIdentity::Default, true, true),
            ("plain", ReplicaIdentity::Default, false, false),
            ("late", ReplicaIdentity::Default, true, false),
            ("full_one", ReplicaIdentity::Full, false, true),
            ("none_one", ReplicaIdentity::Nothing, true, false),
            ("indexed", ReplicaIdentity::Index, true, true),
        ] {
            let found = find(&found, name);
            let is = (found.identity, found.has_key, found.identity_usable);
            assert_eq!(is, (identity, has_key, usable), "{name} on {server}");
        }
        assert!(find(&found, "unlogged").unlogged && !find(&found, "unlogged").publishable);
        assert!(!find(&found, "foreign_owned").owner_is_us && find(&found, "plain").owner_is_us);
    }
}

#[test]
fn keys_are_those_that_tell_rows_apart() {
    for server in servers() {
        let mut ground = Ground::new("keys", server);
        ground.sql.run(
            "CREATE TABLE two (a int, b int, n int, PRIMARY KEY (b, a)); \
             CREATE TABLE late (id int PRIMARY KEY DEFERRABLE, n int); CREATE TABLE none (n int \
             UNIQUE); \
             CREATE TABLE indexed (a int NOT NULL, b int NOT NULL, c int, id int PRIMARY KEY); \
             CREATE UNIQUE INDEX indexed_ba ON indexed (b, a) INCLUDE (c); \
             ALTER TABLE indexed REPLICA IDENTITY USING INDEX indexed_ba; \
             CREATE TABLE whole (a int PRIMARY KEY, b int); ALTER TABLE whole REPLICA IDENTITY \
             FULL",
        );
        let session = ground.session();
        let flags = |table: &Table| -> Vec<String> {
            let flagged = table.columns.iter().filter(|it| it.in_identity);
            flagged.map(|it| it.name.to_string()).collect()
        };
        for (name, expected, flagged) in [
            ("two", &["b", "a"][..], &["a", "b"][..]),
            ("late", &["id"], &[]),
            ("none", &[], &[]),
            ("indexed", &["b", "a"], &["a", "b"]),
            ("whole", &["a"], &["a", "b"]),
        ] {
            let oid = ground.oid(name);
            let table = ground.wait(session.table(oid)).unwrap();
            assert_eq!(key(&table), expected, "{name} on {server}");
            assert_eq!(flags(&table), flagged, "{name} on {server}");
            let completed = ground.wait(session.complete(&described(&table))).unwrap();
            assert_eq!(completed, Table { version: 7, ..table }, "{name} on {server}");
        }
    }
}

#[test]
fn unique_indexes_are_those_of_whole_columns_and_all_rows() {
    for server in servers() {
        let mut ground = Ground::new("unique", server);
        ground.sql.run(
            "CREATE TABLE t (id int PRIMARY KEY, a int, b text UNIQUE DEFERRABLE, c int); \
             CREATE UNIQUE INDEX \"t \"\"x\"\"\" ON t (c, a) INCLUDE (b); \
             CREATE UNIQUE INDEX t_part ON t (a) WHERE c > 0; \
             CREATE UNIQUE INDEX t_expression ON t (lower(b), a); \
             CREATE INDEX t_any ON t (a); INSERT INTO t VALUES (1, 1), (2, 1)",
        );
        // It stays behind, invalid.
        assert!(ground.sql.attempt("CREATE UNIQUE INDEX CONCURRENTLY t_bad ON t (a)").is_err());
        let oid = ground.oid("t");
        let session = ground.session();
        let table = ground.wait(session.table(oid)).unwrap();
        let unique: Vec<(&str, &[usize])> =
            table.unique.iter().map(|it| (&*it.name, &*it.columns)).collect();
        let expected = [("t \"x\"", &[3, 1][..]), ("t_b_key", &[2]), ("t_pkey", &[0])];
        assert_eq!(unique, expected, "{server}");
        let completed = ground.wait(session.complete(&described(&table))).unwrap();
        assert_eq!(completed, Table { version: 7, ..table.clone() }, "{server}");
        ground.sql.run("DROP TABLE t");
        let gone = ground.wait(session.complete(&described(&table))).unwrap();
        assert_eq!(gone.unique, table.unique, "{server}");
    }
}

#[test]
fn columns_are_those_that_the_stream_has() {
    for server in servers() {
        let mut ground = Ground::new("columns", server);
        ground.sql.run(
            "CREATE DOMAIN must AS int NOT NULL; \
             CREATE TABLE t (gone int, id int PRIMARY KEY, \"Größe \"\"x\"\"\" text, m must, n \
             int); \
             ALTER TABLE t DROP COLUMN gone",
        );
        let mut expected = vec![("id", true), ("Größe \"x\"", false), ("m", true), ("n", false)];
        if 12 <= ground.version {
            ground.sql.run("ALTER TABLE t ADD stored int GENERATED ALWAYS AS (n * 2) STORED");
        }
        if 18 <= ground.version {
            expected.push(("stored", false));
            ground.sql.run(
                "ALTER TABLE t ADD computed int GENERATED ALWAYS AS (n * 3) VIRTUAL; INSERT INTO t \
                 VALUES (1, '', 1); \
                 ALTER TABLE t ADD CONSTRAINT later NOT NULL n NOT VALID",
            );
        }
        let oid = ground.oid("t");
        let session = ground.session();
        let table = ground.wait(session.table(oid)).unwrap();
        let columns: Vec<(&str, bool)> =
            table.columns.iter().map(|it| (&*it.name, it.not_null)).collect();
        assert_eq!(columns, expected, "{server}");
    }
}

#[test]
fn many_tables_are_read_at_once_and_a_missing_one_is_named() {
    let count = if full() { 10_000 } else { 1_000 };
    let mut ground = Ground::new("many", "postgres-15");
    // Each takes a place in the server's table of locks until its transaction ends.
    for first in (0..count).step_by(500) {
        ground.sql.run(&format!(
            "DO $$BEGIN FOR i IN {first}..{} LOOP \
             EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, n numeric(5,2) DEFAULT 1)', i); \
             END LOOP; END$$",
            first + 499
        ));
    }
    let session = ground.session();
    let begun = Instant::now();
    let found = ground.wait(session.candidates()).unwrap();
    assert_eq!(found.len(), count);
    // Far more than it takes: only there to notice what grows faster than the number of tables.
    assert!(begun.elapsed() < Duration::from_secs(30), "candidates took {:?}", begun.elapsed());
    let oids: Vec<u32> = found.iter().map(|it| it.oid).collect();
    let begun = Instant::now();
    let tables = ground.wait(session.tables(&oids)).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(60), "tables took {:?}", begun.elapsed());
    assert!(tables.iter().zip(&oids).all(|(table, oid)| table.oid == *oid));
    assert!(tables.iter().all(|table| table.columns[1].default.as_deref() == Some("1.00")));
    ground.sql.run("DROP TABLE t1");
    let error = ground.wait(session.tables(&oids)).unwrap_err();
    assert!(matches!(error, Error::TableMissing { .. }), "{error}");
}

#[test]
fn a_table_that_is_being_altered_is_not_waited_for() {
    let mut ground = Ground::new("altered", "postgres-18");
    ground.sql.run("CREATE TABLE t (id int PRIMARY KEY, n int DEFAULT 5)");
    let oid = ground.oid("t");
    let session = ground.session();
    ground.sql.run("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE");
    let found = ground.wait(session.candidates()).unwrap();
    assert_eq!(names(&found), ["t"]);
    // The default may be left out; the table may not.
    let table = ground.wait(session.table(oid)).unwrap();
    assert_eq!(key(&table), ["id"]);
    ground.sql.run("ROLLBACK");
}

#[test]
fn a_description_is_completed_whatever_happened_to_the_table() {
    for server in servers() {
        let mut ground = Ground::new("complete", server);
        ground.sql.run(
            "CREATE TYPE mood AS ENUM ('sad'); \
             CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL DEFAULT 3, m mood, gone text NOT \
             NULL); \
             ALTER TABLE t REPLICA IDENTITY FULL",
        );
        let oid = ground.oid("t");
        let session = ground.session();
        let table = ground.wait(session.table(oid)).unwrap();
        let description = described(&table);
        // The catalog is ahead of the stream.
        ground.sql.run(
            "ALTER TABLE t DROP gone, ADD later int, ALTER n TYPE bigint, ALTER n DROP NOT NULL",
        );
        let completed = ground.wait(session.complete(&description)).unwrap();
        assert_eq!(completed, Table { version: 7, ..table.clone() }, "{server}");
        // A session that has never seen the old columns.
        let other = ground.session();
        let completed = ground.wait(other.complete(&description)).unwrap();
        assert_eq!(key(&completed), ["id"]);
        assert_eq!(completed.columns.len(), 4);
        assert_eq!(column(&completed, "n").default, None);
        assert_eq!(column(&completed, "n").type_modifier, -1);
        assert!(!column(&completed, "gone").not_null);
        // The table and its type are gone.
        ground.sql.run("DROP TABLE t; DROP TYPE mood");
        let completed = ground.wait(session.complete(&description)).unwrap();
        assert_eq!(completed, Table { version: 7, ..table }, "{server}");
        let never_seen = ground.session();
        let completed = ground.wait(never_seen.complete(&description)).unwrap();
        assert_eq!(column(&completed, "m").type_.kind, Kind::Unknown);
        assert_eq!(completed.columns.len(), 4);
        let error = ground.wait(session.table(oid)).unwrap_err();
        assert!(matches!(error, Error::TableMissing { .. }), "{error}");
    }
}

#[test]
fn leaves_carry_the_name_of_their_root_where_the_server_cannot_publish_it() {
    for server in servers() {
        let mut ground = Ground::new("naming", server);
        ground.sql.run(
            "CREATE TABLE whole (id int PRIMARY KEY) PARTITION BY RANGE (id); \
             CREATE TABLE part PARTITION OF whole FOR VALUES FROM (0) TO (100) PARTITION BY RANGE \
             (id); \
             CREATE TABLE leaf PARTITION OF part FOR VALUES FROM (0) TO (100)",
        );
        let oid = ground.oid("leaf");
        let own = if ground.version < 13 { "whole" } else { "leaf" };
        let session = ground.session();
        let table = ground.wait(session.table(oid)).unwrap();
        assert_eq!((&*table.name, table.oid), (own, oid), "{server}");
        let mut description = described(&table);
        description.name = "leaf".into();
        let completed = ground.wait(session.complete(&description)).unwrap();
        assert_eq!((&*completed.name, completed.oid), (own, oid), "{server}");
        for spec in [
            ground.spec().source("partition_names: child"),
            ground.spec().objects(&["{table: public.leaf}"]),
        ] {
            let session = ground.session_of(&spec);
            let table = ground.wait(session.complete(&description)).unwrap();
            assert_eq!(&*table.name, "leaf", "{server}");
        }
        ground.sql.run("DROP TABLE leaf");
        let completed = ground.wait(session.complete(&description)).unwrap();
        assert_eq!(&*completed.name, own, "{server}");
    }
}
