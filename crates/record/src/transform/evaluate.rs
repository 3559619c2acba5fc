//! Rows through a transform.

use super::bind::{Shown, column_of};
use super::kind::Kind;
use super::{Action, READ_BYTES_MAX, Transform, functions};
use crate::encode::event::Tuples;
use crate::projection::{Moment, put, timestamptz};
use crate::route::Part;
use crate::row::Row;
use cel::common::types::{CelBool, CelDouble, CelInt, CelNull, CelString};
use cel::common::value::CowVal;
use cel::context::VariableResolver;
use cel::{Context, ExecutionError, IdedExpr, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use wal::change::Old;
use wal::types::{Type, oid};
use wal::{Change, Datum, Operation, Tuple};

/// Rows that a transform has written, in buffers that are used again and again.
#[derive(Debug, Default)]
pub(crate) struct Transformed {
    old: Vec<u8>,
    new: Vec<u8>,
    cells: Vec<Option<Cell>>,
}

/// What a column was set to; `None`: null.
type Cell = Option<Vec<u8>>;

/// A row could not be transformed. Says nothing of its values.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{cause}")]
pub(crate) struct Failed {
    cause: Box<str>,
}

impl Failed {
    fn new(cause: impl Into<Box<str>>) -> Self {
        Self { cause: cause.into() }
    }
}

impl Transform {
    /// What becomes of a piece of a change, and of its rows as records show them; `None`: nothing is written.
    ///
    /// Each row that the piece shows is transformed by itself, so that before and after stay states of one
    /// row: where only one of them is kept, its reader sees a creation or a deletion.
    pub(crate) fn apply<'a>(
        &self,
        change: &Change,
        part: Part,
        moment: Moment<'_>,
        rows: Tuples<'a>,
        out: &'a mut Transformed,
    ) -> Result<Option<(Part, Tuples<'a>)>, Failed> {
        use Part::{Enters, KeyChangeCreate, KeyChangeDelete, Leaves, Unjudged, Whole};
        let Tuples { old, new } = rows;
        let (shows_old, shows_new) = match (change.operation, part) {
            (Operation::Truncate, _) => return Ok(Some((part, rows))),
            (Operation::Read | Operation::Insert, _) => (false, true),
            (Operation::Delete, _) | (Operation::Update, KeyChangeDelete | Leaves) => (true, false),
            (Operation::Update, KeyChangeCreate | Enters) => (false, true),
            (Operation::Update, Whole | Unjudged) => (true, true),
        };
        let after = new.map(|new| Row::new(new, old));
        let logged = old.zip(change.old).map(|(old, logged)| match logged {
            Old::Row(_) => Row::new(old, new),
            Old::Key(_) => Row::key(old, new),
        });
        let is_update = change.operation == Operation::Update;
        // Where no old row was logged, what decides has not changed.
        let before = logged.or(after.filter(|_| is_update));
        let context = |row| Cells {
            transform: self,
            row,
            before,
            after,
            moment,
            cells: &[],
            read: AtomicUsize::new(0),
        };
        let Transformed { old: old_bytes, new: new_bytes, cells } = out;
        let mut image = |row: Option<Row<'a>>, bytes: &mut Vec<u8>| match row {
            Some(row) => self.image(&context(row), cells, bytes),
            None => Ok((true, false)),
        };
        let (keeps_old, mut sets_old) =
            if shows_old { image(logged, old_bytes)? } else { (true, false) };
        let (keeps_new, mut sets_new) =
            if shows_new { image(after, new_bytes)? } else { (true, false) };
        let part = match (shows_old && logged.is_some(), shows_new) {
            (true, true) => match (keeps_old, keeps_new) {
                (true, true) => part,
                (false, true) => Enters,
                (true, false) => Leaves,
                (false, false) => return Ok(None),
            },
            (true, false) if keeps_old => part,
            (false, _) if keeps_new => part,
            (true, false) | (false, _) => return Ok(None),
        };
        // What one row does not say is the other's as it was sent, not what that is set to.
        if let (true, false, Some(row)) = (sets_old, sets_new, after) {
            write(row, &[], new_bytes);
            sets_new = true;
        }
        if let (true, false, Some(row)) = (sets_new, sets_old, logged.filter(|it| !it.is_key())) {
            write(row, &[], old_bytes);
            sets_old = true;
        }
        let old = if sets_old { Some(Tuple::trusted(old_bytes)) } else { old };
        let new = if sets_new { Some(Tuple::trusted(new_bytes)) } else { new };
        Ok(Some((part, Tuples { old, new })))
    }

    /// Whether a row is kept, and whether columns of it are set: it is in `bytes` then.
    fn image(
        &self,
        context: &Cells<'_>,
        cells: &mut Vec<Option<Cell>>,
        bytes: &mut Vec<u8>,
    ) -> Result<(bool, bool), Failed> {
        cells.clear();
        cells.resize_with(self.columns.len(), || None);
        if !self.run(&self.action, context, cells)? {
            return Ok((false, false));
        }
        let sets = cells.iter().any(Option::is_some);
        if sets {
            write(context.row, cells, bytes);
        }
        Ok((true, sets))
    }

    /// Carries out an action. False: the row is dropped.
    fn run(
        &self,
        action: &Action,
        context: &Cells<'_>,
        cells: &mut Vec<Option<Cell>>,
    ) -> Result<bool, Failed> {
        match action {
            Action::Keep => Ok(true),
            Action::Drop => Ok(false),
            Action::Each(steps) => {
                for step in steps {
                    if !self.run(step, context, cells)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            // Of a key alone nothing else is known, and nothing else is shown.
            Action::If(_, yes, no) if context.row.is_key() && !decides(yes) && !decides(no) => {
                Ok(true)
            }
            Action::If(condition, yes, no) => {
                let Value::Bool(holds) = value(condition, context, cells)? else {
                    return Err(Failed::new("a condition is neither true nor false"));
                };
                self.run(if holds { yes } else { no }, context, cells)
            }
            Action::Set(_) if context.row.is_key() => Ok(true),
            Action::Set(pairs) => {
                let mut set = Vec::with_capacity(pairs.len());
                for (index, expression) in pairs {
                    let value = value(expression, context, cells)?;
                    set.push((*index, self.columns[*index].written(&value)?));
                }
                for (index, cell) in set {
                    cells[index] = Some(cell);
                }
                Ok(true)
            }
        }
    }
}

/// Writes a row with the columns that are set; of others what it says, or what the other row says for it.
fn write(row: Row<'_>, cells: &[Option<Cell>], bytes: &mut Vec<u8>) {
    bytes.clear();
    // Its count.
    bytes.extend_from_slice(&[0, 0]);
    let mut count: u16 = 0;
    for (index, value) in row.values().enumerate() {
        match cells.get(index).and_then(Option::as_ref) {
            None => put(value, bytes),
            Some(None) => put(Datum::Null, bytes),
            Some(Some(text)) => put(Datum::Text(text), bytes),
        }
        count = count.saturating_add(1);
    }
    bytes[..2].copy_from_slice(&count.to_be_bytes());
}

fn decides(action: &Action) -> bool {
    match action {
        Action::Drop => true,
        Action::Keep | Action::Set(_) => false,
        Action::Each(steps) => steps.iter().any(decides),
        Action::If(_, yes, no) => decides(yes) || decides(no),
    }
}

/// Evaluates an expression.
fn value(
    expression: &IdedExpr,
    context: &Cells<'_>,
    cells: &[Option<Cell>],
) -> Result<Value, Failed> {
    let cells = Cells { cells, read: AtomicUsize::new(0), ..*context };
    let mut context = Context::with_env(Arc::clone(functions::environment()));
    context.set_variable_resolver(&cells);
    let value = Value::resolve(expression, &context);
    value.map_err(|error| {
        if READ_BYTES_MAX < cells.read.load(Ordering::Relaxed) {
            return Failed::new(format!("it reads more than {READ_BYTES_MAX} bytes of the row"));
        }
        Failed::new(told(&error))
    })
}

/// What an error says without the values that it is about.
fn told(error: &ExecutionError) -> String {
    if let ExecutionError::NoSuchOverload(error) = error {
        return format!(
            "`{}` cannot be applied to ({})",
            error.function(),
            error.argument_types().join(", ")
        );
    }
    if let ExecutionError::FunctionError { function, .. } = error {
        return format!("`{function}` cannot be applied to the value");
    }
    if matches!(error, ExecutionError::UndeclaredReference(_)) {
        return "a value that it asks for was not logged, or is no text (REPLICA IDENTITY FULL logs all)"
            .to_owned();
    }
    if matches!(error, ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_)) {
        return "division by zero".to_owned();
    }
    if matches!(error, ExecutionError::Overflow(..)) {
        return "an integer grows beyond 64 bits".to_owned();
    }
    "an operator was given values that it does not take, null perhaps".to_owned()
}

