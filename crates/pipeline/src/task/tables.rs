//! Looks after the slot and the tables of a running task: tells how the slot fares, takes in those that match its objects and are not published,
//! gives a replica identity back, and notices what others have done to the publication.

use super::begin::{captured, snapshot_id};
use super::{Task, definitions};
use crate::batch::TablesSeen;
use crate::capture::{Capture, Member, Reading, Relation, as_captured, unfit, via_root};
use crate::chunk::asked::records;
use crate::chunk::copy::Record;
use crate::chunk::key::key_names;
use crate::copying::written;
use crate::descriptions::Descriptions;
use crate::failure::Failure;
use crate::guardian::Guardian;
use crate::health;
use crate::meta::Meta;
use crate::planner::Planner;
use crate::progress::Progress;
use crate::tables::{Between, Findings, Left, Oids, compare};
use actix::Addr;
use config::{DdlCapture, IdentityPolicy, NewPartitions};
use kafka::meta::{MetaRecord, MetaState};
use kafka::topics::Admin;
use postgres::publication::Publication;
use postgres::{Error, Session};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};
use wal::Lsn;

/// Between two looks at the catalog.
const LOOK: Duration = Duration::from_secs(5);
/// Of what is known of the publication: about 40,000 tables. Brokers take no larger record than 1 MiB by default.
const LEFT_BYTES_MAX: usize = 900_000;
/// Between two looks for partitions that nobody has told of.
const GLANCE: Duration = Duration::from_secs(1);

/// Leaves out what users could not update any more, and says so. `published`: by the task's publication now.
pub(super) fn withhold(
    capture: &mut Capture,
    published: &Oids,
    spec: &config::Task,
    progress: &Progress,
) {
    let withheld = capture.withhold(published);
    progress.tables_unfit(unfit(&withheld, &capture.unfit, spec.source.replica_identity));
}

/// What looking after tables needs. Lives as long as its generation.
pub(super) struct Tables {
    generation: u64,
    pub(super) publication: String,
    spec: Arc<config::Task>,
    postgres: postgres::settings::Settings,
    kafka: kafka::settings::Settings,
    planner: Rc<Planner>,
    meta: Meta,
    state: Rc<RefCell<MetaState>>,
    descriptions: Descriptions,
    /// DDL cannot be captured.
    infers: bool,
    /// The slot is a standby's.
    from_standby: bool,
    /// A mark is about to tell of tables, and takes them in.
    telling: Rc<Cell<bool>>,
    /// When row filters are tried again that busy tables have not got.
    pub(super) filters_due: Rc<Cell<Option<Instant>>>,
    /// Published at the last look.
    known: Rc<RefCell<Option<Oids>>>,
    progress: Arc<Progress>,
    guardian: Addr<Guardian>,
}

/// Ends with whoever holds it.
pub(super) struct Looking(JoinHandle<()>);

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Task {
    pub(super) fn tables(&self) -> Tables {
        Tables {
            generation: self.generation,
            publication: self.slot_name.clone(),
            spec: Arc::clone(&self.spec),
            postgres: self.postgres.clone(),
            kafka: self.kafka.clone(),
            planner: Rc::clone(&self.planner),
            meta: self.meta.clone(),
            state: Rc::clone(&self.state),
            descriptions: self.descriptions(),
            infers: self.infers.get(),
            from_standby: self.slot_host.is_standby,
            telling: Rc::clone(&self.telling),
            filters_due: Rc::clone(&self.filters_due),
            known: Rc::clone(&self.known),
            progress: Arc::clone(&self.progress),
            guardian: self.guardian.clone(),
        }
    }

    /// Looks until what is returned is dropped; not where the revision ends, whose tables are no matter any more.
    pub(super) fn look_after_tables(&self, session: &Rc<Session>) -> Option<Looking> {
        if self.end.is_some() {
            return None;
        }
        let (tables, session) = (self.tables(), Rc::clone(session));
        let at_slot = self.slot_host.session.clone().unwrap_or_else(|| Rc::clone(&session));
        Some(Looking(actix_rt::spawn(async move { tables.look(&session, &at_slot).await })))
    }
}

