//! A value of every kind of type, as the server prints it.

use crate::scene::{array_of, numeric_modifier, of_kind};
use std::sync::Arc;
use wal::types::{Kind, Type, oid};

/// What the table of the documentation shows: name, type, modifier, the server's text.
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) type_: Type,
    pub(crate) modifier: i32,
    pub(crate) text: &'static str,
}

const MACADDR8: u32 = 774;

/// Scalars of PostgreSQL itself.
const BUILT_IN: &[(&str, &str, u32, i32, &str)] = &[
    ("bool", "bool", oid::BOOL, -1, "t"),
    ("int2", "int2", oid::INT2, -1, "-32768"),
    ("int4", "int4", oid::INT4, -1, "2147483647"),
    ("int8", "int8", oid::INT8, -1, "-9223372036854775808"),
    ("oid", "oid", oid::OID, -1, "4294967295"),
    ("float4", "float4", oid::FLOAT4, -1, "1.5"),
    ("float8", "float8", oid::FLOAT8, -1, "1e+300"),
    ("float8, -0", "float8", oid::FLOAT8, -1, "-0"),
    ("float8, NaN", "float8", oid::FLOAT8, -1, "NaN"),
    ("float8, infinite", "float8", oid::FLOAT8, -1, "-Infinity"),
    ("numeric(12,2)", "numeric", oid::NUMERIC, numeric_modifier(12, 2), "49.90"),
    ("numeric", "numeric", oid::NUMERIC, -1, "123.4500"),
    ("numeric, NaN", "numeric", oid::NUMERIC, -1, "NaN"),
    ("numeric, infinite", "numeric", oid::NUMERIC, -1, "Infinity"),
    ("money", "money", oid::MONEY, -1, "$1,234.50"),
    ("text", "text", oid::TEXT, -1, "a \"b\" ä"),
    ("varchar(9)", "varchar", oid::VARCHAR, 13, "ab"),
    ("bpchar(3)", "bpchar", oid::BPCHAR, 7, "ab "),
    ("\"char\"", "char", oid::CHAR, -1, "x"),
    ("name", "name", oid::NAME, -1, "x"),
    ("bytea", "bytea", oid::BYTEA, -1, "\\x0102ff"),
    ("date", "date", oid::DATE, -1, "2024-03-05"),
    ("date, BC", "date", oid::DATE, -1, "0044-03-15 BC"),
    ("date, five digits", "date", oid::DATE, -1, "12024-03-05"),
    ("date, infinite", "date", oid::DATE, -1, "infinity"),
    ("time", "time", oid::TIME, -1, "10:20:30.123456"),
    ("time, 24:00", "time", oid::TIME, -1, "24:00:00"),
    ("time(3)", "time", oid::TIME, 3, "10:20:30.123"),
    ("timetz", "timetz", oid::TIMETZ, -1, "10:20:30.123456+08"),
    ("timestamp", "timestamp", oid::TIMESTAMP, -1, "2024-03-05 10:20:30.123456"),
    ("timestamp(3)", "timestamp", oid::TIMESTAMP, 3, "2024-03-05 10:20:30.123"),
    ("timestamp, BC", "timestamp", oid::TIMESTAMP, -1, "0044-03-15 10:20:30 BC"),
    ("timestamp, infinite", "timestamp", oid::TIMESTAMP, -1, "-infinity"),
    ("timestamptz", "timestamptz", oid::TIMESTAMPTZ, -1, "2024-03-05 02:20:30.123456+00"),
    ("timestamptz, five digits", "timestamptz", oid::TIMESTAMPTZ, -1, "12024-03-05 02:20:30+00"),
    ("timestamptz, infinite", "timestamptz", oid::TIMESTAMPTZ, -1, "infinity"),
    ("timestamptz, BC", "timestamptz", oid::TIMESTAMPTZ, -1, "0044-03-15 10:20:30+00 BC"),
    ("interval, infinite", "interval", oid::INTERVAL, -1, "-infinity"),
    ("interval", "interval", oid::INTERVAL, -1, "1 year 2 mons 3 days 04:05:06.789"),
    ("bit(1)", "bit", oid::BIT, 1, "1"),
    ("bit(5)", "bit", oid::BIT, 5, "10101"),
    ("varbit(12)", "varbit", oid::VARBIT, 12, "100000001"),
    ("json", "json", oid::JSON, -1, "{\"a\": [1, \"b\"]}"),
    ("jsonb", "jsonb", oid::JSONB, -1, "null"),
    ("xml", "xml", oid::XML, -1, "<a/>"),
    ("uuid", "uuid", oid::UUID, -1, "6ecd8c99-4036-403d-bf84-cf8400f67836"),
    ("inet", "inet", oid::INET, -1, "10.0.0.1/8"),
    ("cidr", "cidr", oid::CIDR, -1, "10.0.0.0/8"),
    ("macaddr", "macaddr", oid::MACADDR, -1, "08:00:2b:01:02:03"),
    ("macaddr8", "macaddr8", MACADDR8, -1, "08:00:2b:01:02:03:04:05"),
    ("point", "point", oid::POINT, -1, "(1,2)"),
    ("box", "box", 603, -1, "(1,1),(0,0)"),
    ("tsvector", "tsvector", oid::TSVECTOR, -1, "'a':1"),
    ("xid", "xid", oid::XID, -1, "7"),
];

