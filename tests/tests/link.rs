//! Lanes and the stages before the router on other nodes, over links that are cut, silent and slow, while a random workload writes: nothing
//! is lost, nothing doubled, order is kept.

use node::link::client::{self, Caller, Place};
use node::link::peers::Peers;
use node::link::server::{HostedLanes, LinkService, no_fronts};
use node::link::stage::HostedStages;
use node::link::stage::client::From;
use node::state::{ClusterState, Fence, Placement, VERSION, write};
use pipeline::hosts::{Host, Hosts, OpenLane, Upstream};
use pipeline::lane::Event;
use pipeline::producer::StartLane;
use pipeline::upstream::{self, Budget, OpenStage, UpstreamStage};
use pipeline::{Options, Outcome, Progress};
use rpc::{Protocols, Server, Services};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use tests::checker::Promises;
use tests::deadline::await_true;
use tests::network::{Half, Link, Weather};
use tests::probe::Probe;
use tests::pulse::{self, Pulse};
use tests::scene::{CATCH_UP_MAX, Scene, walsender};
use tests::seed::{full, say, seed};
use tests::sql::Sql;
use tests::task::Spec;
use tests::workload::{self, Pace, Workload};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const LANES: u8 = 4;
const FRONT: &str = "front";

/// A node that writes lanes and runs stages, in this process.
struct Node {
    name: &'static str,
    /// The way to it.
    link: Link,
    lanes: HostedLanes,
    stages: HostedStages,
}

impl Node {
    fn start(
        runtime: &Runtime,
        name: &'static str,
        scene: &Scene,
        cluster: &watch::Receiver<Arc<ClusterState>>,
    ) -> Self {
        let (lanes, stages) = (HostedLanes::default(), HostedStages::default());
        let service = LinkService {
            node: name.into(),
            data_dir: scene.folder().to_owned(),
            secrets_dir: scene.folder().to_owned(),
            cluster: cluster.clone(),
            lanes: lanes.clone(),
            stages: stages.clone(),
            peers: Peers::new(None, Protocols::OURS),
            deaf: watch::Sender::new(false).subscribe(),
            hand_over: no_fronts(),
        };
        let server = runtime.block_on(Server::bind("127.0.0.1:0", None, None)).expect("listens");
        let link = Link::to(&server.address().to_string());
        runtime.spawn(server.serve(Services::new().link(service), std::future::pending()));
        Self { name, link, lanes, stages }
    }
}

/// Lanes of even numbers on one node, the others on another.
#[derive(Clone)]
struct Two {
    nodes: [(&'static str, String); 2],
    peers: Peers,
    runtime: tokio::runtime::Handle,
    opened: Opened,
}

/// How lanes were opened, from the first on.
type Opened = Arc<Mutex<Vec<OpenLane>>>;

impl Hosts for Two {
    fn upstream(&self) -> Upstream {
        Upstream { reader: Host::Here, decoder: Host::Here }
    }

    fn start_stage(&self, node: &str, _: OpenStage, _: Budget) -> upstream::Start {
        unreachable!("no stage runs on {node}")
    }

    fn of(&self, lane: u8) -> Host {
        Host::Node(self.nodes[usize::from(lane % 2)].0.into())
    }

    fn start(&self, node: &str, open: OpenLane, progress: Arc<Progress>) -> StartLane {
        let address = self.nodes.iter().find(|(name, _)| *name == node).expect("one of two");
        let place = Place { node: node.into(), address: address.1.clone() };
        let caller = Caller { node: FRONT.into(), placement_rev: 1 };
        self.opened.lock().expect("no panic").push(open.clone());
        client::start(self.runtime.clone(), self.peers.clone(), place, caller, open, progress)
    }

    fn changed(&self) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(std::future::pending())
    }
}

/// Lanes beside the router, reader and decoder where the placement says.
struct Parted {
    placement: Placement,
    peers: Peers,
    runtime: tokio::runtime::Handle,
}

impl Hosts for Parted {
    fn upstream(&self) -> Upstream {
        let host = |node: Option<&str>| node.map_or(Host::Nowhere, |it| Host::Node(it.into()));
        let Placement { front, .. } = &self.placement;
        Upstream { reader: host(front.as_deref()), decoder: host(self.placement.decoder()) }
    }

