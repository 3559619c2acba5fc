//! The lane's thread against a scripted sink: what is written, when it is committed, how it ends.

mod bench;

use bench::{chunk, inserts, lane_batch, task_plan};
use config::Oversize;
use kafka::sink::{CommitPoint, Committed, LaneSink, Opened};
use pipeline::Failure;
use pipeline::batch::LaneBatch;
use pipeline::commit::CommitBudget;
use pipeline::lane::{Event, Lane, LaneThread, OpenSink, Order, Orders, Surroundings};
use pipeline::misfit::Misfits;
use pipeline::progress::Progress;
use record::Record;
use record::encode::Encoder;
use record::plan::{TablePlan, TaskPlan};
use record::schema::{Schemas, Settled, Taken};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use supervision::FailureClass;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use wal::{Lsn, Position};

/// What the sink did, and how its next calls shall end.
#[derive(Default)]
struct Script {
    log: Vec<String>,
    /// Commits that are not clean, by number.
    dirty: Vec<usize>,
    commits: usize,
    send_fails: bool,
    send_panics: bool,
    /// What each opening finds.
    checkpoints: VecDeque<Position>,
    /// How far records were counted by that, and were by the last commit.
    counted: u64,
    values: Vec<Vec<u8>>,
}

#[derive(Clone)]
struct Sink(Arc<Mutex<Script>>);

impl LaneSink for Sink {
    fn send(&mut self, record: &Record<'_>) -> Result<(), kafka::Error> {
        let mut script = self.0.lock().expect("script");
        assert!(!script.send_panics, "planted");
        if script.send_fails {
            return Err(kafka::Error::Poisoned);
        }
        let key = String::from_utf8_lossy(record.key.unwrap_or_default()).into_owned();
        let mark = |name: &str| {
            let found = record.headers.iter().find(|(found, _)| *found == name);
            found.map(|(_, value)| format!(" {}", String::from_utf8_lossy(value)))
        };
        let dead = mark("distributary.dead-letter").unwrap_or_default();
        let part = mark("distributary.chunk").unwrap_or_default();
        script.log.push(format!("send {key}{dead}{part}"));
        script.values.extend(record.value.map(<[u8]>::to_vec));
        Ok(())
    }

    fn poll(&mut self) -> Result<(), kafka::Error> {
        Ok(())
    }

    fn pending(&self) -> u64 {
        0
    }

    fn note_chunks(&mut self, chunks: &[String]) {
        self.0.lock().expect("script").log.push(format!("note {}", chunks.join(" ")));
    }

    fn commit(&mut self, point: &CommitPoint) -> Result<Committed, kafka::Error> {
        let mut script = self.0.lock().expect("script");
        script.commits += 1;
        let number = script.commits;
        script.log.push(format!("commit {}", point.position));
        script.counted = point.counted;
        Ok(Committed { clean: !script.dirty.contains(&number), txn_seq: number as u64 })
    }
}

struct Bench {
    script: Arc<Mutex<Script>>,
    orders: Option<Orders>,
    events: UnboundedReceiver<Event>,
}

/// Opens the scripted sink.
fn opening(script: &Arc<Mutex<Script>>) -> OpenSink {
    let sink = Sink(Arc::clone(script));
    Box::new(move || {
        let mut script = sink.0.lock().expect("script");
        script.log.push("open".into());
        let held = script.checkpoints.pop_front().unwrap_or(Position::ZERO);
        let counted = script.counted;
        let checkpoint = (Position::ZERO < held).then(|| checkpoint(held, counted));
        let opened = Opened { term: 1, checkpoint };
        drop(script);
        Ok((Box::new(sink.clone()) as Box<dyn LaneSink>, opened))
    })
}

