//! What a publication is told, and what people are told of it.

use crate::catalog::{GENERATED_PUBLISHED_SINCE, VIA_ROOT_SINCE};
use crate::quote::{identifier, qualified, readable};
use crate::{Error, Session};
use tokio_postgres::types::Type;

/// What a publication sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    pub(super) changes: bool,
    pub(super) truncate: bool,
    pub(super) via_root: bool,
    pub(super) generated: bool,
}

impl Settings {
    /// What a task needs, as far as the server has it.
    pub(super) fn new(version: u32, via_root: bool, truncate: bool) -> Self {
        Self {
            changes: true,
            truncate,
            via_root: via_root && VIA_ROOT_SINCE <= version,
            generated: GENERATED_PUBLISHED_SINCE <= version,
        }
    }

    /// The list of parameters of CREATE and ALTER PUBLICATION.
    pub(super) fn clause(self, version: u32) -> String {
        let truncate = if self.truncate { ", truncate" } else { "" };
        let mut clause = format!("publish = 'insert, update, delete{truncate}'");
        if VIA_ROOT_SINCE <= version {
            clause += &format!(", publish_via_partition_root = {}", self.via_root);
        }
        if GENERATED_PUBLISHED_SINCE <= version {
            // Under FULL, users could not update a table with an unpublished one (server fact 10).
            clause += ", publish_generated_columns = stored";
        }
        clause
    }
}

/// Tables for CREATE and ALTER PUBLICATION. `ONLY`, or tables that inherit would come along.
pub(super) fn list<'a>(
    tables: impl IntoIterator<Item = &'a (u32, String, String)>,
) -> Result<String, Error> {
    let only = |(_, schema, name): &(u32, String, String)| {
        qualified(schema, name).map(|name| format!("ONLY {name}"))
    };
    Ok(tables.into_iter().map(only).collect::<Result<Vec<_>, _>>()?.join(", "))
}

/// Some of the tables by name, for people.
pub(super) fn people<'a>(tables: impl IntoIterator<Item = &'a (u32, String, String)>) -> String {
    const NAMED_MAX: usize = 3;
    let names: Vec<String> =
        tables.into_iter().map(|(_, schema, name)| readable(schema, name)).collect();
    match names.len().checked_sub(NAMED_MAX) {
        Some(more @ 1..) => format!("{} and {more} more", names[..NAMED_MAX].join(", ")),
        Some(0) | None => names.join(", "),
    }
}

pub(super) fn remedy(statement: &str) -> String {
    format!("let the owner of the publication run `{statement};`, or give it to this role")
}

/// What lets this role publish these tables.
pub(super) async fn creation_remedy<'a>(
    session: &Session,
    tables: impl IntoIterator<Item = &'a (u32, String, String)>,
) -> Result<String, Error> {
    let oids: Vec<u32> = tables.into_iter().map(|(oid, ..)| *oid).collect();
    let statement = "\
        SELECT current_user::text, current_database()::text, \
          has_database_privilege(current_database(), 'CREATE'), \
          (SELECT array_agg(DISTINCT pg_get_userbyid(c.relowner)::text) FROM pg_class c \
           WHERE c.oid = ANY ($1) AND NOT pg_has_role(c.relowner, 'USAGE'))";
    let rows = session.query("rights", statement, &[(&oids, Type::OID_ARRAY)]).await?;
    let read = || -> Result<Option<_>, tokio_postgres::Error> {
        let Some(row) = rows.first() else { return Ok(None) };
        let owners: Option<Vec<String>> = row.try_get(3)?;
        let names: (String, String) = (row.try_get(0)?, row.try_get(1)?);
        Ok(Some((names, row.try_get::<_, bool>(2)?, owners.unwrap_or_default())))
    };
    let Some(((user, database), may_create, owners)) = read().map_err(Error::reading("rights"))?
    else {
        return Ok(String::new());
    };
    let user = identifier(&user)?;
    let mut statements = Vec::new();
    if !may_create {
        statements.push(format!("GRANT CREATE ON DATABASE {} TO {user};", identifier(&database)?));
    }
    for owner in &owners {
        statements.push(format!("GRANT {} TO {user};", identifier(owner)?));
    }
    Ok(if statements.is_empty() {
        "let the owner of the publication and of the tables do it".into()
    } else {
        statements.join(" ")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(oid: u32, name: &str) -> (u32, String, String) {
        (oid, "public".into(), name.into())
    }

    #[test]
    fn each_server_is_asked_for_what_it_knows() {
        let settings = Settings::new(150_000, true, true);
        assert_eq!(settings.clause(110_022), "publish = 'insert, update, delete, truncate'");
        assert_eq!(
            settings.clause(150_000),
            "publish = 'insert, update, delete, truncate', publish_via_partition_root = true"
        );
        let settings = Settings { truncate: false, via_root: false, ..settings };
        assert_eq!(
            settings.clause(180_000),
            "publish = 'insert, update, delete', publish_via_partition_root = false, \
             publish_generated_columns = stored"
        );
    }

    #[test]
    fn tables_are_quoted_and_come_without_those_that_inherit() {
        let tables = [table(1, "a"), table(2, "B\"")];
        assert_eq!(list(&tables).unwrap(), r#"ONLY "public"."a", ONLY "public"."B""""#);
    }

    #[test]
    fn a_long_list_is_cut_for_people() {
        let tables: Vec<_> = (0..5).map(|it| table(it, &format!("t{it}"))).collect();
        assert_eq!(people(&tables), "public.t0, public.t1, public.t2 and 2 more");
        assert_eq!(people(&tables[..3]), "public.t0, public.t1, public.t2");
    }
}
