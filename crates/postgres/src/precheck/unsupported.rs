//! Relations that match a task's objects and hold nothing that a publication takes (P14).

use crate::quote::readable;
use crate::{Error, Session};
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
    let mut found = Vec::new();
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
