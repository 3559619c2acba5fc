//! What the database has: tables that can be captured, and what they are made of.
//!
//! Every query runs on servers from 11 on; columns of the catalog that came later are left out
//! before.

mod columns;
mod complete;
mod condition;
mod constants;
mod default;
mod memory;
mod naming;
mod rows;
mod types;

pub(crate) use columns::{GENERATED_PUBLISHED_SINCE, GENERATED_SINCE, VIRTUAL_SINCE, typed};
pub use memory::Memory;
pub(crate) use naming::VIA_ROOT_SINCE;
pub use naming::{Name, Naming};

use crate::{Error, Session};
use std::collections::HashMap;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use wal::table::ReplicaIdentity;

/// `relkind`, of relations that hold rows or stand for those that do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RelationKind {
    Ordinary,
    Partitioned,
}

/// A table that a task could capture.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Candidate {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub kind: RelationKind,
    /// Root of the partition tree that it is a part of; `None` for a root.
    pub parent: Option<Name>,
    pub identity: ReplicaIdentity,
    /// It has a primary key, or an identity index in use.
    pub has_key: bool,
    /// Rows can be told apart by the replica identity: users' UPDATE and DELETE go on when the
    /// table is published (design.md, server facts 9 and 16).
    pub identity_usable: bool,
    /// It has generated columns that are not stored: under FULL its users could not update it (server fact 10).
    pub has_virtual: bool,
    /// The server's estimate; of a root, that of its leaves.
    pub rows_estimated: u64,
    /// As of the last vacuum or analyze, without TOAST and indexes.
    pub bytes: u64,
    pub unlogged: bool,
    /// Owned by the session's role, or one that it is a member of.
    pub owner_is_us: bool,
    /// A publication takes it.
    pub publishable: bool,
}

impl Session {
    /// Tables of users: roots of partition trees, leaves, and all others. In the order of their
    /// names.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn candidates(&self) -> Result<Vec<Candidate>, Error> {
        let has_virtual = if self.server().version < VIRTUAL_SINCE {
            "false"
        } else {
            "EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attgenerated = 'v' \
               AND NOT a.attisdropped)"
        };
        // `relpages` in place of `pg_relation_size`, which waits for whoever alters a table.
        let statement = format!(
            "\
            WITH RECURSIVE tree (oid, root) AS ( \
              SELECT c.oid, c.oid FROM pg_class c WHERE c.relkind = 'p' AND NOT c.relispartition \
              UNION ALL \
              SELECT i.inhrelid, tree.root FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid \
            ), key AS ( \
              SELECT i.indrelid, bool_or(i.indisprimary) AS is_there, \
                     bool_or(i.indisprimary AND i.indimmediate AND i.indisvalid) AS is_identity, \
                     bool_or(i.indisreplident AND i.indisvalid) AS has_index \
              FROM pg_index i WHERE i.indisprimary OR i.indisreplident GROUP BY i.indrelid \
            ) \
            SELECT c.oid, n.nspname::text, c.relname::text, c.relkind, rn.nspname::text, \
              rc.relname::text, c.relreplident, coalesce(key.is_there, false), \
              coalesce(key.is_identity, false), coalesce(key.has_index, false), \
              CASE WHEN c.reltuples > 0 THEN c.reltuples::int8 \
                   ELSE coalesce(pg_stat_get_live_tuples(c.oid), 0) END, \
              c.relpages::int8 * current_setting('block_size')::int8, \
              c.relpersistence, pg_has_role(c.relowner, 'USAGE'), {has_virtual} \
            FROM pg_class c \
            JOIN pg_namespace n ON n.oid = c.relnamespace \
            LEFT JOIN tree ON tree.oid = c.oid AND tree.root <> c.oid \
            LEFT JOIN pg_class rc ON rc.oid = tree.root \
            LEFT JOIN pg_namespace rn ON rn.oid = rc.relnamespace \
            LEFT JOIN key ON key.indrelid = c.oid \
            WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' \
              AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' \
              AND coalesce(obj_description(n.oid, 'pg_namespace'), '') NOT LIKE 'Distributary: helper %' \
              AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass \
                              AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e') \
            ORDER BY 2, 3"
        );
        let rows = self.query("tables", &statement, &[]).await?;
        let read = rows.iter().map(candidate).collect::<Result<Vec<_>, _>>();
        Ok(with_leaves_summed(read.map_err(Error::reading("tables"))?))
    }

    /// Runs a query whose parameters have built-in types, in one round trip.
    pub(crate) async fn query(
        &self,
        doing: &'static str,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Error> {
        let answer = self.client().query_typed(statement, parameters).await;
        answer.map_err(Error::reading(doing))
    }
}

fn candidate(row: &Row) -> Result<Candidate, tokio_postgres::Error> {
    let letter = |index| row.try_get::<_, i8>(index).map(|it| it.to_ne_bytes()[0]);
    let number = |index| row.try_get::<_, i64>(index).map(|it| u64::try_from(it).unwrap_or(0));
    let kind = match letter(3)? {
        b'p' => RelationKind::Partitioned,
        _ => RelationKind::Ordinary,
    };
    let root: (Option<String>, Option<String>) = (row.try_get(4)?, row.try_get(5)?);
    let identity = identity(letter(6)?);
    let (has_key, key_is_identity): (bool, bool) = (row.try_get(7)?, row.try_get(8)?);
    let has_index: bool = row.try_get(9)?;
    let unlogged = letter(12)? == b'u';
    let has_virtual: bool = row.try_get(14)?;
    Ok(Candidate {
        oid: row.try_get(0)?,
        schema: row.try_get(1)?,
        name: row.try_get(2)?,
        kind,
        parent: root.0.zip(root.1),
        identity,
        has_key: has_key || (identity == ReplicaIdentity::Index && has_index),
        identity_usable: match identity {
            ReplicaIdentity::Default => key_is_identity,
            ReplicaIdentity::Nothing => false,
            ReplicaIdentity::Full => !has_virtual,
            ReplicaIdentity::Index => has_index,
        },
        has_virtual,
        rows_estimated: number(10)?,
        bytes: number(11)?,
        unlogged,
        owner_is_us: row.try_get(13)?,
        publishable: !unlogged,
    })
}

/// `relreplident`.
pub(crate) fn identity(letter: u8) -> ReplicaIdentity {
    match letter {
        b'f' => ReplicaIdentity::Full,
        b'n' => ReplicaIdentity::Nothing,
        b'i' => ReplicaIdentity::Index,
        _ => ReplicaIdentity::Default,
    }
}

/// A root has no rows of its own.
fn with_leaves_summed(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    let mut sums: HashMap<Name, (u64, u64)> = HashMap::new();
    for leaf in candidates.iter().filter(|it| it.kind == RelationKind::Ordinary) {
        if let Some(root) = &leaf.parent {
            let sum = sums.entry(root.clone()).or_default();
            *sum = (sum.0 + leaf.rows_estimated, sum.1 + leaf.bytes);
        }
    }
    for root in candidates.iter_mut().filter(|it| it.kind == RelationKind::Partitioned) {
        if root.parent.is_none()
            && let Some(&(rows, bytes)) = sums.get(&(root.schema.clone(), root.name.clone()))
        {
            (root.rows_estimated, root.bytes) = (rows, bytes);
        }
    }
    candidates
}
