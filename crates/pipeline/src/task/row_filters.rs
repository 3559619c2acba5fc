//! Row filters of the publication (PostgreSQL 15): what a condition leaves out need not come over the network.
//!
//! Rows are judged here all the same, so that nothing depends on a row filter but what comes in vain: at each position of the
//! stream the server sends at least what the revision in force there wants. Hence the order: before a revision takes force
//! the row filters that are not its own go, and its own come after the position from which it is in force.

use super::Task;
use super::tables::Tables;
use crate::capture::{Relation, as_captured};
use crate::failure::Failure;
use crate::planner::Revision;
use crate::tables::Left;
use postgres::publication::Publication;
use postgres::{Error, Session};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// Longer ones stay here: what the task knows of its publication is one record.
const FILTER_BYTES_MAX: usize = 4096;

/// Until a busy table is asked for again.
const AGAIN: Duration = Duration::from_secs(5);

/// OID, schema and name.
type NamedTable = (u32, String, String);

/// Row filters by OID of the table.
pub(super) type Filters = BTreeMap<u32, (NamedTable, String)>;

impl Task {
    /// Those that a revision asks for.
    pub(super) async fn row_filters(
        &self,
        session: &Session,
        revision: &Revision,
        publish: &[Relation],
    ) -> Result<Filters, Failure> {
        let asks = |it: &&Relation| {
            let object = revision.selection.selected(&it.schema, &it.name);
            object.is_some_and(|object| revision.spec.objects[object].publication_filter)
        };
        let asking: Vec<&Relation> = publish.iter().filter(asks).collect();
        if asking.is_empty() || session.server().version < postgres::publication::NARROWED_SINCE {
            return Ok(Filters::new());
        }
        let oids: Vec<u32> = asking.iter().map(|it| it.oid).collect();
        let policy = revision.spec.source.replica_identity;
        let mut filters = Filters::new();
        for table in session.tables(&oids).await? {
            let Some(&relation) = asking.iter().find(|it| it.oid == table.oid) else { continue };
            let condition = self.planner.condition(revision, &Arc::new(as_captured(table, policy)));
            match condition {
                Ok(Some(condition)) if condition.len() <= FILTER_BYTES_MAX => {
                    let Relation { oid, schema, name } = relation.clone();
                    filters.insert(oid, ((oid, schema, name), condition));
                }
                Ok(Some(_)) => {
                    unfiltered(
                        &relation.schema,
                        &relation.name,
                        &"the condition is too long for it",
                    );
                }
                Ok(None) => {}
                // What was committed before the table became so must come all the same.
                Err(failure) => unfiltered(&relation.schema, &relation.name, &failure.cause),
            }
        }
        Ok(filters)
    }

    /// Gives the publication the row filters of the revision that is in force at the end of WAL. Busy tables get them later.
    pub(super) async fn filter_rows(&self, session: &Session) -> Result<(), Failure> {
        if session.server().version < postgres::publication::NARROWED_SINCE {
            return Ok(());
        }
        let newest = self.planner.newest();
        let is_asked = newest.spec.objects.iter().any(|it| it.publication_filter);
        let publish = match is_asked {
            true => self.capture(session).await?.publish,
            false => Vec::new(),
        };
        let filters = self.row_filters(session, &newest, &publish).await?;
        self.tables().change_row_filters(session, &filters, true).await
    }

    /// Tries again to give busy tables theirs, while the stream goes on.
    pub(super) async fn filter_late(&self, session: &Session) {
        let is_due = self.filters_due.get().is_some_and(|due| due <= Instant::now());
        // Those of a spec that is yet to come into force are its own matter.
        if !is_due || self.present.next.is_some() || self.end.is_some() {
            return;
        }
        if let Err(failure) = self.filter_rows(session).await {
            info!(cause = %failure.cause, "row filters are set later");
            self.filters_due.set(Some(Instant::now() + AGAIN));
        }
    }
}

impl Tables {
    /// Tables whose row filters are the task's own.
    pub(super) async fn filtered(&self, session: &Session) -> Result<BTreeSet<u32>, Failure> {
        let found = session.row_filters(&self.publication).await?;
        let Some(left) = self.left().filter(|_| !found.is_empty()) else {
            return Ok(BTreeSet::new());
        };
        let now = session.publication(&self.publication).await?.unwrap_or_default();
        let oids = found.into_iter().map(|(oid, ..)| oid);
        Ok(oids.filter(|&oid| left.has_filtered(oid, &now)).collect())
    }

