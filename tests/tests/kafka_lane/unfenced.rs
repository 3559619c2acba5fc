//! At-least-once: no epoch keeps an older owner from writing, so it looks whether it was taken over, and whoever takes over
//! waits (delivery-protocol.md, section 13).

use super::{Bench, LANE, SOON, point};
use crate::own_broker::Turn;
use crate::proxy::Plan;
use kafka::checkpoint::Checkpoint;
use kafka::sink::LaneSink;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::thread;
use std::time::{Duration, Instant};
use tests::deadline::await_some;
use wal::Position;

/// Less than a take-over waits for an owner of which it hears nothing.
const AT_ONCE: Duration = Duration::from_secs(20);
/// What it waits at least: lease and `message.timeout.ms`.
const TAKE_OVER: Duration = Duration::from_secs(25);

fn bench() -> Bench {
    Bench::with(|sink| sink.delivery = config::Delivery::AtLeastOnce)
}

/// An owner that has committed one record up to a position.
fn committed(bench: &Bench, lsn: u64) -> Box<dyn LaneSink> {
    let (mut lane, _) = bench.opened();
    bench.send(lane.as_mut(), "a").expect("sent");
    lane.commit(&point(lsn, 0)).expect("durable");
    lane
}

/// An owner in a process that cannot be seen from here.
struct Elsewhere<'a> {
    bench: &'a Bench,
    producer: BaseProducer,
}

impl<'a> Elsewhere<'a> {
    fn new(bench: &'a Bench) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &bench.kafka.address);
        Self { bench, producer: config.create().expect("a producer") }
    }

    fn write(&self, key: &str, json: &str) {
        let topic = self.bench.names.checkpoints();
        let record = BaseRecord::to(&topic).partition(LANE.partition()).key(key).payload(json);
        self.producer.send(record).map_err(|(error, _)| error).expect("queued");
        self.producer.flush(SOON).expect("written");
    }

