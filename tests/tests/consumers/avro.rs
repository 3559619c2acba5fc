//! Avro: DTS's by its published schema with Avro's own library, and by the vendor's SDK; Debezium's by Apicurio's deserializer and
//! converter.

use crate::goods::{self, COLUMNS, Column, Like, Rows, alike, columns_but};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tests::java;
use tests::reader::Topics;
use tests::scene::Scene;
use tests::servers::{Server, repository};
use tests::task::Spec;

#[test]
fn the_published_schema_of_dts_reads_dts_avro() {
    let scene = Scene::new("dts_java", "postgres-15");
    let mut sql = scene.sql();
    goods::create(&mut sql);
    let spec = scene.spec().sink("format: dts-avro").sink("partitions: 1");
    scene.catch_up(&spec);
    goods::change(&mut sql);
    scene.catch_up(&spec);
    let columns = columns_but(&[("flag", "BOOLEAN", "flag::text", Like::Text)]);
    let expected = goods::rows(&mut sql, &columns);

    let schema = repository().join("crates/record/src/encode/dts/record.avsc");
    let schema = schema.to_str().expect("a path in UTF-8");
    let records = scene.topics().records;
    let lines: Vec<_> = records.iter().map(|record| java::line(record.value.as_deref())).collect();
    let answers = java::answers("avro", "Avro", &["schema", schema], &lines);
    let mut rows = Rows::new();
    for record in &answers {
        let before = image(record, "beforeImages", &columns);
        let after = image(record, "afterImages", &columns);
        let shape = (before.is_some(), after.is_some());
        match record["operation"].as_str() {
            Some("INIT" | "INSERT") => assert_eq!(shape, (false, true), "{record}"),
            Some("UPDATE") => assert_eq!(shape, (true, true), "{record}"),
            Some("DELETE") => assert_eq!(shape, (true, false), "{record}"),
            _ => panic!("{record}"),
        }
        if let Some((id, row)) = before {
            assert_eq!(rows.remove(&id), Some(row), "row {id} is taken back as it was");
        }
        if let Some((id, row)) = after {
            assert_eq!(rows.insert(id, row), None, "row {id} came twice");
        }
    }
    goods::assert_same(&rows, &expected, &columns);
    read_by_the_sdk(&answers, &lines, &columns);
}

/// What the vendor's SDK makes of each column.
const SDK_TYPES: [&str; 21] = [
    "INTEGER_NUMERIC",
    "INTEGER_NUMERIC",
    "INTEGER_NUMERIC",
    "FLOAT_NUMERIC",
    "FLOAT_NUMERIC",
    "DECIMAL_NUMERIC",
    "STRING",
    "STRING",
    "STRING",
    "TEXT_ENCODING_OBJECT",
    "DATETIME",
    "DATETIME",
    "DATETIME",
    "DATETIME",
    "DATETIME",
    "BINARY_ENCODING_OBJECT",
    "BINARY_ENCODING_OBJECT",
    "TEXT_ENCODING_OBJECT",
    "TEXT_ENCODING_OBJECT",
    "TEXT_ENCODING_OBJECT",
    "TEXT_ENCODING_OBJECT",
];

/// The vendor's SDK makes of each record what Avro's own library does.
fn read_by_the_sdk(records: &[Value], lines: &[String], columns: &[Column]) {
    for (record, told) in records.iter().zip(&java::answers("dts", "Dts", &[], lines)) {
        for (ours, theirs) in
            [("id", "id"), ("operation", "operation"), ("sourceTimestamp", "timestamp")]
        {
            assert_eq!(told[theirs], record[ours]);
        }
        // Of three names it leaves out the one in the middle.
        let name = record["objectName"].as_str().expect("a name").replace(".o.", ".");
        assert_eq!((&told["name"], &told["table"]), (&name.into(), &"goods".into()));
        assert_eq!(told["key"], json!(["id"]));
        for (ours, theirs) in [("beforeImages", "before"), ("afterImages", "after")] {
            let values = told[theirs].as_array().map(|values| {
                let typed = columns.iter().zip(SDK_TYPES).zip(values);
                let row = typed.map(|((column, type_), value)| alike(column, sdk(value, type_)));
                row.collect::<Vec<_>>()
            });
            let expected = image(record, ours, columns).map(|(_, row)| row);
            assert_eq!(values, expected, "{theirs} of {record}");
        }
    }
}

/// A value of the SDK as the server's text.
fn sdk(value: &Value, type_: &str) -> Value {
    let Some(text) = value[1].as_str() else { return Value::Null };
    assert_eq!(value[0], type_, "{value}");
    match type_ {
        // It leaves out zeros at the end of a fraction: of microseconds, or milliseconds where there is no day.
        "DATETIME" => match text.split_once('.') {
            Some((at, fraction)) if at.contains(' ') => format!("{at}.{fraction:0<6}").into(),
            Some((at, fraction)) => format!("{at}.{fraction:0<3}").into(),
            None => text.into(),
        },
        "BINARY_ENCODING_OBJECT" => {
            let hex = text.to_lowercase();
            let bytes = (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..][..2], 16));
            let bytes: Vec<u8> = bytes.map(|byte| byte.expect("hexadecimal")).collect();
            // Documents are told as bytes, too.
            match String::from_utf8(bytes) {
                Ok(text) if text.starts_with(['{', '[']) => text.into(),
                Ok(_) | Err(_) => format!("\\x{hex}").into(),
            }
        }
        _ => text.into(),
    }
}

