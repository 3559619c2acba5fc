//! A cluster of real processes under a random workload: workers join, leave, are killed and paused,
//! leaders change. Nothing is lost, nothing doubled, order is kept.

use rustix::process::Signal;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tests::checker::Promises;
use tests::cluster::Cluster;
use tests::deadline::await_true;
use tests::probe::Probe;
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::seed::{full, say, seed};
use tests::status::Status;
use tests::task::Spec;
use tests::workload::{self, Pace, Workload};

/// Longer than every time-out of the cluster, of the broker (30 s for a transaction) and of the link.
const PAUSE: Duration = Duration::from_secs(35);

/// A task on a cluster, under a workload.
struct Load<'a> {
    scene: &'a Scene,
    cluster: Cluster<'a>,
    workload: Workload,
    probe: Probe<'a>,
}

impl<'a> Load<'a> {
    fn start(scene: &'a Scene, seed: u64, coordinators: usize, workers: usize) -> Self {
        Self::on(scene, seed, Cluster::start(scene, coordinators, workers), "{}")
    }

    /// `placement`: labels per stage.
    fn on(scene: &'a Scene, seed: u64, cluster: Cluster<'a>, placement: &str) -> Self {
        workload::create(&mut scene.sql());
        let probe = Probe::new(scene);
        let workload = Workload::start(scene, seed, Pace::default());
        let spec = cluster.spec().line("lanes: 4").line(&format!("placement: {placement}"));
        cluster.apply(&spec);
        cluster.await_status("the stream", CATCH_UP_MAX, Status::flows);
        workload.await_committed(50);
        Self { scene, cluster, workload, probe }
    }

    /// Lets something happen, and waits until a row that was written just then has come through.
    fn over(&mut self, name: &str, fault: impl FnOnce(&mut Cluster<'a>)) {
        fault(&mut self.cluster);
        let since = Instant::now();
        self.probe.mark();
        self.probe.await_seen(name, since);
        self.workload.await_committed(20);
    }

    /// Moves the front as planned; answers where it is then.
    fn move_front(&mut self, name: &str) -> String {
        let front = self.cluster.status().front();
        self.over(name, |cluster| {
            cluster.call(&["cluster", "drain", &front]).expect(0);
        });
        let moved = self.cluster.await_status("the front elsewhere", CATCH_UP_MAX, |status| {
            status.front() != front && status.flows()
        });
        self.cluster.call(&["cluster", "uncordon", &front]).expect(0);
        moved.front()
    }

    /// Ends everything and compares.
    fn finish(self) {
        let Self { scene, cluster, workload, .. } = self;
        workload.stop();
        let spec = scene.spec().line("lanes: 4");
        cluster.call(&["task", "suspend", &scene.name]).expect(0);
        drop(cluster);
        compare(scene, &spec, Promises::default());
    }
}

/// One process takes over what a cluster has left; then everything is compared.
fn compare(scene: &Scene, spec: &Spec, promises: Promises) {
    scene.catch_up(spec);
    let report = scene.check(promises);
    say(&format!("{}: {} records, {} rows", scene.name, report.records, report.rows));
}

#[test]
fn producers_come_and_go_while_a_task_runs() {
    let seed = seed("scale", 4115);
    let scene = Scene::new("scale", "postgres-15");
    let mut load = Load::start(&scene, seed, 1, 1);
    load.over("a second worker joined", |cluster| cluster.add_worker("w2"));
    load.cluster.await_status("lanes on both workers", CATCH_UP_MAX, |status| {
        status.nodes() == ["w1", "w2"]
    });
    load.over("a third worker joined", |cluster| cluster.add_worker("w3"));
    load.cluster.await_status("lanes on all workers", CATCH_UP_MAX, |status| {
        status.nodes() == ["w1", "w2", "w3"]
    });
    load.over("a worker drained", |cluster| {
        cluster.call(&["cluster", "drain", "w2"]).expect(0);
    });
    load.cluster.await_status("no lane on the drained worker", CATCH_UP_MAX, |status| {
        !status.nodes().contains(&"w2".to_owned())
    });
    load.over("a worker ended", |cluster| {
        cluster.end("w3");
    });
    load.over("the drained worker takes lanes again", |cluster| {
        cluster.call(&["cluster", "uncordon", "w2"]).expect(0);
    });
    load.finish();
}

/// Two databases, each with its task: nothing of one gets into the other, and what stops one leaves the other alone.
#[test]
fn tasks_share_the_workers_and_nothing_else() {
    let [one, other] = ["first_of_two", "second_of_two"].map(|it| Scene::new(it, "postgres-15"));
    let mut cluster = Cluster::start(&one, 1, 2);
    let specs = [cluster.spec().line("lanes: 3"), cluster.spec_of(&other).line("lanes: 2")];
    let loads = [(&one, &specs[0], 21), (&other, &specs[1], 22)].map(|(scene, spec, fixed)| {
        workload::create(&mut scene.sql());
        let workload = Workload::start(scene, seed(&scene.name, fixed), Pace::default());
        cluster.apply(spec);
        workload
    });
    let flow = |cluster: &Cluster<'_>| {
        for scene in [&one, &other] {
            cluster.await_status_of(&scene.name, "the stream", CATCH_UP_MAX, Status::flows);
        }
        loads.iter().for_each(|it| it.await_committed(50));
    };
    flow(&cluster);
    let fronts = [&one, &other].map(|it| cluster.status_of(&it.name).front());
    assert_ne!(fronts[0], fronts[1], "the fronts are spread");
    // All of both tasks on one worker, which had the front of the first.
    cluster.kill(&fronts[1]);
    for scene in [&one, &other] {
        cluster.await_status_of(&scene.name, "both on one worker", CATCH_UP_MAX, |it| {
            it.flows() && it.nodes() == [fronts[0].clone()]
        });
    }
    flow(&cluster);
    cluster.call(&["task", "suspend", &other.name]).expect(0);
    let before: u64 = cluster.status().records().iter().sum();
    await_true("records of the task that goes on", CATCH_UP_MAX, || {
        before < cluster.status().records().iter().sum()
    });
    cluster.call(&["task", "resume", &other.name]).expect(0);
    flow(&cluster);
    loads.into_iter().for_each(Workload::stop);
    for scene in [&one, &other] {
        cluster.call(&["task", "suspend", &scene.name]).expect(0);
    }
    drop(cluster);
    for (scene, lanes) in [(&one, "lanes: 3"), (&other, "lanes: 2")] {
        compare(scene, &scene.spec().line(lanes), Promises::default());
    }
}

