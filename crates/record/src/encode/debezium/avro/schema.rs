//! Connect schemas, in the JSON form of [`super::super::schema`] → Avro schemas, as Connect's Avro
//! converter makes them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Where a field's union has the value, if it is one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Branches {
    /// No union: never null.
    Required,
    NullFirst,
    /// The branch of the field's default comes first.
    ValueFirst,
}

/// The precision that is written where none is known.
const PRECISION_UNKNOWN: u64 = 64;

/// How a field is encoded. `field`: its Connect schema.
pub(super) fn branches(field: &Value) -> Branches {
    match (is_optional(field), default(field)) {
        (false, _) => Branches::Required,
        (true, None) => Branches::NullFirst,
        (true, Some(_)) => Branches::ValueFirst,
    }
}

/// The Avro schema of a Connect schema that is not optional. Each named type is defined where it comes
/// first.
pub(super) fn convert(schema: &Value) -> Value {
    Converter::default().type_of(schema)
}

/// A full name as Avro takes it: other signs than letters, digits and `_` become `_`.
pub(super) fn full_name(name: &str) -> String {
    name.split('.').map(simple_name).collect::<Vec<_>>().join(".")
}

/// As [`full_name`], of one part.
pub(super) fn simple_name(name: &str) -> String {
    let plain = |sign: char| if sign.is_ascii_alphanumeric() { sign } else { '_' };
    let mut adjusted: String = name.chars().map(plain).collect();
    if adjusted.is_empty() || adjusted.starts_with(|first: char| first.is_ascii_digit()) {
        adjusted.insert(0, '_');
    }
    adjusted
}

#[derive(Default)]
struct Converter {
    defined: BTreeSet<String>,
}

impl Converter {
    fn type_of(&mut self, schema: &Value) -> Value {
        let name = schema["name"].as_str();
        if let Some(known) = name.map(full_name).filter(|name| self.defined.contains(name)) {
            return known.into();
        }
        let mut out = Map::new();
        match schema["type"].as_str().unwrap_or_default() {
            "struct" => self.record(schema, &mut out),
            "array" => {
                out.insert("type".into(), "array".into());
                out.insert("items".into(), self.optional(&schema["items"]));
            }
            "map" => self.map(schema, &mut out),
            "int8" | "int16" => {
                out.insert("type".into(), "int".into());
                out.insert("connect.type".into(), schema["type"].clone());
            }
            "int32" => drop(out.insert("type".into(), "int".into())),
            "int64" => drop(out.insert("type".into(), "long".into())),
            // The others have the same name in both.
            same => drop(out.insert("type".into(), same.into())),
        }
        attributes(schema, &mut out);
        match out.len() {
            1 => out.remove("type").unwrap_or_default(),
            _ => Value::Object(out),
        }
    }

    fn optional(&mut self, schema: &Value) -> Value {
        let type_ = self.type_of(schema);
        match branches(schema) {
            Branches::Required => type_,
            Branches::NullFirst => json!(["null", type_]),
            Branches::ValueFirst => json!([type_, "null"]),
        }
    }

    fn record(&mut self, schema: &Value, out: &mut Map<String, Value>) {
        let full = full_name(schema["name"].as_str().unwrap_or_default());
        let (space, name) = full.rsplit_once('.').unwrap_or(("", &full));
        out.insert("type".into(), "record".into());
        out.insert("name".into(), name.into());
        if !space.is_empty() {
            out.insert("namespace".into(), space.into());
        }
        self.defined.insert(full.clone());
        let fields = schema["fields"].as_array().into_iter().flatten();
        let fields = fields.map(|field| self.field(field)).collect();
        out.insert("fields".into(), Value::Array(fields));
    }

    fn field(&mut self, field: &Value) -> Value {
        let name = simple_name(field["field"].as_str().unwrap_or_default());
        let mut out = json!({ "name": name, "type": self.optional(field) });
        match branches(field) {
            Branches::NullFirst => out["default"] = Value::Null,
            Branches::Required | Branches::ValueFirst => {
                if let Some(default) = default(field) {
                    out["default"] = default;
                }
            }
        }
        out
    }

    /// Avro's maps have text keys; others become arrays of entries.
    fn map(&mut self, schema: &Value, out: &mut Map<String, Value>) {
        let (keys, values) = (&schema["keys"], &schema["values"]);
        if keys["type"] == "string" && !is_optional(keys) {
            out.insert("type".into(), "map".into());
            out.insert("values".into(), self.optional(values));
            return;
        }
        let entry = json!({
            "type": "record", "name": "MapEntry", "namespace": "io.confluent.connect.avro",
            "fields": [
                { "name": "key", "type": self.optional(keys) },
                { "name": "value", "type": self.optional(values) },
            ],
            "connect.internal.type": "MapEntry",
        });
        let full = "io.confluent.connect.avro.MapEntry";
        out.insert("type".into(), "array".into());
        let first = self.defined.insert(full.into());
        out.insert("items".into(), if first { entry } else { full.into() });
    }
}