/// What an expression sees of a change.
struct Cells<'a> {
    transform: &'a Transform,
    /// The row that is transformed.
    row: Row<'a>,
    before: Option<Row<'a>>,
    after: Option<Row<'a>>,
    moment: Moment<'a>,
    /// What earlier steps have set of `row`.
    cells: &'a [Option<Cell>],
    /// Bytes read so far.
    read: AtomicUsize,
}

impl VariableResolver for Cells<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let text = |text: &'b str| Some(CowVal::owned(CelString::from(text)));
        match name {
            "op" => return text(self.moment.operation),
            "schema" => return text(&self.transform.schema),
            "table" => return text(&self.transform.table),
            "commit_time" => {
                let time = timestamptz(self.moment.transaction.commit_time);
                return Some(CowVal::owned(CelString::from(String::from_utf8(time).ok()?)));
            }
            "lsn" => {
                let lsn = self.moment.transaction.commit_lsn.to_string();
                return Some(CowVal::owned(CelString::from(lsn)));
            }
            _ => {}
        }
        let (image, index) = column_of(name)?;
        let row = match image {
            'r' => Some(self.row),
            'b' => self.before,
            _ => self.after,
        };
        let set = self.cells.get(index).and_then(Option::as_ref).filter(|_| image == 'r');
        let datum = match (set, row) {
            (Some(None), _) | (None, None) => Datum::Null,
            (Some(Some(text)), _) => Datum::Text(text),
            (None, Some(row)) => row.value(index),
        };
        let text = match datum {
            Datum::Null => return Some(CowVal::owned(CelNull)),
            Datum::Unchanged | Datum::Binary(_) => return None,
            Datum::Text(text) => text,
        };
        if READ_BYTES_MAX < self.read.fetch_add(text.len(), Ordering::Relaxed) + text.len() {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        Some(match self.transform.columns.get(index)?.kind {
            Kind::Bool => CowVal::owned(CelBool::from(text == "t")),
            Kind::Int => CowVal::owned(CelInt::from(text.parse::<i64>().ok()?)),
            // Rust reads what the server prints: Infinity, -Infinity and NaN as well.
            Kind::Double => CowVal::owned(CelDouble::from(text.parse::<f64>().ok()?)),
            Kind::Text | Kind::Null | Kind::Any => CowVal::owned(CelString::from(text)),
        })
    }
}

