//! The checker finds what is planted. Needs no server.

use std::collections::BTreeMap;
use tests::catalog::{Column, Contents, Shape};
use tests::checker::{Kind, Promises, Report, check};
use tests::form::Form;
use tests::reader::{Record, Topics};

/// Two partitions of a table with a key, one of a table without, and what the server has of them.
struct Bench {
    topics: Topics,
    expected: Vec<Contents>,
}

/// Values of a row (id, note): `None` is no row.
type Values<'a> = Option<(i32, &'a str)>;

impl Bench {
    /// Snapshot, inserts, an update, a delete, a key change across partitions, a TRUNCATE, and a
    /// table without a key.
    fn new() -> Self {
        let mut bench = Self {
            topics: Topics::default(),
            expected: vec![shape("orders", &[0]), shape("events", &[])],
        };
        bench.topics.partitions = BTreeMap::from([("t.orders".into(), 2), ("t.events".into(), 1)]);
        bench.row("orders", 0, 'r', "10", None, None, Some((1, "scratched")));
        bench.row("events", 0, 'r', "10", None, None, Some((1, "same")));
        bench.row("events", 0, 'r', "10", None, None, Some((1, "same")));
        bench.row("orders", 0, 't', "20", Some("0.0"), None, None);
        bench.row("orders", 1, 't', "20", Some("0.1"), None, None);
        bench.row("orders", 0, 'c', "30", Some("0"), None, Some((2, "two")));
        bench.row("orders", 1, 'c', "30", Some("1"), None, Some((3, "three")));
        bench.row("orders", 0, 'u', "30", Some("2"), Some((2, "two")), Some((2, "deux")));
        bench.row("events", 0, 'd', "40", Some("0.0"), Some((1, "same")), None);
        bench.tombstone("events", 0, "40", "0.1", None);
        bench.row("orders", 1, 'd', "40", Some("1.0"), Some((3, "three")), None);
        bench.header("__debezium.newkey", "{\"id\":4}");
        bench.tombstone("orders", 1, "40", "1.1", Some(3));
        bench.row("orders", 0, 'c', "40", Some("1.2"), None, Some((4, "three")));
        bench.header("__debezium.oldkey", "{\"id\":3}");
        bench.expect(0, &[(2, "deux"), (4, "three")]);
        bench.expect(1, &[(1, "same")]);
        bench
    }

