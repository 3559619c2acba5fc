//! The decoder's actor: what waits behind a batch that cannot be decoded is passed on by nobody.

mod bench;

use actix::Actor;
use bench::Probe;
use bytes::Bytes;
use pipeline::batch::{Decoded, TableLearned, WalBatch};
use pipeline::decoder::Decoder;
use pipeline::describe::{Describe, Described, Describing};
use pipeline::planner::Plans;
use std::rc::Rc;
use std::sync::Arc;
use supervision::{Budget, Lifeline, Stage, StageFailed};
use tokio::sync::Notify;
use wal::Table;
use wal::relation::RelationDescription;
use wal::table::ReplicaIdentity;

/// Answers when it is told to, and with a table that was not asked for.
struct Wrong(Arc<Notify>);

impl Describe for Wrong {
    fn describe(&self, relation: RelationDescription) -> Describing {
        let go = Arc::clone(&self.0);
        Box::pin(async move {
            go.notified().await;
            let table = Arc::new(Table {
                oid: relation.oid,
                version: relation.version + 1,
                schema: relation.schema,
                name: relation.name,
                identity: ReplicaIdentity::Full,
                columns: Vec::new(),
                key: Vec::new(),
                unique: Vec::new(),
            });
            Ok(Described { table, plans: Plans::default(), inference: None })
        })
    }
}

/// XLogData in CopyData (PostgreSQL, "Streaming Replication Protocol").
fn frame(payload: &[u8]) -> Vec<u8> {
    copy_data(&[b"w".as_slice(), &[0; 24], payload].concat())
}

fn copy_data(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(4 + message.len()).expect("a short message");
    [b"d".as_slice(), &length.to_be_bytes(), message].concat()
}

/// A row of a relation that has to be described first.
fn row() -> Bytes {
    let begin = [b"B".as_slice(), &[0, 0, 0, 0, 0, 0, 1, 0], &[0; 8], &[0, 0, 0, 9]].concat();
    let relation = [b"R\0\0\0\x07public\0t\0f\0\x01\x01a\0".as_slice(), &[0, 0, 0, 23], &[0xFF; 4]];
    let insert = b"I\0\0\0\x07N\0\x01t\0\0\0\x011";
    [frame(&begin), frame(&relation.concat()), frame(insert)].concat().into()
}

/// A keepalive says how far the server is: alone it can be decoded.
fn keepalive() -> Bytes {
    let message = [b"k".as_slice(), &[0, 0, 0, 0, 0, 0, 2, 0], &[0; 8], &[0]].concat();
    copy_data(&message).into()
}

#[actix_rt::test]
async fn what_waits_behind_a_failure_is_not_passed_on() {
    let (decoded, mut batches) = Probe::<Decoded>::start_probe();
    let (learned, _tables) = Probe::<TableLearned>::start_probe();
    let (guardian, mut failed) = Probe::<StageFailed>::start_probe();
    let go = Arc::new(Notify::new());
    let core = wal::decoder::Decoder::new(wal::decoder::Options::default());
    let describe = Rc::new(Wrong(Arc::clone(&go)));
    let line = Lifeline::new(guardian, 3, Stage::Decoder);
    let decoder = Decoder::new(core, describe, decoded, learned, None, line).start();
    let budget = Budget::new(1 << 10);
    for bytes in [row(), keepalive(), keepalive()] {
        let credit = budget.take(1).await;
        decoder.send(WalBatch { bytes, credit }).await.expect("taken");
    }
    go.notify_one();
    let failure = failed.recv().await.expect("a failure");
    assert_eq!((failure.stage, failure.generation), (Stage::Decoder, 3));
    assert!(failure.cause.contains("learned"), "{}", failure.cause);
    // All that it held ends with it, and so does the way to whoever follows.
    let passed = batches.recv().await;
    assert!(passed.is_none(), "{passed:?}");
}