impl Shown {
    /// The value as the server would print it in this column.
    fn written(&self, value: &Value) -> Result<Cell, Failed> {
        let refused = || {
            let (name, type_) = (&self.name, &self.type_.name);
            Failed::new(format!("what `{name}` is set to is no value of its type, {type_}"))
        };
        let text = match (value, self.kind) {
            (Value::Null, _) if self.not_null => {
                return Err(Failed::new(format!("`{}` is set to null and is not null", self.name)));
            }
            (Value::Null, _) => return Ok(None),
            (Value::Bool(value), Kind::Bool) => if *value { "t" } else { "f" }.to_owned(),
            (Value::Int(value), Kind::Int) if fits(&self.type_, *value) => value.to_string(),
            (Value::Int(value), Kind::Double) => value.to_string(),
            (Value::Int(value), Kind::Text) if self.is_numeric() => {
                self.numeric(&value.to_string()).ok_or_else(refused)?
            }
            (Value::Float(value), Kind::Double) => double(&self.type_, *value),
            (Value::Float(value), Kind::Text) if self.is_numeric() && value.is_finite() => {
                // As the server does, what has no place is rounded.
                let text = match self.digits() {
                    Some((_, scale)) => format!("{value:.scale$}"),
                    None => value.to_string(),
                };
                self.numeric(&text).ok_or_else(refused)?
            }
            (Value::String(text), Kind::Text) if self.is_numeric() => {
                self.numeric(text).ok_or_else(refused)?
            }
            (Value::String(text), Kind::Text) => {
                // No text of a database holds one.
                if text.contains('\0') {
                    return Err(refused());
                }
                return Ok(Some(text.as_bytes().to_vec()));
            }
            _ => return Err(refused()),
        };
        Ok(Some(text.into_bytes()))
    }
}

