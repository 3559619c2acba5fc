//! Tables, columns, types, keys, defaults.

use crate::ground::{Ground, servers};
use postgres::Error;
use postgres::catalog::{Candidate, RelationKind};
use std::time::{Duration, Instant};
use tests::seed::full;
use wal::Table;
use wal::relation::{ColumnDescription, RelationDescription};
use wal::table::{Column, ReplicaIdentity};
use wal::types::{Kind, Type};

fn names(candidates: &[Candidate]) -> Vec<&str> {
    candidates.iter().map(|it| it.name.as_str()).collect()
}

#[track_caller]
fn find<'a>(candidates: &'a [Candidate], name: &str) -> &'a Candidate {
    candidates.iter().find(|it| it.name == name).unwrap_or_else(|| panic!("no candidate {name}"))
}

fn column<'a>(table: &'a Table, name: &str) -> &'a Column {
    table.columns.iter().find(|it| &*it.name == name).unwrap_or_else(|| panic!("no column {name}"))
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

#[test]
fn candidates_are_the_tables_of_users() {
    for server in servers() {
        let mut ground = Ground::new("candidates", server);
        ground.sql.run(
            "CREATE SCHEMA \"Odd \"\"Name\"; CREATE TABLE \"Odd \"\"Name\".\"Tä.ble\" (id int \
             PRIMARY KEY); \
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
             ANALYZE part_1; ANALYZE part_2_1",
        );
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
fn types_are_resolved_to_the_ground() {
    for server in servers() {
        let mut ground = Ground::new("types", server);
        ground.sql.run(
            "CREATE TYPE mood AS ENUM ('sad', 'ok'); ALTER TYPE mood ADD VALUE 'meh' BEFORE 'ok'",
        );
        ground.sql.run(
            "CREATE DOMAIN short AS varchar(10); CREATE DOMAIN shorter AS short CHECK (VALUE <> \
             ''); \
             CREATE TYPE inner_one AS (m mood, d shorter); \
             CREATE TYPE outer_one AS (a int, i inner_one, l inner_one[], gone int); \
             ALTER TYPE outer_one DROP ATTRIBUTE gone; \
             CREATE TYPE span AS RANGE (SUBTYPE = numeric); CREATE DOMAIN numbers AS int[]; \
             CREATE TABLE t (i int, v varchar(7), n numeric(10,2), m mood, ms mood[], d shorter, o \
             outer_one, r span, b box[], iv int2vector, ds numbers, row_of_table inner_one)",
        );
        let oid = ground.oid("t");
        let session = ground.session();
        let table = ground.wait(session.table(oid)).unwrap();
        let type_ = |name| &*column(&table, name).type_;
        assert_eq!(*type_("i"), Type::builtin(23, "int4"));
        assert_eq!(column(&table, "v").type_modifier, 11);
        assert_eq!(column(&table, "n").type_modifier, (10 << 16 | 2) + 4);
        let Kind::Enum { labels } = &type_("m").kind else { panic!("{:?}", type_("m")) };
        assert_eq!(labels.iter().map(|it| &**it).collect::<Vec<_>>(), ["sad", "meh", "ok"]);
        assert_eq!((&*type_("m").schema, &*type_("m").name), ("public", "mood"));
        let Kind::Array { element, delimiter: b',' } = &type_("ms").kind else {
            panic!("{:?}", type_("ms"))
        };
        assert_eq!(**element, *type_("m"));
        let Kind::Domain { base, type_modifier: 14 } = &type_("d").kind else {
            panic!("{:?}", type_("d"))
        };
        assert_eq!(**base, Type::builtin(1043, "varchar"));
        let Kind::Composite { fields } = &type_("o").kind else { panic!("{:?}", type_("o")) };
        assert_eq!(fields.iter().map(|it| &*it.name).collect::<Vec<_>>(), ["a", "i", "l"]);
        let Kind::Composite { fields: inner } = &fields[1].type_.kind else { panic!("{fields:?}") };
        assert_eq!(*inner[0].type_, *type_("m"));
        assert!(matches!(fields[2].type_.kind, Kind::Array { .. }));
        let Kind::Range { subtype } = &type_("r").kind else { panic!("{:?}", type_("r")) };
        assert_eq!(**subtype, Type::builtin(1700, "numeric"));
        assert!(matches!(type_("b").kind, Kind::Array { delimiter: b';', .. }));
        assert_eq!(type_("iv").kind, Kind::Base, "its text is no array's");
        let Kind::Domain { base, .. } = &type_("ds").kind else { panic!("{:?}", type_("ds")) };
        assert!(matches!(base.kind, Kind::Array { .. }));

        // A label more, in the same session: the stream says nothing of it.
        ground.sql.run("ALTER TYPE mood ADD VALUE 'happy'");
        let again = ground.wait(session.table(oid)).unwrap();
        let Kind::Enum { labels } = &column(&again, "m").type_.kind else { panic!("{again:?}") };
        assert_eq!(labels.len(), 4);
        let types = ground.wait(session.types(&[4_000_000_000, 25])).unwrap();
        assert_eq!(*types[&4_000_000_000], Type::unknown(4_000_000_000));
        assert_eq!(*types[&25], Type::builtin(25, "text"));

        if 14 <= ground.version {
            ground.sql.run(
                "CREATE TABLE m (r int4multirange, s multirange_of_span)"
                    .replace("multirange_of_span", "span_multirange")
                    .as_str(),
            );
            let oid = ground.oid("m");
            let table = ground.wait(session.table(oid)).unwrap();
            for name in ["r", "s"] {
                let type_ = &column(&table, name).type_;
                let Kind::Multirange { range } = &type_.kind else { panic!("{type_:?}") };
                assert!(matches!(range.kind, Kind::Range { .. }));
            }
        }
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
fn constant_defaults_are_the_text_of_the_value() {
    let defaults = [
        ("text", "'it''s'", Some("it's")),
        ("text", "'back\\slash'", Some("back\\slash")),
        ("varchar(5)", "'abc'", Some("abc")),
        ("char(5)", "'abc'", Some("abc  ")),
        ("text", "'x'::varchar", Some("x")),
        ("int", "42", Some("42")),
        ("int", "-5", Some("-5")),
        ("bigint", "9223372036854775807", Some("9223372036854775807")),
        ("numeric", "1.50", Some("1.50")),
        ("numeric(10,2)", "0", Some("0.00")),
        ("numeric(10,2)", "-1.5", Some("-1.50")),
        ("float8", "1.0", Some("1")),
        ("float8", "'NaN'", Some("NaN")),
        ("real", "0.5", Some("0.5")),
        ("bool", "true", Some("t")),
        ("bool", "false", Some("f")),
        ("date", "'2020-02-29'", Some("2020-02-29")),
        ("timestamp(0)", "'2020-01-01 00:00:00'", Some("2020-01-01 00:00:00")),
        ("timestamptz", "'2020-01-01 00:00:00+02'", Some("2019-12-31 22:00:00+00")),
        ("interval", "'1 day'", Some("1 day")),
        ("bytea", "'\\x0102'", Some("\\x0102")),
        ("int[]", "'{1,2}'", Some("{1,2}")),
        ("numeric(5,1)[]", "'{1}'", Some("{1.0}")),
        ("bit(3)", "B'101'", Some("101")),
        ("jsonb", "'{\"a\": 1}'", Some("{\"a\": 1}")),
        ("inet", "'10.0.0.1'", Some("10.0.0.1")),
        (
            "uuid",
            "'00000000-0000-0000-0000-000000000001'",
            Some("00000000-0000-0000-0000-000000000001"),
        ),
        ("money", "'1.5'", Some("$1.50")),
        ("\"Mood\"", "'happy'", Some("happy")),
        ("positive", "7", Some("7")),
        ("price", "1", Some("1.00")),
        ("text", "NULL", None),
        ("timestamptz", "now()", None),
        ("text", "current_user", None),
        ("int", "1 + 1", None),
        ("int[]", "ARRAY[1]", None),
        ("date", "'now'::text::date", None),
        ("bigint", "nextval('s')", None),
        ("int", "tricky()", None),
    ];
    for server in servers() {
        let mut ground = Ground::new("defaults", server);
        ground.sql.run(
            "CREATE TYPE \"Mood\" AS ENUM ('happy'); CREATE DOMAIN positive AS int CHECK (VALUE > \
             0); \
             CREATE DOMAIN price AS numeric(10,2); CREATE SEQUENCE s; \
             CREATE FUNCTION tricky() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        );
        let columns: Vec<String> = (0..)
            .zip(&defaults)
            .map(|(number, (type_, default, _)): (u32, _)| {
                format!("c{number} {type_} DEFAULT {default}")
            })
            .collect();
        ground.sql.run(&format!("CREATE TABLE t ({}, nothing int)", columns.join(", ")));
        let oid = ground.oid("t");
        let session = ground.session();
        let table = ground.wait(session.table(oid)).unwrap();
        for (column, (type_, default, expected)) in table.columns.iter().zip(&defaults) {
            assert_eq!(
                column.default.as_deref(),
                *expected,
                "{type_} DEFAULT {default} on {server}"
            );
        }
        assert_eq!(column(&table, "nothing").default, None);
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
    assert!(begun.elapsed() < Duration::from_secs(3), "candidates took {:?}", begun.elapsed());
    let oids: Vec<u32> = found.iter().map(|it| it.oid).collect();
    let begun = Instant::now();
    let tables = ground.wait(session.tables(&oids)).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(6), "tables took {:?}", begun.elapsed());
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
