//! What the meta lane keeps of tables, so that the last changes of one that was dropped keep their key, and with it
//! their partition, wherever the stream begins again; and so that what was done to a table is told once, where it is told
//! from the stream.
//!
//! A description is written before the first change that is routed by it, and forgotten once everything up to the drop
//! is durable: nothing of the table can come again then. The versions before it are kept until the low watermark has
//! passed its first change.

use crate::failure::Failure;
use crate::link::kept::{Kept, Since, read, written};
use crate::meta::Meta;
use kafka::meta::{MetaRecord, MetaState};
use postgres::Session;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use tracing::{info, warn};
use wal::relation::RelationDescription;
use wal::{Lsn, Position, Table};

/// So many are written in one transaction.
const RECORDS_MAX: usize = 500;

/// The descriptions of a task. Clones share them.
#[derive(Clone, Debug)]
pub struct Descriptions {
    meta: Meta,
    state: Rc<RefCell<MetaState>>,
}

/// Where a version of a table stands among those that the stream has described.
#[derive(Clone, Debug)]
pub struct Place {
    pub number: u64,
    /// The version before; `None`: not known.
    pub before: Option<Table>,
    /// What commits earlier may have gone by either of them.
    pub not_before: Lsn,
    pub since: Since,
}

impl Descriptions {
    /// Those that the meta lane holds.
    #[must_use]
    pub fn new(meta: Meta, state: Rc<RefCell<MetaState>>) -> Self {
        Self { meta, state }
    }

    /// Tells a session what others knew of a table, unless it knows the table itself. What cannot be read is left out:
    /// then the catalog alone counts.
    pub fn remind(&self, session: &Session, oid: u32) {
        if session.knows(oid) {
            return;
        }
        let state = self.state.borrow();
        let Some(json) = state.tables.get(&oid) else { return };
        match read(json) {
            Ok(versions) => {
                if let Some(Kept { table, by_root, .. }) = versions.into_iter().next_back() {
                    session.recall(table, by_root);
                }
            }
            Err(error) => warn!(oid, %error, "the description of a table is left out"),
        }
    }