/// What Connect knows of a type and Avro does not, and Avro's own logical types.
fn attributes(schema: &Value, out: &mut Map<String, Value>) {
    let parameters = &schema["parameters"];
    let parameter = |name: &str| parameters[name].as_str()?.parse::<u64>().ok();
    let name = schema["name"].as_str();
    let logical = match name {
        Some("org.apache.kafka.connect.data.Decimal") => {
            let precision = parameter("connect.decimal.precision").unwrap_or(PRECISION_UNKNOWN);
            // PostgreSQL has scales below 0 and above the precision; Avro's decimals have neither.
            parameter("scale").filter(|&scale| scale <= precision).map(|scale| {
                out.insert("scale".into(), scale.into());
                out.insert("precision".into(), precision.into());
                "decimal"
            })
        }
        Some("org.apache.kafka.connect.data.Date") => Some("date"),
        Some("org.apache.kafka.connect.data.Time") => Some("time-millis"),
        Some("org.apache.kafka.connect.data.Timestamp") => Some("timestamp-millis"),
        _ => None,
    };
    let mut attribute = |key: &str, value: Value| {
        if !value.is_null() {
            out.insert(key.into(), value);
        }
    };
    attribute("connect.doc", schema["doc"].clone());
    attribute("connect.version", schema["version"].clone());
    attribute("connect.parameters", parameters.clone());
    attribute("connect.default", default(schema).unwrap_or_default());
    attribute("connect.name", name.map(full_name).into());
    attribute("logicalType", logical.into());
}

fn is_optional(schema: &Value) -> bool {
    schema["optional"] == true
}

/// The default in the form of an Avro schema; `None`: there is none, or one that Avro's type has no room
/// for.
fn default(schema: &Value) -> Option<Value> {
    let value = schema.get("default")?;
    match schema["type"].as_str()? {
        "boolean" => value.is_boolean().then(|| value.clone()),
        "int8" | "int16" | "int32" => {
            value.as_i64().filter(|it| i32::try_from(*it).is_ok()).map(Value::from)
        }
        "int64" => value.as_i64().map(Value::from),
        "float" | "double" => value.is_number().then(|| value.clone()),
        "string" => value.is_string().then(|| value.clone()),
        // Each byte as the sign of that number.
        "bytes" => {
            let bytes = STANDARD.decode(value.as_str()?).ok()?;
            Some(bytes.into_iter().map(char::from).collect::<String>().into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(connect: &str, expected: &Expect) {
        let avro = convert(&serde_json::from_str(connect).expect("JSON"));
        expected.assert_eq(&avro.to_string());
    }

    #[test]
    fn a_plain_type_is_its_name() {
        check(r#"{"type":"int64","optional":false}"#, &expect![[r#""long""#]]);
        check(r#"{"type":"double","optional":false}"#, &expect![[r#""double""#]]);
    }

    #[test]
    fn what_connect_knows_is_kept_beside_the_type() {
        check(
            r#"{"type":"int16","optional":false}"#,
            &expect![[r#"{"type":"int","connect.type":"int16"}"#]],
        );
        check(
            r#"{"type":"bytes","name":"org.apache.kafka.connect.data.Decimal","version":1,"parameters":{"scale":"2","connect.decimal.precision":"12"}}"#,
            &expect![[
                r#"{"type":"bytes","scale":2,"precision":12,"connect.version":1,"connect.parameters":{"scale":"2","connect.decimal.precision":"12"},"connect.name":"org.apache.kafka.connect.data.Decimal","logicalType":"decimal"}"#
            ]],
        );
    }

    #[test]
    fn a_default_decides_which_branch_comes_first() {
        check(
            r#"{"type":"struct","name":"p.s.2-t.Value","fields":[
                {"type":"string","optional":true,"field":"a b"},
                {"type":"int32","optional":true,"default":7,"field":"1"},
                {"type":"bytes","optional":false,"default":"AP8=","field":"c"},
                {"type":"int64","optional":true,"default":"infinity","field":"d"}]}"#,
            &expect![[
                r#"{"type":"record","name":"Value","namespace":"p.s._2_t","fields":[{"name":"a_b","type":["null","string"],"default":null},{"name":"_1","type":[{"type":"int","connect.default":7},"null"],"default":7},{"name":"c","type":{"type":"bytes","connect.default":"\u0000ÿ"},"default":"\u0000ÿ"},{"name":"d","type":["null","long"],"default":null}],"connect.name":"p.s._2_t.Value"}"#
            ]],
        );
    }

    #[test]
    fn a_named_type_is_defined_once() {
        let point = r#"{"type":"struct","name":"g.Point","fields":[{"type":"double","field":"x"}],"optional":true"#;
        check(
            &format!(
                r#"{{"type":"struct","name":"p.R","fields":[{point},"field":"a"}},{point},"field":"b"}}]}}"#
            ),
            &expect![[
                r#"{"type":"record","name":"R","namespace":"p","fields":[{"name":"a","type":["null",{"type":"record","name":"Point","namespace":"g","fields":[{"name":"x","type":"double"}],"connect.name":"g.Point"}],"default":null},{"name":"b","type":["null","g.Point"],"default":null}],"connect.name":"p.R"}"#
            ]],
        );
    }

    #[test]
    fn maps_with_other_keys_are_entries() {
        check(
            r#"{"type":"map","keys":{"type":"int16"},"values":{"type":"double"}}"#,
            &expect![[
                r#"{"type":"array","items":{"type":"record","name":"MapEntry","namespace":"io.confluent.connect.avro","fields":[{"name":"key","type":{"type":"int","connect.type":"int16"}},{"name":"value","type":"double"}],"connect.internal.type":"MapEntry"}}"#
            ]],
        );
        check(
            r#"{"type":"map","keys":{"type":"string"},"values":{"type":"string","optional":true}}"#,
            &expect![[r#"{"type":"map","values":["null","string"]}"#]],
        );
    }
}
