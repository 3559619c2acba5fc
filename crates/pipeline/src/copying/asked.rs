//! Orders of people become plans.

use super::Shared;
use crate::capture::{Reading, Relation, capture};
use crate::chunk::asked::{CopyOrder, due, meant, outlived};
use crate::chunk::copy::Record;
use crate::chunk::key::key_names;
use crate::failure::Failure;
use kafka::meta::MetaRecord;
use postgres::Session;
use postgres::catalog::Candidate;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use tracing::{info, warn};

/// What a task captures by.
#[derive(Clone, Debug)]
pub struct Captured {
    pub partition_names: config::PartitionNames,
    /// The task's publication.
    pub publication: String,
}

/// The source as it is when orders are begun.
struct Found<'a> {
    session: &'a Session,
    candidates: Vec<Candidate>,
    readings: Vec<Reading>,
    /// OIDs of what the stream tells.
    published: Vec<u32>,
}

/// Why an order cannot be carried out.
struct Refused(String);

impl Shared {
    /// Until everything is copied and nothing more is asked for.
    pub(super) async fn over(&self) {
        self.until(|| self.is_done()).await;
    }

    /// Begins what is asked for, again and again.
    pub(super) async fn take_up(&self) -> Result<Infallible, Failure> {
        loop {
            self.until(|| self.looked.get() < self.wanted.get()).await;
            let wanted = self.wanted.get();
            self.begin_orders().await?;
            self.take_in()?;
            self.looked.set(wanted);
            self.changed.notify_waiters();
        }
    }

    async fn until(&self, is_so: impl Fn() -> bool) {
        loop {
            // What happens between the look and the wait must not be missed.
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if is_so() {
                return;
            }
            changed.await;
        }
    }

    /// The plans of all orders that are due come in one transaction: who reads one knows of those before it.
    async fn begin_orders(&self) -> Result<(), Failure> {
        let orders = due(&self.state.borrow().plans, &self.orders.borrow());
        let Some(newest) = orders.last().map(|it| it.number) else { return Ok(()) };
        let session = Session::connect(&self.settings).await?;
        let candidates = session.candidates().await?;
        let partition_names = self.source.partition_names;
        let source = config::Source { partition_names, ..config::Source::default() };
        let (version, revision) = (session.server().version, self.planner.newest());
        let readings = capture(&candidates, &revision.selection, version, &source).read;
        let publication = session.publication(&self.source.publication).await?;
        let published = publication.map(|it| it.tables).unwrap_or_default();
        let found = Found { session: &session, candidates, readings, published };
        let mut plans = BTreeMap::new();
        for order in orders {
            plans.extend(self.begun(&order, &found).await?);
        }
        let old = outlived(&self.state.borrow().plans, &self.orders.borrow(), newest);
        let mut records: Vec<MetaRecord> =
            old.iter().map(|name| MetaRecord::Plan { name: name.clone(), json: None }).collect();
        for (name, record) in plans {
            records.push(MetaRecord::Plan { name, json: Some(super::written(&record)?) });
        }
        self.meta.write(records.clone()).await?;
        let mut state = self.state.borrow_mut();
        for record in records {
            if let MetaRecord::Plan { name, json } = record {
                match json {
                    Some(json) => drop(state.plans.insert(name, json)),
                    None => {
                        drop(state.plans.remove(&name));
                        self.progress.tables(|it| it.forget(&name));
                    }
                }
            }
        }
        Ok(())
    }

    /// Plans of one order, by name.
    async fn begun(
        &self,
        order: &CopyOrder,
        found: &Found<'_>,
    ) -> Result<Vec<(String, Record)>, Failure> {
        let CopyOrder { number, snapshot, table, condition } = order;
        let asked = |record: Record| Record {
            asked: Some(*number),
            condition: (!condition.is_empty()).then(|| condition.clone()),
            ..record
        };
        let root = |oid| {
            let candidate = found.candidates.iter().find(|it| it.oid == oid)?;
            candidate.parent.as_ref().map(|(schema, name)| (schema.as_str(), name.as_str()))
        };
        let readings = meant(order, found.readings.clone(), root);
        if let Err(Refused(why)) = self.judge(order, &readings, found).await? {
            warn!(snapshot, table, why, "the table is not copied");
            let record = asked(Record::waiting("", table, true)).refused(why);
            return Ok(vec![(format!("{snapshot}/0"), record)]);
        }
        info!(snapshot, table, condition, "the table is to be copied again");
        let plan = |Reading { relation: Relation { oid, schema, name }, only, rows }: &Reading| {
            let record = Record { estimate: *rows, ..Record::waiting(schema, name, *only) };
            (format!("{snapshot}/{oid}"), asked(record))
        };
        Ok(readings.iter().map(plan).collect())
    }

    /// Whether an order can be carried out, as far as that can be told before.
    async fn judge(
        &self,
        order: &CopyOrder,
        readings: &[Reading],
        found: &Found<'_>,
    ) -> Result<Result<(), Refused>, Failure> {
        let refused = |why: &str| Ok(Err(Refused(why.to_owned())));
        if readings.is_empty() {
            return refused("the task captures no such table; see `distributary objects`");
        }
        let oids: Vec<u32> = readings.iter().map(|it| it.relation.oid).collect();
        if oids.iter().any(|oid| !found.published.contains(oid)) {
            return refused(
                "it is not in the task's publication, so its changes are not captured; `task reseed` takes it in",
            );
        }
        for table in found.session.tables(&oids).await? {
            let table = Arc::new(table);
            if key_names(&table).is_none() {
                return refused(
                    "it has no key that the stream tells, so its rows cannot be told apart; `task reseed` reads \
                     it again, with all others",
                );
            }
            let Some(plan) = self.planner.plan(&table).await?.newest().cloned() else {
                return refused("the task captures no such table; see `distributary objects`");
            };
            if !order.condition.is_empty()
                && let Err(error) = plan.narrowed(&order.condition)
            {
                return refused(&format!("the condition: {error}"));
            }
        }
        Ok(Ok(()))
    }
}