#[test]
fn whoever_is_killed_or_paused_is_replaced() {
    let seed = seed("replaced", 4215);
    let scene = Scene::new("replaced", "postgres-15");
    let mut load = Load::start(&scene, seed, 3, 3);
    for _ in 0..if full() { 4 } else { 1 } {
        // Who registers first gets everything, and gives half of it away once the others are there.
        load.cluster.await_status("lanes on several workers", CATCH_UP_MAX, |status| {
            1 < status.nodes().len()
        });
        let status = load.cluster.status();
        let front = status.front();
        let other = status.nodes().into_iter().find(|node| *node != front);
        let other = other.expect("a worker with lanes only");
        load.over("a producer's worker was killed", |cluster| cluster.kill(&other));
        load.cluster.begin(&other);
        load.over("the reader's worker was killed", |cluster| cluster.kill(&front));
        load.cluster.begin(&front);
        let front = load.cluster.status().front();
        load.over("the reader's worker was paused", |cluster| {
            cluster.signal(&front, Signal::STOP);
            sleep(PAUSE);
            cluster.signal(&front, Signal::CONT);
        });
        for coordinator in ["c1", "c2", "c3"] {
            load.over("a coordinator was killed", |cluster| cluster.kill(coordinator));
        }
        // Nobody leads: data goes on.
        load.over("nobody leads", |_| {});
        for coordinator in ["c1", "c2", "c3"] {
            load.cluster.begin(coordinator);
        }
        load.cluster.await_status("a leader again", CATCH_UP_MAX, |status| {
            status.lanes().iter().all(|lane| lane.1 == "running")
        });
    }
    load.finish();
}

/// A coordinator and a worker that speak what the release before spoke, and a worker of this one; then all are renewed.
#[test]
fn nodes_of_neighbouring_releases_work_together() {
    let seed = seed("releases", 4415);
    let scene = Scene::new("releases", "postgres-15");
    let mut cluster = Cluster::start(&scene, 1, 2);
    cluster.renew("c1", Some(1));
    cluster.renew("w2", Some(1));
    let mut load = Load::on(&scene, seed, cluster, "{}");
    load.cluster.await_status("lanes on both", CATCH_UP_MAX, |it| it.nodes() == ["w1", "w2"]);
    // There and back: once it is the older node that has the front.
    for _ in 0..2 {
        load.move_front("the front has moved between releases");
    }
    let asked = load.cluster.log("w1");
    assert!(asked.contains("the front is taken over"), "{asked}");
    assert!(!asked.contains("the front was handed over"), "{asked}");
    for name in ["c1", "w2"] {
        load.over("a node was renewed", |cluster| cluster.renew(name, None));
    }
    load.cluster.await_status("lanes on both again", CATCH_UP_MAX, |status| {
        status.nodes() == ["w1", "w2"] && status.flows()
    });
    let front = load.move_front("the front has moved between renewed nodes");
    let log = load.cluster.log(&front);
    assert!(log.contains("the front was handed over"), "{log}");
    load.finish();
}

