//! What a row looks like in records: which columns, under which names, and what is added. Decided once per
//! table version; encoders see the [`Projection::view`] and tuples of it, and nothing of this.

use crate::encode::civil::Civil;
use crate::encode::clock;
use config::NameCase;
use std::collections::BTreeMap;
use std::sync::Arc;
use wal::change::Transaction;
use wal::types::{Type, oid};
use wal::{Column, Datum, Table, Tuple};

/// The rules of one object: `name_case` and `columns`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    case: NameCase,
    exclude: Vec<Box<str>>,
    rename: BTreeMap<Box<str>, Box<str>>,
    add: Vec<(Box<str>, Added)>,
}

/// What an added column holds.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Added {
    /// In the text form of its type.
    Constant(Box<str>, Of),
    CommitTime,
    Operation,
    Lsn,
    Schema,
    Table,
}

/// Type of a constant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Of {
    Text,
    Integer,
    Numeric,
    Boolean,
}

/// A rule cannot be carried out.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProjectionError {
    #[error(
        "columns.add.{name}: `{text}` is neither a constant ('text', 12, 1.5, true, false) nor one of \
         commit_time, operation, schema, table, lsn"
    )]
    Added { name: Box<str>, text: Box<str> },
    #[error(
        "columns.exclude: `{column}` is part of the message key, by which readers know rows; keep it, or \
         mask it"
    )]
    Key { column: Box<str> },
    #[error("two columns would be called `{name}`; rename one of them")]
    Names { name: Box<str> },
    #[error("no column would be left")]
    Empty,
}

/// Where the values of the records' rows come from, in their order.
#[derive(Debug)]
pub(crate) struct Projection {
    /// The table as records show it.
    pub(crate) view: Arc<Table>,
    /// The table as it is sent, with the names that its columns have in records.
    pub(crate) renamed: Arc<Table>,
    /// The message key in `view`, where it was in the table.
    pub(crate) key: Vec<usize>,
    values: Box<[Value]>,
}

#[derive(Debug)]
enum Value {
    /// Of the row.
    Sent(usize),
    Constant(Box<[u8]>),
    CommitTime,
    Operation,
    Lsn,
}

/// What added columns say of an event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment<'a> {
    pub(crate) transaction: &'a Transaction,
    pub(crate) operation: &'static str,
}

/// Days from 1970 to 2000.
const EPOCH_DAYS: i64 = 10_957;

impl Rules {
    pub(crate) fn new(object: &config::Object) -> Result<Self, ProjectionError> {
        let Some(columns) = &object.columns else {
            return Ok(Self { case: object.name_case, ..Self::default() });
        };
        let boxed = |text: &String| Box::<str>::from(text.as_str());
        let add = columns.add.iter().map(|(name, text)| {
            let added = Added::parse(text);
            let (name, text) = (boxed(name), boxed(text));
            added.map(|it| (name.clone(), it)).ok_or(ProjectionError::Added { name, text })
        });
        Ok(Self {
            case: object.name_case,
            exclude: columns.exclude.iter().map(boxed).collect(),
            rename: columns.rename.iter().map(|(from, to)| (boxed(from), boxed(to))).collect(),
            add: add.collect::<Result<_, _>>()?,
        })
    }

    /// The name in the case that the object asks for.
    pub(crate) fn cased(&self, name: &str) -> Box<str> {
        match self.case {
            NameCase::Source => name.into(),
            NameCase::Lower => name.to_lowercase().into(),
            NameCase::Upper => name.to_uppercase().into(),
        }
    }

    /// Names that the rules have and the table has not.
    pub(crate) fn missing<'a>(&'a self, table: &Table) -> Vec<&'a str> {
        let named = self.exclude.iter().chain(self.rename.keys()).map(|name| &**name);
        named.filter(|name| !table.columns.iter().any(|column| *column.name == **name)).collect()
    }

    /// What the rules make of a table; `None`: nothing. `key`: of the message.
    pub(crate) fn of(
        &self,
        table: &Table,
        key: &[usize],
    ) -> Result<Option<Projection>, ProjectionError> {
        let is_idle = self.exclude.is_empty() && self.rename.is_empty() && self.add.is_empty();
        if is_idle && self.case == NameCase::Source {
            return Ok(None);
        }
        let mut renamed = table.clone();
        renamed.schema = self.cased(&table.schema);
        renamed.name = self.cased(&table.name);
        for column in &mut renamed.columns {
            column.name = match self.rename.get(&column.name) {
                Some(name) => name.clone(),
                None => self.cased(&column.name),
            };
        }
        let is_kept = |index: &usize| !self.exclude.contains(&table.columns[*index].name);
        let kept: Vec<usize> = (0..table.columns.len()).filter(is_kept).collect();
        if let Some(&index) = key.iter().find(|index| !is_kept(index)) {
            return Err(ProjectionError::Key { column: table.columns[index].name.clone() });
        }
        let place = |index: &usize| kept.iter().position(|it| it == index);
        let mut columns: Vec<Column> =
            kept.iter().map(|&index| renamed.columns[index].clone()).collect();
        let mut values: Vec<Value> = kept.iter().map(|&index| Value::Sent(index)).collect();
        for (name, added) in &self.add {
            let (type_, value) = added.of(table);
            let in_identity = table.identity == wal::table::ReplicaIdentity::Full;
            let (name, type_) = (name.clone(), Arc::new(type_));
            let (type_modifier, not_null, default) = (-1, false, None);
            columns.push(Column { name, type_, type_modifier, not_null, default, in_identity });
            values.push(value);
        }
        if columns.is_empty() {
            return Err(ProjectionError::Empty);
        }
        let mut names: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(ProjectionError::Names { name: pair[0].into() });
        }
        let key = key.iter().filter_map(place).collect();
        let view = Table {
            key: table.key.iter().filter_map(place).collect(),
            unique: table.unique_at(|index| place(&index)),
            columns,
            ..renamed.clone()
        };
        let (view, renamed) = (view.into(), renamed.into());
        Ok(Some(Projection { view, renamed, key, values: values.into() }))
    }
}

