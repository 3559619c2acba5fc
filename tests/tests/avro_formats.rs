//! Formats in Avro from a real database into a real topic: read back by another library, by the schemas
//! that the registry holds, against what Debezium JSON says; and a registry that refuses or is away.

#![allow(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]

use apache_avro::types::Value as Avro;
use apache_avro::{Schema, from_avro_datum};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kafka::registry::Registry;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tests::deadline::await_true;
use tests::reader::{Record, Topics};
use tests::registry::{self, set_compatibility};
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::schema_change;
use tests::seed::full;
use tests::servers::Server;
use tests::task::{STATE_PREFIX, Spec};

/// Until a lane that has failed is opened again, several times over.
const RETRY_MAX: Duration = Duration::from_secs(60);

struct Ground {
    scene: Scene,
    registry: Server,
}

impl Ground {
    fn new(label: &str, registry: &str) -> Self {
        Self::on(label, "postgres-15", registry)
    }

    fn on(label: &str, postgres: &str, registry: &str) -> Self {
        Self { scene: Scene::new(label, postgres), registry: Server::start(registry) }
    }

    fn url(&self) -> String {
        registry::url(&self.registry)
    }

    fn client(&self) -> Registry {
        let settings = config::Registry { url: self.url(), ..config::Registry::default() };
        Registry::new(&settings, Path::new(".")).expect("a client")
    }

    fn spec(&self) -> Spec {
        let spec = self.scene.spec().sink("format: debezium-avro").sink("partitions: 1");
        spec.sink(&format!("registry: {{url: \"{}\"}}", self.url()))
    }

    /// Records of the table `shop.orders`, in their order.
    fn orders(&self) -> Vec<Record> {
        let records = self.scene.topics().records;
        records.into_iter().filter(|record| record.topic.ends_with(".shop.orders")).collect()
    }

    /// A framed key or value, by the schema that the registry holds.
    fn read(&self, framed: &[u8]) -> Value {
        let (head, mut rest) = framed.split_first_chunk::<5>().expect("a frame");
        let [0, id @ ..] = *head else { panic!("no frame: {head:?}") };
        let schema = self.client().schema(u32::from_be_bytes(id)).expect("a schema of that id");
        let schema = Schema::parse_str(&schema).expect("an Avro schema");
        let value = from_avro_datum(&schema, &mut rest, None).expect("a datum of the schema");
        assert!(rest.is_empty(), "{} bytes follow the datum", rest.len());
        connect(value)
    }

    fn values(&self) -> Vec<Value> {
        let value = |record: Record| record.value.map(|value| self.read(&value));
        self.orders().into_iter().map(|record| value(record).unwrap_or_default()).collect()
    }
}

/// A value as Kafka Connect has it in JSON.
fn connect(value: Avro) -> Value {
    match value {
        Avro::Null => Value::Null,
        Avro::Boolean(value) => value.into(),
        Avro::Int(value) => value.into(),
        Avro::Long(value) => value.into(),
        Avro::Double(value) => value.into(),
        Avro::Bytes(value) => STANDARD.encode(value).into(),
        Avro::Decimal(value) => STANDARD.encode(<Vec<u8>>::try_from(&value).expect("bytes")).into(),
        Avro::String(value) | Avro::Enum(_, value) => value.into(),
        Avro::Union(_, value) => connect(*value),
        Avro::Array(items) => items.into_iter().map(connect).collect(),
        Avro::Map(items) => {
            Value::Object(items.into_iter().map(|(key, value)| (key, connect(value))).collect())
        }
        Avro::Record(fields) => {
            Value::Object(fields.into_iter().map(|(key, value)| (key, connect(value))).collect())
        }
        other => panic!("{other:?}"),
    }
}

const TABLE: &str = "CREATE SCHEMA shop; CREATE TABLE shop.orders (id bigint PRIMARY KEY, \
     note text DEFAULT 'none', total numeric(12,2), at timestamptz, tags text[], raw bytea); \
     ALTER TABLE shop.orders REPLICA IDENTITY FULL; \
     INSERT INTO shop.orders VALUES (1, 'first', 49.9, '2024-03-05 10:20:30.123456+08', \
     '{a,NULL}', '\\x0102')";

