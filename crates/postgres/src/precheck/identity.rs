//! Items of replica identities and of what publications do to users' UPDATE and DELETE (design.md,
//! server facts 9, 10 and 16).

use super::facts::{Facts, FactsByOid};
use super::some;
use super::statements::{self, Name};
use super::tables::{Scope, name, people};
use crate::catalog::{Candidate, GENERATED_PUBLISHED_SINCE, RelationKind};
use crate::quote::readable;
use config::IdentityPolicy;
use config::precheck::Item;
use wal::table::ReplicaIdentity;

/// Rows are in ordinary tables: the identity of a partitioned one stops nobody.
fn rows<'a>(scope: &Scope<'a>) -> impl Iterator<Item = &'a Candidate> {
    scope.tables.iter().filter(|it| it.publishable && it.kind == RelationKind::Ordinary)
}

/// Those whose old rows are whole, now or once the task has set it.
fn full<'a>(scope: &Scope<'a>) -> impl Iterator<Item = &'a Candidate> {
    let is_kept = scope.task.source.replica_identity == IdentityPolicy::Keep;
    rows(scope).filter(move |it| !is_kept || it.identity == ReplicaIdentity::Full)
}

pub(super) fn identity(scope: &Scope<'_>, facts: &FactsByOid) -> Item {
    const NAME: &str = "source.identity";
    let refused: Vec<String> = full(scope)
        .filter_map(|it| Some((it, &facts.get(&it.oid)?.virtual_)))
        .filter(|(_, columns)| !columns.is_empty())
        .map(|(it, columns)| format!("{} ({})", readable(&it.schema, &it.name), columns.join(", ")))
        .collect();
    if !refused.is_empty() {
        let seen = format!(
            "with REPLICA IDENTITY FULL users could not update tables with virtual generated columns \
             any more: {}",
            some(&refused)
        );
        let remedy = "make the columns STORED, or set source.replica_identity: keep and use another \
                      identity than FULL, or exclude the tables";
        return Item::fail(NAME, seen, remedy);
    }
    if scope.task.source.replica_identity == IdentityPolicy::Keep {
        return kept_identity(scope);
    }
    match scope.to_be_full().count() {
        0 => Item::pass(NAME, "REPLICA IDENTITY is FULL everywhere"),
        // They are set before the tables are published.
        count => Item::pass(NAME, format!("{count} tables will be set to REPLICA IDENTITY FULL")),
    }
}

/// Nothing is changed, so all must be usable as it is.
fn kept_identity(scope: &Scope<'_>) -> Item {
    const NAME: &str = "source.identity";
    let unusable: Vec<&Candidate> = rows(scope).filter(|it| !it.identity_usable).collect();
    if !unusable.is_empty() {
        let seen = format!(
            "without a usable replica identity, users could not update or delete any more: {}",
            people(unusable.iter().copied())
        );
        let names: Vec<Name> = unusable.into_iter().map(name).collect();
        return Item::fail(NAME, seen, statements::identity_full(&names));
    }
    let partial: Vec<&Candidate> =
        rows(scope).filter(|it| it.identity != ReplicaIdentity::Full).collect();
    if partial.is_empty() {
        return Item::pass(NAME, "REPLICA IDENTITY is FULL everywhere");
    }
    let seen = format!(
        "old rows are not whole, and unchanged TOAST values are missing: {}",
        people(partial.iter().copied())
    );
    let names: Vec<Name> = partial.into_iter().map(name).collect();
    Item::warning(NAME, seen, statements::identity_full(&names))
}

/// What the publications of others would do to users when the identity becomes FULL.
pub(super) fn publications(scope: &Scope<'_>, facts: &FactsByOid) -> Item {
    const NAME: &str = "source.publications";
    let collisions: Vec<String> = scope
        .to_be_full()
        .filter_map(|it| Some((it, &facts.get(&it.oid)?.collisions)))
        .filter(|(_, publications)| !publications.is_empty())
        .map(|(it, publications)| {
            format!("{} in {}", readable(&it.schema, &it.name), publications.join(", "))
        })
        .collect();
    if collisions.is_empty() {
        return Item::pass(NAME, "no other publication stands against the replica identity");
    }
    let seen = format!(
        "other publications do not send all columns; with REPLICA IDENTITY FULL users could not \
         update any more: {}",
        some(&collisions)
    );
    let remedy = "let these publications send all columns, or set source.replica_identity: keep";
    Item::fail(NAME, seen, remedy)
}

pub(super) fn generated_columns(scope: &Scope<'_>, facts: &FactsByOid) -> Item {
    const NAME: &str = "source.generated-columns";
    let are_published = GENERATED_PUBLISHED_SINCE <= scope.session.server().version;
    let left_out = |facts: &Facts| {
        let stored = if are_published { &[][..] } else { &facts.stored[..] };
        [stored, &facts.virtual_[..]].concat()
    };
    let named = |it: &Candidate| {
        let columns = facts.get(&it.oid).map(left_out).filter(|columns| !columns.is_empty())?;
        Some(format!("{} ({})", readable(&it.schema, &it.name), columns.join(", ")))
    };
    let names: Vec<String> = scope.published().filter_map(named).collect();
    if names.is_empty() {
        return Item::pass(NAME, "no generated column is left out");
    }
    let remedy = if are_published {
        "make them STORED, or let consumers compute them"
    } else {
        "let consumers compute them; PostgreSQL 18 and later publish stored ones"
    };
    Item::warning(NAME, format!("not published by the server: {}", some(&names)), remedy)
}

/// From this on a table's large values could be one that the server cannot send: it makes one message of a change, of less than
/// 1 GiB (`MaxAllocSize`), in which under FULL an UPDATE has the row twice, and a `bytea` in text form two letters a byte.
const TOAST_BYTES: u64 = 256 << 20;

/// Tables of which a change may not fit the server's own message: it would end every attempt to read it.
pub(super) fn large_rows(scope: &Scope<'_>, facts: &FactsByOid) -> Item {
    const NAME: &str = "source.large-rows";
    let names: Vec<String> = full(scope)
        .filter_map(|it| Some((it, facts.get(&it.oid)?)))
        .filter(|(_, facts)| TOAST_BYTES <= facts.toast_bytes && !facts.unlimited.is_empty())
        .map(|(it, facts)| {
            let (columns, mib) = (facts.unlimited.join(", "), facts.toast_bytes >> 20);
            format!("{} ({columns}; {mib} MiB)", readable(&it.schema, &it.name))
        })
        .collect();
    if names.is_empty() {
        return Item::pass(NAME, "no table with REPLICA IDENTITY FULL has much of large values");
    }
    let seen = format!(
        "a change of a value of 256 MiB or more may be larger than the server can send with \
         REPLICA IDENTITY FULL: {}",
        some(&names)
    );
    let remedy = "nothing, where values are smaller; else set source.replica_identity: keep, and another \
                  identity than FULL for these tables";
    Item::warning(NAME, seen, remedy)
}
