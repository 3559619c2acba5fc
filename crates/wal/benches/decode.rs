//! Cost of decoding one change: 1,000 inserts of 200 bytes in transactions of 100.

#[path = "../tests/encode/mod.rs"]
mod encode;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use encode::{begin, commit, complete, insert, relation, text, truncate, xlog_data};
use std::hint::black_box;
use wal::copy::append_tuple;
use wal::decoder::{Decoder, Options, Step};

const CHANGES: u64 = 1000;

fn buffer() -> Bytes {
    let value = "v".repeat(24);
    let columns: Vec<_> = (0..8).map(|_| text(&value)).collect();
    let mut out = Vec::new();
    for transaction in 1..=10u64 {
        let lsn = transaction * 0x1_0000;
        out.extend(xlog_data(lsn, &begin(lsn, 0, 1)));
        for change in 0..CHANGES / 10 {
            out.extend(xlog_data(lsn - 0x1000 + change, &insert(7, &columns)));
        }
        out.extend(xlog_data(lsn + 8, &commit(lsn, lsn + 8, 0)));
    }
    out.into()
}

fn decode(criterion: &mut Criterion) {
    let mut decoder = Decoder::new(Options::default());
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let first = [begin(1, 0, 1), relation(7, "t", &names), truncate(&[7], 0), commit(1, 2, 0)];
    let first: Vec<u8> = first.iter().flat_map(|message| xlog_data(1, message)).collect();
    let Ok(Step::Describe(description)) = decoder.decode(first.into()) else {
        panic!("no description was asked for")
    };
    decoder.learn(complete(&description));
    decoder.resume().expect("the table was learned");
    let bytes = buffer();
    let mut group = criterion.benchmark_group("wal");
    group.throughput(Throughput::Elements(CHANGES));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| black_box(decoder.decode(black_box(bytes.clone()))));
    });
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