/// One of each operation, after the snapshot.
const CHANGES: [&str; 5] = [
    "INSERT INTO shop.orders (id, total) VALUES (2, -1.5)",
    "UPDATE shop.orders SET note = NULL WHERE id = 1",
    "UPDATE shop.orders SET id = 3 WHERE id = 2",
    "DELETE FROM shop.orders WHERE id = 3",
    "TRUNCATE shop.orders",
];

#[test]
fn debezium_avro_says_what_debezium_json_says() {
    says_what_debezium_json_says("postgres-15");
}

#[test]
fn debezium_avro_on_the_oldest_and_the_newest_version() {
    says_what_debezium_json_says("postgres-18");
    if full() {
        says_what_debezium_json_says("postgres-11");
    }
}

/// Tables that share a topic have a subject each, by the name of their record.
#[test]
fn tables_of_one_topic_have_subjects_by_the_names_of_their_records() {
    for strategy in ["record", "topic-record"] {
        let ground = Ground::new("subjects", "registry");
        let Ground { scene, registry } = &ground;
        let mut sql = scene.sql();
        sql.run(TABLE);
        sql.run("CREATE TABLE shop.lines (n int PRIMARY KEY, flag bool); INSERT INTO shop.lines VALUES (7, true)");
        let topic = format!("{}.all", scene.name);
        let spec = scene.spec().topic(&topic).sink("partitions: 1").sink("format: debezium-avro");
        let url = ground.url();
        let spec = spec.sink(&format!("registry: {{url: \"{url}\", subject: {strategy}}}"));
        scene.catch_up(&spec);
        sql.run("ALTER TABLE shop.lines ADD more int; INSERT INTO shop.lines VALUES (8, false, 9)");
        sql.run("UPDATE shop.orders SET note = 'second'");
        scene.catch_up(&spec);
        let read = |record: Record| ground.read(&record.value.expect("a value"))["after"].clone();
        let rows: Vec<_> = scene.topics().records.into_iter().map(read).collect();
        let of = |column: &str| rows.iter().filter(|row| row.get(column).is_some()).count();
        assert_eq!((of("note"), of("flag"), of("more")), (2, 2, 1), "{rows:?}");
        let prefix = if strategy == "record" { String::new() } else { format!("{topic}-") };
        let subject = |table: &str, of: &str| format!("{prefix}{}.shop.{table}.{of}", scene.name);
        let expected = [
            (subject("lines", "Envelope"), 2),
            (subject("lines", "Key"), 1),
            (subject("orders", "Envelope"), 1),
            (subject("orders", "Key"), 1),
        ];
        // Beside that of the statements.
        let of_tables = format!("{}.shop.", scene.name);
        assert_eq!(registry::subjects(registry, &of_tables), expected);
    }
}

