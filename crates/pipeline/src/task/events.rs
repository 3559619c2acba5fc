//! What happened, and what of it concerns the one who waits.

use super::{CLOSED_MAX, DRAIN_MAX, End, Outcome, Task};
use crate::batch::{Advanced, LaneOpened, SnapshotRead};
use crate::failure::Failure;
use crate::front::Front;
use crate::guardian::News;
use kafka::meta::Watermark;
use std::time::{Duration, Instant};
use supervision::{FailureClass, Stage, StageFailed, Verdict};
use tracing::{info, warn};
use wal::Position;

/// News of the present front.
pub(super) enum Noted {
    Advanced(Advanced),
    SnapshotRead(SnapshotRead),
    /// Every table that was copied beside the stream is.
    Copied,
    LaneOpened(u8),
    LaneSealed(u8),
    /// Something else happened, and was dealt with.
    Other,
}

impl Task {
    /// The next thing that happens. Lanes are replaced on the way.
    pub(super) async fn next(&mut self, front: Option<&Front>) -> Result<Noted, End> {
        let news = self.hear().await?;
        self.note(news, front).await
    }

    /// May be given up at any time: nothing is lost. Dealing with what was heard may not.
    async fn hear(&mut self) -> Result<News, End> {
        let stop = self.stop.clone();
        let news = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(End::Stopped),
            news = self.news.recv() => news,
        };
        // The task holds a sender through its guardian: the queue does not end.
        news.ok_or_else(|| End::Failure(Failure::transient("the guardian has ended")))
    }

    async fn note(&mut self, news: News, front: Option<&Front>) -> Result<Noted, End> {
        let generation = front.map(|front| front.generation);
        match news {
            News::Failed(failed) => match failed.stage {
                Stage::Producer(lane) => self.lane_failed(lane, failed, front).await?,
                Stage::Reader
                | Stage::Decoder
                | Stage::Router
                | Stage::Acknowledger
                | Stage::Snapshot => {
                    if Some(failed.generation) == generation {
                        let StageFailed { stage, class, cause, .. } = failed;
                        info!(generation, stage = %stage, "stage ended, so does its generation");
                        if self.goes_on_with_text(stage, class, &cause) {
                            return Err(End::Moved);
                        }
                        return Err(End::Failure(Failure { class, cause }));
                    }
                }
            },
            News::Opened(opened) => {
                self.lane_opened(&opened, front)?;
                return Ok(Noted::LaneOpened(opened.lane));
            }
            News::Sealed(sealed) if self.lanes.is_present(sealed.lane, sealed.life) => {
                return Ok(Noted::LaneSealed(sealed.lane));
            }
            News::LaneDue { lane, life } => self.lane_due(lane, life).await?,
            News::Stopped(stopped) => self.lanes.stopped(&stopped),
            News::Hosts => {
                self.heed(front);
                self.lanes.relocate();
                if front.is_some() && self.has_moved() {
                    info!(generation, "the stages before the router are to run elsewhere");
                    return Err(End::Moved);
                }
                if let Some(front) = front.filter(|it| it.is_streaming()) {
                    self.copy_beside(front)?;
                }
            }
            News::Advanced(advanced) if Some(advanced.generation) == generation => {
                return Ok(Noted::Advanced(advanced));
            }
            News::SnapshotRead(read) if Some(read.generation) == generation => {
                return Ok(Noted::SnapshotRead(read));
            }
            News::Copied(copied) if Some(copied.generation) == generation => {
                return Ok(Noted::Copied);
            }
            News::Tables(seen) if Some(seen.generation) == generation => {
                // The front begins again, and with it the copy of everything that waits for it.
                return Err(seen.lost.map_or(End::Moved, End::Failure));
            }
            News::Sealed(_)
            | News::Advanced(_)
            | News::SnapshotRead(_)
            | News::Copied(_)
            | News::Tables(_) => {}
        }
        Ok(Noted::Other)
    }

    /// Opening fences: it must not take a lane from a process that has taken over.
    async fn lane_due(&mut self, lane: u8, life: u64) -> Result<(), End> {
        match self.still_ours().await {
            Ok(_) => self.lanes.due(lane, life),
            // Nothing else would ever start it, and it counts: where Kafka stays away, this is all that is tried.
            Err(failure) if may_pass(&failure) => {
                warn!(lane, cause = %failure.cause, "lane cannot be opened yet");
                let (stage, Failure { class, cause }) = (Stage::Producer(lane), failure);
                self.retry_lane(lane, StageFailed { stage, generation: life, class, cause })?;
            }
            Err(failure) => return Err(failure.into()),
        }
        Ok(())
    }

    fn lane_opened(&mut self, opened: &LaneOpened, front: Option<&Front>) -> Result<(), End> {
        if !self.lanes.opened(opened) {
            return Ok(());
        }
        let mut positions = self.positions.borrow_mut();
        let lane = usize::from(opened.lane);
        if positions.len() <= lane {
            positions.resize(lane + 1, Position::ZERO);
        }
        if opened.position < positions[lane] {
            let failure = Failure::checkpoint_moved(opened.position, positions[lane]);
            warn!(lane, cause = %failure.cause, "everything is opened again, from what Kafka has");
            return Err(End::Undone);
        }
        positions[lane] = opened.position;
        drop(positions);
        if let Some(front) = front {
            front.lane_ready(opened.lane, &self.lanes);
        }
        Ok(())
    }

    async fn lane_failed(
        &mut self,
        lane: u8,
        mut failed: StageFailed,
        front: Option<&Front>,
    ) -> Result<(), End> {
        let is_lost = self.lanes.is_present(lane, failed.generation);
        if let Some(front) = front.filter(|_| is_lost) {
            front.lane_lost(lane);
        }
        if failed.class == FailureClass::Fenced {
            match self.still_ours().await {
                Ok(_) => warn!(lane, "lane was fenced by the broker, not by another process"),
                // It is asked again before the lane is opened.
                Err(failure) if may_pass(&failure) => {}
                Err(failure) => return Err(failure.into()),
            }
            failed.class = FailureClass::Transient;
        }
        self.retry_lane(lane, failed)
    }

    /// After a delay, unless its window has passed.
    fn retry_lane(&mut self, lane: u8, failed: StageFailed) -> Result<(), End> {
        let since = self.lanes.failing_since(lane);
        match self.lanes.failed(lane, &failed) {
            Some(Verdict::GiveUp) => Err(given_up(lane, failed, since)),
            Some(Verdict::RestartAfter(_)) | None => Ok(()),
        }
    }

    /// A lane can lose its epoch to the broker's transaction time-out, too. Whoever takes the task
    /// over fences the meta lane first: if that still writes, the lane may be opened again.
    /// Gives the newest low watermark.
    pub(super) async fn still_ours(&self) -> Result<Option<Watermark>, Failure> {
        self.meta.prove().await.map_err(|failure| match failure.class {
            FailureClass::Fenced => fenced(),
            FailureClass::Connection
            | FailureClass::Transient
            | FailureClass::Poison
            | FailureClass::Fatal => failure,
        })
    }

    /// Waits until every lane is open.
    pub(super) async fn lanes_open(&mut self) -> Result<(), End> {
        while !self.lanes.are_open() {
            self.next(None).await?;
        }
        Ok(())
    }

    /// Lets a delay pass while lanes are looked after. It is over where what failed is to run elsewhere.
    pub(super) async fn idle(&mut self, delay: Duration) -> Result<(), End> {
        let until = tokio::time::Instant::now() + delay;
        while !self.has_moved()
            && let Ok(news) = tokio::time::timeout_at(until, self.hear()).await
        {
            self.note(news?, None).await?;
        }
        Ok(())
    }

    /// Lets everything that was read become durable, and confirms it. Bounded: what is left is read
    /// again at the next start.
    pub(super) async fn drain(&mut self, front: &Front) {
        front.pause();
        let began = tokio::time::Instant::now();
        let until = began + DRAIN_MAX;
        while self.budget.bytes_free() < self.budget.bytes_max() as usize {
            let soon = tokio::time::Instant::now() + Duration::from_millis(10);
            // Whoever waits for the end opens every lane anew. Here one may never be opened again: it is placed behind
            // another router by then.
            let is_closed = self.options.hurried && !self.lanes.are_open();
            let patience = if is_closed { CLOSED_MAX } else { DRAIN_MAX };
            if began + patience < soon || self.settle(front, soon).await.is_err() {
                warn!("not everything could be delivered in time; the next start goes on there");
                return;
            }
        }
        front.flush();
        loop {
            match tokio::time::timeout_at(until, self.news.recv()).await {
                Ok(Some(News::Advanced(advanced))) if advanced.generation == front.generation => {
                    self.progress.advanced(advanced.watermark);
                    if advanced.is_settled {
                        return;
                    }
                }
                Ok(Some(news)) => {
                    if self.note(news, Some(front)).await.is_err() {
                        return;
                    }
                }
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Deals with what happens until `until`; stopping is under way already.
    async fn settle(&mut self, front: &Front, until: tokio::time::Instant) -> Result<(), End> {
        while let Ok(Some(news)) = tokio::time::timeout_at(until, self.news.recv()).await {
            self.note(news, Some(front)).await?;
        }
        Ok(())
    }
}

fn may_pass(failure: &Failure) -> bool {
    match failure.class {
        FailureClass::Connection | FailureClass::Transient => true,
        FailureClass::Fenced | FailureClass::Poison | FailureClass::Fatal => false,
    }
}

fn fenced() -> Failure {
    Failure {
        class: FailureClass::Fenced,
        cause: "another process has taken over this task; this one stops. Run a task in one place \
                only, or give the other one another name"
            .into(),
    }
}

/// A lane is opened no more. What might have passed has failed the task, which is recovered (P68); the rest is for a
/// person.
fn given_up(lane: u8, failed: StageFailed, since: Option<Instant>) -> End {
    let StageFailed { class, cause, .. } = failed;
    match class {
        FailureClass::Connection | FailureClass::Transient => {
            let tried = since.map(|since| since.elapsed()).unwrap_or_default();
            End::Outcome(Outcome::Failed {
                cause: format!(
                    "lane {lane} was opened again for {tried:?} without success (`retry` of the spec): {cause}"
                ),
            })
        }
        FailureClass::Poison => End::Failure(Failure { class, cause }),
        FailureClass::Fenced | FailureClass::Fatal => End::Failure(Failure::fatal(cause)),
    }
}
