//! Guardian: hears of every failure, opening and advance, and passes it to the task's loop in order.
//!
//! In:    [`StageFailed`], [`LaneOpened`], [`LaneSealed`], [`LaneStopped`], [`Advanced`], [`SnapshotRead`],
//!        [`Copied`], [`TablesSeen`].
//! Out:   [`News`], to whoever runs the task.
//! Never: decides; that is [`crate::task`], which can await.

use crate::batch::{
    Advanced, Copied, LaneOpened, LaneSealed, LaneStopped, SnapshotRead, TablesSeen,
};
use actix::{Actor, Context, Handler};
use supervision::StageFailed;
use tokio::sync::mpsc::UnboundedSender;

/// Something happened in a stage.
#[derive(Clone, Debug)]
pub enum News {
    Failed(StageFailed),
    Opened(LaneOpened),
    Sealed(LaneSealed),
    Stopped(LaneStopped),
    /// Lanes may have to run elsewhere, or somebody asks for a snapshot of a table.
    Hosts,
    Advanced(Advanced),
    SnapshotRead(SnapshotRead),
    Copied(Copied),
    Tables(TablesSeen),
    /// The delay before a lane is opened again has passed.
    LaneDue {
        lane: u8,
        /// The life that failed.
        life: u64,
    },
}

/// The ear of a running task. Lives as long as the task.
#[derive(Debug)]
pub struct Guardian(pub UnboundedSender<News>);

impl Guardian {
    fn pass(&self, news: News) {
        // The task's loop has ended: nobody is left to care.
        let _ = self.0.send(news);
    }
}

impl Actor for Guardian {
    type Context = Context<Self>;
}

impl Handler<StageFailed> for Guardian {
    type Result = ();

    fn handle(&mut self, failed: StageFailed, _: &mut Context<Self>) {
        self.pass(News::Failed(failed));
    }
}

impl Handler<TablesSeen> for Guardian {
    type Result = ();

    fn handle(&mut self, seen: TablesSeen, _: &mut Context<Self>) {
        self.pass(News::Tables(seen));
    }
}

impl Handler<LaneOpened> for Guardian {
    type Result = ();

    fn handle(&mut self, opened: LaneOpened, _: &mut Context<Self>) {
        self.pass(News::Opened(opened));
    }
}

impl Handler<LaneSealed> for Guardian {
    type Result = ();

    fn handle(&mut self, sealed: LaneSealed, _: &mut Context<Self>) {
        self.pass(News::Sealed(sealed));
    }
}

impl Handler<LaneStopped> for Guardian {
    type Result = ();

    fn handle(&mut self, stopped: LaneStopped, _: &mut Context<Self>) {
        self.pass(News::Stopped(stopped));
    }
}

impl Handler<Advanced> for Guardian {
    type Result = ();

    fn handle(&mut self, advanced: Advanced, _: &mut Context<Self>) {
        self.pass(News::Advanced(advanced));
    }
}

impl Handler<SnapshotRead> for Guardian {
    type Result = ();

    fn handle(&mut self, read: SnapshotRead, _: &mut Context<Self>) {
        self.pass(News::SnapshotRead(read));
    }
}

impl Handler<Copied> for Guardian {
    type Result = ();

    fn handle(&mut self, copied: Copied, _: &mut Context<Self>) {
        self.pass(News::Copied(copied));
    }
}
