//! Debezium's events in Protobuf from a real database into a real topic: read back by another library, by
//! the schemas that the registry holds, against what Debezium JSON says; and numbers that are for ever.

#[path = "../../crates/record/tests/scene/proto.rs"]
mod proto;

use kafka::registry::Registry;
use prost_reflect::MessageDescriptor;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tests::reader::{Record, Topics};
use tests::registry::{self, set_compatibility};
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::schema_change;
use tests::seed::full;
use tests::servers::Server;
use tests::task::Spec;

const SEMANTIC: &str = "distributary/semantic.proto";

struct Ground {
    scene: Scene,
    registry: Server,
    messages: RefCell<BTreeMap<u32, MessageDescriptor>>,
}

impl Ground {
    fn new(label: &str) -> Self {
        Self::on(label, "postgres-15")
    }

    fn on(label: &str, postgres: &str) -> Self {
        let scene = Scene::new(label, postgres);
        Self { scene, registry: Server::start("registry"), messages: RefCell::default() }
    }

    fn url(&self) -> String {
        registry::url(&self.registry)
    }

    fn client(&self) -> Registry {
        let settings = config::Registry { url: self.url(), ..config::Registry::default() };
        Registry::new(&settings, Path::new(".")).expect("a client")
    }

    fn spec(&self) -> Spec {
        let spec = self.scene.spec().sink("format: protobuf").sink("partitions: 1");
        spec.sink(&format!("registry: {{url: \"{}\"}}", self.url()))
    }

    /// The message of a schema by its id.
    fn message(&self, id: u32) -> MessageDescriptor {
        let read = || {
            let text = self.client().schema(id).expect("a schema of that id");
            let imported = self.client().latest(SEMANTIC).expect("the registry answers");
            let imports = imported.as_deref().map(|text| (SEMANTIC, text));
            proto::compile(&text, imports.as_slice())
        };
        self.messages.borrow_mut().entry(id).or_insert_with(read).clone()
    }

    /// A framed key or value, by the schema that the registry holds.
    fn read(&self, framed: &[u8]) -> Value {
        let id = id_of(framed);
        connect(proto::read(framed, id, &self.message(id)))
    }

    /// Records of the table `shop.orders`, in their order.
    fn orders(&self) -> Vec<Record> {
        let records = self.scene.topics().records;
        records.into_iter().filter(|record| record.topic.ends_with(".shop.orders")).collect()
    }

    fn values(&self) -> Vec<Value> {
        let value = |record: Record| record.value.map(|value| self.read(&value));
        self.orders().into_iter().map(|record| value(record).unwrap_or_default()).collect()
    }
}

fn id_of(framed: &[u8]) -> u32 {
    let [0, id @ ..] = *framed.first_chunk::<5>().expect("a frame") else {
        panic!("no frame: {framed:?}")
    };
    u32::from_be_bytes(id)
}

