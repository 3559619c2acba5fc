//! Where a life of the front begins: the stream's position, after the snapshot if there is none yet.

use super::revision::Next;
use super::row_filters::Filters;
use super::tables::{self, Taken};
use super::{End, SlotHost, Task, events::Noted};
use crate::capture::{Capture, Reading, Relation, capture_settled, seen};
use crate::chunk::copy::Record;
use crate::chunk::key::key_names;
use crate::copying::written;
use crate::failure::Failure;
use crate::front::Front;
use crate::lineage;
use crate::planner::Planner;
use crate::progress::Progress;
use crate::snapshot::{self, Holder, Portion, Work};
use crate::start::{
    Captured, Facts, Parted, Server, Slot, SnapshotProgress, Start, decide, taken_out,
};
use crate::tables::Oids;
use config::{BesideStream, IdentityPolicy};
use futures_util::future;
use kafka::meta::{Gap, MetaRecord, Revision, SnapshotState, Switch, Watermark};
use kafka::topics::Admin;
use postgres::ddl::{self, Means, Rights, Taking};
use postgres::replication::{CreatedSlot, Line, Replication, wants_failover};
use postgres::snapshot::{Readable, SnapshotReader};
use postgres::standby;
use postgres::{Session, Sizes};
use record::selection::Selection;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};
use tracing::{info, warn};
use wal::{Lsn, Table, statement};

/// Tables of at least so many bytes are copied beside the stream: what is smaller is read faster before it.
const BESIDE_BYTES_MIN: u64 = 256 << 20;
/// Seconds from 1970 to PostgreSQL's epoch, 2000-01-01.
const POSTGRES_EPOCH_S: u64 = 946_684_800;

impl Task {
    /// Connects, decides, and prepares what the decision needs. Returns the session of this life and
    /// where its stream starts.
    pub(super) async fn begin(&mut self) -> Result<(Rc<Session>, Lsn), End> {
        if 1 < self.generation {
            // An idle task is told nothing: before it ends somebody's walsender, or parks for what
            // its successor did, it asks whether it still owns the task.
            let newest = self.still_ours().await?;
            let mut state = self.state.borrow_mut();
            state.watermark = newest.or(state.watermark.take());
        }
        let session = match self.session.take() {
            Some(session) => session,
            None => Session::connect(&self.postgres).await?,
        };
        let session = Rc::new(session);
        if self.generation == 1 {
            crate::tail::drop_left(&session, &self.slot_name).await;
        }
        self.find_slot_host(&session).await?;
        self.history = self.history(&session).await?;
        if 1 < self.generation && self.is_on_another_line(&session) {
            // An older front may have left them work of a line that is about to be judged: nothing
            // of it may be committed after that.
            info!(timeline = session.server().timeline, "new timeline, lanes are opened again");
            let is_open = |lane: &u8| !self.sealed.contains(lane);
            (0..self.lanes.count()).filter(is_open).for_each(|lane| self.lanes.reopen(lane));
            self.lanes_open().await?;
        }
        self.take_spec(None);
        if let Some(Next::Seal(next)) = &self.present.next
            && self.end.is_none()
            && !self.has_open_chunks()
        {
            self.can_be_planned(&session, next).await?;
            // The next revision sets its own, from where it begins on.
            self.tables().change_row_filters(&session, &Filters::new(), false).await?;
            // Everything that a lane may hold already commits before this.
            self.end = Some(session.wal_end().await?);
        }
        if self.options.until_caught_up && self.target.is_none() {
            self.target = Some(session.wal_end().await?);
        }
        let from = match self.decide(&session).await? {
            Start::Park { cause, remedy } => {
                return Err(End::Outcome(super::Outcome::Parked { cause, remedy }));
            }
            Start::Accept { cause } => {
                warn!(cause, "the divergence is accepted, as `source.on_divergence` says");
                // Before any lane begins anew: a crash in between must not be judged by what is left.
                self.note_accepted(&session).await?;
                (self.options.reseed, self.options.accept_gap) = (true, true);
                return Err(End::Anew);
            }
            Start::Fresh { drop_slot, again } => {
                if drop_slot {
                    self.drop_slot(&session).await?;
                }
                self.fresh(&session, again).await?
            }
            Start::Resume { from } => {
                if self.spec.sync.incremental {
                    self.resume(&session).await?;
                    self.note_revision().await?;
                    self.note_line(&session).await?;
                    self.mark(&session, None).await?;
                    if self.present.next.is_none() && self.end.is_none() {
                        self.filter_rows(&session).await?;
                    }
                }
                self.resume_at(from)
            }
        };
        Ok((session, from))
    }