impl Tables {
    /// Until the generation ends, or a person must decide.
    async fn look(&self, session: &Session, at_slot: &Session) {
        let (mut seen, mut signed, mut danger) = (None, false, false);
        let mut admin = None;
        let mut gone = BTreeMap::new();
        loop {
            self.pause(session).await;
            if !signed {
                signed = true;
                if let Err(failure) = self.sign(session).await {
                    warn!(cause = %failure.cause, "`distributary slots` will call the slot foreign");
                }
            }
            if let Err(failure) = self.look_at_slot(at_slot, &mut danger).await {
                info!(cause = %failure.cause, "the slot is looked at again later");
            }
            if let Some(failure) = self.look_at_role(at_slot).await {
                return self.lost(failure);
            }
            match self.look_at_topics(&mut admin).await {
                Ok(()) => {}
                Err(failure) if failure.class == supervision::FailureClass::Fatal => {
                    return self.lost(failure);
                }
                Err(failure) => {
                    admin = None;
                    info!(cause = %failure.cause, "the topics are looked at again later");
                }
            }
            if let Some(failure) = self.look_at_ddl(session).await {
                return self.lost(failure);
            }
            if let Err(failure) = self.descriptions.forget(&mut gone).await {
                info!(cause = %failure.cause, "dropped tables are forgotten later");
            }
            match self.look_once(session, &mut seen, &mut gone).await {
                Ok(copies) => {
                    if copies {
                        let copies = TablesSeen { generation: self.generation, lost: None };
                        self.guardian.do_send(copies);
                    }
                }
                Err(failure) if failure.class == supervision::FailureClass::Fatal => {
                    return self.lost(failure);
                }
                // The stream notices itself when the server is away, but not when a standby's primary was: once there is
                // one again, all that asks it begins again.
                Err(failure) => {
                    let is_away = failure.class == supervision::FailureClass::Connection;
                    if self.postgres.reads_standby()
                        && is_away
                        && Session::connect(&self.postgres).await.is_ok()
                    {
                        return self.lost(failure);
                    }
                    info!(cause = %failure.cause, "tables are looked at again later");
                }
            }
        }
    }

    /// Until the next look. Where no event trigger does it, partitions that come to a published tree get their replica
    /// identity meanwhile: before, users cannot update one that has no key (server fact 16).
    async fn pause(&self, session: &Session) {
        let names = self.spec.source.partition_names;
        let glances = (self.infers || self.spec.source.ddl == DdlCapture::Off)
            && self.spec.source.replica_identity == IdentityPolicy::Full
            && via_root(session.server().version, names);
        if !glances {
            return tokio::time::sleep(LOOK).await;
        }
        let mut until = LOOK;
        while GLANCE < until {
            tokio::time::sleep(GLANCE).await;
            until = until.saturating_sub(GLANCE);
            if let Err(error) = self.glance(session).await {
                debug!(%error, "partitions are looked at again later");
            }
        }
        tokio::time::sleep(until).await;
    }

    async fn glance(&self, session: &Session) -> Result<(), Error> {
        let found = session.partitions_not_full(&self.publication).await?;
        if found.is_empty() {
            return Ok(());
        }
        // What waits for locks must not keep the stream from asking the catalog.
        let session = Session::connect(&self.postgres).await?;
        for (schema, name) in found {
            session.set_identity_full(&schema, &name).await?;
        }
        Ok(())
    }

    /// Ends this life of the front.
    fn lost(&self, failure: Failure) {
        let generation = self.generation;
        self.guardian.do_send(TablesSeen { generation, lost: Some(failure) });
    }

