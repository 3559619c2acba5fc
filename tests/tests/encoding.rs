//! Every kind of value through the encoder and back by the checker's own decoder, against what the
//! server says that it holds: no process, no Kafka, so that a fault of rendering is seen as one.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use tests::catalog::contents;
use tests::checker::{Promises, Report, check};
use tests::reader::{Record, Topics};
use tests::scene::Scene;
use tests::sql::{Sql, quoted};
use tests::workload;
use wal::copy::SnapshotBatch;
use wal::table::ReplicaIdentity;
use wal::types::{Kind, Type};
use wal::{Column, Lsn, Table};

/// Types of the database by OID, read one after the other.
struct Types<'a> {
    sql: &'a mut Sql,
}

impl Types<'_> {
    fn get(&mut self, oid: u32) -> Arc<Type> {
        let row = self
            .sql
            .rows(&format!(
                "SELECT n.nspname, t.typname, t.typtype, t.typelem, t.typbasetype, t.typtypmod, \
                 t.typcategory = 'A' AND t.typlen = -1, \
                 (SELECT typdelim FROM pg_type e WHERE e.oid = t.typelem) \
                 FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.oid = {oid}"
            ))
            .remove(0);
        let text = |index: usize| row[index].clone().unwrap_or_default();
        let number = |index: usize| text(index).parse::<u32>().expect("an OID");
        let kind = match (text(2).as_str(), text(6).as_str()) {
            ("e", _) => Kind::Enum { labels: self.labels(oid) },
            ("d", _) => {
                let type_modifier = text(5).parse().expect("a modifier");
                Kind::Domain { base: self.get(number(4)), type_modifier }
            }
            ("c", _) => Kind::Composite { fields: Vec::new() },
            ("r", _) => Kind::Range { subtype: Type::builtin(0, "any").into() },
            ("m", _) => Kind::Multirange { range: Type::builtin(0, "any").into() },
            ("b", "t") => {
                Kind::Array { element: self.get(number(3)), delimiter: text(7).as_bytes()[0] }
            }
            _ => Kind::Base,
        };
        Arc::new(Type { oid, schema: text(0).into(), name: text(1).into(), kind })
    }

    fn labels(&mut self, oid: u32) -> Vec<Box<str>> {
        let query =
            format!("SELECT enumlabel FROM pg_enum WHERE enumtypid = {oid} ORDER BY enumsortorder");
        self.sql.rows(&query).into_iter().flatten().flatten().map(Into::into).collect()
    }
}

fn table(sql: &mut Sql, schema: &str, name: &str) -> Table {
    let attributes = sql.rows(&format!(
        "SELECT attname, atttypid, atttypmod, attnotnull FROM pg_attribute \
         WHERE attrelid = '{}.{}'::regclass AND 0 < attnum AND NOT attisdropped ORDER BY attnum",
        quoted(schema),
        quoted(name)
    ));
    let mut types = Types { sql };
    let mut column = |row: tests::sql::Row| {
        let text = |index: usize| row[index].clone().unwrap_or_default();
        Column {
            name: text(0).into(),
            type_: types.get(text(1).parse().expect("an OID")),
            type_modifier: text(2).parse().expect("a modifier"),
            not_null: text(3) == "t",
            default: None,
            in_identity: true,
        }
    };
    let columns: Vec<_> = attributes.into_iter().map(&mut column).collect();
    Table {
        oid: 1,
        version: 1,
        schema: schema.into(),
        name: name.into(),
        identity: ReplicaIdentity::Full,
        columns,
        key: vec![0],
        unique: Vec::new(),
    }
}

/// A row as COPY prints it.
fn line(row: &[Option<String>]) -> Vec<u8> {
    let escaped = |value: &Option<String>| match value {
        None => "\\N".to_owned(),
        Some(text) => text
            .replace('\\', "\\\\")
            .replace('\t', "\\t")
            .replace('\n', "\\n")
            .replace('\r', "\\r"),
    };
    let mut line = row.iter().map(escaped).collect::<Vec<_>>().join("\t");
    line.push('\n');
    line.into_bytes()
}

/// Encodes a table as a snapshot does, and checks what came of it.
fn carried(sql: &mut Sql, schema: &str, name: &str, options: &str) -> Report {
    let yaml = format!(
        "version: 1\ntask: t\nsource: {{hosts: [h], database: d, user: u}}\n\
         sink: {{brokers: [b], {options}}}\nobjects: [{{table: \"*.*\"}}]\n"
    );
    let task = config::Task::parse(&yaml).expect("a spec");
    let plan = record::plan::TaskPlan::new(&task, "d").expect("a plan");
    let table = Arc::new(table(sql, schema, name));
    let table_plan =
        record::plan::TablePlan::new(Arc::clone(&table), &plan, 0, 1, 1).expect("a plan");
    let rows = sql.rows(&format!("SELECT * FROM {}.{}", quoted(schema), quoted(name)));
    let mut batch = SnapshotBatch::new(table, Lsn(7), 0, 0);
    for row in &rows {
        batch.push(&line(row)).expect("a line of COPY");
    }
    let batch = batch.take();
    let mut encoder = record::encode::Encoder::new(&plan);
    let mut topics = Topics { partitions: BTreeMap::from([("t".into(), 1)]), records: Vec::new() };
    for change in 0..u32::try_from(batch.changes.len()).expect("few rows") {
        let piece = record::route::Piece {
            change,
            lane: 0,
            partition: 0,
            part: record::route::Part::Whole,
        };
        let mut keep = |record: record::Record<'_>| {
            let header = |(name, value): &(&str, &[u8])| ((*name).to_owned(), value.to_vec());
            topics.records.push(Record {
                topic: "t".into(),
                partition: 0,
                offset: i64::from(change),
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record.headers.iter().map(header).collect(),
            });
            Ok::<(), Infallible>(())
        };
        encoder
            .encode(&table_plan, &batch, &piece, 0, &mut keep)
            .unwrap_or_else(|error| panic!("{error}: {:?}", rows[change as usize]));
    }
    let mut expected = contents(sql);
    expected.retain(|it| it.shape.schema == schema && it.shape.table == name);
    check(Promises::default(), &topics, &expected)
}

#[test]
fn every_kind_of_value_comes_back_as_the_server_holds_it() {
    for server in ["postgres-11", "postgres-15", "postgres-18"] {
        let scene = Scene::new("encoding", server);
        let mut sql = scene.sql();
        workload::create(&mut sql);
        let report = carried(&mut sql, "shop", "kinds", "");
        report.assert_clean();
        assert!(5 < report.rows);
        carried(&mut sql, "Größe & Co", "Straße \"x\".y", "").assert_clean();
        carried(&mut sql, "shop", "documents", "").assert_clean();
    }
}
