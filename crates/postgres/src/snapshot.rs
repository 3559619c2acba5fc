//! Reading tables in an exported snapshot, by COPY.
//!
//! delivery-protocol.md, section 9: TRUNCATE and rewriting ALTER TABLE are not MVCC-safe. A table
//! that was rewritten after the snapshot was taken reads empty in it, and no row of the stream
//! makes up for it; so its file is compared before it is read, under a lock that keeps it where it
//! is.

use crate::lock::WAIT;
use crate::quote::{identifiers, literal, qualified, readable};
use crate::settings::{self, Settings};
use crate::{Error, Session};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use std::fmt;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use wal::Table;

/// One connection that reads in somebody's snapshot.
pub struct SnapshotReader {
    session: Session,
    /// All tables that it reads are locked.
    holds: bool,
}

impl fmt::Debug for SnapshotReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotReader").field("holds", &self.holds).finish_non_exhaustive()
    }
}

/// What is read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Readable {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    /// Leave out what inherits from it.
    pub only: bool,
}

impl Readable {
    /// Keeps the table from being truncated or rewritten until the transaction, or the savepoint before it, ends.
    pub(crate) fn lock(&self) -> Result<String, Error> {
        Ok(format!("LOCK TABLE {} IN ACCESS SHARE MODE", self.relation()?))
    }

    /// As SQL.
    pub(crate) fn relation(&self) -> Result<String, Error> {
        let only = if self.only { "ONLY " } else { "" };
        Ok(format!("{only}{}", qualified(&self.schema, &self.name)?))
    }
}

/// A session that reads rows as the stream sends them.
pub(crate) async fn reading(session: Session, settings: &Settings) -> Result<Session, Error> {
    if settings.takes_bytes(&session.server().encoding) {
        let set = session.client().batch_execute(settings::BYTES).await;
        set.map_err(Error::reading("asking for texts as bytes"))?;
    }
    Ok(session)
}

impl SnapshotReader {
    /// Connects, for [`Self::hold`].
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn connect(settings: &Settings) -> Result<Self, Error> {
        let session = reading(Session::connect_snapshot(settings).await?, settings).await?;
        Ok(Self { session, holds: false })
    }

    /// Connects, and takes the snapshot over from the connection that exported it, which must still
    /// be there.
    ///
    /// # Errors
    /// When the server cannot be reached, or the snapshot is gone.
    pub async fn open(settings: &Settings, snapshot: &str) -> Result<Self, Error> {
        let reader = Self::connect(settings).await?;
        // Locks of a table end with the savepoint: nobody waits for a reader that has gone on, and
        // thousands of tables do not fill the server's table of locks.
        let statements = format!("{}; SAVEPOINT one_table", taking_over(snapshot)?);
        let taken = reader.session.client().batch_execute(&statements).await;
        taken.map_err(Error::reading("taking over the snapshot"))?;
        Ok(reader)
    }

    /// Takes over the snapshot that was just exported, keeps all these tables from being truncated or rewritten for as
    /// long as this reader lives, and checks that none was since the snapshot was taken. Users who want to do that wait
    /// meanwhile, and others behind them.
    ///
    /// # Errors
    /// As [`Self::read`]; [`Error::LockTimeout`] when others hold one of the tables.
    pub async fn hold(&mut self, snapshot: &str, readables: &[Readable]) -> Result<(), Error> {
        // One message: a table can be truncated in each moment that is lost here. Who truncates one of them and waits for
        // another does not go on before this gives up.
        let mut statements =
            format!("{}; SET LOCAL lock_timeout = '{WAIT}'", taking_over(snapshot)?);
        for readable in readables {
            statements.push_str("; ");
            statements.push_str(&readable.lock()?);
        }
        let locked = self.session.client().batch_execute(&statements).await;
        locked.map_err(|error| not_held(error, readables))?;
        self.holds = true;
        for readable in readables {
            self.check(readable).await?;
        }
        Ok(())
    }

