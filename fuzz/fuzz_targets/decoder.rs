//! Any bytes as a buffer of the stream; every description is answered from itself. The first byte picks the form of values.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use wal::decoder::{Decoder, Options, Step};
use wal::relation::RelationDescription;
use wal::types::Type;
use wal::{Column, Table};

fn complete(description: &RelationDescription) -> Arc<Table> {
    let columns = description.columns.iter().map(|column| Column {
        name: column.name.clone(),
        type_: Arc::new(Type::unknown(column.type_oid)),
        type_modifier: column.type_modifier,
        not_null: false,
        default: None,
        in_identity: column.in_identity,
    });
    Arc::new(Table {
        oid: description.oid,
        version: description.version,
        schema: description.schema.clone(),
        name: description.name.clone(),
        identity: description.identity,
        columns: columns.collect(),
        key: Vec::new(),
        unique: Vec::new(),
    })
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, data)) = data.split_first() else { return };
    let binary = (choice & 1 != 0).then_some(180_000);
    let mut decoder = Decoder::new(Options { binary, ..Options::default() });
    let mut step = decoder.decode(Bytes::copy_from_slice(data));
    loop {
        match step {
            Ok(Step::Describe(description)) => {
                decoder.learn(complete(&description));
                step = decoder.resume();
            }
            Ok(Step::Done(batch)) => {
                for change in &batch.changes {
                    let columns = batch.table(change).columns.len();
                    if let Some(new) = change.new {
                        assert_eq!(batch.tuple(new).iter().count(), columns);
                    }
                    if let Some(old) = change.old {
                        assert_eq!(batch.tuple(old.span()).iter().count(), columns);
                    }
                }
                return;
            }
            Err(_) => return,
        }
    }
});