    /// Where the slot is: on the read-write host, or on a standby, promoted or not.
    async fn find_slot_host(&mut self, session: &Rc<Session>) -> Result<(), Failure> {
        self.slot_host = SlotHost::default();
        if !self.postgres.reads_standby() {
            return Ok(());
        }
        let found = Session::connect_slot(&self.postgres).await?;
        let (one, other) = (session.server(), found.server());
        if one.system_id != other.system_id {
            return Err(Failure::transient(format!(
                "{} is no standby of {}: their system identifiers differ; correct source.hosts",
                other.host, one.host
            )));
        }
        let is_standby = found.is_standby().await?;
        info!(host = other.host, standby = is_standby, "the slot's host is found");
        self.slot_host = SlotHost { session: Some(Rc::new(found)), is_standby };
        Ok(())
    }

    /// The session at the host of the slot.
    pub(super) fn at_slot<'a>(&'a self, session: &'a Session) -> &'a Session {
        self.slot_host.session.as_deref().unwrap_or(session)
    }

    /// A slot that is made on a standby sees the publication only where it begins after it.
    async fn await_standby(&self, session: &Session) -> Result<(), Failure> {
        if !self.postgres.reads_standby() {
            return Ok(());
        }
        if !self.slot_host.is_standby {
            let hosts = self.spec.source.hosts.join(", ");
            return Err(postgres::Error::NoStandby { hosts }.into());
        }
        let end = session.wal_end().await?;
        Ok(self.at_slot(session).await_replayed(end).await?)
    }

    /// A standby's own slot cannot be copied to others.
    fn wants_failover(&self, session: &Session) -> bool {
        let wanted = self.spec.source.slot_failover;
        !self.slot_host.is_standby && wants_failover(wanted, session.server().version)
    }

    /// What commits before all streams had their slots is of none of them.
    fn resume_at(&self, from: Lsn) -> Lsn {
        if self.spec.stream == 0 {
            return from;
        }
        let begun = self.state.borrow().snapshot.as_ref().map_or(from, |snapshot| snapshot.lsn);
        self.beside.begins(begun);
        from.max(begun)
    }

    /// Whether the server has been promoted, or replaced, since the low watermark was written.
    fn is_on_another_line(&self, session: &Session) -> bool {
        let state = self.state.borrow();
        let is_another = |it: &Watermark| {
            it.system_id != session.server().system_id || self.parted(session, it) != Parted::Never
        };
        state.watermark.as_ref().is_some_and(is_another)
    }

    /// A crash from here on must not be judged by the line before: lanes will hold what only the new
    /// one has.
    async fn note_line(&self, session: &Session) -> Result<(), Failure> {
        if !self.is_on_another_line(session) {
            return Ok(());
        }
        let Some(before) = self.state.borrow().watermark.clone() else { return Ok(()) };
        let Line { system_id, timeline } = session.server().line();
        info!(timeline, before = before.timeline, lsn = %before.lsn, "the new timeline has all of it");
        let lanes = self.lane_positions();
        let history = self.told_history();
        let standby = self.slot_host.is_standby;
        let watermark = Watermark { system_id, timeline, lanes, history, standby, ..before };
        self.meta.write(vec![MetaRecord::Watermark(watermark.clone())]).await?;
        self.state.borrow_mut().watermark = Some(watermark);
        Ok(())
    }

    /// Where the server's line left that of the low watermark. Of another system its identifier tells.
    fn parted(&self, session: &Session, watermark: &Watermark) -> Parted {
        let Line { system_id, timeline } = session.server().line();
        if system_id != watermark.system_id {
            return Parted::Never;
        }
        lineage::parted(watermark, timeline, self.history.as_deref())
    }

    /// Where the server's line left the older ones. `None`: the server has lost the file.
    async fn history(&self, session: &Session) -> Result<Option<Vec<Switch>>, Failure> {
        let now = session.server().line();
        if now.timeline == 1 {
            return Ok(Some(Vec::new()));
        }
        let mut replication = Replication::connect(&self.postgres).await?;
        let found = replication.identify().await?;
        if (Line { system_id: found.system_id, timeline: found.timeline }) != now {
            return Err(postgres::Error::ServerChanged { timeline: found.timeline }.into());
        }
        let history = replication.timeline_history(now.timeline).await?;
        let switch = |&(timeline, lsn): &(u32, Lsn)| Switch { timeline, lsn };
        Ok(history.map(|it| it.switches().iter().map(switch).collect()))
    }

    /// What a low watermark carries of it.
    pub(super) fn told_history(&self) -> Vec<Switch> {
        lineage::newest(self.history.clone().unwrap_or_default())
    }

