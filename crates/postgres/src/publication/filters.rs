//! Row filters of a publication: `CREATE PUBLICATION`, PostgreSQL 15.
//!
//! A table gets another filter by being dropped and added again in one transaction, under the lock that
//! [`super`] takes for that: no decoder sees the table missing, and no writer is open meanwhile.

use super::NARROWED_SINCE;
use super::statements::{creation_remedy, list};
use crate::lock::Locking;
use crate::quote::{identifier, qualified, readable};
use crate::{Error, Session};
use tokio_postgres::types::Type;

impl Session {
    /// Tables that have row filters in the publication: OID, schema, name. None before version 15.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn row_filters(&self, name: &str) -> Result<Vec<(u32, String, String)>, Error> {
        if self.server().version < NARROWED_SINCE {
            return Ok(Vec::new());
        }
        let doing = "row filters";
        let statement = "\
            SELECT r.prrelid, n.nspname::text, c.relname::text FROM pg_publication p \
              JOIN pg_publication_rel r ON r.prpubid = p.oid JOIN pg_class c ON c.oid = r.prrelid \
              JOIN pg_namespace n ON n.oid = c.relnamespace \
            WHERE p.pubname = $1 AND r.prqual IS NOT NULL ORDER BY r.prrelid";
        let rows = self.query(doing, statement, &[(&name, Type::TEXT)]).await?;
        let read =
            |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
        let found: Result<_, tokio_postgres::Error> = rows.iter().map(read).collect();
        found.map_err(Error::reading(doing))
    }

    /// Has the publication send of a table only the rows of which `filter` is true; `None`: all of them. An UPDATE that
    /// enters or leaves the filter is sent as INSERT or DELETE. `filter`: SQL with its names in quotes, which was parsed
    /// before: it is not quoted here. Tried once; that all rows are sent again, more often.
    ///
    /// # Errors
    /// [`Error::LockTimeout`] when writers hold the table all the time; whatever the server refuses. The table is
    /// published as before then.
    pub async fn set_row_filter(
        &self,
        name: &str,
        table: &(u32, String, String),
        filter: Option<&str>,
    ) -> Result<(), Error> {
        let (_, schema, relation) = table;
        let (quoted, locked) = (identifier(name)?, qualified(schema, relation)?);
        let only = list([table])?;
        let clause = filter.map(|it| format!(" WHERE ({it})")).unwrap_or_default();
        let statement = format!(
            "LOCK TABLE {locked} IN SHARE ROW EXCLUSIVE MODE; \
             ALTER PUBLICATION {quoted} DROP TABLE {only}; \
             ALTER PUBLICATION {quoted} ADD TABLE {only}{clause}"
        );
        let people = readable(schema, relation);
        let doing = format!("changing the row filter of {people} in publication `{name}`");
        let remedy = creation_remedy(self, [table]).await?;
        let what = Locking { doing: &doing, tables: &people, remedy: &remedy };
        match filter {
            // There is time for it: meanwhile the rows come in vain.
            Some(_) => self.with_short_locks_once(what, &statement).await,
            None => self.with_short_locks(what, &statement).await,
        }
    }
}