/// A running thread of lane 0 of `lanes`.
fn bench(script: Script, lanes: u8) -> Bench {
    let script = Arc::new(Mutex::new(script));
    let thread = LaneThread {
        lane: 0,
        open: opening(&script),
        encoder: Encoder::new(&task_plan()),
        misfits: Misfits::default(),
        budget: CommitBudget::new(Duration::from_millis(200), lanes),
        progress: Arc::new(Progress::default()),
        floor: Position::ZERO,
        limits: None,
        registry: None,
    };
    let (reports, events) = unbounded_channel();
    let orders = thread.spawn(Arc::new(move |event| drop(reports.send(event))), ());
    Bench { script, orders: Some(orders), events }
}

fn checkpoint(pos: Position, counted: u64) -> kafka::checkpoint::Checkpoint {
    kafka::checkpoint::Checkpoint {
        v: 1,
        task: "shop".into(),
        rev: 1,
        lane: kafka::names::LaneId::Lane(0),
        term: 1,
        txn_seq: 1,
        pos,
        end_lsn: Lsn::ZERO,
        complete: true,
        sealed: false,
        snap: Vec::new(),
        counted,
        prev_end: std::collections::BTreeMap::new(),
        older_end: std::collections::BTreeMap::new(),
        unfenced: false,
        node: "n".into(),
        ver: "v".into(),
    }
}

fn at(commit_lsn: u64, ordinal: u64) -> Position {
    Position { commit_lsn: Lsn(commit_lsn), ordinal }
}

impl Bench {
    fn write(&self, seq: u64, batch: wal::ChangeBatch) {
        let order = self.orders.as_ref().expect("running");
        order(Order::Write(lane_batch(seq, batch)));
    }

    async fn event(&mut self) -> Event {
        self.events.recv().await.expect("an event")
    }

    /// Position up to which batch `seq` became durable.
    async fn durable(&mut self, expected: u64) -> Position {
        loop {
            match self.event().await {
                Event::Durable { seq, position, .. } if seq == expected => return position,
                Event::Durable { .. } | Event::Opened { .. } => {}
                event @ (Event::Failed(_) | Event::Stopped | Event::Sealed) => panic!("{event:?}"),
            }
        }
    }

    async fn failure(&mut self) -> pipeline::Failure {
        loop {
            if let Event::Failed(failure) = self.event().await {
                return failure;
            }
        }
    }

    /// Ends the thread and says what the sink was asked.
    async fn end(mut self) -> Vec<String> {
        self.orders = None;
        while !matches!(self.event().await, Event::Stopped) {}
        self.script.lock().expect("script").log.clone()
    }
}

#[actix_rt::test]
async fn what_the_checkpoint_holds_is_not_written_again() {
    let script = Script { checkpoints: [at(50, 1)].into(), ..Script::default() };
    let mut bench = bench(script, 8);
    bench.write(1, inserts(50, 0..4, true));
    assert_eq!(bench.durable(1).await, at(50, 3));
    let log = bench.end().await;
    assert_eq!(log, ["open", "send {\"id\":2}", "send {\"id\":3}", "commit 0/32:3"]);
}

#[actix_rt::test]
async fn a_batch_that_is_held_whole_is_durable_at_once() {
    let script = Script { checkpoints: [at(50, 9)].into(), ..Script::default() };
    let mut bench = bench(script, 8);
    bench.write(1, inserts(50, 0..4, true));
    assert_eq!(bench.durable(1).await, at(50, 9));
    assert_eq!(bench.end().await, ["open"]);
}

#[actix_rt::test]
async fn a_dirty_commit_is_acknowledged_and_the_lane_opened_before_the_next_begin() {
    let script = Script {
        dirty: vec![1],
        checkpoints: [Position::ZERO, at(50, 0)].into(),
        ..Script::default()
    };
    let mut bench = bench(script, 8);
    bench.write(1, inserts(50, 0..1, true));
    bench.durable(1).await;
    bench.write(2, inserts(60, 0..1, true));
    bench.durable(2).await;
    let log = bench.end().await;
    let expected =
        ["open", "send {\"id\":0}", "commit 0/32:0", "open", "send {\"id\":0}", "commit 0/3C:0"];
    assert_eq!(log, expected);
}

