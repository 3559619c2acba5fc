//! Relations that match a task's objects and hold nothing that a publication takes (P14).

use crate::quote::readable;
use crate::{Error, Session};
use config::pattern::TablePattern;
use record::selection::Selection;
use std::fmt;

/// One of them.
pub(super) struct Unsupported {
    pub(super) schema: String,
    pub(super) name: String,
    /// For people, e.g. `view`.
    what: String,
    /// The task asks for it by its name, and not by a wildcard.
    pub(super) is_exact: bool,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", readable(&self.schema, &self.name), self.what)
    }
}

/// Whether the pattern means one table. One with a quoted `*` counts as a wildcard.
pub(super) fn is_exact(object: &config::Object) -> bool {
    !object.table.contains('*')
}

/// In the order of their names.
pub(super) async fn unsupported(
    session: &Session,
    task: &config::Task,
    selection: &Selection,
) -> Result<Vec<Unsupported>, Error> {
    // What `Session::candidates` leaves out.
    let statement = "\
        SELECT n.nspname::text, c.relname::text, \
          CASE WHEN e.extname IS NOT NULL THEN 'of extension ' || e.extname \
               WHEN c.relkind = 'f' THEN 'foreign table' \
               WHEN c.relkind = 'v' THEN 'view' \
               ELSE 'materialized view' END \
        FROM pg_class c \
        JOIN pg_namespace n ON n.oid = c.relnamespace \
        LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid \
          AND d.objsubid = 0 AND d.deptype = 'e' \
        LEFT JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass \
        WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') \
          AND (c.relkind IN ('f', 'v', 'm') OR e.oid IS NOT NULL) \
          AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' \
        ORDER BY 1, 2";
    let rows = session.query("relations", statement, &[]).await?;
    let mut found = hypertables(session, task, selection).await?;
    found.extend(temporary(session, task).await?);
    for row in &rows {
        let read = || -> Result<(String, String, String), tokio_postgres::Error> {
            Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
        };
        let (schema, name, what) = read().map_err(Error::reading("relations"))?;
        if let Some(object) = selection.selected(&schema, &name) {
            let is_exact = task.objects.get(object).is_some_and(is_exact);
            found.push(Unsupported { schema, name, what, is_exact });
        }
    }
    Ok(found)
}

/// Of TimescaleDB: their rows lie in chunks with names of their own.
async fn hypertables(
    session: &Session,
    task: &config::Task,
    selection: &Selection,
) -> Result<Vec<Unsupported>, Error> {
    let is_there = "SELECT CASE WHEN to_regclass('_timescaledb_catalog.hypertable') IS NULL THEN false \
                    ELSE has_table_privilege('_timescaledb_catalog.hypertable', 'SELECT') END";
    let rows = session.query("hypertables", is_there, &[]).await;
    // Who may not use the schema, may not ask for its tables either.
    if !rows.is_ok_and(|rows| rows.first().is_some_and(|row| row.try_get(0).unwrap_or(false))) {
        return Ok(Vec::new());
    }
    let statement = "SELECT schema_name::text, table_name::text FROM _timescaledb_catalog.hypertable \
                     WHERE schema_name::text !~ '^_timescaledb_' ORDER BY 1, 2";
    let rows = session.query("hypertables", statement, &[]).await?;
    let mut found = Vec::new();
    for row in &rows {
        let read = || -> Result<(String, String), tokio_postgres::Error> {
            Ok((row.try_get(0)?, row.try_get(1)?))
        };
        let (schema, name) = read().map_err(Error::reading("hypertables"))?;
        if let Some(object) = selection.selected(&schema, &name) {
            let is_exact = task.objects.get(object).is_some_and(is_exact);
            let what = "hypertable of TimescaleDB".into();
            found.push(Unsupported { schema, name, what, is_exact });
        }
    }
    Ok(found)
}

/// Those that an object asks for by name, where no other table has that name: temporary tables of running
/// sessions come and go, and no pattern means them.
async fn temporary(session: &Session, task: &config::Task) -> Result<Vec<Unsupported>, Error> {
    let statement = "SELECT DISTINCT c.relname::text FROM pg_class c \
                     WHERE c.relpersistence = 't' AND c.relkind IN ('r', 'p') AND NOT EXISTS \
                       (SELECT FROM pg_class o WHERE o.relname = c.relname AND o.relpersistence <> 't') \
                     ORDER BY 1";
    let rows = session.query("temporary tables", statement, &[]).await?;
    let mut found = Vec::new();
    for row in &rows {
        let name: String = row.try_get(0).map_err(Error::reading("temporary tables"))?;
        for object in task.objects.iter().filter(|it| is_exact(it) && !it.exclude) {
            let Ok(pattern) = TablePattern::parse(&object.table) else { continue };
            // The name alone decides: a temporary table is in a schema of its session.
            let schema = object.table.split('.').next().unwrap_or_default().trim_matches('"');
            if pattern.matches(schema, &name) {
                let (schema, name, what) =
                    (schema.to_owned(), name.clone(), "temporary table".into());
                found.push(Unsupported { schema, name, what, is_exact: true });
            }
        }
    }
    Ok(found)
}
