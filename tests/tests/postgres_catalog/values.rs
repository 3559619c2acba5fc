//! Types and defaults of columns.

use crate::ground::{Ground, column, servers};
use wal::types::{Kind, Type};

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

/// Type, default, and the text of the value.
const DEFAULTS: [(&str, &str, Option<&str>); 39] = [
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

#[test]
fn constant_defaults_are_the_text_of_the_value() {
    for server in servers() {
        let mut ground = Ground::new("defaults", server);
        ground.sql.run(
            "CREATE TYPE \"Mood\" AS ENUM ('happy'); CREATE DOMAIN positive AS int CHECK (VALUE > \
             0); \
             CREATE DOMAIN price AS numeric(10,2); CREATE SEQUENCE s; \
             CREATE FUNCTION tricky() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        );
        let columns: Vec<String> = (0..)
            .zip(&DEFAULTS)
            .map(|(number, (type_, default, _)): (u32, _)| {
                format!("c{number} {type_} DEFAULT {default}")
            })
            .collect();
        ground.sql.run(&format!("CREATE TABLE t ({}, nothing int)", columns.join(", ")));
        let oid = ground.oid("t");
        let session = ground.session();
        let table = ground.wait(session.table(oid)).unwrap();
        for (column, (type_, default, expected)) in table.columns.iter().zip(&DEFAULTS) {
            assert_eq!(
                column.default.as_deref(),
                *expected,
                "{type_} DEFAULT {default} on {server}"
            );
        }
        assert_eq!(column(&table, "nothing").default, None);
    }
}
