//! The router: what each lane gets, and what a lane's new owner gets again.

mod bench;

use actix::{Actor, Addr};
use bench::{Probe, inserts, table, table_plan};
use pipeline::batch::{Decoded, Durable, LaneBatch, LaneReady, Routed, TableLearned};
use pipeline::router::Router;
use supervision::{Budget, Credit, Lifeline, Stage};
use tokio::sync::mpsc::UnboundedReceiver;
use wal::{ChangeBatch, Lsn, Position};

struct Bench {
    router: Addr<Router>,
    lanes: Vec<UnboundedReceiver<LaneBatch>>,
    routed: UnboundedReceiver<Routed>,
}

/// A router over `lanes` lanes; the table has partitions enough for each of them.
fn bench(lanes: u8) -> Bench {
    let (producers, lane_queues): (Vec<_>, Vec<_>) =
        (0..lanes).map(|_| Probe::start_probe()).unzip();
    let (acknowledger, routed) = Probe::start_probe();
    let (guardian, _) = Probe::start_probe();
    let line = Lifeline::new(guardian, 1, Stage::Router);
    let producers = producers.into_iter().map(Some).collect();
    let router = Router::new(1, None, producers, acknowledger, line).start();
    let plan = Some(table_plan(8 * i32::from(lanes), lanes));
    router.do_send(TableLearned { table: table(), plans: plan.into() });
    Bench { router, lanes: lane_queues, routed }
}

impl Bench {
    async fn route(&mut self, batch: ChangeBatch) -> Routed {
        self.router.do_send(Decoded { batch, credit: Credit::none() });
        self.routed.recv().await.expect("routed")
    }
}

#[actix_rt::test]
async fn every_change_reaches_exactly_one_lane() {
    let mut bench = bench(4);
    let routed = bench.route(inserts(50, 0..200, true)).await;
    assert_eq!(routed.confirmable, Some(Lsn(58)));
    let mut seen = Vec::new();
    for (number, queue) in bench.lanes.iter_mut().enumerate() {
        let Ok(part) = queue.try_recv() else {
            assert_eq!(routed.lanes >> number & 1, 0);
            continue;
        };
        assert_eq!(routed.lanes >> number & 1, 1);
        seen.extend(part.pieces.iter().map(|piece| piece.change));
    }
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..200));
}

#[actix_rt::test]
async fn a_new_owner_gets_what_is_not_durable_and_nothing_else() {
    let mut bench = bench(1);
    for commit in [50, 60, 70] {
        bench.route(inserts(commit, 0..1, true)).await;
    }
    let position = Position { commit_lsn: Lsn(50), ordinal: 0 };
    bench.router.do_send(Durable { generation: 1, lane: 0, seq: 1, position });
    let (producer, mut again) = Probe::start_probe();
    bench.router.do_send(LaneReady { lane: 0, producer });
    bench.route(inserts(80, 0..1, true)).await;
    let seqs: Vec<u64> = std::iter::from_fn(|| again.try_recv().ok()).map(|it| it.seq).collect();
    assert_eq!(seqs, [2, 3, 4]);
}

#[actix_rt::test]
async fn news_of_an_older_life_frees_nothing() {
    let mut bench = bench(1);
    bench.route(inserts(50, 0..1, true)).await;
    bench.router.do_send(Durable { generation: 0, lane: 0, seq: 9, position: Position::ZERO });
    let (producer, mut again) = Probe::start_probe();
    bench.router.do_send(LaneReady { lane: 0, producer });
    assert_eq!(again.recv().await.expect("sent again").seq, 1);
}

#[actix_rt::test]
async fn a_lane_hears_of_the_end_of_a_transaction_that_has_nothing_more_for_it() {
    let mut bench = bench(2);
    bench.route(inserts(50, 0..100, false)).await;
    let mut end = inserts(50, 0..0, true);
    end.tables.clear();
    let routed = bench.route(end).await;
    assert_eq!(routed.lanes, 0b11);
    for queue in &mut bench.lanes {
        assert!(!queue.try_recv().expect("rows").ends_transaction);
        let end = queue.try_recv().expect("the end");
        assert!(end.ends_transaction && end.pieces.is_empty());
    }
}

#[actix_rt::test]
async fn credit_comes_back_when_every_part_is_durable() {
    let mut bench = bench(1);
    let budget = Budget::new(100);
    let credit = budget.take(60).await;
    bench.router.do_send(Decoded { batch: inserts(50, 0..1, true), credit });
    bench.routed.recv().await.expect("routed");
    drop(bench.lanes[0].try_recv().expect("a part"));
    assert_eq!(budget.bytes_free(), 40);
    let position = Position { commit_lsn: Lsn(50), ordinal: 0 };
    bench.router.do_send(Durable { generation: 1, lane: 0, seq: 1, position });
    bench.route(inserts(60, 0..0, true)).await;
    assert_eq!(budget.bytes_free(), 100);
}
