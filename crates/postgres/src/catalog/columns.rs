//! Tables with their columns, types, keys and defaults, as the catalog has them now.

use super::default::{ColumnType, Constant, constant};
use super::types::is_builtin;
use super::{Name, identity};
use crate::{Error, Session};
use futures_util::future;
use std::collections::HashMap;
use std::sync::Arc;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type as Sql};
use tracing::warn;
use wal::Table;
use wal::table::{Column, ReplicaIdentity};
use wal::types::Type;

/// First version with generated columns.
pub(crate) const GENERATED_SINCE: u32 = 120_000;
/// First version that can publish them.
pub(crate) const GENERATED_PUBLISHED_SINCE: u32 = 180_000;

/// Defaults that one statement evaluates; below the limit of columns of a result.
const EVALUATED_MAX: usize = 500;

/// A relation as the catalog has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Relation {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) identity: ReplicaIdentity,
    pub(super) columns: Vec<CatalogColumn>,
    /// The primary key, also a deferrable one, by column names in its order.
    pub(super) primary_key: Option<Vec<String>>,
    /// Rows are told apart by it under REPLICA IDENTITY DEFAULT.
    pub(super) primary_key_is_immediate: bool,
    /// The index of REPLICA IDENTITY USING INDEX.
    pub(super) identity_index: Option<Vec<String>>,
}

/// A column that the stream would have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct CatalogColumn {
    pub(super) name: String,
    pub(super) type_oid: u32,
    pub(super) type_modifier: i32,
    pub(super) not_null: bool,
    pub(super) default: Option<String>,
}

impl Relation {
    /// The key of its records: under USING INDEX that of the index (design.md, server fact 19).
    pub(super) fn key(&self) -> &[String] {
        let index =
            self.identity_index.as_ref().filter(|_| self.identity == ReplicaIdentity::Index);
        index.or(self.primary_key.as_ref()).map_or(&[], Vec::as_slice)
    }

    fn in_identity(&self, column: &str) -> bool {
        let among = |key: &Option<Vec<String>>| key.iter().flatten().any(|name| *name == *column);
        match self.identity {
            ReplicaIdentity::Full => true,
            ReplicaIdentity::Nothing => false,
            ReplicaIdentity::Index => among(&self.identity_index),
            ReplicaIdentity::Default => self.primary_key_is_immediate && among(&self.primary_key),
        }
    }

    /// Version 1, as the stream would describe it now.
    fn table(&self, root: Option<Name>, types: &HashMap<u32, Arc<Type>>) -> Table {
        let column = |it: &CatalogColumn| Column {
            name: it.name.as_str().into(),
            type_: typed(types, it.type_oid),
            type_modifier: it.type_modifier,
            not_null: it.not_null,
            default: it.default.as_deref().map(Into::into),
            in_identity: self.in_identity(&it.name),
        };
        let place = |name: &String| self.columns.iter().position(|it| it.name == *name);
        let key: Option<Vec<usize>> = self.key().iter().map(place).collect();
        let (schema, name) = root.unwrap_or_else(|| (self.schema.clone(), self.name.clone()));
        Table {
            oid: self.oid,
            version: 1,
            schema: schema.into(),
            name: name.into(),
            identity: self.identity,
            columns: self.columns.iter().map(column).collect(),
            key: key.unwrap_or_default(),
        }
    }
}

/// The type of this OID out of those that were resolved.
pub(super) fn typed(types: &HashMap<u32, Arc<Type>>, oid: u32) -> Arc<Type> {
    types.get(&oid).cloned().unwrap_or_else(|| Arc::new(Type::unknown(oid)))
}

impl Session {
    /// A table as the stream would describe it now: version 1, without what is not published.
    ///
    /// # Errors
    /// When there is no such table (any more), or the server does not answer.
    pub async fn table(&self, oid: u32) -> Result<Table, Error> {
        let mut tables = self.tables(&[oid]).await?;
        tables.pop().ok_or_else(|| Error::table_gone(oid))
    }