    #[expect(clippy::too_many_arguments, reason = "one record, spelled out")]
    fn row(
        &mut self,
        table: &str,
        partition: i32,
        op: char,
        lsn: &str,
        seq: Option<&str>,
        before: Values<'_>,
        after: Values<'_>,
    ) {
        let json = |values: Values<'_>| match values {
            Some((id, note)) => format!("{{\"id\":{id},\"note\":\"{note}\"}}"),
            None => "null".into(),
        };
        let value = format!(
            "{{\"before\":{},\"after\":{},\"source\":{{\"version\":\"1\",\"connector\":\"postgresql\",\"name\":\"t\",\
             \"ts_ms\":1,\"snapshot\":\"false\",\"db\":\"d\",\"sequence\":null,\"ts_us\":1,\"ts_ns\":1,\
             \"schema\":\"shop\",\"table\":\"{table}\",\"txId\":1,\"lsn\":1,\"xmin\":null}},\"transaction\":null,\
             \"op\":\"{op}\",\"ts_ms\":1,\"ts_us\":1,\"ts_ns\":1}}",
            json(before),
            json(after)
        );
        let id = after.or(before).map(|(id, _)| id).filter(|_| table == "orders");
        self.push(table, partition, lsn, seq, id, Some(value));
    }

    fn tombstone(&mut self, table: &str, partition: i32, lsn: &str, seq: &str, id: Option<i32>) {
        self.push(table, partition, lsn, Some(seq), id, None);
    }

    fn push(
        &mut self,
        table: &str,
        partition: i32,
        lsn: &str,
        seq: Option<&str>,
        id: Option<i32>,
        value: Option<String>,
    ) {
        let last = match seq {
            Some(seq) => ("distributary.seq", seq),
            None => ("distributary.snapshot", "one"),
        };
        let lsn = format!("0/{lsn}");
        let headers = [("distributary.task", "t"), ("distributary.lsn", &lsn), last];
        self.topics.records.push(Record {
            topic: format!("t.{table}"),
            partition,
            offset: i64::try_from(self.topics.records.len()).expect("as planted"),
            key: id.map(|id| format!("{{\"id\":{id}}}").into_bytes()),
            value: value.map(String::into_bytes),
            headers: headers.map(|(name, value)| (name.into(), value.into())).into(),
        });
    }

    fn header(&mut self, name: &str, value: &str) {
        let record = self.topics.records.last_mut().expect("as planted");
        record.headers.insert(0, (name.into(), value.into()));
    }

    fn expect(&mut self, table: usize, rows: &[(i32, &str)]) {
        let row = |&(id, note): &(i32, &str)| vec![Some(id.to_string()), Some(note.to_owned())];
        self.expected[table].rows = rows.iter().map(row).collect();
    }

    fn check(&self) -> Report {
        check(Promises::default(), &self.topics, &self.expected)
    }

    /// Index of the record of an id.
    fn at(&self, table: &str, lsn: &str, seq: &str) -> usize {
        let (topic, lsn) = (format!("t.{table}"), format!("0/{lsn}"));
        let found = |record: &Record| {
            record.topic == topic
                && record.header("distributary.lsn").as_ref() == Some(&lsn)
                && record.header("distributary.seq").as_deref() == Some(seq)
        };
        self.topics.records.iter().position(found).expect("as planted")
    }

    /// Replaces text in the value of a record.
    fn alter(&mut self, index: usize, from: &str, to: &str) {
        let value = self.topics.records[index].value.take().expect("as planted");
        let text = String::from_utf8(value).expect("as planted");
        assert!(text.contains(from), "{text}");
        self.topics.records[index].value = Some(text.replace(from, to).into_bytes());
    }
}

fn shape(table: &str, key: &[usize]) -> Contents {
    let column = |name: &str, form| Column { name: name.into(), form };
    let columns = vec![column("id", Form::Integer), column("note", Form::Text)];
    let shape = Shape { schema: "shop".into(), table: table.into(), columns, key: key.into() };
    Contents { shape, rows: Vec::new() }
}

/// The kinds of faults found, each once.
#[track_caller]
fn assert_finds(bench: &Bench, expected: &[Kind]) {
    let report = bench.check();
    let kinds: Vec<_> = report.kinds().into_keys().collect();
    assert_eq!(kinds, expected, "{:#?}", report.faults);
}

#[test]
fn what_is_right_passes() {
    let bench = Bench::new();
    let report = bench.check();
    report.assert_clean();
    assert_eq!((report.records, report.rows, report.snapshots), (13, 3, 1));
}

#[test]
fn a_dropped_insert_is_found() {
    let mut bench = Bench::new();
    bench.topics.records.remove(bench.at("orders", "30", "0"));
    assert_finds(&bench, &[Kind::OrdinalMissing, Kind::RowUnknown]);
}

#[test]
fn a_dropped_update_at_the_end_is_found() {
    let mut bench = Bench::new();
    bench.topics.records.remove(bench.at("orders", "30", "2"));
    assert_finds(&bench, &[Kind::Altered]);
}

#[test]
fn a_dropped_delete_is_found() {
    let mut bench = Bench::new();
    let index = bench.at("events", "40", "0.0");
    bench.topics.records.drain(index..index + 2);
    assert_finds(&bench, &[Kind::OrdinalMissing, Kind::Phantom]);
}

#[test]
fn a_dropped_snapshot_row_is_found() {
    let mut bench = Bench::new();
    bench.topics.records.remove(1);
    assert_finds(&bench, &[Kind::Missing]);
}

#[test]
fn a_doubled_record_is_found_wherever_it_stands() {
    let mut bench = Bench::new();
    let again =
        Record { offset: 99, ..bench.topics.records[bench.at("orders", "30", "2")].clone() };
    bench.topics.records.push(again);
    assert_finds(&bench, &[Kind::Doubled, Kind::OutOfOrder, Kind::BeforeDiffers]);
}

