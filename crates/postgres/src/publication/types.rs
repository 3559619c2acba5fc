//! What a publication's columns are made of.

use crate::catalog::typed;
use crate::{Error, Session};
use std::sync::Arc;
use tokio_postgres::types::Type as Sql;

/// A type that a publication sends, and a column that has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublishedType {
    /// `schema.table.column`, for people.
    pub column: String,
    pub type_: Arc<wal::types::Type>,
}

impl Session {
    /// The types of all columns of a publication's tables, each once.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn published_types(&self, publication: &str) -> Result<Vec<PublishedType>, Error> {
        let statement = "\
            SELECT DISTINCT ON (a.atttypid) a.atttypid, \
              concat_ws('.', n.nspname, c.relname, a.attname) \
            FROM pg_publication p \
            JOIN pg_publication_rel r ON r.prpubid = p.oid \
            JOIN pg_class c ON c.oid = r.prrelid \
            JOIN pg_namespace n ON n.oid = c.relnamespace \
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
            WHERE p.pubname = $1 ORDER BY 1, 2";
        let doing = "types of the publication";
        let rows = self.query(doing, statement, &[(&publication, Sql::TEXT)]).await?;
        let read = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?));
        let found: Vec<(u32, String)> =
            rows.iter().map(read).collect::<Result<_, _>>().map_err(Error::reading(doing))?;
        let oids: Vec<u32> = found.iter().map(|(oid, _)| *oid).collect();
        let types = self.types(&oids).await?;
        let published =
            |(oid, column): (u32, String)| PublishedType { column, type_: typed(&types, oid) };
        Ok(found.into_iter().map(published).collect())
    }
}
