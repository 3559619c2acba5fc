//! Reading a table in chunks by ranges of its key, each in a snapshot of its own.
//!
//! Only the server compares keys: by the operators of the key's types and the collations of its columns. The
//! table is locked (ACCESS SHARE) before the snapshot is taken, so what was truncated or rewritten before is
//! seen, and nothing is while the chunk is read (delivery-protocol.md, section 9).

use crate::quote::{identifier, identifiers, literal, qualified, readable};
use crate::replication::Line;
use crate::settings::Settings;
use crate::snapshot::{Readable, refused};
use crate::{Error, Session};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use std::cell::Cell;
use tokio_postgres::types::{ToSql, Type};
use wal::{Lsn, Table, Visibility};

/// The header of a page of WAL at most: the first of a segment has a longer one (`XLogLongPageHeaderData`).
const WAL_PAGE_HEADERS: [u64; 2] = [24, 40];
/// `wal_block_size` of a server as it is built everywhere.
const WAL_PAGE_BYTES: u64 = 8192;

/// One connection that reads chunks. Dropped while rows come, it closes the connection: whoever wants no more of them is not
/// sent the rest, and the server ends the transaction.
pub struct ChunkReader {
    session: Session,
    /// Between [`Self::rows`] and [`Self::end`].
    is_reading: Cell<bool>,
    /// `pg_current_snapshot()` came with 13.
    snapshot_function: &'static str,
}

/// A table as it is read in chunks.
#[derive(Clone, Debug)]
pub struct ChunkTable {
    pub source: ChunkSource,
    pub table: std::sync::Arc<Table>,
    /// What the catalog says of its name and columns: another text means another version.
    pub shape: String,
    /// Bytes that a row takes on disk, with what is stored out of line; `None`: the table was never analyzed, or has
    /// partitions.
    pub row_bytes: Option<u64>,
}

/// All that a connection needs to know to read chunks of a table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChunkSource {
    pub readable: Readable,
    /// Names of the columns that are read, in their order.
    pub columns: Vec<String>,
    /// The key's columns with the types that their values are read as.
    pub key: Vec<KeyColumn>,
    /// Schemas that have the operators of the key's types, beside `pg_catalog`.
    pub operators: Vec<String>,
}

/// A column of a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyColumn {
    pub name: String,
    /// As SQL: what `format_type` says.
    pub type_: String,
}

/// Rows after `after`, or from the first, up to and including `upto`: values of the key as text.
#[derive(Clone, Copy, Debug)]
pub struct Between<'a> {
    pub after: Option<&'a [Box<str>]>,
    pub upto: &'a [Box<str>],
}

/// The snapshot of a chunk.
#[derive(Clone, Debug)]
pub struct Begun {
    pub visibility: Visibility,
    /// Everything that the snapshot sees commits before this.
    pub high: Lsn,
    /// Files of the table and its partitions: others than before mean that it was rewritten or truncated.
    pub files: String,
    /// As [`ChunkTable::shape`].
    pub shape: String,
}

impl Drop for ChunkReader {
    fn drop(&mut self) {
        if self.is_reading.get() {
            self.session.abandon();
        }
    }
}

