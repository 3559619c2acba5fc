//! Stages before the router on threads of their own, as another node would run them: the inlet stands for a
//! stage, a decoder has its relations completed where the router is, credit comes back, a failure ends the generation.

mod bench;

use actix::{Actor, Addr};
use bench::{Probe, table, table_plan};
use bytes::Bytes;
use pipeline::Progress;
use pipeline::batch::{Decoded, Retire, TableLearned, WalBatch};
use pipeline::describe::{Describe, Described, Describing};
use pipeline::failure::Failure;
use pipeline::reader::{self, Obey};
use pipeline::upstream::{
    Event, Inlet, Limits, Line, OpenStage, Order, ReaderHost, Report, Seen, Sink, Start, Told,
    UpstreamStage, budget, failing, host,
};
use std::rc::Rc;
use std::sync::Arc;
use supervision::{Credit, FailureClass, Lifeline, Stage, StageFailed};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::{oneshot, watch};
use wal::Lsn;
use wal::relation::RelationDescription;

/// A stage that the test plays.
struct Far {
    start: Start,
    begun: oneshot::Receiver<(Report, UnboundedReceiver<Order>)>,
}

fn far() -> Far {
    let (tell, begun) = oneshot::channel();
    let start: Start = Box::new(move |report| {
        let (orders, queue) = unbounded_channel();
        assert!(tell.send((report, queue)).is_ok(), "started once");
        orders
    });
    Far { start, begun }
}

struct Fixed;

impl Describe for Fixed {
    fn describe(&self, _: RelationDescription) -> Describing {
        Box::pin(std::future::ready(Ok(Described {
            table: table(),
            plans: Some(table_plan(1, 1)).into(),
            inference: None,
        })))
    }
}

struct Bench {
    inlet: Addr<Inlet>,
    confirmed: watch::Sender<Lsn>,
    limits: watch::Sender<Limits>,
    progress: Arc<Progress>,
    failed: UnboundedReceiver<StageFailed>,
}

fn inlet(start: Start, sink: Sink) -> Bench {
    let (confirmed, watched) = watch::channel(Lsn(5));
    let (limits, limited) = watch::channel(Limits::default());
    let (guardian, failed) = Probe::start_probe();
    let progress = Arc::new(Progress::default());
    let line = Lifeline::new(guardian, 3, Stage::Decoder);
    let told = Told { confirmed: watched, limits: limited };
    let inlet = Inlet::new(start, sink, told, Arc::clone(&progress), line).start();
    Bench { inlet, confirmed, limits, progress, failed }
}

fn wal(server_end: u64, wal_bytes: u64) -> Event {
    let batch = WalBatch { bytes: Bytes::from_static(b"d"), credit: Credit::none() };
    Event::Wal(batch, Seen { server_end: Lsn(server_end), wal_bytes })
}

/// A Relation message of [`table`], an insert of it, in a transaction that commits at `end`.
fn stream(end: u64) -> Bytes {
    let mut relation = vec![b'R'];
    relation.extend_from_slice(&7u32.to_be_bytes());
    relation.extend_from_slice(b"public\0orders\0f");
    relation.extend_from_slice(&1u16.to_be_bytes());
    relation.push(1);
    relation.extend_from_slice(b"id\0");
    relation.extend_from_slice(&23u32.to_be_bytes());
    relation.extend_from_slice(&(-1i32).to_be_bytes());
    let mut begin = vec![b'B'];
    begin.extend_from_slice(&end.to_be_bytes());
    begin.extend_from_slice(&[0; 8]);
    begin.extend_from_slice(&9u32.to_be_bytes());
    let mut insert = vec![b'I'];
    insert.extend_from_slice(&7u32.to_be_bytes());
    insert.extend_from_slice(b"N\0\x01t\0\0\0\x011");
    let mut commit = vec![b'C', 0];
    commit.extend_from_slice(&end.to_be_bytes());
    commit.extend_from_slice(&(end + 8).to_be_bytes());
    commit.extend_from_slice(&[0; 8]);
    let mut bytes = Vec::new();
    for message in [begin, relation, insert, commit] {
        bytes.push(b'd');
        let length = u32::try_from(4 + 25 + message.len()).expect("small");
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.push(b'w');
        bytes.extend_from_slice(&end.to_be_bytes());
        bytes.extend_from_slice(&end.to_be_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&message);
    }
    bytes.into()
}

