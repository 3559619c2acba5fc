use super::*;
use proptest::prelude::*;
use std::sync::Arc;
use wal::table::ReplicaIdentity;
use wal::types::{Kind, Type, oid};
use wal::{Column, Tuple};

fn table() -> Table {
    let builtin = |name: &str, oid: u32| (name.to_owned(), Type::builtin(oid, name));
    let labels = ["draft", "paid"].map(Box::from).to_vec();
    let state = Type { kind: Kind::Enum { labels }, ..Type::builtin(70_000, "mood") };
    let columns = [
        builtin("id", oid::INT4),
        builtin("total", oid::NUMERIC),
        builtin("name", oid::TEXT),
        builtin("flag", oid::BOOL),
        builtin("day", oid::DATE),
        builtin("at", oid::TIMESTAMPTZ),
        ("state".to_owned(), state),
        builtin("weight", oid::FLOAT8),
        builtin("code", oid::BPCHAR),
        builtin("doc", oid::JSONB),
        builtin("Order", oid::INT8),
    ];
    let column = |(name, type_): (String, Type)| Column {
        name: name.into(),
        type_: Arc::new(type_),
        type_modifier: -1,
        not_null: false,
        default: None,
        in_identity: true,
    };
    Table {
        oid: 1,
        version: 1,
        schema: "public".into(),
        name: "t".into(),
        identity: ReplicaIdentity::Full,
        columns: columns.into_iter().map(column).collect(),
        key: vec![0],
        unique: Vec::new(),
    }
}

/// `None`: null.
const ROW: [Option<&str>; 11] = [
    Some("7"),
    Some("100.50"),
    Some("a_b%c"),
    Some("t"),
    Some("2024-02-29"),
    Some("2024-02-29 12:00:00.5+00"),
    Some("paid"),
    Some("1.5"),
    Some("ab   "),
    None,
    Some("9000000000"),
];