impl ChunkReader {
    /// Connects.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn open(settings: &Settings) -> Result<Self, Error> {
        let session = Session::connect_chunks(settings).await?;
        let session = crate::snapshot::reading(session, settings).await?;
        // The order of the key is wanted: without statistics the server might sort the table for each chunk.
        let statement = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off";
        let old = "SET enable_seqscan = off; SET enable_bitmapscan = off";
        let set = if session.server().version < 110_000 { old } else { statement };
        session.client().batch_execute(set).await.map_err(Error::reading("setting up a reader"))?;
        let is_old = session.server().version < 130_000;
        let snapshot_function =
            if is_old { "txid_current_snapshot()" } else { "pg_current_snapshot()" };
        Ok(Self { session, is_reading: Cell::new(false), snapshot_function })
    }

    /// The line of WAL that the server is on.
    #[must_use]
    pub fn line(&self) -> Line {
        self.session.server().line()
    }

    /// The table of this OID as it is now, read by the columns of `key`. `only`: without what inherits from
    /// it. `None`: it is gone.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn describe(
        &self,
        oid: u32,
        only: bool,
        key: impl FnOnce(&Table) -> Option<Vec<Box<str>>>,
    ) -> Result<Option<ChunkTable>, Error> {
        let Some((schema, name, shape)) = self.shape(oid).await? else { return Ok(None) };
        let table = match self.session.tables(&[oid]).await {
            Ok(mut tables) => tables.pop(),
            Err(Error::TableMissing { .. }) => None,
            Err(error) => return Err(error),
        };
        let Some(table) = table else { return Ok(None) };
        let missing = || Error::Unsupported {
            what: format!(
                "reading {} in chunks without a key that the stream tells, which it had before; read \
                 it again with --reseed",
                readable(&schema, &name)
            ),
        };
        let names = key(&table).ok_or_else(missing)?;
        let (key, operators) = self.key(oid, &names).await?;
        if key.len() != names.len() {
            return Ok(None);
        }
        let readable = Readable { oid, schema, name, only };
        let columns = table.columns.iter().map(|column| column.name.to_string()).collect();
        let source = ChunkSource { readable, columns, key, operators };
        let row_bytes = self.row_bytes(oid).await?;
        Ok(Some(ChunkTable { source, table: table.into(), shape, row_bytes }))
    }

    async fn row_bytes(&self, oid: u32) -> Result<Option<u64>, Error> {
        let statement = "SELECT (pg_table_size(oid) / reltuples)::int8 FROM pg_class \
             WHERE oid = $1 AND 0 < reltuples AND relkind = 'r'";
        let rows = self.session.query("the size of rows", statement, &[(&oid, Type::OID)]).await?;
        let bytes = rows.first().map(|row| row.try_get::<_, Option<i64>>(0)).transpose();
        let bytes = bytes.map_err(Error::reading("the size of rows"))?.flatten();
        Ok(bytes.and_then(|it| u64::try_from(it).ok()).filter(|it| 0 < *it))
    }

    /// Types of the key's columns, and schemas of their operators that are not in `pg_catalog`: an operator
    /// that is not found there would be that of another type (`citext` would be compared as `text`).
    async fn key(
        &self,
        oid: u32,
        names: &[Box<str>],
    ) -> Result<(Vec<KeyColumn>, Vec<String>), Error> {
        // format_type with modifier -1 names the type so that a cast to it cuts nothing off.
        let statement = "SELECT a.attname::text, format_type(a.atttypid, -1), \
              (SELECT n.nspname::text FROM pg_opclass c JOIN pg_am m ON m.oid = c.opcmethod \
                 JOIN pg_amop o ON o.amopfamily = c.opcfamily AND o.amoplefttype = c.opcintype \
                   AND o.amoprighttype = c.opcintype AND o.amopstrategy = 5 \
                 JOIN pg_operator p ON p.oid = o.amopopr \
                 JOIN pg_namespace n ON n.oid = p.oprnamespace \
               WHERE m.amname = 'btree' AND c.opcdefault \
                 AND c.opcintype = CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END \
               LIMIT 1) \
            FROM unnest($2::text[]) WITH ORDINALITY k (name, place) \
            JOIN pg_attribute a ON a.attrelid = $1 AND a.attname = k.name AND NOT a.attisdropped \
            JOIN pg_type t ON t.oid = a.atttypid ORDER BY k.place";
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        let parameters: [(&(dyn ToSql + Sync), Type); 2] =
            [(&oid, Type::OID), (&names, Type::TEXT_ARRAY)];
        let rows = self.session.query("the key of a table", statement, &parameters).await?;
        let wrong = Error::reading("the key of a table");
        let (mut key, mut operators) = (Vec::new(), Vec::new());
        for row in rows {
            key.push(KeyColumn {
                name: row.try_get(0).map_err(&wrong)?,
                type_: row.try_get(1).map_err(&wrong)?,
            });
            let schema: Option<String> = row.try_get(2).map_err(&wrong)?;
            operators.extend(schema.filter(|it| it != "pg_catalog"));
        }
        Ok((key, operators))
    }

    /// Schema, name and shape of a table.
    async fn shape(&self, oid: u32) -> Result<Option<(String, String, String)>, Error> {
        let statement = format!("SELECT n.nspname::text, c.relname::text, {SHAPE} {SHAPE_FROM}");
        let parameters: [(&(dyn ToSql + Sync), Type); 1] = [(&oid, Type::OID)];
        let rows = self.session.query("a table", &statement, &parameters).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let read = || Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
        read().map(Some).map_err(Error::reading("a table"))
    }

    /// Locks the table, then takes a snapshot. [`Self::end`] must follow.
    ///
    /// # Errors
    /// [`Error::TableMissing`] also where another table has the name now; [`Error::LockTimeout`].
    pub async fn begin(&self, table: &ChunkSource) -> Result<Begun, Error> {
        let schemas = table.operators.iter().map(|it| Ok(format!(", {}", identifier(it)?)));
        let search_path = schemas.collect::<Result<String, Error>>()?;
        let statements = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
             SET LOCAL search_path = pg_catalog{search_path}; {}",
            table.readable.lock()?
        );
        let locked = self.session.client().batch_execute(&statements).await;
        locked.map_err(|error| refused(error, &table.readable))?;
        // The snapshot is taken before the position is looked at.
        let statement = format!(
            "WITH RECURSIVE tree (oid) AS ( \
               SELECT $1::oid UNION ALL \
               SELECT i.inhrelid FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid \
               WHERE NOT $3 ) \
             SELECT {}::text, pg_current_wal_insert_lsn()::text, \
               (SELECT concat(count(*), ':', \
                 string_agg(pg_relation_filenode(tree.oid)::text, ',' ORDER BY tree.oid)) FROM tree), {SHAPE}, \
               coalesce(to_regclass($2)::oid = c.oid, false) {SHAPE_FROM}",
            self.snapshot_function
        );
        let name = qualified(&table.readable.schema, &table.readable.name)?;
        let parameters: [(&(dyn ToSql + Sync), Type); 3] = [
            (&table.readable.oid, Type::OID),
            (&name, Type::TEXT),
            (&table.readable.only, Type::BOOL),
        ];
        let rows = self.session.query("taking a snapshot", &statement, &parameters).await?;
        let missing = || Error::TableMissing {
            table: readable(&table.readable.schema, &table.readable.name),
        };
        let row = rows.first().ok_or_else(missing)?;
        let wrong = Error::reading("taking a snapshot");
        let text = |index| row.try_get::<_, String>(index).map_err(&wrong);
        if !row.try_get::<_, bool>(4).map_err(&wrong)? {
            return Err(missing());
        }
        let visibility = text(0)?.parse::<Visibility>();
        let high: Lsn = text(1)?
            .parse()
            .map_err(|error: wal::lsn::InvalidLsn| Error::protocol(error.to_string()))?;
        Ok(Begun {
            visibility: visibility.map_err(|error| Error::protocol(error.to_string()))?,
            high: before_page_header(high),
            files: text(2)?,
            shape: text(3)?,
        })
    }

    /// The rows of a range in the order of the key, in the text format of COPY, each item a whole row with
    /// its line feed. `wanted`: SQL of the rows that are, with its names in quotes. `rows_max`: no more than so many;
    /// `None`: all.
    ///
    /// # Errors
    /// As [`crate::snapshot::SnapshotReader::read`].
    pub async fn rows(
        &self,
        table: &ChunkSource,
        between: Between<'_>,
        wanted: Option<&str>,
        rows_max: Option<u64>,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + use<>, Error> {
        let names = identifiers(table.columns.iter().map(|name| &**name))?;
        let limit = rows_max.map(|rows| format!(" LIMIT {rows}")).unwrap_or_default();
        let wanted = wanted.map(|it| format!(" AND ({it})")).unwrap_or_default();
        let statement = format!(
            "COPY (SELECT {names} FROM {} t WHERE {}{wanted} ORDER BY {}{limit}) TO STDOUT",
            table.readable.relation()?,
            table.condition(between)?,
            table.order("")?
        );
        self.is_reading.set(true);
        let rows = self.session.client().copy_out(&statement).await;
        let readable = table.readable.clone();
        let rows = rows.map_err(|error| refused(error, &readable))?;
        Ok(rows.map_err(move |error| refused(error, &readable)))
    }

    /// Ends the transaction, whatever became of it.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn end(&self) -> Result<(), Error> {
        let ended = self.session.client().batch_execute("ROLLBACK").await;
        ended.map_err(Error::reading("ending a chunk"))?;
        self.is_reading.set(false);
        Ok(())
    }

    /// The last key of the table; `None`: it is empty. After [`Self::begin`].
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn last(&self, table: &ChunkSource) -> Result<Option<Vec<Box<str>>>, Error> {
        let statement = format!(
            "SELECT {} FROM {} t ORDER BY {} LIMIT 1",
            table.key_as_text()?,
            table.readable.relation()?,
            table.order(" DESC")?
        );
        self.one_key(table, &statement).await
    }

    /// The key of row number `rows` of a range; `None`: it has fewer. After [`Self::begin`].
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn cut(
        &self,
        table: &ChunkSource,
        between: Between<'_>,
        rows: u64,
    ) -> Result<Option<Vec<Box<str>>>, Error> {
        let statement = format!(
            "SELECT {} FROM {} t WHERE {} ORDER BY {} OFFSET {} LIMIT 1",
            table.key_as_text()?,
            table.readable.relation()?,
            table.condition(between)?,
            table.order("")?,
            rows.saturating_sub(1)
        );
        self.one_key(table, &statement).await
    }

    async fn one_key(
        &self,
        table: &ChunkSource,
        statement: &str,
    ) -> Result<Option<Vec<Box<str>>>, Error> {
        let rows = self.session.client().query_typed(statement, &[]).await;
        let rows = rows.map_err(|error| refused(error, &table.readable))?;
        let Some(row) = rows.first() else { return Ok(None) };
        let values = (0..row.len()).map(|index| row.try_get::<_, String>(index).map(Into::into));
        values.collect::<Result<_, _>>().map(Some).map_err(Error::reading("a key"))
    }

    /// If commits wait for standbys after they were streamed: an id above all that were given out so far.
    /// Else `None`.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn given_out(session: &Session) -> Result<Option<u32>, Error> {
        let doing = "asking for transaction ids";
        let statement = "SELECT CASE WHEN current_setting('synchronous_standby_names') <> '' \
             THEN txid_current() END";
        let rows = session.query(doing, statement, &[]).await?;
        let xid = rows.first().map(|row| row.try_get::<_, Option<i64>>(0)).transpose();
        let xid = xid.map_err(Error::reading(doing))?.flatten();
        // The low 32 bits are what the stream tells.
        Ok(xid.map(|xid| (xid.cast_unsigned() & u64::from(u32::MAX)) as u32))
    }
}