    /// A standby that was promoted streams on, on a line of its own, which positions must be told by from then on.
    async fn look_at_role(&self, at_slot: &Session) -> Option<Failure> {
        if !self.from_standby || at_slot.is_standby().await.unwrap_or(true) {
            return None;
        }
        let cause = "the standby that is read from was promoted: its new timeline is taken up";
        Some(Failure { class: supervision::FailureClass::Connection, cause: cause.into() })
    }

    /// Whether a topic has got partitions that the spec does not want to be left unused. `admin`: of the last look.
    async fn look_at_topics(&self, admin: &mut Option<Arc<Admin>>) -> Result<(), Failure> {
        if self.spec.sink.new_partitions != NewPartitions::Park {
            return Ok(());
        }
        let (kafka, kept) = (self.kafka.clone(), admin.take());
        let pins = self.planner.planned_pins();
        let look = move || {
            let admin = kept.map_or_else(|| Admin::new(&kafka).map(Arc::new), Ok)?;
            admin.verify_not_grown(&pins)?;
            Ok::<_, kafka::Error>(admin)
        };
        *admin = Some(tokio::task::spawn_blocking(look).await??);
        Ok(())
    }

    /// Event triggers that somebody has dropped or disabled: the front begins again, which makes them again and marks a gap.
    async fn look_at_ddl(&self, session: &Session) -> Option<Failure> {
        let wanted = postgres::ddl::means(&self.spec.source, session.server().version);
        let means = wanted.ok().flatten().filter(|_| !self.infers)?;
        match session.ddl_lost(&self.publication, means).await {
            Ok(lost) => lost.map(|why| {
                let cause = format!("{why}: DDL statements are not captured; it is made again");
                Failure { class: supervision::FailureClass::Connection, cause }
            }),
            Err(error) => {
                debug!(%error, "event triggers are looked at again later");
                None
            }
        }
    }

    /// Figures for whoever shows them, and a log line where a person should act.
    async fn look_at_slot(&self, session: &Session, danger: &mut bool) -> Result<(), Failure> {
        let health = session.slot_health(&self.publication).await?;
        let found = health.as_ref().and_then(health::danger);
        match &found {
            Some((cause, remedy)) if !*danger => warn!(cause, remedy, "the slot is in danger"),
            None if *danger => info!("the slot is out of danger"),
            Some(_) | None => {}
        }
        *danger = found.is_some();
        self.progress.slot(health);
        Ok(())
    }

    /// Has the publication say whose it and its slot are.
    async fn sign(&self, session: &Session) -> Result<(), Failure> {
        let kafka = self.kafka.clone();
        let cluster = tokio::task::spawn_blocking(move || Admin::new(&kafka)?.cluster_id());
        let cluster = cluster.await??;
        let owner = crate::slots::owner(&self.spec.life(), &self.spec.sink.state_prefix, &cluster);
        Ok(session.sign_publication(&self.publication, &owner).await?)
    }

