//! Tables from their events, and the comparison with the server's.

use super::{Kind, Promises, Read, Report, TableName, by_partition, by_position};
use crate::catalog::{Contents, Shape};
use crate::decode::decode;
use crate::event::Event;
use crate::sql::Row;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Rows of one table in one stream of events.
#[derive(Default)]
struct Rows {
    /// With a key.
    by_key: HashMap<Row, Row>,
    /// Keys of rows whose state was read by a snapshot.
    read: HashSet<Row>,
    read_again: usize,
    /// Without one: how many of each.
    counted: HashMap<Row, usize>,
}

type Tables<'a> = HashMap<&'a TableName, Vec<Rows>>;

/// Plays all events and compares what is left with what the server has.
pub(super) fn rebuild(
    promises: Promises,
    reads: &[Read<'_>],
    shapes: &HashMap<TableName, &Contents>,
    report: &mut Report,
) {
    let mut tables: Tables<'_> = HashMap::new();
    let mut snapshots: HashSet<&str> = HashSet::new();
    let streams: Vec<_> = if promises.partitions_kept {
        by_partition(reads).into_values().collect()
    } else {
        by_position(reads).into_values().collect()
    };
    for indexes in streams {
        let mut rows: HashMap<&TableName, Rows> = HashMap::new();
        let mut tombstone_due: Option<&Event<'_>> = None;
        for &index in &indexes {
            let read = &reads[index];
            tombstone(read, &mut tombstone_due, report);
            let Some(event) = &read.event else { continue };
            snapshots.extend(event.snapshot.as_deref());
            let name = (event.schema.clone(), event.table.clone());
            let Some((name, contents)) = shapes.get_key_value(&name) else {
                report.add(Kind::Unreadable, read.record, format!("no such table: {name:?}"));
                continue;
            };
            let result = rows.entry(name).or_default().play(promises, event, &contents.shape);
            if let Err((kind, text)) = result {
                report.add(kind, read.record, format!("{} {text}", event.op));
            }
        }
        if let Some(event) = tombstone_due {
            report.add(Kind::Tombstone, event.record, "no tombstone follows this delete");
        }
        for (name, rows) in rows {
            report.read_again += rows.read_again;
            tables.entry(name).or_default().push(rows);
        }
    }
    report.snapshots = snapshots.len();
    for (name, contents) in shapes {
        compare(contents, tables.remove(name).unwrap_or_default(), report);
    }
}

/// A delete is followed by a tombstone of its key, and nothing else is.
fn tombstone<'a>(read: &'a Read<'_>, due: &mut Option<&'a Event<'a>>, report: &mut Report) {
    match (due.take(), &read.event) {
        (Some(delete), None) if delete.record.key == read.record.key => {}
        (Some(delete), _) => {
            report.add(Kind::Tombstone, delete.record, "no tombstone follows this delete");
        }
        (None, None) => {
            report.add(Kind::Tombstone, read.record, "no delete comes before this tombstone");
        }
        (None, Some(_)) => {}
    }
    if let Some(event) = &read.event
        && event.op == 'd'
    {
        *due = Some(event);
    }
}

type Played = Result<(), (Kind, String)>;

impl Rows {
    fn play(&mut self, promises: Promises, event: &Event<'_>, shape: &Shape) -> Played {
        match event.op {
            't' => {
                // Also what announces that an interrupted snapshot begins again.
                *self = Self { read_again: self.read_again, ..Self::default() };
                return Ok(());
            }
            'r' | 'c' | 'u' | 'd' => {}
            op => return Err((Kind::Unreadable, format!("is no operation: {op}"))),
        }
        let after = row(shape, &event.after)?;
        let before = if promises.identity_full { row(shape, &event.before)? } else { None };
        let (has_before, has_after) = (matches!(event.op, 'u' | 'd'), event.op != 'd');
        if has_after != after.is_some()
            || (promises.identity_full && has_before != before.is_some())
        {
            return Err((Kind::Unreadable, "has not the rows that its operation needs".into()));
        }
        if shape.key.is_empty() {
            if event.key != Value::Null {
                return Err((Kind::Unreadable, format!("has a key: {}", event.key)));
            }
            self.play_counted(before, after)
        } else {
            let key = key(shape, &event.key)?;
            let own =
                |row: &Row| shape.key.iter().map(|&index| row[index].clone()).collect::<Row>();
            if [&before, &after].into_iter().flatten().any(|row| own(row) != key) {
                return Err((
                    Kind::Unreadable,
                    format!("has a key that is not its row's: {key:?}"),
                ));
            }
            self.play_keyed(promises, &key, before.as_ref(), after, event.op)
        }
    }

