//! The table of `docs/formats.md`: every sample as each format writes it. `UPDATE=1` writes it anew.

use crate::connect::connect;
use crate::proto;
use crate::samples::{Sample, samples};
use crate::scene::{Binary, Did, Value, array_of, column, encode, encode_binary, plan, table, v};
use apache_avro::types::Value as Avro;
use apache_avro::{Schema, from_avro_datum};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use record::plan::TablePlan;
use record::schema::Ids;
use serde_json::Value as Json;
use wal::table::ReplicaIdentity::Full;
use wal::types::{Type, oid};

/// A column of the table: the format's word, and how the value of the column `v` is found in a record.
type Format = (&'static str, Find);

enum Find {
    InText,
    InBinary(fn(&TablePlan, &Binary) -> Option<String>),
}

const FORMATS: &[Format] = &[
    ("debezium-json", Find::InText),
    ("debezium-avro", Find::InBinary(of_avro)),
    ("protobuf", Find::InBinary(of_protobuf)),
    ("dts-avro", Find::InBinary(of_dts)),
    ("canal-json", Find::InText),
    ("maxwell-json", Find::InText),
    ("shareplex-json", Find::InText),
];

const REGISTRY: &str = "registry: {url: http://r}";
const IDS: Ids = Ids { key: Some(1), value: 2 };

fn of_avro(plan: &TablePlan, record: &Binary) -> Option<String> {
    let schema = plan.schemas()?.value.after(&[]);
    let schema = Schema::parse_str(&schema.text).expect("an Avro schema");
    let (_, mut rest) = record.value.as_deref()?.split_first_chunk::<5>()?;
    let value = connect(from_avro_datum(&schema, &mut rest, None).expect("a datum"));
    value["after"].get("v").map(Json::to_string)
}

fn of_protobuf(plan: &TablePlan, record: &Binary) -> Option<String> {
    let schema = plan.schemas()?.value.after(&[]);
    let imports: Vec<_> = schema.references.iter().map(|it| (it.name, it.text)).collect();
    let message = proto::compile(&schema.text, &imports);
    let value = proto::read(record.value.as_deref()?, IDS.value, &message);
    value["after"].get("v").map(|value| without_absent(value.clone()).to_string())
}

/// Without what an array's messages do not have.
fn without_absent(value: Json) -> Json {
    match value {
        Json::Object(fields) => {
            let is_there = |value: &Json| !value.is_null() && value != &Json::Array(Vec::new());
            let fields =
                fields.into_iter().filter(|(name, value)| name == "items" || is_there(value));
            fields.map(|(name, value)| (name, without_absent(value))).collect()
        }
        Json::Array(items) => items.into_iter().map(without_absent).collect(),
        other => other,
    }
}

/// Branches of the items' union.
const DTS_ITEMS: [&str; 13] = [
    "null",
    "Integer",
    "Character",
    "Decimal",
    "Float",
    "Timestamp",
    "DateTime",
    "TimestampWithTimeZone",
    "BinaryGeometry",
    "TextGeometry",
    "BinaryObject",
    "TextObject",
    "EmptyObject",
];

fn of_dts(_: &TablePlan, record: &Binary) -> Option<String> {
    let schema = include_str!("../../src/encode/dts/record.avsc");
    let schema = Schema::parse_str(schema).expect("an Avro schema");
    let mut bytes = record.value.as_deref()?;
    let Avro::Record(fields) = from_avro_datum(&schema, &mut bytes, None).expect("a record") else {
        return None;
    };
    let (_, images) = fields.into_iter().find(|(name, _)| name == "afterImages")?;
    let Avro::Union(_, images) = images else { return None };
    let Avro::Array(mut items) = *images else { return None };
    let Avro::Union(branch, item) = items.pop()? else { return None };
    let mut item = connect(*item);
    if let Some(text) = item.get("charset").and(item["value"].as_str()) {
        let bytes = STANDARD.decode(text).expect("base64");
        item["value"] = String::from_utf8(bytes).expect("UTF-8").into();
    }
    Some(format!("{} {item}", DTS_ITEMS[usize::try_from(branch).expect("a branch")]))
}

/// The value of a sample as a format writes it; why not, where it does not.
fn rendered(format: &Format, sample: &Sample, sink: &str) -> String {
    rendered_value(format, (&sample.type_, sample.modifier), v(sample.text), sink)
}

/// As [`rendered`], of a value of a type with its modifier.
fn rendered_value(
    (word, find): &Format,
    (type_, modifier): (&Type, i32),
    value: Value<'_>,
    sink: &str,
) -> String {
    let columns = vec![
        column("id", Type::builtin(oid::INT4, "int4"), -1),
        column("v", type_.clone(), modifier),
    ];
    let table = table("t", columns, 1, Full);
    let (task, plan) =
        plan(&table, &format!("format: {word}, {REGISTRY}, {sink}"), "", 1).expect("a plan");
    if let Some(schemas) = plan.schemas() {
        schemas.taken_first(IDS);
    }
    let row = [v("1"), value];
    let batch = crate::scene::batch(&table, crate::transaction(0, 8), &[Did::Insert(&row)]);
    let found = match find {
        Find::InText => encode(&task, &plan, &batch).map(|sent| {
            // Canal names each column's types, too; the row comes first.
            crate::member(sent[0].value.as_deref()?, "v").map(str::to_owned)
        }),
        Find::InBinary(find) => {
            encode_binary(&task, &plan, &batch).map(|sent| find(&plan, &sent[0]))
        }
    };
    match found {
        Ok(found) => found.unwrap_or_else(|| "left out".into()),
        Err(error) => {
            let error = error.to_string();
            let limit = error.split_once("does not fit the format: ").map(|it| it.1);
            let limit = limit.and_then(|it| it.split_once(';')).map(|it| it.0.to_owned());
            format!("refused: {}", limit.unwrap_or(error))
        }
    }
}

fn cell(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}

fn types() -> String {
    let mut lines = vec![
        format!("| PostgreSQL | server's text |{}", row(|format| format!(" {} |", format.0))),
        format!("|---|---|{}", row(|_| "---|".into())),
    ];
    for sample in samples() {
        let cells = row(|format| format!(" {} |", cell(&rendered(format, &sample, ""))));
        lines.push(format!("| {} | {} |{cells}", sample.name, cell(sample.text)));
    }
    lines.join("\n")
}

fn row(cell: impl Fn(&Format) -> String) -> String {
    FORMATS.iter().map(cell).collect()
}

/// What a format has no room for is refused by default, and null where the task says so.
#[test]
fn no_value_is_null_unless_the_task_says_so() {
    let mut refused = 0;
    for sample in samples() {
        for format in FORMATS {
            let found = rendered(format, &sample, "");
            let where_ = format!("{} in {}: {found}", sample.name, format.0);
            // The JSON that is called so.
            let is_lost = found.ends_with("null") && sample.text != "null";
            assert!(!is_lost && !found.ends_with("left out"), "{where_}");
            let allowed = rendered(format, &sample, "unrepresentable: null");
            if found.starts_with("refused") {
                refused += 1;
                assert_eq!(allowed, "null", "{where_}");
            } else {
                assert_eq!(allowed, found, "{where_}");
            }
        }
    }
    assert!(0 < refused, "no sample is beyond any format");
}

/// As under `source.sql_ascii`: bytes that are no text in its encoding, and an array that holds one in base64.
#[test]
fn no_text_stops_a_task_that_says_null() {
    let text = Type::builtin(oid::TEXT, "text");
    let numbers = array_of(Type::builtin(oid::INT4, "int4"));
    let bytea = Type::builtin(oid::BYTEA, "bytea");
    let no_text = Value::Bytes(b"\xa4\xff\x8f");
    for format in FORMATS {
        let of = |type_: &Type, value, sink| rendered_value(format, (type_, -1), value, sink);
        for (type_, value, why) in [
            (&text, no_text, "not UTF-8"),
            (&array_of(text.clone()), Value::Bytes(b"{a,\xa4}"), "not UTF-8"),
            (&bytea, v("\\x0g"), "no value of its type"),
        ] {
            let where_ = format!("{} in {}", type_.name, format.0);
            let refused = of(type_, value, "");
            assert!(refused.starts_with("refused") && refused.contains(why), "{where_}: {refused}");
            let null = of(type_, value, "unrepresentable: null");
            assert!(["null", "null null"].contains(&&*null), "{where_}: {null}");
        }
        // Formats that write the server's text of an array have nothing to object to.
        let broken = of(&numbers, v("base64:pP8="), "unrepresentable: null");
        let is_written = broken.contains("base64:pP8=");
        assert!(is_written || broken == "null", "{}: {broken}", format.0);
    }
}

const START: &str =
    "<!-- rendered by crates/record/tests/formats/documented.rs; UPDATE=1 writes it anew -->\n";
const END: &str = "\n<!-- end -->";

#[test]
fn the_documentation_shows_what_the_encoders_write() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/formats.md");
    let text = std::fs::read_to_string(path).expect("docs/formats.md");
    let (before, rest) = text.split_once(START).expect("where the table begins");
    let (shown, after) = rest.split_once(END).expect("where the table ends");
    let types = types();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, format!("{before}{START}{types}{END}{after}")).expect("written");
    } else {
        assert!(shown == types, "docs/formats.md is not as the encoders write: run with UPDATE=1");
    }
}
