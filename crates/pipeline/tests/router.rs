//! The router: what each lane gets, and what a lane's new owner gets again.

mod bench;

use actix::{Actor, Addr};
use bench::{Probe, chunk, inserts, table, table_plan, task_plan};
use futures_util::FutureExt;
use pipeline::batch::{
    Decoded, Durable, Inference, LaneBatch, LaneReady, Routed, Stated, TableLearned,
};
use pipeline::router::Router;
use pipeline::routing::{Met, Routing};
use record::plan::TablePlan;
use std::sync::Arc;
use supervision::{Budget, Credit, Lifeline, Stage};
use tokio::sync::mpsc::UnboundedReceiver;
use wal::change::{Operation, Span};
use wal::{Change, ChangeBatch, Lsn, Position, Table, statement};

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
    router.do_send(TableLearned { table: table(), plans: plan.into(), inference: None });
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
async fn a_chunk_between_two_parts_of_a_transaction_is_not_its_end() {
    let mut bench = bench(2);
    bench.route(inserts(50, 0..100, false)).await;
    bench.route(chunk(inserts(40, 0..100, true))).await;
    let mut end = inserts(50, 0..0, true);
    end.tables.clear();
    assert_eq!(bench.route(end).await.lanes, 0b11);
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

/// The others get all that there is credit for, whatever one does not answer; then whoever pays waits for that one.
#[actix_rt::test]
async fn a_lane_that_does_not_answer_holds_back_the_others_only_once_the_credit_is_used_up() {
    let mut bench = bench(2);
    let budget = Budget::new(100);
    for commit in 1..=5_u8 {
        let credit = budget.take(20).await;
        let batch = inserts(u64::from(commit) * 10, 0..100, true);
        bench.router.do_send(Decoded { batch, credit });
        assert_eq!(bench.routed.recv().await.expect("routed").lanes, 0b11);
        let part = bench.lanes[1].try_recv().expect("its part");
        let position = part.batch.position(part.batch.changes.last().expect("rows"));
        bench.router.do_send(Durable { generation: 1, lane: 1, seq: part.seq, position });
    }
    bench.route(inserts(60, 0..0, true)).await;
    assert_eq!(budget.bytes_free(), 0, "the other lane's parts are kept");
    let mut next = std::pin::pin!(budget.take(20));
    assert!(next.as_mut().now_or_never().is_none(), "who reads waits");
    // Dropped by the lane, kept for its next owner.
    drop(bench.lanes[0].try_recv().expect("its part"));
    assert!(next.as_mut().now_or_never().is_none());
    let position = Position { commit_lsn: Lsn(10), ordinal: 99 };
    bench.router.do_send(Durable { generation: 1, lane: 0, seq: 1, position });
    assert_eq!(next.await.bytes(), 20);
}

/// Positions of statements and rows that one lane gets after a table version was learned with this inference, and what is
/// to be written down.
fn inferred(since: Option<Position>, not_before: u64) -> (Vec<(bool, u64)>, Vec<Met>) {
    let stands_for = statement::inferred(r#"[["public","orders"]]"#, 0).expect("a table");
    let stands_for = Arc::new(stands_for);
    let plan = TablePlan::new(Arc::clone(&stands_for), &task_plan(), 0, 1, 1).expect("a plan");
    let statement = Stated {
        table: stands_for,
        plans: Some(Arc::new(plan)).into(),
        tuple: statement::tuple(b"[]", b"{}"),
    };
    let inference =
        Inference { number: 3, since, not_before: Lsn(not_before), statement: Some(statement) };
    let mut routing = Routing::new(1, 1);
    let (plans, inference) = (Some(table_plan(1, 1)).into(), Some(inference));
    routing.learn(TableLearned { table: table(), plans, inference });
    let mut got = Vec::new();
    for batch in [inserts(50, 3..5, false), inserts(50, 5..6, true)] {
        let decoded = Decoded { batch, credit: Credit::none() };
        routing.route(decoded, &mut |_, part| {
            for piece in &*part.pieces {
                let change = &part.batch.changes[piece.change as usize];
                let is_statement = part.batch.table(change).oid == statement::OID;
                let tuple = part.batch.tuple(change.new.expect("a row"));
                assert_eq!(tuple.len(), if is_statement { 3 } else { 1 });
                got.push((is_statement, change.ordinal));
            }
        });
    }
    (got, routing.take_met())
}

#[test]
fn an_inferred_statement_stands_once_before_the_row_that_told_of_it() {
    let at = Position { commit_lsn: Lsn(50), ordinal: 3 };
    let rows = [(false, 3), (false, 4), (false, 5)];
    let told: Vec<_> = [(true, 3)].into_iter().chain(rows).collect();
    let met = vec![Met { oid: 7, number: 3, at }];
    assert_eq!(inferred(None, 0), (told.clone(), met.clone()));
    assert_eq!(inferred(Some(at), 0), (told, Vec::new()), "read again");
    let earlier = Position { commit_lsn: Lsn(40), ordinal: 0 };
    assert_eq!(inferred(Some(earlier), 0), (rows.to_vec(), Vec::new()), "it stands before these");
    assert_eq!(inferred(None, 51), (rows.to_vec(), met), "the catalog was ahead");
}

/// Batches of changes: `r` a row, `t` TRUNCATE, `s` a statement that DTS writes, `u` one that the task does not select, `x` one
/// of a kind that DTS leaves out, `g` one that could not be captured; `.` ends a transaction.
fn script(batches: &[&str]) -> Vec<ChangeBatch> {
    let object = r#""objects":[{"type":"table","schema":"public","name":"o"}]"#;
    let content = |letter| match letter {
        'x' => format!(r#"{{"tag":"CREATE TYPE","query":"CREATE TYPE o AS ()",{object}}}"#),
        'g' => r#"{"tag":"CREATE TABLE","gap":"why"}"#.to_owned(),
        _ => format!(r#"{{"tag":"CREATE TABLE","query":"CREATE TABLE o ()",{object}}}"#),
    };
    let (mut number, mut ordinal) = (1, 0);
    let mut one = |letters: &str| {
        let mut batch = inserts(0, 0..0, letters.ends_with('.'));
        batch.committed_end_lsn = None;
        batch.transactions.clear();
        batch.tables = vec![table(), stands_for(1), stands_for(2)];
        let (mut bytes, mut open) = (b"\0\x01t\0\0\0\x011".to_vec(), None);
        for letter in letters.chars() {
            if letter == '.' {
                batch.committed_end_lsn = Some(Lsn(10 * number + 5));
                (number, ordinal, open) = (number + 1, 0, None);
                continue;
            }
            let transaction = *open.get_or_insert_with(|| {
                let commit_lsn = Lsn(10 * number);
                let begun = inserts(commit_lsn.0, 0..0, false).transactions[0];
                batch.transactions.push(begun);
                u32::try_from(batch.transactions.len() - 1).expect("few")
            });
            let start = u32::try_from(bytes.len()).expect("few");
            let (table, operation, new) = match letter {
                'r' => (0, Operation::Insert, Some(Span { start: 0, end: 8 })),
                't' => (0, Operation::Truncate, None),
                _ => {
                    bytes.extend(statement::tuple(b"[]", content(letter).as_bytes()));
                    let end = u32::try_from(bytes.len()).expect("few");
                    (
                        if letter == 'u' { 2 } else { 1 },
                        Operation::Insert,
                        Some(Span { start, end }),
                    )
                }
            };
            let lsn = Lsn(1);
            batch.changes.push(Change {
                transaction,
                table,
                ordinal,
                lsn,
                operation,
                old: None,
                new,
            });
            ordinal += 1;
        }
        batch.bytes = bytes.into();
        batch
    };
    batches.iter().map(|letters| one(letters)).collect()
}

/// A table that stands for captured statements.
fn stands_for(version: u32) -> Arc<Table> {
    let inferred = statement::inferred("[]", 0).expect("a table");
    Arc::new(Table { version, ..inferred })
}

/// What one lane gets of a script where DDL is left out as DTS does it: transaction and ordinal of each change, and what
/// may be confirmed after all of it.
#[track_caller]
fn omits(batches: &[&str], expected: &[(u64, u64)]) {
    let mut routing = Routing::new(1, 1).omitting(true);
    let plan = TablePlan::new(stands_for(1), &task_plan(), 0, 1, 1).expect("a plan");
    let plans = [
        (table(), Some(table_plan(1, 1))),
        (stands_for(1), Some(Arc::new(plan))),
        (stands_for(2), None),
    ];
    for (table, plan) in plans {
        routing.learn(TableLearned { table, plans: plan.into(), inference: None });
    }
    let (mut got, mut confirmable) = (Vec::new(), None);
    let scripted = script(batches);
    let end = scripted.iter().filter_map(|it| it.committed_end_lsn).max();
    for batch in scripted {
        let routed = routing.route(Decoded { batch, credit: Credit::none() }, &mut |_, part| {
            for piece in &*part.pieces {
                let change = &part.batch.changes[piece.change as usize];
                let at = part.batch.position(change);
                got.push((at.commit_lsn.0 / 10, change.ordinal));
            }
        });
        confirmable = routed.iter().filter_map(|it| it.confirmable).max().max(confirmable);
    }
    assert_eq!((got.as_slice(), confirmable), (expected, end), "{batches:?}");
}

#[test]
fn statements_are_left_out_of_transactions_that_change_rows() {
    omits(&["s.sr.rs.rsrs.s."], &[(1, 0), (2, 1), (3, 0), (4, 0), (4, 2), (5, 0)]);
    // Where a batch ends does not matter.
    omits(
        &["s", ".s", "r.r", "s.r", "s", "rs", ".", "s", "."],
        &[(1, 0), (2, 1), (3, 0), (4, 0), (4, 2), (5, 0)],
    );
    omits(&["ss", "s", "sr", "r.s."], &[(1, 4), (1, 5), (2, 0)]);
    omits(&["s", "s", "", "s."], &[(1, 0), (1, 1), (1, 2)]);
}

#[test]
fn statements_are_left_out_of_transactions_that_are_selected_in_part() {
    omits(&["su.us.s.u."], &[(3, 0)]);
    omits(&["s", "u", ".s", "s", "u", "s."], &[]);
}

#[test]
fn what_dts_takes_for_ddl_does_not_mix_it() {
    omits(&["st", "t.", "xs.x."], &[(1, 0), (1, 1), (1, 2), (2, 1)]);
    // TRUNCATE stays, and so does the mark of what could not be captured.
    omits(&["s", "t", "gr."], &[(1, 1), (1, 2), (1, 3)]);
    omits(&["g", "ts", "r."], &[(1, 0), (1, 1), (1, 3)]);
}