    /// Announces itself; its term.
    fn announce(&self) -> i64 {
        let process = r#"{"boot":"other","pids":"pid:[1]","uid":0,"pid":7,"started":1}"#;
        let head = format!(r#"{{"v":1,"task":"{}","lane":3"#, self.bench.names.task());
        self.write("f", &format!(r#"{head},"node":"w9","ver":"0.1.0","process":{process}}}"#));
        self.end() - 1
    }

    fn end(&self) -> i64 {
        let topic = self.bench.names.checkpoints();
        let client = self.producer.client();
        client.fetch_watermarks(&topic, LANE.partition(), SOON).expect("the partition").1
    }
}

#[test]
fn at_least_once_keeps_its_checkpoint_without_transactions() {
    let bench = bench();
    let (mut lane, _) = bench.opened();
    bench.send(lane.as_mut(), "a").expect("sent");
    assert!(lane.commit(&point(50, 3)).expect("durable").clean);
    drop(lane);
    assert_eq!(bench.opened().1.position(), point(50, 3).position);
    bench.assert_keys(&["a"]);
}

#[test]
fn at_least_once_works_with_every_acks() {
    for acks in [config::Acks::Zero, config::Acks::One, config::Acks::All] {
        let bench = Bench::with(|sink| {
            sink.delivery = config::Delivery::AtLeastOnce;
            sink.acks = acks;
        });
        let (mut lane, _) = bench.opened();
        for lsn in [50, 60] {
            bench.send(lane.as_mut(), "a").expect("sent");
            lane.commit(&point(lsn, 0)).expect("durable");
        }
        drop(lane);
        let opened = bench.opened().1;
        assert_eq!(opened.position(), point(60, 0).position, "{acks:?}");
        assert_eq!(opened.checkpoint.expect("a checkpoint").txn_seq, 2, "{acks:?}");
        bench.assert_keys(&["a", "a"]);
    }
}

/// Nobody acknowledges them, and their client takes them for delivered once they lie in its socket.
#[test]
fn without_acks_a_checkpoint_waits_until_the_broker_has_seen_the_records() {
    const DELAY: Duration = Duration::from_millis(1500);
    let turn = Turn::take();
    let bench = Bench::on(turn.kafka(), |sink| {
        sink.delivery = config::Delivery::AtLeastOnce;
        sink.acks = config::Acks::Zero;
    });
    let proxy = turn.proxy();
    let mut lane = committed(&bench, 50);
    proxy.plan(Plan::DelayRecords(DELAY));
    let begun = Instant::now();
    bench.send(lane.as_mut(), "b").expect("sent");
    lane.commit(&point(60, 0)).expect("durable");
    assert!(DELAY <= begun.elapsed(), "a checkpoint after {:?}", begun.elapsed());
    bench.assert_keys(&["a", "b"]);
}

/// Checkpoints of two owners in turns: the older one's count for nobody, and the lane opens.
#[test]
fn what_an_older_owner_writes_beside_its_successor_does_not_count() {
    let bench = bench();
    drop(committed(&bench, 50));
    let older = bench.opened().1.checkpoint.expect("a checkpoint");
    let (mut lane, _) = bench.opened();
    for (lsn, late) in [(60, 55), (70, 90)] {
        let late = Checkpoint {
            txn_seq: older.txn_seq + 1,
            pos: point(late, 0).position,
            ..older.clone()
        };
        Elsewhere::new(&bench).write("c", &serde_json::to_string(&late).expect("JSON"));
        bench.send(lane.as_mut(), "b").expect("sent");
        lane.commit(&point(lsn, 0)).expect("durable");
    }
    drop(lane);
    let late = Checkpoint { txn_seq: 9, pos: point(95, 0).position, ..older };
    Elsewhere::new(&bench).write("c", &serde_json::to_string(&late).expect("JSON"));
    assert_eq!(bench.opened().1.position(), point(70, 0).position);
}

/// `--reseed`: what was before does not count, and the next owner goes on from the new beginning.
#[test]
fn a_lane_that_begins_anew_leaves_its_checkpoints_behind() {
    let bench = bench();
    drop(committed(&bench, 90));
    let (mut lane, opened) =
        kafka::open_anew(&bench.settings, &bench.names, LANE, 1, &[]).expect("it opens");
    assert_eq!(opened.position(), Position::ZERO);
    bench.send(lane.as_mut(), "b").expect("sent");
    lane.commit(&point(50, 0)).expect("durable");
    drop(lane);
    let opened = bench.opened().1;
    assert_eq!(opened.position(), point(50, 0).position);
    assert_eq!(opened.checkpoint.expect("a checkpoint").txn_seq, 1);
    bench.assert_keys(&["a", "b"]);
}

#[test]
fn an_owner_that_was_taken_over_writes_no_more() {
    let bench = bench();
    let (mut busy, _) = bench.opened();
    bench.send(busy.as_mut(), "a").expect("sent");
    Elsewhere::new(&bench).announce();
    let error = busy.commit(&point(50, 0)).expect_err("its checkpoint does not count");
    assert!(matches!(error, kafka::Error::Fenced { .. }), "{error}");
    assert!(bench.send(busy.as_mut(), "b").is_err());
}

/// The proof that nobody has taken over is old: one is asked for before the next record.
#[test]
fn an_idle_owner_looks_before_it_writes() {
    let bench = bench();
    let mut idle = committed(&bench, 50);
    thread::sleep(Duration::from_secs(6));
    bench.send(idle.as_mut(), "b").expect("nobody has taken over");
    idle.commit(&point(60, 0)).expect("durable");
    Elsewhere::new(&bench).announce();
    thread::sleep(Duration::from_secs(6));
    let error = bench.send(idle.as_mut(), "c").expect_err("taken over");
    assert!(matches!(error, kafka::Error::Fenced { .. }), "{error}");
    drop(idle);
    bench.assert_keys(&["a", "b"]);
}

#[test]
fn a_take_over_waits_until_the_older_owner_has_ended() {
    let bench = bench();
    let elsewhere = Elsewhere::new(&bench);
    let term = elsewhere.announce();
    thread::scope(|scope| {
        let begun = Instant::now();
        let opening = scope.spawn(|| bench.open().map(|(_, opened)| opened));
        await_some("the new owner's fence", SOON, || (term + 1 < elsewhere.end()).then_some(()));
        // Of another one: that is nobody who is waited for.
        elsewhere.write("e", r#"{"term":4711}"#);
        thread::sleep(Duration::from_secs(1));
        assert!(!opening.is_finished(), "the older one may still write");
        elsewhere.write("e", &format!(r#"{{"term":{term}}}"#));
        let opened = opening.join().expect("no panic").expect("it opens");
        assert_eq!(opened.term, term + 1);
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    });
}

/// Also where delivery is exactly-once from now on.
#[test]
fn a_take_over_waits_for_an_owner_that_says_nothing() {
    let waits = |delivery| {
        let bench = Bench::with(|sink| sink.delivery = delivery);
        Elsewhere::new(&bench).announce();
        let begun = Instant::now();
        drop(bench.opened());
        assert!(TAKE_OVER <= begun.elapsed(), "{:?}", begun.elapsed());
    };
    thread::scope(|scope| {
        scope.spawn(|| waits(config::Delivery::AtLeastOnce));
        waits(config::Delivery::ExactlyOnce);
    });
}

#[test]
fn an_owner_of_this_process_is_ended_by_the_next_one() {
    let bench = bench();
    let (mut first, _) = bench.opened();
    bench.send(first.as_mut(), "a").expect("sent");
    thread::scope(|scope| {
        let begun = Instant::now();
        let opening = scope.spawn(|| bench.open().map(|(_, opened)| opened));
        let error = await_some("its end", SOON, || first.poll().err());
        assert!(matches!(error, kafka::Error::Fenced { .. }), "{error}");
        assert!(!opening.is_finished(), "the first one has not ended yet");
        drop(first);
        assert_eq!(opening.join().expect("no panic").expect("it opens").checkpoint, None);
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    });
}

#[test]
fn an_owner_that_ends_says_so() {
    let bench = bench();
    let mut lane = committed(&bench, 50);
    let elsewhere = Elsewhere::new(&bench);
    let before = elsewhere.end();
    lane.close();
    assert_eq!(elsewhere.end(), before + 1);
    drop(lane);
    assert_eq!(bench.opened().1.term, before + 1);
}
