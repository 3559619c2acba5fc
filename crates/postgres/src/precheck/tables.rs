//! Items of the tables that a task captures.

use super::facts::{self, FactsByOid};
use super::statements::{self, Name};
use super::unsupported::{self, Unsupported, unsupported};
use super::{identity, is_via_root, item, refused, rights, some};
use crate::catalog::{Candidate, RelationKind, VIA_ROOT_SINCE};
use crate::ddl::{Rights, means};
use crate::quote::readable;
use crate::{Error, Session};
use config::IdentityPolicy;
use config::precheck::Item;
use record::selection::Selection;
use std::collections::HashSet;
use wal::table::ReplicaIdentity;

/// What the items are about.
pub(super) struct Scope<'a> {
    pub(super) session: &'a Session,
    pub(super) task: &'a config::Task,
    pub(super) publication: &'a str,
    /// Selected tables and the partitions of those.
    pub(super) tables: &'a [Candidate],
    /// Whether the server publishes partition trees under their roots.
    pub(super) via_root: bool,
    /// Selected partition roots.
    roots: HashSet<(&'a str, &'a str)>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(
        session: &'a Session,
        task: &'a config::Task,
        publication: &'a str,
        tables: &'a [Candidate],
    ) -> Self {
        let via_root = is_via_root(session.server().version, task.source.partition_names);
        Self { session, task, publication, tables, via_root, roots: roots(tables) }
    }

    /// Tables that are published and read.
    pub(super) fn published(&self) -> impl Iterator<Item = &'a Candidate> + '_ {
        self.tables.iter().filter(|it| goes(it, &self.roots, self.via_root))
    }

    /// Tables whose replica identity the task sets.
    pub(super) fn to_be_full(&self) -> impl Iterator<Item = &'a Candidate> + '_ {
        let is_ours = self.task.source.replica_identity == IdentityPolicy::Full;
        self.tables
            .iter()
            .filter(move |it| is_ours && it.publishable && it.identity != ReplicaIdentity::Full)
    }
}

fn roots(tables: &[Candidate]) -> HashSet<(&str, &str)> {
    tables
        .iter()
        .filter(|it| it.kind == RelationKind::Partitioned && it.parent.is_none())
        .map(|it| (it.schema.as_str(), it.name.as_str()))
        .collect()
}

/// A tree goes as a whole under its root, or leaf by leaf.
fn goes(it: &Candidate, roots: &HashSet<(&str, &str)>, via_root: bool) -> bool {
    let is_leaf = it.kind == RelationKind::Ordinary;
    let root = it.parent.as_ref().map(|(schema, name)| (schema.as_str(), name.as_str()));
    let in_tree = root.is_some_and(|root| roots.contains(&root));
    it.publishable
        && match (via_root, is_leaf) {
            (true, true) => !in_tree,
            (true, false) => root.is_none(),
            (false, _) => is_leaf,
        }
}

pub(super) fn name(table: &Candidate) -> Name {
    (table.schema.clone(), table.name.clone())
}

/// Some of the tables, for people.
pub(super) fn people<'a>(tables: impl IntoIterator<Item = &'a Candidate>) -> String {
    let names: Vec<String> = tables.into_iter().map(|it| readable(&it.schema, &it.name)).collect();
    some(&names)
}

pub(super) async fn items(scope: &Scope<'_>, selection: &Selection) -> Vec<Item> {
    let unsupported = match unsupported(scope.session, scope.task, selection).await {
        Ok(unsupported) => unsupported,
        Err(error) => return vec![refused("source.tables", &error)],
    };
    let facts = match facts::facts(scope).await {
        Ok(facts) => facts,
        Err(error) => return vec![refused("source.tables", &error)],
    };
    let mut items = vec![selected(scope, selection, &unsupported)];
    if scope.published().next().is_none() {
        return items;
    }
    items.push(item("source.partitions", partitions(scope).await));
    items.push(inheritance(scope, &facts));
    items.push(keys(scope));
    items.push(item("source.rights", rights::rights(scope, &facts).await));
    items.push(identity::identity(scope, &facts));
    items.push(identity::publications(scope, &facts));
    items.push(identity::generated_columns(scope, &facts));
    items.push(identity::large_rows(scope, &facts));
    items.push(item("source.row-security", rights::row_security(scope, &facts).await));
    items
}