#[test]
fn a_doubled_snapshot_row_is_found() {
    let mut bench = Bench::new();
    let again = Record { offset: 2, ..bench.topics.records[1].clone() };
    bench.topics.records.insert(2, again);
    assert_finds(&bench, &[Kind::Phantom]);
}

#[test]
fn records_in_another_order_are_found() {
    let mut bench = Bench::new();
    let (first, second) = (bench.at("orders", "30", "0"), bench.at("orders", "30", "2"));
    let offset = bench.topics.records[first].offset;
    bench.topics.records[first].offset = bench.topics.records[second].offset;
    bench.topics.records[second].offset = offset;
    assert_finds(&bench, &[Kind::OutOfOrder, Kind::InsertedTwice, Kind::RowUnknown, Kind::Altered]);
}

#[test]
fn an_altered_value_is_found() {
    let mut bench = Bench::new();
    bench.alter(bench.at("orders", "30", "2"), "deux", "dos");
    assert_finds(&bench, &[Kind::Altered]);
}

#[test]
fn an_altered_row_before_is_found() {
    let mut bench = Bench::new();
    bench.alter(bench.at("orders", "30", "2"), "\"two\"", "\"zwei\"");
    assert_finds(&bench, &[Kind::BeforeDiffers]);
}

#[test]
fn a_value_of_another_type_is_found() {
    let mut bench = Bench::new();
    bench.alter(bench.at("orders", "30", "1"), "\"id\":3", "\"id\":\"3\"");
    assert_finds(&bench, &[Kind::Unreadable, Kind::RowUnknown]);
}

#[test]
fn a_missing_column_is_found() {
    let mut bench = Bench::new();
    bench.alter(bench.at("orders", "40", "1.2"), ",\"note\":\"three\"", "");
    assert_finds(&bench, &[Kind::Unreadable, Kind::Missing]);
}

#[test]
fn a_truncate_that_leaves_out_a_partition_is_found() {
    let mut bench = Bench::new();
    bench.topics.records.remove(bench.at("orders", "20", "0.1"));
    assert_finds(&bench, &[Kind::TruncateIncomplete]);
}

#[test]
fn a_missing_tombstone_is_found() {
    let mut bench = Bench::new();
    bench.topics.records.remove(bench.at("orders", "40", "1.1"));
    assert_finds(&bench, &[Kind::Tombstone]);
}

#[test]
fn half_a_key_change_is_found() {
    let mut bench = Bench::new();
    bench.topics.records.remove(bench.at("orders", "40", "1.2"));
    assert_finds(&bench, &[Kind::KeyChangeHalf, Kind::Missing]);
}

#[test]
fn a_key_in_the_wrong_partition_is_found() {
    let mut bench = Bench::new();
    let index = bench.at("orders", "30", "2");
    bench.topics.records[index].partition = 1;
    assert_finds(&bench, &[Kind::InsertedTwice, Kind::RowUnknown]);
}

#[test]
fn a_snapshot_that_began_again_does_not_count_twice() {
    let mut bench = Bench::new();
    for (partition, after) in [(0, Some((1, "scratched"))), (1, None)] {
        bench.row("orders", partition, 't', "50", None, None, None);
        if let Some(after) = after {
            bench.row("orders", partition, 'r', "50", None, None, Some(after));
        }
    }
    bench.expect(0, &[(1, "scratched")]);
    bench.check().assert_clean();
}

#[test]
fn at_least_once_may_repeat_but_not_lose() {
    let promises = Promises { exactly_once: false, ..Promises::default() };
    let mut bench = Bench::new();
    let from = bench.at("orders", "30", "0");
    for index in from..bench.topics.records.len() {
        let offset = i64::try_from(100 + index).expect("as planted");
        let again = Record { offset, ..bench.topics.records[index].clone() };
        bench.topics.records.push(again);
    }
    check(promises, &bench.topics, &bench.expected).assert_clean();
    bench.topics.records.retain(|record| record.header("distributary.seq").as_deref() != Some("2"));
    let kinds = check(promises, &bench.topics, &bench.expected).kinds();
    assert_eq!(kinds.into_keys().collect::<Vec<_>>(), [Kind::Altered]);
}
