//! What consumers are told of source transactions: BEGIN and END once each, whoever was killed meanwhile, with the
//! numbers of records that are there; and each record says where it stands among them.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tests::cluster::Cluster;
use tests::deadline::await_true;
use tests::reader::Topics;
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::seed::{full, say, seed};
use tests::task::{STATE_PREFIX, Spec};
use tests::workload::{self, Pace, Workload};

/// Records of a transaction as consumers are told: of each table, and when it was committed.
#[derive(Debug, Default, Eq, PartialEq)]
struct Told {
    records: u64,
    collections: BTreeMap<String, u64>,
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("a number instead of {value}"))
}

/// The transaction of an id, `txid:lsn`.
fn transaction_of(id: &Value) -> u64 {
    let (xid, lsn) = id.as_str().and_then(|id| id.split_once(':')).expect("txid:lsn");
    let _: u64 = lsn.parse().expect("an LSN in digits");
    xid.parse().expect("a transaction id")
}

/// BEGIN and END in the order in which they lie there.
fn told(scene: &Scene) -> Vec<(u64, Value)> {
    let topic = format!("{STATE_PREFIX}.{}.transaction", scene.name);
    let records = Topics::read(&scene.kafka, &topic).records;
    let one = |record: &tests::reader::Record| {
        let json = |bytes: &Option<Vec<u8>>| -> Value {
            serde_json::from_slice(bytes.as_deref().expect("it is there")).expect("JSON")
        };
        let (key, value) = (json(&record.key), json(&record.value));
        assert_eq!(key["id"], value["id"]);
        (transaction_of(&value["id"]), value)
    };
    records.iter().map(one).collect()
}

/// Each transaction that was told: BEGIN, then END, then the next one.
fn ends(scene: &Scene) -> BTreeMap<u64, Told> {
    let mut ends = BTreeMap::new();
    for pair in told(scene).chunks(2) {
        let [(xid, begin), (ended, end)] = pair else { panic!("a BEGIN without END: {pair:?}") };
        assert_eq!(
            (begin["status"].as_str(), end["status"].as_str()),
            (Some("BEGIN"), Some("END"))
        );
        assert_eq!(xid, ended);
        assert!(begin["event_count"].is_null() && begin["data_collections"].is_null(), "{begin}");
        let mut told = Told { records: number(&end["event_count"]), ..Told::default() };
        for it in end["data_collections"].as_array().expect("a list") {
            let name = it["data_collection"].as_str().expect("a name").to_owned();
            let again = told.collections.insert(name, number(&it["event_count"]));
            assert_eq!(again, None, "{end}");
        }
        assert!(ends.insert(*xid, told).is_none(), "transaction {xid} was told twice");
    }
    ends
}

/// What is there of each transaction; checks that every record has a place of its own in it.
fn found(scene: &Scene) -> BTreeMap<u64, Told> {
    let mut places: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    let mut of_tables: BTreeMap<(u64, String), BTreeSet<u64>> = BTreeMap::new();
    let mut found: BTreeMap<u64, Told> = BTreeMap::new();
    for record in scene.topics().records.iter().filter(|record| record.value.is_some()) {
        let event = record.json();
        let block = &event["transaction"];
        // Its rows, and the truncates with which it begins again after a kill.
        if event["source"]["snapshot"] != "false" {
            assert!(block.is_null(), "what is of the snapshot is in no transaction: {event}");
            continue;
        }
        let xid = transaction_of(&block["id"]);
        assert_eq!(number(&event["source"]["txId"]), xid);
        let text = |name: &str| event["source"][name].as_str().expect("a text").to_owned();
        let table = format!("{}.{}", text("schema"), text("table"));
        assert!(places.entry(xid).or_default().insert(number(&block["total_order"])), "{event}");
        let of_table = of_tables.entry((xid, table.clone())).or_default();
        assert!(of_table.insert(number(&block["data_collection_order"])), "{event}");
        let told = found.entry(xid).or_default();
        told.records += 1;
        *told.collections.entry(table).or_default() += 1;
    }
    for places in places.values().chain(of_tables.values()) {
        assert_eq!(
            places.last().copied(),
            Some(places.len() as u64),
            "places from 1, without a gap"
        );
        assert_eq!(places.first().copied(), Some(1));
    }
    found
}