    /// Writes down those tables, as the catalog has them, of which nothing is known yet.
    ///
    /// # Errors
    /// As [`Meta::write`], or the server does not answer.
    pub async fn note<'a>(
        &self,
        session: &Session,
        tables: impl IntoIterator<Item = &'a Table>,
    ) -> Result<(), Failure> {
        let is_new = |it: &&Table| !self.state.borrow().tables.contains_key(&it.oid);
        let new: Vec<&Table> = tables.into_iter().filter(is_new).collect();
        if new.is_empty() {
            return Ok(());
        }
        // Whatever the catalog has now has committed before.
        let since = Since::Catalog(session.wal_end().await?);
        let record = |table: &&Table| {
            let by_root = session.goes_by_root(table);
            let kept = Kept { number: 1, table: Table::clone(table), by_root, since };
            Ok((table.oid, written(&[kept])?))
        };
        let records: Vec<(u32, String)> = new.iter().map(record).collect::<Result<_, Failure>>()?;
        for some in records.chunks(RECORDS_MAX) {
            self.meta.write(some.iter().map(to_record).collect()).await?;
            self.state.borrow_mut().tables.extend(some.iter().cloned());
        }
        Ok(())
    }

    /// The same for relations of the catalog. Who is gone already is left out.
    ///
    /// # Errors
    /// As [`Self::note`].
    pub async fn note_missing(&self, session: &Session, oids: &[u32]) -> Result<(), Failure> {
        let is_missing = |oid: &u32| !self.state.borrow().tables.contains_key(oid);
        let missing: Vec<u32> = oids.iter().copied().filter(is_missing).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let tables = session.tables_present(&missing).await?;
        self.note(session, &tables).await
    }

    /// Writes down how the stream describes a table now; durable when it resolves. `last`: the version that this life of
    /// the stream has described before. `keeps`: the versions before are needed.
    ///
    /// # Errors
    /// As [`Meta::write`].
    pub async fn follow(
        &self,
        session: &Session,
        table: &Table,
        last: Option<u64>,
        keeps: bool,
    ) -> Result<Place, Failure> {
        let before = self.state.borrow().tables.get(&table.oid).cloned();
        let mut versions = before.as_deref().and_then(|it| read(it).ok()).unwrap_or_default();
        let place = take_in(&mut versions, table, session.goes_by_root(table), last);
        if !keeps {
            versions.retain(|it| it.number == place.number);
        }
        self.trim(&mut versions);
        let json = written(&versions)?;
        if before.as_ref() != Some(&json) {
            let record = (table.oid, json);
            self.meta.write(vec![to_record(&record)]).await?;
            self.state.borrow_mut().tables.insert(record.0, record.1);
        }
        Ok(place)
    }

    /// The first change that goes by a version is about to be routed: written before any watermark that covers it,
    /// because the meta lane writes in order.
    pub fn met(&self, oid: u32, number: u64, at: Position) {
        let before = self.state.borrow().tables.get(&oid).cloned();
        let Some(mut versions) = before.as_deref().and_then(|it| read(it).ok()) else { return };
        let met = versions.iter_mut().find(|it| it.number == number && it.since == Since::Unmet);
        let Some(met) = met else { return };
        met.since = Since::Change(at);
        self.trim(&mut versions);
        // It could be written before.
        let Ok(json) = written(&versions) else { return };
        let record = (oid, json);
        self.meta.post(vec![to_record(&record)]);
        self.state.borrow_mut().tables.insert(record.0, record.1);
    }

    fn trim(&self, versions: &mut Vec<Kept>) {
        if let Some(watermark) = self.state.borrow().watermark.as_ref().map(|it| it.lsn) {
            trim(versions, watermark);
        }
    }

    /// Notes in `gone` which tables were dropped, and a position behind that.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn look(
        &self,
        session: &Session,
        gone: &mut BTreeMap<u32, Lsn>,
    ) -> Result<(), Failure> {
        let known = |oid: &&u32| !gone.contains_key(*oid);
        let oids: Vec<u32> = self.state.borrow().tables.keys().filter(known).copied().collect();
        let dropped = session.relations_gone(&oids).await?;
        if !dropped.is_empty() {
            let at = session.wal_end().await?;
            gone.extend(dropped.into_iter().map(|oid| (oid, at)));
        }
        Ok(())
    }

    /// Forgets those whose drop the low watermark has passed.
    ///
    /// # Errors
    /// As [`Meta::write`].
    pub async fn forget(&self, gone: &mut BTreeMap<u32, Lsn>) -> Result<(), Failure> {
        let watermark = self.state.borrow().watermark.as_ref().map(|it| it.lsn);
        let is_over = |at: &Lsn| watermark.is_some_and(|watermark| *at <= watermark);
        let over: Vec<u32> =
            gone.iter().filter(|(_, at)| is_over(at)).map(|(oid, _)| *oid).collect();
        self.drop(&over).await?;
        gone.retain(|oid, _| !over.contains(oid));
        Ok(())
    }

    /// A new slot begins: what was is no matter any more, and the server may be another one.
    ///
    /// # Errors
    /// As [`Meta::write`].
    pub async fn forget_all(&self) -> Result<(), Failure> {
        let all: Vec<u32> = self.state.borrow().tables.keys().copied().collect();
        self.drop(&all).await
    }

    async fn drop(&self, oids: &[u32]) -> Result<(), Failure> {
        for some in oids.chunks(RECORDS_MAX) {
            let record = |&oid: &u32| MetaRecord::Table { oid, json: None };
            self.meta.write(some.iter().map(record).collect()).await?;
            some.iter().for_each(|oid| drop(self.state.borrow_mut().tables.remove(oid)));
            info!(tables = some.len(), "descriptions of tables forgotten");
        }
        Ok(())
    }
}

fn to_record((oid, json): &(u32, String)) -> MetaRecord {
    MetaRecord::Table { oid: *oid, json: Some(json.clone()) }
}

/// Whether the stream would describe both in the same way.
fn is_same(kept: &Kept, table: &Table) -> bool {
    let of = |table: &Table| RelationDescription { version: 0, ..RelationDescription::of(table) };
    of(&kept.table) == of(table)
}

/// Finds a version, or adds it as the newest one. The stream begins again where the low watermark stands, so it meets
/// versions again in their order, but the first ones.
fn take_in(versions: &mut Vec<Kept>, table: &Table, by_root: bool, last: Option<u64>) -> Place {
    let found = match last {
        Some(last) => versions.iter().position(|it| last < it.number && is_same(it, table)),
        None => versions.iter().rposition(|it| is_same(it, table)),
    };
    let of_last = last.and_then(|last| versions.iter().position(|it| it.number == last));
    let earlier = of_last.or(match found {
        Some(index) => index.checked_sub(1),
        None => versions.len().checked_sub(1),
    });
    let earlier = earlier.and_then(|index| versions.get(index)).cloned();
    let table = Table { version: 0, ..table.clone() };
    let index = found.unwrap_or_else(|| {
        let number = versions.iter().map(|it| it.number).max().unwrap_or(0) + 1;
        versions.push(Kept { number, table: table.clone(), by_root, since: Since::Unmet });
        versions.len() - 1
    });
    let kept = &mut versions[index];
    // Key, defaults and types are the catalog's.
    (kept.table, kept.by_root) = (table, by_root);
    let not_before = match earlier.as_ref().map(|it| it.since) {
        Some(Since::Catalog(lsn)) => lsn,
        Some(Since::Change(_) | Since::Unmet) | None => Lsn::ZERO,
    };
    let (number, since) = (kept.number, kept.since);
    // A partition that is attached or detached goes by another name, and has not been renamed.
    let before = earlier.filter(|it| it.by_root == by_root).map(|it| it.table);
    Place { number, before, not_before, since }
}