/// A row of a record by the names of its fields.
fn image(record: &Value, member: &str, columns: &[Column]) -> Option<(i64, Vec<Value>)> {
    let values = record[member].as_array()?;
    let names = record["fields"].as_array().expect("fields").iter().map(|field| &field["name"]);
    assert!(names.eq(columns.iter().map(|column| column.name)), "{}", record["fields"]);
    let value = |(column, value): (&Column, &Value)| alike(column, text(value));
    let row: Vec<_> = columns.iter().zip(values).map(value).collect();
    let id = row[0].as_str().and_then(|id| id.parse().ok()).expect("a key");
    Some((id, row))
}

/// A value of DTS as the server's text.
fn text(value: &Value) -> Value {
    let inner = &value["value"];
    let bytes = || STANDARD.decode(inner.as_str().expect("base64")).expect("base64");
    match value["@type"].as_str() {
        None => Value::Null,
        Some("Integer" | "Decimal" | "TextObject") => inner.clone(),
        Some("Character") => String::from_utf8(bytes()).expect("UTF-8").into(),
        Some("Float") => inner.as_str().map_or_else(|| inner.to_string(), Into::into).into(),
        Some("DateTime") => moment(value).into(),
        Some("TimestampWithTimeZone") => {
            assert_eq!(value["timezone"], "+00:00");
            moment(inner).into()
        }
        Some("BinaryObject") if value["type"] == "JSON" => {
            String::from_utf8(bytes()).expect("UTF-8").into()
        }
        Some("BinaryObject") => {
            let hex = bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            format!("\\x{hex}").into()
        }
        Some(_) => panic!("{value}"),
    }
}

/// A date, a time with milliseconds, or both with microseconds.
fn moment(at: &Value) -> String {
    let part = |name: &str| at[name].as_i64();
    let day = part("year").map(|year| {
        let (month, day) = (part("month").expect("a month"), part("day").expect("a day"));
        format!("{year:04}-{month:02}-{day:02}")
    });
    let clock = part("hour").map(|hour| {
        let micros = part("millis").expect("a fraction");
        let (minute, second) = (part("minute").expect("minutes"), part("second").expect("seconds"));
        (format!("{hour:02}:{minute:02}:{second:02}"), micros)
    });
    match (day, clock) {
        (Some(day), Some((clock, micros))) => format!("{day} {clock}.{micros:06}"),
        (Some(day), None) => day,
        (None, Some((clock, micros))) => format!("{clock}.{:03}", micros / 1000),
        (None, None) => panic!("no moment: {at}"),
    }
}

#[test]
fn apicurio_reads_debezium_avro_as_debezium_json() {
    let scene = Scene::new("serde", "postgres-15");
    let registry = Server::start("registry");
    let mut sql = scene.sql();
    goods::create(&mut sql);
    // Two tasks over one database: their records may differ in their clocks and names only.
    let json =
        Spec::new(&format!("{}_json", scene.name), &scene.postgres, &scene.name, &scene.kafka);
    let json =
        json.sink("partitions: 1").sink("topic_prefix: p").sink("format_options: {schemas: true}");
    let avro = scene
        .spec()
        .sink("format: debezium-avro")
        .sink("partitions: 1")
        .sink("topic_prefix: p")
        .sink(&format!("registry: {{url: \"{}\"}}", tests::registry::url(&registry)));
    scene.catch_up(&avro);
    scene.catch_up(&json);
    goods::change(&mut sql);
    sql.run("TRUNCATE o.goods");
    scene.catch_up(&avro);
    scene.catch_up(&json);

    let of = |task: &str| Topics::read(&scene.kafka, &format!("{task}.o.goods")).records;
    let (expected, found) = (of(json.task()), of(&scene.name));
    assert_eq!(found.len(), expected.len());
    let lines = goods::lines(&found);
    let url = format!("http://{}/apis/registry/v2", registry.address);
    let mut answers = java::answers("avro", "Avro", &["registry", &url], &lines).into_iter();
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.key.is_some(), expected.key.is_some());
        assert_eq!(found.value.is_some(), expected.value.is_some());
        if expected.key.is_some() {
            compare(&answers.next().expect("an answer"), &expected.key_json());
        }
        if expected.value.is_some() {
            compare(&answers.next().expect("an answer"), &expected.json());
        }
    }
    assert!(3 * COLUMNS.len() < found.len(), "enough was compared");
}

/// Data and schema of Kafka Connect are those of the JSON; the bare record has the same values.
#[track_caller]
fn compare(found: &Value, expected: &Value) {
    let mut generic = found["generic"].clone();
    nameless(&mut generic);
    assert_eq!(goods::timeless(generic), goods::timeless(expected["payload"].clone()));
    assert_eq!(
        goods::timeless(found["payload"].clone()),
        goods::timeless(expected["payload"].clone())
    );
    assert_eq!(found["schema"], expected["schema"]);
}

fn nameless(value: &mut Value) {
    if let Some(members) = value.as_object_mut() {
        members.remove("@type");
        members.values_mut().for_each(nameless);
    }
    if let Some(items) = value.as_array_mut() {
        items.iter_mut().for_each(nameless);
    }
}
