//! The precheck of the source: what was found, and what mends it. Writes nothing.
//!
//! Each item has a stable name; people ignore items by it.

mod ddl;
mod facts;
mod headroom;
mod identity;
mod rights;
mod server;
mod slots;
mod standby;
mod statements;
mod tables;
mod unsupported;
mod way;

use crate::catalog::{Candidate, RelationKind, VIA_ROOT_SINCE};
use crate::settings::Settings;
use crate::{Error, Session};
use config::PartitionNames;
use config::precheck::Item;
use record::selection::Selection;
use std::collections::HashSet;
use std::time::{Duration, Instant};
use tables::Scope;

/// Checks the source for a task. Returns the items, and the tables of the task: those that are
/// selected and the partitions of those.
pub async fn check(
    settings: &Settings,
    task: &config::Task,
    selection: &Selection,
) -> (Vec<Item>, Vec<Candidate>) {
    let session = match Session::connect(settings).await {
        Ok(session) => session,
        Err(error) => return (vec![refused("source.connection", &error)], Vec::new()),
    };
    let mut items = vec![connection(&session, task).await];
    let slot = task.slot_of(1);
    let found = match settings.reads_standby() {
        true => Some(Session::connect_slot(settings).await),
        false => None,
    };
    let at_slot = found.as_ref().map_or(Ok(&session), Result::as_ref);
    items.extend(server::items(&session, at_slot.unwrap_or(&session), task).await);
    items.extend(streams(&session, task));
    match at_slot {
        Ok(at_slot) => {
            if settings.reads_standby() {
                items.push(item(standby::NAME, standby::standby(&session, at_slot, &slot).await));
            }
            items.extend(slots::items(at_slot, task).await);
            items.push(way::replication(at_slot, settings).await);
        }
        Err(error) => items.push(refused(standby::NAME, error)),
    }
    items.push(item("source.ddl", ddl::ddl(&session, task, &slot).await));
    let candidates = match session.candidates().await {
        Ok(candidates) => candidates,
        Err(error) => {
            items.push(refused("source.tables", &error));
            return (items, Vec::new());
        }
    };
    let selected = selected(candidates, selection);
    let scope = Scope::new(&session, task, &slot, &selected);
    items.extend(tables::items(&scope, selection).await);
    (items, selected)
}

/// What several streams need, and what they give up.
fn streams(session: &Session, task: &config::Task) -> Option<Item> {
    const NAME: &str = "source.streams";
    let count = task.source.streams;
    if count < 2 {
        return None;
    }
    // Before, leaves are published one by one, and those of one tree could go apart.
    if session.server().version < VIA_ROOT_SINCE {
        let seen = "several streams need PostgreSQL 13 or later, which publishes partition trees as a whole";
        return Some(Item::fail(NAME, seen, "set `source.streams: 1`, or leave it out"));
    }
    let lanes = if task.lanes.0 == 1 { ", also with `lanes: 1`" } else { "" };
    let seen = format!(
        "tables are divided over {count} slots: the order of changes is kept within each table, not over tables, and \
         source transactions are not shown as a whole{lanes}"
    );
    let remedy = "set `source.streams: 1` where consumers rely on the order over tables; else nothing need be done";
    Some(Item::warning(NAME, seen, remedy))
}

/// Where from as well: whoever keeps a list of allowed addresses needs it.
async fn connection(session: &Session, task: &config::Task) -> Item {
    const NAME: &str = "source.connection";
    let rows = session.query("address", "SELECT host(inet_client_addr())", &[]).await;
    let address = match rows {
        Ok(rows) => rows.first().and_then(|row| row.try_get::<_, Option<String>>(0).ok().flatten()),
        Err(error) => return refused(NAME, &error),
    };
    let host = &session.server().host;
    let from = address.map(|address| format!(" from {address}")).unwrap_or_default();
    Item::pass(NAME, format!("connected to {host}{from}, database {}", task.source.database))
}

/// Transactions that have been open for longer. The item of a precheck asks for those of five minutes.
pub async fn long_transactions(session: &Session, open_for: Duration) -> Item {
    item(server::LONG_TRANSACTIONS, server::long_transactions(session, open_for).await)
}