    fn start_stage(&self, node: &str, open: OpenStage, budget: Budget) -> upstream::Start {
        let from = From { node: FRONT, peers: &self.peers, runtime: self.runtime.clone() };
        from.start(node, &self.placement, open, budget)
    }

    fn of(&self, _: u8) -> Host {
        Host::Here
    }

    fn start(&self, node: &str, _: OpenLane, _: Arc<Progress>) -> StartLane {
        unreachable!("no lane runs on {node}")
    }

    fn changed(&self) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(std::future::pending())
    }
}

/// Lanes of even numbers on one node, the others on another.
fn two() -> Placement {
    let lane = |lane: u8| Some(if lane.is_multiple_of(2) { "even" } else { "odd" }.to_owned());
    Placement {
        rev: 1,
        front: Some(FRONT.into()),
        lanes: (0..LANES).map(lane).collect(),
        ..Placement::default()
    }
}

/// Reader and decoder on nodes of their own.
fn parted(nodes: &[Node; 2]) -> Placement {
    let [reader, decoder] = nodes.each_ref().map(|it| Some(it.name.to_owned()));
    Placement {
        rev: 1,
        front: reader,
        decoder,
        router: Some(FRONT.into()),
        lanes: (0..LANES).map(|_| Some(FRONT.into())).collect(),
        addresses: nodes.iter().map(|it| (it.name.into(), it.link.address.clone())).collect(),
        ..Placement::default()
    }
}

/// The control topic, as the nodes have read it.
fn placed(task: &str, placement: &Placement) -> Arc<ClusterState> {
    let fence =
        Fence { v: VERSION, node: "c1".into(), address: "127.0.0.1:1".into(), ver: "test".into() };
    let mut state = ClusterState::default();
    state.apply(0, "f", Some(&fence.to_json())).expect("a leader");
    let key = format!("placement/{task}");
    state.apply(1, &key, Some(&write(0, placement))).expect("a placement");
    Arc::new(state)
}

/// A front on a thread of its own.
struct Front {
    stop: CancellationToken,
    progress: Arc<Progress>,
    thread: JoinHandle<Outcome>,
}

impl Front {
    fn start<H: Hosts + 'static>(
        scene: &Scene,
        yaml: &str,
        hosts: impl FnOnce() -> H + Send + 'static,
    ) -> Self {
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

/// A task under a workload, whose front runs here.
struct Load<'a> {
    scene: &'a Scene,
    probe: Probe<'a>,
    workload: Workload,
    front: Front,
}

impl<'a> Load<'a> {
    fn start<H: Hosts + 'static>(
        scene: &'a Scene,
        seed: u64,
        source: &str,
        hosts: impl FnOnce() -> H + Send + 'static,
    ) -> Self {
        workload::create(&mut scene.sql());
        pulse::create(&mut scene.sql());
        let probe = Probe::new(scene);
        let workload = Workload::start(scene, seed, Pace::default());
        let secret = ("SECRET", tests::sql::PASSWORD);
        std::fs::write(scene.folder().join(secret.0), secret.1).expect("the folder can be written");
        let spec = spec(scene).user(tests::sql::ROLE, Some("${file:SECRET}"));
        let yaml = spec.source(source).yaml();
        let front = Front::start(scene, &yaml, hosts);
        let mut sql = Sql::superuser(&scene.postgres, "postgres");
        await_true("the slot in use", CATCH_UP_MAX, || walsender(&mut sql, &scene.slot()) != 0);
        workload.await_committed(50);
        Self { scene, probe, workload, front }
    }

    /// Does something to the way to each node, and waits until a row that was written just then has come
    /// through.
    fn over(&mut self, nodes: &[Node; 2], what: &str, fault: impl Fn(&Link)) {
        for node in nodes {
            fault(&node.link);
            let since = Instant::now();
            self.probe.mark();
            self.probe.await_seen(&format!("link to {}: {what}", node.name), since);
            self.workload.await_committed(20);
        }
    }

    /// Ends everything and compares.
    fn finish(self) {
        let Self { scene, workload, front, .. } = self;
        workload.stop();
        let Progress { records, wal_bytes, .. } = &*front.progress;
        assert!(0 < records.load(Relaxed), "the front knows what was written");
        assert!(0 < wal_bytes.load(Relaxed), "the front knows what was received");
        front.stop.cancel();
        let outcome = front.thread.join().expect("no panic");
        assert!(matches!(outcome, Outcome::Stopped { .. }), "{outcome:?}");
        scene.catch_up(&spec(scene));
        let report = scene.check(Promises::default());
        say(&format!("{}: {} records, {} rows", scene.name, report.records, report.rows));
    }
}