#[test]
fn transactions_are_told_once_with_what_is_there_also_after_kills() {
    let seed = seed("transactions", 7815);
    let scene = Scene::new("transactions", "postgres-15");
    workload::create(&mut scene.sql());
    let spec = scene.spec().sink("transaction_topic: on").line("lanes: 4");
    let pace = Pace { connections: 2, pause: Duration::from_millis(40), ..Pace::default() };
    let workload = Workload::start(&scene, seed, pace);
    for life in 0..if full() { 12 } else { 3 } {
        let mut run = scene.run(&spec, &[]);
        scene.await_streaming(&mut run);
        let before = told(&scene).len();
        await_true("transactions that this life has told of", CATCH_UP_MAX, || {
            assert!(!run.has_ended(), "{}", run.log());
            before < told(&scene).len()
        });
        if life == 1 {
            workload::large_transaction(&mut scene.sql());
        }
        run.kill();
    }
    workload.stop();
    scene.catch_up(&spec);
    compare(&scene);
}

/// Reader, decoder and router apart from two nodes with lanes. Whoever cannot be told of places in transactions gets no
/// lane.
#[test]
fn lanes_of_other_nodes_are_told_of_places_in_transactions() {
    let seed = seed("transactions_apart", 7915);
    let scene = Scene::new("transactions_apart", "postgres-15");
    workload::create(&mut scene.sql());
    let mut cluster = Cluster::start(&scene, 1, 0);
    for (name, stage) in [("front1", "front"), ("router1", "router"), ("lanes1", "lanes")] {
        cluster.add_labelled_worker(name, &format!("stage: {stage}"));
    }
    cluster.renew("lanes1", Some(1));
    let told_of = |spec: Spec| spec.sink("transaction_topic: on").line("lanes: 4");
    let pace = Pace { connections: 2, pause: Duration::from_millis(40), ..Pace::default() };
    let workload = Workload::start(&scene, seed, pace);
    cluster.apply(&told_of(cluster.spec()).line(
        "placement: {reader: {stage: front}, decoder: {stage: front}, router: {stage: router}, \
         producers: {stage: lanes}}",
    ));
    await_true("what an older node lacks", CATCH_UP_MAX, || {
        cluster.log("router1").contains("a transaction topic needs protocol 2")
    });
    let opened = cluster.status().lanes().iter().any(|lane| lane.1 == "running");
    assert!(!opened, "an older node has taken a lane");
    cluster.renew("lanes1", None);
    cluster.add_labelled_worker("lanes2", "stage: lanes");
    let flows = |cluster: &Cluster| {
        cluster.await_status("lanes on both", CATCH_UP_MAX, |status| {
            status.flows() && status.nodes() == ["lanes1", "lanes2"]
        });
        let before = told(&scene).len();
        await_true("transactions that were told since then", CATCH_UP_MAX, || {
            before < told(&scene).len()
        });
    };
    flows(&cluster);
    workload::large_transaction(&mut scene.sql());
    for node in ["lanes1", "front1", "router1"] {
        cluster.kill(node);
        cluster.begin(node);
        flows(&cluster);
    }
    workload.stop();
    cluster.call(&["task", "suspend", &scene.name]).expect(0);
    drop(cluster);
    scene.catch_up(&told_of(scene.spec()));
    compare(&scene);
}

/// What was told is what is there.
fn compare(scene: &Scene) {
    let (ends, found) = (ends(scene), found(scene));
    let missing: Vec<_> = found.keys().filter(|xid| !ends.contains_key(xid)).collect();
    let last = ends.keys().next_back();
    assert!(missing.is_empty(), "nobody was told of {missing:?}, the last told is {last:?}");
    for (xid, told) in &ends {
        assert_eq!(found.get(xid), Some(told), "transaction {xid}");
    }
    say(&format!("{}: {} transactions", scene.name, ends.len()));
    assert!(100 < ends.len());
}
