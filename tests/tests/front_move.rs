//! A front that is moved as planned hands over in good order: its lanes commit, its slot is free, and its
//! successor, which is ready by then, begins at once. Nothing is lost, nothing doubled.

use record::lane::lane;
use std::time::Duration;
use tests::checker::Promises;
use tests::cluster::Cluster;
use tests::pulse::{self, Pulse};
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::seed::{full, say, seed};
use tests::status::Status;
use tests::workload::{self, Pace, Workload};

const LANES: u8 = 4;
/// Partitions of the pulse, so that every lane has one.
const PARTITIONS: u8 = 32;

#[test]
fn a_front_that_is_drained_hands_over_in_good_order() {
    let seed = seed("handover", 4415);
    let scene = Scene::new("handover", "postgres-15");
    workload::create(&mut scene.sql());
    pulse::create(&mut scene.sql());
    let mut cluster = Cluster::start(&scene, 1, 3);
    let pulse = format!("{{table: public.pulse, partitions: {PARTITIONS}}}");
    let spec = cluster.spec().line(&format!("lanes: {LANES}"));
    let spec = spec.objects(&[&pulse, "{table: \"*.*\"}"]);
    cluster.apply(&spec);
    cluster.await_status("the stream", CATCH_UP_MAX, Status::flows);
    let workload = Workload::start(&scene, seed, Pace::default());
    let pulse = Pulse::start(&scene, LANES, |topic, partition| lane(topic, partition, LANES));
    pulse.await_beat("the snapshot");
    for _ in 0..if full() { 12 } else { 4 } {
        let front = cluster.status().front();
        pulse.reset();
        cluster.call(&["cluster", "drain", &front]).expect(0);
        cluster.await_status("the front elsewhere", CATCH_UP_MAX, |status| {
            status.front() != front && status.flows()
        });
        pulse.await_beat("the front has moved");
        say(&format!("{}: silences of {:?}", scene.name, pulse.silences()));
        cluster.call(&["cluster", "uncordon", &front]).expect(0);
        pulse.await_beat("the worker takes lanes again");
    }
    for name in ["w1", "w2", "w3", "c1"] {
        println!("==== {name}\n{}", cluster.log(name));
    }
    drop(pulse);
    workload.stop();
    cluster.call(&["task", "suspend", &scene.name]).expect(0);
    drop(cluster);
    scene.catch_up(
        &scene
            .spec()
            .line("lanes: 4")
            .objects(&["{table: public.pulse, partitions: 32}", "{table: \"*.*\"}"]),
    );
    let report = scene.check(Promises::default());
    say(&format!("{}: {} records, {} rows", scene.name, report.records, report.rows));
    let _ = Duration::ZERO;
}
