//! The JSON Schema that `distributary schema` prints takes what a task takes, and refuses what an
//! editor should underline.

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Number, Value, json};
use std::process::Command;

const INTERFACE: &str = include_str!("../../config/testdata/interface.yaml");

fn schema() -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_distributary"))
        .arg("schema")
        .env_remove("DISTRIBUTARY_LOG")
        .output()
        .expect("the binary can be run");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn interface() -> Value {
    let documents = Yaml::load_from_str(INTERFACE).expect("YAML");
    json_of(&documents[0])
}

fn json_of(node: &Yaml<'_>) -> Value {
    match node {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(value)) => Value::Bool(*value),
        Yaml::Value(Scalar::Integer(value)) => Value::Number(Number::from(*value)),
        Yaml::Value(Scalar::String(value)) => Value::String(value.to_string()),
        Yaml::Sequence(items) => items.iter().map(json_of).collect(),
        Yaml::Mapping(entries) => {
            let entry = |(key, value)| {
                (json_of(key).as_str().expect("a text as key").to_owned(), json_of(value))
            };
            Value::Object(entries.iter().map(entry).collect::<Map<_, _>>())
        }
        Yaml::Value(Scalar::FloatingPoint(_))
        | Yaml::Representation(..)
        | Yaml::Tagged(..)
        | Yaml::Alias(_)
        | Yaml::BadValue => panic!("not used in specs: {node:?}"),
    }
}

/// What a schema finds wrong with a value, each with its path.
///
/// Knows the keywords that our schema uses and no others, and says so: a validator for every draft
/// would be the largest dependency of this package.
fn problems(root: &Value, schema: &Value, value: &Value, path: &str) -> Vec<String> {
    if let Value::Bool(all) = schema {
        return refuse(!all, format!("{path}: not known"));
    }
    let schema = schema.as_object().expect("a schema");
    let within = |schema: &Value| problems(root, schema, value, path);
    schema
        .iter()
        .flat_map(|(keyword, rule)| match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" | "default" | "examples" | "format" => {
                Vec::new()
            }
            "$ref" => {
                let pointer = rule.as_str().and_then(|text| text.strip_prefix('#'));
                within(root.pointer(pointer.expect("a local reference")).expect("a definition"))
            }
            "anyOf" => {
                let ways: Vec<_> = list(rule).iter().map(within).collect();
                if ways.iter().any(Vec::is_empty) { Vec::new() } else { ways.concat() }
            }
            "type" => {
                let types = rule.as_array().map_or(std::slice::from_ref(rule), Vec::as_slice);
                let fits = types.iter().any(|it| is_a(value, it.as_str().expect("a type")));
                refuse(!fits, format!("{path}: is no {rule}"))
            }
            "enum" => refuse(!list(rule).contains(value), format!("{path}: is none of {rule}")),
            "minimum" => refuse(value.as_f64() < rule.as_f64(), format!("{path}: below {rule}")),
            "maximum" => refuse(rule.as_f64() < value.as_f64(), format!("{path}: above {rule}")),
            "items" => {
                let items = value.as_array().into_iter().flatten().enumerate();
                items
                    .flat_map(|(index, item)| {
                        problems(root, rule, item, &format!("{path}[{index}]"))
                    })
                    .collect()
            }
            "properties" => members(value)
                .filter_map(|(name, member)| Some((name, member, rule.get(name)?)))
                .flat_map(|(name, it, rule)| problems(root, rule, it, &format!("{path}.{name}")))
                .collect(),
            "additionalProperties" => members(value)
                .filter(|(name, _)| {
                    schema.get("properties").is_none_or(|it| it.get(name).is_none())
                })
                .flat_map(|(name, it)| problems(root, rule, it, &format!("{path}.{name}")))
                .collect(),
            other => panic!("the test does not know the keyword `{other}`"),
        })
        .collect()
}

fn list(rule: &Value) -> &[Value] {
    rule.as_array().expect("a list")
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn refuse(wrong: bool, text: String) -> Vec<String> {
    if wrong { vec![text] } else { Vec::new() }
}

fn is_a(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the test does not know the type `{other}`"),
    }
}

#[test]
fn the_spec_of_the_interface_is_accepted() {
    let schema = schema();
    assert_eq!(problems(&schema, &schema, &interface(), ""), [""; 0]);
}

#[test]
fn what_a_task_refuses_is_underlined() {
    let schema = schema();
    for (pointer, wrong, path) in [
        ("/sink/compresion", json!("lz4"), ".sink.compresion"),
        ("/sink/compression", json!("lz5"), ".sink.compression"),
        ("/sink/partitions", json!("many"), ".sink.partitions"),
        ("/source/tls/mode", json!(true), ".source.tls.mode"),
        ("/objects/0/operations", json!(["insert", "merge"]), ".objects[0].operations[1]"),
        ("/snapshot/parallel", json!(-1), ".snapshot.parallel"),
        ("/sync/schemas", json!(true), ".sync.schemas"),
    ] {
        let mut spec = interface();
        let (parent, key) = pointer.rsplit_once('/').expect("a path");
        spec.pointer_mut(parent).expect("a part of the spec")[key] = wrong;
        let found = problems(&schema, &schema, &spec, "");
        let at = format!("{path}: ");
        assert!(!found.is_empty(), "{path} is accepted");
        assert!(found.iter().all(|problem| problem.starts_with(&at)), "{path}: {found:?}");
    }
}