fn tuple(row: &[Option<&str>]) -> Vec<u8> {
    let mut bytes = u16::try_from(row.len()).expect("few").to_be_bytes().to_vec();
    for value in row {
        let Some(text) = value else {
            bytes.push(b'n');
            continue;
        };
        bytes.push(b't');
        bytes.extend_from_slice(&u32::try_from(text.len()).expect("few").to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

fn filter(text: &str) -> Result<Filter, FilterError> {
    Condition::parse(text)?.of(&table())
}

fn judge(text: &str) -> bool {
    let bytes = tuple(&ROW);
    let filter = filter(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    filter.judge(&Row::new(Tuple::trusted(&bytes), None)).expect("a verdict")
}

#[test]
fn conditions_say_what_sql_says() {
    let holds = [
        "id = 7 and total > 100",
        "total = 100.5 AND total <> 100.51",
        "id + 1 = 8 and 2 * id - 1 >= 13 and -id < 0",
        "id in (1, 7, NULL)",
        "id NOT IN (1, 2)",
        "id between 7 and 8 and not id between 8 and 9",
        "name = 'a_b%c' and name <> 'A_B%C'",
        "name like 'a\\_b\\%_' and name like '%c' and name not like '%d%'",
        "name COLLATE \"C\" > 'a' and name collate \"C\" <= 'b'",
        "flag and flag = true and flag is true and not flag is unknown",
        "day = '2024-02-29' and day < DATE '2024-03-01' and day <= TIMESTAMP '2024-02-29 00:00:01'",
        "at > '2024-02-29 13:00:00+01' and at < TIMESTAMPTZ '2024-02-29T12:00:01Z'",
        "state = 'paid' and state in ('draft', 'paid')",
        "weight > 1 and weight = 1.5 and weight <> -1.5",
        "code = 'ab' and code = 'ab '",
        "doc is null and id is not null and (doc is null) = true",
        "\"Order\" = 9000000000",
        "id is distinct from 8 and id is not distinct from 7",
        "id is distinct from null",
        "(id = 7) = flag",
        "false or id = 7",
        "not (id = 8 and total = 1)",
    ];
    for text in holds {
        assert!(judge(text), "{text}");
    }
}

#[test]
fn unknown_is_not_true() {
    let unknown =
        ["id = NULL", "id <> NULL", "not id = NULL", "id not in (1, NULL)", "NULL and id = 7"];
    for text in unknown {
        assert!(!judge(text), "{text}");
        assert!(judge(&format!("({text}) is unknown")), "{text}");
    }
    assert!(judge("id = 7 or id = NULL"));
    assert!(judge("(id = 8 and id = NULL) is false"));
}

#[test]
fn what_could_differ_from_the_server_is_refused() {
    let refused = [
        ("", "it is empty"),
        ("lower(name) = 'a'", "functions are not part of the subset"),
        ("name > 'a'", "the order of texts depends on their collation"),
        ("name ilike 'A%'", "`ilike` is not expected there"),
        ("user = 'a'", "`user` is a word of SQL"),
        ("nobody = 1", "public.t has no column `nobody`"),
        ("t.id = 1", "without the name of its table"),
        ("id = 1 -- x", "comments are not part"),
        ("id = 1; DROP TABLE t", "`;` is not part of the subset"),
        ("id = 1 = true", "write parentheses"),
        ("id::text = '1'", "casts are not"),
        ("at > '2024-01-01'", "write '2024-01-31 23:59:59+00'"),
        ("at > day", "types that are not compared"),
        ("day > '2024-02-30'", "write '2024-01-31'"),
        ("day > '01/02/2024'", "write '2024-01-31'"),
        ("id = '7.5'", "a whole number of the column's range"),
        ("id = '3000000000'", "a whole number of the column's range"),
        ("id = name", "types that are not compared"),
        ("state = 'gone'", "is no label of pg_catalog.mood"),
        ("state > 'draft'", "labels of an enum have no order"),
        ("weight in (1.5)", "IN is for columns that are no floating point numbers"),
        ("weight + 1 > 2", "arithmetic is for whole numbers and numeric only"),
        ("doc = '{}'", "can only be asked for IS NULL"),
        ("1 = 1", "are both constants"),
        ("true", "asks for no column"),
        ("id", "is neither true nor false"),
        ("name like 'a\\'", "ends with a backslash"),
        ("name = E'a'", "`e '…'` is not part of the subset"),
        ("id = 1e3", "without exponent"),
        ("id = 0x10", "without exponent"),
        ("id / 2 = 1", "`/` is not part of the subset"),
        ("id in (select 1)", "`select` is a word of SQL"),
        ("id = 7 and", "something is missing at the end"),
        ("(id = 7", "`)` is missing at the end"),
        ("name = 'a", "is not closed"),
    ];
    for (text, expected) in refused {
        let error = filter(text).map(|filter| filter.sql().to_owned()).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let deep = format!("{}id = 7{}", "(".repeat(100), ")".repeat(100));
    assert!(filter(&deep).unwrap_err().to_string().contains("deeper"));
}

#[test]
fn the_server_gets_quoted_names_and_nothing_of_its_settings() {
    let sql = |text: &str| filter(text).expect("a filter").sql().to_owned();
    assert_eq!(sql("ID = 7 AND \"Order\" <> -1"), "((\"id\" = 7) AND (\"Order\" <> (- 1)))");
    assert_eq!(sql("name = 'it''s \\'"), "(\"name\" = E'it''s \\\\')");
    assert_eq!(
        sql("id + 1 > 2"),
        "((CAST(\"id\" AS pg_catalog.numeric) + CAST(1 AS pg_catalog.numeric)) > 2)"
    );
    assert_eq!(sql("name collate \"C\" < 'b'"), "((\"name\" COLLATE pg_catalog.\"C\") < 'b')");
}

#[test]
fn a_value_that_was_not_sent_is_not_guessed() {
    let bytes = [0, 1, b'u'];
    let row = Row::new(Tuple::trusted(&bytes), None);
    for text in ["id = 7", "id is null"] {
        let verdict = filter(text).expect("a filter").judge(&row);
        assert_eq!(verdict, Err(Unjudged { column: 0 }), "{text}");
    }
}

#[test]
fn floating_point_numbers_have_the_server_s_order() {
    let mut row = ROW;
    let mut holds = |weight: &'static str, text: &str| {
        row[7] = Some(weight);
        let bytes = tuple(&row);
        let filter = filter(text).expect("a filter");
        filter.judge(&Row::new(Tuple::trusted(&bytes), None)).expect("a verdict")
    };
    assert!(holds("NaN", "weight > 1 and weight = weight and weight >= total"));
    assert!(holds("-0", "weight = 0"));
    assert!(holds("Infinity", "weight > total"));
    assert!(!holds("-Infinity", "weight > total"));
}

/// Matches as SQL says, without haste.
fn matches(text: &[char], pattern: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['%', rest @ ..] => (0..=text.len()).any(|at| matches(&text[at..], rest)),
        ['_', rest @ ..] => !text.is_empty() && matches(&text[1..], rest),
        [one, rest @ ..] => text.first() == Some(one) && matches(&text[1..], rest),
    }
}

proptest! {
    #[test]
    fn no_input_panics(text in "[ -~äß'\"]{0,60}") {
        let _ = filter(&text);
    }

    #[test]
    fn no_words_of_sql_panic(words in prop::collection::vec(prop::sample::select(vec![
        "id", "name", "total", "and", "or", "not", "is", "null", "in", "(", ")", ",", "1", "'a'", "=",
        "<", "like", "between", "+", "-", "*", "true", "distinct", "from", "collate", "\"C\"", "date",
    ]), 0..20)) {
        let _ = filter(&words.join(" "));
    }

    #[test]
    fn like_matches_as_sql_says(text in "[abä]{0,8}", pattern in "[abä%_]{0,6}") {
        let (chars, parts): (Vec<_>, Vec<_>) = (text.chars().collect(), pattern.chars().collect());
        let mut row = ROW;
        row[2] = Some(&text);
        let bytes = tuple(&row);
        let filter = filter(&format!("name like '{pattern}'")).expect("a filter");
        let verdict = filter.judge(&Row::new(Tuple::trusted(&bytes), None)).expect("a verdict");
        prop_assert_eq!(verdict, matches(&chars, &parts));
    }
}
