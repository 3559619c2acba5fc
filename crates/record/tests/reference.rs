//! Events byte for byte: the worked examples of the format's reference, with their schemas.

mod scene;

use scene::{Did, Null, Sent, Value, encode, orders, plan, records, v};
use wal::change::Transaction;
use wal::table::ReplicaIdentity::Full;
use wal::{ChangeBatch, Lsn, Table};

const FIRST: [Value<'static>; 4] =
    [Value::Text("1001"), Value::Text("first"), Value::Text("49.90"), AT];
const AT: Value<'static> = Value::Text("2024-03-05 02:20:30.123456+00");

/// The reference's text with our version, and a clock that counts microseconds.
#[track_caller]
fn same(found: Option<&String>, reference: &str) {
    let expected =
        reference.replace("3.2.0.Final", env!("CARGO_PKG_VERSION")).replace("017345}", "017000}");
    assert_eq!(found.map(String::as_str), Some(expected.as_str()));
}

/// One change in a transaction of its own, handled 504 ms after its commit.
fn example(table: &Table, transaction: Transaction, lsn: u64, did: Did<'_>) -> Vec<Sent> {
    let (task, plan) = plan(table, "", "", 1).expect("a plan");
    let mut batch = scene::batch(table, transaction, &[did]);
    batch.changes[0].lsn = Lsn(lsn);
    encode_at(&task, &plan, &batch)
}

fn encode_at(
    task: &record::plan::TaskPlan,
    plan: &record::plan::TablePlan,
    batch: &ChangeBatch,
) -> Vec<Sent> {
    encode(task, plan, batch).expect("encodes")
}

fn transaction(xid: u32, us: i64, previous: u64) -> Transaction {
    Transaction {
        xid,
        commit_time: scene::since_2000(us),
        previous_commit_lsn: Some(Lsn(previous)),
        ..scene::transaction()
    }
}

#[test]
fn an_insert_is_the_reference_s() {
    let sent = example(&orders(Full), scene::transaction(), 27_440_072, Did::Insert(&FIRST));
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].topic, "shop.orders");
    assert_eq!(sent[0].key.as_deref(), Some(r#"{"id":1001}"#));
    assert_eq!(sent[0].timestamp_ms, 1_709_605_230_500);
    same(
        sent[0].value.as_ref(),
        r#"{"before":null,"after":{"id":1001,"note":"first","total":"E34=","at":"2024-03-05T02:20:30.123456Z"},"source":{"version":"3.2.0.Final","connector":"postgresql","name":"appdb","ts_ms":1709605230500,"snapshot":"false","db":"appdb","sequence":"[\"27440016\",\"27440072\"]","ts_us":1709605230500000,"ts_ns":1709605230500000000,"schema":"shop","table":"orders","txId":7341,"lsn":27440072,"xmin":null},"transaction":null,"op":"c","ts_ms":1709605231004,"ts_us":1709605231004017,"ts_ns":1709605231004017345}"#,
    );
}

#[test]
fn a_snapshot_row_is_the_reference_s() {
    let snapshot = Transaction {
        xid: 0,
        commit_lsn: Lsn(27_263_015),
        previous_commit_lsn: None,
        commit_time: scene::since_2000(1_709_601_630_000_000),
        changes_count: None,
    };
    let (task, plan) = plan(&orders(Full), "", "", 1).expect("a plan");
    let mut batch = scene::batch(&orders(Full), snapshot, &[Did::Read(&FIRST)]);
    batch.changes[0].lsn = Lsn(27_263_016);
    let headers = |batch: &ChangeBatch| encode_at(&task, &plan, batch)[0].headers.clone();
    let owned = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let place = owned("distributary.lsn", "0/1A00027");
    let expected = |id| {
        [owned("distributary.task", "shop"), place.clone(), owned("distributary.snapshot", id)]
    };
    assert_eq!(headers(&batch), expected("0/1A00027"));
    batch.snapshot = Some("shop-1".into());
    assert_eq!(headers(&batch), expected("shop-1"));
    let sent = encode_at(&task, &plan, &batch);
    // Ours differs in the word (the last row is not known) and in the transaction id, which is not.
    let reference = r#"{"before":null,"after":{"id":1001,"note":"first","total":"E34=","at":"2024-03-05T02:20:30.123456Z"},"source":{"version":"3.2.0.Final","connector":"postgresql","name":"appdb","ts_ms":1709601630000,"snapshot":"last","db":"appdb","sequence":"[null,\"27263016\"]","ts_us":1709601630000000,"ts_ns":1709601630000000000,"schema":"shop","table":"orders","txId":7300,"lsn":27263016,"xmin":null},"transaction":null,"op":"r","ts_ms":1709605231004,"ts_us":1709605231004017,"ts_ns":1709605231004017345}"#
        .replace(r#""snapshot":"last""#, r#""snapshot":"true""#)
        .replace("7300", "null");
    same(sent[0].value.as_ref(), &reference);
}

#[test]
fn an_update_is_the_reference_s() {
    let after = [v("1001"), Null, v("49.90"), AT];
    let transaction = transaction(7342, 1_709_605_290_250_000, 27_440_368);
    let sent = example(&orders(Full), transaction, 27_440_416, Did::UpdateRow(&FIRST, &after));
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].key.as_deref(), Some(r#"{"id":1001}"#));
    same(
        sent[0].value.as_ref(),
        &r#"{"before":{"id":1001,"note":"first","total":"E34=","at":"2024-03-05T02:20:30.123456Z"},"after":{"id":1001,"note":null,"total":"E34=","at":"2024-03-05T02:20:30.123456Z"},"source":{"version":"3.2.0.Final","connector":"postgresql","name":"appdb","ts_ms":1709605290250,"snapshot":"false","db":"appdb","sequence":"[\"27440368\",\"27440416\"]","ts_us":1709605290250000,"ts_ns":1709605290250000000,"schema":"shop","table":"orders","txId":7342,"lsn":27440416,"xmin":null},"transaction":null,"op":"u","ts_ms":1709605290754,"ts_us":1709605290754017,"ts_ns":1709605290754017345}"#
            .replace("1709605290754", "1709605231004"),
    );
}

#[test]
fn a_key_change_is_the_reference_s() {
    let after = [v("2001"), Null, v("59.90"), AT];
    let transaction = transaction(7342, 1_709_605_290_250_000, 27_440_368);
    let sent = example(&orders(Full), transaction, 27_440_416, Did::UpdateRow(&FIRST, &after));
    let keys: Vec<_> = sent.iter().map(|record| record.key.as_deref()).collect();
    let (old, new) = (Some(r#"{"id":1001}"#), Some(r#"{"id":2001}"#));
    assert_eq!(keys, [old, old, new]);
    let newkey = |record: &Sent| record.header("__debezium.newkey").map(str::to_owned);
    let oldkey = |record: &Sent| record.header("__debezium.oldkey").map(str::to_owned);
    assert_eq!(
        sent.iter().map(newkey).collect::<Vec<_>>(),
        [new.map(Into::into), new.map(Into::into), None]
    );
    assert_eq!(sent.iter().map(oldkey).collect::<Vec<_>>(), [None, None, old.map(Into::into)]);
    let parts: Vec<_> = sent.iter().map(|record| record.header("distributary.seq")).collect();
    assert_eq!(parts, [Some("0.0"), Some("0.1"), Some("0.2")]);
    let of_example = |text: &str| text.replace("1709605290754", "1709605231004");
    same(
        sent[0].value.as_ref(),
        &of_example(
            r#"{"before":{"id":1001,"note":"first","total":"E34=","at":"2024-03-05T02:20:30.123456Z"},"after":null,"source":{"version":"3.2.0.Final","connector":"postgresql","name":"appdb","ts_ms":1709605290250,"snapshot":"false","db":"appdb","sequence":"[\"27440368\",\"27440416\"]","ts_us":1709605290250000,"ts_ns":1709605290250000000,"schema":"shop","table":"orders","txId":7342,"lsn":27440416,"xmin":null},"transaction":null,"op":"d","ts_ms":1709605290754,"ts_us":1709605290754017,"ts_ns":1709605290754017345}"#,
        ),
    );
    assert_eq!(sent[1].value, None);
    same(
        sent[2].value.as_ref(),
        &of_example(
            r#"{"before":null,"after":{"id":2001,"note":null,"total":"F2Y=","at":"2024-03-05T02:20:30.123456Z"},"source":{"version":"3.2.0.Final","connector":"postgresql","name":"appdb","ts_ms":1709605290250,"snapshot":"false","db":"appdb","sequence":"[\"27440368\",\"27440416\"]","ts_us":1709605290250000,"ts_ns":1709605290250000000,"schema":"shop","table":"orders","txId":7342,"lsn":27440416,"xmin":null},"transaction":null,"op":"c","ts_ms":1709605290754,"ts_us":1709605290754017,"ts_ns":1709605290754017345}"#,
        ),
    );
}

#[test]
fn a_delete_is_the_reference_s() {
    let row = [v("2001"), Null, v("59.90"), AT];
    let transaction = transaction(7343, 1_709_605_350_250_000, 27_440_808);
    let sent = example(&orders(Full), transaction, 27_440_896, Did::DeleteRow(&row));
    assert_eq!(sent.len(), 2);
    same(
        sent[0].value.as_ref(),
        &r#"{"before":{"id":2001,"note":null,"total":"F2Y=","at":"2024-03-05T02:20:30.123456Z"},"after":null,"source":{"version":"3.2.0.Final","connector":"postgresql","name":"appdb","ts_ms":1709605350250,"snapshot":"false","db":"appdb","sequence":"[\"27440808\",\"27440896\"]","ts_us":1709605350250000,"ts_ns":1709605350250000000,"schema":"shop","table":"orders","txId":7343,"lsn":27440896,"xmin":null},"transaction":null,"op":"d","ts_ms":1709605350754,"ts_us":1709605350754017,"ts_ns":1709605350754017345}"#
            .replace("1709605350754", "1709605231004"),
    );
    assert_eq!(sent[1].value, None);
    assert_eq!(sent[1].key.as_deref(), Some(r#"{"id":2001}"#));
    assert_eq!(sent[0].header("distributary.seq"), Some("0.0"));
    assert_eq!(sent[1].header("distributary.seq"), Some("0.1"));
}

#[test]
fn a_truncate_is_the_reference_s() {
    let transaction = transaction(7344, 1_709_605_410_250_000, 27_441_312);
    let sent = example(&orders(Full), transaction, 27_441_384, Did::Truncate);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].key, None);
    assert_eq!(sent[0].header("distributary.seq"), Some("0"));
    same(
        sent[0].value.as_ref(),
        &r#"{"before":null,"after":null,"source":{"version":"3.2.0.Final","connector":"postgresql","name":"appdb","ts_ms":1709605410250,"snapshot":"false","db":"appdb","sequence":"[\"27441312\",\"27441384\"]","ts_us":1709605410250000,"ts_ns":1709605410250000000,"schema":"shop","table":"orders","txId":7344,"lsn":27441384,"xmin":null},"transaction":null,"op":"t","ts_ms":1709605410754,"ts_us":1709605410754017,"ts_ns":1709605410754017345}"#
            .replace("1709605410754", "1709605231004"),
    );
}

/// Line breaks of the reference are not part of the original.
const REFERENCE_SCHEMA: &str = r#"{"schema":{"type":"struct","fields":[
{"type":"struct","fields":[{"type":"int64","optional":false,"field":"id"},{"type":"string","optional":true,"field":"note"},{"type":"bytes","optional":true,"name":"org.apache.kafka.connect.data.Decimal","version":1,"parameters":{"scale":"2","connect.decimal.precision":"12"},"field":"total"},{"type":"string","optional":true,"name":"io.debezium.time.ZonedTimestamp","version":1,"field":"at"}],"optional":true,"name":"appdb.shop.orders.Value","field":"before"},
{"type":"struct","fields":[{"type":"int64","optional":false,"field":"id"},{"type":"string","optional":true,"field":"note"},{"type":"bytes","optional":true,"name":"org.apache.kafka.connect.data.Decimal","version":1,"parameters":{"scale":"2","connect.decimal.precision":"12"},"field":"total"},{"type":"string","optional":true,"name":"io.debezium.time.ZonedTimestamp","version":1,"field":"at"}],"optional":true,"name":"appdb.shop.orders.Value","field":"after"},
{"type":"struct","fields":[{"type":"string","optional":false,"field":"version"},{"type":"string","optional":false,"field":"connector"},{"type":"string","optional":false,"field":"name"},{"type":"int64","optional":false,"field":"ts_ms"},{"type":"string","optional":true,"name":"io.debezium.data.Enum","version":1,"parameters":{"allowed":"true,first,first_in_data_collection,last_in_data_collection,last,false,incremental"},"default":"false","field":"snapshot"},{"type":"string","optional":false,"field":"db"},{"type":"string","optional":true,"field":"sequence"},{"type":"int64","optional":true,"field":"ts_us"},{"type":"int64","optional":true,"field":"ts_ns"},{"type":"string","optional":false,"field":"schema"},{"type":"string","optional":false,"field":"table"},{"type":"int64","optional":true,"field":"txId"},{"type":"int64","optional":true,"field":"lsn"},{"type":"int64","optional":true,"field":"xmin"}],"optional":false,"name":"io.debezium.connector.postgresql.Source","version":1,"field":"source"},
{"type":"struct","fields":[{"type":"string","optional":false,"field":"id"},{"type":"int64","optional":false,"field":"total_order"},{"type":"int64","optional":false,"field":"data_collection_order"}],"optional":true,"name":"event.block","version":1,"field":"transaction"},
{"type":"string","optional":false,"field":"op"},{"type":"int64","optional":true,"field":"ts_ms"},{"type":"int64","optional":true,"field":"ts_us"},{"type":"int64","optional":true,"field":"ts_ns"}],
"optional":false,"name":"appdb.shop.orders.Envelope","version":2},"#;

#[test]
fn schemas_are_the_reference_s() {
    let with = records(&orders(Full), "format_options: {schemas: true}", &[Did::Insert(&FIRST)]);
    let without = records(&orders(Full), "", &[Did::Insert(&FIRST)]);
    let payload = without[0].value.as_deref().unwrap();
    let expected = format!("{}\"payload\":{payload}}}", REFERENCE_SCHEMA.replace('\n', ""));
    assert_eq!(with[0].value.as_deref(), Some(expected.as_str()));
    assert_eq!(
        with[0].key.as_deref(),
        Some(
            r#"{"schema":{"type":"struct","fields":[{"type":"int64","optional":false,"field":"id"}],"optional":false,"name":"appdb.shop.orders.Key"},"payload":{"id":1001}}"#
        )
    );
}
