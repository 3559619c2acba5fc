//! Every type under every mode: the server's text and the JSON that it becomes.

mod scene;

use scene::{Did, Unchanged, array_of, column, encode, numeric_modifier, of_kind, plan, v};
use std::sync::Arc;
use wal::table::ReplicaIdentity::{Default, Full};
use wal::types::{Kind, Type, oid};

const BUILT_IN: [(&str, u32); 35] = [
    ("bool", oid::BOOL),
    ("bytea", oid::BYTEA),
    ("char", oid::CHAR),
    ("name", oid::NAME),
    ("int8", oid::INT8),
    ("int2", oid::INT2),
    ("int4", oid::INT4),
    ("text", oid::TEXT),
    ("oid", oid::OID),
    ("xid", oid::XID),
    ("json", oid::JSON),
    ("xml", oid::XML),
    ("point", oid::POINT),
    ("box", 603),
    ("float4", oid::FLOAT4),
    ("float8", oid::FLOAT8),
    ("money", oid::MONEY),
    ("macaddr", oid::MACADDR),
    ("macaddr8", 774),
    ("inet", oid::INET),
    ("cidr", oid::CIDR),
    ("bpchar", oid::BPCHAR),
    ("varchar", oid::VARCHAR),
    ("date", oid::DATE),
    ("time", oid::TIME),
    ("timestamp", oid::TIMESTAMP),
    ("timestamptz", oid::TIMESTAMPTZ),
    ("interval", oid::INTERVAL),
    ("timetz", oid::TIMETZ),
    ("bit", oid::BIT),
    ("varbit", oid::VARBIT),
    ("numeric", oid::NUMERIC),
    ("uuid", oid::UUID),
    ("tsvector", oid::TSVECTOR),
    ("jsonb", oid::JSONB),
];

/// A built-in type, or one of an extension; `[]` behind its name makes an array.
fn type_of(name: &str) -> Type {
    if let Some(element) = name.strip_suffix("[]") {
        return array_of(type_of(element));
    }
    if name == "int4range" {
        let kind = Kind::Range { subtype: Arc::new(type_of("int4")) };
        return Type { kind, ..Type::builtin(3904, name) };
    }
    let built_in = BUILT_IN.iter().find(|(known, _)| *known == name);
    built_in.map_or_else(|| of_kind(name, Kind::Base), |&(name, oid)| Type::builtin(oid, name))
}

/// The member `v` of the row, with its schema's type and name; `None`: left out of the row. What is refused where the
/// schema stands beside it says so.
fn rendered(type_: Type, modifier: i32, options: &str, text: scene::Value<'_>) -> Option<String> {
    let columns =
        vec![column("id", Type::builtin(oid::INT4, "int4"), -1), column("v", type_, modifier)];
    let table = scene::table("t", columns, 1, Full);
    let row = [v("1"), text];
    let batch = scene::batch(&table, scene::transaction(), &[Did::Insert(&row)]);
    let sent = |sink: &str| {
        let (task, plan) = plan(&table, sink, "", 1).expect("a plan");
        encode(&task, &plan, &batch).map(|sent| sent[0].json())
    };
    let bare = sent(&format!("format_options: {{{options}}}"));
    let bare = bare.unwrap_or_else(|error| panic!("{text:?}: {error}"));
    let sink = format!("format_options: {{schemas: true, {options}}}");
    let event = sent(&format!("{sink}, unrepresentable: null")).expect("null at least");
    let fields = &event["schema"]["fields"][1]["fields"];
    // What is left out of the row is left out of its schema.
    let value = bare["after"].get("v")?;
    let is_refused = match sent(&sink) {
        Ok(event) => {
            assert_eq!(&event["payload"]["after"]["v"], value, "with and without a schema");
            false
        }
        Err(error) => {
            assert!(error.to_string().contains("does not fit the format"), "{error}");
            assert_eq!(event["payload"]["after"]["v"], serde_json::Value::Null);
            true
        }
    };
    let field = &fields[1];
    assert_eq!(field["field"], "v");
    let name = field["name"].as_str().unwrap_or_default();
    let last = name.rsplit('.').next().filter(|last| !last.is_empty());
    let type_ = field["type"].as_str().unwrap_or_default();
    let type_ = last.map_or(type_.to_owned(), |last| format!("{type_}/{last}"));
    Some(format!("{type_} {value}{}", if is_refused { ", or refused" } else { "" }))
}