#[actix_rt::test]
async fn a_checkpoint_that_moved_under_a_dirty_lane_ends_it() {
    for (found, class) in [(70, FailureClass::Fatal), (40, FailureClass::Transient)] {
        let script = Script {
            dirty: vec![1],
            checkpoints: [Position::ZERO, at(found, 0)].into(),
            ..Script::default()
        };
        let mut bench = bench(script, 8);
        bench.write(1, inserts(50, 0..1, true));
        let failure = bench.failure().await;
        assert_eq!(failure.class, class);
        let found = format!("{} instead of 0/32:0", at(found, 0));
        assert!(failure.cause.contains(&found), "{failure}");
    }
}

#[actix_rt::test]
async fn one_lane_commits_a_source_transaction_whole() {
    let mut bench = bench(Script::default(), 1);
    bench.write(1, inserts(50, 0..1, false));
    bench.write(2, inserts(50, 1..2, false));
    bench.write(3, inserts(50, 2..3, true));
    assert_eq!(bench.durable(3).await, at(50, 2));
    let log = bench.end().await;
    assert_eq!(log.iter().filter(|line| line.starts_with("commit")).count(), 1, "{log:?}");
}

#[actix_rt::test]
async fn a_chunk_within_a_source_transaction_does_not_end_it() {
    let mut bench = bench(Script::default(), 1);
    bench.write(1, inserts(50, 0..1, false));
    bench.write(2, chunk(inserts(40, 1..2, true)));
    bench.write(3, inserts(50, 2..3, true));
    assert_eq!(bench.durable(3).await, at(50, 2));
    let log = bench.end().await;
    assert_eq!(log.iter().filter(|line| line.starts_with("commit")).count(), 1, "{log:?}");
}

#[actix_rt::test]
async fn the_end_of_a_source_transaction_alone_lets_one_lane_commit() {
    let mut bench = bench(Script::default(), 1);
    bench.write(1, inserts(50, 0..1, false));
    bench.write(2, inserts(50, 1..1, true));
    assert_eq!(bench.durable(2).await, at(50, 0));
    assert_eq!(bench.end().await, ["open", "send {\"id\":0}", "commit 0/32:0"]);
}

#[actix_rt::test]
async fn a_busy_lane_commits_what_waits_for_more_before_it_is_sealed() {
    let mut bench = bench(Script::default(), 8);
    bench.write(1, inserts(50, 0..100, true));
    bench.durable(1).await;
    bench.write(2, inserts(60, 0..1, true));
    bench.orders.as_ref().expect("running")(Order::Seal(Lsn(70)));
    assert_eq!(bench.durable(2).await, at(60, 0));
    assert!(matches!(bench.event().await, Event::Sealed));
    let log = bench.end().await;
    assert_eq!(log[log.len() - 2..], ["commit 0/3C:0", "commit 0/45:18446744073709551615"]);
}

#[actix_rt::test]
async fn an_unfinished_source_transaction_is_left_to_the_next_owner() {
    let bench = bench(Script::default(), 1);
    bench.write(1, inserts(50, 0..1, false));
    assert_eq!(bench.end().await, ["open", "send {\"id\":0}"]);
}

#[actix_rt::test]
async fn older_fronts_are_refused() {
    let mut bench = bench(Script::default(), 8);
    bench.write(1, inserts(50, 0..1, true));
    bench.durable(1).await;
    let mut late = lane_batch(9, inserts(60, 0..1, true));
    late.generation = 0;
    bench.orders.as_ref().expect("running")(Order::Write(late));
    assert_eq!(bench.end().await, ["open", "send {\"id\":0}", "commit 0/32:0"]);
}

#[actix_rt::test]
async fn an_error_of_the_sink_ends_the_thread_with_its_cause() {
    let mut bench = bench(Script { send_fails: true, ..Script::default() }, 8);
    bench.write(1, inserts(50, 0..1, true));
    assert_eq!(bench.failure().await.class, FailureClass::Transient);
}

