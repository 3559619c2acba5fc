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

/// Pages of a table that one connection reads at a time: 32 MiB.
const PAGES_OF_PIECE: u32 = 4096;
/// First version that reads a range of pages without looking at all others ("TID range scan").
const TID_RANGE_SINCE: u32 = 140_000;
const PAGE_BYTES: i64 = 8192;

/// One connection that reads in somebody's snapshot.
pub struct SnapshotReader {
    session: Session,
    /// All tables that it reads are locked.
    holds: bool,
    /// The table that it has locked and looked at, where they are not all locked.
    reading: Option<u32>,
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

/// What one connection reads of a table at a time: a partition, or some of its pages. All pieces of a table must be read in
/// the same snapshot: a row that moves has another page in the next one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Piece {
    pub relation: Readable,
    /// The first page, and the first one that is not read; `None`: all that follow.
    pub pages: (u32, Option<u32>),
}

impl Piece {
    /// The whole table.
    #[must_use]
    pub fn whole(relation: Readable) -> Self {
        Self { relation, pages: (0, None) }
    }

    /// All rows of a relation of that many pages. What has come since is no part of the snapshot, but an estimate that is too
    /// low must not cost a row: the last piece has no end.
    fn divided(relation: &Readable, pages: u32) -> Vec<Self> {
        let count = (pages / PAGES_OF_PIECE).max(1);
        let piece = |number: u32| {
            let until = (number + 1 < count).then(|| (number + 1) * PAGES_OF_PIECE);
            Self { relation: relation.clone(), pages: (number * PAGES_OF_PIECE, until) }
        };
        (0..count).map(piece).collect()
    }

    /// As SQL, with what else is asked of rows.
    fn condition(&self, wanted: Option<&str>) -> String {
        let (from, until) = self.pages;
        let from = (0 < from).then(|| format!("ctid >= '({from},0)'::tid"));
        let until = until.map(|until| format!("ctid < '({until},0)'::tid"));
        let parts: Vec<String> =
            wanted.map(|it| format!("({it})")).into_iter().chain(from).chain(until).collect();
        if parts.is_empty() { String::new() } else { format!(" WHERE {}", parts.join(" AND ")) }
    }
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
        Ok(Self { session, holds: false, reading: None })
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

