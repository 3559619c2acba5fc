//! Everything of a table version's records that is the same for each row, as bytes.

use super::item;
use super::kind::{self, Kind};
use crate::encode::debezium::Work;
use crate::encode::{RowError, ValueError, avro};
use crate::plan::TaskPlan;
use crate::row::Row;
use crate::{identifier, json};
use config::{ObjectName, Unrepresentable};
use wal::{Datum, Table};

/// Prepared bytes of one table version.
#[derive(Debug)]
pub(crate) struct Template {
    columns: Box<[ColumnTemplate]>,
    /// `source`.
    pub(super) source: Box<[u8]>,
    /// `objectName` and `processTimestamps`.
    pub(super) object: Box<[u8]>,
    /// `tags` and `fields` of a row.
    pub(super) row_head: Box<[u8]>,
    /// From `tags` to `afterImages` of a TRUNCATE.
    pub(super) truncate: Box<[u8]>,
    null_instead: bool,
}

#[derive(Debug)]
struct ColumnTemplate {
    kind: Kind,
    in_identity: bool,
}

/// Index of `PostgreSQL` in the enum `SourceType`.
const SOURCE_TYPE: i64 = 3;
/// The branch of the array, in the unions `fields`, `beforeImages` and `afterImages`.
const ARRAY: i64 = 2;
/// The key's name in `pk_uk_info`.
const PRIMARY: &str = "PRIMARY";

impl Template {
    pub(crate) fn new(table: &Table, key: &[usize], task: &TaskPlan) -> Self {
        let source = source(task);
        let mut object = Vec::new();
        avro::long(1, &mut object);
        avro::string(&object_name(table, task), &mut object);
        avro::long(0, &mut object);
        let mut row_head = tags(table, key);
        avro::long(ARRAY, &mut row_head);
        let mut fields = Vec::new();
        let mut columns = Vec::with_capacity(table.columns.len());
        for column in &table.columns {
            let (kind, number) = kind::describe(&column.type_);
            avro::string(&column.name, &mut fields);
            // `int` has no room for the upper half of OIDs: they come out negative, as in Java.
            avro::long(i64::from(number.cast_signed()), &mut fields);
            columns.push(ColumnTemplate { kind, in_identity: column.in_identity });
        }
        array(table.columns.len(), &fields, &mut row_head);
        let mut truncate = Vec::new();
        // No tags, fields and images before; the text after.
        for branch in [0, 0, 0, 1] {
            avro::long(branch, &mut truncate);
        }
        avro::string(&identifier::truncate(table), &mut truncate);
        Self {
            columns: columns.into(),
            source: source.into(),
            object: object.into(),
            row_head: row_head.into(),
            truncate: truncate.into(),
            null_instead: task.unrepresentable == Unrepresentable::Null,
        }
    }

    /// Writes an image: an item for each column. `is_key`: only the columns of the replica identity are
    /// known.
    pub(super) fn image(
        &self,
        row: &Row<'_>,
        is_key: bool,
        work: &mut Work,
        out: &mut Vec<u8>,
    ) -> Result<(), RowError> {
        avro::long(ARRAY, out);
        if self.columns.is_empty() {
            avro::long(0, out);
            return Ok(());
        }
        avro::length(self.columns.len(), out);
        let mut values = row.values();
        for (index, column) in self.columns.iter().enumerate() {
            let start = out.len();
            let written = match values.next().unwrap_or(Datum::Null) {
                _ if is_key && !column.in_identity => {
                    item::unknown(out);
                    Ok(())
                }
                Datum::Text(text) => item::write(column.kind, text, work, out),
                Datum::Null => {
                    item::null(out);
                    Ok(())
                }
                Datum::Unchanged => {
                    item::unknown(out);
                    Ok(())
                }
                Datum::Binary(_) => Err(ValueError::Binary),
            };
            match written {
                Err(error) if self.null_instead && error.is_of_value() => {
                    out.truncate(start);
                    item::null(out);
                }
                written => written.map_err(|error| RowError { column: index, error })?,
            }
        }
        avro::long(0, out);
        Ok(())
    }
}

/// `source`.
pub(crate) fn source(task: &TaskPlan) -> Vec<u8> {
    let mut source = Vec::new();
    avro::long(SOURCE_TYPE, &mut source);
    avro::string(&task.server_version, &mut source);
    source
}

/// One block, which an empty array does without.
fn array(count: usize, items: &[u8], out: &mut Vec<u8>) {
    if 0 < count {
        avro::length(count, out);
        out.extend_from_slice(items);
    }
    avro::long(0, out);
}

/// Parts joined by dots; a dot inside of a part is written as `\u002E`, and nothing else is escaped.
fn object_name(table: &Table, task: &TaskPlan) -> String {
    let parts = [&*task.database, &*table.schema, &*table.name];
    let parts = match task.options.object_name {
        ObjectName::Database => &parts[..],
        ObjectName::Schema => &parts[1..],
    };
    joined(parts)
}

/// Parts of an object's name.
pub(super) fn joined(parts: &[&str]) -> String {
    parts.iter().map(|part| part.replace('.', "\\u002E")).collect::<Vec<_>>().join(".")
}

/// One tag: the key, and what else tells rows apart. A table without either gets another: readers take a
/// record of up to 48 bytes for a filler, and a row of few short columns would be one.
fn tags(table: &Table, key: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    avro::long(1, &mut out);
    // An index of the same columns says nothing more; one of this name would be taken for the key.
    let others = table.unique.iter().filter(|it| it.columns != key && &*it.name != PRIMARY);
    let others = others.map(|it| (&*it.name, &it.columns[..]));
    let all = Some((PRIMARY, key)).filter(|_| !key.is_empty()).into_iter().chain(others);
    let mut info = Vec::new();
    for (name, columns) in all {
        info.push(if info.is_empty() { b'{' } else { b',' });
        json::str(name, &mut info);
        info.push(b':');
        json::strings(columns.iter().map(|&index| &*table.columns[index].name), &mut info);
    }
    if info.is_empty() {
        avro::string("keyless", &mut out);
        avro::string("true", &mut out);
    } else {
        info.push(b'}');
        avro::string("pk_uk_info", &mut out);
        avro::bytes(&info, &mut out);
    }
    avro::long(0, &mut out);
    out
}