/// With a row of the pulse in each lane.
fn spec(scene: &Scene) -> Spec {
    let pulse = format!("{{table: public.pulse, partitions: {}}}", 8 * LANES);
    scene.spec().line(&format!("lanes: {LANES}")).objects(&[&pulse, "{table: \"*.*\"}"])
}

/// How long lanes may be silent that have nothing to do with a fault, on a machine where others work.
const UNDISTURBED_MAX: Duration = Duration::from_secs(8);

/// While one node answers nothing, its own lanes stand still and those of the other flow.
fn only_its_own_lanes_wait(load: &Load<'_>, nodes: &[Node; 2]) {
    let lasts = 2 * UNDISTURBED_MAX;
    let pulse = Pulse::start(load.scene, LANES, |topic, at| record::lane::lane(topic, at, LANES));
    for (number, node) in nodes.iter().enumerate() {
        pulse.await_beat("the last fault");
        pulse.reset();
        node.link.set(Weather::Silent);
        sleep(lasts);
        let silences = pulse.silences();
        node.link.set(Weather::Clear);
        say(&format!("silences while the link to {} is silent: {silences:?}", node.name));
        for (lane, silence) in silences.into_iter().enumerate() {
            let its_own = lane % nodes.len() == number;
            assert_eq!(UNDISTURBED_MAX < silence, its_own, "lane {lane}: {silence:?}");
        }
    }
    pulse.await_beat("the links have come back");
}

/// Life and position of a lane on a node, once it is open.
fn hosted(node: &Node, lane: u8) -> Option<u64> {
    let all = node.lanes.all();
    let found = all.into_iter().find(|((_, number), it)| *number == lane && it.open);
    found.map(|(_, it)| it.life)
}

/// An `OpenLane` that was under way for long must not fence the life that came after it.
fn a_late_opening_is_refused(node: &Node, opened: &Opened, hosts: &Two) {
    const LANE: u8 = 0;
    let latest = || {
        let all = opened.lock().expect("no panic");
        all.iter().rev().find(|it| it.lane == LANE).cloned().expect("it was opened")
    };
    await_true("the lane open", CATCH_UP_MAX, || hosted(node, LANE) == Some(latest().life));
    let present = latest();
    for (life, code) in [(present.life - 1, "FENCED"), (present.life, "BUSY")] {
        let (said, heard) = mpsc::channel();
        let late = OpenLane { life, ..present.clone() };
        let start = hosts.start(node.name, late, Arc::default());
        let orders = start(Arc::new(move |event| drop(said.send(event))));
        let event = heard.recv_timeout(CATCH_UP_MAX).expect("an answer");
        assert!(matches!(event, Event::Failed(_)), "{code}: {event:?}");
        let text = format!("{event:?}");
        assert!(text.contains("comes late"), "{code}: {text}");
        drop(orders);
    }
    assert_eq!(hosted(node, LANE), Some(present.life), "it goes on");
}