    /// `true`: tables wait to be told of, or to be copied. `seen`: as the catalog was when nothing was left to do.
    async fn look_once(
        &self,
        session: &Session,
        seen: &mut Option<String>,
        gone: &mut BTreeMap<u32, Lsn>,
    ) -> Result<bool, Failure> {
        let now = session.tables_fingerprint(&self.publication).await?;
        if seen.as_ref() == Some(&now) {
            return Ok(false);
        }
        self.descriptions.look(session, gone).await?;
        let noted = self.state.borrow().publication.clone();
        // What waits for locks must not keep the stream from asking the catalog.
        let session = Session::connect(&self.postgres).await?;
        let before = self.published(&session).await?.1;
        let revision = self.planner.newest();
        let mut capture =
            captured(&session, &revision.selection, &self.spec, &self.progress).await?;
        let (publication, after) = self.published(&session).await?;
        let filtered = self.filtered(&session).await?;
        let lacks = session.publication_lacks(&self.publication, capture.via_root, &filtered);
        let lack = lacks.await?;
        // A mark has come meanwhile, which publishes, takes out and filters by itself.
        let is_marked = self.telling.get() || !Rc::ptr_eq(&revision, &self.planner.newest());
        if is_marked || self.state.borrow().publication != noted {
            return Ok(false);
        }
        if let Some(lack) = lack {
            return Err(Failure::fatal(format!(
                "{lack}: changes since then may not have been published; find out who did it, then \
                 run with --reseed"
            )));
        }
        if let Some(failure) = self.altered(&publication, &capture) {
            return Err(failure);
        }
        let known = self.known.borrow().clone().unwrap_or_default();
        let covered: Oids = known.iter().chain(&before).chain(&after).copied().collect();
        withhold(&mut capture, &covered, &self.spec, &self.progress);
        let first = self.known.borrow().is_none();
        if first {
            *self.known.borrow_mut() = Some(before.clone());
        }
        let known = self.known.borrow().clone().unwrap_or_default();
        let Findings { added, taken_out } = compare(&known, &before, &capture, &after);
        if let Some(relation) = taken_out {
            return Err(taken(&relation, &self.publication));
        }
        if definitions::tells(&self.spec) && !self.untold(&session, &added).await?.is_empty() {
            // Readers are told first, and that takes a front of its own.
            return Ok(true);
        }
        let restored = self.restore_identities(&session, &capture.identity).await?;
        let mut known = after;
        // Before they are published: what is dropped right after has changes in the stream, which need its key.
        let described: Vec<u32> =
            known.iter().copied().chain(added.iter().map(|it| it.oid)).collect();
        self.descriptions.note_missing(&session, &described).await?;
        let taken = self.take_in_all(&session, &added, &capture, &mut known).await?;
        *self.known.borrow_mut() = Some(known);
        let is_changed = taken.iter().any(|it| matches!(it, Taken::Copying | Taken::Streaming));
        if self.state.borrow().publication != noted {
            // Row filters have been changed meanwhile, and whoever did it knows better what is left.
            return Ok(taken.contains(&Taken::Copying));
        }
        match is_changed {
            true => self.note_publication(&session).await?,
            false => self.note_left(&publication).await?,
        }
        // What was refused is tried again when the catalog changes.
        let all_done = restored && !taken.contains(&Taken::Busy);
        *seen = (all_done && !is_changed).then_some(now);
        Ok(taken.contains(&Taken::Copying))
    }

    async fn take_in_all(
        &self,
        session: &Session,
        added: &[Relation],
        capture: &Capture,
        known: &mut Oids,
    ) -> Result<Vec<Taken>, Failure> {
        let readings = capture.readings();
        let mut all = Vec::with_capacity(added.len());
        for relation in added {
            let reading = readings.get(&relation.oid).copied();
            let taken = self.take_in(session, relation, reading, capture).await?;
            if matches!(taken, Taken::Copying | Taken::Streaming) {
                // Should it be taken out at once, the next look misses it.
                known.insert(relation.oid);
            }
            all.push(taken);
        }
        Ok(all)
    }

    async fn untold(&self, session: &Session, added: &[Relation]) -> Result<Vec<u32>, Failure> {
        definitions::untold(session, &self.publication, self.infers, &self.state, added).await
    }

    /// The publication, and what the stream names of it.
    async fn published(&self, session: &Session) -> Result<(Publication, Oids), Failure> {
        let publication = session.publication(&self.publication).await?.unwrap_or_default();
        let oids = publication.tables.iter().copied().collect();
        Ok((publication, oids))
    }

