//! Tells readers how tables look before the first row of each (product.md, P20): CREATE TABLE in the DDL topic, rebuilt from the
//! catalog, for tables that nobody has told of.
//!
//! Such a record has no place in the stream. All of one occasion are a chunk (delivery-protocol.md, section 9): a crash repeats it under the same
//! name, and lanes that hold it leave it out.

use super::begin::{microseconds_now, snapshot_id};
use super::events::Noted;
use super::{CLOSE_MAX, End, Task};
use crate::batch::Stated;
use crate::capture::{Reading, Relation};
use crate::chunk::asked::records;
use crate::failure::Failure;
use crate::front::Front;
use crate::snapshot::{Statements, Work};
use kafka::meta::MetaState;
use postgres::Session;
use record::inferred::{Inferred, created};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use tracing::info;
use wal::{Chunk, Lsn, Table, statement};

/// Whether readers are told.
pub(super) fn tells(spec: &config::Task) -> bool {
    spec.sync.tells_definitions(spec.source.ddl)
}

/// Which of the tables that are about to be taken in readers do not know. What was described before has been told of, and
/// where event triggers capture DDL, they have told of what was made since they are there. `infers`: there are none.
pub(super) async fn untold(
    session: &Session,
    helpers: &str,
    infers: bool,
    state: &RefCell<MetaState>,
    added: &[Relation],
) -> Result<Vec<u32>, Failure> {
    let is_described = |oid: &u32| state.borrow().tables.contains_key(oid);
    let mut oids: Vec<u32> = added.iter().map(|it| it.oid).filter(|it| !is_described(it)).collect();
    if !oids.is_empty() && !infers {
        // OIDs are given in their order, but for a wrap-around after 4 billion of them.
        let since = session.schema_oid(helpers).await?;
        oids.retain(|oid| since.is_none_or(|since| *oid < since));
    }
    Ok(oids)
}

impl Task {
    /// Tells of the tables of a snapshot that is about to begin at `consistent_point`.
    pub(super) async fn tell_read(
        &mut self,
        session: &Session,
        readings: &[Reading],
        id: &str,
        consistent_point: Lsn,
    ) -> Result<(), End> {
        if !tells(&self.spec) {
            return Ok(());
        }
        let tables = super::begin::tables(session, readings).await?;
        let lsn = Lsn(consistent_point.0.saturating_sub(1));
        self.tell_tables(session, &tables, id, lsn).await
    }

    /// Durable in every lane when it resolves. `id` and `lsn`: of the snapshot that follows.
    async fn tell_tables(
        &mut self,
        session: &Session,
        tables: &[Arc<Table>],
        id: &str,
        lsn: Lsn,
    ) -> Result<(), End> {
        let Some(statements) = self.statements(session, tables).await? else { return Ok(()) };
        let count = statements.stated.len();
        let front = self.snapshot_front(id, lsn, Work::Statements(statements));
        let told = self.until_durable(&front).await;
        front.retire(CLOSE_MAX).await;
        told?;
        // The next front numbers its batches anew.
        self.generation += 1;
        info!(tables = count, "readers know the tables");
        Ok(())
    }

    /// The same for tables that are about to be taken in. Where the revision ends lanes are sealed, and take nothing: who is not
    /// known is left to the next one.
    pub(super) async fn tell_added(
        &mut self,
        session: &Session,
        added: &mut Vec<Relation>,
    ) -> Result<(), End> {
        let oids = self.untold(session, added).await?;
        if oids.is_empty() {
            return Ok(());
        }
        if self.end.is_some() {
            added.retain(|it| !oids.contains(&it.oid));
            return Ok(());
        }
        let tables = shown(session, &oids).await?;
        let (id, end) = (snapshot_id(self.generation), session.wal_end().await?);
        self.tell_tables(session, &tables, &id, end).await
    }

    /// Which of these tables readers are to be told of first.
    pub(super) async fn untold(
        &self,
        session: &Session,
        added: &[Relation],
    ) -> Result<Vec<u32>, Failure> {
        if !tells(&self.spec) {
            return Ok(Vec::new());
        }
        untold(session, &self.slot_name, self.infers.get(), &self.state, added).await
    }