    /// What several connections can read of a table, each for itself: its partitions, and on 14+ ranges of pages of what is
    /// large. Whole where the role may read the table, but not a partition by its own name.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn pieces(&mut self, readable: &Readable) -> Result<Vec<Piece>, Error> {
        self.reading = None;
        self.lock(readable).await?;
        let pieces = self.check(readable).await?;
        self.reading = Some(readable.oid);
        Ok(pieces)
    }

    /// Keeps the table that was read last no longer from being truncated or rewritten; for a reader that waits.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn let_go(&mut self) -> Result<(), Error> {
        if self.holds || self.reading.take().is_none() {
            return Ok(());
        }
        let done = self.session.client().batch_execute("ROLLBACK TO SAVEPOINT one_table").await;
        done.map_err(Error::reading("letting a table go"))
    }

    /// Reads all rows of a piece, with the columns of `table` in their order. Items are whole rows in the text
    /// format of COPY, each with its line feed. A stream that is dropped early costs what is left
    /// of it. `condition`: SQL of the rows that are wanted, with its names in quotes.
    ///
    /// # Errors
    /// [`Error::TableRewritten`] when the snapshot does not show the table's rows any more;
    /// [`Error::TableMissing`]; when the role may not read it.
    pub async fn read(
        &mut self,
        table: &Table,
        piece: &Piece,
        condition: Option<&str>,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + use<>, Error> {
        let readable = &piece.relation;
        if self.reading != Some(readable.oid) {
            self.pieces(readable).await?;
        }
        let names = identifiers(table.columns.iter().map(|column| &*column.name))?;
        let (relation, wanted) = (readable.relation()?, piece.condition(condition));
        let statement = format!("COPY (SELECT {names} FROM {relation}{wanted}) TO STDOUT");
        let rows = self.session.client().copy_out(&statement).await.map_err(|error| {
            self.reading = None;
            refused(error, readable)
        })?;
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

    /// `pg_class` is read in the snapshot; the functions look at what is there now. Returns what can be read by itself.
    async fn check(&self, readable: &Readable) -> Result<Vec<Piece>, Error> {
        let statement = "\
            WITH RECURSIVE tree (oid) AS ( \
              SELECT $1::oid UNION ALL \
              SELECT i.inhrelid FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid WHERE NOT \
              $3 ) \
            SELECT c.oid, n.nspname::text, c.relname::text, \
              c.relkind = 'p' OR c.relfilenode = pg_relation_filenode(c.oid), \
              c.oid <> $1 OR coalesce(to_regclass($2)::oid = $1, false), \
              CASE WHEN c.relkind <> 'p' THEN pg_relation_size(c.oid) END, \
              c.oid = $1 OR NOT c.relrowsecurity AND has_table_privilege(c.oid, 'SELECT') \
            FROM tree JOIN pg_class c ON c.oid = tree.oid \
            JOIN pg_namespace n ON n.oid = c.relnamespace \
            WHERE c.relkind IN ('r', 'p')";
        let name = qualified(&readable.schema, &readable.name)?;
        let parameters: [(&(dyn ToSql + Sync), Type); 3] =
            [(&readable.oid, Type::OID), (&name, Type::TEXT), (&readable.only, Type::BOOL)];
        let rows = self.session.query("files of the table", statement, &parameters).await?;
        let wrong = Error::reading("files of the table");
        let (mut is_there, mut may_be_divided, mut pieces) = (false, true, Vec::new());
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
            // Without a size: a root, or gone.
            if let Some(bytes) = row.try_get::<_, Option<i64>>(5).map_err(&wrong)? {
                let relation = Readable { oid, schema, name, only: true };
                pieces.extend(Piece::divided(&relation, self.pages(bytes)));
                may_be_divided &= row.try_get::<_, bool>(6).map_err(&wrong)?;
            }
        }
        // Not there in the snapshot, or another one goes by the name now.
        is_there.then_some(()).ok_or_else(|| missing(readable))?;
        let is_whole = pieces.is_empty() || !may_be_divided;
        Ok(if is_whole { vec![Piece::whole(readable.clone())] } else { pieces })
    }

    /// Pages to read by, of a relation of this size.
    fn pages(&self, bytes: i64) -> u32 {
        match self.session.server().version {
            version if version < TID_RANGE_SINCE => 0,
            _ => u32::try_from(bytes / PAGE_BYTES).unwrap_or(u32::MAX),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn relation() -> Readable {
        Readable { oid: 7, schema: "s".into(), name: "t".into(), only: true }
    }

    #[test]
    fn pieces_have_every_page_once() {
        let pages = |pages| {
            Piece::divided(&relation(), pages).into_iter().map(|it| it.pages).collect::<Vec<_>>()
        };
        assert_eq!(pages(0), [(0, None)]);
        assert_eq!(pages(2 * PAGES_OF_PIECE - 1), [(0, None)]);
        let (first, second) = (PAGES_OF_PIECE, 2 * PAGES_OF_PIECE);
        assert_eq!(
            pages(3 * PAGES_OF_PIECE + 1),
            [(0, Some(first)), (first, Some(second)), (second, None)]
        );
    }

    #[test]
    fn a_condition_holds_for_each_piece() {
        let condition = |pages, wanted| Piece { relation: relation(), pages }.condition(wanted);
        assert_eq!(condition((0, None), None), "");
        assert_eq!(condition((0, None), Some("a OR b")), " WHERE (a OR b)");
        assert_eq!(
            condition((8, Some(16)), Some("a OR b")),
            " WHERE (a OR b) AND ctid >= '(8,0)'::tid AND ctid < '(16,0)'::tid"
        );
    }
}