    /// Reads all rows, with the columns of `table` in their order. Items are whole rows in the text
    /// format of COPY, each with its line feed. A stream that is dropped early costs what is left
    /// of it. `condition`: SQL of the rows that are wanted, with its names in quotes.
    ///
    /// # Errors
    /// [`Error::TableRewritten`] when the snapshot does not show the table's rows any more;
    /// [`Error::TableMissing`]; when the role may not read it.
    pub async fn read(
        &mut self,
        table: &Table,
        readable: &Readable,
        condition: Option<&str>,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + use<>, Error> {
        self.lock(readable).await?;
        self.check(readable).await?;
        let names = identifiers(table.columns.iter().map(|column| &*column.name))?;
        let wanted = condition.map(|it| format!(" WHERE {it}")).unwrap_or_default();
        let relation = readable.relation()?;
        let statement = format!("COPY (SELECT {names} FROM {relation}{wanted}) TO STDOUT");
        let rows = self
            .session
            .client()
            .copy_out(&statement)
            .await
            .map_err(|error| refused(error, readable))?;
        let readable = readable.clone();
        Ok(rows.map_err(move |error| refused(error, &readable)))
    }

    /// Lets the table before go, and keeps this one from being altered.
    async fn lock(&self, readable: &Readable) -> Result<(), Error> {
        if self.holds {
            return Ok(());
        }
        let statements = format!("ROLLBACK TO SAVEPOINT one_table; {}", readable.lock()?);
        let locked = self.session.client().batch_execute(&statements).await;
        locked.map_err(|error| refused(error, readable))
    }

    /// `pg_class` is read in the snapshot; the functions look at what is there now.
    async fn check(&self, readable: &Readable) -> Result<(), Error> {
        let statement = "\
            WITH RECURSIVE tree (oid) AS ( \
              SELECT $1::oid UNION ALL \
              SELECT i.inhrelid FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid WHERE NOT \
              $3 ) \
            SELECT c.oid, n.nspname::text, c.relname::text, \
              c.relkind = 'p' OR c.relfilenode = pg_relation_filenode(c.oid), \
              c.oid <> $1 OR coalesce(to_regclass($2)::oid = $1, false) \
            FROM tree JOIN pg_class c ON c.oid = tree.oid \
            JOIN pg_namespace n ON n.oid = c.relnamespace \
            WHERE c.relkind IN ('r', 'p')";
        let name = qualified(&readable.schema, &readable.name)?;
        let parameters: [(&(dyn ToSql + Sync), Type); 3] =
            [(&readable.oid, Type::OID), (&name, Type::TEXT), (&readable.only, Type::BOOL)];
        let rows = self.session.query("files of the table", statement, &parameters).await?;
        let wrong = Error::reading("files of the table");
        let mut is_there = false;
        for row in rows {
            let oid: u32 = row.try_get(0).map_err(&wrong)?;
            let (schema, name): (String, String) =
                (row.try_get(1).map_err(&wrong)?, row.try_get(2).map_err(&wrong)?);
            // A partition that was dropped since is gone, with its rows; nothing is left to
            // compare.
            let is_same: Option<bool> = row.try_get(3).map_err(&wrong)?;
            if is_same == Some(false) {
                return Err(Error::TableRewritten {
                    table: crate::quote::readable(&schema, &name),
                });
            }
            is_there |= oid == readable.oid && row.try_get::<_, bool>(4).map_err(&wrong)?;
        }
        // Not there in the snapshot, or another one goes by the name now.
        is_there.then_some(()).ok_or_else(|| missing(readable))
    }
}

/// Begins to read in a snapshot.
fn taking_over(snapshot: &str) -> Result<String, Error> {
    let snapshot = literal(snapshot)?;
    Ok(format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {snapshot}"
    ))
}

/// What the server says when several tables are locked.
fn not_held(error: tokio_postgres::Error, readables: &[Readable]) -> Error {
    const DOING: &str = "holding the tables of a snapshot";
    let names = || readables.iter().map(|it| readable(&it.schema, &it.name)).collect::<Vec<_>>();
    if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) {
        return Error::lock_timeout(DOING, names().join(", "));
    }
    let said = error.as_db_error().map(|it| it.message().to_owned()).unwrap_or_default();
    // The longest name: another one may be its beginning.
    let is_named = |it: &&Readable| said.contains(&it.name);
    match readables.iter().filter(is_named).max_by_key(|it| it.name.len()) {
        Some(readable) => refused(error, readable),
        None => Error::reading(DOING)(error),
    }
}

fn missing(readable: &Readable) -> Error {
    Error::TableMissing { table: self::readable(&readable.schema, &readable.name) }
}

/// What the server says when a table is read.
pub(crate) fn refused(error: tokio_postgres::Error, relation: &Readable) -> Error {
    let name = || readable(&relation.schema, &relation.name);
    let code = error.code();
    if code == Some(&SqlState::UNDEFINED_TABLE) || code == Some(&SqlState::INVALID_SCHEMA_NAME) {
        return missing(relation);
    }
    if code == Some(&SqlState::UNDEFINED_COLUMN) {
        // A column was renamed or dropped since: what was read of the catalog does not hold any
        // more.
        return Error::TableRewritten { table: name() };
    }
    if code == Some(&SqlState::LOCK_NOT_AVAILABLE) {
        return Error::lock_timeout("reading a table", name());
    }
    if code == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
        let said = error.as_db_error().map(tokio_postgres::error::DbError::message);
        return Error::NotAuthorized {
            doing: format!("reading {} ({})", name(), said.unwrap_or("not allowed")),
            remedy: format!(
                "GRANT USAGE on its schema and SELECT on {} to the task's role; where it has row \
                 security, ALTER ROLE … BYPASSRLS",
                name()
            ),
        };
    }
    Error::reading("reading a table")(error)
}
