//! The reader: reports while it is blocked, never confirms what it has not received.

mod bench;

use actix::{Actor, Addr};
use bench::Probe;
use bytes::Bytes;
use pipeline::batch::WalBatch;
use pipeline::failure::Failure;
use pipeline::progress::Progress;
use pipeline::reader::{Answer, Obey, Order, Parts, Reader, Received, WalStream};
use std::sync::Arc;
use std::time::Duration;
use supervision::{Budget, Lifeline, Limits, Stage, StageFailed};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use wal::Lsn;

/// Positions that a report named: received, confirmed.
type Report = (Lsn, Lsn);

struct Fake {
    incoming: UnboundedReceiver<Result<Received, Failure>>,
    reports: UnboundedSender<Report>,
    closed: UnboundedSender<()>,
}

impl WalStream for Fake {
    fn read(&mut self) -> Answer<'_, Received> {
        Box::pin(async {
            match self.incoming.recv().await {
                Some(received) => received,
                None => std::future::pending().await,
            }
        })
    }

    fn report(&mut self, received: Lsn, confirmed: Lsn, _: bool) -> Answer<'_, ()> {
        let _ = self.reports.send((received, confirmed));
        Box::pin(std::future::ready(Ok(())))
    }

    fn close(self: Box<Self>) -> Answer<'static, ()> {
        let _ = self.closed.send(());
        Box::pin(std::future::ready(Ok(())))
    }

    fn status_interval(&self) -> Duration {
        Duration::from_secs(10)
    }
}

struct Bench {
    reader: Addr<Reader>,
    server: UnboundedSender<Result<Received, Failure>>,
    reports: UnboundedReceiver<Report>,
    closed: UnboundedReceiver<()>,
    batches: UnboundedReceiver<WalBatch>,
    failed: UnboundedReceiver<StageFailed>,
    confirmed: watch::Sender<Lsn>,
    limits: watch::Sender<Limits>,
}

fn bench(credit_bytes: u32) -> Bench {
    throttled(credit_bytes, Limits::default())
}

fn throttled(credit_bytes: u32, limits: Limits) -> Bench {
    let (server, incoming) = unbounded_channel();
    let (report_sender, reports) = unbounded_channel();
    let (close_sender, closed) = unbounded_channel();
    let fake = Fake { incoming, reports: report_sender, closed: close_sender };
    let (decoder, batches) = Probe::start_probe();
    let (guardian, failed) = Probe::start_probe();
    let (confirmed, watched) = watch::channel(Lsn::ZERO);
    let (limits, limited) = watch::channel(limits);
    let open = move || {
        let stream: Box<dyn WalStream> = Box::new(fake);
        let answer: Answer<'static, Box<dyn WalStream>> = Box::pin(std::future::ready(Ok(stream)));
        answer
    };
    let reader = Reader::new(Parts {
        open: Box::new(open),
        budget: Budget::new(credit_bytes),
        limits: limited,
        confirmed: watched,
        decoder,
        eager: false,
        progress: Arc::new(Progress::default()),
        lifeline: Lifeline::new(guardian, 3, Stage::Reader),
    })
    .start();
    Bench { reader, server, reports, closed, batches, failed, confirmed, limits }
}

impl Bench {
    fn send(&self, bytes: usize, server_end: u64, reply_requested: bool) {
        let bytes = Bytes::from(vec![0; bytes]);
        let received = Received { bytes, server_end: Lsn(server_end), reply_requested };
        self.server.send(Ok(received)).expect("read");
    }
}

#[actix_rt::test]
async fn without_credit_it_stops_reading_and_goes_on_reporting() {
    tokio::time::pause();
    let mut bench = bench(100);
    bench.send(80, 10, false);
    let held = bench.batches.recv().await.expect("the first batch");
    bench.send(80, 20, false);
    bench.send(80, 30, false);
    for _ in 0..3 {
        let (received, _) = bench.reports.recv().await.expect("a report");
        assert!(received <= Lsn(20), "it read on without credit");
    }
    assert!(bench.batches.try_recv().is_err());
    drop(held);
    bench.batches.recv().await.expect("the second batch");
}

#[actix_rt::test]
async fn a_server_that_asks_is_answered_at_once() {
    let mut bench = bench(100);
    bench.send(1, 10, true);
    assert_eq!(bench.reports.recv().await, Some((Lsn(10), Lsn::ZERO)));
}

