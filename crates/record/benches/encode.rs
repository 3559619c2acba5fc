//! Rows → records of each format: narrow, of 200 bytes, and of 40 columns; and what a transform adds.

mod rows;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use record::encode::Encoder;
use record::plan::{TablePlan, TaskPlan};
use record::route::{Piece, Scratch};
use record::schema::Ids;
use rows::{Cell, ORDER, ROWS, batch, route, table, task_with};
use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use wal::types::oid;

const NARROW: [Cell; 2] = [("int8", oid::INT8, "1001"), ("text", oid::TEXT, "a short note")];

fn wide() -> Vec<Cell> {
    ORDER.into_iter().cycle().take(40).collect()
}

const WITH_SCHEMAS: &str = ", format_options: {schemas: true}";
const FORMATS: [&str; 8] = [
    "debezium-json",
    "debezium-json, format_options: {schemas: true}",
    "canal-json",
    "maxwell-json",
    "shareplex-json",
    "debezium-avro",
    "dts-avro",
    "protobuf",
];

fn task(format: &str) -> TaskPlan {
    task_with(format, "")
}

fn encode(criterion: &mut Criterion) {
    let wide = wide();
    for (name, cells) in [("2 columns", &NARROW[..]), ("200 bytes", &ORDER), ("40 columns", &wide)]
    {
        let batch = batch(table(cells), cells);
        let mut scratch = Scratch::default();
        let mut pieces: Vec<Piece> = Vec::new();
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(ROWS));
        for format in FORMATS {
            let task = task(format);
            let plan =
                TablePlan::new(Arc::clone(&batch.tables[0]), &task, 0, 12, 8).expect("a plan");
            if let Some(schemas) = plan.schemas() {
                schemas.taken_first(Ids { key: Some(1), value: 2 });
            }
            // Routing does not depend on the format.
            if format == FORMATS[0] {
                group.bench_function("route", |bencher| {
                    bencher.iter(|| {
                        route(&plan, &batch, &mut scratch, &mut pieces);
                        black_box(pieces.len())
                    });
                });
            }
            route(&plan, &batch, &mut scratch, &mut pieces);
            let mut encoder = Encoder::new(&task);
            let mut bytes = 0;
            let sink = &mut |record: record::Record<'_>| {
                bytes += record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
                Ok::<(), Infallible>(())
            };
            encoder.encode(&plan, &batch, &pieces[0], 0, sink).expect("a row");
            let name = format.replace(WITH_SCHEMAS, " with schemas");
            group.bench_function(format!("{name}, {bytes} bytes"), |bencher| {
                bencher.iter(|| {
                    let mut bytes = 0;
                    for piece in &pieces {
                        let sink = &mut |record: record::Record<'_>| {
                            bytes += record.value.map_or(0, <[u8]>::len) + record.headers.len();
                            Ok::<(), Infallible>(())
                        };
                        encoder
                            .encode(&plan, &batch, piece, 1_709_605_231_004_017, sink)
                            .expect("rows");
                    }
                    black_box(bytes)
                });
            });
        }
        group.finish();
    }
}

/// Of rows of 200 bytes as Debezium JSON; the first is none.
const TRANSFORMS: [(&str, &str); 4] = [
    ("none", ""),
    ("condition", "row.column_2 > 9000 ? drop : keep"),
    ("one column", "{'column_9': row.column_9.upperAscii()}"),
    (
        "three steps",
        "[row.column_9 == 'draft' ? drop : keep, {'column_9': row.column_9 + ' ' + op}, \
         double(row.column_5) > 100.0 ? {'column_4': 'large'} : keep]",
    ),
];

fn transform(criterion: &mut Criterion) {
    let batch = batch(table(&ORDER), &ORDER);
    let (mut scratch, mut pieces) = (Scratch::default(), Vec::new());
    let mut group = criterion.benchmark_group("transform");
    group.throughput(Throughput::Elements(ROWS));
    for (name, text) in TRANSFORMS {
        let task = task_with("debezium-json", text);
        let plan = TablePlan::new(Arc::clone(&batch.tables[0]), &task, 0, 12, 8).expect("a plan");
        route(&plan, &batch, &mut scratch, &mut pieces);
        let mut encoder = Encoder::new(&task);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut bytes = 0;
                for piece in &pieces {
                    let sink = &mut |record: record::Record<'_>| {
                        bytes += record.value.map_or(0, <[u8]>::len);
                        Ok::<(), Infallible>(())
                    };
                    encoder.encode(&plan, &batch, piece, 0, sink).expect("rows");
                }
                black_box(bytes)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, encode, transform);
criterion_main!(benches);