    async fn decide(&self, session: &Session) -> Result<Start, Failure> {
        let slot = self.at_slot(session).slot(&self.slot_name).await?;
        let state = self.state.borrow().clone();
        let snapshot = match &state.snapshot {
            None => SnapshotProgress::None,
            Some(SnapshotState { done: false, gap: None, .. }) => SnapshotProgress::Running,
            Some(SnapshotState { done: false, gap: Some(_), .. }) => SnapshotProgress::Accepting,
            Some(SnapshotState { done: true, .. }) => SnapshotProgress::Done,
        };
        if snapshot == SnapshotProgress::Done && !self.spec.sync.incremental && !self.options.reseed
        {
            let from = state.watermark.map_or(Lsn::ZERO, |watermark| watermark.lsn);
            return Ok(Start::Resume { from });
        }
        let expiry = match slot {
            Some(_) => None,
            None => crate::slots::expiry(session, &self.slot_name).await?,
        };
        let server = session.server();
        let lanes = self.lane_positions();
        let end = session.wal_end().await?;
        let parted = match &state.watermark {
            Some(watermark) if !self.options.reseed => {
                let parted = self.parted(session, watermark);
                // A promoted standby has all that has come through its slot.
                let has_all = watermark.standby && slot.is_some();
                if has_all && matches!(parted, Parted::At(_)) { Parted::Never } else { parted }
            }
            Some(_) | None => Parted::Never,
        };
        Ok(decide(&Facts {
            task: &self.spec.task,
            slot_name: &self.slot_name,
            snapshot,
            watermark: state.watermark,
            lanes,
            slot: slot.map(|slot| Slot {
                confirmed_flush: slot.confirmed_flush,
                lost: slot.lost,
                conflicting: slot.conflicting,
            }),
            expiry,
            server: Server { system_id: server.system_id, timeline: server.timeline, end, parted },
            reseed: self.options.reseed,
            on_divergence: self.spec.source.on_divergence,
        }))
    }

    /// What cannot be carried out must not come into force: no later spec could take its place, because
    /// it would have to be carried out until there.
    async fn can_be_planned(&self, session: &Session, next: &config::Shape) -> Result<(), Failure> {
        self.present.spec.shape().keeps_formats_apart(next).map_err(Failure::fatal)?;
        let spec = Arc::new(self.spec.shaped(next));
        let (kafka, meta, pins) = (self.kafka.clone(), self.meta.clone(), self.planner.pins());
        let version = session.server().version;
        let mask_key = crate::planner::mask_key(&spec, &self.options.folder)?;
        let planner = Planner::new(Arc::clone(&spec), kafka, meta, pins, version, mask_key)?;
        let newest = planner.newest();
        let captured = captured(session, &newest.selection, &spec, &self.progress).await?;
        let readings = captured.read;
        planner.plan_all(&tables(session, &readings).await?).await?;
        Ok(())
    }

    /// A task of an earlier release did not write its revision down.
    async fn note_revision(&self) -> Result<(), Failure> {
        if self.state.borrow().revision.is_some() {
            return Ok(());
        }
        self.note_as_revision(self.present.record(Lsn::ZERO), Vec::new()).await
    }

    /// The record of a revision, and what is written with it.
    async fn note_as_revision(
        &self,
        revision: Revision,
        others: Vec<MetaRecord>,
    ) -> Result<(), Failure> {
        let mut records = vec![MetaRecord::Revision(Box::new(revision.clone()))];
        records.extend(others);
        self.meta.write(records).await?;
        self.state.borrow_mut().revision = Some(revision);
        Ok(())
    }

    /// Nobody else may hold it, and it is on standbys or not as the spec says.
    async fn resume_slot(&self, session: &Session) -> Result<(), Failure> {
        let at_slot = self.at_slot(session);
        let slot = at_slot.slot(&self.slot_name).await?;
        if slot.as_ref().is_some_and(|slot| slot.active_pid.is_some()) {
            let application = self.postgres.application_name();
            at_slot.end_stale_walsender(&self.slot_name, application).await?;
        }
        let failover = self.wants_failover(session);
        if slot.is_some_and(|slot| slot.failover != failover) {
            let mut replication = Replication::connect(&self.postgres).await?;
            replication.set_failover(&self.slot_name, failover).await?;
            info!(slot = self.slot_name, failover, "replication slot changed");
        }
        Ok(())
    }

