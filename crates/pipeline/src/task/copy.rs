//! Tables that are copied beside the stream.

use super::Task;
use crate::batch::{Retire, Settled};
use crate::copying;
use crate::failure::Failure;
use crate::front::Front;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

impl Task {
    /// Whether tables are not copied yet.
    pub(super) fn has_to_copy(&self) -> bool {
        !self.state.borrow().plans.is_empty()
    }

    /// Goes on with what is to be copied. Not where the revision ends: no chunk would find its place.
    pub(super) fn copy_beside(&mut self, front: &Front) -> Result<(), Failure> {
        if !self.has_to_copy() || self.end.is_some() {
            return Ok(());
        }
        let context = self.front();
        let copying = front.copy(&context, |router, guardian, lifeline| copying::Parts {
            generation: self.generation,
            settings: self.postgres.clone(),
            state: Rc::clone(&self.state),
            meta: self.meta.clone(),
            planner: Rc::clone(&self.planner),
            snapshot: self.spec.snapshot,
            throttle: self.spec.throttle.snapshot,
            router,
            guardian,
            progress: Arc::clone(&self.progress),
            lifeline,
        })?;
        self.copying = Some(copying);
        self.progress.snapshot_running.store(true, Relaxed);
        Ok(())
    }

    /// Every batch up to `seq` is durable.
    pub(super) fn settled(&self, seq: u64) {
        if let Some(copying) = &self.copying {
            copying.do_send(Settled(seq));
        }
    }

    /// Everything is copied.
    pub(super) fn copied(&mut self) {
        self.copying = None;
        self.progress.snapshot_running.store(false, Relaxed);
    }

    /// The front ends.
    pub(super) fn stop_copying(&mut self) {
        if let Some(copying) = self.copying.take() {
            copying.do_send(Retire);
        }
    }
}
