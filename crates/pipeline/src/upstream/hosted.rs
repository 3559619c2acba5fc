//! A stage of another node's task, on a thread with an actor system of its own.

use super::{
    Event, OpenStage, Order, ReadFrom, Report, Seen, Source, SourceParts, Start, UpstreamStage,
};
use crate::batch::{Decoded, Retire, TableLearned, WalBatch};
use crate::decoder::Decoder;
use crate::describe::{Describe, Described, Describing};
use crate::failure::Failure;
use crate::planner::Plans;
use crate::progress::Progress;
use crate::reader;
use crate::upstream::{decoding, spool};
use actix::{Actor, Addr, Context, Handler, Message, Recipient};
use postgres::settings::Settings;
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use supervision::{Budget, Lifeline, Stage, StageFailed};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};
use tracing::info;
use wal::Table;
use wal::relation::RelationDescription;

/// How long a reader may take to take leave of its server.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// Where the reader of a hosted stage runs.
pub enum ReaderHost {
    /// On this node.
    Here(Budget),
    Elsewhere(Start),
}

/// Starts a stage, which lives until the orders end. Paths of the spec, those of its secrets too, are relative
/// to `folder`; transactions in progress are spooled below `data_dir`.
///
/// # Errors
/// When the spec cannot be carried out here: a secret or a certificate is missing, or there is no thread.
pub fn host(
    open: OpenStage,
    reader: ReaderHost,
    folder: &Path,
    data_dir: &Path,
    report: Report,
) -> Result<UnboundedSender<Order>, Failure> {
    let from = match reader {
        ReaderHost::Here(budget) => {
            let spools = open.spools(data_dir);
            let open = open.stream(Settings::new(&open.spec, folder)?);
            ReadFrom::Here { open, budget, spools }
        }
        ReaderHost::Elsewhere(start) => ReadFrom::Elsewhere(start),
    };
    let (orders, queue) = unbounded_channel();
    let name = format!("{} {}", open.stage, open.spec.task);
    let work = move || actix_rt::System::new().block_on(live(open, from, report, queue));
    std::thread::Builder::new()
        .name(name)
        .spawn(work)
        .map_err(|error| Failure::transient(format!("no thread for a stage: {error}")))?;
    Ok(orders)
}

async fn live(
    open: OpenStage,
    from: ReadFrom,
    report: Report,
    mut orders: UnboundedReceiver<Order>,
) {
    let OpenStage { stage, generation, confirmed, eager, ref spec, .. } = open;
    info!(task = spec.task, %stage, generation, "a stage begins here");
    let progress = Arc::new(Progress::default());
    let outlet = Outlet { report: Arc::clone(&report), progress: Arc::clone(&progress) }.start();
    let line = |stage| {
        let guardian: Recipient<StageFailed> = outlet.clone().recipient();
        Lifeline::new(guardian, generation, stage)
    };
    let asking = Rc::new(Asking { outlet: outlet.clone(), asked: RefCell::default() });
    let decoder = (stage == UpstreamStage::Decoder).then(|| {
        let describe: Rc<dyn Describe> = Rc::clone(&asking) as _;
        let (decoded, learned) = (outlet.clone().recipient(), outlet.clone().recipient());
        Decoder::new(
            wal::decoder::Decoder::new(decoding(&open)),
            describe,
            decoded,
            learned,
            spool(spec),
            line(Stage::Decoder),
        )
        .start()
    });
    let (confirm, confirmed) = watch::channel(confirmed);
    let (limit, limits) = watch::channel(open.limits());
    let reader = Source::begin(
        from,
        SourceParts {
            confirmed,
            limits,
            decoder: match &decoder {
                Some(decoder) => decoder.clone().recipient(),
                None => outlet.clone().recipient(),
            },
            eager,
            progress,
            lifeline: line(Stage::Reader),
        },
    );
    loop {
        match orders.recv().await {
            Some(Order::Confirmed(position)) => {
                confirm.send_replace(position);
            }
            Some(Order::Limits(limits)) => {
                limit.send_replace(limits);
            }
            Some(Order::Learned(table)) => asking.answer(table),
            Some(Order::Pause) => reader.obey(reader::Order::Pause),
            Some(Order::Close) | None => break,
        }
    }
    if let Some(decoder) = decoder {
        decoder.do_send(Retire);
    }
    reader.obey(reader::Order::Close);
    // The reader holds the other half as long as it lives.
    let in_time = tokio::time::timeout(CLOSE_MAX, confirm.closed()).await.is_ok();
    reader.retire();
    info!(task = spec.task, %stage, generation, in_time, "a stage ends here");
    report(Event::Closed);
}

/// Reports what the stages here hand on.
struct Outlet {
    report: Report,
    progress: Arc<Progress>,
}

impl Outlet {
    fn seen(&self) -> Seen {
        let wal_bytes = self.progress.wal_bytes.load(Relaxed);
        Seen { server_end: self.progress.server_end(), wal_bytes }
    }
}

/// Decoder → Outlet, in the order of the stream.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Ask(RelationDescription);

impl Actor for Outlet {
    type Context = Context<Self>;
}

impl Handler<WalBatch> for Outlet {
    type Result = ();

    fn handle(&mut self, batch: WalBatch, _: &mut Context<Self>) {
        (self.report)(Event::Wal(batch, self.seen()));
    }
}

impl Handler<Decoded> for Outlet {
    type Result = ();

    fn handle(&mut self, decoded: Decoded, _: &mut Context<Self>) {
        (self.report)(Event::Changes(decoded, self.seen()));
    }
}

impl Handler<Ask> for Outlet {
    type Result = ();

    fn handle(&mut self, Ask(relation): Ask, _: &mut Context<Self>) {
        (self.report)(Event::Describe(relation));
    }
}

impl Handler<TableLearned> for Outlet {
    type Result = ();

    /// The router has learned it already: its node has planned it.
    fn handle(&mut self, _: TableLearned, _: &mut Context<Self>) {}
}

impl Handler<StageFailed> for Outlet {
    type Result = ();

    fn handle(&mut self, failed: StageFailed, _: &mut Context<Self>) {
        let StageFailed { class, cause, .. } = failed;
        (self.report)(Event::Failed(Failure { class, cause }));
    }
}

/// Has the router's node complete and plan a relation. The decoder asks for one at a time.
struct Asking {
    outlet: Addr<Outlet>,
    asked: RefCell<Option<oneshot::Sender<Arc<Table>>>>,
}

impl Asking {
    fn answer(&self, table: Arc<Table>) {
        if let Some(asked) = self.asked.borrow_mut().take() {
            // Whoever asked may have ended.
            let _ = asked.send(table);
        }
    }
}

impl Describe for Asking {
    fn describe(&self, relation: RelationDescription) -> Describing {
        let (asked, answer) = oneshot::channel();
        *self.asked.borrow_mut() = Some(asked);
        self.outlet.do_send(Ask(relation));
        Box::pin(async move {
            let table = answer.await.map_err(|_| Failure::transient("a relation has no answer"))?;
            // The router hears of an inference where it is made.
            Ok(Described { table, plans: Plans::default(), inference: None })
        })
    }
}
