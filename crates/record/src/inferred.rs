//! What was done to a table, told from how the stream describes it before and after, where no event trigger writes
//! the user's own words down (product.md, P26).

use crate::identifier;
use serde_json::{Value, json};
use wal::relation::{Difference, RelationDescription};
use wal::types::Kind;
use wal::{Column, Table, statement};

/// ALTER TABLE statements that come to the same.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Inferred {
    /// The table that stands for what they change.
    pub changed: String,
    /// A row of that table, as TupleData.
    pub tuple: Vec<u8>,
}

/// What turned `before` into `after`; `None`: nothing that the stream tells. `types`: the types of the columns of `after`, as
/// `format_type` prints them.
#[must_use]
pub fn altered(before: &Table, after: &Table, types: &[String]) -> Option<Inferred> {
    let texts = texts(before, after, types);
    if texts.is_empty() {
        return None;
    }
    let mut names = vec![json!([after.schema, after.name])];
    if (&before.schema, &before.name) != (&after.schema, &after.name) {
        // Who selects only the old name learns where it went.
        names.push(json!([before.schema, before.name]));
    }
    let changed = Value::from(names).to_string();
    let content = json!({
        "tag": "ALTER TABLE", "inferred": texts.join("; "),
        "objects": [object(after)], "relations": [relation(after, types)],
    });
    let tuple = statement::tuple(changed.as_bytes(), content.to_string().as_bytes());
    Some(Inferred { changed, tuple })
}

/// CREATE TABLE of a table as it is, for readers that have not seen it made (product.md, P20). `types`: as in [`altered`].
#[must_use]
pub fn created(table: &Table, types: &[String]) -> Inferred {
    let changed = json!([[table.schema, table.name]]).to_string();
    // Without the user's words it is rebuilt from these.
    let content = json!({
        "tag": "CREATE TABLE", "objects": [object(table)], "relations": [relation(table, types)],
    });
    let tuple = statement::tuple(changed.as_bytes(), content.to_string().as_bytes());
    Inferred { changed, tuple }
}

fn object(table: &Table) -> Value {
    let identity = name(&table.schema, &table.name);
    json!({"type": "table", "schema": table.schema, "name": table.name, "identity": identity})
}

/// Renames stand alone in SQL; all else is one statement.
fn texts(before: &Table, after: &Table, types: &[String]) -> Vec<String> {
    let differences =
        RelationDescription::of(after).differences_from(&RelationDescription::of(before));
    let table = name(&after.schema, &after.name);
    let (mut texts, mut renames, mut actions) = (Vec::new(), Vec::new(), Vec::new());
    for difference in differences {
        match difference {
            Difference::Renamed { schema, name: new } => {
                if before.name != new {
                    let old = name(&before.schema, &before.name);
                    texts.push(format!("ALTER TABLE {old} RENAME TO {}", quoted(&new)));
                }
                if before.schema != schema {
                    let old = name(&before.schema, &new);
                    texts.push(format!("ALTER TABLE {old} SET SCHEMA {}", quoted(&schema)));
                }
            }
            Difference::ColumnRenamed { from, to } => {
                let (from, to) = (quoted(&from), quoted(&to));
                renames.push(format!("ALTER TABLE {table} RENAME COLUMN {from} TO {to}"));
            }
            Difference::ColumnAdded { name } => {
                if let Some((column, type_)) = column(after, &name, types) {
                    actions.push(format!("ADD COLUMN {}", definition(column, type_)));
                }
            }
            Difference::ColumnDropped { name } => {
                actions.push(format!("DROP COLUMN {}", quoted(&name)));
            }
            Difference::TypeChanged { name } => {
                if let Some((_, type_)) = column(after, &name, types) {
                    actions.push(format!("ALTER COLUMN {} TYPE {type_}", quoted(&name)));
                }
            }
            // None of P26's statements.
            Difference::IdentityChanged | Difference::ColumnsReordered => {}
        }
    }
    texts.extend(renames);
    if !actions.is_empty() {
        texts.push(format!("ALTER TABLE {table} {}", actions.join(", ")));
    }
    texts
}

fn column<'a>(table: &'a Table, name: &str, types: &'a [String]) -> Option<(&'a Column, &'a str)> {
    let place = table.columns.iter().position(|it| *it.name == *name)?;
    let column = &table.columns[place];
    Some((column, types.get(place).map_or(&*column.type_.name, String::as_str)))
}

