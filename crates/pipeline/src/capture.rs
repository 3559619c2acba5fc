//! Which relations are published, read and given a replica identity. Pure.
//!
//! Selecting the parent of a partition tree is enough (P12). Servers before 13 cannot publish a
//! partitioned parent (design.md, server fact 20): its leaves are published and named after it.

use crate::progress::SeenTable;
use crate::tables::Oids;
use config::{IdentityPolicy, PartitionNames, Source};
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

/// A relation that goes by a published one: by itself, or by the root of its partition tree.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    pub relation: Relation,
    /// OID of the published relation.
    pub home: u32,
    /// Its users can update it now, published or not.
    pub identity_usable: bool,
}

/// What a task captures of a database.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Capture {
    pub publish: Vec<Relation>,
    pub via_root: bool,
    pub read: Vec<Reading>,
    /// Relations whose replica identity is not FULL.
    pub identity: Vec<Member>,
    /// Relations whose users could not update or delete rows any more if what they go by were published as the policy has it
    /// (design.md, server facts 10 and 16).
    pub unfit: Vec<Member>,
}

impl Capture {
    /// How relations are read, by OID.
    #[must_use]
    pub fn readings(&self) -> HashMap<u32, &Reading> {
        self.read.iter().map(|it| (it.relation.oid, it)).collect()
    }

    /// Those that go by a published relation and have another replica identity than FULL.
    pub fn parts(&self, home: u32) -> impl Iterator<Item = &Relation> {
        self.identity.iter().filter(move |it| it.home == home).map(|it| &it.relation)
    }

    /// Takes out what must not be published as it is, and is not yet. Returns why: those that do not fit. The rest
    /// stays in [`Self::unfit`]: their users are kept from updating now.
    pub fn withhold(&mut self, published: &Oids) -> Vec<Member> {
        let is_out = |it: &Member| !published.contains(&it.home);
        let (withheld, rest): (Vec<_>, Vec<_>) = self.unfit.drain(..).partition(is_out);
        self.unfit = rest.into_iter().filter(|it| !it.identity_usable).collect();
        let homes: Oids = withheld.iter().map(|it| it.home).collect();
        if !homes.is_empty() {
            self.publish.retain(|it| !homes.contains(&it.oid));
            self.read.retain(|it| !homes.contains(&it.relation.oid));
            self.identity.retain(|it| !homes.contains(&it.home));
        }
        withheld
    }
}

/// What a person should know of tables that do not fit, cause and remedy; `None`: all do. `withheld`: not captured for that;
/// `stopped`: published all the same.
#[must_use]
pub fn unfit(
    withheld: &[Member],
    stopped: &[Member],
    policy: IdentityPolicy,
) -> Option<(String, String)> {
    const NAMED_MAX: usize = 5;
    let names = |members: &[Member]| {
        let named = members.iter().take(NAMED_MAX);
        let named = named.map(|it| format!("{}.{}", it.relation.schema, it.relation.name));
        let text = named.collect::<Vec<_>>().join(", ");
        match members.len().checked_sub(NAMED_MAX) {
            Some(more @ 1..) => format!("{text} and {more} more"),
            Some(0) | None => text,
        }
    };
    let mut causes = Vec::new();
    if !stopped.is_empty() {
        causes.push(format!(
            "users cannot update or delete rows of {}, which are published and have no usable replica identity",
            names(stopped)
        ));
    }
    if !withheld.is_empty() {
        causes.push(format!(
            "not captured, because users could not update or delete rows any more once they were published: {}",
            names(withheld)
        ));
    }
    let remedy = match policy {
        IdentityPolicy::Full => {
            "their generated columns are not stored, which REPLICA IDENTITY FULL does not bear: make them STORED, or set \
             source.replica_identity: keep, or exclude the tables"
        }
        IdentityPolicy::Keep => {
            "give them a replica identity: ALTER TABLE … ADD PRIMARY KEY (…), or ALTER TABLE ONLY … REPLICA IDENTITY FULL \
             where no generated column is virtual; or exclude the tables. They are taken in within seconds then"
        }
    };
    (!causes.is_empty()).then(|| (causes.join("; "), remedy.to_owned()))
}

