//! Events from now on, through a temporary slot, without touching Kafka.

use crate::capture::{capture, unfit};
use crate::failure::Failure;
use crate::tables::Oids;
use config::IdentityPolicy;
use config::pattern::TablePattern;
use postgres::Session;
use postgres::replication::{Replication, StreamOptions};
use postgres::settings::Settings;
use postgres::standby;
use record::Record;
use record::encode::{EncodeError, Encoder};
use record::plan::{TablePlan, TaskPlan};
use record::route::{Piece, Scratch};
use record::selection::Selection;
use std::collections::HashMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use wal::decoder::{Decoder, Options, Step};
use wal::{ChangeBatch, Lsn};

/// Between the task's name and the number of the process, in names of what a tail makes.
const TAIL: &str = "_tail_";

/// What the tail of one task holds.
struct Tail<'a> {
    task: &'a config::Task,
    session: &'a Session,
    selection: Selection,
    plan: TaskPlan,
    only: Option<TablePattern>,
    plans: HashMap<(u32, u32), Option<Arc<TablePlan>>>,
    encoder: Encoder,
    scratch: Scratch,
}

/// Shows the records of every change from now on, until `stop`. `table`: a pattern.
///
/// # Errors
/// When the database cannot be read, or a change cannot be encoded.
pub async fn tail(
    task: &config::Task,
    folder: &Path,
    table: Option<&str>,
    show: &mut dyn FnMut(&Record<'_>),
    stop: CancellationToken,
) -> Result<(), Failure> {
    let settings = Settings::new(task, folder)?;
    let session = Session::connect(&settings).await?;
    let selection = Selection::new(task).map_err(|error| Failure::fatal(error.to_string()))?;
    let plan = TaskPlan::new(&shown(task), &task.source.database)?;
    let plan = plan.with_mask_key(crate::planner::mask_key(task, folder)?)?;
    let only = table
        .map(TablePattern::parse)
        .transpose()
        .map_err(|error| Failure::fatal(format!("--table: {error}")))?;
    let own = task.slot_of(1);
    drop_left(&session, &own).await;
    let temporary = format!("{own}{TAIL}{}", std::process::id());
    let is_own = session.publication(&own).await?.is_some();
    let publication = if is_own { own } else { temporary.clone() };
    if !is_own {
        session.hold_publication(&temporary).await?;
    }
    let encoder = Encoder::new(&plan);
    let mut tail = Tail {
        task,
        session: &session,
        selection,
        plan,
        only,
        plans: HashMap::new(),
        encoder,
        scratch: Scratch::default(),
    };
    let streamed = async {
        if !is_own {
            tail.publish(&temporary).await?;
        }
        tail.stream(&settings, &temporary, &publication, show, &stop).await
    };
    let streamed = streamed.await;
    if !is_own {
        session.drop_publication(&temporary).await?;
    }
    streamed
}

/// Drops publications of earlier tails of the task that were killed. Whoever may not is told why, and nothing else
/// fails for that.
pub(crate) async fn drop_left(session: &Session, own: &str) {
    match session.drop_left_publications(&format!("{own}{TAIL}")).await {
        Ok(dropped) => dropped.iter().for_each(|name| {
            info!(publication = name, "publication of a tail that was killed dropped");
        }),
        Err(error) => warn!(%error, "the publication of a tail that was killed stays"),
    }
}

/// The task, with a format that people can read.
fn shown(task: &config::Task) -> config::Task {
    let mut task = task.clone();
    if task.sink.format.is_binary() {
        task.sink.format = config::Format::DebeziumJson;
    }
    task
}

impl Tail<'_> {
    /// A publication of its own. Replica identities are left as they are, so tables whose users could not update any more are
    /// left out (design.md, server fact 16).
    async fn publish(&self, name: &str) -> Result<(), Failure> {
        let session = self.session;
        let source =
            config::Source { replica_identity: IdentityPolicy::Keep, ..self.task.source.clone() };
        let candidates = session.candidates().await?;
        let version = session.server().version;
        let mut capture = capture(&candidates, &self.selection, version, &source);
        let withheld = capture.withhold(&Oids::new());
        if let Some((cause, remedy)) = unfit(&withheld, &[], IdentityPolicy::Keep) {
            warn!(cause, remedy, "tables are not shown");
        }
        let tables: Vec<_> =
            capture.publish.into_iter().map(|it| (it.oid, it.schema, it.name)).collect();
        session.ensure_publication(name, &tables, capture.via_root, true).await?;
        Ok(session.sign_publication(name, postgres::tail::COMMENT).await?)
    }

    async fn stream(
        &mut self,
        settings: &Settings,
        slot: &str,
        publication: &str,
        show: &mut dyn FnMut(&Record<'_>),
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        if settings.reads_standby() {
            // The publication may have been made just now.
            let end = self.session.wal_end().await?;
            Session::connect_slot(settings).await?.await_replayed(end).await?;
        }
        let mut connection = Replication::connect(settings).await?;
        // It waits for whoever writes now.
        let created = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            created = standby::create_slot(&mut connection, self.session, slot, false, true) => created?,
        };
        let options = StreamOptions {
            slot: slot.to_owned(),
            from: created.consistent_point,
            line: None,
            publications: vec![publication.to_owned()],
            protocol: 1,
            messages: false,
            binary: false,
            streaming: false,
        };
        let mut stream = connection.start(&options).await?;
        let mut decoder = Decoder::new(Options::default());
        let mut received = Lsn::ZERO;
        let mut due = tokio::time::interval(stream.status_interval().min(Duration::from_secs(5)));
        loop {
            let batch = tokio::select! {
                () = stop.cancelled() => return Ok(stream.close().await?),
                _ = due.tick() => None,
                batch = stream.read() => Some(batch?),
            };
            if let Some(batch) = batch {
                received = received.max(batch.server_end);
                self.follow(decoder.decode(batch.bytes)?, &mut decoder, show).await?;
                if !batch.reply_requested {
                    continue;
                }
            }
            stream.report(received, received, false).await?;
        }
    }

    async fn follow(
        &mut self,
        mut step: Step,
        decoder: &mut Decoder,
        show: &mut dyn FnMut(&Record<'_>),
    ) -> Result<(), Failure> {
        loop {
            let relation = match step {
                Step::Done(batch) => return self.show(batch, show),
                Step::Describe(relation) => relation,
            };
            let table = Arc::new(self.session.complete(&relation).await?);
            let wanted =
                self.only.as_ref().is_none_or(|only| only.matches(&table.schema, &table.name));
            let object = self.selection.selected(&table.schema, &table.name).filter(|_| wanted);
            let plan = object.map(|object| {
                let rule = &self.task.objects[object];
                let partitions = rule.partitions.unwrap_or(self.task.sink.partitions);
                TablePlan::new(
                    Arc::clone(&table),
                    &self.plan,
                    object,
                    partitions,
                    self.task.lanes.0,
                )
            });
            let plan = plan.transpose()?.map(Arc::new);
            self.plans.insert((table.oid, table.version), plan);
            decoder.learn(table);
            step = decoder.resume()?;
        }
    }

    fn show(
        &mut self,
        mut batch: ChangeBatch,
        show: &mut dyn FnMut(&Record<'_>),
    ) -> Result<(), Failure> {
        let now_us = crate::lane::micros_now();
        let plan = |table: &Arc<wal::Table>| {
            self.plans.get(&(table.oid, table.version)).cloned().flatten()
        };
        let plans: Vec<_> = batch.tables.iter().map(plan).collect();
        record::rewrite::rewrite(&mut batch, &plans);
        let batch = &batch;
        for (index, change) in (0u32..).zip(&batch.changes) {
            let Some(plan) = &plans[change.table as usize] else { continue };
            let mut pieces: Vec<Piece> = Vec::new();
            plan.route(batch, index, &mut self.scratch, &mut |piece| pieces.push(piece));
            for piece in &pieces {
                let mut hand_over = |record: Record<'_>| {
                    show(&record);
                    Ok::<(), Infallible>(())
                };
                self.encoder
                    .encode(plan, batch, piece, now_us, &mut hand_over)
                    .map_err(|error: EncodeError<Infallible>| Failure::fatal(error.to_string()))?;
            }
        }
        Ok(())
    }
}