/// Arrays as Kafka Connect has them in JSON.
fn connect(value: Value) -> Value {
    match value {
        Value::Object(fields) if fields.contains_key("lower_bounds") => {
            let items = fields["items"].as_array().expect("items");
            items.iter().map(|item| item["value"].clone()).collect()
        }
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, connect(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(connect).collect(),
        value @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => value,
    }
}

const TABLE: &str = "CREATE SCHEMA shop; CREATE TABLE shop.orders (id bigint PRIMARY KEY, \
     note text DEFAULT 'none', total numeric(12,2), at timestamptz, tags text[], raw bytea, day date); \
     ALTER TABLE shop.orders REPLICA IDENTITY FULL; \
     INSERT INTO shop.orders VALUES (1, 'first', 49.9, '2024-03-05 10:20:30.123456+08', \
     '{a,NULL}', '\\x0102', '0044-03-15 BC')";

/// One of each operation, after the snapshot.
const CHANGES: [&str; 5] = [
    "INSERT INTO shop.orders (id, total) VALUES (2, -1.5)",
    "UPDATE shop.orders SET note = NULL WHERE id = 1",
    "UPDATE shop.orders SET id = 3 WHERE id = 2",
    "DELETE FROM shop.orders WHERE id = 3",
    "TRUNCATE shop.orders",
];

/// An event without what differs between two runs: when they began, and when they handled it.
fn event(mut event: Value) -> Value {
    for member in ["ts_ms", "ts_us", "ts_ns"] {
        event[member] = Value::Null;
        if event["op"] == "r" {
            event["source"][member] = Value::Null;
            event["source"]["lsn"] = Value::Null;
        }
    }
    if let Some(source) = event["source"].as_object_mut() {
        source.remove("sequence");
    }
    event
}

#[test]
fn protobuf_says_what_debezium_json_says() {
    says_what_debezium_json_says("postgres-15");
}

#[test]
fn protobuf_on_the_oldest_and_the_newest_version() {
    says_what_debezium_json_says("postgres-11");
    if full() {
        says_what_debezium_json_says("postgres-18");
    }
}

fn says_what_debezium_json_says(server: &str) {
    let ground = Ground::on("protobuf", server);
    let mut sql = ground.scene.sql();
    sql.run(TABLE);
    // Two tasks over one database: their records may differ in their clocks and names only.
    let json = Spec::new(
        &format!("{}_json", ground.scene.name),
        &ground.scene.postgres,
        &ground.scene.name,
        &ground.scene.kafka,
    );
    let json = json.sink("partitions: 1").sink("topic_prefix: p");
    let json = json.sink("format_options: {decimal: string}");
    let protobuf = ground.spec().sink("topic_prefix: p");
    ground.scene.catch_up(&protobuf);
    ground.scene.catch_up(&json);
    CHANGES.iter().for_each(|change| sql.run(change));
    ground.scene.catch_up(&protobuf);
    ground.scene.catch_up(&json);

    let topics = Topics::read(&ground.scene.kafka, json.task());
    let found = ground.orders();
    assert_eq!(found.len(), topics.records.len());
    assert_eq!(found.len(), 9, "a row, five changes, of which one makes three records and one two");
    for (found, expected) in found.iter().zip(&topics.records) {
        let key = found.key.as_deref().map_or(Value::Null, |key| ground.read(key));
        assert_eq!(key, expected.key_json());
        match &found.value {
            Some(value) => assert_eq!(event(ground.read(value)), event(expected.json())),
            None => assert_eq!(expected.value, None),
        }
    }
}

#[test]
fn a_ddl_statement_is_the_schema_change_record_of_debezium_s_family() {
    let ground = Ground::new("proto_ddl");
    ground.scene.sql().run(TABLE);
    schema_change::check(&ground.scene, &ground.spec(), |framed| ground.read(framed));
    assert_eq!(ground.values().last().expect("a row")["after"]["added"], 7);
}

#[test]
fn numbers_are_for_ever_over_changes_of_the_table_and_restarts() {
    let ground = Ground::new("numbers");
    let mut sql = ground.scene.sql();
    sql.run(TABLE);
    let spec = ground.spec();
    ground.scene.catch_up(&spec);
    let statements = [
        "ALTER TABLE shop.orders ADD COLUMN colour text DEFAULT 'red'",
        "ALTER TABLE shop.orders DROP COLUMN note",
        "ALTER TABLE shop.orders ADD COLUMN size int",
        "ALTER TABLE shop.orders ALTER COLUMN size TYPE text",
    ];
    for (id, statement) in (2..).zip(statements) {
        sql.run(statement);
        sql.run(&format!("INSERT INTO shop.orders (id) VALUES ({id})"));
        // What is read again is told by its position, and still planned anew.
        if id % 2 == 0 {
            ground.scene.catch_up(&spec);
        }
    }
    ground.scene.catch_up(&spec);
    ground.scene.catch_up(&spec);

    let records = ground.orders();
    let ids: BTreeSet<u32> =
        records.iter().filter_map(|record| record.value.as_deref()).map(id_of).collect();
    assert_eq!(ids.len(), 5, "one for each version of the table");
    let mut owners: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    for id in ids {
        let value = ground.message(id).get_field_by_name("after").expect("a field").kind();
        for field in value.as_message().expect("a message").fields() {
            let owner = format!("{} {:?}", field.name(), field.kind());
            owners.entry(field.number()).or_default().insert(owner);
        }
    }
    assert!(owners.values().all(|owners| owners.len() == 1), "{owners:#?}");
    assert_eq!(owners.len(), 10, "seven columns, and three that came or changed: {owners:#?}");
    let after: Vec<_> = ground.values().iter().map(|event| event["after"].clone()).collect();
    assert_eq!(after[1]["colour"], "red");
    assert!(after[2].get("note").is_none(), "{}", after[2]);
    assert_eq!(after.last().expect("rows")["size"], Value::Null);
}

#[test]
fn a_schema_that_is_refused_parks_the_task_and_loses_nothing() {
    let ground = Ground::new("proto_refused");
    let mut sql = ground.scene.sql();
    sql.run(TABLE);
    let spec = ground.spec();
    ground.scene.catch_up(&spec);
    let subject = format!("{}.shop.orders-value", ground.scene.name);
    set_compatibility(&ground.registry, &subject, "BACKWARD");

    sql.run("INSERT INTO shop.orders (id) VALUES (2)");
    sql.run("ALTER TABLE shop.orders ALTER COLUMN raw TYPE bigint USING 7");
    sql.run("INSERT INTO shop.orders (id, raw) VALUES (3, 8)");
    let ended = ground.scene.run(&spec, &["--until-caught-up"]).wait(CATCH_UP_MAX);
    ended.expect(1);
    for words in [subject.as_str(), "does not take", "set its compatibility to NONE"] {
        assert!(ended.stderr.contains(words), "`{words}` is not said:\n{}", ended.stderr);
    }
    let ids = || {
        let id = |event: &Value| event["after"]["id"].as_i64();
        ground.values().iter().map(id).collect::<Vec<_>>()
    };
    let before = ids();
    let all = [Some(1), Some(2), Some(3)];
    assert!(before.len() < 3 && all.starts_with(&before), "of the new version: {before:?}");

    set_compatibility(&ground.registry, &subject, "NONE");
    ground.scene.catch_up(&spec);
    assert_eq!(ids(), all, "nothing lost, nothing doubled");
    assert_eq!(ground.values()[2]["after"]["raw"], 8);
}