/// Leaves out what the stream does not come back to.
fn trim(versions: &mut Vec<Kept>, watermark: Lsn) {
    let is_passed = |kept: &Kept| match kept.since {
        Since::Change(at) => at.commit_lsn < watermark,
        Since::Catalog(lsn) => lsn <= watermark,
        Since::Unmet => false,
    };
    if let Some(index) = versions.iter().rposition(is_passed) {
        versions.drain(..index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use wal::Column;
    use wal::table::ReplicaIdentity;
    use wal::types::Type;

    fn table(column: &str) -> Table {
        let column = Column {
            name: column.into(),
            type_: Arc::new(Type::builtin(23, "int4")),
            type_modifier: -1,
            not_null: false,
            default: None,
            in_identity: true,
        };
        Table {
            oid: 1000,
            version: 7,
            schema: "public".into(),
            name: "t".into(),
            identity: ReplicaIdentity::Full,
            columns: vec![column],
            key: Vec::new(),
            unique: Vec::new(),
        }
    }

    fn at(commit: u64) -> Position {
        Position { commit_lsn: Lsn(commit), ordinal: 0 }
    }

    /// The column of the version before, and its own number.
    fn step(versions: &mut Vec<Kept>, column: &str, last: Option<u64>) -> (Option<String>, u64) {
        let place = take_in(versions, &table(column), false, last);
        let before = place.before.map(|it| it.columns[0].name.to_string());
        (before, place.number)
    }

    #[test]
    fn each_version_follows_the_one_before_it() {
        let mut versions = Vec::new();
        assert_eq!(step(&mut versions, "a", None), (None, 1));
        assert_eq!(step(&mut versions, "b", Some(1)), (Some("a".into()), 2));
        assert_eq!(step(&mut versions, "a", Some(2)), (Some("b".into()), 3));
    }

    #[test]
    fn what_is_read_again_is_no_new_version() {
        let mut versions = Vec::new();
        step(&mut versions, "a", None);
        step(&mut versions, "b", Some(1));
        versions[1].since = Since::Change(at(50));
        // From before the change, and from behind it.
        assert_eq!(step(&mut versions, "a", None), (None, 1));
        assert_eq!(step(&mut versions, "b", Some(1)), (Some("a".into()), 2));
        assert_eq!(step(&mut versions, "b", None), (Some("a".into()), 2));
        assert_eq!(versions.len(), 2);
        // What came while nobody looked follows the newest.
        assert_eq!(step(&mut versions, "c", None), (Some("b".into()), 3));
    }

    #[test]
    fn a_newer_catalog_changes_no_version() {
        let mut versions = Vec::new();
        step(&mut versions, "a", None);
        let mut keyed = table("a");
        keyed.key = vec![0];
        take_in(&mut versions, &keyed, true, None);
        assert_eq!((versions.len(), versions[0].table.key.as_slice()), (1, [0].as_slice()));
        assert!(versions[0].by_root);
        let detached = take_in(&mut versions, &table("b"), false, Some(1));
        assert_eq!(detached.before, None, "it goes by another name, and was not renamed");
    }

    #[test]
    fn the_catalog_may_be_ahead_of_the_stream() {
        let mut versions = Vec::new();
        step(&mut versions, "b", None);
        versions[0].since = Since::Catalog(Lsn(70));
        let older = take_in(&mut versions, &table("a"), false, None);
        assert_eq!((older.number, older.not_before), (2, Lsn(70)), "nothing turned b into a");
        let newer = take_in(&mut versions, &table("b"), false, Some(2));
        assert_eq!((newer.number, newer.not_before), (3, Lsn::ZERO));
    }

    #[test]
    fn versions_are_kept_until_the_watermark_has_passed_the_next() {
        let kept = |number, since| Kept { number, table: table("a"), by_root: false, since };
        let all = [
            kept(1, Since::Catalog(Lsn(10))),
            kept(2, Since::Change(at(20))),
            kept(3, Since::Unmet),
        ];
        let left = |watermark| {
            let mut versions = all.to_vec();
            trim(&mut versions, Lsn(watermark));
            versions.into_iter().map(|it| it.number).collect::<Vec<_>>()
        };
        assert_eq!(left(5), [1, 2, 3]);
        assert_eq!(left(20), [1, 2, 3]);
        assert_eq!(left(21), [2, 3]);
    }
}