    /// The slot goes on, and nothing may be missing from the publication.
    async fn resume(&mut self, session: &Session) -> Result<(), End> {
        let kafka = self.kafka.clone();
        let admin = tokio::task::spawn_blocking(move || Admin::connected(&kafka));
        self.resume_slot(session).await?;
        // Server fact 3: newer servers only warn of a missing publication, and skip its rows.
        let Some(publication) = session.publication(&self.slot_name).await? else {
            return Err(Failure::fatal(format!(
                "publication `{}` is gone: changes since then were not published; find out who \
                 dropped it, then run with --reseed",
                self.slot_name
            ))
            .into());
        };
        let published: Oids = publication.tables.iter().copied().collect();
        let lost = self.ddl_lost(session).await?;
        if let Some((oid, schema, name)) = self.ensure_ddl(session).await?
            && !published.contains(&oid)
        {
            session.add_to_publication(&self.slot_name, &schema, &name).await?;
        }
        if let Some((means, why)) = lost {
            self.mark_ddl_gap(session, means, &why).await?;
            if self.target.is_some() {
                self.target = Some(session.wal_end().await?);
            }
        }
        let capture = self.capture(session).await?;
        let is_in = |relation: &Relation| published.contains(&relation.oid);
        // Leaves under another name than their own have no topic here.
        let topic =
            |it: &Relation| Ok(self.planner.topic(&it.schema, &it.name)?.unwrap_or_default());
        let topics: Vec<String> =
            capture.publish.iter().map(topic).collect::<Result<_, Failure>>()?;
        let found: Vec<_> = std::iter::zip(&topics, &capture.publish)
            .map(|(topic, relation)| Captured { topic, in_publication: is_in(relation) })
            .collect();
        let mut pins = self.planner.pins();
        let known = self.known.borrow().clone();
        let out = match &known {
            // What was made again while this run looks after tables is another one.
            Some(known) => {
                let is_out = |it: &&Relation| !is_in(it) && known.contains(&it.oid);
                capture.publish.iter().find(is_out)
            }
            None => taken_out(&found, &pins).first().map(|&first| &capture.publish[first]),
        };
        if let Some(relation) = out {
            return Err(tables::taken(relation, &self.slot_name).into());
        }
        if let Some(failure) = self.tables().altered(&publication, &capture) {
            return Err(failure.into());
        }
        self.take_in(session, capture, published).await?;
        // Topics of tables that are captured no more may go with them.
        let topics: BTreeSet<String> = topics.into_iter().collect();
        pins.retain(|topic, _| topics.contains(topic));
        let admin = admin.await??;
        let may_grow = self.spec.sink.new_partitions != config::NewPartitions::Park;
        Ok(tokio::task::spawn_blocking(move || admin.verify_pins(&pins, may_grow)).await??)
    }

    /// Tables that have come while nobody looked. Who is busy is taken in while the stream runs.
    pub(super) async fn take_in(
        &mut self,
        session: &Session,
        mut capture: Capture,
        published: Oids,
    ) -> Result<(), End> {
        self.withhold(&mut capture, &published);
        let (mut known, readings) = (published.clone(), capture.readings());
        let is_new = |it: &&Relation| !published.contains(&it.oid);
        let mut added: Vec<Relation> = capture.publish.iter().filter(is_new).cloned().collect();
        self.tell_added(session, &mut added).await?;
        let covered: Oids = added.iter().map(|it| it.oid).chain(published).collect();
        // Before they are published: what is dropped right after has changes in the stream, which need its key.
        let described: Vec<u32> =
            oids(&capture).into_iter().filter(|oid| covered.contains(oid)).collect();
        self.descriptions().note_missing(session, &described).await?;
        let tables = self.tables();
        for relation in &added {
            let reading = readings.get(&relation.oid).copied();
            match tables.take_in(session, relation, reading, &capture).await? {
                Taken::Copying | Taken::Streaming => drop(known.insert(relation.oid)),
                Taken::Busy | Taken::Refused => {}
            }
        }
        *self.known.borrow_mut() = Some(known);
        Ok(tables.note_publication(session).await?)
    }

    /// What somebody has done to the helper objects while nobody looked. Where the role cannot make them they may never have
    /// been there, unless this run has seen them.
    async fn ddl_lost(&self, session: &Session) -> Result<Option<(Means, String)>, Failure> {
        let version = session.server().version;
        let wanted = ddl::means(&self.spec.source, version)?;
        let Some(means) = wanted.filter(|_| self.spec.sync.incremental) else { return Ok(None) };
        if self.infers.get() {
            return Ok(None);
        }
        let lost = session.ddl_lost(&self.slot_name, means).await?;
        let is_new = self.generation == 1
            && lost.is_some()
            && session.ddl_rights(&self.slot_name, means).await? == Rights::Missing
            && session.schema_oid(&self.slot_name).await?.is_none();
        Ok(lost.filter(|_| !is_new).map(|why| (means, why)))
    }