    /// The same as [`Self::tell_added`], for tables that a mark has taken in, while `front` streams.
    pub(super) async fn tell_marked(
        &mut self,
        session: &Session,
        front: &Front,
        oids: &[u32],
    ) -> Result<(), End> {
        let tables = shown(session, oids).await?;
        let Some(statements) = self.statements(session, &tables).await? else { return Ok(()) };
        let (id, end) = (snapshot_id(self.generation).into(), session.wal_end().await?);
        let batch = statements.batch(&id, end, microseconds_now())?;
        let plans = statements.stated.iter().map(|it| it.plans.newest().cloned()).collect();
        let credit = self.budget.take(batch.bytes.len()).await;
        let seq = front.tell(batch, plans, credit).await?;
        loop {
            if let Noted::Advanced(advanced) = self.next(Some(front)).await? {
                self.settled(advanced.seq);
                self.progress.advanced(advanced.watermark);
                if seq <= advanced.seq {
                    break;
                }
            }
        }
        info!(tables = statements.stated.len(), "readers know the tables");
        Ok(())
    }

    /// What makes these tables; `None`: nothing is to be told.
    async fn statements(
        &self,
        session: &Session,
        tables: &[Arc<Table>],
    ) -> Result<Option<Statements>, Failure> {
        // Leaves that are read one by one go by the name of their root.
        let mut names = BTreeSet::new();
        // Who repeats it finds the lanes that hold it.
        let name = format!("tables/{:016x}", digest(tables.iter().map(|it| it.oid)));
        let named = tables.iter().filter(|it| names.insert((&*it.schema, &*it.name)));
        let named: Vec<&Arc<Table>> = named.collect();
        let columns: Vec<_> = named.iter().flat_map(|it| &it.columns).collect();
        let mut types = session.type_names(&columns).await?.into_iter();
        let statement = |(number, table): (u32, &&Arc<Table>)| {
            let types: Vec<String> = types.by_ref().take(table.columns.len()).collect();
            let Inferred { changed, tuple } = created(table, &types);
            Some((Arc::new(statement::inferred(&changed, number)?), tuple))
        };
        let (tables, tuples): (Vec<Arc<Table>>, Vec<_>) =
            (0..).zip(&named).filter_map(statement).unzip();
        // Their topics are made together.
        self.planner.plan_all(&tables).await?;
        let mut stated = Vec::with_capacity(tables.len());
        for (table, tuple) in tables.into_iter().zip(tuples) {
            let plans = self.planner.plan(&table).await?;
            if plans.newest().is_some() {
                stated.push(Stated { table, plans, tuple });
            }
        }
        if stated.is_empty() {
            return Ok(None);
        }
        let chunk = Arc::new(Chunk { open: self.open_beside(&name), name });
        Ok(Some(Statements { stated, chunk }))
    }

    /// Chunks that may not be durable in every lane, this one among them: of others lanes forget what they hold.
    fn open_beside(&self, name: &str) -> Vec<String> {
        let state = self.state.borrow();
        let open = records(&state.plans).flat_map(|(plan, record)| {
            record.chunks.keys().map(|number| format!("{plan}/{number}")).collect::<Vec<_>>()
        });
        open.chain([name.to_owned()]).collect()
    }
}

/// What the stream tells by these names.
async fn shown(session: &Session, oids: &[u32]) -> Result<Vec<Arc<Table>>, Failure> {
    let tables = session.tables_present(oids).await?;
    Ok(tables.into_iter().filter(|it| !session.goes_by_root(it)).map(Arc::new).collect())
}

/// The same of the same tables (FNV-1a).
fn digest(oids: impl Iterator<Item = u32>) -> u64 {
    let mut oids: Vec<u32> = oids.collect();
    oids.sort_unstable();
    let bytes = oids.iter().flat_map(|it| it.to_be_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
