//! Kafka Connect's schemas as trees, in the words of its JSON converter (formats/debezium.md, section 5): of records that are
//! few, or share one schema. Those of rows are written straight into bytes (`debezium::schema`).

use serde_json::{Value, json};

pub(crate) fn field(type_: &str, optional: bool, name: &str) -> Value {
    json!({"type": type_, "optional": optional, "field": name})
}

pub(crate) fn array_field(items: &Value, optional: bool, name: &str) -> Value {
    json!({"type": "array", "items": items, "optional": optional, "field": name})
}

/// A struct, whose first version it is.
pub(crate) fn structure(name: &str, optional: bool, fields: &[Value]) -> Value {
    json!({"type": "struct", "fields": fields, "optional": optional, "name": name, "version": 1})
}

/// A struct as the field of another one.
pub(crate) fn structure_field(mut structure: Value, name: &str) -> Value {
    structure["field"] = name.into();
    structure
}