    /// A record of the DDL topic says that statements may be missing; where it cannot be written, the log and the alert do.
    async fn mark_ddl_gap(
        &self,
        session: &Session,
        means: Means,
        why: &str,
    ) -> Result<(), Failure> {
        let cause = format!("{why}: DDL statements since then may not have been captured");
        let content = serde_json::json!({ "gap": cause }).to_string();
        match session.mark_ddl_gap(&self.slot_name, means, &content).await {
            Ok(()) => warn!(cause, captured_again = !self.infers.get(), "DDL may be missing"),
            Err(error) if error.is_connection() => return Err(error.into()),
            Err(error) => {
                self.progress.ddl_gaps.fetch_add(1, Relaxed);
                warn!(cause, %error, "DDL may be missing, and no record of the DDL topic says so");
            }
        }
        Ok(())
    }

    /// Makes the helper objects of DDL capture. Returns the table among them that must be published.
    pub(super) async fn ensure_ddl(
        &self,
        session: &Session,
    ) -> Result<Option<(u32, String, String)>, Failure> {
        let schema = &self.slot_name;
        let means = ddl::means(&self.spec.source, session.server().version)?;
        self.infers.set(false);
        let Some(means) = means.filter(|_| self.spec.sync.incremental) else {
            session.drop_ddl_capture(schema).await?;
            return Ok(None);
        };
        let names = self.spec.source.partition_names;
        let (newest, publications) = (self.planner.newest(), self.spec.slots());
        let taking = Taking {
            publications: &publications,
            selection: &newest.selection,
            via_root: crate::capture::via_root(session.server().version, names),
            full: self.spec.source.replica_identity == IdentityPolicy::Full,
        };
        let captures = session.ensure_ddl_capture(schema, means, taking).await?;
        if !captures && self.spec.stream != 0 {
            return Err(Failure::fatal(
                "the role may not create event triggers, and with several `source.streams` DDL cannot be inferred: set \
                 `source.ddl: off`, or run the task once as a superuser, who leaves them there",
            ));
        }
        self.infers.set(!captures);
        if !captures || means == Means::Messages {
            return Ok(None);
        }
        let oid = session.ddl_table(schema).await?;
        Ok(oid.map(|oid| (oid, schema.clone(), statement::TABLE.to_owned())))
    }

    pub(super) async fn capture(&self, session: &Session) -> Result<Capture, Failure> {
        captured(session, &self.planner.newest().selection, &self.spec, &self.progress).await
    }

    /// Leaves out what users could not update any more, and says so. `published`: by the task's publication now.
    pub(super) fn withhold(&self, capture: &mut Capture, published: &Oids) {
        tables::withhold(capture, published, &self.spec, &self.progress);
    }

    /// A new slot, and the snapshot if it is wanted.
    async fn fresh(&mut self, session: &Rc<Session>, again: bool) -> Result<Lsn, End> {
        let mut capture = self.capture(session).await?;
        self.withhold(&mut capture, &Oids::new());
        let helper = self.ensure_ddl(session).await?;
        self.publish(session, &capture, helper).await?;
        self.tables().note_publication(session).await?;
        // Nothing is streamed yet that they could leave out too early.
        self.filter_rows(session).await?;
        // Before the slot exists: whoever finds a slot without a finished snapshot begins again.
        let id = snapshot_id(self.generation);
        self.drop_plans().await?;
        self.descriptions().forget_all().await?;
        let before = self.state.borrow().watermark.clone();
        let accepted = self.options.accept_gap.then(|| gap(session, before.as_ref(), Lsn::ZERO));
        let state = SnapshotState { id: id.clone(), done: false, lsn: Lsn::ZERO, gap: accepted };
        self.note_snapshot(state).await?;
        self.options.reseed = false;
        self.await_standby(session).await?;
        let mut holders = self.holders(&capture.read).await?;
        let mut replication = Replication::connect(&self.postgres).await?;
        let failover = self.wants_failover(session);
        let CreatedSlot { consistent_point, snapshot } =
            standby::create_slot(&mut replication, session, &self.slot_name, failover, false)
                .await?;
        info!(slot = self.slot_name, lsn = %consistent_point, "replication slot created");
        let held = holders.iter_mut().map(|it| it.reader.hold(&snapshot, &it.readables));
        future::try_join_all(held).await?;
        let mut plans = Vec::new();
        let published = oids(&capture);
        let gap = self.options.accept_gap.then(|| gap(session, before.as_ref(), consistent_point));
        if gap.is_none() {
            let readings = self.told_readings(session, &capture).await?;
            self.tell_read(session, &readings, &id, consistent_point).await?;
        }
        self.beside.begins(consistent_point);
        let consistent_point = match self.spec.sync.snapshot && gap.is_none() {
            // The snapshot has what the stream of its own slot does not have.
            true => consistent_point,
            false => self.beside.last_point(consistent_point).await,
        };
        if self.spec.sync.snapshot && gap.is_none() {
            // Who asks for a size waits behind whoever waits to truncate the table, and so for who holds it.
            let sizes = if holders.is_empty() { Sizes::Now } else { Sizes::Noted };
            let reading = self.reading(session, capture.read, sizes).await?;
            plans = planned(&reading.beside, &id)?;
            if again || !reading.before.is_empty() {
                self.read_snapshot(reading, holders, snapshot, &id, consistent_point, again)
                    .await?;
            }
        }
        // Only now may the connection end that exported the snapshot.
        drop(replication);
        self.descriptions().note_missing(session, &published).await?;
        let state = SnapshotState { id, done: true, lsn: consistent_point, gap };
        self.snapshot_done(session, state, plans).await?;
        // Not before: what interrupts this begins it again, and still without a snapshot.
        self.options.accept_gap = false;
        if let Some(gap) = gap {
            warn!("{gap}");
            self.progress.gap_accepted(gap);
        }
        if !self.spec.sync.incremental {
            self.drop_slot(session).await?;
            session.drop_publication(&self.slot_name).await?;
        }
        Ok(consistent_point)
    }