#[actix_rt::test]
async fn a_panic_of_the_thread_is_reported() {
    let mut bench = bench(Script { send_panics: true, ..Script::default() }, 8);
    bench.write(1, inserts(50, 0..1, true));
    let failure = bench.failure().await;
    assert!(failure.cause.contains("panicked"), "{failure}");
}

/// A registry that answers as it was told, and counts.
struct Around {
    verdict: Result<Settled, Failure>,
    asked: usize,
    record_bytes_max: u64,
}

impl Surroundings for Around {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn now_us(&self) -> i64 {
        0
    }

    fn register(&mut self, schemas: &Schemas) -> Result<Settled, Failure> {
        assert_eq!(schemas.value.subject(), "public.orders-value");
        self.asked += 1;
        self.verdict.clone()
    }

    fn record_bytes_max(&mut self, _: &str) -> Result<u64, Failure> {
        Ok(self.record_bytes_max)
    }

    fn report(&mut self, _: Event) {}
}

/// Writes two batches of a format with schemas: how that ended, what the sink was asked, and how often
/// the registry.
fn registered(
    verdict: Result<Settled, Failure>,
    misfits: Misfits,
) -> (Result<(), Failure>, Vec<String>, usize) {
    let script = Arc::new(Mutex::new(Script::default()));
    let spec = "version: 1\ntask: shop\nsource: {hosts: [h], database: d, user: u}\n\
                sink: {brokers: [b], format: debezium-avro, registry: {url: \"http://r\"}}\n\
                objects: [{table: public.*}]\n";
    let task = config::Task::parse(spec).expect("a spec");
    let task = TaskPlan::new(&task, "d").expect("a plan");
    let plan = Arc::new(TablePlan::new(bench::table(), &task, 0, 1, 1).expect("a plan"));
    let mut around = Around { verdict, asked: 0, record_bytes_max: u64::MAX };
    let (encoder, budget) = (Encoder::new(&task), CommitBudget::new(Duration::from_millis(200), 1));
    let progress = Arc::new(Progress::default());
    let lane = Lane::open(opening(&script), encoder, budget, progress, Position::ZERO, &mut around);
    let mut lane = lane.map_err(|failure| failure.cause).expect("opened").with_misfits(misfits);
    let mut written = Ok(());
    for (seq, commit_lsn) in [(1, 50), (2, 60)] {
        let batch = lane_batch(seq, inserts(commit_lsn, 0..2, true));
        let batch = LaneBatch { plans: [Some(Arc::clone(&plan))].into(), ..batch };
        written = written.and_then(|()| lane.write(&batch, &mut around));
    }
    let log = script.lock().expect("script").log.clone();
    (written, log, around.asked)
}

#[test]
fn rows_wait_for_the_registry_and_it_is_asked_once() {
    let taken = |id| Taken { id, numbers: Box::default() };
    let settled = Settled { key: Some(taken(1)), value: taken(2) };
    let (written, log, asked) = registered(Ok(settled), Misfits::default());
    assert_eq!((written, asked), (Ok(()), 1));
    assert_eq!(log.iter().filter(|it| it.starts_with("send")).count(), 4, "{log:?}");
}

#[test]
fn nothing_of_a_refused_schema_is_sent() {
    let refused = Failure::fatal("refused");
    let (written, log, asked) = registered(Err(refused.clone()), Misfits::default());
    assert_eq!((written, asked), (Err(refused), 1));
    assert_eq!(log, ["open"]);
}

fn set_aside_all() -> Misfits {
    Misfits {
        oversize: Oversize::DeadLetter,
        set_aside_values: true,
        set_aside_schemas: true,
        letters: Some(("shop.dead-letter".into(), 0)),
    }
}

