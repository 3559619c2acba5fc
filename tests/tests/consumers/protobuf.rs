//! Protobuf by a reader that knows the registry only: schemas by their ids with what they refer to, compiled by Apicurio's library, and
//! messages by Google's.

use crate::goods::{self, COLUMNS};
use serde_json::{Map, Value, json};
use tests::java;
use tests::reader::Topics;
use tests::scene::Scene;
use tests::servers::Server;
use tests::task::Spec;

/// What the reader must take each column for.
const TYPES: [(&str, &str); 22] = [
    ("id", "int64"),
    ("small", "int32"),
    ("n", "int32"),
    ("ratio", "double"),
    ("part", "float"),
    ("price", "string"),
    ("name", "string"),
    ("code", "string"),
    ("pad", "string"),
    ("flag", "bool"),
    ("day", "int32"),
    ("at", "int64"),
    ("brief", "int64"),
    ("seen", "string"),
    ("clock", "int32"),
    ("raw", "bytes"),
    ("doc", "string"),
    ("ref", "string"),
    ("mood", "string"),
    ("tags", "StringArray"),
    ("numbers", "Int32Array"),
    // Of the later version.
    ("a_b", "StringArray"),
];

#[test]
fn what_apicurio_compiles_reads_protobuf_as_debezium_json() {
    let scene = Scene::new("proto", "postgres-15");
    let registry = Server::start("registry");
    let mut sql = scene.sql();
    goods::create(&mut sql);
    // Two tasks over one database: their records may differ in their clocks and names only.
    let json =
        Spec::new(&format!("{}_json", scene.name), &scene.postgres, &scene.name, &scene.kafka);
    let json = json
        .sink("partitions: 1")
        .sink("topic_prefix: p")
        .sink("format_options: {decimal: string}");
    let proto = scene
        .spec()
        .sink("format: protobuf")
        .sink("partitions: 1")
        .sink("topic_prefix: p")
        .sink(&format!("registry: {{url: \"{}\"}}", tests::registry::url(&registry)));
    [&proto, &json].iter().for_each(|spec| drop(scene.catch_up(spec)));
    goods::change(&mut sql);
    // Another version of the schema, with a name that Protobuf does not take.
    sql.run("ALTER TABLE o.goods ADD COLUMN \"a b\" text[]");
    sql.run("UPDATE o.goods SET \"a b\" = '{{x,NULL},{y,z}}' WHERE id = 1");
    sql.run("TRUNCATE o.goods");
    [&proto, &json].iter().for_each(|spec| drop(scene.catch_up(spec)));

    let of = |task: &str| Topics::read(&scene.kafka, &format!("{task}.o.goods")).records;
    let (expected, found) = (of(json.task()), of(&scene.name));
    assert_eq!(found.len(), expected.len());
    let lines = goods::lines(&found);
    let url = format!("http://{}/apis/registry/v2", registry.address);
    let mut answers = java::answers("protobuf", "Protobuf", &[&url], &lines).into_iter();
    let mut compared = 0;
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.key.is_some(), expected.key.is_some());
        assert_eq!(found.value.is_some(), expected.value.is_some());
        if expected.key.is_some() {
            let answer = answers.next().expect("an answer");
            assert_eq!(answer["message"], "p.o.goods.Key");
            assert_eq!(answer["data"], expected.key_json());
        }
        if expected.value.is_some() {
            let answer = answers.next().expect("an answer");
            assert_eq!(answer["message"], "p.o.goods.Envelope");
            assert_eq!(answer["imports"], json!(["distributary/semantic.proto"]));
            check_types(&answer["types"]);
            let found = goods::timeless(plain(answer["data"].clone()));
            assert_eq!(found, goods::timeless(plain(renamed(expected.json()))));
            compared += 1;
        }
    }
    assert!(3 * COLUMNS.len() < compared, "enough was compared");
    assert_eq!(answers.next(), None);
}

/// Both rows have the columns of a version of the table, in their order.
fn check_types(types: &Value) {
    for row in ["before", "after"] {
        let found = types[row].as_object().expect("a row");
        let found: Vec<_> = found.iter().map(|(name, type_)| (&**name, type_.as_str())).collect();
        let expected: Vec<_> = TYPES.iter().map(|&(name, type_)| (name, Some(type_))).collect();
        assert!(found == expected || found == expected[..expected.len() - 1], "{found:?}");
    }
}

/// Debezium JSON with the names that Protobuf has.
fn renamed(mut event: Value) -> Value {
    for row in ["before", "after"] {
        if let Some(columns) = event[row].as_object_mut()
            && let Some(value) = columns.remove("a b")
        {
            columns.insert("a_b".into(), value);
        }
    }
    event
}

/// An array of Protobuf has its items in messages, of which each has a value, an array, or neither.
fn plain(value: Value) -> Value {
    let item = |item: &Map<String, Value>| {
        let array = item.get("array").filter(|it| !it.is_null());
        plain(array.or(item.get("value")).cloned().unwrap_or_default())
    };
    match value {
        Value::Object(fields) if fields.contains_key("lower_bounds") => {
            let items = fields["items"].as_array().expect("items");
            items.iter().map(|it| item(it.as_object().expect("an item"))).collect()
        }
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, plain(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(plain).collect(),
        value @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => value,
    }
}
