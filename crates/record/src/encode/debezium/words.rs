//! What Debezium says of an event, in all of its formats.

use crate::encode::event::{Action, Event};
use crate::row::Row;
use wal::Transaction;

/// The member `op`.
pub(super) fn op(action: Action) -> &'static str {
    match action {
        Action::Read => "r",
        Action::Insert => "c",
        Action::Update => "u",
        Action::Delete => "d",
        Action::Truncate => "t",
    }
}

/// The header that holds the other key of a row whose key has changed. Kafka Connect has a converter of its own for headers,
/// and its default one writes a struct as bare JSON, whatever the formats of key and value are; the key with its schema would be a map
/// of several types to it, at which Debezium's JDBC sink stops.
pub(super) fn other_key_header(action: Action) -> &'static str {
    match action {
        Action::Delete => "__debezium.newkey",
        Action::Read | Action::Insert | Action::Update | Action::Truncate => "__debezium.oldkey",
    }
}

/// The member `before`: an update has the whole old row, or none.
pub(super) fn before<'a>(event: &Event<'a>) -> Option<Row<'a>> {
    event.before.filter(|row| event.action == Action::Delete || !row.is_key())
}

/// Writes the text of the source's `sequence` up to the event's LSN, in place of what `out` held.
pub(super) fn sequence(transaction: &Transaction, out: &mut Vec<u8>) {
    out.clear();
    match transaction.previous_commit_lsn {
        Some(previous) => {
            out.extend_from_slice(b"[\"");
            out.extend_from_slice(itoa::Buffer::new().format(previous.0).as_bytes());
            out.extend_from_slice(b"\",\"");
        }
        None => out.extend_from_slice(b"[null,\""),
    }
}