impl Shown {
    /// Digits in all and behind the point; `None`: any number.
    fn digits(&self) -> Option<(usize, usize)> {
        let modifier = if let wal::types::Kind::Domain { type_modifier, .. } = &self.type_.kind {
            *type_modifier
        } else {
            self.type_modifier
        };
        // `numeric(precision, scale)`, as numeric.c packs it; 11 bits, since 15 with a sign.
        let packed = modifier.checked_sub(4).filter(|it| 0 <= *it)?;
        let (precision, scale) = (packed >> 16, packed & 0x7FF);
        let scale = usize::try_from(scale).ok().filter(|scale| *scale < 0x400)?;
        Some((usize::try_from(precision).ok()?, scale))
    }

    /// A decimal text as the server prints it in this column; `None`: it is none, or does not fit.
    fn numeric(&self, text: &str) -> Option<String> {
        if !is_decimal(text) {
            return None;
        }
        let Some((precision, scale)) = self.digits() else { return Some(text.to_owned()) };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = whole.trim_start_matches(['-', '0']).len();
        if scale < fraction.len() || precision < digits + scale {
            return None;
        }
        let point = if scale == 0 { "" } else { "." };
        Some(format!("{whole}{point}{fraction:0<scale$}"))
    }
}

fn fits(type_: &Type, value: i64) -> bool {
    if let wal::types::Kind::Domain { base, .. } = &type_.kind {
        return fits(base, value);
    }
    match type_.oid {
        oid::INT2 => i16::try_from(value).is_ok(),
        oid::INT4 => i32::try_from(value).is_ok(),
        oid::OID | oid::XID | oid::CID => u32::try_from(value).is_ok(),
        _ => true,
    }
}

/// As the server prints it, but for the form of exponents.
fn double(type_: &Type, value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if 0.0 < value { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let domain = if let wal::types::Kind::Domain { base, .. } = &type_.kind { base } else { type_ };
    let base = domain.oid;
    let is_plain = value == 0.0 || (1e-4..1e15).contains(&value.abs());
    match (base == oid::FLOAT4, is_plain) {
        #[expect(clippy::cast_possible_truncation, reason = "the column holds no more")]
        (true, true) => (value as f32).to_string(),
        #[expect(clippy::cast_possible_truncation, reason = "the column holds no more")]
        (true, false) => format!("{:e}", value as f32),
        (false, true) => value.to_string(),
        (false, false) => format!("{value:e}"),
    }
}

/// Whether a text is a number as `numeric` prints it.
fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|it| it.is_ascii_digit());
    is_number(whole) && is_number(fraction)
}