fn definition(column: &Column, type_: &str) -> String {
    let mut text = format!("{} {type_}", quoted(&column.name));
    if let Some(default) = &column.default {
        text += &format!(" DEFAULT {}", literal(default));
    }
    if column.not_null {
        text += " NOT NULL";
    }
    text
}

/// The table after it, as the event trigger would tell it.
fn relation(table: &Table, types: &[String]) -> Value {
    let column = |(index, it): (usize, &Column)| {
        let labels = match &it.type_.kind {
            Kind::Enum { labels } => labels.as_slice(),
            Kind::Base
            | Kind::Array { .. }
            | Kind::Domain { .. }
            | Kind::Composite { .. }
            | Kind::Range { .. }
            | Kind::Multirange { .. }
            | Kind::Unknown => &[],
        };
        json!({
            "name": it.name, "position": index + 1, "oid": it.type_.oid,
            "type_name": it.type_.name,
            "type": types.get(index).map_or(&*it.type_.name, String::as_str),
            "modifier": it.type_modifier, "not_null": it.not_null,
            "default": it.default.as_deref().map(literal), "labels": labels,
        })
    };
    let key = table.key.iter().filter_map(|&index| table.columns.get(index));
    json!({
        "schema": table.schema, "name": table.name, "kind": "r",
        "key": key.map(|it| &*it.name).collect::<Vec<_>>(),
        "columns": table.columns.iter().enumerate().map(column).collect::<Vec<_>>(),
    })
}

fn name(schema: &str, table: &str) -> String {
    format!("{}.{}", quoted(schema), quoted(table))
}

fn quoted(name: &str) -> String {
    let mut out = String::new();
    identifier::write(name, &mut out);
    out
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use wal::table::ReplicaIdentity;
    use wal::types::{Type, oid};

    fn table(name: &str, columns: &[(&str, u32)]) -> Table {
        let column = |&(name, type_oid): &(&str, u32)| Column {
            name: name.into(),
            type_: Arc::new(Type::builtin(type_oid, "t")),
            type_modifier: -1,
            not_null: false,
            default: None,
            in_identity: true,
        };
        Table {
            oid: 1000,
            version: 1,
            schema: "public".into(),
            name: name.into(),
            identity: ReplicaIdentity::Full,
            columns: columns.iter().map(column).collect(),
            key: vec![0],
            unique: Vec::new(),
        }
    }

    fn types(table: &Table) -> Vec<String> {
        let name = |it: &Column| if it.type_.oid == oid::INT4 { "integer" } else { "text" };
        table.columns.iter().map(|it| name(it).to_owned()).collect()
    }

    #[track_caller]
    fn check(before: &Table, after: &Table, expected: &[&str]) {
        assert_eq!(texts(before, after, &types(after)), expected);
    }

    #[test]
    fn what_the_stream_tells_is_told_in_sql() {
        let before = table("t", &[("id", oid::INT4), ("old", oid::TEXT), ("n", oid::INT4)]);
        let mut after =
            table("t", &[("id", oid::INT4), ("n", oid::TEXT), ("Two words", oid::INT4)]);
        after.columns[2].default = Some("it's".into());
        after.columns[2].not_null = true;
        let expected = "ALTER TABLE public.t DROP COLUMN old, ALTER COLUMN n TYPE text, \
                        ADD COLUMN \"Two words\" integer DEFAULT 'it''s' NOT NULL";
        check(&before, &after, &[expected]);
    }

    #[test]
    fn names_stand_in_statements_of_their_own() {
        let before = table("t", &[("id", oid::INT4), ("a", oid::TEXT)]);
        let mut after = table("order", &[("id", oid::INT4), ("b", oid::TEXT)]);
        after.schema = "other".into();
        let expected = [
            "ALTER TABLE public.t RENAME TO \"order\"",
            "ALTER TABLE public.\"order\" SET SCHEMA other",
            "ALTER TABLE other.\"order\" RENAME COLUMN a TO b",
        ];
        check(&before, &after, &expected);
        let inferred = altered(&before, &after, &types(&after)).expect("something");
        assert_eq!(inferred.changed, r#"[["other","order"],["public","t"]]"#);
    }

    #[test]
    fn another_identity_is_no_statement() {
        let before = table("t", &[("id", oid::INT4)]);
        let mut after = before.clone();
        after.identity = ReplicaIdentity::Default;
        assert_eq!(altered(&before, &after, &types(&after)), None);
        assert_eq!(altered(&before, &before, &types(&before)), None);
    }
}
