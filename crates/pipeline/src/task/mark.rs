//! A changed spec that needs no seal comes into force by a mark (delivery-protocol.md, section 8).
//!
//! Order: what it needs is there (topics, pins, plans); the position is chosen, which nothing routed has reached, and
//! what commits from there on is held; the mark is recorded; what is held goes on by the new revision. A crash before
//! the record leaves the old revision, one after it finds both.

use super::begin::{captured, planned, snapshot_id, tables};
use super::revision::Next;
use super::row_filters::Filters;
use super::tables::Taken;
use super::{End, Task};
use crate::batch::{MarkReached, Marked};
use crate::capture::{Capture, Reading, Relation};
use crate::chunk::key::key_names;
use crate::failure::Failure;
use crate::front::Front;
use crate::upstream::limits;
use crate::{planner, snapshot};
use config::Shape;
use kafka::meta::MetaRecord;
use postgres::Session;
use std::rc::Rc;
use std::sync::Arc;
use tracing::{info, warn};
use wal::Lsn;

/// How the publication was changed for a mark.
struct Widened {
    /// Relations that it has from now on.
    added: Vec<u32>,
    /// It still has some that the mark takes out.
    removed: bool,
}

impl Task {
    /// Takes up a spec that was changed while the task runs.
    pub(super) fn take_spec(&mut self, front: Option<&Front>) -> bool {
        // It may have come after the last news of the hosts.
        self.heed(front);
        let Some(spec) = self.hosts.spec().filter(|it| !Arc::ptr_eq(it, &self.wanted)) else {
            return false;
        };
        let recorded = self.state.borrow().revision.as_ref().map(|it| it.newest().1.clone());
        let before = recorded.unwrap_or_else(|| self.present.spec.shape());
        self.present.next = Next::new(&before, spec.shape());
        if let Some(next) = &self.present.next {
            let changed = before.differences(next.shape()).join(", ");
            info!(revision = self.present.newest(), changed, "the spec has changed");
        }
        self.spec = Arc::new(spec.shaped(&self.spec.shape()));
        self.wanted = spec;
        true
    }

    /// What no record depends on holds at once, whatever the task does now: how fast it reads, and how long it tries.
    pub(super) fn heed(&mut self, front: Option<&Front>) {
        let Some(newest) = self.hosts.spec() else { return };
        self.renew_lanes(&newest);
        if newest.throttle == self.spec.throttle && newest.retry == self.spec.retry {
            return;
        }
        let (throttle, retry) = (newest.throttle, newest.retry);
        info!(?throttle, ?retry, "other limits and retry windows hold");
        self.spec = Arc::new(config::Task { throttle, retry, ..config::Task::clone(&self.spec) });
        self.turns.set(throttle.snapshot.into());
        self.retries.follow(&retry);
        self.lanes.follow(self.retries.policy);
        if let Some(front) = front {
            front.limit(limits(&throttle));
        }
    }

    /// Puts in force what was changed while `front` streams.
    pub(super) async fn modify(&mut self, session: &Session, front: &Front) -> Result<(), End> {
        let is_new = self.take_spec(Some(front));
        let is_due = matches!(self.present.next, Some(Next::Mark(_))) && !self.has_to_copy();
        if is_new || is_due { self.mark(session, Some(front)).await } else { Ok(()) }
    }

    /// Puts the changed spec in force from a position on that the stream has not reached, while `front` streams or
    /// before one does. Waits while tables are copied: their chunks are of one revision.
    pub(super) async fn mark(
        &mut self,
        session: &Session,
        front: Option<&Front>,
    ) -> Result<(), End> {
        let shape = match self.present.next.clone() {
            Some(Next::Mark(shape)) if !self.has_to_copy() => shape,
            Some(Next::Mark(_)) => {
                info!("the changed spec waits until every table is copied");
                return Ok(self.certain().await?);
            }
            Some(Next::Seal(_)) => return Ok(self.certain().await?),
            None => {
                self.certain().await?;
                self.tell_in_force();
                return Ok(());
            }
        };
        // Whoever looks after tables leaves those to this that readers do not know.
        self.telling.set(true);
        let marked = self.prepare_and_record(session, front, shape).await;
        // What is not recorded is not planned by. Whether it is recorded is made sure of before anything is routed.
        self.planner.keep(|number| self.present.marks.iter().any(|mark| mark.number == number));
        let taken = match marked {
            Ok(untold) => self.take_in_untold(session, front, &untold).await,
            Err(failure) => Err(failure.into()),
        };
        self.telling.set(false);
        taken?;
        self.tell_in_force();
        Ok(())
    }

    /// Says that the newest spec is in force, once it is: no mark and no lane is awaited.
    pub(super) fn tell_in_force(&self) {
        if self.present.next.is_none() && self.lanes.are_renewed() {
            self.hosts.took(&self.wanted);
        }
    }

