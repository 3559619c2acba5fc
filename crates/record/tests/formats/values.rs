//! Values at the edges, and the types that Canal's messages name.

use crate::scene::{Did, array_of, column, numeric_modifier, of_kind, table, v};
use crate::{member, one, transaction};
use std::sync::Arc;
use wal::table::ReplicaIdentity::Full;
use wal::types::{Kind, Type, oid};

/// The column `v` of an inserted row, as it stands in the message.
fn written(sink: &str, type_: &Type, text: &str) -> String {
    let columns =
        vec![column("id", Type::builtin(oid::INT4, "int4"), -1), column("v", type_.clone(), -1)];
    let table = table("t", columns, 1, Full);
    let record = one(&table, sink, transaction(0, 8), Did::Insert(&[v("1"), v(text)]));
    member(record.value.as_deref().expect("a value"), "v").expect("a member").to_owned()
}

const CANAL: &str = "format: canal-json";
const MAXWELL: &str = "format: maxwell-json";
const SHAREPLEX: &str = "format: shareplex-json";
const NATIVE: &str = "format: shareplex-json, format_options: {values: native}";

#[track_caller]
fn check(sink: &str, cases: &[(u32, &str, &str, &str)]) {
    for &(oid, name, text, expected) in cases {
        assert_eq!(written(sink, &Type::builtin(oid, name), text), expected, "{name} under {sink}");
    }
}

#[test]
fn times_with_a_zone_are_in_utc_whatever_the_session_says() {
    let east = "2024-01-01 01:20:30.5+02";
    let odd = "2023-12-31 18:50:30-05:30";
    let tz = (oid::TIMESTAMPTZ, "timestamptz");
    for (text, sql, iso) in [
        (east, "2023-12-31 23:20:30.5", "2023-12-31T23:20:30.500000000"),
        (odd, "2024-01-01 00:20:30", "2024-01-01T00:20:30.000000000"),
        ("2024-03-05 02:20:30+00", "2024-03-05 02:20:30", "2024-03-05T02:20:30.000000000"),
    ] {
        check(CANAL, &[(tz.0, tz.1, text, &format!("\"{sql}Z\""))]);
        check(MAXWELL, &[(tz.0, tz.1, text, &format!("\"{sql}\""))]);
        check(SHAREPLEX, &[(tz.0, tz.1, text, &format!("\"{iso}Z\""))]);
    }
}

#[test]
fn offsets_of_timetz_have_minutes_where_the_format_wants_them() {
    let cases = [("10:20:30+08", "10:20:30+08:00"), ("10:20:30.5-05:30", "10:20:30.5-05:30")];
    for (text, padded) in cases {
        check(CANAL, &[(oid::TIMETZ, "timetz", text, &format!("\"{padded}\""))]);
        check(SHAREPLEX, &[(oid::TIMETZ, "timetz", text, &format!("\"{padded}\""))]);
        check(MAXWELL, &[(oid::TIMETZ, "timetz", text, &format!("\"{text}\""))]);
    }
}

#[test]
fn numbers_keep_all_their_digits() {
    let long = "123456789012345678901234567890.123456789000";
    check(MAXWELL, &[(oid::NUMERIC, "numeric", long, long)]);
    check(NATIVE, &[(oid::NUMERIC, "numeric", long, long), (oid::BOOL, "bool", "t", "true")]);
    check(CANAL, &[(oid::NUMERIC, "numeric", long, &format!("\"{long}\""))]);
    check(NATIVE, &[(oid::FLOAT4, "float4", "NaN", "\"NaN\"")]);
}

#[test]
fn dates_have_a_time_of_day_in_shareplex_s_own_form_only() {
    check(SHAREPLEX, &[(oid::DATE, "date", "2024-03-05", "\"2024-03-05\"")]);
    check(NATIVE, &[(oid::DATE, "date", "2024-03-05", "\"2024-03-05T00:00:00.000000000\"")]);
    check(NATIVE, &[(oid::DATE, "date", "infinity", "\"infinity\"")]);
}