    /// Tables that readers are told of: the first stream tells of those of all.
    async fn told_readings(
        &self,
        session: &Session,
        capture: &Capture,
    ) -> Result<Vec<Reading>, Failure> {
        if self.spec.stream != 1 {
            return Ok(capture.read.clone());
        }
        let whole = self.planner.newest().selection.whole();
        let mut captured = captured(session, &whole, &self.spec, &self.progress).await?;
        captured.withhold(&Oids::new());
        Ok(captured.read)
    }

    /// Replica identities first: a published table without one makes its users' UPDATEs fail.
    pub(super) async fn publish(
        &self,
        session: &Session,
        capture: &Capture,
        helper: Option<(u32, String, String)>,
    ) -> Result<(), Failure> {
        if self.spec.source.replica_identity == IdentityPolicy::Full {
            let tables = capture.identity.iter().map(|it| &it.relation);
            let tables: Vec<_> = tables.map(|it| (&*it.schema, &*it.name)).collect();
            session.set_identities_full(&tables).await?;
        }
        let tables = capture.publish.iter().map(|it| (it.oid, it.schema.clone(), it.name.clone()));
        let tables: Vec<_> = tables.chain(helper).collect();
        let filtered = self.tables().filtered(session).await?;
        let via_root = capture.via_root;
        Ok(session
            .ensure_publication_filtered(&self.slot_name, &tables, via_root, true, &filtered)
            .await?)
    }

    async fn read_snapshot(
        &mut self,
        reading: ToRead,
        holders: Vec<Holder>,
        exported: String,
        id: &str,
        consistent_point: Lsn,
        again: bool,
    ) -> Result<(), End> {
        let ToRead { before: sources, beside } = reading;
        let estimate = self.progress.snapshot_rows_estimated.load(Relaxed);
        let tables = sources.len();
        let portions = Portion::of_holders(sources, holders);
        self.progress.snapshot_running.store(true, Relaxed);
        let mut span = self.progress.trace.span("snapshot", &self.spec.task);
        span = span.with("tables", i64::try_from(tables).unwrap_or(i64::MAX));
        info!(tables, rows_estimated = estimate, "snapshot begins");
        // A transaction may commit exactly at the consistent point: its changes come after.
        let lsn = Lsn(consistent_point.0.saturating_sub(1));
        let beside = if again { beside } else { Vec::new() };
        let work = Work::Rows(snapshot::Rows { exported, portions, beside, again });
        let front = self.snapshot_front(id, lsn, work);
        let read = self.until_durable(&front).await;
        front.retire(super::CLOSE_MAX).await;
        self.snapshot_failed = read.is_err();
        if let Err(End::Failure(failure)) = &read {
            span.fail(failure.cause.clone());
        }
        drop(span);
        self.progress.snapshot_running.store(false, Relaxed);
        read?;
        info!(rows = self.progress.snapshot_rows.load(Relaxed), "snapshot is durable");
        // The stream's front numbers its batches anew.
        self.generation += 1;
        Ok(())
    }