/// What is made of other types, or comes with an extension.
fn made() -> Vec<(&'static str, Type, i32, &'static str)> {
    let built_in = |oid: u32, name: &str| Type::builtin(oid, name);
    let int4 = || Arc::new(built_in(oid::INT4, "int4"));
    let range = || of_kind("int4range", Kind::Range { subtype: int4() });
    let domain = |name: &str, base: Type, type_modifier: i32| {
        of_kind(name, Kind::Domain { base: Arc::new(base), type_modifier })
    };
    let mood = || of_kind("mood", Kind::Enum { labels: vec!["ok".into(), "so, so".into()] });
    let pair = || of_kind("pair", Kind::Composite { fields: Vec::new() });
    let of = |oid: u32, name: &str| array_of(built_in(oid, name));
    vec![
        ("enum", mood(), -1, "so, so"),
        ("domain over bool", domain("flag", built_in(oid::BOOL, "bool"), -1), -1, "f"),
        (
            "domain over numeric(12,2)",
            domain("price", built_in(oid::NUMERIC, "numeric"), numeric_modifier(12, 2)),
            -1,
            "49.90",
        ),
        ("domain over int4[]", domain("numbers", of(oid::INT4, "int4"), -1), -1, "{1,NULL}"),
        ("composite", pair(), -1, "(1,\"a b\")"),
        ("composite in composite", pair(), -1, r#"(1,"(2,""a """"b"""""")")"#),
        ("int4range", range(), -1, "[1,5)"),
        (
            "int4multirange",
            of_kind("spans", Kind::Multirange { range: range().into() }),
            -1,
            "{[1,5)}",
        ),
        (
            "int4multirange[]",
            array_of(of_kind("spans", Kind::Multirange { range: range().into() })),
            -1,
            r#"{"{[1,5),[7,9)}"}"#,
        ),
        ("int4[]", of(oid::INT4, "int4"), -1, "{1,2,NULL}"),
        ("int4[][]", of(oid::INT4, "int4"), -1, "{{1,2},{3,4}}"),
        ("int4[][], bounds", of(oid::INT4, "int4"), -1, "[0:1][-3:-2]={{1,2},{3,4}}"),
        ("int4[], bounds", of(oid::INT4, "int4"), -1, "[0:1]={1,2}"),
        ("text[]", of(oid::TEXT, "text"), -1, r#"{a,"b,\"c\\",NULL,"NULL",""}"#),
        ("bool[]", of(oid::BOOL, "bool"), -1, "{t,f}"),
        ("numeric(12,2)[]", of(oid::NUMERIC, "numeric"), numeric_modifier(12, 2), "{49.90}"),
        ("bytea[]", of(oid::BYTEA, "bytea"), -1, r#"{"\\x0102ff"}"#),
        ("timestamptz[]", of(oid::TIMESTAMPTZ, "timestamptz"), -1, r#"{"2024-03-05 02:20:30+00"}"#),
        ("jsonb[]", of(oid::JSONB, "jsonb"), -1, r#"{"{\"a\": 1}"}"#),
        ("composite[]", array_of(pair()), -1, r#"{"(1,\"a b\")"}"#),
        ("citext", of_kind("citext", Kind::Base), -1, "Ab"),
        ("hstore", of_kind("hstore", Kind::Base), -1, r#""a"=>"1", "b"=>NULL"#),
        ("ltree", of_kind("ltree", Kind::Base), -1, "a.b"),
        ("vector", of_kind("vector", Kind::Base), -1, "[1,2.5]"),
        ("vector[]", array_of(of_kind("vector", Kind::Base)), -1, r#"{"[1,2.5]"}"#),
        ("halfvec", of_kind("halfvec", Kind::Base), -1, "[1,2.5]"),
        ("sparsevec", of_kind("sparsevec", Kind::Base), -1, "{1:1.5,3:2}/5"),
        (
            "geometry",
            of_kind("geometry", Kind::Base),
            -1,
            "0101000000000000000000F03F0000000000000040",
        ),
        ("orafce varchar2(9)", of_kind("varchar2", Kind::Base), 13, "x"),
        ("another extension's type", of_kind("some_type", Kind::Base), -1, "x"),
    ]
}

pub(crate) fn samples() -> Vec<Sample> {
    let built_in = BUILT_IN.iter().map(|&(name, type_, oid, modifier, text)| Sample {
        name,
        type_: Type::builtin(oid, type_),
        modifier,
        text,
    });
    let made = made().into_iter();
    built_in
        .chain(made.map(|(name, type_, modifier, text)| Sample { name, type_, modifier, text }))
        .collect()
}