    /// Many tables at once, in the order asked for; much faster than one by one.
    ///
    /// # Errors
    /// As [`Self::table`], for any of them.
    pub async fn tables(&self, oids: &[u32]) -> Result<Vec<Table>, Error> {
        let mut relations = self.relations(oids).await?;
        if let Some(&gone) = oids.iter().find(|oid| !relations.contains_key(oid)) {
            return Err(Error::table_gone(gone));
        }
        let columns = || relations.values().flat_map(|relation| &relation.columns);
        let types: Vec<u32> = columns().map(|column| column.type_oid).collect();
        let types = self.types(&types).await?;
        let mut roots = self.roots(oids).await?;
        let mut tables = Vec::with_capacity(oids.len());
        for oid in oids {
            // An OID that was asked for twice is answered once.
            let Some(relation) = relations.remove(oid) else { continue };
            let table = relation.table(roots.remove(oid), &types);
            self.memory().remember_table(table.clone());
            tables.push(table);
        }
        Ok(tables)
    }

    /// Names of the roots of these leaves, as far as they go by them.
    pub(super) async fn roots(&self, oids: &[u32]) -> Result<HashMap<u32, Name>, Error> {
        let naming = self.memory().naming();
        let version = self.server().version;
        if !naming.is_ours(version) {
            return Ok(HashMap::new());
        }
        let statement = "\
            WITH RECURSIVE up (oid, at) AS ( \
              SELECT i.inhrelid, i.inhparent FROM pg_inherits i \
                JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition \
                WHERE i.inhrelid = ANY ($1) \
              UNION ALL \
              SELECT up.oid, i.inhparent FROM up JOIN pg_inherits i ON i.inhrelid = up.at \
            ) \
            SELECT up.oid, n.nspname::text, c.relname::text FROM up \
            JOIN pg_class c ON c.oid = up.at AND NOT c.relispartition \
            JOIN pg_namespace n ON n.oid = c.relnamespace";
        let rows = self.query("partition roots", statement, &[(&oids, Sql::OID_ARRAY)]).await?;
        let mut roots = HashMap::new();
        for row in rows {
            let read = || -> Result<(u32, Name), tokio_postgres::Error> {
                Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?)))
            };
            let (oid, root) = read().map_err(Error::reading("partition roots"))?;
            if let Some(name) = naming.of_leaf(version, Some(root)) {
                self.memory().remember_root(oid, name.clone());
                roots.insert(oid, name);
            }
        }
        Ok(roots)
    }

    /// Those of the relations that exist.
    pub(super) async fn relations(&self, oids: &[u32]) -> Result<HashMap<u32, Relation>, Error> {
        let (names, columns, keys) = future::try_join3(
            self.query("tables", RELATIONS, &[(&oids, Sql::OID_ARRAY)]),
            self.columns(oids),
            self.query("keys", KEYS, &[(&oids, Sql::OID_ARRAY)]),
        )
        .await?;
        let mut relations = HashMap::new();
        for row in names {
            let relation = relation(&row).map_err(Error::reading("tables"))?;
            relations.insert(relation.oid, relation);
        }
        for (oid, column) in columns {
            if let Some(relation) = relations.get_mut(&oid) {
                relation.columns.push(column);
            }
        }
        for row in keys {
            add_key(&row, &mut relations).map_err(Error::reading("keys"))?;
        }
        Ok(relations)
    }

    async fn columns(&self, oids: &[u32]) -> Result<Vec<(u32, CatalogColumn)>, Error> {
        let version = self.server().version;
        let statement = columns_statement(version);
        let (rows, defaults) = future::try_join(
            self.query("columns", &statement, &[(&oids, Sql::OID_ARRAY)]),
            self.defaults(oids),
        )
        .await?;
        let mut columns = Vec::with_capacity(rows.len());
        let mut casts = Vec::new();
        for row in &rows {
            let (oid, number, mut column, type_) =
                column(row).map_err(Error::reading("columns"))?;
            match defaults.get(&(oid, number)).map(|it| constant(it, &type_)) {
                Some(Constant::Text(text)) => column.default = Some(text),
                Some(Constant::Cast(text)) => casts.push((columns.len(), text, type_.full)),
                Some(Constant::None) | None => {}
            }
            columns.push((oid, column));
        }
        for chunk in casts.chunks(EVALUATED_MAX) {
            for ((index, ..), value) in chunk.iter().zip(self.evaluate(chunk).await?) {
                columns[*index].1.default = value;
            }
        }
        Ok(columns)
    }

    /// Expressions of the defaults of columns, by relation and number.
    async fn defaults(&self, oids: &[u32]) -> Result<HashMap<(u32, i16), String>, Error> {
        // Newer servers lock the table to print an expression. Tables that are being altered go without
        // defaults: the others do not wait for them.
        let statement = "\
            SELECT d.adrelid, d.adnum, pg_get_expr(d.adbin, d.adrelid) \
            FROM pg_attrdef d WHERE d.adrelid = ANY ($1) AND d.adrelid NOT IN ( \
              SELECT l.relation FROM pg_locks l JOIN pg_database b ON b.oid = l.database \
              WHERE b.datname = current_database() AND l.locktype = 'relation' \
                AND l.mode = 'AccessExclusiveLock' AND l.relation IS NOT NULL)";
        let rows = match self.query("defaults", statement, &[(&oids, Sql::OID_ARRAY)]).await {
            Ok(rows) => rows,
            Err(error) if error.is_connection() => return Err(error),
            Err(error) => {
                warn!(%error, "defaults of columns could not be read; they are left out");
                return Ok(HashMap::new());
            }
        };
        let read = |row: &Row| -> Result<_, tokio_postgres::Error> {
            let expression: Option<String> = row.try_get(2)?;
            Ok(((row.try_get(0)?, row.try_get(1)?), expression.unwrap_or_default()))
        };
        rows.iter().map(read).collect::<Result<_, _>>().map_err(Error::reading("defaults"))
    }

    /// Brings constants into the form that a column of the type gives them. The types are the
    /// server's own, so nobody's functions run.
    async fn evaluate(
        &self,
        casts: &[(usize, String, String)],
    ) -> Result<Vec<Option<String>>, Error> {
        match self.evaluate_together(casts).await {
            Ok(values) => return Ok(values),
            Err(error) if error.is_connection() => return Err(error),
            Err(_) => {}
        }
        // One of them is no value of its type; an INSERT that needs it fails as well.
        let mut values = Vec::with_capacity(casts.len());
        for cast in casts {
            match self.evaluate_together(std::slice::from_ref(cast)).await {
                Ok(value) => values.extend(value),
                Err(error) if error.is_connection() => return Err(error),
                Err(_) => values.push(None),
            }
        }
        Ok(values)
    }

    async fn evaluate_together(
        &self,
        casts: &[(usize, String, String)],
    ) -> Result<Vec<Option<String>>, Error> {
        // `format` prints by the type's output function, which a cast to text does not always do.
        let expression = |(place, (_, _, type_)): (usize, &(usize, String, String))| -> String {
            format!("format('%s', (${place}::text)::{type_})")
        };
        let expressions: Vec<String> = (1..).zip(casts).map(expression).collect();
        let statement = format!("SELECT {}", expressions.join(", "));
        let parameters: Vec<(&(dyn ToSql + Sync), Sql)> =
            casts.iter().map(|(_, text, _)| (text as &(dyn ToSql + Sync), Sql::TEXT)).collect();
        let rows = self.query("constants", &statement, &parameters).await?;
        let row = rows.first().ok_or_else(|| Error::Protocol {
            reason: "a SELECT of constants returned no row".into(),
        })?;
        (0..casts.len())
            .map(|index| row.try_get(index))
            .collect::<Result<_, _>>()
            .map_err(Error::reading("constants"))
    }
}

