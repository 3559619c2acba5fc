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
    capture_settled(candidates, selection, version, names, &HashMap::new())
}

/// The same, for one stream of several. `settled`: the streams that publish relations already, by OID: a table keeps
/// its stream, whatever it is named later.
#[must_use]
pub fn capture_settled(
    candidates: &[Candidate],
    selection: &Selection,
    version: u32,
    names: PartitionNames,
    settled: &HashMap<u32, u8>,
) -> Capture {
    let division = selection.division();
    let oids: HashMap<(&str, &str), u32> =
        candidates.iter().map(|it| ((&*it.schema, &*it.name), it.oid)).collect();
    // Rows of a tree that goes by its root have the root's stream.
    let carries = |it: &Candidate, in_tree: bool| {
        let root = it.parent.as_ref().filter(|_| in_tree && names == PartitionNames::Parent);
        let (schema, name) = root.map_or((&*it.schema, &*it.name), |(schema, name)| (schema, name));
        match oids.get(&(schema, name)).and_then(|oid| settled.get(oid)) {
            Some(&stream) if division.stream != 0 => stream == division.stream,
            Some(_) | None => division.carries(schema, name),
        }
    };
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
        if !(in_tree || own) || !carries(it, in_tree) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(oid: u32, name: &str, root: Option<&str>) -> Candidate {
        Candidate {
            oid,
            schema: "public".into(),
            name: name.into(),
            kind: RelationKind::Ordinary,
            parent: root.map(|root| ("public".into(), root.into())),
            identity: ReplicaIdentity::Full,
            has_key: true,
            identity_usable: true,
            rows_estimated: 0,
            bytes: 0,
            unlogged: false,
            owner_is_us: true,
            publishable: true,
        }
    }

    /// OIDs that the streams of a task publish, and those whose identity they set.
    fn divided(candidates: &[Candidate], settled: &[(u32, u8)]) -> Vec<Vec<u32>> {
        let mut task = config::Task::default();
        task.source.streams = 3;
        task.objects = vec![config::Object { table: "public.*".into(), ..Default::default() }];
        let settled: HashMap<u32, u8> = settled.iter().copied().collect();
        let names = PartitionNames::Parent;
        let of = |number| {
            let selection = Selection::new(&task.as_stream(number)).expect("a selection");
            let found = capture_settled(candidates, &selection, 150_000, names, &settled);
            found.publish.iter().map(|it| it.oid).collect()
        };
        (1..=3).map(of).collect()
    }

    #[test]
    fn every_table_is_in_one_stream_and_stays_there() {
        let mut tables: Vec<_> =
            (0..30).map(|oid| candidate(oid, &format!("t{oid}"), None)).collect();
        let before = divided(&tables, &[]);
        let mut all: Vec<u32> = before.iter().flatten().copied().collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..30));
        // Renamed: by its new names each would go elsewhere.
        tables.iter_mut().for_each(|it| it.name = format!("renamed{}", it.oid));
        let streams = (1..).zip(&before);
        let settled: Vec<(u32, u8)> =
            streams.flat_map(|(number, oids)| oids.iter().map(move |&oid| (oid, number))).collect();
        assert_eq!(divided(&tables, &settled), before);
        assert_ne!(divided(&tables, &[]), before);
    }

    #[test]
    fn partitions_go_with_their_root() {
        let root = Candidate { kind: RelationKind::Partitioned, ..candidate(1, "root", None) };
        let mut tables = vec![root];
        tables.extend((2..12).map(|oid| candidate(oid, &format!("leaf{oid}"), Some("root"))));
        let published: Vec<u32> = divided(&tables, &[]).into_iter().flatten().collect();
        assert_eq!(published, [1], "no leaf is published by another stream");
    }
}
