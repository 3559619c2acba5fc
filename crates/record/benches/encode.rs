//! Rows → records of each format: narrow, of 200 bytes, and of 40 columns; and what a transform adds.

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use record::encode::Encoder;
use record::plan::{TablePlan, TaskPlan};
use record::route::{Piece, Scratch};
use record::schema::Ids;
use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use wal::change::{Operation, Span, Transaction};
use wal::table::ReplicaIdentity;
use wal::types::{Type, oid};
use wal::{Change, ChangeBatch, Column, Lsn, Table};

const ROWS: u64 = 1000;

type Cell = (&'static str, u32, &'static str);

const NARROW: [Cell; 2] = [("int8", oid::INT8, "1001"), ("text", oid::TEXT, "a short note")];

/// 200 bytes of values, as an order of a shop has them.
const ORDER: [Cell; 10] = [
    ("int8", oid::INT8, "123456789"),
    ("uuid", oid::UUID, "6ecd8c99-4036-403d-bf84-cf8400f67836"),
    ("int4", oid::INT4, "4711"),
    ("text", oid::TEXT, "Some customer, 12 Long Street, Smalltown"),
    ("varchar", oid::VARCHAR, "an order with a remark, to be packed as a present"),
    ("numeric", oid::NUMERIC, "149.90"),
    ("bool", oid::BOOL, "t"),
    ("timestamptz", oid::TIMESTAMPTZ, "2024-03-05 02:20:30.123456+00"),
    ("timestamp", oid::TIMESTAMP, "2024-03-05 02:20:30.5"),
    ("text", oid::TEXT, "open"),
];

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

fn task_with(format: &str, transform: &str) -> TaskPlan {
    let text = format!(
        "version: 1\ntask: shop\nsource: {{hosts: [h], database: appdb, user: u}}\n\
         sink: {{brokers: [b], format: {format}, registry: {{url: http://r}}}}\n\
         objects: [{{table: \"*.*\", operations: [insert], transform: \"{transform}\"}}]\n"
    );
    TaskPlan::new(&config::Task::parse(&text).expect("a spec"), "appdb").expect("a plan")
}

fn table(cells: &[Cell]) -> Table {
    let column = |(index, (name, oid, _)): (usize, &Cell)| Column {
        name: format!("column_{index}").into(),
        type_: Arc::new(Type::builtin(*oid, name)),
        // numeric(12,2)
        type_modifier: if *oid == oid::NUMERIC { (12 << 16 | 2) + 4 } else { -1 },
        not_null: index == 0,
        default: None,
        in_identity: index == 0,
    };
    Table {
        oid: 16_400,
        version: 1,
        schema: "public".into(),
        name: "orders".into(),
        identity: ReplicaIdentity::Default,
        columns: cells.iter().enumerate().map(column).collect(),
        key: vec![0],
        unique: Vec::new(),
    }
}

fn batch(table: Table, cells: &[Cell]) -> ChangeBatch {
    let mut bytes = Vec::new();
    let mut insert = |ordinal: u64| {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("small");
        let start = length(&bytes);
        bytes.extend_from_slice(&u16::try_from(cells.len()).expect("few").to_be_bytes());
        for (_, _, text) in cells {
            bytes.push(b't');
            bytes.extend_from_slice(&length(text.as_bytes()).to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        let new = Some(Span { start, end: length(&bytes) });
        let lsn = Lsn(27_440_072 + ordinal);
        let operation = Operation::Insert;
        Change { transaction: 0, table: 0, ordinal, lsn, operation, old: None, new }
    };
    let changes = (0..ROWS).map(&mut insert).collect();
    let transaction = Transaction {
        xid: 7341,
        commit_lsn: Lsn(27_440_016),
        previous_commit_lsn: Some(Lsn(27_440_000)),
        commit_time: 762_920_430_500_000,
        changes_count: Some(ROWS),
    };
    ChangeBatch {
        bytes: Bytes::from(bytes),
        changes,
        transactions: vec![transaction],
        tables: vec![Arc::new(table)],
        ..ChangeBatch::default()
    }
}

fn route(plan: &TablePlan, batch: &ChangeBatch, scratch: &mut Scratch, pieces: &mut Vec<Piece>) {
    pieces.clear();
    for change in 0..u32::try_from(ROWS).expect("few") {
        plan.route(batch, change, scratch, &mut |piece| pieces.push(piece));
    }
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
