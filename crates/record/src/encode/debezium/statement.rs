//! The schema change record of Debezium's connectors, which its PostgreSQL connector does not write: the
//! members that the others share (Debezium, `SchemaFactory`), and `statement` for what PostgreSQL has more.
//!
//! Statements are seldom: key and value are trees by Connect schemas, which each format writes in its way.

use super::Encoder;
use super::schema::SOURCE;
use super::words;
use crate::encode::Rendered;
use crate::encode::canal::sql_type;
use crate::encode::connect::{array_field, field, structure, structure_field};
use crate::encode::event::{Event, commit_us};
use crate::encode::statement::{Column, Dropped, Relation, Statement};
use serde_json::{Value, json};
use wal::types::{Kind, Type};

/// Bytes that `atttypmod` counts more than the length.
const MODIFIER_HEAD: i32 = 4;

/// Whose records they are, and when the statement is handled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Teller<'a> {
    pub(super) prefix: &'a str,
    pub(super) database: &'a str,
    /// Microseconds since 1970.
    pub(super) now_us: i64,
}

impl Teller<'_> {
    /// The key, of [`key_schema`].
    pub(super) fn key(&self) -> Value {
        json!({"databaseName": self.database})
    }

    /// The value, of [`value_schema`].
    pub(super) fn value(&self, event: &Event<'_>, statement: &Statement) -> Value {
        let (schema, table) = statement.subject();
        json!({
            "source": self.source(event, schema, table),
            "ts_ms": self.now_us.div_euclid(1000),
            "databaseName": self.database,
            "schemaName": (!schema.is_empty()).then_some(schema),
            "ddl": statement.text,
            "tableChanges": changes(statement),
            "statement": statement.details(),
        })
    }

    fn source(&self, event: &Event<'_>, schema: &str, table: &str) -> Value {
        let (transaction, lsn) = (event.transaction, event.change.lsn.0);
        let us = commit_us(transaction);
        let mut sequence = Vec::new();
        words::sequence(transaction, &mut sequence);
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "connector": "postgresql",
            "name": self.prefix,
            "ts_ms": us.div_euclid(1000),
            "snapshot": "false",
            "db": self.database,
            "sequence": format!("{}{lsn}\"]", String::from_utf8_lossy(&sequence)),
            "ts_us": us,
            "ts_ns": us.saturating_mul(1000),
            "schema": schema,
            "table": table,
            "txId": transaction.xid,
            "lsn": lsn,
            "xmin": null,
        })
    }
}

impl Encoder {
    pub(crate) fn statement(&self, event: &Event<'_>, statement: &Statement, out: &mut Rendered) {
        let teller = Teller { prefix: &self.prefix, database: &self.database, now_us: self.now_us };
        let write = |schema: fn() -> Value, payload: Value, out: &mut Vec<u8>| {
            let whole = match self.schemas {
                true => json!({"schema": schema(), "payload": payload}),
                false => payload,
            };
            out.extend_from_slice(whole.to_string().as_bytes());
        };
        out.keyed = true;
        write(key_schema, teller.key(), &mut out.key);
        write(value_schema, teller.value(event, statement), &mut out.value);
    }
}

/// What became of each table.
fn changes(statement: &Statement) -> Vec<Value> {
    let type_ = if statement.verb() == "ALTER" { "ALTER" } else { "CREATE" };
    let is_table = |it: &&Relation| matches!(it.kind.as_str(), "r" | "p" | "f");
    let changed = statement
        .relations
        .iter()
        .filter(is_table)
        .map(|it| json!({"type": type_, "id": id(&it.schema, &it.name), "table": table(it)}));
    let is_dropped = |it: &&Dropped| matches!(it.type_.as_str(), "table" | "foreign table");
    let dropped = statement.dropped.iter().filter(is_dropped).map(|it| {
        let (schema, name) = (it.schema.as_deref(), it.name.as_deref());
        let id = id(schema.unwrap_or_default(), name.unwrap_or_default());
        json!({"type": "DROP", "id": id, "table": null})
    });
    changed.chain(dropped).collect()
}

fn id(schema: &str, name: &str) -> String {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    format!("{}.{}", quoted(schema), quoted(name))
}

fn table(relation: &Relation) -> Value {
    json!({
        "defaultCharsetName": null,
        "primaryKeyColumnNames": relation.key,
        "columns": relation.columns.iter().map(column).collect::<Vec<_>>(),
        "comment": null,
    })
}

