//! One record of a data topic, read as a consumer of Debezium's JSON reads it.

use serde_json::Value;

/// What happened to a row or a table.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Kind {
    Read,
    Insert,
    Update,
    Delete,
    Truncate,
    /// The empty record after a delete, which lets compaction drop the key.
    Tombstone,
    /// Not a row event: DDL, a message, something else.
    Other,
}

impl Kind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
            Self::Tombstone => "tombstone",
            Self::Other => "other",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) kind: Kind,
    /// When the source committed it, in milliseconds since 1970; snapshot rows have none that means a delay.
    pub(crate) committed_ms: Option<i64>,
    /// The key's columns, `id=17`.
    pub(crate) key: String,
    /// What a person wants to see of it: the new row, or which columns changed.
    pub(crate) detail: String,
}

impl Event {
    /// Reads key and value as they came; both may be wrapped with a schema.
    ///
    /// # Errors
    /// Where either is not JSON.
    pub(crate) fn parse(
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<Self, serde_json::Error> {
        let key = match key {
            Some(bytes) => columns(payload(&serde_json::from_slice(bytes)?)),
            None => String::new(),
        };
        let Some(value) = value else {
            return Ok(Self {
                kind: Kind::Tombstone,
                committed_ms: None,
                key,
                detail: String::new(),
            });
        };
        let value: Value = serde_json::from_slice(value)?;
        let value = payload(&value);
        let kind = match value["op"].as_str() {
            Some("r") => Kind::Read,
            Some("c") => Kind::Insert,
            Some("u") => Kind::Update,
            Some("d") => Kind::Delete,
            Some("t") => Kind::Truncate,
            Some(_) | None => Kind::Other,
        };
        let committed_ms = value["source"]["ts_ms"].as_i64().filter(|_| kind != Kind::Read);
        Ok(Self { kind, committed_ms, key, detail: detail(value) })
    }
}

fn payload(value: &Value) -> &Value {
    value.get("payload").unwrap_or(value)
}

fn columns(row: &Value) -> String {
    let Some(row) = row.as_object() else { return String::new() };
    row.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

/// The changed columns of an update, else the row that there is.
fn detail(value: &Value) -> String {
    match (value["before"].as_object(), value["after"].as_object()) {
        (Some(before), Some(after)) => after
            .iter()
            .filter(|(name, new)| before.get(*name) != Some(new))
            .map(|(name, new)| {
                let old = before.get(name).unwrap_or(&Value::Null);
                format!("{name}: {old} → {new}")
            })
            .collect::<Vec<_>>()
            .join(" "),
        (None, Some(_)) => columns(&value["after"]),
        (Some(_), None) => columns(&value["before"]),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(key: &str, value: &str, expected: (Kind, Option<i64>, &str, &str)) {
        let event = Event::parse(Some(key.as_bytes()), Some(value.as_bytes())).unwrap();
        assert_eq!((event.kind, event.committed_ms, &*event.key, &*event.detail), expected);
    }

    #[test]
    fn an_update_shows_what_changed() {
        check(
            r#"{"id":7}"#,
            r#"{"op":"u","before":{"id":7,"s":"a"},"after":{"id":7,"s":"b"},"source":{"ts_ms":5}}"#,
            (Kind::Update, Some(5), "id=7", r#"s: "a" → "b""#),
        );
    }

    #[test]
    fn schemas_around_key_and_value_are_looked_through() {
        check(
            r#"{"schema":{},"payload":{"id":7}}"#,
            r#"{"schema":{},"payload":{"op":"c","before":null,"after":{"id":7},"source":{"ts_ms":5}}}"#,
            (Kind::Insert, Some(5), "id=7", "id=7"),
        );
    }

    #[test]
    fn a_snapshot_row_has_no_latency() {
        let value = r#"{"op":"r","before":null,"after":{"id":7},"source":{"ts_ms":5}}"#;
        check(r#"{"id":7}"#, value, (Kind::Read, None, "id=7", "id=7"));
    }

    #[test]
    fn an_empty_value_is_a_tombstone() {
        let event = Event::parse(Some(br#"{"id":7}"#), None).unwrap();
        assert_eq!((event.kind, &*event.key), (Kind::Tombstone, "id=7"));
        assert!(Event::parse(Some(b"?"), None).is_err());
    }
}
