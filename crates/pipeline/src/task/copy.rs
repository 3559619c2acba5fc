//! Tables that are copied beside the stream.

use super::Task;
use crate::batch::{CopyMore, Retire, Settled};
use crate::chunk::asked::{due, is_left, records};
use crate::copying;
use crate::failure::Failure;
use crate::front::Front;
use crate::progress::TableProgress;
use crate::reading::{Line, OpenReader};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

impl Task {
    /// Whether tables are not copied yet.
    pub(super) fn has_to_copy(&self) -> bool {
        let state = self.state.borrow();
        is_left(&state.plans) || !due(&state.plans, &self.hosts.copies()).is_empty()
    }

    /// Whether some lanes may hold a chunk that others do not. It is read again for these, so until it is durable
    /// rows must find the lanes that they had: under another map of lanes, a lane would leave out rows that it never got.
    pub(super) fn has_open_chunks(&self) -> bool {
        let state = self.state.borrow();
        records(&state.plans).any(|(_, record)| !record.done && !record.chunks.is_empty())
    }

    /// What the meta lane has of tables is told also where nothing is left to do: somebody may wait for it.
    pub(super) fn tell_plans(&self) {
        let state = self.state.borrow();
        self.progress.tables(|tables| {
            for (name, record) in records(&state.plans) {
                let snapshot = name.rsplit_once('/').map_or(name, |it| it.0);
                tables.note(name, TableProgress::of(&record, snapshot), Instant::now());
            }
        });
    }

    /// Goes on with what is to be copied. Not where the revision ends: no chunk would find its place.
    pub(super) fn copy_beside(&mut self, front: &Front) -> Result<(), Failure> {
        if !self.has_to_copy() || self.end.is_some() {
            return Ok(());
        }
        if let Some(copying) = &self.copying {
            copying.do_send(CopyMore(self.hosts.copies()));
            return Ok(());
        }
        let line = self.streamed_line()?;
        let context = self.front();
        let copying = front.copy(&context, |router, guardian, lifeline| copying::Parts {
            generation: self.generation,
            settings: self.postgres.clone(),
            open: OpenReader { spec: Arc::clone(&self.spec), line },
            hosts: Rc::clone(&self.hosts),
            state: Rc::clone(&self.state),
            meta: self.meta.clone(),
            planner: Rc::clone(&self.planner),
            source: copying::asked::Captured {
                partition_names: self.spec.source.partition_names,
                publication: self.slot_name.clone(),
            },
            orders: self.hosts.copies(),
            snapshot: self.spec.snapshot,
            turns: Rc::clone(&self.turns),
            router,
            guardian,
            progress: Arc::clone(&self.progress),
            lifeline,
        })?;
        self.copying = Some(copying);
        self.progress.snapshot_running.store(true, Relaxed);
        Ok(())
    }

    /// The line of WAL that is streamed: a front that begins has the low watermark on its own.
    fn streamed_line(&self) -> Result<Line, Failure> {
        let state = self.state.borrow();
        let watermark = state.watermark.as_ref();
        let line = watermark.map(|it| Line { system_id: it.system_id, timeline: it.timeline });
        line.ok_or_else(|| Failure::fatal("a task that streams has no low watermark"))
    }

    /// Every batch up to `seq` is durable.
    pub(super) fn settled(&self, seq: u64) {
        if let Some(copying) = &self.copying {
            copying.do_send(Settled(seq));
        }
    }

    /// Everything is copied; what was asked for meanwhile is begun.
    pub(super) fn copied(&mut self, front: &Front) -> Result<(), Failure> {
        self.copying = None;
        self.progress.snapshot_running.store(false, Relaxed);
        self.copy_beside(front)
    }

    /// The front ends.
    pub(super) fn stop_copying(&mut self) {
        if let Some(copying) = self.copying.take() {
            copying.do_send(Retire);
        }
    }
}
