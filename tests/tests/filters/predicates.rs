//! Random conditions of the documented subset, and a table whose rows have the values at which they change
//! their mind.

use rand::Rng;
use rand::rngs::SmallRng;

pub(crate) const TABLE: &str = "\
    CREATE TYPE mood AS ENUM ('draft', 'paid', 'Öl');
    CREATE DOMAIN small AS int CHECK (VALUE < 1000);
    CREATE TABLE t (id int PRIMARY KEY, i2 int2, i4 int4, i8 int8, n numeric, n2 numeric(12,2), f4 float4,
      f8 float8, s text, v varchar(20), c char(6), b boolean, d date, ts timestamp, tz timestamptz,
      tm time, u uuid, m mood, p small, j jsonb, \"Ä b\" int[]);";

/// Columns, how their values are sent in binary form, and values.
pub(crate) const COLUMNS: &[(&str, &str, &[&str])] = &[
    ("i2", "int2send", &["0", "1", "-1", "32767", "-32768", "100"]),
    ("i4", "int4send", &["0", "1", "-1", "2147483647", "-2147483648", "100"]),
    ("i8", "int8send", &["0", "1", "-1", "9223372036854775807", "9007199254740993", "100"]),
    (
        "n",
        "numeric_send",
        &[
            "0",
            "1",
            "1.0",
            "-1.50",
            "100",
            "NaN",
            "0.001",
            "99999999999999999999.5",
            "123456789012345678901234567890123456789012345.678",
            "10000",
            "-0.1",
            "9007199254740993",
        ],
    ),
    ("n2", "numeric_send", &["0", "1", "1.5", "-1.5", "100", "9999999999.99", "0.01"]),
    ("f4", "float4send", &["0", "-0", "1", "1.1", "NaN", "Infinity", "-Infinity", "100", "3.4e38"]),
    (
        "f8",
        "float8send",
        &[
            "0",
            "-0",
            "1",
            "1.1",
            "NaN",
            "Infinity",
            "-Infinity",
            "100",
            "1e300",
            "9007199254740992",
        ],
    ),
    ("s", "textsend", &["", "a", "A", "ab", "a b", "ä", "%", "a_b", "it's", "a\\b", "ab  ", "Öl"]),
    ("v", "varcharsend", &["", "a", "A", "ab", "ab  ", "ä", "draft", "Öl"]),
    ("c", "bpcharsend", &["", "a", "ab", "Öl", "abcdef"]),
    ("b", "boolsend", &["t", "f"]),
    (
        "d",
        "date_send",
        &[
            "2024-02-29",
            "2024-03-01",
            "infinity",
            "-infinity",
            "0044-03-15 BC",
            "1999-12-31",
            "12024-01-01",
        ],
    ),
    (
        "ts",
        "timestamp_send",
        &[
            "2024-02-29",
            "2024-02-29 12:00:00.5",
            "infinity",
            "-infinity",
            "1999-12-31 23:59:59.999999",
            "2024-03-01 24:00:00",
        ],
    ),
    (
        "tz",
        "timestamptz_send",
        &[
            "2024-02-29 12:00:00+00",
            "2024-02-29 12:00:00+02",
            "infinity",
            "-infinity",
            "1883-01-01 00:00:00+00",
        ],
    ),
    ("tm", "time_send", &["00:00:00", "12:34:56.789", "24:00:00", "23:59:59.999999"]),
    (
        "u",
        "uuid_send",
        &["5b30857f-0bfa-48b5-ac0b-5c64e28078d1", "00000000-0000-0000-0000-000000000000"],
    ),
    ("m", "enum_send", &["draft", "paid", "Öl"]),
    ("p", "int4send", &["0", "1", "-1", "7", "100"]),
    ("j", "jsonb_send", &["{}", "null"]),
    ("Ä b", "array_send", &["{}", "{1,NULL}"]),
];

/// A text as SQL.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn one<'a>(rng: &mut SmallRng, of: &[&'a str]) -> &'a str {
    of[rng.random_range(0..of.len())]
}

pub(crate) fn condition(rng: &mut SmallRng, depth: u32) -> String {
    let inner = |rng: &mut SmallRng| condition(rng, depth - 1);
    if depth == 0 {
        return atom(rng);
    }
    match rng.random_range(0..9) {
        0 | 1 => format!("{} AND {}", inner(rng), inner(rng)),
        2 => format!("({} OR {})", inner(rng), inner(rng)),
        3 => format!("{} or {}", inner(rng), inner(rng)),
        4 => format!("NOT ({})", inner(rng)),
        5 => {
            let word = one(rng, &["TRUE", "FALSE", "UNKNOWN", "NOT TRUE", "NOT UNKNOWN", "NULL"]);
            format!("({}) IS {word}", inner(rng))
        }
        6 => format!("NOT {}", atom(rng)),
        7 => format!("(({}) {} ({}))", inner(rng), one(rng, &["=", "<>", "<"]), inner(rng)),
        _ => atom(rng),
    }
}

fn comparison(rng: &mut SmallRng) -> &'static str {
    ["=", "<>", "!=", "<", "<=", ">", ">="][rng.random_range(0..7)]
}

/// What is compared, in one way or another.
fn compared(rng: &mut SmallRng, left: &str, right: &str, low: &str) -> String {
    let not = one(rng, &["", "NOT "]);
    match rng.random_range(0..6) {
        0 => format!("{left} {not}BETWEEN {low} AND {right}"),
        1 => format!("{left} IS {not}DISTINCT FROM {right}"),
        2 => format!("{right} {} {left}", comparison(rng)),
        _ => format!("{left} {} {right}", comparison(rng)),
    }
}