    /// A table that users truncate all the time reads empty in every snapshot: after a first failure each connection
    /// holds the tables that it will read, from the moment after the slot was made. Not before: making a slot waits for
    /// open transactions, which would wait for these locks. Here they connect.
    async fn holders(&self, readings: &[Reading]) -> Result<Vec<Holder>, Failure> {
        let is_read = self.spec.sync.snapshot && !self.options.accept_gap;
        if !self.snapshot_failed || !is_read {
            return Ok(Vec::new());
        }
        info!("the last snapshot could not be finished, holding its tables against TRUNCATE");
        let count = usize::from(self.spec.snapshot.parallel);
        let parts = snapshot::divide(readings.iter().collect(), count, |it| it.rows);
        let connected = parts.into_iter().map(async |part| {
            let reader = SnapshotReader::connect(&self.postgres).await?;
            Ok::<_, Failure>(Holder { reader, readables: part.into_iter().map(readable).collect() })
        });
        future::try_join_all(connected).await
    }

    pub(super) async fn sources(
        &self,
        session: &Session,
        readings: Vec<Reading>,
    ) -> Result<Vec<snapshot::Source>, Failure> {
        let tables = tables(session, &readings).await?;
        let plans = self.planner.plan_all(&tables).await?;
        self.descriptions().note(session, tables.iter().map(|it| &**it)).await?;
        let source = |((reading, table), plan): ((Reading, _), Option<_>)| {
            let (readable, rows) = (readable(&reading), reading.rows);
            Some(snapshot::Source { table, plan: plan?, readable, rows })
        };
        Ok(readings.into_iter().zip(tables).zip(plans).filter_map(source).collect())
    }

    /// What is read before the stream, and what beside it.
    async fn reading(
        &self,
        session: &Session,
        readings: Vec<Reading>,
        sizes: Sizes,
    ) -> Result<ToRead, Failure> {
        let estimate: u64 = readings.iter().map(|reading| reading.rows).sum();
        self.progress.snapshot_rows_estimated.store(estimate, Relaxed);
        let sources = self.sources(session, readings).await?;
        let large: std::collections::HashSet<u32> = match self.spec.snapshot.beside_stream {
            _ if !self.spec.sync.incremental => std::collections::HashSet::new(),
            // Chunks are read from the primary, which is to be spared.
            BesideStream::Auto if self.slot_host.is_standby => std::collections::HashSet::new(),
            BesideStream::Never => std::collections::HashSet::new(),
            BesideStream::Always => sources.iter().map(|it| it.readable.oid).collect(),
            BesideStream::Auto => {
                let oids: Vec<u32> = sources.iter().map(|it| it.readable.oid).collect();
                session.larger_than(&oids, BESIDE_BYTES_MIN, sizes).await?.into_iter().collect()
            }
        };
        let is_beside = |it: &snapshot::Source| {
            large.contains(&it.readable.oid) && key_names(&it.table).is_some()
        };
        let (beside, before) = sources.into_iter().partition(is_beside);
        Ok(ToRead { before, beside })
    }

    /// An older snapshot is not gone on with.
    async fn drop_plans(&self) -> Result<(), Failure> {
        let plans = std::mem::take(&mut self.state.borrow_mut().plans);
        if plans.is_empty() {
            return Ok(());
        }
        let gone = |name: String| MetaRecord::Plan { name, json: None };
        self.meta.write(plans.into_keys().map(gone).collect()).await
    }

    /// Begins to hand on what a snapshot has. `id`: of the snapshot; `lsn`: where it stands.
    pub(super) fn snapshot_front(&self, id: &str, lsn: Lsn, work: Work) -> Front {
        self.front().snapshot(work, |router, guardian, lifeline| snapshot::Parts {
            generation: self.generation,
            settings: self.postgres.clone(),
            id: id.into(),
            lsn,
            time: microseconds_now(),
            parallel: usize::from(self.spec.snapshot.parallel),
            turns: Rc::clone(&self.turns),
            budget: self.budget.clone(),
            router,
            guardian,
            progress: Arc::clone(&self.progress),
            lifeline,
        })
    }

    /// Waits until the whole snapshot is durable in every lane.
    pub(super) async fn until_durable(&mut self, front: &Front) -> Result<(), End> {
        let (mut batches, mut durable) = (None, 0);
        while batches.is_none_or(|batches| durable < batches) {
            match self.next(Some(front)).await? {
                Noted::SnapshotRead(read) => {
                    batches = Some(read.batches);
                    front.flush();
                }
                Noted::Advanced(advanced) => {
                    durable = advanced.seq;
                    self.lanes.progressed();
                }
                Noted::LaneOpened(_) | Noted::LaneSealed(_) | Noted::Copied | Noted::Other => {}
            }
        }
        Ok(())
    }

