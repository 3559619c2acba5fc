//! Lanes on other nodes, over links that are cut, silent and slow, while a random workload writes: nothing
//! is lost, nothing doubled, order is kept.

use node::link::client::{self, Caller, Place};
use node::link::peers::Peers;
use node::link::server::{HostedLanes, LinkService};
use node::state::{ClusterState, Fence, Placement, VERSION, write};
use pipeline::hosts::{Host, Hosts, OpenLane};
use pipeline::producer::StartLane;
use pipeline::{Options, Outcome, Progress};
use rpc::{Server, Services};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};
use tests::checker::Promises;
use tests::deadline::await_true;
use tests::network::{Half, Link, Weather};
use tests::probe::Probe;
use tests::scene::{CATCH_UP_MAX, Scene, walsender};
use tests::seed::{say, seed};
use tests::sql::Sql;
use tests::workload::{self, Pace, Workload};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const LANES: u8 = 4;
const FRONT: &str = "front";

/// A node that writes lanes, in this process.
struct Node {
    name: &'static str,
    /// The way to it.
    link: Link,
    lanes: HostedLanes,
}

impl Node {
    fn start(
        runtime: &Runtime,
        name: &'static str,
        scene: &Scene,
        cluster: &watch::Receiver<Arc<ClusterState>>,
    ) -> Self {
        let lanes = HostedLanes::default();
        let service = LinkService {
            node: name.into(),
            secrets_dir: scene.folder().to_owned(),
            cluster: cluster.clone(),
            lanes: lanes.clone(),
            deaf: watch::Sender::new(false).subscribe(),
        };
        let server = runtime.block_on(Server::bind("127.0.0.1:0", None, None)).expect("listens");
        let link = Link::to(&server.address().to_string());
        runtime.spawn(server.serve(Services::new().link(service), std::future::pending()));
        Self { name, link, lanes }
    }
}

/// Lanes of even numbers on one node, the others on another.
struct Two {
    nodes: [(&'static str, String); 2],
    peers: Peers,
    runtime: tokio::runtime::Handle,
}

impl Hosts for Two {
    fn of(&self, lane: u8) -> Host {
        Host::Node(self.nodes[usize::from(lane % 2)].0.into())
    }

    fn start(&self, node: &str, open: OpenLane, progress: Arc<Progress>) -> StartLane {
        let address = self.nodes.iter().find(|(name, _)| *name == node).expect("one of two");
        let place = Place { node: node.into(), address: address.1.clone() };
        let caller = Caller { node: FRONT.into(), protocol: rpc::PROTOCOL_MAX, placement_rev: 1 };
        client::start(self.runtime.clone(), self.peers.clone(), place, caller, open, progress)
    }

    fn changed(&self) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(std::future::pending())
    }
}

/// The control topic, as the nodes have read it.
fn placed(task: &str) -> Arc<ClusterState> {
    let lane = |lane: u8| Some(if lane.is_multiple_of(2) { "even" } else { "odd" }.to_owned());
    let placement = Placement {
        rev: 1,
        front: Some(FRONT.into()),
        lanes: (0..LANES).map(lane).collect(),
        ..Placement::default()
    };
    let fence =
        Fence { v: VERSION, node: "c1".into(), address: "127.0.0.1:1".into(), ver: "test".into() };
    let mut state = ClusterState::default();
    state.apply(0, "f", Some(&fence.to_json())).expect("a leader");
    let key = format!("placement/{task}");
    state.apply(1, &key, Some(&write(0, &placement))).expect("a placement");
    Arc::new(state)
}

/// A front on a thread of its own.
struct Front {
    stop: CancellationToken,
    progress: Arc<Progress>,
    thread: JoinHandle<Outcome>,
}

impl Front {
    fn start(scene: &Scene, yaml: &str, hosts: impl FnOnce() -> Two + Send + 'static) -> Self {
        let spec = Arc::new(config::Task::parse(yaml).expect("a spec"));
        let (stop, progress) = (CancellationToken::new(), Arc::new(Progress::default()));
        let options = Options { folder: scene.folder().to_owned(), ..Options::default() };
        let (stopped, told) = (stop.clone(), Arc::clone(&progress));
        let thread = std::thread::spawn(move || {
            let run = async move {
                pipeline::run_on(spec, options, told, stopped, Rc::new(hosts())).await
            };
            actix_rt::System::new().block_on(run)
        });
        Self { stop, progress, thread }
    }
}

#[test]
fn links_fail_in_every_way() {
    let seed = seed("link", 5115);
    let scene = Scene::new("link", "postgres-15");
    workload::create(&mut scene.sql());
    let mut probe = Probe::new(&scene);
    let workload = Workload::start(&scene, seed, Pace::default());
    let runtime = Runtime::new().expect("a runtime");
    let (_told, cluster) = watch::channel(placed(&scene.name));
    let nodes = ["even", "odd"].map(|name| Node::start(&runtime, name, &scene, &cluster));

    let secret = ("SECRET", tests::sql::PASSWORD);
    std::fs::write(scene.folder().join(secret.0), secret.1).expect("the folder can be written");
    let spec = scene.spec().user(tests::sql::ROLE, Some("${file:SECRET}"));
    let yaml = spec.line(&format!("lanes: {LANES}")).yaml();
    let hosts = {
        let nodes = [0, 1].map(|it: usize| (nodes[it].name, nodes[it].link.address.clone()));
        let runtime = runtime.handle().clone();
        move || Two { nodes, peers: Peers::new(None), runtime }
    };
    let front = Front::start(&scene, &yaml, hosts);
    let mut sql = Sql::superuser(&scene.postgres, "postgres");
    await_true("the slot in use", CATCH_UP_MAX, || walsender(&mut sql, &scene.slot()) != 0);
    probe.begin();
    workload.await_committed(50);
    for node in &nodes {
        assert_eq!(node.lanes.all().len(), usize::from(LANES / 2), "lanes on {}", node.name);
    }

    let mut over = |what: &str, fault: &dyn Fn(&Link)| {
        for node in &nodes {
            fault(&node.link);
            let since = Instant::now();
            probe.mark();
            probe.await_seen(&format!("link to {}: {what}", node.name), since);
            workload.await_committed(20);
        }
    };
    let weather = |weather: Weather, seconds: u64| {
        move |link: &Link| {
            link.set(weather);
            sleep(Duration::from_secs(seconds));
            link.set(Weather::Clear);
        }
    };
    over("cut", &weather(Weather::Cut, 0));
    over("away", &weather(Weather::Cut, 3));
    over("silent", &weather(Weather::Silent, 2));
    over("silent for longer", &weather(Weather::Silent, 12));
    over("slow", &weather(Weather::Slow(Duration::from_millis(40)), 4));
    over("half closed to the node", &|link| link.half_close(Half::ToServer));
    over("half closed to us", &|link| link.half_close(Half::ToClient));

    workload.stop();
    assert!(0 < front.progress.records.load(Relaxed), "the front knows what was written");
    front.stop.cancel();
    let outcome = front.thread.join().expect("no panic");
    assert!(matches!(outcome, Outcome::Stopped { .. }), "{outcome:?}");
    scene.catch_up(&scene.spec().line(&format!("lanes: {LANES}")));
    let report = scene.check(Promises::default());
    say(&format!("{}: {} records, {} rows", scene.name, report.records, report.rows));
}