fn open(stage: UpstreamStage) -> OpenStage {
    OpenStage {
        stage,
        spec: Arc::new(config::Task { task: "shop".into(), ..config::Task::default() }),
        generation: 3,
        from: Lsn(5),
        line: Line { system_id: 1, timeline: 1 },
        confirmed: Lsn(5),
        eager: false,
        binary: None,
    }
}

#[actix_rt::test]
async fn an_inlet_passes_on_what_comes_and_what_is_confirmed() {
    let Far { start, begun } = far();
    let (decoder, mut batches) = Probe::<WalBatch>::start_probe();
    let mut bench = inlet(start, Sink::Decoder(decoder));
    let (report, mut orders) = begun.await.expect("begun");
    report(wal(20, 100));
    report(wal(30, 150));
    batches.recv().await.expect("the first");
    batches.recv().await.expect("the second");
    let received = bench.progress.wal_bytes.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((bench.progress.server_end(), received), (Lsn(30), 150));
    bench.confirmed.send_replace(Lsn(12));
    assert!(matches!(orders.recv().await, Some(Order::Confirmed(Lsn(12)))));
    bench.limits.send_replace(Limits { rows: 7, bytes: 0 });
    assert!(matches!(orders.recv().await, Some(Order::Limits(Limits { rows: 7, bytes: 0 }))));
    bench.inlet.do_send(Obey(reader::Order::Pause));
    assert!(matches!(orders.recv().await, Some(Order::Pause)));
    bench.inlet.do_send(Obey(reader::Order::Close));
    // The last position goes before the order to end.
    assert!(matches!(orders.recv().await, Some(Order::Confirmed(Lsn(12)))));
    assert!(matches!(orders.recv().await, Some(Order::Close)));
    report(Event::Closed);
    assert!(orders.recv().await.is_none(), "the line is given up");
    assert!(bench.failed.recv().await.is_none(), "a good end is no failure");
}

#[actix_rt::test]
async fn a_stage_that_fails_elsewhere_ends_the_generation() {
    let (decoder, _batches) = Probe::<WalBatch>::start_probe();
    let class = FailureClass::Fenced;
    let start = failing(Failure { class, cause: "it is placed elsewhere".into() });
    let mut bench = inlet(start, Sink::Decoder(decoder));
    let failed = bench.failed.recv().await.expect("a report");
    assert_eq!((failed.generation, failed.stage), (3, Stage::Decoder));
    // No node says whose the task is.
    assert_eq!(failed.class, FailureClass::Transient);
}

#[actix_rt::test]
async fn a_stage_that_ends_untold_ends_the_generation() {
    let Far { start, begun } = far();
    let (decoder, _batches) = Probe::<WalBatch>::start_probe();
    let mut bench = inlet(start, Sink::Decoder(decoder));
    let (report, _orders) = begun.await.expect("begun");
    report(Event::Closed);
    let failed = bench.failed.recv().await.expect("a report");
    assert_eq!(failed.class, FailureClass::Connection);
}

#[actix_rt::test]
async fn what_is_retired_hears_nothing_more() {
    let Far { start, begun } = far();
    let (decoder, _batches) = Probe::<WalBatch>::start_probe();
    let mut bench = inlet(start, Sink::Decoder(decoder));
    let (report, mut orders) = begun.await.expect("begun");
    bench.inlet.do_send(Retire);
    assert!(orders.recv().await.is_none(), "the line is given up");
    report(Event::Failed(Failure::transient("late news")));
    assert!(bench.failed.recv().await.is_none());
}

