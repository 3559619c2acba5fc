//! What the database holds: the shapes of its tables and their rows in canonical text.

use crate::form::{CatalogType, Form};
use crate::sql::{Row, Sql, quoted};
use std::collections::BTreeMap;

/// A table as events should describe it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shape {
    pub schema: String,
    pub table: String,
    pub columns: Vec<Column>,
    /// Indexes of the primary key's columns, in its order; empty: none.
    pub key: Vec<usize>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Column {
    pub name: String,
    pub form: Form,
}

/// A table and its rows, in canonical text.
#[derive(Clone, Debug)]
pub struct Contents {
    pub shape: Shape,
    pub rows: Vec<Row>,
}

struct Type {
    name: String,
    kind: String,
    base: String,
    modifier: i32,
    /// Empty: no array.
    element: String,
}

/// All user tables, and the roots of partition trees in place of their leaves, with their rows.
///
/// # Panics
/// When the server refuses.
#[must_use]
pub fn contents(sql: &mut Sql) -> Vec<Contents> {
    shapes(sql).into_iter().map(|shape| Contents { rows: rows(sql, &shape), shape }).collect()
}

/// The shapes of all user tables, and of the roots of partition trees in place of their leaves.
///
/// # Panics
/// When the server refuses.
#[must_use]
pub fn shapes(sql: &mut Sql) -> Vec<Shape> {
    let types = types(sql);
    let tables = sql.rows(
        "SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = \
         c.relnamespace \
         WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p' \
         AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' ORDER BY 2, 3",
    );
    let shape = |row: Row| {
        let [oid, schema, table] = take(row);
        let columns = columns(sql, &oid, &types);
        let key = key(sql, &oid, &columns);
        Shape { schema, table, columns, key }
    };
    tables.into_iter().map(shape).collect()
}

/// The rows of a table.
fn rows(sql: &mut Sql, shape: &Shape) -> Vec<Row> {
    let expressions: Vec<_> = shape
        .columns
        .iter()
        .map(|column| column.form.expression(&format!("t.{}", quoted(&column.name))))
        .collect();
    let query = format!(
        "SELECT {} FROM {}.{} AS t",
        expressions.join(", "),
        quoted(&shape.schema),
        quoted(&shape.table)
    );
    let canonical = |row: Row| {
        let value = |(column, value): (&Column, Option<String>)| {
            value.map(|value| column.form.canonical(&value))
        };
        shape.columns.iter().zip(row).map(value).collect()
    };
    sql.rows(&query).into_iter().map(canonical).collect()
}

fn columns(sql: &mut Sql, oid: &str, types: &BTreeMap<String, Type>) -> Vec<Column> {
    // Generated columns are not published; the attribute exists from 12 on.
    let generated = if 12 <= sql.version() { "AND attgenerated = ''" } else { "" };
    let rows = sql.rows(&format!(
        "SELECT attname, atttypid, atttypmod FROM pg_attribute \
         WHERE attrelid = {oid} AND 0 < attnum AND NOT attisdropped {generated} ORDER BY attnum"
    ));
    let column = |row: Row| {
        let [name, type_, modifier] = take(row);
        Column { name, form: form(types, &type_, modifier.parse().expect("a number")) }
    };
    rows.into_iter().map(column).collect()
}

fn key(sql: &mut Sql, oid: &str, columns: &[Column]) -> Vec<usize> {
    let names = sql.rows(&format!(
        "SELECT a.attname FROM pg_index i CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS \
         k(attnum, place) \
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
         WHERE i.indrelid = {oid} AND i.indisprimary ORDER BY k.place"
    ));
    let place = |row: Row| {
        let [name] = take(row);
        columns.iter().position(|column| column.name == name).expect("a key column is a column")
    };
    names.into_iter().map(place).collect()
}

fn types(sql: &mut Sql) -> BTreeMap<String, Type> {
    // Only true arrays: other types with elements (point, name) are values of their own.
    let rows = sql.rows(
        "SELECT oid, typname, typtype, typbasetype, typtypmod, \
         CASE WHEN typcategory = 'A' AND typlen = -1 AND typelem <> 0 AND typtype = 'b' THEN \
         typelem::text ELSE '' END \
         FROM pg_type",
    );
    let type_ = |row: Row| {
        let [oid, name, kind, base, modifier, element] = take(row);
        (oid, Type { name, kind, base, modifier: modifier.parse().expect("a number"), element })
    };
    rows.into_iter().map(type_).collect()
}

fn form(types: &BTreeMap<String, Type>, oid: &str, modifier: i32) -> Form {
    let type_ = types.get(oid).expect("the type of a column exists");
    match (type_.kind.as_str(), type_.element.as_str()) {
        ("d", _) => form(types, &type_.base, type_.modifier),
        ("b", "") => Form::of(CatalogType { name: &type_.name, modifier }),
        ("b", element) => {
            let composite = types.get(element).is_some_and(|element| element.kind == "c");
            Form::Array { element: Box::new(form(types, element, modifier)), composite }
        }
        _ => Form::Text,
    }
}

/// The values of a row that has no nulls.
fn take<const N: usize>(row: Row) -> [String; N] {
    let values: Vec<_> = row.into_iter().map(Option::unwrap_or_default).collect();
    values.try_into().expect("as many values as were asked for")
}
