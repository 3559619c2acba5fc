//! Items of the rights that a task needs: each missing one with its statement.

use super::facts::{Facts, FactsByOid};
use super::some;
use super::statements::{self, Name};
use super::tables::{Scope, name, people};
use crate::catalog::Candidate;
use crate::{Error, publication};
use config::precheck::Item;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

/// Who the session is, and what it may do to the database and the publication.
struct Role {
    user: String,
    database: String,
    may_create: bool,
    /// `None`: the publication does not exist.
    owns_publication: Option<bool>,
}

impl Role {
    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            user: row.try_get(0)?,
            database: row.try_get(1)?,
            may_create: row.try_get(2)?,
            owns_publication: row.try_get(3)?,
        })
    }
}

pub(super) async fn rights(scope: &Scope<'_>, facts: &FactsByOid) -> Result<Item, Error> {
    const NAME: &str = "source.rights";
    let statement = "\
        SELECT current_user::text, current_database()::text, \
          has_database_privilege(current_database(), 'CREATE'), \
          (SELECT pg_has_role(p.pubowner, 'USAGE') FROM pg_publication p WHERE p.pubname = $1)";
    let parameters: [(&(dyn ToSql + Sync), Type); 1] = [(&scope.publication, Type::TEXT)];
    let rows = scope.session.query("rights", statement, &parameters).await?;
    let Some(row) = rows.first() else {
        return Ok(Item::fail(NAME, "the rights cannot be seen", "connect as a role of its own"));
    };
    let Role { user, database, may_create, owns_publication } =
        Role::read(row).map_err(Error::reading("rights"))?;
    let (mut seen, mut remedies) = (Vec::new(), Vec::new());
    read_rights(scope, facts, &user, &mut seen, &mut remedies);
    let not_full: Vec<Name> = scope.to_be_full().filter(|it| !it.owner_is_us).map(name).collect();
    if !not_full.is_empty() {
        seen.push(format!(
            "role {user} does not own {} tables that are to be FULL",
            not_full.len()
        ));
        remedies.push(statements::identity_full(&not_full));
    }
    let unpublished: Vec<&Candidate> = scope
        .published()
        .filter(|it| facts.get(&it.oid).is_some_and(|facts| !facts.published))
        .collect();
    let foreign = unpublished.iter().filter(|it| !it.owner_is_us).count();
    let publish = || {
        let names: Vec<Name> = unpublished.iter().map(|it| name(it)).collect();
        let clause = publication::clause(scope.session.server().version, scope.via_root);
        statements::publish(scope.publication, owns_publication.is_some(), &names, &clause)
    };
    if 0 < foreign {
        seen.push(format!("role {user} does not own {foreign} tables that are to be published"));
        remedies.push(publish());
    } else if owns_publication == Some(false) && !unpublished.is_empty() {
        seen.push(format!("role {user} does not own publication {}", scope.publication));
        remedies.push(publish());
    } else if owns_publication == Some(false)
        && scope.session.publication_differs(scope.publication, scope.via_root).await?
    {
        seen.push(format!("publication {} does not send what the task needs", scope.publication));
        remedies.push(publish_settings(scope));
    } else if owns_publication.is_none() && !may_create {
        seen.push(format!("role {user} may not create a publication in database {database}"));
        let (database, user) = (statements::quoted(&database), statements::quoted(&user));
        remedies.push(format!("GRANT CREATE ON DATABASE {database} TO {user};"));
    }
    if seen.is_empty() {
        return Ok(Item::pass(NAME, format!("role {user} has every right that the task needs")));
    }
    Ok(Item::fail(NAME, seen.join("; "), remedies.join(" ")))
}

fn publish_settings(scope: &Scope<'_>) -> String {
    let clause = publication::clause(scope.session.server().version, scope.via_root);
    format!("ALTER PUBLICATION {} SET ({clause});", statements::quoted(scope.publication))
}

/// USAGE of schemas and SELECT of what the snapshot reads.
fn read_rights(
    scope: &Scope<'_>,
    facts: &FactsByOid,
    user: &str,
    seen: &mut Vec<String>,
    remedies: &mut Vec<String>,
) {
    let lacks = |missing: fn(&Facts) -> bool| {
        scope.published().filter(move |it| facts.get(&it.oid).is_some_and(missing))
    };
    let mut schemas: Vec<String> =
        lacks(|it| !it.schema_usage).map(|it| it.schema.clone()).collect();
    schemas.dedup();
    if !schemas.is_empty() {
        seen.push(format!("role {user} may not use schema {}", some(&schemas)));
        remedies.push(statements::grant_usage(&schemas, user));
    }
    let tables: Vec<&Candidate> = lacks(|it| !it.select).collect();
    if !tables.is_empty() {
        seen.push(format!("role {user} may not read {}", people(tables.iter().copied())));
        let names: Vec<Name> = tables.into_iter().map(name).collect();
        remedies.push(statements::grant_select(&names, user));
    }
}

pub(super) async fn row_security(scope: &Scope<'_>, facts: &FactsByOid) -> Result<Item, Error> {
    const NAME: &str = "source.row-security";
    let hidden: Vec<&Candidate> = scope
        .published()
        .filter(|it| facts.get(&it.oid).is_some_and(|facts| facts.row_security))
        .collect();
    if hidden.is_empty() {
        return Ok(Item::pass(NAME, "no policy hides rows from the snapshot"));
    }
    let rows = scope.session.query("role", "SELECT current_user::text", &[]).await?;
    let user: String = rows
        .first()
        .map_or(Ok(String::new()), |row| row.try_get(0))
        .map_err(Error::reading("role"))?;
    let seen = format!("policies would hide rows from the snapshot: {}", people(hidden));
    Ok(Item::fail(NAME, seen, format!("ALTER ROLE {} BYPASSRLS;", statements::quoted(&user))))
}
