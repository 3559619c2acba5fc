use super::*;
use crate::coordinator::orders::Done;
use crate::membership::Registration;
use crate::placement::Labels;
use rpc::v1::CoordinatorMessage;
use rpc::v1::coordinator_message::Message;
use rpc::{Code, Error as Refusal};
use std::sync::mpsc as blocking;
use tokio::task::JoinHandle;
use tonic::Status;

/// A desk whose threads are played by the test.
struct Bench {
    orders: blocking::Receiver<Order>,
    outcomes: mpsc::UnboundedSender<Outcome>,
    read: mpsc::Sender<Read>,
    handle: Handle,
    stop: CancellationToken,
    life: JoinHandle<Result<(), Error>>,
}

type Inward = mpsc::Receiver<Result<CoordinatorMessage, Status>>;

impl Bench {
    /// A follower that takes the lead as soon as it may.
    fn new() -> Self {
        let (orders, to_writer) = blocking::channel();
        let (from_writer, outcomes) = mpsc::unbounded_channel();
        let (from_tail, read) = mpsc::channel(8);
        let leader = crate::leader::Timing {
            silence: Duration::ZERO,
            jitter_max: Duration::ZERO,
            heartbeat: Duration::from_secs(60),
            uncommitted_max: Duration::from_secs(60),
            pause: Duration::from_secs(60),
            ..crate::leader::Timing::default()
        };
        let timings = Timings { leader, ..Timings::default() };
        let control = Control { orders, outcomes, read };
        let (desk, requests, versions) =
            Desk::new("c1".into(), "c1:7420".into(), control, timings, PathBuf::new());
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let life = tokio::spawn(desk.run(stop.clone()));
        let handle = Handle::new(requests, versions, ended);
        Self { orders: to_writer, outcomes: from_writer, read: from_tail, handle, stop, life }
    }

    /// The leader of term 0.
    async fn leading() -> Self {
        let bench = Self::new();
        assert!(matches!(bench.order().await, Order::Take));
        bench.say(Outcome::Taken { term: 0 });
        bench.fence(0, "c1").await;
        assert!(matches!(bench.order().await, Order::Beat { resigned: false }));
        bench.say(Outcome::Committed { began: Instant::now(), offset: 1, is_beat: true });
        bench.settle().await;
        bench
    }

