//! What of a publication and of the tables in the catalog has changed since the last look.

use super::Settings;
use crate::quote::{identifier, literal, qualified, readable};
use crate::{Error, Session};
use std::collections::BTreeSet;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

impl Session {
    /// Another text as soon as a table was made, dropped, renamed, moved, attached or detached, has another
    /// replica identity or another key for it, or the publication was altered. One pass over three catalogs.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn tables_fingerprint(&self, publication: &str) -> Result<String, Error> {
        let statement = "\
            SELECT concat_ws(' ', \
              (SELECT concat(count(*), ' ', coalesce(sum(hashtext(concat_ws(' ', c.oid, c.relname, \
                 c.relnamespace, c.relkind, c.relreplident, c.relispartition))::int8), 0)) \
               FROM pg_class c WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' \
                 AND 16384 <= c.oid), \
              (SELECT coalesce(sum(hashtext(concat_ws(' ', i.indexrelid, i.indrelid, i.indisprimary, \
                 i.indimmediate, i.indisvalid, i.indisreplident))::int8), 0) \
               FROM pg_index i WHERE (i.indisprimary OR i.indisreplident) AND 16384 <= i.indrelid), \
              (SELECT coalesce(sum(hashtext(n.nspname)::int8), 0) FROM pg_namespace n), \
              (SELECT concat_ws(' ', p.oid, p.xmin, (SELECT concat(count(*), ' ', \
                 coalesce(sum(hashtext(concat_ws(' ', r.oid, r.xmin))::int8), 0)) \
                 FROM pg_publication_rel r WHERE r.prpubid = p.oid)) \
               FROM pg_publication p WHERE p.pubname = $1))";
        let rows = self.query("tables", statement, &[(&publication, Type::TEXT)]).await?;
        let text = rows.first().map(|row| row.try_get::<_, String>(0)).transpose();
        Ok(text.map_err(Error::reading("tables"))?.unwrap_or_default())
    }

    /// Partitions of published trees that have another replica identity than FULL and can have it: schema and name. Their users
    /// may be kept from updating.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn partitions_not_full(
        &self,
        publication: &str,
    ) -> Result<Vec<(String, String)>, Error> {
        let doing = "partitions";
        let statement = "\
            WITH RECURSIVE tree (oid) AS ( \
              SELECT r.prrelid FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid \
                JOIN pg_class c ON c.oid = r.prrelid AND c.relkind = 'p' WHERE p.pubname = $1 \
              UNION ALL \
              SELECT i.inhrelid FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid ) \
            SELECT n.nspname::text, c.relname::text FROM tree JOIN pg_class c ON c.oid = tree.oid \
              JOIN pg_namespace n ON n.oid = c.relnamespace \
            WHERE c.relkind = 'r' AND c.relreplident <> 'f' AND NOT EXISTS (SELECT FROM pg_attribute a \
              WHERE a.attrelid = c.oid AND to_jsonb(a) ->> 'attgenerated' = 'v')";
        let rows = self.query(doing, statement, &[(&publication, Type::TEXT)]).await?;
        let read = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?));
        let found: Result<_, tokio_postgres::Error> = rows.iter().map(read).collect();
        found.map_err(Error::reading(doing))
    }

    /// What the publication of this name says of its owner.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn publication_comment(&self, name: &str) -> Result<Option<String>, Error> {
        let statement =
            "SELECT obj_description(oid, 'pg_publication') FROM pg_publication WHERE pubname = $1";
        let rows = self.query("publication", statement, &[(&name, Type::TEXT)]).await?;
        let comment = rows.first().map(|row| row.try_get::<_, Option<String>>(0)).transpose();
        Ok(comment.map_err(Error::reading("publication"))?.flatten())
    }

    /// Has the publication of this name say whose it is.
    ///
    /// # Errors
    /// When the role does not own it, or the server does not answer.
    pub async fn sign_publication(&self, name: &str, comment: &str) -> Result<(), Error> {
        if self.publication_comment(name).await?.as_deref() == Some(comment) {
            return Ok(());
        }
        let statement =
            format!("COMMENT ON PUBLICATION {} IS {}", identifier(name)?, literal(comment)?);
        let done = self.client().batch_execute(&statement).await;
        done.map_err(Error::reading("signing the publication"))
    }

    /// Whether a table, or what inherits from it, has a row.
    ///
    /// # Errors
    /// When it does not exist, the role may not read it, or the server does not answer.
    pub async fn has_rows(&self, schema: &str, name: &str) -> Result<bool, Error> {
        let statement = format!("SELECT EXISTS (SELECT FROM {})", qualified(schema, name)?);
        let row = self.client().query_typed_one(&statement, &[]).await;
        row.and_then(|row| row.try_get(0)).map_err(|error| {
            if error.code() == Some(&SqlState::UNDEFINED_TABLE) {
                return Error::TableMissing { table: readable(schema, name) };
            }
            Error::reading("rows")(error)
        })
    }

    /// What the publication does not send any more that the task needs, for people; `None`: nothing. `filtered`: tables whose
    /// row filters are the task's own.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn publication_lacks(
        &self,
        name: &str,
        via_root: bool,
        filtered: &BTreeSet<u32>,
    ) -> Result<Option<String>, Error> {
        let Some(existing) = self.existing(name).await? else {
            return Ok(Some(format!("publication `{name}` is gone")));
        };
        let wanted = Settings::new(self.server().version, via_root, true);
        if existing.settings != wanted {
            return Ok(Some(format!(
                "publication `{name}` was altered: it is to have ({})",
                wanted.clause(self.server().version)
            )));
        }
        let tables = existing.narrowed(filtered);
        Ok((!tables.is_empty()).then(|| {
            format!("publication `{name}` has got row filters or column lists for {tables}")
        }))
    }
}
