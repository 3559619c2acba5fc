//! What the contract calls questions and answers ↔ what the pipeline calls them.

use crate::link::convert::{failure_in, failure_out};
use pipeline::reading::{
    Answer, Ask, Begun, ChunkSource, Key, KeyColumn, NotRead, Range, Readable, Then,
};
use rpc::v1;
use rpc::v1::chunks_down::Message as Down;
use rpc::v1::chunks_up::Message as Up;
use wal::Lsn;

pub(super) fn down(message: Down) -> v1::ChunksDown {
    v1::ChunksDown { message: Some(message) }
}

pub(super) fn ask_out(ask: Ask) -> v1::ChunksDown {
    down(match ask {
        Ask::Begin(source) => Down::Begin(source_out(source)),
        Ask::Rows { source, range, condition, rows_max } => Down::Rows(v1::ReadRows {
            table: Some(source_out(source)),
            range: Some(range_out(range)),
            condition: condition.unwrap_or_default(),
            rows_max,
        }),
        Ask::Last(source) => Down::Last(source_out(source)),
        Ask::Cut { source, range, rows } => Down::Cut(v1::CutRange {
            table: Some(source_out(source)),
            range: Some(range_out(range)),
            rows,
        }),
        Ask::End => Down::End(v1::EndChunk {}),
    })
}

/// `None`: it is no question.
pub(super) fn ask_in(message: Down) -> Option<Ask> {
    Some(match message {
        Down::Open(_) => return None,
        Down::Begin(table) => Ask::Begin(source_in(table)),
        Down::Rows(v1::ReadRows { table, range, condition, rows_max }) => Ask::Rows {
            source: source_in(table?),
            range: range_in(range?)?,
            condition: Some(condition).filter(|it| !it.is_empty()),
            rows_max,
        },
        Down::Last(table) => Ask::Last(source_in(table)),
        Down::Cut(v1::CutRange { table, range, rows }) => {
            Ask::Cut { source: source_in(table?), range: range_in(range?)?, rows }
        }
        Down::End(v1::EndChunk {}) => Ask::End,
    })
}

pub(super) fn answer_out(answer: Answer) -> v1::ChunksUp {
    let message = match answer {
        Answer::Done => Up::Done(v1::Done {}),
        Answer::Begun(Begun { visibility, high, files, shape }) => Up::Begun(v1::Begun {
            visibility: visibility.to_string(),
            high_lsn: high.0,
            files,
            shape,
        }),
        Answer::Rows(rows) => Up::Rows(rows),
        Answer::Key(key) => Up::Key(v1::Key { values: key.map(key_out) }),
        Answer::NotRead(NotRead { then, failure }) => {
            let then = match then {
                Then::Later => v1::not_read::Then::Later,
                Then::Again => v1::not_read::Then::Again,
                Then::Refused => v1::not_read::Then::Refused,
                // That the connection is gone is the caller's conclusion.
                Then::Fail | Then::Lost => v1::not_read::Then::Fail,
            };
            Up::NotRead(v1::NotRead { then: then.into(), failed: Some(failure_out(failure)) })
        }
    };
    v1::ChunksUp { message: Some(message) }
}

pub(super) fn answer_in(node: &str, said: Up) -> Result<Answer, String> {
    Ok(match said {
        Up::Begun(v1::Begun { visibility, high_lsn, files, shape }) => {
            let visibility = visibility.parse();
            let visibility =
                visibility.map_err(|error: wal::visibility::InvalidSnapshot| error.to_string())?;
            Answer::Begun(Begun { visibility, high: Lsn(high_lsn), files, shape })
        }
        Up::Rows(rows) => Answer::Rows(rows),
        Up::Key(v1::Key { values }) => Answer::Key(values.map(key_in)),
        Up::Done(v1::Done {}) => Answer::Done,
        Up::NotRead(not_read) => {
            let then = match not_read.then() {
                v1::not_read::Then::Later => Then::Later,
                v1::not_read::Then::Again => Then::Again,
                v1::not_read::Then::Refused => Then::Refused,
                v1::not_read::Then::Fail | v1::not_read::Then::Unspecified => Then::Fail,
            };
            let failed = not_read.failed.unwrap_or_default();
            Answer::NotRead(NotRead { then, failure: failure_in(node, &failed) })
        }
    })
}