impl Added {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Some(quoted) = text.strip_prefix('\'') {
            let inner = quoted.strip_suffix('\'')?;
            let is_whole = !inner.replace("''", "").contains('\'') && !inner.contains('\0');
            return is_whole.then(|| Self::Constant(inner.replace("''", "'").into(), Of::Text));
        }
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let is_number = |part: &str| {
            !part.is_empty() && part.len() <= 100 && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        Some(match text {
            "commit_time" => Self::CommitTime,
            "operation" => Self::Operation,
            "lsn" => Self::Lsn,
            "schema" => Self::Schema,
            "table" => Self::Table,
            "true" => Self::Constant("t".into(), Of::Boolean),
            "false" => Self::Constant("f".into(), Of::Boolean),
            _ if text.parse::<i64>().is_ok() && is_number(digits) => {
                Self::Constant(text.into(), Of::Integer)
            }
            _ if is_number(whole) && is_number(fraction) => {
                Self::Constant(text.into(), Of::Numeric)
            }
            _ => return None,
        })
    }

    fn of(&self, table: &Table) -> (Type, Value) {
        let text = || Type::builtin(oid::TEXT, "text");
        let constant = |value: &str| Value::Constant(value.as_bytes().into());
        match self {
            Self::Constant(value, of) => {
                let type_ = match of {
                    Of::Text => text(),
                    Of::Integer => Type::builtin(oid::INT8, "int8"),
                    Of::Numeric => Type::builtin(oid::NUMERIC, "numeric"),
                    Of::Boolean => Type::builtin(oid::BOOL, "bool"),
                };
                (type_, constant(value))
            }
            Self::CommitTime => (Type::builtin(oid::TIMESTAMPTZ, "timestamptz"), Value::CommitTime),
            Self::Operation => (text(), Value::Operation),
            Self::Lsn => (text(), Value::Lsn),
            Self::Schema => (text(), constant(&table.schema)),
            Self::Table => (text(), constant(&table.name)),
        }
    }
}

impl Projection {
    /// The column of the sent row that a column of `view` shows; `None`: it was added.
    pub(crate) fn sent(&self, column: usize) -> Option<usize> {
        if let Some(Value::Sent(index)) = self.values.get(column) { Some(*index) } else { None }
    }

    /// Writes the tuple of `view` that a sent one becomes.
    pub(crate) fn apply(&self, sent: Tuple<'_>, moment: Moment<'_>, out: &mut Vec<u8>) {
        out.clear();
        let count = u16::try_from(self.values.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&count.to_be_bytes());
        // Kept columns are in the order of the sent ones.
        let (mut data, mut next) = (sent.iter(), 0);
        for value in &self.values {
            match value {
                Value::Sent(index) => {
                    put(data.nth(index - next).unwrap_or(Datum::Null), out);
                    next = index + 1;
                }
                Value::Constant(text) => put(Datum::Text(text), out),
                Value::Operation => put(Datum::Text(moment.operation.as_bytes()), out),
                Value::Lsn => {
                    let lsn = moment.transaction.commit_lsn.to_string();
                    put(Datum::Text(lsn.as_bytes()), out);
                }
                Value::CommitTime => {
                    put(Datum::Text(&timestamptz(moment.transaction.commit_time)), out);
                }
            }
        }
    }
}

/// As the server prints it in UTC. `micros`: since 2000-01-01 00:00 UTC.
pub(crate) fn timestamptz(micros: i64) -> Vec<u8> {
    let mut text = Vec::with_capacity(29);
    Civil::of_days(micros.div_euclid(clock::DAY_US) + EPOCH_DAYS).write(&mut text);
    text.push(b' ');
    clock::write_clock(micros.rem_euclid(clock::DAY_US), None, &mut text);
    text.extend_from_slice(b"+00");
    text
}

/// Appends a value to a tuple.
pub(crate) fn put(datum: Datum<'_>, out: &mut Vec<u8>) {
    let (kind, bytes) = match datum {
        Datum::Null => return out.push(b'n'),
        Datum::Unchanged => return out.push(b'u'),
        Datum::Text(text) => (b't', text),
        Datum::Binary(bytes) => (b'b', bytes),
    };
    out.push(kind);
    // A value was as long before, or is one of ours.
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_a_constant_or_a_variable() {
        let constant = |text: &str, of| Some(Added::Constant(text.into(), of));
        assert_eq!(Added::parse("'it''s'"), constant("it's", Of::Text));
        assert_eq!(Added::parse("''"), constant("", Of::Text));
        assert_eq!(Added::parse("-12"), constant("-12", Of::Integer));
        assert_eq!(Added::parse("1.50"), constant("1.50", Of::Numeric));
        assert_eq!(Added::parse("true"), constant("t", Of::Boolean));
        assert_eq!(Added::parse(" lsn "), Some(Added::Lsn));
        for text in ["", "'a", "'a'b'", "now()", "1e3", "+1", "1.", "shop", "'"] {
            assert_eq!(Added::parse(text), None, "{text}");
        }
    }

    #[test]
    fn commit_times_are_the_server_s_texts() {
        let text = |micros| String::from_utf8(timestamptz(micros)).expect("ASCII");
        assert_eq!(text(0), "2000-01-01 00:00:00+00");
        assert_eq!(text(762_920_430_500_000), "2024-03-05 02:20:30.5+00");
        assert_eq!(text(-1), "1999-12-31 23:59:59.999999+00");
    }
}