/// Name and columns of the table `$1`.
const SHAPE: &str = "concat_ws(' ', quote_ident(n.nspname), quote_ident(c.relname), c.relreplident, \
    (SELECT string_agg(concat_ws(' ', a.attnum, quote_ident(a.attname), a.atttypid, a.atttypmod), ',' \
       ORDER BY a.attnum) \
     FROM pg_attribute a WHERE a.attrelid = c.oid AND 0 < a.attnum AND NOT a.attisdropped))";
const SHAPE_FROM: &str =
    "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1";

impl ChunkSource {
    fn condition(&self, between: Between<'_>) -> Result<String, Error> {
        let names = identifiers(self.key.iter().map(|it| &*it.name))?;
        let values = |values: &[Box<str>]| {
            if values.len() != self.key.len() {
                return Err(Error::protocol("a key has another number of columns than before"));
            }
            let value = |(value, column): (&str, &KeyColumn)| {
                Ok(format!("{}::{}", literal(value)?, column.type_))
            };
            let values = values.iter().map(|it| &**it).zip(&self.key).map(value);
            Ok(values.collect::<Result<Vec<_>, Error>>()?.join(", "))
        };
        let upto = format!("ROW({names}) <= ROW({})", values(between.upto)?);
        let Some(after) = between.after else { return Ok(upto) };
        Ok(format!("ROW({names}) > ROW({}) AND {upto}", values(after)?))
    }

