//! A record → an event, by the envelope of Debezium's format and our headers.

use crate::reader::Record;
use serde_json::Value;
use std::str::FromStr;

/// An event that is no tombstone.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    pub record: &'a Record,
    pub id: Id,
    pub op: char,
    pub schema: String,
    pub table: String,
    pub key: Value,
    pub before: Value,
    pub after: Value,
    /// Header `distributary.snapshot`.
    pub snapshot: Option<String>,
}

/// Header `distributary.lsn`, and `distributary.seq` for what comes from the stream.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Id {
    pub lsn: u64,
    pub seq: Option<Seq>,
}

/// `ordinal` or `ordinal.part`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Seq {
    pub ordinal: u64,
    pub part: Option<u32>,
}

/// The members of the envelope, in order.
const ENVELOPE: [&str; 8] =
    ["before", "after", "source", "transaction", "op", "ts_ms", "ts_us", "ts_ns"];
/// Those of `source`.
const SOURCE: [&str; 14] = [
    "version",
    "connector",
    "name",
    "ts_ms",
    "snapshot",
    "db",
    "sequence",
    "ts_us",
    "ts_ns",
    "schema",
    "table",
    "txId",
    "lsn",
    "xmin",
];

impl<'a> Event<'a> {
    /// Reads an event.
    ///
    /// # Errors
    /// What is wrong with the record.
    pub fn parse(record: &'a Record) -> Result<Self, String> {
        let value = record.value.as_deref().ok_or("a tombstone is no event")?;
        let mut value: Value = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        members(&value, &ENVELOPE)?;
        members(&value["source"], &SOURCE)?;
        let key = match &record.key {
            Some(key) => serde_json::from_slice(key).map_err(|error| error.to_string())?,
            None => Value::Null,
        };
        let word = |name: &str| {
            value["source"][name].as_str().map(str::to_owned).ok_or(format!("no source.{name}"))
        };
        let (schema, table) = (word("schema")?, word("table")?);
        let op = value["op"].as_str().and_then(|op| op.chars().next()).ok_or("no op")?;
        let snapshot = record.header("distributary.snapshot");
        Ok(Self {
            record,
            id: Id::of(record)?,
            op,
            schema,
            table,
            key,
            before: value["before"].take(),
            after: value["after"].take(),
            snapshot,
        })
    }
}

impl Id {
    /// The id of any record of ours, tombstones included.
    ///
    /// # Errors
    /// When a header is missing or no number.
    pub fn of(record: &Record) -> Result<Self, String> {
        let lsn = record.header("distributary.lsn").ok_or("no header distributary.lsn")?;
        let lsn = lsn_of(&lsn).ok_or(format!("distributary.lsn is {lsn}"))?;
        let seq = record.header("distributary.seq").map(|seq| seq.parse()).transpose()?;
        if seq.is_none() && record.header("distributary.snapshot").is_none() {
            return Err("neither distributary.seq nor distributary.snapshot".into());
        }
        Ok(Self { lsn, seq })
    }
}

impl FromStr for Seq {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("distributary.seq is {text}");
        let (ordinal, part) = match text.split_once('.') {
            Some((ordinal, part)) => (ordinal, Some(part.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        Ok(Self { ordinal: ordinal.parse().map_err(|_| wrong())?, part })
    }
}

/// `16/B374D848` → its number.
#[must_use]
pub fn lsn_of(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    let part = |text| u32::from_str_radix(text, 16).map(u64::from).ok();
    Some(part(high)? << 32 | part(low)?)
}

fn members(value: &Value, expected: &[&str]) -> Result<(), String> {
    let object = value.as_object().ok_or(format!("no object: {value}"))?;
    let found: Vec<_> = object.keys().map(String::as_str).collect();
    if found == expected {
        Ok(())
    } else {
        Err(format!("members {found:?} in place of {expected:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read() {
        assert_eq!(lsn_of("16/B374D848"), Some(0x16_B374_D848));
        assert_eq!(lsn_of("0/0"), Some(0));
        assert_eq!(lsn_of("16B374D848"), None);
        assert_eq!("7.2".parse(), Ok(Seq { ordinal: 7, part: Some(2) }));
        assert_eq!("7".parse(), Ok(Seq { ordinal: 7, part: None }));
        assert!("7.".parse::<Seq>().is_err());
    }
}
