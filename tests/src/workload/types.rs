//! One column for each kind of type, and values that are hard to carry.

/// A column of the table of many types.
pub(super) struct Column {
    name: &'static str,
    type_: &'static str,
    /// First major version that knows the type.
    since: u32,
    /// SQL expressions; null comes by itself.
    values: &'static [&'static str],
}

const fn column(
    name: &'static str,
    type_: &'static str,
    values: &'static [&'static str],
) -> Column {
    since(11, name, type_, values)
}

const fn since(
    version: u32,
    name: &'static str,
    type_: &'static str,
    values: &'static [&'static str],
) -> Column {
    Column { name, type_, since: version, values }
}

/// All columns that a version can have; the key is not among them.
pub(super) fn columns(version: u32) -> impl Iterator<Item = &'static Column> {
    COLUMNS.iter().filter(move |column| column.since <= version)
}

impl Column {
    pub(super) fn definition(&self) -> String {
        format!("{} {}", self.name, self.type_)
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// One of the values, or null.
    pub(super) fn value(&self, choice: usize) -> &'static str {
        self.values.get(choice % (self.values.len() + 1)).copied().unwrap_or("NULL")
    }

    /// How many different values there are, null among them.
    pub(super) fn choices(&self) -> usize {
        self.values.len() + 1
    }
}

const LONG_NUMBER: &str = "'123456789012345678901234567890123456789012345678901234567890.0987654321098765432109876543210'";