    fn play_keyed(
        &mut self,
        promises: Promises,
        key: &Row,
        before: Option<&Row>,
        after: Option<Row>,
        op: char,
    ) -> Played {
        let was = self.by_key.remove(key);
        let was_read = self.read.remove(key);
        if op == 'r' {
            self.read.insert(key.clone());
        }
        if promises.beside_stream && op == 'r' && was.is_some() && was == after {
            self.read_again += usize::from(was_read);
            self.by_key.extend(after.map(|after| (key.clone(), after)));
            return Ok(());
        }
        if let Some(after) = after {
            self.by_key.insert(key.clone(), after);
        }
        match (op, was) {
            ('r' | 'c', Some(_)) => Err((Kind::InsertedTwice, format!("{key:?}"))),
            ('u' | 'd', None) if promises.beside_stream => Ok(()),
            ('u' | 'd', None) => Err((Kind::RowUnknown, format!("{key:?}"))),
            ('u' | 'd', Some(was)) if before.is_some_and(|before| *before != was) => {
                Err((Kind::BeforeDiffers, format!("{key:?}: {before:?} was {was:?}")))
            }
            _ => Ok(()),
        }
    }

    fn play_counted(&mut self, before: Option<Row>, after: Option<Row>) -> Played {
        if let Some(after) = after {
            *self.counted.entry(after).or_default() += 1;
        }
        let Some(before) = before else { return Ok(()) };
        match self.counted.get_mut(&before) {
            Some(count) => {
                *count -= 1;
                if *count == 0 {
                    self.counted.remove(&before);
                }
                Ok(())
            }
            None => Err((Kind::RowUnknown, format!("{before:?}"))),
        }
    }
}

fn row(shape: &Shape, value: &Value) -> Result<Option<Row>, (Kind, String)> {
    let Some(members) = value.as_object() else { return Ok(None) };
    let wrong = |text: String| (Kind::Unreadable, text);
    // Leaves of a partition tree may order their columns otherwise.
    let names: BTreeSet<&str> = members.keys().map(String::as_str).collect();
    let expected: BTreeSet<&str> =
        shape.columns.iter().map(|column| column.name.as_str()).collect();
    if names != expected {
        return Err(wrong(format!("columns {names:?} in place of {expected:?}")));
    }
    let value = |column: &crate::catalog::Column| {
        decode(&column.form, &members[&column.name])
            .map_err(|problem| wrong(format!("{}: {problem}", column.name)))
    };
    shape.columns.iter().map(value).collect::<Result<Row, _>>().map(Some)
}

fn key(shape: &Shape, value: &Value) -> Result<Row, (Kind, String)> {
    let wrong = || (Kind::Unreadable, format!("has a key of other columns: {value}"));
    let members = value.as_object().ok_or_else(wrong)?;
    let columns: Vec<_> = shape.key.iter().map(|&index| &shape.columns[index]).collect();
    if !members.keys().eq(columns.iter().map(|column| &column.name)) {
        return Err(wrong());
    }
    let part = |column: &&crate::catalog::Column| {
        decode(&column.form, &members[&column.name])
            .map_err(|problem| (Kind::Unreadable, problem.to_string()))
    };
    columns.iter().map(part).collect()
}

fn compare(contents: &Contents, partitions: Vec<Rows>, report: &mut Report) {
    let Contents { shape, rows } = contents;
    let name = format!("{}.{}", shape.schema, shape.table);
    report.rows += rows.len();
    if shape.key.is_empty() {
        let mut left: HashMap<Row, usize> = HashMap::new();
        for (row, count) in partitions.into_iter().flat_map(|rows| rows.counted) {
            *left.entry(row).or_default() += count;
        }
        for row in rows {
            match left.get_mut(row) {
                Some(count) if 0 < *count => *count -= 1,
                _ => report.add_row(Kind::Missing, format!("{name}: {row:?}")),
            }
        }
        for (row, count) in left.into_iter().filter(|(_, count)| 0 < *count) {
            report.add_row(Kind::Phantom, format!("{name}: {count} times {row:?}"));
        }
        return;
    }
    let mut left: HashMap<Row, Row> = HashMap::new();
    for (key, row) in partitions.into_iter().flat_map(|rows| rows.by_key) {
        if left.contains_key(&key) {
            report.add_row(Kind::InsertedTwice, format!("{name}: {key:?} in two partitions"));
        }
        left.insert(key, row);
    }
    for row in rows {
        let key: Row = shape.key.iter().map(|&index| row[index].clone()).collect();
        match left.remove(&key) {
            None => report.add_row(Kind::Missing, format!("{name}: {row:?}")),
            Some(found) if found != *row => {
                report
                    .add_row(Kind::Altered, format!("{name}: {}", difference(shape, &found, row)));
            }
            Some(_) => {}
        }
    }
    for row in left.into_values() {
        report.add_row(Kind::Phantom, format!("{name}: {row:?}"));
    }
}

fn difference(shape: &Shape, found: &Row, row: &Row) -> String {
    let key: Vec<_> = shape.key.iter().map(|&index| row[index].as_deref()).collect();
    let columns =
        shape.columns.iter().zip(found.iter().zip(row)).filter(|(_, (found, row))| found != row);
    let told: Vec<_> = columns
        .map(|(column, (found, row))| format!("{} is {found:?} in place of {row:?}", column.name))
        .collect();
    format!("{key:?}: {}", told.join("; "))
}