/// Reader, decoder and router each on a thread of its own; the test plays the reader.
#[actix_rt::test]
async fn a_decoder_elsewhere_asks_the_routers_node_for_tables() {
    let folder = std::env::temp_dir();
    let reader = far();
    let from = ReaderHost::Elsewhere(reader.start);
    let start: Start = Box::new(move |report| {
        host(open(UpstreamStage::Decoder), from, &folder, &folder, report).expect("hosted")
    });
    let (learned, mut tables) = Probe::<TableLearned>::start_probe();
    let (decoded, mut changes) = Probe::<Decoded>::start_probe();
    let bench = inlet(start, Sink::Router { learned, decoded, describe: Rc::new(Fixed) });
    let (report, mut orders) = reader.begun.await.expect("begun");

    let account = budget();
    for end in [100, 200] {
        let bytes = stream(end);
        let credit = account.take(bytes.len()).await;
        report(Event::Wal(
            WalBatch { bytes, credit },
            Seen { server_end: Lsn(end), wal_bytes: end },
        ));
    }
    let learned = tables.recv().await.expect("a table");
    assert!(learned.plans.first.is_some(), "planned where the router is");
    for end in [100, 200] {
        let Decoded { batch, credit } = changes.recv().await.expect("changes");
        assert_eq!((batch.changes.len(), batch.committed_end_lsn), (1, Some(Lsn(end + 8))));
        assert_eq!(credit.bytes(), stream(end).len());
        assert_eq!(batch.tables, [table()]);
    }
    assert_eq!(account.bytes_free(), account.bytes_max() as usize, "all credit came back");
    assert_eq!(bench.progress.server_end(), Lsn(200));
    assert!(tables.try_recv().is_err(), "a version is described once");

    bench.confirmed.send_replace(Lsn(108));
    assert!(matches!(orders.recv().await, Some(Order::Confirmed(Lsn(108)))));
    let limits = Limits { rows: 9, bytes: 1 };
    bench.limits.send_replace(limits);
    assert!(matches!(orders.recv().await, Some(Order::Limits(it)) if it == limits));
    bench.inlet.do_send(Obey(reader::Order::Close));
    loop {
        match orders.recv().await.expect("told to close") {
            Order::Close => break,
            Order::Confirmed(lsn) => assert_eq!(lsn, Lsn(108)),
            Order::Pause | Order::Learned(_) | Order::Limits(_) => {
                panic!("of a reader that is to close")
            }
        }
    }
    report(Event::Closed);
    while bench.inlet.connected() {
        tokio::task::yield_now().await;
    }
}

#[actix_rt::test]
async fn a_reader_that_fails_behind_a_decoder_elsewhere_is_heard() {
    let folder = std::env::temp_dir();
    let reader = failing(Failure::transient("connection closed"));
    let start: Start = Box::new(move |report| {
        let reader = ReaderHost::Elsewhere(reader);
        host(open(UpstreamStage::Decoder), reader, &folder, &folder, report).expect("hosted")
    });
    let (learned, _tables) = Probe::<TableLearned>::start_probe();
    let (decoded, _changes) = Probe::<Decoded>::start_probe();
    let mut bench = inlet(start, Sink::Router { learned, decoded, describe: Rc::new(Fixed) });
    let failed = bench.failed.recv().await.expect("a report");
    assert_eq!(failed.cause, "connection closed");
}

#[test]
fn a_reader_without_its_secret_is_refused_at_once() {
    let folder = std::env::temp_dir();
    let spec = "version: 1
task: shop
source: {hosts: [\"127.0.0.1:1\"], database: d, user: u, password: \"${file:missing}\"}
sink: {brokers: [\"127.0.0.1:1\"], topic: t}
objects: [{table: public.*}]
";
    let spec = Arc::new(config::Task::parse(spec).expect("a spec"));
    let open = OpenStage { spec, ..open(UpstreamStage::Reader) };
    let report: Report = Arc::new(|_| {});
    let refused =
        host(open, ReaderHost::Here(budget()), &folder, &folder, report).expect_err("refused");
    assert!(refused.cause.contains("missing"), "{}", refused.cause);
}