#[test]
fn rows_of_a_refused_schema_go_to_the_dead_letters_and_the_registry_is_asked_once() {
    let refused = Failure { class: FailureClass::Poison, cause: "refused".into() };
    let (written, log, asked) = registered(Err(refused), set_aside_all());
    assert_eq!((written, asked), (Ok(()), 1));
    let sent: Vec<_> = log.iter().filter(|it| it.starts_with("send")).collect();
    assert_eq!(sent.len(), 4, "{log:?}");
    assert!(sent.iter().all(|it| it.ends_with(" schema-refused")), "{log:?}");
}

#[test]
fn a_registry_that_is_away_sets_nothing_aside() {
    let away = Failure { class: FailureClass::Connection, cause: "away".into() };
    let (written, log, asked) = registered(Err(away.clone()), set_aside_all());
    assert_eq!((written, log, asked), (Err(away), vec!["open".to_owned()], 1));
}

/// One row of about 1,100 bytes.
fn large_row(task: &TaskPlan) -> LaneBatch {
    let mut table = wal::Table::clone(&bench::table());
    table.columns.push(wal::Column {
        name: "note".into(),
        type_: Arc::new(wal::types::Type::builtin(wal::types::oid::TEXT, "text")),
        type_modifier: -1,
        not_null: false,
        default: None,
        in_identity: false,
    });
    let plan = Arc::new(TablePlan::new(Arc::new(table), task, 0, 1, 1).expect("a plan"));
    let mut bytes = vec![0, 2, b't', 0, 0, 0, 1, b'7', b't', 0, 0, 4, 0];
    bytes.extend([b'x'; 1024]);
    let mut batch = inserts(50, 0..1, true);
    batch.changes[0].new =
        Some(wal::change::Span { start: 0, end: u32::try_from(bytes.len()).expect("small") });
    batch.bytes = bytes.into();
    batch.tables = vec![Arc::clone(plan.table())];
    LaneBatch { plans: [Some(plan)].into(), ..lane_batch(1, batch) }
}

/// Writes one row of about 1,100 bytes, and commits, where topics take `record_bytes_max`.
fn measured(oversize: Oversize, record_bytes_max: u64) -> (Result<(), Failure>, Vec<String>, u64) {
    let script = Arc::new(Mutex::new(Script::default()));
    let settled = Settled { key: None, value: Taken { id: 1, numbers: Box::default() } };
    let mut around = Around { verdict: Ok(settled), asked: 0, record_bytes_max };
    let task = task_plan();
    let (encoder, budget) = (Encoder::new(&task), CommitBudget::new(Duration::from_millis(200), 1));
    let progress = Arc::new(Progress::default());
    let told = Arc::clone(&progress);
    let lane = Lane::open(opening(&script), encoder, budget, told, Position::ZERO, &mut around);
    let misfits = Misfits { oversize, ..set_aside_all() };
    let mut lane = lane.map_err(|failure| failure.cause).expect("opened").with_misfits(misfits);
    let batch = large_row(&task);
    let written = lane.write(&batch, &mut around).and_then(|()| lane.idle(&mut around));
    let log = script.lock().expect("script").log.clone();
    (written, log, progress.dead_letters.load(std::sync::atomic::Ordering::Relaxed))
}

#[test]
fn a_record_that_is_too_large_fails_is_set_aside_or_is_cut_in_one_transaction() {
    let (written, log, dead) = measured(Oversize::DeadLetter, 100_000);
    assert_eq!((written, dead, log.len()), (Ok(()), 0, 3), "{log:?}");
    let (written, log, dead) = measured(Oversize::DeadLetter, 1_500);
    assert_eq!((written, dead), (Ok(()), 1));
    let letters = log.iter().filter(|it| it.contains("oversize")).count();
    assert_eq!((log.len(), letters), (2 + letters, letters), "{log:?}");
    assert!(log.last().expect("a commit").starts_with("commit"), "{log:?}");
    let (written, log, dead) = measured(Oversize::Chunk, 1_000);
    assert_eq!((written, dead), (Ok(()), 0));
    let parts: Vec<_> = log.iter().filter(|it| it.starts_with("send")).collect();
    assert!(1 < parts.len() && parts[0].ends_with(&format!(" 1/{}", parts.len())), "{log:?}");
    let (written, log, _) = measured(Oversize::Chunk, 300);
    assert_eq!(written.expect_err("cannot be cut").class, FailureClass::Poison);
    assert_eq!(log, ["open"]);
    // What the client or the broker refuse is another matter.
    let (written, log, _) = measured(Oversize::Fail, 300);
    assert_eq!((written, log.len()), (Ok(()), 3), "{log:?}");
}