    /// Lets the lanes write as a changed spec says. Where the revision ends anyway, the next one begins so.
    fn renew_lanes(&mut self, newest: &config::Task) {
        let spec = self.spec.producing_as(newest);
        if self.end.is_some() || spec == *self.spec {
            return;
        }
        info!("the spec has changed: lanes write as it says, one after the other");
        self.kafka = self.kafka.producing_as(&spec.sink);
        self.lanes.renew(self.kafka.clone(), &spec);
        self.spec = Arc::new(spec);
    }

    /// Gives the tables that readers do not know: these are not published yet.
    async fn prepare_and_record(
        &mut self,
        session: &Session,
        front: Option<&Front>,
        shape: Shape,
    ) -> Result<Vec<u32>, Failure> {
        let number = self.present.newest() + 1;
        let spec = Arc::new(self.spec.shaped(&shape));
        let mask_key = planner::mask_key(&spec, &self.options.folder)?;
        let marked = Arc::new(Marked { number, shape: shape.clone() });
        let revision = self.planner.revision(Arc::clone(&marked), Arc::clone(&spec), mask_key)?;
        let revision = Rc::new(revision);
        // What cannot be carried out must not come into force.
        let mut capture = captured(session, &revision.selection, &spec, &self.progress).await?;
        let published = session.publication(&self.slot_name).await?.unwrap_or_default();
        self.withhold(&mut capture, &published.tables.into_iter().collect());
        let untold = self.untold_by(session, &capture).await?;
        let is_told = |oid: &u32| !untold.contains(oid);
        let readings = std::mem::take(&mut capture.read).into_iter();
        let (read, later): (Vec<_>, Vec<_>) = readings.partition(|it| is_told(&it.relation.oid));
        self.planner.plan_under(&revision, &tables(session, &read).await?).await?;
        self.planner.check_under(&revision, &tables(session, &later).await?)?;
        capture.publish.retain(|it| is_told(&it.oid));
        capture.read = read;
        let changed = self.widen(session, &capture).await?;
        let filters = self.row_filters(session, &revision, &capture.publish).await?;
        self.tables().change_row_filters(session, &filters, false).await?;
        // Tables that come from here on are planned under it, too.
        self.planner.add(Rc::clone(&revision));
        let copies = self.copies(session, &capture, &changed.added).await?;
        let end = session.wal_end().await?;
        match front {
            None => self.record_mark(end, shape, copies).await?,
            Some(front) => {
                let held = front.hold(end).await?;
                let plans = self.planner.plan_under(&revision, &held.tables).await?;
                self.record_mark(held.at, shape, copies).await?;
                let plans = std::iter::zip(held.tables, plans).collect();
                front.reached(MarkReached { at: held.at, marked, plans });
                self.copy_beside(front)?;
            }
        }
        self.follow(session, &capture, changed.removed, &filters).await;
        self.tables().note_publication(session).await?;
        Ok(untold)
    }

    /// Tables of a capture that are not published, and that readers do not know.
    async fn untold_by(&self, session: &Session, capture: &Capture) -> Result<Vec<u32>, Failure> {
        let publication = session.publication(&self.slot_name).await?.unwrap_or_default();
        let is_new = |it: &&Relation| !publication.tables.contains(&it.oid);
        let added: Vec<Relation> = capture.publish.iter().filter(is_new).cloned().collect();
        self.untold(session, &added).await
    }

    /// Tells readers of tables that the mark has brought, then takes them in as any that come while the task runs.
    async fn take_in_untold(
        &mut self,
        session: &Session,
        front: Option<&Front>,
        untold: &[u32],
    ) -> Result<(), End> {
        if untold.is_empty() {
            return Ok(());
        }
        let capture = self.capture(session).await?;
        let Some(front) = front else {
            let published = session.publication(&self.slot_name).await?.unwrap_or_default();
            return self.take_in(session, capture, published.tables.into_iter().collect()).await;
        };
        self.tell_marked(session, front, untold).await?;
        // Before they are published: what is dropped right after has changes in the stream, which need its key.
        self.descriptions().note_missing(session, untold).await?;
        let (tables, readings) = (self.tables(), capture.readings());
        for relation in capture.publish.iter().filter(|it| untold.contains(&it.oid)) {
            let reading = readings.get(&relation.oid).copied();
            match tables.take_in(session, relation, reading, &capture).await? {
                Taken::Copying | Taken::Streaming => {
                    if let Some(known) = &mut *self.known.borrow_mut() {
                        known.insert(relation.oid);
                    }
                }
                // The next look does it.
                Taken::Busy | Taken::Refused => {}
            }
        }
        Ok(self.copy_beside(front)?)
    }