#[actix_rt::test]
async fn a_confirmed_position_is_reported_but_never_above_what_was_received() {
    let mut bench = bench(100);
    bench.send(1, 10, true);
    bench.reports.recv().await;
    bench.confirmed.send(Lsn(8)).expect("watched");
    assert_eq!(bench.reports.recv().await, Some((Lsn(10), Lsn(8))));
    bench.confirmed.send(Lsn(99)).expect("watched");
    assert_eq!(bench.reports.recv().await, Some((Lsn(10), Lsn(10))));
}

#[actix_rt::test]
async fn told_to_close_it_reports_and_ends_in_good_order() {
    let mut bench = bench(100);
    bench.send(1, 10, true);
    bench.reports.recv().await;
    bench.confirmed.send(Lsn(10)).expect("watched");
    bench.reader.do_send(Obey(Order::Close));
    bench.closed.recv().await.expect("closed");
    assert!(bench.failed.recv().await.is_none(), "a good end is no failure");
}

#[actix_rt::test]
async fn a_lost_connection_ends_the_generation() {
    let mut bench = bench(100);
    bench.server.send(Err(Failure::transient("connection closed"))).expect("read");
    let failed = bench.failed.recv().await.expect("a report");
    assert_eq!((failed.generation, failed.stage), (3, Stage::Reader));
    assert_eq!(failed.cause, "connection closed");
}

/// A message of the stream that holds one inserted row.
fn row() -> Vec<u8> {
    let body = [b"w".as_slice(), &[0; 24], b"I", &[7; 73]].concat();
    let length = u32::try_from(body.len() + 4).expect("short").to_be_bytes();
    [b"d".as_slice(), &length, &body].concat()
}

async fn rows_in_ten_seconds(limits: Limits) -> usize {
    let mut bench = throttled(1 << 30, limits);
    // The first answers come while it waits.
    let bytes = Bytes::from(row().repeat(20_000));
    for _ in 0..10 {
        let (bytes, reply_requested) = (bytes.clone(), true);
        let received = Received { bytes, server_end: Lsn(10), reply_requested };
        bench.server.send(Ok(received)).expect("read");
    }
    let end = tokio::time::Instant::now() + Duration::from_secs(10);
    let mut rows = 0;
    while let Ok(batch) = tokio::time::timeout_at(end, bench.batches.recv()).await {
        let bytes = batch.expect("a batch").bytes;
        assert_eq!(bytes.len() % row().len(), 0, "a message was cut");
        rows += bytes.len() / row().len();
    }
    assert!(bench.reports.try_recv().is_ok(), "the server was not answered");
    rows
}

/// Rows that come until `end`.
async fn rows_until(bench: &mut Bench, end: tokio::time::Instant) -> usize {
    let mut rows = 0;
    while let Ok(batch) = tokio::time::timeout_at(end, bench.batches.recv()).await {
        rows += batch.expect("a batch").bytes.len() / row().len();
    }
    rows
}

#[actix_rt::test]
async fn other_limits_hold_from_the_moment_on_at_which_they_come() {
    tokio::time::pause();
    let mut bench = throttled(1 << 30, Limits { rows: 1, bytes: 0 });
    let bytes = Bytes::from(row().repeat(200_000));
    let received = Received { bytes, server_end: Lsn(10), reply_requested: false };
    bench.server.send(Ok(received)).expect("read");
    let (mut end, mut left) = (tokio::time::Instant::now(), 200_000);
    for (rows, expected) in [(1, 10), (5000, 50_000), (20, 200), (400, 4000)] {
        bench.limits.send_replace(Limits { rows, bytes: 0 });
        end += Duration::from_secs(10);
        let rows = rows_until(&mut bench, end).await;
        left -= rows;
        assert!(20 * rows.abs_diff(expected) <= expected.max(20), "{rows} rows, not {expected}");
    }
    bench.limits.send_replace(Limits::default());
    assert_eq!(rows_until(&mut bench, end + Duration::from_secs(1)).await, left);
}

#[actix_rt::test]
async fn a_throttle_is_exact_and_leaves_the_server_no_question_unanswered() {
    tokio::time::pause();
    for (limits, expected) in [
        (Limits { rows: 7, bytes: 0 }, 70),
        (Limits { rows: 1000, bytes: 0 }, 10_000),
        (Limits { rows: 0, bytes: 104 * 5000 }, 50_000),
        (Limits { rows: 500, bytes: 104 * 5000 }, 5000),
    ] {
        let rows = rows_in_ten_seconds(limits).await;
        assert!(20 * rows.abs_diff(expected) <= expected, "{rows} rows, not {expected}");
    }
}