const RELATIONS: &str = "\
    SELECT c.oid, n.nspname::text, c.relname::text, c.relreplident \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.oid = ANY ($1) AND c.relkind IN ('r', 'p')";

const KEYS: &str = "\
    SELECT i.indrelid, i.indisprimary, i.indisreplident, i.indimmediate AND i.indisvalid, \
      (SELECT array_agg(a.attname::text ORDER BY k.place) \
       FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place) \
       JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number \
       WHERE k.place <= i.indnkeyatts) \
    FROM pg_index i WHERE i.indrelid = ANY ($1) AND (i.indisprimary OR i.indisreplident)";

/// What pgoutput leaves out is left out: virtual generated columns, stored ones before they could
/// be published.
fn columns_statement(version: u32) -> String {
    let published = if version < GENERATED_SINCE {
        "true"
    } else if version < GENERATED_PUBLISHED_SINCE {
        "a.attgenerated = ''"
    } else {
        "a.attgenerated <> 'v'"
    };
    // From 18 on a constraint may be there that older rows need not meet.
    let not_null = if version < 180_000 {
        "a.attnotnull"
    } else {
        "a.attnotnull AND NOT EXISTS (SELECT FROM pg_constraint o WHERE o.conrelid = a.attrelid \
           AND o.contype = 'n' AND o.conkey = ARRAY[a.attnum] AND NOT o.convalidated)"
    };
    format!(
        "SELECT a.attrelid, a.attnum, a.attname::text, a.atttypid, a.atttypmod, \
           ({not_null}) OR (t.typtype = 'd' AND t.typnotnull), \
           format_type(a.atttypid, a.atttypmod), format_type(a.atttypid, -1), \
           t.typtype = 'd', t.typbasetype, t.typtypmod, \
           format_type(t.typbasetype, t.typtypmod), format_type(t.typbasetype, -1) \
         FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
         WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped AND {published} \
         ORDER BY a.attrelid, a.attnum"
    )
}