static COLUMNS: &[Column] = &[
    column("a_bool", "bool", &["true", "false"]),
    column("a_int2", "smallint", &["-32768", "32767", "0"]),
    column("a_int4", "int", &["-2147483648", "2147483647"]),
    column("a_int8", "bigint", &["-9223372036854775808", "9223372036854775807"]),
    column("a_oid", "oid", &["0", "4294967295"]),
    column(
        "a_float4",
        "real",
        &["1.1", "'NaN'", "'-Infinity'", "1e-45", "3.4028235e38", "-0.0", "1e6"],
    ),
    column(
        "a_float8",
        "double precision",
        &[
            "0.1",
            "'NaN'",
            "'Infinity'",
            "5e-324",
            "1.7976931348623157e308",
            "-0.0::float8",
            "1e15",
            "1e16",
            "123456.789",
        ],
    ),
    column(
        "a_numeric",
        "numeric",
        &[
            "0",
            "123.4500",
            "-0.000001",
            "'NaN'",
            "1e30",
            "1000",
            LONG_NUMBER,
            "-170141183460469231731687303715884105728",
        ],
    ),
    column("a_numeric_2", "numeric(12,2)", &["49.9", "-1.28", "'NaN'", "9999999999.99", "0"]),
    column(
        "a_numeric_0",
        "numeric(40)",
        &["-1", "128", "9999999999999999999999999999999999999999"],
    ),
    column("a_money", "money", &["'12.34'", "'-0.01'", "'92233720368547758.07'", "'1234.5'"]),
    column(
        "a_text",
        "text",
        &[
            "''",
            "E'tab\\t quote\" back\\\\slash \\x01 \u{2028}'",
            "'😀ßé'",
            "'NULL'",
            "repeat('x', 3000)",
        ],
    ),
    column("a_varchar", "varchar(20)", &["'twenty characters ok'", "'  '"]),
    column("a_char", "char(5)", &["'ab'", "''"]),
    column("a_name", "name", &["'a name'"]),
    column("a_one", "\"char\"", &["'x'", "''"]),
    column("a_bytea", "bytea", &["'\\x'", "'\\x00ff010203'", "decode(repeat('ab', 2500), 'hex')"]),
    column(
        "a_date",
        "date",
        &[
            "'2024-03-05'",
            "'infinity'",
            "'-infinity'",
            "'0044-03-15 BC'",
            "'9999-12-31'",
            "'12024-02-29'",
            "'1582-10-10'",
        ],
    ),
    column(
        "a_time",
        "time",
        &["'10:20:30.123456'", "'00:00:00'", "'24:00:00'", "'23:59:59.999999'"],
    ),
    column("a_time_3", "time(3)", &["'10:20:30.123'", "'23:59:59.999'"]),
    column("a_timetz", "timetz", &["'10:20:30.123456+08'", "'01:00:00-05:30'", "'12:00:00Z'"]),
    column(
        "a_timestamp",
        "timestamp",
        &[
            "'2024-03-05 10:20:30.123456'",
            "'infinity'",
            "'-infinity'",
            "'1969-12-31 23:59:59.999999'",
            "'0044-03-15 12:00:00 BC'",
            "'9999-12-31 23:59:59.5'",
        ],
    ),
    column(
        "a_timestamp_3",
        "timestamp(3)",
        &["'2024-03-05 10:20:30.123'", "'1969-12-31 23:59:59.999'", "'infinity'"],
    ),
    column(
        "a_timestamptz",
        "timestamptz",
        &[
            "'2024-03-05 10:20:30.123456+08'",
            "'infinity'",
            "'-infinity'",
            "'1900-01-01 00:00:00+00'",
            "'2024-12-31 23:30:00-01'",
            "'0044-03-15 12:00:00+00 BC'",
        ],
    ),
    column("a_timestamptz_0", "timestamptz(0)", &["'2024-03-05 10:20:30+00'"]),
    column("a_timestamptz_3", "timestamptz(3)", &["'2024-03-05 10:20:30.1+00'"]),
    column(
        "a_interval",
        "interval",
        &[
            "'1 year 2 mons 3 days 04:05:06.789'",
            "'-1 mon +2 days -00:00:01'",
            "'0'",
            "'-00:00:00.000001'",
            "'100:00:00'",
        ],
    ),
    column("a_bit_1", "bit(1)", &["B'0'", "B'1'"]),
    column("a_bit", "bit(13)", &["B'0000000010101'", "B'1000000000000'", "B'0000000000000'"]),
    column("a_varbit", "varbit", &["B'10101'", "B'111111111'"]),
    column("a_json", "json", &["'{\"a\" :  1, \"a\": [\"\\u00e9\"]}'", "'null'", "'\"text\"'"]),
    column("a_jsonb", "jsonb", &["'{\"b\": 1.50, \"a\": null}'", "'[]'", "'null'"]),
    column("a_xml", "xml", &["'<a b=\"c\">d &amp; e</a>'"]),
    column(
        "a_uuid",
        "uuid",
        &["'00000000-0000-0000-0000-000000000000'", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"],
    ),
    column("a_enum", "shop.mood", &["'sad'", "'very happy, indeed'"]),
    column("a_positive", "shop.positive", &["1", "2147483647"]),
    column("a_cents", "shop.cents", &["0.05", "-1234567.89"]),
    column("a_names", "shop.names", &["'{}'", "ARRAY['a', NULL, 'NULL', 'x,y', E'q\"\\\\']"]),
    column(
        "a_place",
        "shop.place",
        &["ROW('Straße \"1\", hinten', 7, '(1,2)')", "ROW(NULL, NULL, NULL)"],
    ),
    column("a_places", "shop.place[]", &["ARRAY[ROW('a,b', 1, NULL)::shop.place, NULL]", "'{}'"]),
    column("a_inet", "inet", &["'10.0.0.1'", "'10.0.0.0/8'", "'::1'"]),
    column("a_cidr", "cidr", &["'10.0.0.0/8'", "'2001:db8::/32'"]),
    column("a_macaddr", "macaddr", &["'08:00:2b:01:02:03'"]),
    column("a_macaddr8", "macaddr8", &["'08:00:2b:01:02:03:04:05'"]),
    column("a_int4range", "int4range", &["'empty'", "'[1,5)'", "'(,)'"]),
    column("a_numrange", "numrange", &["'[1.50,2.75]'", "'(,5)'"]),
    column("a_tsrange", "tsrange", &["'[2024-01-01 00:00:00,2024-01-02 12:30:00)'"]),
    column("a_tstzrange", "tstzrange", &["'[2024-01-01 00:00:00+08,infinity)'"]),
    column("a_daterange", "daterange", &["'[2024-01-01,2024-02-01)'"]),
    column("a_float_range", "shop.float_range", &["'[0.1,1e300)'"]),
    since(14, "a_multirange", "int4multirange", &["'{[1,3),[5,9)}'", "'{}'"]),
    since(14, "a_infinite", "numeric", &["'Infinity'", "'-Infinity'"]),
    since(15, "a_negative_scale", "numeric(5,-2)", &["12345678 % 9999900", "-100", "0"]),
    column("a_tsvector", "tsvector", &["'a:1 cat:2A,3'", "''"]),
    column("a_tsquery", "tsquery", &["'fat & (rat | !cat)'"]),
    column("a_point", "point", &["'(1,2)'", "'(-0.1,1e300)'"]),
    column("a_box", "box", &["'(1,1),(0,0)'"]),
    column("a_polygon", "polygon", &["'((0,0),(1,1),(2,0))'"]),
    column("a_lsn", "pg_lsn", &["'16/B374D848'"]),
    since(12, "a_jsonpath", "jsonpath", &["'$.\"a\"[*]'"]),
    column(
        "a_ints",
        "int[]",
        &["'{1,2,NULL}'", "'{}'", "'{{1,2},{3,4}}'", "'[0:1]={5,6}'", "'{{{1}},{{2}}}'"],
    ),
    column("a_texts", "text[]", &["ARRAY['', 'NULL', NULL, 'a b', E'\\\\ \"x\" {y}', '😀']"]),
    column("a_numerics", "numeric(8,3)[]", &["'{1.5,NULL,-0.001}'"]),
    column("a_floats", "float8[]", &["'{0.1,NaN,Infinity}'"]),
    column("a_bools", "bool[]", &["'{t,f,NULL}'"]),
    column("a_dates", "date[]", &["'{2024-03-05,infinity}'"]),
    column("a_moments", "timestamptz[]", &["'{2024-03-05 10:20:30.5+00,NULL}'"]),
    column("a_enums", "shop.mood[]", &["'{sad,\"very happy, indeed\"}'"]),
    column("a_uuids", "uuid[]", &["'{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}'"]),
    column("a_jsonbs", "jsonb[]", &["ARRAY['{\"a\": [1]}'::jsonb, 'null']"]),
    column("a_byteas", "bytea[]", &["ARRAY['\\x00ff'::bytea, '\\x']"]),
    column("a_boxes", "box[]", &["'{(1,1),(0,0);(2,2),(1,1)}'"]),
    column("a_ranges", "int4range[]", &["'{\"[1,3)\",empty}'"]),
];