fn source_out(source: ChunkSource) -> v1::ChunkTable {
    let ChunkSource { readable, columns, key, operators } = source;
    let Readable { oid, schema, name, only } = readable;
    let key = key.into_iter().map(|it| v1::KeyColumn { name: it.name, r#type: it.type_ });
    v1::ChunkTable { oid, schema, name, only, columns, key: key.collect(), operators }
}

fn source_in(table: v1::ChunkTable) -> ChunkSource {
    let v1::ChunkTable { oid, schema, name, only, columns, key, operators } = table;
    let key = key.into_iter().map(|it| KeyColumn { name: it.name, type_: it.r#type });
    let readable = Readable { oid, schema, name, only };
    ChunkSource { readable, columns, key: key.collect(), operators }
}

fn range_out(Range { after, upto }: Range) -> v1::KeyRange {
    v1::KeyRange { after: after.map(key_out), upto: Some(key_out(upto)) }
}

fn range_in(v1::KeyRange { after, upto }: v1::KeyRange) -> Option<Range> {
    Some(Range { after: after.map(key_in), upto: key_in(upto?) })
}

fn key_out(key: Key) -> v1::KeyValues {
    v1::KeyValues { values: key.into_iter().map(String::from).collect() }
}

fn key_in(key: v1::KeyValues) -> Key {
    key.values.into_iter().map(String::into_boxed_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipeline::Failure;

    fn source() -> ChunkSource {
        ChunkSource {
            readable: Readable { oid: 7, schema: "s".into(), name: "t".into(), only: true },
            columns: vec!["id".into(), "note".into()],
            key: vec![KeyColumn { name: "id".into(), type_: "public.citext".into() }],
            operators: vec!["public".into()],
        }
    }

    #[test]
    fn questions_come_as_they_were_put() {
        let range = |after: Option<Key>| Range { after, upto: vec!["z".into(), "".into()] };
        let asks = [
            Ask::Begin(source()),
            Ask::Rows {
                source: source(),
                range: range(Some(vec!["a".into(), "1".into()])),
                condition: Some("\"id\" > 1".into()),
                rows_max: Some(5),
            },
            Ask::Rows { source: source(), range: range(None), condition: None, rows_max: None },
            Ask::Last(source()),
            Ask::Cut { source: source(), range: range(None), rows: 9 },
            Ask::End,
        ];
        for ask in asks {
            let message = ask_out(ask.clone()).message.expect("a message");
            assert_eq!(ask_in(message), Some(ask));
        }
        let without = v1::ReadRows { table: Some(source_out(source())), ..v1::ReadRows::default() };
        assert_eq!(ask_in(Down::Rows(without)), None, "a range is missing");
    }

    #[test]
    fn answers_come_as_they_were_given() {
        let begun = Begun {
            visibility: "10:20:14".parse().expect("a snapshot"),
            high: Lsn(9),
            files: "1:5".into(),
            shape: "s t".into(),
        };
        let not_read = NotRead { then: Then::Later, failure: Failure::transient("locked") };
        let answers = [
            Answer::Begun(begun),
            Answer::Rows("1\ta\n".into()),
            Answer::Key(Some(vec!["1".into()])),
            Answer::Key(None),
            Answer::Done,
            Answer::NotRead(not_read),
        ];
        for answer in answers {
            let said = answer_out(answer.clone()).message.expect("a message");
            let came = format!("{:?}", answer_in("w1", said).expect("an answer"));
            assert_eq!(came.replace("on node w1: ", ""), format!("{answer:?}"));
        }
        let wrong = v1::Begun { visibility: "no".into(), ..v1::Begun::default() };
        assert!(answer_in("w1", Up::Begun(wrong)).is_err());
    }
}
