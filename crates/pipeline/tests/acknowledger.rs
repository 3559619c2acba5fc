//! The acknowledger: a position is confirmed only after its low watermark is durable.

mod bench;

use actix::{Actor, Addr};
use bench::Probe;
use pipeline::acknowledger::{Acknowledger, Flush, Parts, Positions};
use pipeline::batch::{Advanced, Durable, LaneStanding, Routed};
use pipeline::failure::Failure;
use std::cell::RefCell;
use std::rc::Rc;
use supervision::{Lifeline, Stage, StageFailed};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{oneshot, watch};
use wal::{Lsn, Position};

type Pending = Rc<RefCell<Vec<(Lsn, oneshot::Sender<Result<(), Failure>>)>>>;

struct Bench {
    acknowledger: Addr<Acknowledger>,
    /// Watermarks that are on their way.
    pending: Pending,
    positions: Positions,
    confirmed: watch::Receiver<Lsn>,
    advanced: UnboundedReceiver<Advanced>,
    failed: UnboundedReceiver<StageFailed>,
}

fn bench(lanes: u8) -> Bench {
    let pending = Pending::default();
    let written = Rc::clone(&pending);
    let (confirmed, watched) = watch::channel(Lsn::ZERO);
    let (guardian, advanced) = Probe::start_probe();
    let (failure_guardian, failed) = Probe::start_probe();
    let positions = Rc::new(RefCell::new(vec![Position::ZERO; usize::from(lanes)]));
    let acknowledger = Acknowledger::new(Parts {
        generation: 1,
        lanes,
        eager: true,
        positions: Rc::clone(&positions),
        write: Rc::new(move |lsn, _| {
            let (done, answer) = oneshot::channel();
            written.borrow_mut().push((lsn, done));
            Box::pin(async { answer.await.expect("an answer") })
        }),
        confirmed,
        guardian,
        sampler: None,
        lifeline: Lifeline::new(failure_guardian, 1, Stage::Acknowledger),
    })
    .start();
    Bench { acknowledger, pending, positions, confirmed: watched, advanced, failed }
}

impl Bench {
    async fn routed(&self, seq: u64, lanes: u64, confirmable: u64) {
        let confirmable = Some(Lsn(confirmable));
        let routed =
            Routed { seq, lanes, confirmable, commit_time_us: None, transactions: Vec::new() };
        self.acknowledger.send(routed).await.expect("alive");
    }

    async fn durable(&self, lane: u8, seq: u64) {
        let position = Position { commit_lsn: Lsn(seq), ordinal: 0 };
        let durable = Durable { generation: 1, lane, seq, position };
        self.acknowledger.send(durable).await.expect("alive");
    }
}

#[actix_rt::test]
async fn nothing_is_confirmed_before_its_watermark_is_durable() {
    let mut bench = bench(1);
    bench.routed(1, 1, 10).await;
    assert!(bench.pending.borrow().is_empty(), "the lane has not answered");
    bench.durable(0, 1).await;
    let (lsn, done) = bench.pending.borrow_mut().pop().expect("a watermark");
    assert_eq!((lsn, *bench.confirmed.borrow()), (Lsn(10), Lsn::ZERO));
    done.send(Ok(())).expect("awaited");
    bench.confirmed.changed().await.expect("alive");
    assert_eq!(*bench.confirmed.borrow(), Lsn(10));
    assert_eq!(bench.advanced.recv().await.expect("told").seq, 1);
}

#[actix_rt::test]
async fn positions_that_come_meanwhile_share_the_next_watermark() {
    let bench = bench(1);
    for seq in 1..=3 {
        bench.routed(seq, 1, 10 * seq).await;
        bench.durable(0, seq).await;
    }
    assert_eq!(bench.pending.borrow().len(), 1);
    let (_, done) = bench.pending.borrow_mut().pop().expect("a watermark");
    done.send(Ok(())).expect("awaited");
    let mut confirmed = bench.confirmed.clone();
    confirmed.changed().await.expect("alive");
    assert_eq!(bench.pending.borrow()[0].0, Lsn(30));
}

#[actix_rt::test]
async fn a_watermark_that_fails_ends_the_generation() {
    let mut bench = bench(1);
    bench.routed(1, 0, 10).await;
    let (_, done) = bench.pending.borrow_mut().pop().expect("a watermark");
    done.send(Err(Failure::transient("no broker"))).expect("awaited");
    assert_eq!(bench.failed.recv().await.expect("told").cause, "no broker");
    assert_eq!(*bench.confirmed.borrow(), Lsn::ZERO);
}

#[actix_rt::test]
async fn a_late_report_of_an_older_front_moves_the_lane_but_not_the_frontier() {
    let bench = bench(1);
    bench.routed(1, 1, 10).await;
    let position = Position { commit_lsn: Lsn(5), ordinal: 2 };
    let late = Durable { generation: 0, lane: 0, seq: 9, position };
    bench.acknowledger.send(late).await.expect("alive");
    assert!(bench.pending.borrow().is_empty());
    assert_eq!(bench.positions.borrow()[0], position);
}

#[actix_rt::test]
async fn a_flush_is_answered_also_when_there_is_nothing_to_write() {
    let mut bench = bench(1);
    bench.acknowledger.do_send(Flush);
    let advanced = bench.advanced.recv().await.expect("answered");
    assert_eq!((advanced.seq, advanced.is_settled), (0, true));
}

#[actix_rt::test]
async fn a_flush_is_settled_only_when_its_watermark_is_durable() {
    let mut bench = bench(1);
    bench.routed(1, 0, 10).await;
    let (_, done) = bench.pending.borrow_mut().pop().expect("a watermark");
    bench.acknowledger.send(Flush).await.expect("alive");
    while let Ok(advanced) = bench.advanced.try_recv() {
        assert!(!advanced.is_settled, "its watermark is on its way");
    }
    done.send(Ok(())).expect("awaited");
    let advanced = bench.advanced.recv().await.expect("told");
    assert_eq!((advanced.watermark, advanced.is_settled), (Lsn(10), true));
}

/// A broker can forget what it had answered to a lane that is lost then.
#[actix_rt::test]
async fn nothing_is_confirmed_while_a_lane_is_lost() {
    let mut bench = bench(2);
    let acknowledger = bench.acknowledger.clone();
    let stands = async |is_open| {
        acknowledger.send(LaneStanding { lane: 1, is_open }).await.expect("alive");
    };
    bench.routed(1, 0b01, 10).await;
    stands(false).await;
    bench.durable(0, 1).await;
    assert!(bench.pending.borrow().is_empty(), "lane 1 is lost");
    bench.acknowledger.send(Flush).await.expect("alive");
    let told = bench.advanced.recv().await.expect("told");
    assert_eq!(told.seq, 0, "chunks of snapshots would be settled");
    stands(true).await;
    assert_eq!(bench.advanced.recv().await.expect("told").seq, 1);
    let (lsn, _done) = bench.pending.borrow_mut().pop().expect("a watermark");
    assert_eq!(lsn, Lsn(10));
}

/// Who ends then does not wait for it.
#[actix_rt::test]
async fn what_cannot_be_confirmed_is_settled() {
    let mut bench = bench(2);
    bench.routed(1, 0b01, 10).await;
    bench.acknowledger.send(LaneStanding { lane: 1, is_open: false }).await.expect("alive");
    bench.durable(0, 1).await;
    bench.acknowledger.send(Flush).await.expect("alive");
    loop {
        let advanced = bench.advanced.recv().await.expect("alive");
        if advanced.is_settled {
            break assert_eq!(advanced.watermark, Lsn::ZERO);
        }
    }
}
