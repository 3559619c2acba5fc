//! Statements that people paste into psql to mend what was found. Pure.

use std::collections::BTreeMap;

/// Above so many tables of one schema, all of the schema are granted.
const TABLES_NAMED_MAX: usize = 20;

/// Schema and name, from the catalog.
pub(super) type Name = (String, String);

/// A name of the catalog, which is never too long.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn qualified((schema, name): &Name) -> String {
    format!("{}.{}", quoted(schema), quoted(name))
}

fn listed(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    names.join(", ")
}

pub(super) fn grant_usage(schemas: &[String], user: &str) -> String {
    format!("GRANT USAGE ON SCHEMA {} TO {};", listed(schemas), quoted(user))
}

pub(super) fn grant_select(tables: &[Name], user: &str) -> String {
    let user = quoted(user);
    let mut schemas: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for table in tables {
        schemas.entry(&table.0).or_default().push(qualified(table));
    }
    let statement = |(schema, tables): (&str, Vec<String>)| {
        if TABLES_NAMED_MAX < tables.len() {
            return format!("GRANT SELECT ON ALL TABLES IN SCHEMA {} TO {user};", quoted(schema));
        }
        format!("GRANT SELECT ON {} TO {user};", tables.join(", "))
    };
    let statements: Vec<String> = schemas.into_iter().map(statement).collect();
    statements.join(" ")
}

/// What the owner of the tables runs for us.
pub(super) fn identity_full(tables: &[Name]) -> String {
    alter_each(tables, "REPLICA IDENTITY FULL")
}

pub(super) fn set_logged(tables: &[Name]) -> String {
    alter_each(tables, "SET LOGGED")
}

/// `ONLY`, or tables that inherit would be changed too.
fn alter_each(tables: &[Name], change: &str) -> String {
    let statement = |table: &Name| format!("ALTER TABLE ONLY {} {change};", qualified(table));
    let statements: Vec<String> = tables.iter().map(statement).collect();
    statements.join(" ")
}

/// What the owner of publication and tables runs for us.
pub(super) fn publish(name: &str, exists: bool, tables: &[Name], clause: &str) -> String {
    let only: Vec<String> = tables.iter().map(|it| format!("ONLY {}", qualified(it))).collect();
    let (name, list) = (quoted(name), only.join(", "));
    if exists {
        format!("ALTER PUBLICATION {name} ADD TABLE {list};")
    } else {
        format!("CREATE PUBLICATION {name} FOR TABLE {list} WITH ({clause});")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(schema: &str, count: usize) -> Vec<Name> {
        (0..count).map(|it| (schema.to_owned(), format!("t{it}"))).collect()
    }

    #[test]
    fn grants_name_the_tables_or_the_schema() {
        let mut tables = names("a", 2);
        tables.extend(names("B", 21));
        assert_eq!(
            grant_select(&tables, "u"),
            r#"GRANT SELECT ON ALL TABLES IN SCHEMA "B" TO "u"; GRANT SELECT ON "a"."t0", "a"."t1" TO "u";"#
        );
        assert_eq!(
            grant_usage(&["a".into(), "b\"".into()], "u"),
            r#"GRANT USAGE ON SCHEMA "a", "b""" TO "u";"#
        );
    }

    #[test]
    fn tables_are_changed_without_those_that_inherit() {
        assert_eq!(
            identity_full(&names("a", 2)),
            r#"ALTER TABLE ONLY "a"."t0" REPLICA IDENTITY FULL; ALTER TABLE ONLY "a"."t1" REPLICA IDENTITY FULL;"#
        );
        assert_eq!(
            publish("p", true, &names("a", 2), ""),
            r#"ALTER PUBLICATION "p" ADD TABLE ONLY "a"."t0", ONLY "a"."t1";"#
        );
        assert_eq!(
            publish("p", false, &names("a", 1), "publish = 'insert'"),
            r#"CREATE PUBLICATION "p" FOR TABLE ONLY "a"."t0" WITH (publish = 'insert');"#
        );
    }
}
