//! Values of Connect schemas as trees, for what is written seldom: DDL statements.

use super::super::statement::{key_schema, value_schema};
use super::schema::{Branches, branches, convert, full_name};
use crate::encode::avro;
use crate::plan::TaskPlan;
use crate::schema::{Language, Named, Schemas};
use serde_json::Value;

/// Schemas of statements in this topic.
pub(crate) fn schemas(topic: &str, task: &TaskPlan) -> Schemas {
    let made = |connect: Value| -> Named {
        let name = full_name(connect["name"].as_str().unwrap_or_default());
        (convert(&connect).to_string(), name)
    };
    let key = Some(made(key_schema()));
    Schemas::new(Language::Avro, task.subject, topic, key, made(value_schema()))
}

/// Writes a value by the Avro schema that [`convert`] makes of its Connect schema.
pub(super) fn write(schema: &Value, value: &Value, out: &mut Vec<u8>) {
    let (null, present) = match branches(schema) {
        Branches::Required => (None, None),
        Branches::NullFirst => (Some(0), Some(1)),
        Branches::ValueFirst => (Some(1), Some(0)),
    };
    if value.is_null()
        && let Some(branch) = null
    {
        return avro::long(branch, out);
    }
    if let Some(branch) = present {
        avro::long(branch, out);
    }
    match schema["type"].as_str().unwrap_or_default() {
        "struct" => {
            for field in schema["fields"].as_array().into_iter().flatten() {
                write(field, &value[field["field"].as_str().unwrap_or_default()], out);
            }
        }
        "array" => {
            let items = value.as_array().map_or(&[][..], Vec::as_slice);
            if !items.is_empty() {
                avro::length(items.len(), out);
            }
            for item in items {
                write(&schema["items"], item, out);
            }
            avro::long(0, out);
        }
        "boolean" => out.push(u8::from(value == true)),
        "string" => avro::string(value.as_str().unwrap_or_default(), out),
        _ => avro::long(integer(value), out),
    }
}

/// LSNs are unsigned; Connect's numbers are not.
fn integer(value: &Value) -> i64 {
    let unsigned = || value.as_u64().map(u64::cast_signed);
    value.as_i64().or_else(unsigned).unwrap_or_default()
}
