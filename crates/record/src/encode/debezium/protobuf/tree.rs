//! Values of Connect schemas as trees, for what is written seldom: DDL statements. A field has the number of its
//! place in the Connect schema, from 1; what a list lacks and an empty list look alike.

use super::super::statement::{key_schema, value_schema};
use super::message::camel;
use crate::encode::protobuf;
use crate::plan::TaskPlan;
use crate::schema::{Language, Named, Schemas};
use serde_json::Value;
use std::convert::Infallible;
use std::fmt::Write as _;

/// Schemas of statements in this topic.
pub(crate) fn schemas(topic: &str, task: &TaskPlan) -> Schemas {
    let key = Some(file(&key_schema()));
    Schemas::new(Language::Protobuf, task.subject, topic, key, file(&value_schema()))
}

/// A file with the message of a struct, whose package is what its name begins with; and the full name.
fn file(schema: &Value) -> Named {
    let full = schema["name"].as_str().unwrap_or_default();
    let package = full.rsplit_once('.').map_or("", |(package, _)| package);
    let mut out = format!("syntax = \"proto3\";\n\npackage {package};\n\n");
    message(schema, "", &mut out);
    (out, full.to_owned())
}

fn message(schema: &Value, indent: &str, out: &mut String) {
    let _ = writeln!(out, "{indent}message {} {{", simple_name(schema));
    let within = format!("{indent}  ");
    for field in fields(schema).filter_map(nested) {
        message(field, &within, out);
    }
    for (field, number) in fields(schema).zip(1..) {
        let number: u32 = number;
        let name = field["field"].as_str().unwrap_or_default();
        let is_list = field["type"] == "array";
        let type_ = if is_list { &field["items"] } else { field };
        let label = match field["optional"] == true && nested(field).is_none() {
            _ if is_list => "repeated ",
            true => "optional ",
            false => "",
        };
        let word = match type_["type"].as_str().unwrap_or_default() {
            "struct" => simple_name(type_),
            "boolean" => "bool",
            // The others have the same name in both.
            same => same,
        };
        let _ = write!(out, "{within}{label}{word} {name} = {number}");
        if camel(name) != name {
            let _ = write!(out, " [json_name = \"{name}\"]");
        }
        out.push_str(";\n");
    }
    let _ = writeln!(out, "{indent}}}");
}

fn fields(schema: &Value) -> impl Iterator<Item = &Value> {
    schema["fields"].as_array().into_iter().flatten()
}

/// The struct that a field holds, or many of.
fn nested(field: &Value) -> Option<&Value> {
    let type_ = if field["type"] == "array" { &field["items"] } else { field };
    (type_["type"] == "struct").then_some(type_)
}

fn simple_name(schema: &Value) -> &str {
    let full = schema["name"].as_str().unwrap_or_default();
    full.rsplit_once('.').map_or(full, |(_, name)| name)
}

/// Writes the fields of a struct.
pub(super) fn write(schema: &Value, value: &Value, out: &mut Vec<u8>) {
    for (field, number) in fields(schema).zip(1..) {
        let value = &value[field["field"].as_str().unwrap_or_default()];
        match value.as_array() {
            Some(items) => items.iter().for_each(|it| one(&field["items"], number, it, out)),
            None => one(field, number, value, out),
        }
    }
}

fn one(schema: &Value, number: u32, value: &Value, out: &mut Vec<u8>) {
    if value.is_null() {
        return;
    }
    match schema["type"].as_str().unwrap_or_default() {
        "struct" => {
            let Ok(()) = protobuf::nested(number, out, |out| {
                write(schema, value, out);
                Ok::<_, Infallible>(())
            });
        }
        "string" => {
            protobuf::bytes(number, value.as_str().unwrap_or_default().as_bytes(), out);
        }
        "boolean" => protobuf::int(number, i64::from(value == true), out),
        _ => {
            // LSNs are unsigned; Connect's numbers are not.
            let unsigned = || value.as_u64().map(u64::cast_signed);
            protobuf::int(number, value.as_i64().or_else(unsigned).unwrap_or_default(), out);
        }
    }
}