fn says_what_debezium_json_says(server: &str) {
    let ground = Ground::on("registry", server, "registry");
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
    let avro = ground.spec().sink("topic_prefix: p");
    ground.scene.catch_up(&avro);
    ground.scene.catch_up(&json);
    CHANGES.iter().for_each(|change| sql.run(change));
    ground.scene.catch_up(&avro);
    ground.scene.catch_up(&json);

    let topics = tests::reader::Topics::read(&ground.scene.kafka, json.task());
    let expected: Vec<&Record> = topics.records.iter().collect();
    let found = ground.orders();
    assert_eq!(found.len(), expected.len());
    assert_eq!(found.len(), 9, "a row, five changes, of which one makes three records and one two");
    let event = |mut event: Value| {
        // What differs between two runs: when they began, and when they handled the event.
        for member in ["ts_ms", "ts_us", "ts_ns"] {
            event[member] = Value::Null;
            if event["op"] == "r" {
                event["source"][member] = Value::Null;
                event["source"]["lsn"] = Value::Null;
                event["source"]["sequence"] = Value::Null;
            }
        }
        if let Some(source) = event["source"].as_object_mut() {
            source.remove("sequence");
        }
        event
    };
    for (found, expected) in found.iter().zip(expected) {
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
    let ground = Ground::new("avro_ddl", "registry");
    ground.scene.sql().run(TABLE);
    schema_change::check(&ground.scene, &ground.spec(), |framed| ground.read(framed));
    assert_eq!(ground.values().last().expect("a row")["after"]["added"], 7);
}

#[test]
fn dts_avro_is_read_by_the_published_schema() {
    is_read_by_the_published_schema("postgres-15");
}

#[test]
fn dts_avro_on_the_oldest_and_the_newest_version() {
    is_read_by_the_published_schema("postgres-11");
    if full() {
        is_read_by_the_published_schema("postgres-18");
    }
}

/// A record of DTS by the schema that DTS has published.
fn dts(record: &Record) -> Value {
    let schema = include_str!("../../crates/record/src/encode/dts/record.avsc");
    let schema = Schema::parse_str(schema).expect("an Avro schema");
    let mut bytes = record.value.as_deref().expect("no tombstone");
    let read = from_avro_datum(&schema, &mut bytes, None).expect("a record of the schema");
    assert!(bytes.is_empty(), "{} bytes follow the record", bytes.len());
    connect(read)
}

fn is_read_by_the_published_schema(server: &str) {
    let scene = Scene::new("dts", server);
    let mut sql = scene.sql();
    sql.run(TABLE);
    sql.run("ALTER TABLE shop.orders ADD UNIQUE (note)");
    let spec = scene.spec().sink("format: dts-avro").sink("partitions: 1");
    let spec = spec.sink("transaction_topic: on").sink("heartbeat_topic: on");
    scene.catch_up(&spec);
    CHANGES.iter().for_each(|change| sql.run(change));
    scene.catch_up(&spec);
    let told = |name: &str| {
        let topic = format!("{STATE_PREFIX}.{}.{name}", scene.name);
        Topics::read(&scene.kafka, &topic).records
    };
    // Each life begins with one, once it has a low watermark.
    let mut run = scene.run(&spec, &[]);
    scene.await_streaming(&mut run);
    await_true("a heartbeat", CATCH_UP_MAX, || {
        assert!(!run.has_ended(), "{}", run.log());
        !told("heartbeat").is_empty()
    });
    run.kill();

    let records: Vec<Value> = scene.topics().records.iter().map(dts).collect();
    let said = |name: &str| records.iter().map(|it| it[name].clone()).collect::<Vec<_>>();
    let operations = ["INIT", "INSERT", "UPDATE", "UPDATE", "DELETE", "DDL"];
    assert_eq!(said("operation"), operations.map(Value::from));
    let name = format!("{}.shop.orders", scene.name);
    assert!(said("objectName").iter().all(|found| *found == name.as_str()), "{records:#?}");
    let version = sql.value("SHOW server_version_num").parse::<u32>().expect("a number");
    let version = format!("{}.{}", version / 10_000, version % 10_000);
    let source = json!({"sourceType": "PostgreSQL", "version": version});
    assert!(said("source").iter().all(|found| *found == source), "{records:#?}");
    let ids: Vec<_> = said("id").iter().map(|id| id.as_i64().expect("a number")).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    let keys = r#"{"PRIMARY":["id"],"orders_note_key":["note"]}"#;
    assert_eq!(records[0]["tags"], json!({"pk_uk_info": keys}));
    assert_eq!(records[1]["tags"], records[0]["tags"], "the stream has what the snapshot has");
    let at = json!({"year": 2024, "month": 3, "day": 5, "hour": 2, "minute": 20, "second": 30,
        "millis": 123_456});
    assert_eq!(
        records[0]["afterImages"],
        json!([
            {"precision": 0, "value": "1"},
            {"charset": "UTF-8", "value": "Zmlyc3Q="},
            {"value": "49.90", "precision": 4, "scale": 2},
            {"value": at, "timezone": "+00:00"},
            {"type": "XTYPE", "value": "{a,NULL}"},
            {"type": "BYTEA", "value": "AQI="},
        ])
    );
    assert_eq!(records[3]["beforeImages"][0]["value"], "2");
    assert_eq!(records[3]["afterImages"][0]["value"], "3");
    assert_eq!(records[5]["afterImages"], "TRUNCATE TABLE shop.orders");

    let beat = dts(told("heartbeat").first().expect("one"));
    assert_eq!(beat["operation"], "HEARTBEAT");
    assert_eq!((&beat["source"], &beat["tags"]), (&source, &json!({"heartbeat": "true"})));
    let borders: Vec<Value> = told("transaction").iter().map(dts).collect();
    check_borders(&borders, &records[1..], &source);
}

/// BEGIN and COMMIT around each of these records, which are one transaction each.
fn check_borders(borders: &[Value], records: &[Value], source: &Value) {
    assert_eq!(borders.len(), 2 * records.len());
    for (pair, record) in borders.chunks(2).zip(records) {
        let operations = (&pair[0]["operation"], &pair[1]["operation"]);
        assert_eq!(operations, (&"BEGIN".into(), &"COMMIT".into()));
        let id = |it: &Value| it["id"].as_i64().expect("a number");
        assert!(id(&pair[0]) < id(record) && id(record) < id(&pair[1]), "{pair:?} {record}");
        for border in pair {
            assert_eq!(border["sourceTxid"], record["sourceTxid"]);
            assert_eq!((&border["source"], &border["tags"]), (source, &json!({"records": "1"})));
        }
    }
}

/// Values of PostGIS and of orafce by id, in SQL that makes of them what Debezium has.
const PLACES: &str = "SELECT id, jsonb_build_object('at', struct(at), 'area', struct(area::geometry), \
     'many', (SELECT jsonb_agg(struct(it) ORDER BY n) FROM unnest(many) WITH ORDINALITY u (it, n)), \
     'bounds', bounds::text, 'name', name::text, 'other', other::text, \
     'day', (extract(epoch FROM day) * 1000)::bigint) FROM place ORDER BY id";

#[test]
fn types_of_postgis_and_orafce_arrive() {
    let scene = Scene::new("places", "postgres-15");
    scene.postgres.order("extend");
    scene.superuser().run("CREATE EXTENSION postgis; CREATE EXTENSION orafce");
    let mut sql = scene.sql();
    // geometry is the type whose arrays have colons; oracle.date is a domain over timestamp(0).
    sql.run(
        "CREATE TABLE place (id int PRIMARY KEY, at geometry, area geography, many geometry[], \
         bounds box2d, name oracle.varchar2(9), other oracle.nvarchar2(9), day oracle.date); \
         CREATE FUNCTION struct(geometry) RETURNS jsonb STRICT LANGUAGE sql AS $$SELECT \
         jsonb_build_object('wkb', replace(encode(ST_AsEWKB($1), 'base64'), E'\\n', ''), \
         'srid', nullif(ST_SRID($1), 0))$$; \
         INSERT INTO place VALUES (1, 'POINT(1 2.5)', 'POLYGON((0 0,1 0,1 1,0 0))', \
         ARRAY['SRID=3857;POINT Z (1 2 3)'::geometry, NULL, 'LINESTRING EMPTY'], \
         'BOX(0 0,1 2)', 'größe', 'b', '2024-03-05 10:20:30'); INSERT INTO place (id) VALUES (2)",
    );
    let object = ["{table: public.place}"];
    let debezium = scene.spec().sink("partitions: 1").objects(&object);
    let (label, server) = (format!("{}_dts", scene.name), (&scene.postgres, &scene.kafka));
    let bare = Spec::new(&label, server.0, &scene.name, server.1);
    let bare = bare.sink("partitions: 1").sink("format: dts-avro").objects(&object);
    scene.catch_up(&debezium);
    scene.catch_up(&bare);
    sql.run("INSERT INTO place SELECT 3, at, area, many, bounds, name, other, day FROM place WHERE id = 1");
    sql.run("UPDATE place SET day = day + interval '1 day'");
    scene.catch_up(&debezium);
    scene.catch_up(&bare);

    let expected: Vec<_> = sql.rows(PLACES).into_iter().map(|row| row[1].clone()).collect();
    let expected: Vec<Value> = expected
        .into_iter()
        .map(|text| serde_json::from_str(&text.expect("a row")).expect("JSON"))
        .collect();
    let records: Vec<Value> = scene.topics().records.iter().map(Record::json).collect();
    assert_eq!(records.len(), 6, "two rows, one more, and three updates");
    let mut day_before = expected[0].clone();
    day_before["day"] = 1_709_634_030_000_i64.into();
    let expected =
        [&day_before, &expected[1], &day_before, &expected[0], &expected[1], &expected[0]];
    for (record, expected) in records.iter().zip(expected) {
        let after = record["after"].as_object().expect("a row");
        assert_eq!(after.len(), 8);
        for (name, value) in expected.as_object().expect("a row") {
            assert_eq!(after[name], *value, "{name} in {record}");
        }
    }

    let records = Topics::read(&scene.kafka, bare.task()).records;
    let wkb = |value: &Value| json!({"type": "WKB", "value": value["wkb"]});
    let text = |text: &str| json!({"type": "XTYPE", "value": text});
    let many = sql.value("SELECT many FROM place WHERE id = 1");
    let day = |day: u8| {
        json!({"year": 2024, "month": 3, "day": day, "hour": 10, "minute": 20, "second": 30,
            "millis": 0})
    };
    let image = |on: u8| {
        json!([{"precision": 0, "value": "1"}, wkb(&day_before["at"]), wkb(&day_before["area"]),
            text(&many), text("BOX(0 0,1 2)"), text("größe"), text("b"), day(on)])
    };
    let images: Vec<Value> = records.iter().map(|it| dts(it)["afterImages"].clone()).collect();
    assert_eq!(images.len(), 6);
    assert_eq!(images[0], image(5));
    assert!(images.contains(&image(6)), "{images:#?}");
}

#[test]
fn a_schema_that_is_refused_parks_the_task_and_loses_nothing() {
    let ground = Ground::new("refused", "registry");
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
    let item = "sink.registry.compatibility";
    for words in [item, subject.as_str(), "does not take", "set its compatibility to NONE"] {
        assert!(ended.stderr.contains(words), "`{words}` is not said:\n{}", ended.stderr);
    }
    let ids = |ground: &Ground| {
        let id = |event: &Value| event["after"]["id"].as_i64();
        ground.values().iter().map(id).collect::<Vec<_>>()
    };
    let before = ids(&ground);
    let all = [Some(1), Some(2), Some(3)];
    assert!(before.len() < 3 && all.starts_with(&before), "of the new version: {before:?}");

    set_compatibility(&ground.registry, &subject, "NONE");
    ground.scene.catch_up(&spec);
    assert_eq!(ids(&ground), all, "nothing lost, nothing doubled");
    assert_eq!(ground.values()[2]["after"]["raw"], 8);
}

#[test]
fn a_registry_that_is_away_is_waited_for() {
    let ground = Ground::new("away", "registry:away");
    let mut sql = ground.scene.sql();
    sql.run(TABLE);
    sql.run("TRUNCATE shop.orders");
    let mut run = ground.scene.run(&ground.spec(), &[]);
    ground.scene.await_streaming(&mut run);
    ground.registry.order("stop");
    sql.run("INSERT INTO shop.orders (id) VALUES (1)");
    run.await_log("cannot be reached", RETRY_MAX);
    sql.run("INSERT INTO shop.orders (id) VALUES (2)");
    ground.registry.order("start");
    await_true("both rows", RETRY_MAX, || ground.orders().len() == 2);
    run.interrupt(RETRY_MAX).expect(0);
    let ids: Vec<_> = ground.values().iter().map(|it| it["after"]["id"].clone()).collect();
    assert_eq!(ids, [1, 2]);
    ground.registry.order("wipe");
}