    /// What the desk orders next.
    async fn order(&self) -> Order {
        let next = async {
            loop {
                match self.orders.try_recv() {
                    Ok(order) => return order,
                    Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), next).await.expect("an order in time")
    }

    fn say(&self, outcome: Outcome) {
        self.outcomes.send(outcome).expect("the desk lives");
    }

    async fn show(&self, entries: Vec<ControlEntry>) {
        self.read.send(Read::Entries(entries)).await.expect("the desk lives");
    }

    async fn fence(&self, offset: i64, node: &str) {
        let value = format!(r#"{{"v":1,"node":"{node}","address":"{node}:7420","ver":"0"}}"#);
        self.show(vec![ControlEntry { offset, key: "f".into(), value: Some(value.into()) }]).await;
    }

    /// Until the desk has taken in what was said.
    async fn settle(&self) {
        for _ in 0..3 {
            self.handle.ask(|_| ()).await.expect("the desk lives");
        }
    }

    fn apply(&self) -> JoinHandle<Result<Done, Refusal>> {
        let yaml = "version: 1\ntask: shop\nsource: {hosts: [\"db:5432\"], database: shop, user: u}\n\
                    sink: {brokers: [\"k:9092\"]}\nobjects: [{table: \"public.*\"}]\n";
        let handle = self.handle.clone();
        let order = orders::Order::Apply { yaml: yaml.into() };
        tokio::spawn(async move { handle.order(order, "ann".into()).await })
    }

    async fn written(&self) -> Vec<(String, Option<Vec<u8>>)> {
        let order = self.order().await;
        let Order::Write { term: 0, records } = order else { panic!("{order:?}") };
        records
    }

    async fn worker(&self) -> Inward {
        let (outward, mut inward) = mpsc::channel(8);
        let address = "w1:7420".into();
        let registration = Registration { address, labels: Labels::new(), ver: "0".into() };
        let ended = CancellationToken::new().drop_guard();
        let said = Heard::Join(Join { registration, protocol: 1, outward, ended });
        let request = Request::Heard { node: "w1".into(), connection: 1, said };
        self.handle.requests.send(request).await.expect("the desk lives");
        assert!(matches!(next(&mut inward).await, Some(Message::Welcome(_))));
        assert!(matches!(next(&mut inward).await, Some(Message::Look(_))));
        inward
    }
}

async fn next(inward: &mut Inward) -> Option<Message> {
    inward.recv().await?.expect("no refusal").message
}

#[tokio::test]
async fn who_has_not_read_the_control_topic_says_so_and_nothing_else() {
    let bench = Bench::new();
    let names = || bench.handle.ask(|desk| desk.view().tasks().len());
    assert_eq!(names().await.expect_err("it knows nothing").code, Code::Starting);
    bench.fence(0, "c2").await;
    assert_eq!(names().await.expect_err("there may be more").code, Code::Starting);
    bench.read.send(Read::Present).await.expect("the desk lives");
    assert_eq!(names().await, Ok(0));
}

#[tokio::test]
async fn an_order_is_answered_once_it_is_read_back() {
    let bench = Bench::leading().await;
    let mut worker = bench.worker().await;
    let applied = bench.apply();
    let records = bench.written().await;
    bench.say(Outcome::Committed { began: Instant::now(), offset: 3, is_beat: false });
    let hint = next(&mut worker).await;
    assert!(matches!(hint, Some(Message::Look(it)) if it.control_offset == 3));
    bench.settle().await;
    assert!(!applied.is_finished(), "what it was done to is not yet seen");
    let entry = |(offset, (key, value))| ControlEntry { offset, key, value };
    bench.show((2..).zip(records).map(entry).collect()).await;
    let done = applied.await.expect("no panic").expect("done");
    assert_eq!(done.revision, 1);
    let seen = bench.handle.ask(|desk| desk.cluster().tasks.contains_key("shop")).await;
    assert_eq!(seen, Ok(true));
}

#[tokio::test]
async fn what_was_not_written_is_written_by_the_next_leader_and_workers_stay() {
    let bench = Bench::leading().await;
    let mut worker = bench.worker().await;
    let applied = bench.apply();
    bench.written().await;
    bench.say(Outcome::Unclean);
    assert!(matches!(bench.order().await, Order::Take));
    let refused = bench.apply().await.expect("no panic").expect_err("it does not lead now");
    assert_eq!((refused.code, refused.leader), (Code::NotLeader, None));
    assert!(!applied.is_finished(), "what became of it is not yet known");
    bench.say(Outcome::Taken { term: 9 });
    bench.fence(9, "c1").await;
    let records = loop {
        match bench.order().await {
            Order::Write { term: 9, records } => break records,
            Order::Beat { .. } => {}
            other @ (Order::Take | Order::Write { .. } | Order::Drop) => panic!("{other:?}"),
        }
    };
    bench.say(Outcome::Committed { began: Instant::now(), offset: 11, is_beat: false });
    let entry = |(offset, (key, value))| ControlEntry { offset, key, value };
    bench.show((10..).zip(records).map(entry).collect()).await;
    assert_eq!(applied.await.expect("no panic").expect("done").revision, 1);
    let alive = bench.handle.ask(|desk| desk.view().worker("w1").map(|it| it.state)).await;
    assert_eq!(alive, Ok(Ok("alive".into())));
    while let Ok(said) = worker.try_recv() {
        let message = said.expect("no refusal").message;
        assert!(matches!(message, Some(Message::Look(_))), "{message:?}");
    }
}

#[tokio::test]
async fn what_was_written_although_no_answer_came_is_done() {
    let bench = Bench::leading().await;
    let applied = bench.apply();
    let records = bench.written().await;
    bench.say(Outcome::Unclean);
    assert!(matches!(bench.order().await, Order::Take));
    let entry = |(offset, (key, value))| ControlEntry { offset, key, value };
    bench.show((2..).zip(records).map(entry).collect()).await;
    assert_eq!(applied.await.expect("no panic").expect("done").revision, 1);
}

#[tokio::test]
async fn what_another_leader_has_prevented_is_passed_on_to_it() {
    let bench = Bench::leading().await;
    let applied = bench.apply();
    bench.written().await;
    bench.say(Outcome::Fenced);
    assert!(matches!(bench.order().await, Order::Drop));
    bench.settle().await;
    assert!(!applied.is_finished(), "what became of it is not yet known");
    bench.fence(20, "c2").await;
    let refused = applied.await.expect("no panic").expect_err("it was not done");
    assert_eq!((refused.code, refused.leader.as_deref()), (Code::NotLeader, Some("c2:7420")));
}

#[tokio::test]
async fn workers_and_people_are_sent_to_the_next_leader() {
    let bench = Bench::leading().await;
    let mut worker = bench.worker().await;
    bench.fence(20, "c2").await;
    assert!(matches!(bench.order().await, Order::Drop));
    let sent = next(&mut worker).await;
    assert!(matches!(sent, Some(Message::NotLeader(it)) if it.leader == "c2:7420"));
    assert!(worker.recv().await.is_none(), "the stream ends");
    let refused = bench.apply().await.expect("no panic").expect_err("it does not lead");
    assert_eq!((refused.code, refused.leader.as_deref()), (Code::NotLeader, Some("c2:7420")));
    let leader = bench.handle.ask(|desk| desk.view().cluster().leader).await;
    assert_eq!(leader.as_deref(), Ok("c2"));
}

#[tokio::test]
async fn a_leader_that_ends_resigns() {
    let bench = Bench::leading().await;
    bench.stop.cancel();
    assert!(matches!(bench.order().await, Order::Beat { resigned: true }));
    bench.say(Outcome::Committed { began: Instant::now(), offset: 2, is_beat: true });
    assert!(matches!(bench.order().await, Order::Drop));
    bench.say(Outcome::Dropped);
    bench.life.await.expect("no panic").expect("it ends well");
}