fn selected(scope: &Scope<'_>, selection: &Selection, unsupported: &[Unsupported]) -> Item {
    const NAME: &str = "source.tables";
    let (mut seen, mut remedies) = (Vec::new(), Vec::new());
    let object = |it: &Candidate| {
        selection.selected(&it.schema, &it.name).and_then(|index| scope.task.objects.get(index))
    };
    let unlogged: Vec<&Candidate> = scope.tables.iter().filter(|it| it.unlogged).collect();
    // A table that was asked for by its name must be there; a wildcard takes what there is.
    let is_asked_for = unlogged.iter().any(|it| object(it).is_some_and(unsupported::is_exact))
        || unsupported.iter().any(|it| it.is_exact);
    if !unlogged.is_empty() {
        seen.push(format!("not logged, so not captured: {}", people(unlogged.iter().copied())));
        let names: Vec<Name> = unlogged.into_iter().map(name).collect();
        remedies.push(statements::set_logged(&names));
    }
    if !unsupported.is_empty() {
        let names: Vec<String> = unsupported.iter().map(ToString::to_string).collect();
        seen.push(format!("not supported, so not captured: {}", some(&names)));
        remedies.push("take them out of `objects`, or put them first with `exclude: true`".into());
    }
    let idle = idle(scope, selection, unsupported);
    if !idle.is_empty() {
        seen.push(format!("no table matches {}", some(&idle)));
        remedies.push("correct these `objects`, schema.table as in SQL, or take them out".into());
    }
    let count = scope.published().count();
    if count == 0 {
        seen.insert(0, "nothing to capture".into());
        if remedies.is_empty() {
            remedies.push("add `objects`, e.g. table: public.*".into());
        }
        return Item::fail(NAME, seen.join("; "), remedies.join(" "));
    }
    let sum = |figure: fn(&Candidate) -> u64| -> u64 { scope.published().map(figure).sum() };
    let (rows, mib) = (sum(|it| it.rows_estimated), sum(|it| it.bytes) >> 20);
    seen.insert(0, format!("{count} tables, about {rows} rows, {mib} MiB"));
    let seen = seen.join("; ");
    if is_asked_for {
        Item::fail(NAME, seen, remedies.join(" "))
    } else if remedies.is_empty() {
        Item::pass(NAME, seen)
    } else {
        Item::warning(NAME, seen, remedies.join(" "))
    }
}

/// Objects that select nothing, by their patterns.
fn idle(scope: &Scope<'_>, selection: &Selection, unsupported: &[Unsupported]) -> Vec<String> {
    let tables = scope.tables.iter().map(|it| (it.schema.as_str(), it.name.as_str()));
    let others = unsupported.iter().map(|it| (it.schema.as_str(), it.name.as_str()));
    let hit: HashSet<usize> = tables
        .chain(others)
        .filter_map(|(schema, name)| selection.selected(schema, name))
        .collect();
    let objects = scope.task.objects.iter().enumerate();
    objects
        .filter(|(index, object)| !object.exclude && !hit.contains(index))
        .map(|(_, object)| object.table.clone())
        .collect()
}

/// Tables that inherit from captured ones, by INHERITS, and are not captured: a query of the parent
/// shows their rows, its topic does not.
fn inheritance(scope: &Scope<'_>, facts: &FactsByOid) -> Item {
    const NAME: &str = "source.inheritance";
    let ours: HashSet<u32> = scope.tables.iter().map(|it| it.oid).collect();
    let strangers: Vec<String> = scope
        .tables
        .iter()
        .filter_map(|it| Some((it, &facts.get(&it.oid)?.heirs)))
        .flat_map(|(it, heirs)| heirs.iter().map(move |heir| (it, heir)))
        .filter(|(_, (oid, _))| !ours.contains(oid))
        .map(|(it, (_, heir))| format!("{heir} inherits from {}", readable(&it.schema, &it.name)))
        .collect();
    if strangers.is_empty() {
        return Item::pass(NAME, "no table inherits from a captured one without being captured");
    }
    let seen = format!("not selected: {}", some(&strangers));
    let remedy = "select them as well: their rows are captured under their own names only";
    Item::warning(NAME, seen, remedy)
}

async fn partitions(scope: &Scope<'_>) -> Result<Item, Error> {
    const NAME: &str = "source.partitions";
    let trees = scope.roots.len();
    if trees == 0 {
        return Ok(Item::pass(NAME, "no partitioned table is selected"));
    }
    if scope.via_root {
        let seen = format!("{trees} partitioned tables, with all partitions, also later ones");
        return Ok(match keyless_trees(scope).await? {
            None => Item::pass(NAME, seen),
            Some((more, remedy)) => Item::warning(NAME, format!("{seen}; {more}"), remedy),
        });
    }
    Ok(leaf_by_leaf(scope, trees))
}

