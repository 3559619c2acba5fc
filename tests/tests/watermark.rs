//! The topic of low watermarks: whoever has read one finds everything that it speaks of.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tests::deadline::{await_some, await_true};
use tests::event::{Id, lsn_of};
use tests::reader::Topics;
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::seed::{full, seed};
use tests::sql::{Sql, quoted};
use tests::task::STATE_PREFIX;
use tests::workload::{self, Pace, Workload};

/// What consumers are told, in order: position and commit time.
fn watermarks(scene: &Scene) -> Vec<(u64, Option<u64>)> {
    let topic = format!("{STATE_PREFIX}.{}.watermark", scene.name);
    let read = Topics::read(&scene.kafka, &topic);
    let told = |value: Option<&[u8]>| -> (u64, Option<u64>) {
        let value: serde_json::Value =
            serde_json::from_slice(value.expect("a value")).expect("JSON");
        assert_eq!((value["v"].as_u64(), value["task"].as_str()), (Some(1), Some(&*scene.name)));
        let lsn = value["lsn"].as_str().and_then(lsn_of).expect("an LSN");
        (lsn, value["commit_time_us"].as_u64())
    };
    read.records.iter().map(|record| told(record.value.as_deref())).collect()
}

/// Events of transactions that commit before `lsn`.
fn events_below(scene: &Scene, lsn: u64) -> BTreeSet<Id> {
    let topics = scene.topics();
    let ids = topics.records.iter().map(|record| Id::of(record).expect("headers"));
    ids.filter(|id| id.lsn < lsn).collect()
}

#[test]
fn what_a_watermark_speaks_of_is_there_also_after_kills() {
    let seed = seed("watermark", 7715);
    let scene = Scene::new("watermark", "postgres-15");
    workload::create(&mut scene.sql());
    let spec = scene.spec().sink("watermark_topic: on").line("lanes: 4");
    let pace = Pace { connections: 2, pause: Duration::from_millis(40), ..Pace::default() };
    let workload = Workload::start(&scene, seed, pace);
    let mut seen = Vec::new();
    let mut newest = 0;
    for _ in 0..2 {
        let mut run = scene.run(&spec, &[]);
        scene.await_streaming(&mut run);
        // A new one of this life.
        let told = await_some("a watermark", CATCH_UP_MAX, || {
            watermarks(&scene).pop().map(|(lsn, _)| lsn).filter(|lsn| newest < *lsn)
        });
        newest = told;
        seen.push((told, events_below(&scene, told)));
        run.kill();
    }
    workload.stop();
    scene.catch_up(&spec);
    for (lsn, there) in &seen {
        assert!(!there.is_empty());
        assert_eq!(&events_below(&scene, *lsn), there, "something came after its watermark");
    }
    let all = watermarks(&scene);
    assert!(all.is_sorted_by(|(one, _), (next, _)| one <= next), "{all:?}");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let recent = (now - Duration::from_secs(600)).as_micros()..=now.as_micros();
    let (last, time) = *all.last().expect("several");
    assert!(time.is_some_and(|time| recent.contains(&u128::from(time))), "{time:?}");
    let highest = events_below(&scene, u64::MAX).into_iter().map(|id| id.lsn).max();
    assert!(highest.is_some_and(|highest| highest < last), "everything is spoken of in the end");
}

/// Also while nothing happens, in the topic that Debezium's users know.
#[test]
fn heartbeats_tell_that_an_idle_task_lives() {
    let scene = Scene::new("heartbeat", "postgres-15");
    scene.sql().run("CREATE TABLE kept (id int PRIMARY KEY)");
    let spec = scene.spec().sink("heartbeat_topic: on");
    let spec = spec.source("heartbeat_interval: 200ms");
    let mut run = scene.run(&spec, &[]);
    scene.await_streaming(&mut run);
    let topic = format!("__debezium-heartbeat.{}", scene.name);
    let beats = await_some("heartbeats", CATCH_UP_MAX, || {
        assert!(!run.has_ended(), "{}", run.log());
        let records = Topics::read(&scene.kafka, &topic).records;
        (3 <= records.len()).then_some(records)
    });
    run.kill();
    let times: Vec<_> =
        beats.iter().map(|it| it.json()["ts_ms"].as_u64().expect("a time")).collect();
    assert!(times.is_sorted(), "{times:?}");
    for beat in &beats {
        assert_eq!(beat.key_json(), serde_json::json!({"serverName": scene.name.as_str()}));
        assert_eq!(beat.json().as_object().expect("an object").len(), 1);
    }
}

/// The WAL of other databases is not kept for a task whose tables nobody writes to.
#[test]
fn a_busy_neighbour_does_not_hold_the_slot_of_an_idle_task() {
    let servers: &[_] = if full() {
        &["postgres-11", "postgres-14", "postgres-15", "postgres-18"]
    } else {
        &["postgres-15"]
    };
    for server in servers {
        an_idle_task_beside_a_busy_neighbour(server);
    }
}

fn an_idle_task_beside_a_busy_neighbour(server: &str) {
    let scene = Scene::new("neighbour", server);
    scene.sql().run("CREATE TABLE kept (id int PRIMARY KEY)");
    let mut run = scene.run(&scene.spec(), &[]);
    scene.await_streaming(&mut run);
    let mut neighbour = Sql::superuser(&scene.postgres, "postgres");
    let table = quoted(&scene.name);
    neighbour.run(&format!("CREATE TABLE {table} (filler text)"));
    let written = (0..20).map(|_| {
        neighbour.run(&format!(
            "INSERT INTO {table} SELECT repeat('x', 1000) FROM generate_series(1, 2000)"
        ));
        neighbour.value("SELECT pg_current_wal_lsn()")
    });
    let end = written.last().expect("written");
    neighbour.run(&format!("DROP TABLE {table}"));
    let passed = format!(
        "SELECT '{end}'::pg_lsn <= confirmed_flush_lsn AND '{end}'::pg_lsn <= restart_lsn \
         FROM pg_replication_slots WHERE slot_name = '{}'",
        scene.slot()
    );
    await_true("a slot beyond what the neighbour wrote", CATCH_UP_MAX, || {
        assert!(!run.has_ended(), "{}", run.log());
        neighbour.value(&passed) == "t"
    });
    run.interrupt(CATCH_UP_MAX).expect(0);
    let captured = scene.topics().records;
    assert!(captured.is_empty(), "{captured:?}");
}
