//! A front that is moved as planned hands over in good order: its lanes commit, its slot is free, and its
//! successor, which is ready by then, begins at once. Nothing is lost, nothing doubled.

use record::lane::lane;
use tests::checker::Promises;
use tests::cluster::Cluster;
use tests::pulse::{self, Pulse};
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::seed::{full, say, seed};
use tests::status::Status;
use tests::workload::{self, Pace, Workload};

const LANES: u8 = 4;
/// What a worker says that has taken over a front.
const HANDED_OVER: &str = "the front was handed over";
/// Partitions of the pulse, so that every lane has one.
const PARTITIONS: u8 = 32;

#[test]
fn a_front_that_is_drained_hands_over_in_good_order() {
    let seed = seed("handover", 4415);
    let scene = Scene::new("handover", "postgres-15");
    workload::create(&mut scene.sql());
    pulse::create(&mut scene.sql());
    let mut cluster = Cluster::start(&scene, 1, 3);
    let table = format!("{{table: public.pulse, partitions: {PARTITIONS}}}");
    let spec = cluster.spec().line(&format!("lanes: {LANES}"));
    let objects = [&*table, "{table: \"*.*\"}"];
    let spec = spec.objects(&objects);
    cluster.apply(&spec);
    cluster.await_status("the stream", CATCH_UP_MAX, Status::flows);
    let workload = Workload::start(&scene, seed, Pace::default());
    let pulse = Pulse::start(&scene, LANES, |topic, partition| lane(topic, partition, LANES));
    pulse.await_beat("the snapshot");
    // Of every lane, also of those on the front's own worker.
    cluster.await_status("records of every lane", CATCH_UP_MAX, |status| {
        status.records().len() == usize::from(LANES) && !status.records().contains(&0)
    });
    for _ in 0..if full() { 12 } else { 3 } {
        let front = cluster.status().front();
        pulse.reset();
        cluster.call(&["cluster", "drain", &front]).expect(0);
        // Right after the move the state is not that which the old front has left.
        let status = cluster.await_status("the front elsewhere", CATCH_UP_MAX, |status| {
            status.front() != front && status.flows()
        });
        pulse.await_beat("the front has moved");
        say(&format!("{}: silences of {:?}", scene.name, pulse.silences()));
        let (before, after) = (cluster.log(&front), cluster.log(&status.front()));
        assert!(after.contains(HANDED_OVER), "{after}");
        assert!(last_of(&before, "front stops").contains("replication stream closed"), "{before}");
        for wrong in ["not everything could be delivered", "lane failed", "overtaken", "Overtaken"]
        {
            assert!(
                !before.contains(wrong) && !after.contains(wrong),
                "{wrong}: {before}\n{after}"
            );
        }
        cluster.call(&["cluster", "uncordon", &front]).expect(0);
        pulse.await_beat("the worker takes lanes again");
    }
    drop(pulse);
    workload.stop();
    cluster.call(&["task", "suspend", &scene.name]).expect(0);
    drop(cluster);
    let spec = scene.spec().line(&format!("lanes: {LANES}")).objects(&objects);
    scene.catch_up(&spec);
    let report = scene.check(Promises::default());
    say(&format!("{}: {} records, {} rows", scene.name, report.records, report.rows));
}

/// What a log says from the last time on that it says `begin`.
fn last_of<'a>(log: &'a str, begin: &str) -> &'a str {
    log.rfind(begin).map_or("", |at| &log[at..])
}
