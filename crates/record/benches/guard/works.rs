//! The kinds of work whose cost is guarded.

use crate::encode::{self, Value, knowing};
use crate::rows::{ORDER, ROWS, batch, route, table, task_with};
use bytes::Bytes;
use record::encode::Encoder;
use record::plan::TablePlan;
use record::route::{Piece, Scratch};
use record::schema::Ids;
use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use wal::ChangeBatch;
use wal::decoder::{Decoder, Options, Step};

/// A decoder that knows the table, and 1,000 of its rows in transactions of 100.
fn stream(binary: bool) -> (Decoder, Bytes) {
    let columns: Vec<_> = ORDER.iter().map(|(name, oid, _)| (*name, *oid)).collect();
    let options = Options { binary: binary.then_some(180_000), ..Options::default() };
    let values = if binary { binary_values() } else { texts() };
    (knowing(options, &columns), encode::rows(ROWS, &values).into())
}

fn texts() -> Vec<Value> {
    ORDER.iter().map(|(_, _, text)| encode::text(text)).collect()
}

/// The row of [`ORDER`] as the server sends it in binary form.
fn binary_values() -> Vec<Value> {
    let text = |index: usize| ORDER[index].2.as_bytes().to_vec();
    let values = vec![
        123_456_789_i64.to_be_bytes().to_vec(),
        vec![0xA5; 16],
        4711_i32.to_be_bytes().to_vec(),
        text(3),
        text(4),
        [2_i16, 0, 0, 2, 149, 9000].map(i16::to_be_bytes).concat(),
        vec![1],
        762_920_430_123_456_i64.to_be_bytes().to_vec(),
        762_920_430_500_000_i64.to_be_bytes().to_vec(),
        text(9),
    ];
    values.into_iter().map(Value::Binary).collect()
}

/// Does it for [`ROWS`] rows.
pub(crate) type Work = Box<dyn FnMut()>;

fn decoding(binary: bool) -> Work {
    let (mut decoder, bytes) = stream(binary);
    Box::new(move || {
        let Ok(Step::Done(batch)) = decoder.decode(bytes.clone()) else { panic!("not decoded") };
        assert_eq!(batch.changes.len() as u64, ROWS);
        black_box(batch);
    })
}

fn plan(batch: &ChangeBatch, format: &str) -> TablePlan {
    let task = task_with(format, "");
    let plan = TablePlan::new(Arc::clone(&batch.tables[0]), &task, 0, 12, 8).expect("a plan");
    if let Some(schemas) = plan.schemas() {
        schemas.taken_first(Ids { key: Some(1), value: 2 });
    }
    plan
}

fn routing() -> Work {
    let batch = batch(table(&ORDER), &ORDER);
    let plan = plan(&batch, "debezium-json");
    let (mut scratch, mut pieces) = (Scratch::default(), Vec::new());
    Box::new(move || {
        route(&plan, &batch, &mut scratch, &mut pieces);
        black_box(&pieces);
    })
}

fn encoding(format: &'static str) -> Work {
    let batch = batch(table(&ORDER), &ORDER);
    let plan = plan(&batch, format);
    let (mut scratch, mut pieces) = (Scratch::default(), Vec::<Piece>::new());
    route(&plan, &batch, &mut scratch, &mut pieces);
    let mut encoder = Encoder::new(&task_with(format, ""));
    Box::new(move || {
        let mut bytes = 0;
        let sink = &mut |record: record::record::Record<'_>| {
            bytes += record.value.map_or(0, <[u8]>::len) + record.headers.len();
            Ok::<(), Infallible>(())
        };
        for piece in &pieces {
            encoder.encode(&plan, &batch, piece, 1_709_605_231_004_017, sink).expect("a row");
        }
        black_box(bytes);
    })
}

/// Kinds of work, and how often each is done in a turn of about two milliseconds.
pub(crate) fn works() -> Vec<(&'static str, usize, Work)> {
    vec![
        ("decode text", 20, decoding(false)),
        ("decode binary", 5, decoding(true)),
        ("route", 40, routing()),
        ("encode debezium-json", 5, encoding("debezium-json")),
        ("encode debezium-avro", 5, encoding("debezium-avro")),
    ]
}