    /// Takes away the task's own row filters that are not `wanted`, and sets those that are where it `may_set` them. Nobody
    /// else's are touched.
    pub(super) async fn change_row_filters(
        &self,
        session: &Session,
        wanted: &Filters,
        may_set: bool,
    ) -> Result<(), Failure> {
        if may_set {
            self.filters_due.set(None);
        }
        let found = session.row_filters(&self.publication).await?;
        if found.is_empty() && (wanted.is_empty() || !may_set) {
            return Ok(());
        }
        let now = session.publication(&self.publication).await?.unwrap_or_default();
        let Some(left) = self.left() else { return Ok(()) };
        let changes = changes(&left, &now, &found, wanted, may_set);
        if changes.is_empty() {
            return Ok(());
        }
        // A crash in between must not look as if somebody else had done it.
        let changing = Left::of(&now).with_filters(&left, &BTreeMap::new());
        self.write_left(changing.changing(changes.iter().map(|((oid, ..), _)| *oid))).await?;
        let mut set = BTreeMap::new();
        for (table, filter) in changes {
            let is_set = self.change_row_filter(session, &table, filter.as_deref()).await?;
            set.extend(filter.filter(|_| is_set).map(|filter| (table.0, filter)));
        }
        let now = session.publication(&self.publication).await?.unwrap_or_default();
        self.write_left(Left::of(&now).with_filters(&left, &set)).await
    }

    /// `false`: the publication is as before, and sends all rows that are wanted.
    async fn change_row_filter(
        &self,
        session: &Session,
        table: &NamedTable,
        filter: Option<&str>,
    ) -> Result<bool, Failure> {
        let (_, schema, name) = table;
        match session.set_row_filter(&self.publication, table, filter).await {
            Ok(()) => {
                let is_set = filter.is_some();
                info!(schema, table = name, is_set, "row filter of the publication changed");
                Ok(true)
            }
            // Dropped or renamed since it was looked at.
            Err(Error::TableMissing { .. }) => Ok(false),
            Err(error) if filter.is_none() || error.is_connection() => Err(error.into()),
            Err(Error::LockTimeout { .. }) => {
                info!(schema, table = name, "the table is busy, its row filter is set later");
                self.filters_due.set(Some(Instant::now() + AGAIN));
                Ok(false)
            }
            Err(error) => {
                unfiltered(schema, name, &error);
                Ok(false)
            }
        }
    }
}

fn unfiltered(schema: &str, name: &str, cause: &dyn std::fmt::Display) {
    warn!(schema, table = name, %cause, "the publication gets no row filter: rows are judged here only");
}

/// What is to be done to the row filters that were `found` in a publication as it is `now`, in this order: tables, and what
/// they get. What is wrong goes in any case, whether or not the right one can be set. `left`: how the task has left it. Pure.
fn changes(
    left: &Left,
    now: &Publication,
    found: &[NamedTable],
    wanted: &Filters,
    may_set: bool,
) -> Vec<(NamedTable, Option<String>)> {
    let has = |oid: u32| found.iter().any(|(it, ..)| *it == oid);
    let is_own = |oid: u32| left.has_filtered(oid, now);
    let is_right = |oid: u32| wanted.get(&oid).is_some_and(|(_, it)| left.filter(oid) == Some(it));
    let is_wrong = |oid: u32| is_own(oid) && !is_right(oid);
    let wrong = found.iter().filter(|(oid, ..)| is_wrong(*oid));
    let gone = wrong.map(|table| (table.clone(), None));
    let can_be_set =
        |oid: u32| may_set && (!has(oid) || is_wrong(oid)) && now.additions.contains_key(&oid);
    let set = wanted.iter().filter(|(oid, _)| can_be_set(**oid));
    let set = set.map(|(_, (table, filter))| (table.clone(), Some(filter.clone())));
    gone.chain(set).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(additions: &[(u32, u32)]) -> Publication {
        Publication { additions: additions.iter().copied().collect(), ..Publication::default() }
    }

    fn table(oid: u32) -> NamedTable {
        (oid, "public".into(), format!("t{oid}"))
    }

    fn wanted(filters: &[(u32, &str)]) -> Filters {
        filters.iter().map(|&(oid, text)| (oid, (table(oid), text.into()))).collect()
    }

    #[test]
    fn filters_that_are_not_wanted_go_first_and_come_afterwards() {
        let now = publication(&[(1, 100), (2, 200), (3, 300), (4, 400)]);
        // Of the fourth another addition is known: somebody else has given it a filter.
        let known = publication(&[(1, 100), (2, 200), (3, 300), (4, 399)]);
        let set = BTreeMap::from([(1, "a > 1".to_owned()), (2, "b".into())]);
        let left = Left::of(&known).with_filters(&Left::default(), &set);
        let found = [table(1), table(2), table(4)];
        let wanted = wanted(&[(1, "a > 1"), (2, "c"), (3, "d"), (4, "e"), (5, "f")]);
        let changed = |left: &Left, found: &[NamedTable], may_set: bool| {
            let changes = changes(left, &now, found, &wanted, may_set).into_iter();
            changes.map(|((oid, ..), filter)| (oid, filter)).collect::<Vec<_>>()
        };
        assert_eq!(changed(&left, &found, false), [(2, None)]);
        let filter = |text: &str| Some(text.to_owned());
        // The fifth is not published.
        assert_eq!(changed(&left, &found, true), [(2, None), (2, filter("c")), (3, filter("d"))]);
        // What was set is not known after a crash in between: the filter goes.
        let crashed = left.changing([1]);
        assert_eq!(changed(&crashed, &found, false), [(1, None), (2, None)]);
        assert_eq!(
            changed(&crashed, &found, true)[..3],
            [(1, None), (2, None), (1, filter("a > 1"))]
        );
    }
}