fn weather(weather: Weather, seconds: u64) -> impl Fn(&Link) {
    move |link: &Link| {
        link.set(weather);
        sleep(Duration::from_secs(seconds));
        link.set(Weather::Clear);
    }
}

#[test]
fn links_fail_in_every_way() {
    let seed = seed("link", 5115);
    let scene = Scene::new("link", "postgres-15");
    let runtime = Runtime::new().expect("a runtime");
    let (_told, cluster) = watch::channel(placed(&scene.name, &two()));
    let nodes = ["even", "odd"].map(|name| Node::start(&runtime, name, &scene, &cluster));
    let opened = Opened::default();
    let two = {
        let nodes = [0, 1].map(|it: usize| (nodes[it].name, nodes[it].link.address.clone()));
        let (runtime, opened) = (runtime.handle().clone(), Arc::clone(&opened));
        Two { nodes, peers: Peers::new(None, Protocols::OURS), runtime, opened }
    };
    let hosts = two.clone();
    let mut load = Load::start(&scene, seed, "streaming: off", move || hosts);
    for node in &nodes {
        assert_eq!(node.lanes.all().len(), usize::from(LANES / 2), "lanes on {}", node.name);
    }
    a_late_opening_is_refused(&nodes[0], &opened, &two);
    only_its_own_lanes_wait(&load, &nodes);
    load.over(&nodes, "away", weather(Weather::Cut, 3));
    load.over(&nodes, "silent for longer", weather(Weather::Silent, 12));
    load.over(&nodes, "half closed to us", |link| link.half_close(Half::ToClient));
    if full() {
        load.over(&nodes, "cut", weather(Weather::Cut, 0));
        load.over(&nodes, "silent", weather(Weather::Silent, 2));
        load.over(&nodes, "slow", weather(Weather::Slow(Duration::from_millis(40)), 4));
        load.over(&nodes, "half closed to the node", |link| link.half_close(Half::ToServer));
    }
    load.finish();
}

#[test]
fn links_before_the_router_fail_in_every_way() {
    let seed = seed("upstream", 5215);
    let scene = Scene::new("upstream", "postgres-15");
    let runtime = Runtime::new().expect("a runtime");
    let (tell, cluster) = watch::channel(Arc::default());
    let nodes = ["reader", "decoder"].map(|name| Node::start(&runtime, name, &scene, &cluster));
    let placement = parted(&nodes);
    tell.send_replace(placed(&scene.name, &placement));
    let hosts = {
        let runtime = runtime.handle().clone();
        move || Parted { placement, peers: Peers::new(None, Protocols::OURS), runtime }
    };
    let mut sql = scene.superuser();
    // Transactions come while they are in progress, and are spooled on the reader's node.
    let setting =
        format!("ALTER DATABASE \"{}\" SET logical_decoding_work_mem = '64kB'", scene.name);
    sql.run(&setting);
    let mut load = Load::start(&scene, seed, "streaming: on", hosts);
    workload::large_transaction(&mut scene.sql());
    for (node, stage) in nodes.iter().zip([UpstreamStage::Reader, UpstreamStage::Decoder]) {
        let hosted: Vec<_> = node.stages.all().into_iter().map(|(_, stage, _)| stage).collect();
        assert_eq!(hosted, [stage], "stages on {}", node.name);
    }
    load.over(&nodes, "cut", weather(Weather::Cut, 0));
    load.over(&nodes, "silent for longer", weather(Weather::Silent, 12));
    load.over(&nodes, "half closed to us", |link| link.half_close(Half::ToClient));
    if full() {
        load.over(&nodes, "slow", weather(Weather::Slow(Duration::from_millis(40)), 4));
        load.over(&nodes, "half closed to the node", |link| link.half_close(Half::ToServer));
    }
    let streamed = format!(
        "SELECT 0 < stream_txns FROM pg_stat_replication_slots WHERE slot_name = '{}'",
        scene.slot()
    );
    await_true("streamed transactions", CATCH_UP_MAX, || sql.value(&streamed) == "t");
    load.finish();
}