fn column(column: &Column) -> Value {
    let type_ = Type {
        kind: if column.labels.is_empty() { Kind::Base } else { Kind::Enum { labels: Vec::new() } },
        ..Type::builtin(column.oid, &column.type_name)
    };
    let (length, scale) = sizes(column);
    let serial = column.default.as_deref().is_some_and(|it| it.starts_with("nextval("));
    json!({
        "name": column.name,
        "jdbcType": sql_type::sql_type(&type_),
        // Connect has no unsigned numbers: the upper half of OIDs comes out negative, as in Java.
        "nativeType": column.oid.cast_signed(),
        "typeName": column.type_name,
        "typeExpression": column.type_,
        "charsetName": null,
        "length": length,
        "scale": scale,
        "position": column.position,
        "optional": !column.not_null,
        "autoIncremented": serial || column.is_identity,
        "generated": column.is_generated,
        "comment": null,
        "defaultValueExpression": column.default,
        "enumValues": (!column.labels.is_empty()).then_some(&column.labels),
    })
}

/// Length and scale that `atttypmod` says (PostgreSQL, `numeric.c`, `varchar.c`).
fn sizes(column: &Column) -> (Option<i32>, Option<i32>) {
    let Some(modifier) = column.modifier.checked_sub(MODIFIER_HEAD).filter(|it| 0 <= *it) else {
        return (None, None);
    };
    match column.type_name.as_str() {
        "varchar" | "bpchar" => (Some(modifier), None),
        // Eleven bits, whose uppermost is a sign.
        "numeric" => (Some(modifier >> 16 & 0xFFFF), Some((modifier & 0x7FF ^ 0x400) - 0x400)),
        "bit" | "varbit" => (Some(column.modifier), None),
        _ => (None, None),
    }
}

/// Connect schema of the key.
pub(super) fn key_schema() -> Value {
    let fields = [field("string", false, "databaseName")];
    structure("io.debezium.connector.postgresql.SchemaChangeKey", false, &fields)
}

/// Connect schema of the value. What is added to it goes to the end: Protobuf counts its fields.
pub(super) fn value_schema() -> Value {
    let strings = |optional: bool, name: &str| {
        array_field(&json!({"type": "string", "optional": false}), optional, name)
    };
    let column = [
        field("string", false, "name"),
        field("int32", false, "jdbcType"),
        field("int32", true, "nativeType"),
        field("string", false, "typeName"),
        field("string", true, "typeExpression"),
        field("string", true, "charsetName"),
        field("int32", true, "length"),
        field("int32", true, "scale"),
        field("int32", false, "position"),
        field("boolean", true, "optional"),
        field("boolean", true, "autoIncremented"),
        field("boolean", true, "generated"),
        field("string", true, "comment"),
        field("string", true, "defaultValueExpression"),
        strings(true, "enumValues"),
    ];
    let column = structure("io.debezium.connector.schema.Column", false, &column);
    let table = [
        field("string", true, "defaultCharsetName"),
        strings(true, "primaryKeyColumnNames"),
        array_field(&column, false, "columns"),
        field("string", true, "comment"),
    ];
    let table = structure("io.debezium.connector.schema.Table", true, &table);
    let change = [
        field("string", false, "type"),
        field("string", false, "id"),
        structure_field(table, "table"),
    ];
    let change = structure("io.debezium.connector.schema.Change", false, &change);
    let source: Value = serde_json::from_str(SOURCE).unwrap_or_default();
    let fields = [
        source,
        field("int64", false, "ts_ms"),
        field("string", true, "databaseName"),
        field("string", true, "schemaName"),
        field("string", true, "ddl"),
        array_field(&change, false, "tableChanges"),
        structure_field(statement_schema(), "statement"),
    ];
    structure("io.debezium.connector.postgresql.SchemaChangeValue", false, &fields)
}

/// What Debezium has no place for.
fn statement_schema() -> Value {
    let object = |name: &str, last: Option<&str>| {
        let mut fields = vec![
            field("string", false, "type"),
            field("string", true, "schema"),
            field("string", true, "name"),
            field("string", false, "identity"),
        ];
        fields.extend(last.map(|last| field("boolean", false, last)));
        structure(name, false, &fields)
    };
    let fields = [
        field("string", false, "tag"),
        field("boolean", false, "reconstructed"),
        field("string", true, "gap"),
        array_field(&object("distributary.Object", None), false, "objects"),
        array_field(&object("distributary.Dropped", Some("cascaded")), false, "dropped"),
        field("boolean", true, "inferred"),
    ];
    structure("distributary.Statement", false, &fields)
}