fn relation(row: &Row) -> Result<Relation, tokio_postgres::Error> {
    Ok(Relation {
        oid: row.try_get(0)?,
        schema: row.try_get(1)?,
        name: row.try_get(2)?,
        identity: identity(row.try_get::<_, i8>(3)?.to_ne_bytes()[0]),
        columns: Vec::new(),
        primary_key: None,
        primary_key_is_immediate: false,
        identity_index: None,
    })
}

fn add_key(row: &Row, relations: &mut HashMap<u32, Relation>) -> Result<(), tokio_postgres::Error> {
    let Some(relation) = relations.get_mut(&row.try_get(0)?) else { return Ok(()) };
    let names: Option<Vec<String>> = row.try_get(4)?;
    let Some(names) = names.filter(|names| !names.is_empty()) else { return Ok(()) };
    if row.try_get(2)? {
        relation.identity_index = Some(names.clone());
    }
    if row.try_get(1)? {
        relation.primary_key_is_immediate = row.try_get(3)?;
        relation.primary_key = Some(names);
    }
    Ok(())
}

fn column(row: &Row) -> Result<(u32, i16, CatalogColumn, ColumnType), tokio_postgres::Error> {
    let type_oid: u32 = row.try_get(3)?;
    let type_modifier: i32 = row.try_get(4)?;
    let mut type_ = ColumnType {
        oid: type_oid,
        full: row.try_get(6)?,
        bare: vec![row.try_get(7)?],
        has_modifier: type_modifier != -1,
        is_builtin: is_builtin(type_oid),
    };
    if row.try_get(8)? {
        // Of a domain, its base. One over another domain is no built-in, so it is never cast to.
        type_.oid = row.try_get(9)?;
        type_.has_modifier = row.try_get::<_, i32>(10)? != -1;
        type_.is_builtin = is_builtin(type_.oid);
        type_.full = row.try_get(11)?;
        type_.bare.push(row.try_get(12)?);
    }
    let column = CatalogColumn {
        name: row.try_get(2)?,
        type_oid,
        type_modifier,
        not_null: row.try_get(5)?,
        default: None,
    };
    Ok((row.try_get(0)?, row.try_get(1)?, column, type_))
}
