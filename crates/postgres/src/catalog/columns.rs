//! Tables with their columns, types, keys and defaults, as the catalog has them now.

use super::Name;
use super::constants::EVALUATED_MAX;
use super::default::{Constant, constant};
use super::rows::{KEYS, RELATIONS, add_key, column, columns_statement, relation};
use crate::{Error, Session};
use futures_util::future;
use std::collections::HashMap;
use std::sync::Arc;
use tokio_postgres::types::Type as Sql;
use wal::Table;
use wal::table::{Column, ReplicaIdentity, UniqueIndex};
use wal::types::Type;

/// First version with generated columns.
pub(crate) const GENERATED_SINCE: u32 = 120_000;
/// First version that can publish them.
pub(crate) const GENERATED_PUBLISHED_SINCE: u32 = 180_000;
/// First version with some that are not stored.
pub(crate) const VIRTUAL_SINCE: u32 = 180_000;

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
    /// Unique indexes by name, each with its columns in its order.
    pub(super) unique: Vec<(String, Vec<String>)>,
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

    /// The unique indexes whose columns all have a `place`.
    pub(super) fn unique(&self, place: impl Fn(&str) -> Option<usize>) -> Vec<UniqueIndex> {
        let index = |(name, columns): &(String, Vec<String>)| {
            let columns = columns.iter().map(|column| place(column)).collect::<Option<_>>()?;
            Some(UniqueIndex { name: name.as_str().into(), columns })
        };
        self.unique.iter().filter_map(index).collect()
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
        let place = |name: &str| self.columns.iter().position(|it| it.name == *name);
        let key: Option<Vec<usize>> = self.key().iter().map(|name| place(name)).collect();
        let (schema, name) = root.unwrap_or_else(|| (self.schema.clone(), self.name.clone()));
        Table {
            oid: self.oid,
            version: 1,
            schema: schema.into(),
            name: name.into(),
            identity: self.identity,
            columns: self.columns.iter().map(column).collect(),
            key: key.unwrap_or_default(),
            unique: self.unique(place),
        }
    }
}

/// The type of this OID out of those that were resolved.
pub(crate) fn typed(types: &HashMap<u32, Arc<Type>>, oid: u32) -> Arc<Type> {
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
        let tables = self.tables_present(oids).await?;
        let is_there = |oid: &u32| tables.iter().any(|table| table.oid == *oid);
        match oids.iter().find(|oid| tables.len() < oids.len() && !is_there(oid)) {
            Some(&gone) => Err(Error::table_gone(gone)),
            None => Ok(tables),
        }
    }

    /// Those of them that there are.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn tables_present(&self, oids: &[u32]) -> Result<Vec<Table>, Error> {
        let mut relations = self.relations(oids).await?;
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
}