    /// What somebody else has altered since the task left it, and made look as before.
    pub(super) fn altered(&self, found: &Publication, capture: &Capture) -> Option<Failure> {
        // What an earlier release has left out is not known.
        let left = self.left()?;
        let name = &self.publication;
        let what = match left.between(&Left::of(found))? {
            Between::Altered => {
                format!("publication `{name}` was altered by somebody else, and altered back")
            }
            Between::Readded(oid) => {
                let relation = capture.publish.iter().find(|it| it.oid == oid)?;
                let Relation { schema, name: table, .. } = relation;
                format!(
                    "table {schema}.{table} was taken out of publication `{name}` and added again by somebody else"
                )
            }
        };
        Some(Failure::fatal(format!(
            "{what}: changes in between may not have been published, and whether rows are missing in Kafka cannot be told; \
             find out who did it, then run with --reseed"
        )))
    }

    /// Writes down how the task leaves the publication, after it has altered it itself.
    pub(super) async fn note_publication(&self, session: &Session) -> Result<(), Failure> {
        self.note_left(&self.published(session).await?.0).await
    }

    /// How the task has left the publication, as far as that is known.
    pub(super) fn left(&self) -> Option<Left> {
        serde_json::from_str(self.state.borrow().publication.as_deref()?).ok()
    }

    async fn note_left(&self, publication: &Publication) -> Result<(), Failure> {
        let before = self.left().unwrap_or_default();
        self.write_left(Left::of(publication).with_filters(&before, &BTreeMap::new())).await
    }

    pub(super) async fn write_left(&self, left: Left) -> Result<(), Failure> {
        let write = |left: &Left| {
            let written = serde_json::to_string(left);
            written.map_err(|error| Failure::fatal(format!("writing down a publication: {error}")))
        };
        let mut json = write(&left)?;
        if LEFT_BYTES_MAX < json.len() {
            json = write(&left.without_tables())?;
        }
        // Set before it is written: whoever looks meanwhile sees that something else is known now.
        let before = self.state.borrow_mut().publication.replace(json.clone());
        if before.as_ref() != Some(&json)
            && let Err(error) = self.meta.write(vec![MetaRecord::Publication(json)]).await
        {
            self.state.borrow_mut().publication = before;
            return Err(error);
        }
        Ok(())
    }

    /// `false`: a table is in use all the time.
    async fn restore_identities(
        &self,
        session: &Session,
        relations: &[Member],
    ) -> Result<bool, Failure> {
        if self.spec.source.replica_identity != IdentityPolicy::Full {
            return Ok(true);
        }
        let mut all_done = true;
        for Member { relation: Relation { schema, name, .. }, .. } in relations {
            match session.set_identity_full(schema, name).await {
                Ok(true) => {
                    info!(schema, table = name, "the table had another replica identity than FULL");
                }
                Ok(false) | Err(Error::TableMissing { .. }) => {}
                Err(Error::LockTimeout { .. }) => all_done = false,
                Err(error) if error.is_connection() => return Err(error.into()),
                Err(error) => {
                    warn!(schema, table = name, %error, "the table keeps its replica identity");
                }
            }
        }
        Ok(all_done)
    }