    /// By the columns of the table: a bare name would mean the text that is selected under it.
    fn order(&self, direction: &str) -> Result<String, Error> {
        let names = self.key.iter().map(|it| Ok(format!("t.{}{direction}", identifier(&it.name)?)));
        Ok(names.collect::<Result<Vec<_>, Error>>()?.join(", "))
    }

    fn key_as_text(&self) -> Result<String, Error> {
        let names = self.key.iter().map(|it| Ok(format!("{}::text", identifier(&it.name)?)));
        Ok(names.collect::<Result<Vec<_>, Error>>()?.join(", "))
    }
}

/// Where the next record begins behind the header of a page, the stream's position stays before the header as
/// long as nothing is written.
fn before_page_header(lsn: Lsn) -> Lsn {
    let within = lsn.0 % WAL_PAGE_BYTES;
    if WAL_PAGE_HEADERS.contains(&within) { Lsn(lsn.0 - within) } else { lsn }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(names: &[&str]) -> ChunkSource {
        let key = names.iter().map(|it| KeyColumn { name: (*it).into(), type_: "bpchar".into() });
        ChunkSource {
            readable: Readable { oid: 1, schema: "s".into(), name: "t".into(), only: true },
            columns: Vec::new(),
            key: key.collect(),
            operators: Vec::new(),
        }
    }

    #[test]
    fn a_range_is_compared_by_the_server_as_rows() {
        let (after, upto): ([Box<str>; 2], [Box<str>; 2]) =
            (["a'b".into(), "1".into()], ["c\\".into(), "2".into()]);
        let two = table(&["x y", "z"]);
        let condition = two.condition(Between { after: Some(&after), upto: &upto });
        assert_eq!(
            condition.expect("a condition"),
            "ROW(\"x y\", \"z\") > ROW('a''b'::bpchar, '1'::bpchar) AND \
             ROW(\"x y\", \"z\") <= ROW( E'c\\\\'::bpchar, '2'::bpchar)"
        );
        assert_eq!(two.order(" DESC").expect("an order"), "t.\"x y\" DESC, t.\"z\" DESC");
        assert!(two.condition(Between { after: None, upto: &after[..1] }).is_err());
    }

    #[test]
    fn an_idle_server_need_not_write_for_its_end_to_be_reached() {
        let before = |lsn| before_page_header(Lsn(lsn)).0;
        assert_eq!([before(8192 + 24), before(1 << 24 | 40)], [8192, 1 << 24]);
        assert_eq!([before(8192 + 56), before(8192)], [8192 + 56, 8192]);
    }
}