/// Type, modifier, the server's text, type and value in JSON.
type Case<'a> = (&'a str, i32, &'a str, &'a str);

#[track_caller]
fn check(options: &str, cases: &[Case<'_>]) {
    for &(name, modifier, text, expected) in cases {
        let found = rendered(type_of(name), modifier, options, v(text));
        assert_eq!(found.as_deref(), Some(expected), "{name}({modifier}) under {options}");
    }
}

/// The table of the format's reference, section 2, and values at the edges.
const REFERENCE: &[Case<'static>] = &[
    ("bool", -1, "t", "boolean true"),
    ("bool", -1, "f", "boolean false"),
    ("bit", 1, "1", "boolean true"),
    ("bit", 1, "0", "boolean false"),
    ("int2", -1, "-32768", "int16 -32768"),
    ("int4", -1, "2147483647", "int32 2147483647"),
    ("int8", -1, "-9223372036854775808", "int64 -9223372036854775808"),
    ("oid", -1, "4294967295", "int64 4294967295"),
    ("float4", -1, "1.5", "float 1.5"),
    ("float4", -1, "-0", "float -0.0"),
    ("float8", -1, "1e+300", "double 1e+300"),
    ("float8", -1, "100", "double 100.0"),
    ("float8", -1, "NaN", "double \"NaN\", or refused"),
    ("float8", -1, "-Infinity", "double \"-Infinity\", or refused"),
    ("numeric", numeric_modifier(12, 2), "49.90", "bytes/Decimal \"E34=\""),
    ("numeric", numeric_modifier(12, 2), "-1.28", "bytes/Decimal \"gA==\""),
    ("numeric", numeric_modifier(5, -2), "1200", "bytes/Decimal \"DA==\""),
    ("numeric", numeric_modifier(5, 7), "0.0000012", "bytes/Decimal \"DA==\""),
    ("numeric", numeric_modifier(3, 0), "0", "bytes/Decimal \"AA==\""),
    ("numeric", -1, "123.4500", r#"struct/VariableScaleDecimal {"scale":2,"value":"MDk="}"#),
    ("numeric", -1, "1000", r#"struct/VariableScaleDecimal {"scale":0,"value":"A+g="}"#),
    ("numeric", -1, "-0.5", r#"struct/VariableScaleDecimal {"scale":1,"value":"+w=="}"#),
    ("money", -1, "$12.34", "bytes/Decimal \"BNI=\""),
    ("money", -1, "-$1,234.50", "bytes/Decimal \"/h3G\""),
    ("money", -1, "1.234,50 €", "bytes/Decimal \"AeI6\""),
    ("text", -1, "a \"b\" \\ ä\n", "string \"a \\\"b\\\" \\\\ ä\\n\""),
    ("varchar", 9, "ab", "string \"ab\""),
    ("bpchar", 7, "ab ", "string \"ab \""),
    ("char", -1, "x", "string \"x\""),
    ("name", -1, "x", "string \"x\""),
    ("bytea", -1, "\\x0102ff", "bytes \"AQL/\""),
    ("bytea", -1, "\\x", "bytes \"\""),
    ("date", -1, "2024-03-05", "int32/Date 19787"),
    ("date", -1, "0044-03-15 BC", "int32/Date -735160"),
    ("time", 3, "10:20:30.123", "int32/Time 37230123"),
    ("time", 6, "10:20:30.123456", "int64/MicroTime 37230123456"),
    ("time", -1, "24:00:00", "int64/MicroTime 86400000000"),
    ("timetz", -1, "10:20:30.123456+08", "string/ZonedTime \"02:20:30.123456Z\""),
    ("timetz", -1, "01:00:00.5+05:30", "string/ZonedTime \"19:30:00.5Z\""),
    ("timestamp", 3, "2024-03-05 10:20:30.123", "int64/Timestamp 1709634030123"),
    ("timestamp", -1, "2024-03-05 10:20:30.123456", "int64/MicroTimestamp 1709634030123456"),
    ("timestamp", 0, "1969-12-31 23:59:59", "int64/Timestamp -1000"),
    (
        "timestamptz",
        -1,
        "2024-03-05 02:20:30.123456+00",
        "string/ZonedTimestamp \"2024-03-05T02:20:30.123456Z\"",
    ),
    (
        "timestamptz",
        -1,
        "2024-03-05 02:20:30+00",
        "string/ZonedTimestamp \"2024-03-05T02:20:30.000000Z\"",
    ),
    (
        "timestamptz",
        2,
        "2024-03-05 02:20:30.1+00",
        "string/ZonedTimestamp \"2024-03-05T02:20:30.10Z\"",
    ),
    ("timestamptz", 0, "2024-01-01 01:20:30+02", "string/ZonedTimestamp \"2023-12-31T23:20:30Z\""),
    ("timestamptz", -1, "-infinity", "string/ZonedTimestamp \"-infinity\""),
    ("interval", -1, "1 year 2 mons 3 days 04:05:06.789", "int64/MicroDuration 37091106789000"),
    ("interval", -1, "-1 mons +3 days -04:05:06", "int64/MicroDuration -2385306000000"),
    ("interval", -1, "00:00:00", "int64/MicroDuration 0"),
    ("interval", -1, "-2562047788:00:54.775808", "int64/MicroDuration -9223372036854775808"),
    ("bit", 5, "10101", "bytes/Bits \"FQ==\""),
    ("varbit", 12, "100000001", "bytes/Bits \"AQE=\""),
    ("varbit", -1, "", "bytes/Bits \"\""),
    ("json", -1, "{\"a\": 1}", "string/Json \"{\\\"a\\\": 1}\""),
    ("jsonb", -1, "null", "string/Json \"null\""),
    ("xml", -1, "<a/>", "string/Xml \"<a/>\""),
    (
        "uuid",
        -1,
        "6ecd8c99-4036-403d-bf84-cf8400f67836",
        "string/Uuid \"6ecd8c99-4036-403d-bf84-cf8400f67836\"",
    ),
    ("inet", -1, "10.0.0.1/8", "string \"10.0.0.1/8\""),
    ("cidr", -1, "10.0.0.0/8", "string \"10.0.0.0/8\""),
    ("macaddr", -1, "08:00:2b:01:02:03", "string \"08:00:2b:01:02:03\""),
    ("macaddr8", -1, "08:00:2b:01:02:03:04:05", "string \"08:00:2b:01:02:03:04:05\""),
    ("int4range", -1, "[1,5)", "string \"[1,5)\""),
    (
        "point",
        -1,
        "(1,2)",
        r#"struct/Point {"x":1.0,"y":2.0,"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAABA","srid":null}"#,
    ),
    ("citext", -1, "Ab", "string \"Ab\""),
    ("ltree", -1, "a.b", "string/Ltree \"a.b\""),
    ("tsvector", -1, "'a':1", "string/Tsvector \"'a':1\""),
];

#[test]
fn the_reference_s_table_holds() {
    check("", REFERENCE);
}

#[test]
fn extensions_have_debezium_s_rendering() {
    check(
        "",
        &[
            (
                "hstore",
                -1,
                r#""a"=>"1", "b\"c"=>NULL"#,
                r#"string/Json "{\"a\":\"1\",\"b\\\"c\":null}""#,
            ),
            ("hstore", -1, "", "string/Json \"{}\""),
            (
                "geometry",
                -1,
                "0101000000000000000000F03F0000000000000040",
                r#"struct/Geometry {"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAABA","srid":null}"#,
            ),
            (
                "geography",
                -1,
                "0101000020E6100000000000000000F03F0000000000000040",
                r#"struct/Geography {"wkb":"AQEAACDmEAAAAAAAAAAA8D8AAAAAAAAAQA==","srid":4326}"#,
            ),
            ("vector", -1, "[1,2.5,-3e-05]", "array/DoubleVector [1.0,2.5,-0.00003]"),
            ("halfvec", -1, "[1]", "array/FloatVector [1.0]"),
            (
                "sparsevec",
                -1,
                "{1:1.5,3:2}/5",
                r#"struct/SparseDoubleVector {"dimensions":5,"vector":[[1,1.5],[3,2.0]]}"#,
            ),
            ("hstore[]", -1, r#"{"\"a\"=>\"1\"",NULL}"#, r#"array ["{\"a\":\"1\"}",null]"#),
        ],
    );
    check("hstore: map", &[("hstore", -1, r#""a"=>"1", "b"=>NULL"#, r#"map {"a":"1","b":null}"#)]);
}

#[test]
fn arrays_hold_what_their_elements_are() {
    let date = "array [19787,null]";
    check(
        "",
        &[
            ("int4[]", -1, "{1,2,NULL}", "array [1,2,null]"),
            ("int4[]", -1, "{}", "array []"),
            ("int4[]", -1, "{{1,2},{3,4}}", "array [[1,2],[3,4]], or refused"),
            ("int4[]", -1, "[0:1][2:2]={{1},{2}}", "array [[1],[2]], or refused"),
            (
                "text[]",
                -1,
                r#"{a,"b,\"c\\",NULL,"NULL",""}"#,
                r#"array ["a","b,\"c\\",null,"NULL",""]"#,
            ),
            ("bool[]", -1, "{t,f}", "array [true,false]"),
            ("date[]", -1, "{2024-03-05,NULL}", date),
            ("numeric[]", numeric_modifier(12, 2), "{49.90}", r#"array ["E34="]"#),
            ("numeric[]", -1, "{1.50}", r#"array [{"scale":1,"value":"Dw=="}]"#),
            ("bytea[]", -1, r#"{"\\x0102ff"}"#, r#"array ["AQL/"]"#),
            ("interval[]", -1, r#"{"1 day",00:00:01}"#, "array [86400000000,1000000]"),
            (
                "timestamptz[]",
                0,
                r#"{"2024-03-05 02:20:30+00"}"#,
                r#"array ["2024-03-05T02:20:30Z"]"#,
            ),
            ("int4range[]", -1, r#"{"[1,5)",empty}"#, r#"array ["[1,5)","empty"]"#),
            ("jsonb[]", -1, r#"{"{\"a\": 1}"}"#, r#"array ["{\"a\": 1}"]"#),
            ("point[]", -1, r#"{"(1,2)"}"#, POINTS),
        ],
    );
    // The one built-in type whose arrays have another delimiter.
    let element = Arc::new(type_of("box"));
    let boxes = of_kind("_box", Kind::Array { element, delimiter: b';' });
    let found = rendered(boxes, -1, "", v("{(1,1),(0,0);(2,2),(0,0)}"));
    assert_eq!(found.as_deref(), Some(r#"array ["(1,1),(0,0)","(2,2),(0,0)"]"#));
}

const POINTS: &str =
    r#"array [{"x":1.0,"y":2.0,"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAABA","srid":null}]"#;

fn mood() -> Type {
    of_kind("mood", Kind::Enum { labels: vec!["ok".into(), "so, so".into()] })
}

#[test]
fn types_made_of_others() {
    let int4 = Arc::new(type_of("int4"));
    let is = |type_: Type, text: &str, expected: &str| {
        assert_eq!(rendered(type_, -1, "", v(text)).as_deref(), Some(expected));
    };
    is(mood(), "so, so", "string/Enum \"so, so\"");
    is(array_of(mood()), r#"{ok,"so, so"}"#, "array [\"ok\",\"so, so\"]");
    let price =
        Kind::Domain { base: Arc::new(type_of("numeric")), type_modifier: numeric_modifier(12, 2) };
    is(of_kind("price", price), "49.90", "bytes/Decimal \"E34=\"");
    let list = Kind::Domain { base: Arc::new(type_of("int4[]")), type_modifier: -1 };
    is(of_kind("list", list), "{1}", "array [1]");
    is(
        of_kind("pair", Kind::Composite { fields: Vec::new() }),
        "(1,\"a b\")",
        "string \"(1,\\\"a b\\\")\"",
    );
    let range = of_kind("span", Kind::Range { subtype: int4 });
    is(range.clone(), "[1,5)", "string \"[1,5)\"");
    is(
        of_kind("spans", Kind::Multirange { range: Arc::new(range) }),
        "{[1,5)}",
        "string \"{[1,5)}\"",
    );
    is(Type::unknown(99_999), "whatever", "string \"whatever\"");
    is(type_of("varchar2"), "x", "string \"x\"");
    is(type_of("xid"), "7", "string \"7\"");
}

#[test]
fn numbers_have_three_modes() {
    check(
        "decimal: string",
        &[
            ("numeric", numeric_modifier(12, 2), "49.90", "string \"49.90\""),
            ("numeric", -1, "NaN", "string \"NaN\""),
            ("money", -1, "-$1,234.50", "string \"-1234.50\""),
            ("numeric[]", -1, "{1.50}", "array [\"1.50\"]"),
        ],
    );
    check(
        "decimal: double",
        &[
            ("numeric", numeric_modifier(12, 2), "49.90", "double 49.9"),
            ("numeric", -1, "NaN", "double \"NaN\", or refused"),
            ("numeric", -1, "-1000000000000000000000", "double -1e+21"),
            ("money", -1, "$12.00", "double 12.0"),
        ],
    );
    check(
        "numeric_scale: stored",
        &[
            (
                "numeric",
                -1,
                "123.4500",
                r#"struct/VariableScaleDecimal {"scale":4,"value":"EtZE"}"#,
            ),
            ("numeric", -1, "1000", r#"struct/VariableScaleDecimal {"scale":0,"value":"A+g="}"#),
        ],
    );
    let beyond = format!("1{}", "0".repeat(400));
    check("decimal: double", &[("numeric", -1, &beyond, "double \"Infinity\", or refused")]);
}

#[test]
fn bytes_have_four_modes() {
    let text = "\\xfbff01";
    check("binary: bytes", &[("bytea", -1, text, "bytes \"+/8B\"")]);
    check("binary: base64", &[("bytea", -1, text, "string \"+/8B\"")]);
    check("binary: base64-url-safe", &[("bytea", -1, text, "string \"-_8B\"")]);
    check("binary: hex", &[("bytea", -1, text, "string \"fbff01\"")]);
}

#[test]
fn intervals_have_two_modes() {
    check(
        "interval: string",
        &[
            (
                "interval",
                -1,
                "1 year 2 mons 3 days 04:05:06.789",
                "string/Interval \"P1Y2M3DT4H5M6.789S\"",
            ),
            ("interval", -1, "-00:00:00.5", "string/Interval \"P0Y0M0DT0H0M-0.5S\""),
            ("interval", -1, "-3 days", "string/Interval \"P0Y0M-3DT0H0M0S\""),
        ],
    );
}

#[test]
fn times_have_six_modes() {
    let (date, time) = ("2024-03-05", "10:20:30.123456");
    let moment = "2024-03-05 10:20:30.123456";
    check(
        "time: adaptive-time-microseconds",
        &[
            ("date", -1, date, "int32/Date 19787"),
            ("time", 3, "10:20:30.123", "int64/MicroTime 37230123000"),
            ("timestamp", 3, "2024-03-05 10:20:30.123", "int64/Timestamp 1709634030123"),
            ("timestamp", -1, moment, "int64/MicroTimestamp 1709634030123456"),
        ],
    );
    check(
        "time: connect",
        &[
            ("date", -1, date, "int32/Date 19787"),
            ("time", -1, time, "int32/Time 37230123"),
            ("timestamp", -1, moment, "int64/Timestamp 1709634030123"),
        ],
    );
    check(
        "time: isostring",
        &[
            ("date", -1, date, "string/IsoDate \"2024-03-05Z\""),
            ("time", -1, time, "string/IsoTime \"10:20:30.123456Z\""),
            ("timestamp", -1, moment, "string/IsoTimestamp \"2024-03-05T10:20:30.123456Z\""),
            (
                "timestamp",
                -1,
                "12024-03-05 00:00:00",
                "string/IsoTimestamp \"+12024-03-05T00:00:00Z\"",
            ),
            ("date", -1, "0044-03-15 BC", "string/IsoDate \"-0043-03-15Z\""),
        ],
    );
    check(
        "time: microseconds",
        &[
            ("time", 3, "10:20:30.123", "int64/MicroTime 37230123000"),
            ("timestamp", 3, "2024-03-05 10:20:30.123", "int64/MicroTimestamp 1709634030123000"),
        ],
    );
    check(
        "time: nanoseconds",
        &[
            ("time", -1, time, "int64/NanoTime 37230123456000"),
            ("timestamp", -1, moment, "int64/NanoTimestamp 1709634030123456000"),
        ],
    );
}

#[test]
fn what_debezium_loses_arrives() {
    check(
        "compat: lossless",
        &[
            ("numeric", -1, "NaN", "struct/VariableScaleDecimal \"NaN\", or refused"),
            ("numeric", numeric_modifier(12, 2), "NaN", "bytes/Decimal \"NaN\", or refused"),
            ("date", -1, "infinity", "int32/Date \"infinity\", or refused"),
            ("date[]", -1, "{infinity}", "array [\"infinity\"], or refused"),
            ("timestamp", -1, "-infinity", "int64/MicroTimestamp \"-infinity\", or refused"),
            ("interval", -1, "infinity", "int64/MicroDuration \"infinity\", or refused"),
            ("point", -1, "(Infinity,2)", INFINITE_POINT),
            ("box", -1, "(1,1),(0,0)", "string \"(1,1),(0,0)\""),
            ("money[]", -1, "{$12.34}", "array [\"BNI=\"]"),
        ],
    );
}

const INFINITE_POINT: &str = r#"struct/Point {"x":"Infinity","y":2.0,"wkb":"AQEAAAAAAAAAAADwfwAAAAAAAABA","srid":null}, or refused"#;

/// Other modes have room for what the default ones have none for.
#[test]
fn texts_have_room_for_every_value() {
    check(
        "decimal: string, time: isostring, interval: string",
        &[
            ("numeric", -1, "NaN", "string \"NaN\""),
            ("date", -1, "-infinity", "string/IsoDate \"-infinity\""),
            ("timestamp", -1, "infinity", "string/IsoTimestamp \"infinity\""),
            ("interval", -1, "infinity", "string/Interval \"infinity\""),
        ],
    );
}

/// Debezium's schema has 16 bits for dimensions and indexes.
#[test]
fn sparse_vectors_end_where_their_schema_does() {
    let kind = "struct/SparseDoubleVector";
    check(
        "",
        &[
            (
                "sparsevec",
                -1,
                "{32767:1}/32767",
                &format!("{kind} {{\"dimensions\":32767,\"vector\":[[32767,1.0]]}}"),
            ),
            (
                "sparsevec",
                -1,
                "{32768:1}/32768",
                &format!("{kind} {{\"dimensions\":32768,\"vector\":[[32768,1.0]]}}, or refused"),
            ),
        ],
    );
}

#[test]
fn strict_is_debezium_s_own_rendering() {
    check(
        "compat: strict",
        &[
            ("numeric", -1, "NaN", "struct/VariableScaleDecimal null"),
            ("numeric", numeric_modifier(12, 2), "NaN", "bytes/Decimal null"),
            ("date", -1, "infinity", "int32/Date -2147472692"),
            ("date", -1, "-infinity", "int32/Date -2147472691"),
            ("timestamp", -1, "infinity", "int64/MicroTimestamp 9223372036825200000"),
            ("timestamp", -1, "-infinity", "int64/MicroTimestamp -9223372036832400000"),
            ("timestamp", 3, "infinity", "int64/Timestamp 9223372036825200"),
            ("timestamp", 3, "-infinity", "int64/Timestamp -9223372036832400"),
            ("tsvector", -1, "'a':1", "string/Tsvector \"'a':1\""),
            ("timestamptz", -1, "infinity", "string/ZonedTimestamp \"infinity\""),
            ("float8", -1, "NaN", "double \"NaN\""),
            ("int4range", -1, "[1,5)", "string \"[1,5)\""),
            ("citext", -1, "Ab", "string \"Ab\""),
        ],
    );
    let pair = of_kind("pair", Kind::Composite { fields: Vec::new() });
    let span = of_kind("span", Kind::Range { subtype: Arc::new(type_of("int4")) });
    let left_out = ["box", "xid", "varchar2", "money[]", "interval[]", "point[]"];
    let left_out = left_out.map(type_of).into_iter().chain([pair, span, Type::unknown(9)]);
    for type_ in left_out {
        let name = type_.name.clone();
        assert_eq!(rendered(type_, -1, "compat: strict", v("x")), None, "{name}");
    }
    assert_eq!(
        rendered(mood(), -1, "compat: strict", v("ok")).as_deref(),
        Some("string/Enum \"ok\"")
    );
}

/// What stands for a TOASTed value that was not logged.
#[test]
fn values_that_were_not_logged_are_marked() {
    let marked = |name: &str, options: &str| {
        rendered(type_of(name), -1, options, Unchanged).unwrap_or_default()
    };
    let placeholder = "\"__debezium_unavailable_value\"";
    assert_eq!(marked("text", ""), format!("string {placeholder}"));
    assert_eq!(marked("jsonb", ""), format!("string/Json {placeholder}"));
    assert_eq!(marked("bytea", ""), "bytes \"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==\"");
    let hex = "5f5f646562657a69756d5f756e617661696c61626c655f76616c7565";
    assert_eq!(marked("bytea", "binary: hex"), format!("string \"{hex}\""));
    assert_eq!(marked("text[]", ""), format!("array [{placeholder}]"));
    let numbers = "array [95,95,100,101,98,101,122,105,117,109,95,117,110,97,118,97,105,108,97,98,\
                   108,101,95,118,97,108,117,101]";
    assert_eq!(marked("int4[]", ""), numbers);
    assert_eq!(marked("hstore", "hstore: map"), format!("map {{{placeholder}:{placeholder}}}"));
    // A plain numeric can be TOASTed; Debezium has no mark for it.
    let numeric = format!("struct/VariableScaleDecimal {placeholder}, or refused");
    assert_eq!(marked("numeric", ""), numeric);
    assert_eq!(marked("date[]", ""), format!("array [{placeholder}], or refused"));
    assert_eq!(marked("numeric", "compat: strict"), "struct/VariableScaleDecimal null");
    assert_eq!(marked("text", "unavailable_value: gone"), "string \"gone\"");
}

#[test]
fn null_is_null() {
    for name in ["int4", "text", "numeric", "int4[]", "point", "hstore"] {
        let found = rendered(type_of(name), -1, "", scene::Null);
        assert!(found.is_some_and(|found| found.ends_with(" null")), "{name}");
    }
}

/// A key column, one that may be null, and one that may not.
fn required(identity: wal::table::ReplicaIdentity) -> wal::Table {
    let mut columns = vec![column("a", type_of("int4"), -1), column("b", type_of("text"), -1)];
    columns.push(column("c", type_of("date"), -1));
    let mut table = scene::table("t", columns, 1, identity);
    table.columns[0].not_null = false;
    table.columns[2].not_null = true;
    table
}

const SCHEMAS: &str = "format_options: {schemas: true}";

/// Whether each column may be null, by the schema of the row under this name.
fn optional(event: &serde_json::Value, row: usize) -> [Option<bool>; 3] {
    let fields = &event["schema"]["fields"][row]["fields"];
    [0, 1, 2].map(|index| fields[index]["optional"].as_bool())
}

#[test]
fn key_columns_and_not_null_columns_are_required() {
    let changes = [Did::Insert(&[v("1"), v("x"), v("2024-03-05")])];
    let event = scene::records(&required(Full), SCHEMAS, &changes)[0].json();
    assert_eq!(optional(&event, 1), [Some(false), Some(true), Some(false)]);
    let key = &scene::records(&required(Full), SCHEMAS, &changes)[0].key;
    assert!(key.as_deref().is_some_and(|key| key.contains(r#""optional":false,"field":"a""#)));
}

/// Kafka Connect's JSON converter stops at a null under `optional: false`.
#[test]
fn an_old_key_has_room_for_columns_that_were_not_logged() {
    let changes = [Did::DeleteKey(&[v("1"), scene::Null, scene::Null])];
    let event = scene::records(&required(Default), SCHEMAS, &changes)[0].json();
    assert_eq!(event["payload"]["before"], serde_json::json!({"a": 1, "b": null, "c": null}));
    // Both rows have the same schema.
    for row in [0, 1] {
        assert_eq!(optional(&event, row), [Some(false), Some(true), Some(true)]);
    }
}

#[test]
fn null_does_not_stand_where_the_schema_has_none() {
    let table = required(Full);
    let row = [v("1"), v("x"), v("infinity")];
    let batch = scene::batch(&table, scene::transaction(), &[Did::Insert(&row)]);
    let (task, plan) =
        plan(&table, &format!("{SCHEMAS}, unrepresentable: null"), "", 1).expect("a plan");
    let said = encode(&task, &plan, &batch).expect_err("refused").to_string();
    assert!(said.contains("column `c`") && said.contains("the column has none"), "{said}");
}