/// Whether the hosts answer, and how fast.
pub async fn connectivity(settings: &Settings) -> Vec<Item> {
    const NAME: &str = "source.connectivity";
    let mut items = Vec::new();
    for (host, single) in settings.each_host() {
        let start = Instant::now();
        let probed = Session::connect_any(&single).await;
        let millis = start.elapsed().as_millis();
        items.push(match probed {
            Ok(session) => {
                let start = Instant::now();
                let answer = session.is_standby().await;
                let round_trip = start.elapsed().as_micros();
                let role = match answer {
                    Ok(true) => "standby",
                    Ok(false) => "read-write",
                    Err(_) => "role unknown",
                };
                let seen =
                    format!("{host}: connected in {millis} ms, round trip {round_trip} µs, {role}");
                Item::pass(NAME, seen)
            }
            Err(error) => {
                let failed = refused(NAME, &error);
                Item { seen: format!("{host}: {} (after {millis} ms)", failed.seen), ..failed }
            }
        });
    }
    items
}

/// Those that are selected, and what belongs to their partition trees.
fn selected(candidates: Vec<Candidate>, selection: &Selection) -> Vec<Candidate> {
    let is_selected = |schema: &str, name: &str| selection.selected(schema, name).is_some();
    let roots: HashSet<(String, String)> = candidates
        .iter()
        .filter(|it| it.kind == RelationKind::Partitioned && it.parent.is_none())
        .filter(|it| is_selected(&it.schema, &it.name))
        .map(|it| (it.schema.clone(), it.name.clone()))
        .collect();
    let is_ours = |it: &Candidate| {
        is_selected(&it.schema, &it.name)
            || it.parent.as_ref().is_some_and(|root| roots.contains(root))
    };
    candidates.into_iter().filter(is_ours).collect()
}

/// Whether partition trees are published under their roots by the server.
fn is_via_root(version: u32, names: PartitionNames) -> bool {
    VIA_ROOT_SINCE <= version && names == PartitionNames::Parent
}

/// An item for which the server could not be asked.
#[must_use]
pub fn refused(name: &str, error: &Error) -> Item {
    let remedy = if matches!(error, Error::NoPrimary { .. }) {
        "add the primary to source.hosts: the task writes its publication, replica identities and helper objects, \
         which a standby cannot take, so a standby alone is no source"
    } else {
        "mend what the message says, and check again"
    };
    let failed = Item::fail(name, error.to_string(), remedy);
    Item { may_pass: error.is_connection(), ..failed }
}

/// The item, or that it could not be looked at.
fn item(name: &str, looked: Result<Item, Error>) -> Item {
    looked.unwrap_or_else(|error| refused(name, &error))
}

/// Some names out of many, for people.
fn some(names: &[String]) -> String {
    const NAMED_MAX: usize = 8;
    match names.len().checked_sub(NAMED_MAX) {
        Some(more @ 1..) => format!("{} and {more} more", names[..NAMED_MAX].join(", ")),
        Some(0) | None => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wal::table::ReplicaIdentity;

    fn candidate(name: &str, kind: RelationKind, parent: Option<&str>) -> Candidate {
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
    fn partitions_come_along_with_their_root() {
        let object = config::Object { table: "public.orders".into(), ..config::Object::default() };
        let task = config::Task { objects: vec![object], ..config::Task::default() };
        let selection = Selection::new(&task).unwrap();
        let candidates = vec![
            candidate("orders", RelationKind::Partitioned, None),
            candidate("orders_1", RelationKind::Ordinary, Some("orders")),
            candidate("other", RelationKind::Partitioned, None),
            candidate("other_1", RelationKind::Ordinary, Some("other")),
        ];
        let names: Vec<String> =
            selected(candidates, &selection).into_iter().map(|it| it.name).collect();
        assert_eq!(names, ["orders", "orders_1"]);
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..10).map(|it| it.to_string()).collect();
        assert_eq!(some(&names), "0, 1, 2, 3, 4, 5, 6, 7 and 2 more");
        assert_eq!(some(&names[..8]), "0, 1, 2, 3, 4, 5, 6, 7");
        assert_eq!(some(&[]), "");
    }
}
