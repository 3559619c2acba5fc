//! Dead letters: changes that cannot be written as their format wants, with the row as the server sent it
//! (`docs/dead-letters.md`).

use super::event::{Action, Event, commit_us};
use crate::json;
use crate::plan::TablePlan;
use crate::route::{Part, Piece};
use crate::row::Row;
use wal::Datum;

/// Why a change is set aside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// Larger than its topic takes.
    Oversize,
    /// A value that the format cannot carry.
    Unrepresentable,
    /// A schema that the registry refuses.
    SchemaRefused,
    /// A row that the object's transform cannot be applied to.
    Transform,
}

impl Cause {
    /// As the header `distributary.dead-letter` and metrics have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Oversize => "oversize",
            Self::Unrepresentable => "unrepresentable",
            Self::SchemaRefused => "schema-refused",
            Self::Transform => "transform",
        }
    }
}

/// A change that is set aside: where to, and why.
#[derive(Clone, Copy, Debug)]
pub struct Letter<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub cause: Cause,
    /// For people. No value of the row.
    pub reason: &'a str,
}

/// What the JSON object begins with, until a change of its form.
const VERSION: u32 = 1;

/// Writes the value of a dead letter. `mark`: name and text of what tells this record from the others at its
/// LSN, `seq` or `snapshot`.
pub(super) fn write(
    plan: &TablePlan,
    event: &Event<'_>,
    piece: &Piece,
    letter: &Letter<'_>,
    mark: (&str, &str),
    out: &mut Vec<u8>,
) {
    let table = plan.view();
    out.extend_from_slice(b"{\"version\":");
    json::integer(VERSION, out);
    let lsn = event.transaction.commit_lsn.to_string();
    let members = [
        ("cause", letter.cause.word()),
        ("reason", letter.reason),
        ("lsn", &lsn),
        mark,
        ("topic", plan.topic()),
        ("schema", &table.schema),
        ("table", &table.name),
        ("operation", operation(event.action)),
        ("part", part(piece.part)),
    ];
    for (name, text) in members {
        member(name, out);
        json::str(text, out);
    }
    member("partition", out);
    json::integer(piece.partition, out);
    member("committed_us", out);
    json::integer(commit_us(event.transaction), out);
    member("key", out);
    json::strings(plan.key().iter().map(|&index| &*table.columns[index].name), out);
    member("columns", out);
    let mut before = b'[';
    for column in &table.columns {
        out.push(before);
        before = b',';
        out.extend_from_slice(b"{\"name\":");
        json::str(&column.name, out);
        out.extend_from_slice(b",\"type\":");
        json::str(&format!("{}.{}", column.type_.schema, column.type_.name), out);
        out.push(b'}');
    }
    out.extend_from_slice(if before == b'[' { b"[]" } else { b"]" });
    for (name, side) in [("before", &event.before), ("after", &event.after)] {
        member(name, out);
        match side {
            Some(side) => row(plan, side, out),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
}

fn member(name: &str, out: &mut Vec<u8>) {
    out.push(b',');
    json::str(name, out);
    out.push(b':');
}

/// The values in the server's own text. What is no text is said in an object, which no text is.
fn row(plan: &TablePlan, row: &Row<'_>, out: &mut Vec<u8>) {
    let mut values = row.known_values();
    let mut before = b'{';
    for column in &plan.view().columns {
        out.push(before);
        before = b',';
        json::str(&column.name, out);
        out.push(b':');
        match values.next().unwrap_or(Datum::Null) {
            Datum::Null => out.extend_from_slice(b"null"),
            Datum::Unchanged => out.extend_from_slice(b"{\"unchanged\":true}"),
            Datum::Text(text) => {
                let start = out.len();
                if json::string(text, out).is_err() {
                    out.truncate(start);
                    object("base64", text, out);
                }
            }
            Datum::Binary(value) => object("binary", value, out),
        }
    }
    out.extend_from_slice(if before == b'{' { b"{}" } else { b"}" });
}

fn object(name: &str, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'{');
    json::str(name, out);
    out.push(b':');
    json::base64(bytes, out);
    out.push(b'}');
}

fn operation(action: Action) -> &'static str {
    match action {
        Action::Read => "read",
        Action::Insert => "insert",
        Action::Update => "update",
        Action::Delete => "delete",
        Action::Truncate => "truncate",
    }
}

fn part(part: Part) -> &'static str {
    match part {
        Part::Whole => "whole",
        Part::KeyChangeDelete => "key-change-delete",
        Part::KeyChangeCreate => "key-change-create",
        Part::Enters => "enters",
        Part::Leaves => "leaves",
        Part::Unjudged => "unjudged",
    }
}