    /// Publishes what is to be captured, beside what was: what commits before the mark is captured as before.
    async fn widen(&self, session: &Session, wanted: &Capture) -> Result<Widened, Failure> {
        let publication = session.publication(&self.slot_name).await?.unwrap_or_default();
        let is_in = |it: &Relation| publication.tables.contains(&it.oid);
        let is_wanted = |it: &Relation| wanted.publish.iter().any(|one| one.oid == it.oid);
        let added: Vec<u32> =
            wanted.publish.iter().filter(|it| !is_in(it)).map(|it| it.oid).collect();
        let before = self.capture(session).await?.publish;
        let kept: Vec<_> = before.into_iter().filter(|it| is_in(it) && !is_wanted(it)).collect();
        let removed = !kept.is_empty();
        if !added.is_empty() {
            let publish = wanted.publish.iter().cloned().chain(kept).collect();
            let both = Capture { publish, ..wanted.clone() };
            let helper = self.ensure_ddl(session).await?;
            self.publish(session, &both, helper).await?;
        }
        Ok(Widened { added, removed })
    }

    /// Tables that are made from now on are taken in by the new objects, and what is not captured any more need not be
    /// sent. Neither may fail the mark: the look after tables takes in what is missed, and what is sent in vain is left out.
    async fn follow(&self, session: &Session, wanted: &Capture, removed: bool, filters: &Filters) {
        let followed = async {
            let helper = self.ensure_ddl(session).await?;
            if removed {
                self.publish(session, wanted, helper).await?;
            }
            self.tables().change_row_filters(session, filters, true).await
        };
        if let Err(failure) = followed.await {
            warn!(cause = %failure.cause, "the publication does not follow the changed spec yet");
        }
    }

    /// What the meta lane is to hold of tables that are captured from now on, and are copied for that.
    async fn copies(
        &self,
        session: &Session,
        wanted: &Capture,
        added: &[u32],
    ) -> Result<Vec<(String, String)>, Failure> {
        if !self.wanted.sync.snapshot || added.is_empty() {
            return Ok(Vec::new());
        }
        let is_added = |it: &&Reading| added.contains(&it.relation.oid);
        let readings = wanted.read.iter().filter(is_added).cloned().collect();
        let sources = self.sources(session, readings).await?;
        let (keyed, keyless): (Vec<_>, Vec<_>) =
            sources.into_iter().partition(|it| key_names(&it.table).is_some());
        for snapshot::Source { table, .. } in keyless {
            warn!(
                schema = %table.schema,
                table = %table.name,
                "the table has no key, so it is captured from here on without the rows that it holds; \
                 run with --reseed to copy them"
            );
        }
        planned(&keyed, &snapshot_id(self.generation))
    }

    /// From here on a crash finds it, and what is to be copied.
    async fn record_mark(
        &mut self,
        at: Lsn,
        shape: Shape,
        copies: Vec<(String, String)>,
    ) -> Result<(), Failure> {
        let Some(before) = self.state.borrow().revision.clone() else {
            return Err(Failure::fatal("the task has no revision that a mark could follow"));
        };
        let passed = self.watermark_lsn().unwrap_or(Lsn::ZERO);
        let recorded = before.passed(passed).marked(at, shape);
        let mut span = self.revision_span("revision.mark", self.present.newest() + 1, at);
        self.in_doubt = true;
        let mut records = vec![MetaRecord::Revision(Box::new(recorded.clone()))];
        records.extend(
            copies.iter().cloned().map(|(name, json)| MetaRecord::Plan { name, json: Some(json) }),
        );
        let written = self.meta.write(records).await;
        span.note(&written);
        written?;
        self.in_doubt = false;
        self.state.borrow_mut().plans.extend(copies);
        // Of an older line of WAL there may be one beyond.
        self.present.marks.retain(|mark| mark.at < at);
        self.present.marks.extend(recorded.marks.last().cloned());
        self.present.next = None;
        let number = self.present.newest();
        info!(revision = number, lsn = %at, "mark recorded, the spec is in force from there on");
        self.state.borrow_mut().revision = Some(recorded);
        Ok(())
    }

    /// Whether a mark was recorded is not known: it must not be, since nothing goes by it.
    async fn certain(&mut self) -> Result<(), Failure> {
        if !self.in_doubt {
            return Ok(());
        }
        let revision = self.state.borrow().revision.clone();
        let record = revision.map(|it| MetaRecord::Revision(Box::new(it)));
        self.meta.write(record.into_iter().collect()).await?;
        self.in_doubt = false;
        Ok(())
    }

    /// Marks that are recorded, as the router takes them.
    pub(super) fn marks(&self) -> Vec<(Lsn, Arc<Marked>)> {
        self.present.marks.iter().map(|mark| (mark.at, Arc::new(mark.into()))).collect()
    }
}
