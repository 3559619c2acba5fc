//! A spec that changes between two runs takes force at one position: lanes, hash, partitioning and the
//! objects change under a workload while processes are killed, and nothing is lost or doubled.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::thread::sleep;
use std::time::Duration;
use tests::checker::Promises;
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::seed::{full, say, seed};
use tests::task::Spec;
use tests::workload::{self, Pace, Workload};

/// What users change: lanes and the partition map, together and alone.
fn variants(scene: &Scene) -> Vec<Spec> {
    let spec = || scene.spec();
    vec![
        spec().line("lanes: 3"),
        spec().line("lanes: 16").sink("hash: java"),
        spec().line("lanes: 1").sink("partitioning: table"),
        spec()
            .line("lanes: 64")
            .objects(&["{table: shop.lines, partition_key: [order_id]}", "{table: \"*.*\"}"]),
        spec().line("lanes: 2").sink("partitioning: partition-0"),
    ]
}

#[test]
fn a_changed_spec_takes_force_at_one_position() {
    let seed = seed("revisions", 31);
    let mut rng = SmallRng::seed_from_u64(seed);
    let scene = Scene::new("revisions", "postgres-15");
    workload::create(&mut scene.sql());
    let workload = Workload::start(&scene, seed, Pace::default());
    let mut run = scene.run(&scene.spec(), &[]);
    scene.await_streaming(&mut run);
    workload.await_committed(50);
    run.kill();
    let variants = variants(&scene);
    let rounds = if full() { 24 } else { 4 };
    for round in 0..rounds {
        let spec = &variants[round % variants.len()];
        // Killed while the old lanes are sealed, or just after, or far into the new revision.
        for _ in 0..rng.random_range(0..2) {
            let mut run = scene.run(spec, &[]);
            run.await_log("the spec has changed", CATCH_UP_MAX);
            sleep(Duration::from_millis(rng.random_range(0..2500)));
            let killed = run.kill();
            if killed.stderr.contains("the spec is in force") {
                break;
            }
        }
        let mut run = scene.run(spec, &[]);
        scene.await_streaming(&mut run);
        workload.await_committed(rng.random_range(20..80));
        if rng.random() {
            run.kill();
        } else {
            run.interrupt(CATCH_UP_MAX).expect(0);
        }
    }
    workload.stop();
    let last = &variants[(rounds - 1) % variants.len()];
    // The last run may have been killed before its spec was in force.
    scene.catch_up(last);
    let ended = scene.catch_up(last);
    assert!(!ended.stderr.contains("the spec has changed"), "{}", ended.stderr);
    let report = scene.check(Promises { partitions_kept: false, ..Promises::default() });
    say(&format!("revisions: {} records, {} rows", report.records, report.rows));
}

#[test]
fn a_changed_spec_that_cannot_be_carried_out_changes_nothing() {
    let scene = Scene::new("refused", "postgres-15");
    scene.sql().run("CREATE TABLE t (id int PRIMARY KEY)");
    scene.catch_up(&scene.spec());
    scene.sql().run("INSERT INTO t SELECT generate_series(1, 20)");
    let bad = scene.spec().objects(&["{table: public.t, partition_key: [wrong]}"]);
    let ended = scene.run(&bad, &["--until-caught-up"]).wait(CATCH_UP_MAX);
    // The precheck refuses it: nothing has begun.
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("no column `wrong`"), "{}", ended.stderr);
    scene.catch_up(&scene.spec());
    scene.check(Promises::default());
}

#[test]
fn a_changed_spec_before_the_stream_begins_needs_no_seal() {
    let scene = Scene::new("unsealed", "postgres-15");
    scene
        .sql()
        .run("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 200)");
    scene.run(&scene.spec(), &[]).await_log("lane opened", CATCH_UP_MAX);
    let spec = scene.spec().line("lanes: 2").sink("hash: java");
    scene.catch_up(&spec);
    scene.sql().run("UPDATE t SET id = id + 1000 WHERE id % 3 = 0");
    scene.catch_up(&spec);
    scene.check(Promises { partitions_kept: false, ..Promises::default() });
}
