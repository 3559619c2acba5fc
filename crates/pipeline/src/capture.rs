//! Which relations are published, read and given a replica identity. Pure.
//!
//! Selecting the parent of a partition tree is enough (P12). Servers before 13 cannot publish a
//! partitioned parent (design.md, server fact 20): its leaves are published and named after it.

use config::{IdentityPolicy, PartitionNames};
use postgres::catalog::{Candidate, RelationKind};
use record::selection::Selection;
use std::collections::{HashMap, HashSet};
use wal::Table;
use wal::table::ReplicaIdentity;

/// First version whose publications can publish via the partition root.
const VIA_ROOT_SINCE: u32 = 130_000;

/// A relation by its catalog name.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Relation {
    pub oid: u32,
    pub schema: String,
    pub name: String,
}

/// A relation that the snapshot reads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reading {
    pub relation: Relation,
    /// Leave out what inherits from it.
    pub only: bool,
    /// The server's estimate.
    pub rows: u64,
}

/// What a task captures of a database.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Capture {
    pub publish: Vec<Relation>,
    pub via_root: bool,
    pub read: Vec<Reading>,
    /// Relations whose replica identity is not FULL.
    pub identity: Vec<Relation>,
}

impl Capture {
    /// How relations are read, by OID.
    #[must_use]
    pub fn readings(&self) -> HashMap<u32, &Reading> {
        self.read.iter().map(|it| (it.relation.oid, it)).collect()
    }
}

/// A table as it is once the task has set what `policy` asks.
#[must_use]
pub fn as_captured(mut table: Table, policy: IdentityPolicy) -> Table {
    if policy == IdentityPolicy::Full {
        table.identity = ReplicaIdentity::Full;
        table.columns.iter_mut().for_each(|column| column.in_identity = true);
    }
    table
}

/// Whether partition trees are published by their roots.
#[must_use]
pub fn via_root(version: u32, names: PartitionNames) -> bool {
    VIA_ROOT_SINCE <= version && names == PartitionNames::Parent
}

/// Decides from the catalog. `version`: `server_version_num`.
#[must_use]
pub fn capture(
    candidates: &[Candidate],
    selection: &Selection,
    version: u32,
    names: PartitionNames,
) -> Capture {
    let via_root = via_root(version, names);
    let roots: HashSet<(&str, &str)> = candidates
        .iter()
        .filter(|it| it.kind == RelationKind::Partitioned && it.parent.is_none())
        .filter(|it| selection.selected(&it.schema, &it.name).is_some())
        .map(|it| (it.schema.as_str(), it.name.as_str()))
        .collect();
    let mut found = Capture { via_root, ..Capture::default() };
    for it in candidates.iter().filter(|it| it.publishable) {
        let root = it.parent.as_ref().map(|(schema, name)| (schema.as_str(), name.as_str()));
        let in_tree = root.is_some_and(|root| roots.contains(&root));
        let own = selection.selected(&it.schema, &it.name).is_some();
        if !in_tree && !own {
            continue;
        }
        let is_leaf = it.kind == RelationKind::Ordinary;
        let relation =
            || Relation { oid: it.oid, schema: it.schema.clone(), name: it.name.clone() };
        if it.identity != ReplicaIdentity::Full {
            found.identity.push(relation());
        }
        // A tree goes as a whole under its root, or leaf by leaf.
        let goes =
            if via_root { if is_leaf { !in_tree } else { it.parent.is_none() } } else { is_leaf };
        if goes {
            found.publish.push(relation());
            found.read.push(Reading {
                relation: relation(),
                only: is_leaf,
                rows: it.rows_estimated,
            });
        }
    }
    found
}