/// Reader, decoder, router and two nodes with lanes; another node for each stage whose node is killed.
#[test]
fn each_stage_has_a_node_of_its_own() {
    let seed = seed("stages", 4315);
    let scene = Scene::new("stages", "postgres-15");
    let mut cluster = Cluster::start(&scene, 1, 0);
    let nodes = ["reader", "decoder", "router", "producer"];
    for (stage, number) in nodes.into_iter().flat_map(|stage| [(stage, 1), (stage, 2)]) {
        if (stage, number) != ("reader", 2) {
            cluster.add_labelled_worker(&format!("{stage}{number}"), &format!("stage: {stage}"));
        }
    }
    let mut load = Load::on(
        &scene,
        seed,
        cluster,
        "{reader: {stage: reader}, decoder: {stage: decoder}, router: {stage: router}, \
         producers: {stage: producer}}",
    );
    // Whoever registers last gets its share a moment after the task has begun.
    load.cluster.await_status("lanes on both producers", CATCH_UP_MAX, |status| {
        status.nodes() == ["producer1", "producer2"]
    });
    let status = load.cluster.status();
    let [reader, decoder, router] = ["reader", "decoder", "router"].map(|it| status.node_of(it));
    for (stage, node) in [("reader", &reader), ("decoder", &decoder), ("router", &router)] {
        assert!(node.starts_with(stage), "the {stage} runs on {node}");
    }
    for node in [&reader, &decoder] {
        assert!(load.cluster.log(node).contains("a stage begins here"), "no stage on {node}");
    }
    load.over("a large transaction", |_| workload::large_transaction(&mut scene.sql()));
    for (stage, node) in [("decoder", &decoder), ("router", &router)] {
        load.over(&format!("the {stage}'s worker was killed"), |cluster| cluster.kill(node));
        let moved = load.cluster.status().node_of(stage);
        assert!(moved.starts_with(stage) && moved != *node, "the {stage} runs on {moved}");
    }
    if full() {
        load.over("the reader's worker was killed, and began again", |cluster| {
            cluster.kill(&reader);
            cluster.begin(&reader);
        });
    }
    load.over("the decoder's worker drained", |cluster| {
        cluster.begin(&decoder);
        let now = cluster.status().node_of("decoder");
        cluster.call(&["cluster", "drain", &now]).expect(0);
        cluster.await_status("the decoder elsewhere", CATCH_UP_MAX, |status| {
            status.node_of("decoder") == decoder
        });
    });
    load.finish();
}

/// At-least-once no epoch keeps a worker that wakes from writing what it had queued: its successors wait until it cannot, it
/// finds that it was taken over, and what it wrote until then keeps nobody from going on.
#[test]
fn a_worker_that_wakes_finds_its_lanes_taken_over_at_least_once() {
    let seed = seed("woken", 4515);
    let scene = Scene::new("woken", "postgres-15");
    workload::create(&mut scene.sql());
    let workload = Workload::start(&scene, seed, Pace::default());
    let mut cluster = Cluster::start(&scene, 1, 3);
    let least = |spec: Spec| spec.sink("delivery: at-least-once").line("lanes: 4");
    cluster.apply(&least(cluster.spec()));
    cluster.await_status("the stream", CATCH_UP_MAX, Status::flows);
    workload.await_committed(50);
    let status = cluster.status();
    let front = status.front();
    let sleeper = status.nodes().into_iter().find(|node| *node != front).expect("a third worker");
    cluster.signal(&sleeper, Signal::STOP);
    // A worker that has joined late has nothing yet, and may be the one that takes over.
    let others: Vec<_> = cluster.running().into_iter().filter(|node| *node != sleeper).collect();
    await_true("a take-over that waits", CATCH_UP_MAX, || {
        others.iter().any(|node| cluster.log(node).contains("an older owner may still write"))
    });
    cluster.signal(&sleeper, Signal::CONT);
    cluster.await_status("the stream again", CATCH_UP_MAX, Status::flows);
    workload.await_committed(50);
    workload.stop();
    cluster.call(&["task", "suspend", &scene.name]).expect(0);
    drop(cluster);
    let promises = Promises { exactly_once: false, ..Promises::default() };
    compare(&scene, &least(scene.spec()), promises);
}
