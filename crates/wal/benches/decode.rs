//! Cost of decoding one change: 1,000 inserts of 200 bytes in transactions of 100; of texts, and of values in binary form
//! that become the same texts or those of other types.

#[path = "../tests/encode/mod.rs"]
mod encode;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use encode::{Value, knowing, rows, text};
use std::hint::black_box;
use wal::copy::append_tuple;
use wal::decoder::{Decoder, Options};
use wal::types::oid;

const CHANGES: u64 = 1000;

fn buffer(values: &[Value]) -> Bytes {
    rows(CHANGES, values).into()
}

/// A decoder that knows the table.
fn decoder(binary: Option<u32>, types: [u32; 8]) -> Decoder {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let columns: Vec<_> = names.into_iter().zip(types).collect();
    knowing(Options { binary, ..Options::default() }, &columns)
}

/// A row of many types, as the server sends it in binary form.
fn mixed() -> ([u32; 8], Vec<Value>) {
    let types = [
        oid::INT8,
        oid::INT4,
        oid::TIMESTAMPTZ,
        oid::NUMERIC,
        oid::FLOAT8,
        oid::BOOL,
        oid::UUID,
        oid::TEXT,
    ];
    let numeric = [3_i16, 1, 0, 2, 12, 3456, 7800].map(i16::to_be_bytes).concat();
    let values = vec![
        123_456_789_i64.to_be_bytes().to_vec(),
        42_i32.to_be_bytes().to_vec(),
        799_999_999_123_456_i64.to_be_bytes().to_vec(),
        numeric,
        0.1_f64.to_be_bytes().to_vec(),
        vec![1],
        vec![0xA5; 16],
        vec![b'v'; 100],
    ];
    (types, values.into_iter().map(Value::Binary).collect())
}

fn decode(criterion: &mut Criterion) {
    let columns = vec![text(&"v".repeat(24)); 8];
    let mut decoder_of_texts = decoder(None, [oid::TEXT; 8]);
    let bytes = buffer(&columns);
    let mut group = criterion.benchmark_group("wal");
    group.throughput(Throughput::Elements(CHANGES));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| black_box(decoder_of_texts.decode(black_box(bytes.clone()))));
    });
    let binary = vec![Value::Binary(vec![b'v'; 24]); 8];
    let (types, mixed) = mixed();
    let cases = [
        ("decode_binary_texts", [oid::TEXT; 8], buffer(&binary)),
        ("decode_binary_types", types, buffer(&mixed)),
    ];
    for (name, types, bytes) in cases {
        let mut decoder = decoder(Some(180_000), types);
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(decoder.decode(black_box(bytes.clone()))));
        });
    }
    group.bench_function("scan", |bencher| {
        bencher.iter(|| black_box(wal::frame::scan(black_box(&bytes))));
    });
    let line = vec!["v".repeat(24); 8].join("\t") + "\n";
    group.throughput(Throughput::Elements(1));
    let mut out = bytes::BytesMut::with_capacity(1 << 10);
    group.bench_function("copy", |bencher| {
        bencher.iter(|| {
            out.clear();
            black_box(append_tuple(black_box(line.as_bytes()), 8, &mut out))
        });
    });
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