    /// What is between the low watermark and a slot that is yet to be made is let go.
    async fn note_accepted(&self, session: &Session) -> Result<(), Failure> {
        let before = self.state.borrow().watermark.clone();
        let gap = Some(gap(session, before.as_ref(), Lsn::ZERO));
        let id = snapshot_id(self.generation);
        self.note_snapshot(SnapshotState { id, done: false, lsn: Lsn::ZERO, gap }).await
    }

    /// With the revision whose rows they will be.
    async fn note_snapshot(&self, state: SnapshotState) -> Result<(), Failure> {
        let revision = self.present.record(Lsn::ZERO);
        self.note_as_revision(revision, vec![MetaRecord::Snapshot(state.clone())]).await?;
        self.state.borrow_mut().snapshot = Some(state);
        Ok(())
    }

    async fn snapshot_done(
        &self,
        session: &Session,
        snapshot: SnapshotState,
        plans: Vec<(String, String)>,
    ) -> Result<(), Failure> {
        let consistent_point = snapshot.lsn;
        let watermark = Watermark {
            lsn: consistent_point,
            system_id: session.server().system_id,
            timeline: session.server().timeline,
            lanes: self.lane_positions(),
            history: self.told_history(),
            standby: self.slot_host.is_standby,
        };
        let mut records =
            vec![MetaRecord::Snapshot(snapshot.clone()), MetaRecord::Watermark(watermark.clone())];
        let plan = |(name, json): &(String, String)| MetaRecord::Plan {
            name: name.clone(),
            json: Some(json.clone()),
        };
        records.extend(plans.iter().map(plan));
        self.meta.write(records).await?;
        let mut state = self.state.borrow_mut();
        state.snapshot = Some(snapshot);
        state.watermark = Some(watermark);
        state.plans.extend(plans);
        self.progress.advanced(consistent_point);
        Ok(())
    }
}

fn readable(reading: &Reading) -> Readable {
    let Reading { relation: Relation { oid, schema, name, .. }, only, .. } = reading;
    Readable { oid: *oid, schema: schema.clone(), name: name.clone(), only: *only }
}

/// Tables of a first snapshot.
struct ToRead {
    /// In the slot's exported snapshot.
    before: Vec<snapshot::Source>,
    /// In chunks, while the stream runs.
    beside: Vec<snapshot::Source>,
}

/// What is not delivered where the stream begins at `begins` without a snapshot.
fn gap(session: &Session, before: Option<&Watermark>, begins: Lsn) -> Gap {
    let (after, timeline) = before.map_or((Lsn::ZERO, 0), |it| (it.lsn, it.timeline));
    Gap { after, timeline, before: begins, timeline_now: session.server().timeline }
}

/// No other copy of the task has it.
pub(super) fn snapshot_id(generation: u64) -> String {
    format!("{generation}-{}", microseconds_now())
}

/// What the meta lane is to hold of tables that are copied beside the stream, by name.
pub(super) fn planned(
    sources: &[snapshot::Source],
    id: &str,
) -> Result<Vec<(String, String)>, Failure> {
    let plan = |source: &snapshot::Source| {
        let Readable { oid, schema, name, only } = &source.readable;
        let record = Record { estimate: source.rows, ..Record::waiting(schema, name, *only) };
        Ok((format!("{id}/{oid}"), written(&record)?))
    };
    sources.iter().map(plan).collect()
}

pub(super) async fn captured(
    session: &Session,
    selection: &Selection,
    spec: &config::Task,
    progress: &Progress,
) -> Result<Capture, Failure> {
    let candidates = session.candidates().await?;
    progress.saw(seen(&candidates, session.server().version, &spec.source));
    let mut settled = HashMap::new();
    if selection.division().stream != 0 {
        let slots = spec.slots();
        let number = |name: &String| (1..).zip(&slots).find(|(_, it)| *it == name);
        let members = session.members(&slots).await?;
        let member = |(name, oid): &(String, u32)| Some((*oid, number(name)?.0));
        settled = members.iter().filter_map(member).collect();
    }
    Ok(capture_settled(&candidates, selection, session.server().version, &spec.source, &settled))
}

pub(super) async fn tables(
    session: &Session,
    readings: &[Reading],
) -> Result<Vec<Arc<Table>>, Failure> {
    let oids: Vec<u32> = readings.iter().map(|reading| reading.relation.oid).collect();
    Ok(session.tables(&oids).await?.into_iter().map(Arc::new).collect())
}

fn oids(capture: &Capture) -> Vec<u32> {
    capture.publish.iter().map(|relation| relation.oid).collect()
}

/// Microseconds since 2000-01-01 00:00 UTC (PostgreSQL's `TimestampTz`).
pub(crate) fn microseconds_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let since = since.saturating_sub(std::time::Duration::from_secs(POSTGRES_EPOCH_S));
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