/// Which relations users could not update any more once what they go by is published.
fn is_unfit(it: &Candidate, policy: IdentityPolicy, has_parts: bool) -> bool {
    match (policy, it.kind) {
        (IdentityPolicy::Full, RelationKind::Ordinary) => it.has_virtual,
        (IdentityPolicy::Full, RelationKind::Partitioned) => false,
        (IdentityPolicy::Keep, RelationKind::Ordinary) => !it.identity_usable,
        // Only the key of the root comes to each partition that is made later.
        (IdentityPolicy::Keep, RelationKind::Partitioned) => !has_parts && !it.identity_usable,
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

/// Tables that a task could capture, for whoever is told of them: trees by their roots where that is how they are captured.
#[must_use]
pub fn seen(candidates: &[Candidate], version: u32, source: &Source) -> Vec<SeenTable> {
    let via_root = via_root(version, source.partition_names);
    let goes = |it: &&Candidate| {
        let is_whole = it.kind == RelationKind::Ordinary || via_root;
        it.publishable && is_whole && (it.parent.is_none() || !via_root)
    };
    let seen = |it: &Candidate| SeenTable {
        schema: it.schema.clone(),
        table: it.name.clone(),
        has_key: it.has_key,
    };
    candidates.iter().filter(goes).map(seen).collect()
}

/// Decides from the catalog. `version`: `server_version_num`.
#[must_use]
pub fn capture(
    candidates: &[Candidate],
    selection: &Selection,
    version: u32,
    source: &Source,
) -> Capture {
    capture_settled(candidates, selection, version, source, &HashMap::new())
}

/// The same, for one stream of several. `settled`: the streams that publish relations already, by OID: a table keeps
/// its stream, whatever it is named later.
#[must_use]
pub fn capture_settled(
    candidates: &[Candidate],
    selection: &Selection,
    version: u32,
    source: &Source,
    settled: &HashMap<u32, u8>,
) -> Capture {
    let (names, policy) = (source.partition_names, source.replica_identity);
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
    let trees: HashSet<(&str, &str)> = candidates
        .iter()
        .filter(|it| it.kind == RelationKind::Ordinary)
        .filter_map(|it| it.parent.as_ref().map(|(schema, name)| (&**schema, &**name)))
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
        let root = root.filter(|_| via_root && in_tree);
        let home = root.and_then(|root| oids.get(&root)).copied().unwrap_or(it.oid);
        let member = || Member { relation: relation(), home, identity_usable: it.identity_usable };
        if it.identity != ReplicaIdentity::Full {
            found.identity.push(member());
        }
        if is_unfit(it, policy, trees.contains(&(&it.schema, &it.name))) {
            found.unfit.push(member());
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
            has_virtual: false,
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
        let source = Source::default();
        let of = |number| {
            let selection = Selection::new(&task.as_stream(number)).expect("a selection");
            let found = capture_settled(candidates, &selection, 150_000, &source, &settled);
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

    #[test]
    fn trees_are_seen_as_they_are_captured() {
        let root = Candidate { kind: RelationKind::Partitioned, ..candidate(1, "root", None) };
        let bare = Candidate { has_key: false, ..candidate(3, "bare", None) };
        let tables = [root, candidate(2, "leaf", Some("root")), bare];
        let named = |version: u32| {
            let seen = seen(&tables, version, &Source::default());
            seen.into_iter().map(|it| (it.table, it.has_key)).collect::<Vec<_>>()
        };
        assert_eq!(named(150_000), [("root".to_owned(), true), ("bare".into(), false)]);
        assert_eq!(named(110_000), [("leaf".to_owned(), true), ("bare".into(), false)]);
    }

    fn captured(candidates: &[Candidate], policy: IdentityPolicy) -> Capture {
        let mut task = config::Task::default();
        task.source.replica_identity = policy;
        task.objects = vec![config::Object { table: "public.*".into(), ..Default::default() }];
        let selection = Selection::new(&task).expect("a selection");
        capture(candidates, &selection, 180_000, &task.source)
    }

    #[test]
    fn what_users_could_not_update_is_withheld() {
        let bare = |it: Candidate| Candidate {
            identity: ReplicaIdentity::Default,
            identity_usable: false,
            ..it
        };
        let root = |oid, name| Candidate {
            kind: RelationKind::Partitioned,
            ..bare(candidate(oid, name, None))
        };
        let tables = [
            candidate(1, "whole", None),
            bare(candidate(2, "bare", None)),
            Candidate { has_virtual: true, ..candidate(3, "virtual", None) },
            root(4, "good"),
            candidate(5, "good_1", Some("good")),
            root(6, "bad"),
            candidate(7, "bad_1", Some("bad")),
            bare(candidate(8, "bad_2", Some("bad"))),
            root(9, "empty"),
        ];
        let oids = |capture: &Capture| capture.publish.iter().map(|it| it.oid).collect::<Vec<_>>();
        let homes = |found: &[Member]| found.iter().map(|it| it.home).collect::<Vec<_>>();
        let mut kept = captured(&tables, IdentityPolicy::Keep);
        // What is published already stays, and is told of.
        let published = Oids::from([2]);
        assert_eq!(homes(&kept.withhold(&published)), [6, 9]);
        assert_eq!((oids(&kept), homes(&kept.unfit)), (vec![1, 2, 3, 4], vec![2]));
        assert!(kept.read.iter().all(|it| it.relation.oid != 6));
        let mut full = captured(&tables, IdentityPolicy::Full);
        assert_eq!(homes(&full.withhold(&Oids::new())), [3]);
        assert_eq!(oids(&full), [1, 2, 4, 6, 9]);
        assert_eq!(full.parts(6).map(|it| it.oid).collect::<Vec<_>>(), [6, 8]);
        let (cause, remedy) = unfit(&[], &kept.unfit, IdentityPolicy::Keep).expect("a cause");
        assert!(
            cause.contains("public.bare") && remedy.contains("PRIMARY KEY"),
            "{cause} {remedy}"
        );
        assert_eq!(unfit(&[], &[], IdentityPolicy::Keep), None);
    }
}