    /// Publishes a table, and has what it holds already copied. What is to be copied is written down before:
    /// a crash in between must not leave a published table whose older rows nobody reads.
    pub(super) async fn take_in(
        &self,
        session: &Session,
        relation: &Relation,
        reading: Option<&Reading>,
        capture: &Capture,
    ) -> Result<Taken, Failure> {
        let Relation { oid, schema, name } = relation;
        let suffix = format!("/{oid}");
        // What was asked for is kept once it is done, and says nothing of a table that is taken in now.
        let waits = {
            let state = self.state.borrow();
            // Most plans are of others, and need not be read.
            let own = state.plans.iter().filter(|(plan, _)| plan.ends_with(&suffix));
            records(own).any(|(_, record)| !record.done)
        };
        let mut plan = None;
        if let Some(reading) = reading.filter(|_| self.spec.sync.snapshot && !waits) {
            plan = self.plan_copy(session, reading).await?;
        }
        if let Some((plan, json)) = &plan {
            let record = MetaRecord::Plan { name: plan.clone(), json: Some(json.clone()) };
            self.meta.write(vec![record]).await?;
        }
        let published = self.publish(session, relation, capture).await;
        // Whoever copies now takes it from here: chunks that are read before the table is published could miss changes.
        if let (Ok(()), Some((plan, json))) = (&published, &plan) {
            self.state.borrow_mut().plans.insert(plan.clone(), json.clone());
        }
        // Asked afterwards: what an empty table gets from now on is in the stream.
        let has_rows = match &published {
            Ok(()) => self.spec.sync.snapshot && self.has_rows(session, relation).await?,
            Err(_) => false,
        };
        let copies = waits || (has_rows && plan.is_some());
        if let Some((plan, _)) = plan.filter(|_| !copies) {
            self.meta.write(vec![MetaRecord::Plan { name: plan.clone(), json: None }]).await?;
            self.state.borrow_mut().plans.remove(&plan);
        }
        match published {
            Ok(()) if has_rows && !copies => {
                warn!(
                    schema,
                    table = name,
                    "table is captured from now on; it has no key to copy it by, so the rows that it \
                     had before are not in Kafka"
                );
                Ok(Taken::Streaming)
            }
            Ok(()) => {
                info!(schema, table = name, copies, "table is captured from now on");
                Ok(if copies { Taken::Copying } else { Taken::Streaming })
            }
            Err(Error::LockTimeout { .. }) => Ok(Taken::Busy),
            Err(Error::TableMissing { .. }) => Ok(Taken::Refused),
            Err(error) if error.is_connection() => Err(error.into()),
            Err(error) => {
                warn!(schema, table = name, %error, "table matches the task and is not captured");
                Ok(Taken::Refused)
            }
        }
    }

    /// Replica identities first, of each partition too: a published table without one makes its users' UPDATEs fail
    /// (server fact 16).
    async fn publish(
        &self,
        session: &Session,
        relation: &Relation,
        capture: &Capture,
    ) -> Result<(), Error> {
        if self.spec.source.replica_identity == IdentityPolicy::Full {
            let own = std::iter::once(relation);
            for Relation { schema, name, .. } in own.chain(capture.parts(relation.oid)) {
                session.set_identity_full(schema, name).await?;
            }
        }
        session.add_to_publication(&self.publication, &relation.schema, &relation.name).await
    }

    /// `None`: there is no key to copy it by.
    async fn plan_copy(
        &self,
        session: &Session,
        reading: &Reading,
    ) -> Result<Option<(String, String)>, Failure> {
        let Relation { oid, schema, name } = &reading.relation;
        let tables = session.tables(&[*oid]).await?;
        let Some(table) = tables.into_iter().next() else { return Ok(None) };
        if key_names(&as_captured(table, self.spec.source.replica_identity)).is_none() {
            return Ok(None);
        }
        let json = written(&Record::waiting(schema, name, reading.only))?;
        Ok(Some((format!("{}/{oid}", snapshot_id(self.generation)), json)))
    }

    async fn has_rows(&self, session: &Session, relation: &Relation) -> Result<bool, Failure> {
        match session.has_rows(&relation.schema, &relation.name).await {
            Ok(has_rows) => Ok(has_rows),
            Err(Error::TableMissing { .. }) => Ok(false),
            Err(error) if error.is_connection() => Err(error.into()),
            // Who cannot be asked is copied.
            Err(_) => Ok(true),
        }
    }
}

/// What became of a table that is to be captured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Taken {
    Streaming,
    /// The same, and what it held before waits to be copied.
    Copying,
    /// Its users hold it all the time: later.
    Busy,
    /// It was said why.
    Refused,
}

/// A table that the task has captured is in its publication no more.
pub(super) fn taken(relation: &Relation, publication: &str) -> Failure {
    Failure::fatal(format!(
        "table {}.{} was captured and is not in publication `{publication}` any more: changes since \
         then were not published; find out who took it out or made it again, then run with --reseed",
        relation.schema, relation.name
    ))
}