#[test]
fn json_is_itself_on_one_line() {
    check(
        MAXWELL,
        &[
            (oid::JSON, "json", "{\"a\":\n\t[1.50, \"x\\ny\"]}", "{\"a\":  [1.50, \"x\\ny\"]}"),
            (oid::JSONB, "jsonb", "\"a\u{7f}ä\"", "\"a\u{7f}ä\""),
        ],
    );
    check(CANAL, &[(oid::JSON, "json", "{\"a\":\n1}", "\"{\\\"a\\\":\\n1}\"")]);
}

#[test]
fn a_domain_is_rendered_as_its_base_type() {
    let flag = Kind::Domain { base: Arc::new(Type::builtin(oid::BOOL, "bool")), type_modifier: -1 };
    let flag = of_kind("flag", flag);
    assert_eq!(written(CANAL, &flag, "t"), "\"true\"");
    assert_eq!(written(MAXWELL, &flag, "f"), "false");
    assert_eq!(written(MAXWELL, &array_of(flag), "{t,NULL}"), "[true,null]");
}

#[test]
fn canal_names_types_in_postgresql_s_words_and_by_jdbc_s_numbers() {
    let builtin = |oid: u32, name: &str| Type::builtin(oid, name);
    let price = Kind::Domain {
        base: Arc::new(builtin(oid::NUMERIC, "numeric")),
        type_modifier: numeric_modifier(12, 2),
    };
    let cases = [
        (builtin(oid::BOOL, "bool"), -1, "boolean", -7),
        (builtin(oid::BIT, "bit"), 5, "bit(5)", -7),
        (builtin(oid::VARBIT, "varbit"), -1, "bit varying", 1111),
        (builtin(oid::INT2, "int2"), -1, "smallint", 5),
        (builtin(oid::INT4, "int4"), -1, "integer", 4),
        (builtin(oid::OID, "oid"), -1, "oid", -5),
        (builtin(oid::FLOAT4, "float4"), -1, "real", 7),
        (builtin(oid::FLOAT8, "float8"), -1, "double precision", 8),
        (builtin(oid::MONEY, "money"), -1, "money", 8),
        (builtin(oid::NUMERIC, "numeric"), numeric_modifier(12, 2), "numeric(12,2)", 2),
        (builtin(oid::VARCHAR, "varchar"), 24, "character varying(20)", 12),
        (builtin(oid::NAME, "name"), -1, "name", 12),
        (builtin(oid::BPCHAR, "bpchar"), 7, "character(3)", 1),
        (builtin(oid::CHAR, "char"), -1, "\"char\"", 1),
        (builtin(oid::BYTEA, "bytea"), -1, "bytea", -2),
        (builtin(oid::DATE, "date"), -1, "date", 91),
        (builtin(oid::TIMETZ, "timetz"), -1, "time with time zone", 92),
        (builtin(oid::TIMESTAMP, "timestamp"), 3, "timestamp(3) without time zone", 93),
        (builtin(oid::XML, "xml"), -1, "xml", 2009),
        (builtin(oid::JSONB, "jsonb"), -1, "jsonb", 1111),
        (builtin(oid::UUID, "uuid"), -1, "uuid", 1111),
        (array_of(builtin(oid::INT4, "int4")), -1, "integer[]", 2003),
        (of_kind("price", price), -1, "price", 2001),
        (of_kind("pair", Kind::Composite { fields: Vec::new() }), -1, "pair", 2002),
        (of_kind("mood", Kind::Enum { labels: Vec::new() }), -1, "mood", 12),
        (Type::unknown(99_999), -1, "unknown", 1111),
    ];
    for (type_, modifier, name, number) in cases {
        let columns =
            vec![column("id", builtin(oid::INT4, "int4"), -1), column("v", type_, modifier)];
        let table = table("t", columns, 1, Full);
        let row = [v("1"), crate::scene::Null];
        let message = one(&table, CANAL, transaction(0, 8), Did::Insert(&row)).json();
        assert_eq!(message["mysqlType"]["v"], name);
        assert_eq!(message["sqlType"]["v"], number, "{name}");
    }
}