/// What users of partitions meet that come later without a key (design.md, server fact 16), and what helps; `None`: nothing.
async fn keyless_trees(scope: &Scope<'_>) -> Result<Option<(String, &'static str)>, Error> {
    let is_root = |it: &&Candidate| it.kind == RelationKind::Partitioned && it.parent.is_none();
    let keyless: Vec<&Candidate> =
        scope.tables.iter().filter(is_root).filter(|it| !it.has_key).collect();
    let source = &scope.task.source;
    let has_triggers = match means(source, scope.session.server().version) {
        Ok(Some(means)) if scope.task.sync.incremental => {
            scope.session.ddl_rights(scope.publication, means).await? != Rights::Missing
        }
        Ok(_) | Err(_) => false,
    };
    let is_kept = source.replica_identity == IdentityPolicy::Keep;
    if keyless.is_empty() || (has_triggers && !is_kept) {
        return Ok(None);
    }
    let names = people(keyless);
    Ok(Some(if is_kept {
        let seen = format!(
            "users cannot update or delete rows of a partition that comes later without a replica identity, since a key of \
             the root is missing: {names}"
        );
        (
            seen,
            "ALTER TABLE … ADD PRIMARY KEY (…) of the root, or give each new partition REPLICA IDENTITY FULL in the \
                transaction that attaches it",
        )
    } else {
        let seen = format!(
            "users cannot update or delete rows of a partition that comes later for about a second, until the task has set \
             REPLICA IDENTITY FULL, since a key of the root is missing: {names}"
        );
        (
            seen,
            "ALTER TABLE … ADD PRIMARY KEY (…) of the root, or give each new partition REPLICA IDENTITY FULL in the \
                transaction that attaches it, as the task's event triggers would (source.ddl)",
        )
    }))
}

fn leaf_by_leaf(scope: &Scope<'_>, trees: usize) -> Item {
    const NAME: &str = "source.partitions";
    if scope.session.server().version < VIA_ROOT_SINCE {
        let seen =
            format!("{trees} partitioned tables: the server publishes partitions one by one");
        let remedy = "new partitions are taken in when they are seen, some seconds later; PostgreSQL 13 \
                      and later take them in by themselves";
        return Item::warning(NAME, seen, remedy);
    }
    let seen = format!(
        "{trees} partitioned tables: partitions go by their own names, one by one \
         (source.partition_names)"
    );
    let remedy = "new partitions are taken in when they are seen, some seconds later; with \
                  partition_names: parent they come along by themselves";
    Item::warning(NAME, seen, remedy)
}

fn keys(scope: &Scope<'_>) -> Item {
    const NAME: &str = "source.keys";
    let keyless: Vec<&Candidate> = scope.published().filter(|it| !it.has_key).collect();
    if keyless.is_empty() {
        return Item::pass(NAME, "every table has a key");
    }
    let seen = format!("without a primary key, so records have no key: {}", people(keyless));
    let remedy = "ALTER TABLE … ADD PRIMARY KEY (…), or choose `partition_key` for them";
    Item::warning(NAME, seen, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, kind: RelationKind, parent: Option<&str>) -> Candidate {
        Candidate {
            oid: 1,
            schema: "public".into(),
            name: name.into(),
            kind,
            parent: parent.map(|parent| ("public".into(), parent.into())),
            identity: ReplicaIdentity::Default,
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

    #[test]
    fn a_tree_goes_under_its_root_or_leaf_by_leaf() {
        use RelationKind::{Ordinary, Partitioned};
        let tables = [
            table("plain", Ordinary, None),
            table("root", Partitioned, None),
            table("middle", Partitioned, Some("root")),
            table("leaf", Ordinary, Some("root")),
            // Its root is not selected.
            table("lone", Ordinary, Some("elsewhere")),
            Candidate { publishable: false, ..table("unlogged", Ordinary, None) },
        ];
        let going = |via_root| -> Vec<&str> {
            let roots = roots(&tables);
            let goes = tables.iter().filter(|it| goes(it, &roots, via_root));
            goes.map(|it| it.name.as_str()).collect()
        };
        assert_eq!(going(true), ["plain", "root", "lone"]);
        assert_eq!(going(false), ["plain", "leaf", "lone"]);
    }
}