/// `id` of Canal JSON: no number is given again by whoever opens the lane next.
#[test]
fn records_are_counted_on_from_the_checkpoint() {
    let before = 1 << 30;
    let script = Script { checkpoints: [at(40, 0)].into(), counted: before, ..Script::default() };
    let script = Arc::new(Mutex::new(script));
    let settled = Settled { key: None, value: Taken { id: 1, numbers: Box::default() } };
    let mut around = Around { verdict: Ok(settled), asked: 0, record_bytes_max: 1 << 20 };
    let spec = "version: 1\ntask: shop\nsource: {hosts: [h], database: d, user: u}\n\
                sink: {brokers: [b], format: canal-json}\nobjects: [{table: public.*}]\n";
    let task = config::Task::parse(spec).expect("a spec");
    let task = TaskPlan::new(&task, "d").expect("a plan");
    let plan = Arc::new(TablePlan::new(bench::table(), &task, 0, 1, 1).expect("a plan"));
    let (encoder, budget) = (Encoder::new(&task), CommitBudget::new(Duration::from_millis(200), 1));
    let progress = Arc::new(Progress::default());
    let lane = Lane::open(opening(&script), encoder, budget, progress, Position::ZERO, &mut around);
    let mut lane = lane.map_err(|failure| failure.cause).expect("opened").numbered(3);
    let batch = lane_batch(1, inserts(50, 0..2, true));
    let batch = LaneBatch { plans: [Some(plan)].into(), ..batch };
    lane.write(&batch, &mut around).and_then(|()| lane.idle(&mut around)).expect("written");
    let script = script.lock().expect("script");
    let id = |value: &Vec<u8>| {
        let message: serde_json::Value = serde_json::from_slice(value).expect("JSON");
        message["id"].as_u64().expect("a number")
    };
    // The lowest bits are the lane's.
    let ids: Vec<_> = script.values.iter().map(id).map(|it| (it >> 11, it & 0x7FF)).collect();
    assert_eq!(ids, [(before + 1, 3), (before + 2, 3)]);
    assert_eq!(script.counted, before + 2);
}

/// An inferred statement has the position of the row behind it: a commit between them would lose the row.
#[test]
fn changes_of_one_position_are_committed_together() {
    let script = Arc::new(Mutex::new(Script::default()));
    let settled = Settled { key: None, value: Taken { id: 1, numbers: Box::default() } };
    let mut around = Around { verdict: Ok(settled), asked: 0, record_bytes_max: 1 << 20 };
    let budget = CommitBudget { events_max: 1, ..CommitBudget::new(Duration::from_millis(200), 8) };
    let (encoder, progress) = (Encoder::new(&task_plan()), Arc::new(Progress::default()));
    let lane = Lane::open(opening(&script), encoder, budget, progress, Position::ZERO, &mut around);
    let mut lane = lane.map_err(|failure| failure.cause).expect("opened");
    let mut batch = inserts(50, 0..3, true);
    batch.changes[1].ordinal = 0;
    lane.write(&lane_batch(1, batch), &mut around).expect("written");
    let log = script.lock().expect("script").log.clone();
    let expected = [
        "open",
        "send {\"id\":0}",
        "send {\"id\":1}",
        "commit 0/32:0",
        "send {\"id\":2}",
        "commit 0/32:2",
    ];
    assert_eq!(log, expected);
}