fn number(rng: &mut SmallRng) -> String {
    let number = one(
        rng,
        &[
            "0",
            "1",
            "1.50",
            "100",
            "0.001",
            "99999999999999999999.5",
            "32767",
            ".5",
            "9223372036854775807",
            "9007199254740993",
        ],
    );
    format!("{}{number}", one(rng, &["", "", "-", "- "]))
}

fn exact(rng: &mut SmallRng) -> String {
    match rng.random_range(0..5) {
        // These do not overflow.
        0 => format!("n2 {} p", one(rng, &["+", "-", "*"])),
        1 => format!("(p {} {}) * n", one(rng, &["+", "-"]), one(rng, &["2", "n2", "0.5"])),
        2 => format!("-{}", one(rng, &["n", "p"])),
        _ => one(rng, &["i2", "i4", "i8", "n", "n2", "p"]).to_owned(),
    }
}

fn atom(rng: &mut SmallRng) -> String {
    match rng.random_range(0..20) {
        kind @ 0..7 => of_numbers(rng, kind),
        kind @ 7..13 => of_texts(rng, kind),
        kind => of_others(rng, kind),
    }
}

fn of_numbers(rng: &mut SmallRng, kind: u32) -> String {
    let not = one(rng, &["", "NOT "]);
    let op = comparison(rng);
    match kind {
        0 | 1 => {
            let (left, right, low) = (exact(rng), number(rng), number(rng));
            compared(rng, &left, &right, &low)
        }
        2 => {
            let (left, right, low) = (exact(rng), exact(rng), number(rng));
            compared(rng, &left, &right, &low)
        }
        3 => {
            let list: Vec<_> = (0..rng.random_range(1..5)).map(|_| number(rng)).collect();
            let null = one(rng, &["", "", ", NULL"]);
            format!("{} {not}IN ({}{null})", exact(rng), list.join(", "))
        }
        4 => {
            format!("{} {op} {}", one(rng, &["i2", "i4", "p"]), one(rng, &["'1'", "'-1'", "'100'"]))
        }
        5 => {
            let (left, right, low) = (one(rng, &["f4", "f8"]), number(rng), number(rng));
            compared(rng, left, &right, &low)
        }
        _ => {
            let right = one(rng, &["'1.1'", "'0'", "'-1'", "f4", "f8", "i4", "i8", "n2"]);
            let left = one(rng, &["f4", "f8"]);
            compared(rng, left, right, "'0.5'")
        }
    }
}

fn of_texts(rng: &mut SmallRng, kind: u32) -> String {
    let not = one(rng, &["", "NOT "]);
    let same = one(rng, SAME);
    match kind {
        7 => format!("{} {same} {}", one(rng, &["s", "v"]), text(rng)),
        8 => format!("{} {not}IN ({}, {})", one(rng, &["s", "v", "c"]), text(rng), text(rng)),
        9 => {
            let pattern =
                one(rng, &["%", "a%", "_", "%b%", "a\\_b", "%\\%", "__", "", "%ä", "a\\\\b"]);
            format!("{} {not}LIKE '{pattern}'", one(rng, &["s", "v"]))
        }
        10 => {
            let (left, low) = (one(rng, &["s", "v", "c"]), text(rng));
            let right = text(rng);
            compared(rng, &format!("{left} COLLATE \"C\""), &right, &low)
        }
        11 => format!("c {same} {}", one(rng, &["'a'", "'ab   '", "''", "'Öl'"])),
        _ => format!("{} {same} {}", one(rng, &["s", "v"]), one(rng, &["s", "v"])),
    }
}

fn of_others(rng: &mut SmallRng, kind: u32) -> String {
    let not = one(rng, &["", "NOT "]);
    let same = one(rng, SAME);
    match kind {
        13 => one(rng, &["b", "b = true", "b <> FALSE", "b IS NOT NULL", "b = 'f'", "b = b"])
            .to_owned(),
        14 => {
            let right = one(
                rng,
                &[
                    "'2024-02-29'",
                    "DATE '1999-12-31'",
                    "ts",
                    "d",
                    "'infinity'",
                    "TIMESTAMP '2024-02-29 12:00:00.5'",
                ],
            );
            let low = one(rng, &["'1999-12-31'", "'-infinity'"]);
            let left = one(rng, &["d", "ts"]);
            compared(rng, left, right, low)
        }
        15 => {
            let right = one(
                rng,
                &[
                    "'2024-02-29 10:00:00Z'",
                    "tz",
                    "'infinity'",
                    "TIMESTAMPTZ '2024-02-29 14:00:00+02:00'",
                ],
            );
            compared(rng, "tz", right, "'1883-01-01 00:00:00+00'")
        }
        16 => {
            let right = one(rng, &["'12:34:56.789'", "TIME '24:00:00'"]);
            compared(rng, "tm", right, "'00:00:01'")
        }
        17 => {
            let right = one(rng, &["'5B30857F-0bfa-48b5-ac0b-5c64e28078d1'", "u"]);
            compared(rng, "u", right, "'00000000-0000-0000-0000-000000000000'")
        }
        18 => format!("m {same} '{}'", one(rng, &["draft", "paid", "Öl"])),
        _ => {
            let (column, ..) = COLUMNS[rng.random_range(0..COLUMNS.len())];
            format!("\"{column}\" IS {not}NULL")
        }
    }
}

const SAME: &[&str] = &["=", "<>", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"];

fn text(rng: &mut SmallRng) -> String {
    literal(one(rng, &["", "a", "A", "ab", "ab  ", "ä", "it's", "a\\b", "Öl", "b"]))
}
