//! REPLICA IDENTITY FULL: old rows arrive whole, and users' UPDATE and DELETE go on where a table
//! has no usable key (design.md, server fact 16).

use crate::catalog::{VIRTUAL_SINCE, identity};
use crate::lock::Locking;
use crate::quote::{identifier, qualified, readable};
use crate::{Error, Session};
use tokio_postgres::types::Type;
use tracing::{debug, info};
use wal::table::ReplicaIdentity;

/// Tables that are altered in one transaction, and how long it may wait: who comes after waits with it.
const ALTERED_AT_ONCE_MAX: usize = 32;
const WAIT: &str = "50ms";

impl Session {
    /// Sets REPLICA IDENTITY FULL of tables (schema, name) that have another: several at once, and one by one
    /// where some of them are busy, or cannot be altered.
    ///
    /// # Errors
    /// As [`Self::set_identity_full`].
    pub async fn set_identities_full(&self, tables: &[(&str, &str)]) -> Result<(), Error> {
        for chunk in tables.chunks(ALTERED_AT_ONCE_MAX) {
            if !self.set_together(chunk).await? {
                for (schema, table) in chunk {
                    self.set_identity_full(schema, table).await?;
                }
            }
        }
        Ok(())
    }

    /// `false`: nothing was altered.
    async fn set_together(&self, tables: &[(&str, &str)]) -> Result<bool, Error> {
        if tables.len() < 2 || self.have_virtual_columns(tables).await? {
            return Ok(false);
        }
        let statements = tables.iter().map(|(schema, table)| full(schema, table));
        let statements = statements.collect::<Result<Vec<_>, _>>()?.join("; ");
        let statements = format!("SET LOCAL lock_timeout = '{WAIT}'; {statements}");
        let doing = "setting REPLICA IDENTITY FULL";
        let what = Locking { doing, tables: "several tables", remedy: "" };
        match self.with_short_locks_once(what, &statements).await {
            Ok(()) => {
                info!(tables = tables.len(), "REPLICA IDENTITY FULL set");
                Ok(true)
            }
            Err(error) if error.is_connection() => Err(error),
            Err(error) => {
                debug!(%error, "tables are altered one by one");
                Ok(false)
            }
        }
    }

    /// Whether any of them has generated columns that are not stored.
    async fn have_virtual_columns(&self, tables: &[(&str, &str)]) -> Result<bool, Error> {
        if self.server().version < VIRTUAL_SINCE {
            return Ok(false);
        }
        let doing = "looking for virtual generated columns";
        let statement = "SELECT EXISTS (SELECT FROM unnest($1::text[], $2::text[]) t (schema, name) \
             JOIN pg_namespace n ON n.nspname = t.schema \
             JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.name \
             JOIN pg_attribute a ON a.attrelid = c.oid \
             WHERE a.attgenerated = 'v' AND NOT a.attisdropped)";
        let (schemas, names): (Vec<&str>, Vec<&str>) = tables.iter().copied().unzip();
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
            [(&schemas, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY)];
        let rows = self.query(doing, statement, &parameters).await?;
        let found = rows.first().map(|row| row.try_get(0)).transpose();
        Ok(found.map_err(Error::reading(doing))?.unwrap_or_default())
    }

    /// Sets REPLICA IDENTITY FULL; false: it was set already. Each partition has an identity of its
    /// own.
    ///
    /// # Errors
    /// [`Error::LockTimeout`] when users hold the table all the time; when the role does not own
    /// it, it does not exist, or its users could not update it any more.
    pub async fn set_identity_full(&self, schema: &str, table: &str) -> Result<bool, Error> {
        let name = readable(schema, table);
        let generated = if self.server().version < VIRTUAL_SINCE {
            "NULL::text"
        } else {
            "(SELECT string_agg(a.attname, ', ') FROM pg_attribute a \
              WHERE a.attrelid = c.oid AND a.attgenerated = 'v' AND NOT a.attisdropped)"
        };
        let statement = format!(
            "SELECT c.relreplident, {generated}, pg_get_userbyid(c.relowner)::text, \
               current_user::text \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')"
        );
        let names: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
            [(&schema, Type::TEXT), (&table, Type::TEXT)];
        let rows = self.query("replica identity", &statement, &names).await?;
        let Some(row) = rows.first() else { return Err(Error::TableMissing { table: name }) };
        let wrong = Error::reading("replica identity");
        let letter: i8 = row.try_get(0).map_err(&wrong)?;
        if identity(letter.to_ne_bytes()[0]) == ReplicaIdentity::Full {
            return Ok(false);
        }
        let columns: Option<String> = row.try_get(1).map_err(&wrong)?;
        if let Some(columns) = columns {
            return Err(Error::Unsupported {
                what: format!(
                    "REPLICA IDENTITY FULL of {name}, which has virtual generated columns \
                     ({columns}): its users could not update it any more. Set \
                     source.replica_identity: keep, or make the columns STORED"
                ),
            });
        }
        let owner: String = row.try_get(2).map_err(&wrong)?;
        let user: String = row.try_get(3).map_err(&wrong)?;
        let statement = full(schema, table)?;
        let remedy = format!(
            "run `{statement}` as {owner}, or `GRANT {} TO {}`, or set source.replica_identity: \
             keep",
            identifier(&owner)?,
            identifier(&user)?
        );
        let doing = "setting REPLICA IDENTITY FULL";
        let what = Locking { doing, tables: &name, remedy: &remedy };
        self.with_short_locks(what, &statement).await?;
        info!(table = name, "REPLICA IDENTITY FULL set");
        Ok(true)
    }
}

/// The statement that makes the identity FULL. `ONLY`, or tables that inherit would be changed too.
pub(crate) fn full(schema: &str, table: &str) -> Result<String, Error> {
    Ok(format!("ALTER TABLE ONLY {} REPLICA IDENTITY FULL", qualified(schema, table)?))
}
