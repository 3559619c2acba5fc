//! What consumers are told of a source transaction: how many records it became, of each table; and the place of
//! each record among them (formats/debezium.md, section 1.6).

use crate::encode::connect::{array_field, field, structure};
use crate::json;
use crate::told::Told;
use serde_json::Value;
use wal::{Lsn, Transaction};

/// Place of a record among those of its transaction, from 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Order {
    /// Among all of them.
    pub total: u64,
    /// Among those of its table.
    pub collection: u64,
}

/// A transaction that has ended, and what it became.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Summary {
    pub transaction: Transaction,
    /// Of its first record.
    pub first_lsn: Lsn,
    /// Records, without tombstones.
    pub records: u64,
    /// Of each table, `schema.table` in the order of their first records.
    pub collections: Vec<(String, u64)>,
}

impl Summary {
    /// BEGIN and END in Debezium's words.
    pub(crate) fn told(&self) -> [Told; 2] {
        [self.begin(), self.end()]
    }

    /// When it was committed, milliseconds since 1970.
    #[must_use]
    pub fn time_ms(&self) -> i64 {
        crate::encode::commit_us(&self.transaction).div_euclid(1000)
    }

    fn begin(&self) -> Told {
        self.record("BEGIN", self.first_lsn, |out| {
            out.extend_from_slice(b"\"event_count\":null,\"data_collections\":null");
        })
    }

    fn end(&self) -> Told {
        self.record("END", self.transaction.commit_lsn, |out| {
            out.extend_from_slice(b"\"event_count\":");
            json::integer(self.records, out);
            out.extend_from_slice(b",\"data_collections\":[");
            for (index, (name, records)) in self.collections.iter().enumerate() {
                if 0 < index {
                    out.push(b',');
                }
                out.extend_from_slice(b"{\"data_collection\":");
                json::str(name, out);
                out.extend_from_slice(b",\"event_count\":");
                json::integer(*records, out);
                out.push(b'}');
            }
            out.push(b']');
        })
    }

    fn record(&self, status: &str, lsn: Lsn, counts: impl FnOnce(&mut Vec<u8>)) -> Told {
        let (mut key, mut value) = (b"{\"id\":\"".to_vec(), Vec::new());
        id(&self.transaction, lsn, &mut key);
        key.extend_from_slice(b"\"}");
        let out = &mut value;
        out.extend_from_slice(b"{\"status\":\"");
        out.extend_from_slice(status.as_bytes());
        out.extend_from_slice(b"\",\"id\":\"");
        id(&self.transaction, lsn, out);
        out.extend_from_slice(b"\",");
        counts(out);
        out.extend_from_slice(b",\"ts_ms\":");
        json::integer(self.time_ms(), out);
        out.push(b'}');
        Told { key: Some(key), value }
    }
}

/// The Connect schemas of key and value of BEGIN and END, which are Debezium's.
pub(crate) fn schemas() -> [Value; 2] {
    let named = |name: &str, fields: &[Value]| {
        structure(&format!("io.debezium.connector.common.{name}"), false, fields)
    };
    let collection =
        [field("string", false, "data_collection"), field("int64", false, "event_count")];
    let collection = structure("event.collection", true, &collection);
    [
        named("TransactionMetadataKey", &[field("string", false, "id")]),
        named(
            "TransactionMetadataValue",
            &[
                field("string", false, "status"),
                field("string", false, "id"),
                field("int64", true, "event_count"),
                array_field(&collection, true, "data_collections"),
                field("int64", false, "ts_ms"),
            ],
        ),
    ]
}

/// `txid:lsn`: the part before the colon is the transaction's, the LSN is that of the record at hand.
pub(crate) fn id(transaction: &Transaction, lsn: Lsn, out: &mut Vec<u8>) {
    json::integer(transaction.xid, out);
    out.push(b':');
    json::integer(lsn.0, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begin_and_end_are_those_of_the_reference() {
        let transaction = Transaction {
            xid: 7341,
            commit_lsn: Lsn(27_440_368),
            previous_commit_lsn: None,
            // 1709605230.5 s since 1970.
            commit_time: 1_709_605_230_500_000 - 946_684_800_000_000,
            changes_count: None,
        };
        let first_lsn = Lsn(27_440_072);
        let collections = vec![("shop.orders".to_owned(), 1)];
        let summary = Summary { transaction, first_lsn, records: 1, collections };
        let [begin, end] = summary.told().map(|it| {
            [it.key.expect("a key"), it.value].map(|bytes| String::from_utf8(bytes).expect("UTF-8"))
        });
        assert_eq!(begin[0], r#"{"id":"7341:27440072"}"#);
        assert_eq!(
            begin[1],
            r#"{"status":"BEGIN","id":"7341:27440072","event_count":null,"data_collections":null,"ts_ms":1709605230500}"#
        );
        assert_eq!(end[0], r#"{"id":"7341:27440368"}"#);
        assert_eq!(
            end[1],
            r#"{"status":"END","id":"7341:27440368","event_count":1,"data_collections":[{"data_collection":"shop.orders","event_count":1}],"ts_ms":1709605230500}"#
        );
    }
}
