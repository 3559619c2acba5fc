//! A condition and a table → a test whose columns and types are known, and its SQL.

use super::constant::{of_type, quoted};
use super::evaluate::{Operand, Pattern, Test};
use super::number::Number;
use super::reading::{Reading, Value};
use super::syntax::{Arithmetic, Comparison, Expression};
use super::{Filter, FilterError};
use std::collections::BTreeSet;
use std::sync::Arc;
use wal::Table;
use wal::types::{Kind, Type};

/// What an expression is of.
#[derive(Clone, Debug)]
enum Family {
    Bool,
    /// Whole numbers and numeric.
    Number,
    Float,
    Text,
    Padded,
    /// Dates and timestamps without time zone.
    Moment,
    Zoned,
    Time,
    Uuid,
    Label(Arc<Type>),
    /// A quoted constant: of the type of what it is compared with.
    Open(Box<str>),
    /// NULL: of any type.
    Null,
    /// A column whose values are not compared.
    Closed(Arc<Type>),
}

/// An expression that was checked.
#[derive(Debug)]
struct Typed {
    operand: Operand,
    family: Family,
    sql: String,
    /// Its type and reading, where it is a column.
    column: Option<(usize, Arc<Type>, Option<Reading>)>,
    /// Under COLLATE "C".
    is_c: bool,
    is_constant: bool,
}

impl Typed {
    fn of(operand: Operand, family: Family, sql: String) -> Self {
        Self { operand, family, sql, column: None, is_c: false, is_constant: false }
    }

    fn constant(value: Option<Value<'static>>, family: Family, sql: String) -> Self {
        Self { is_constant: true, ..Self::of(Operand::Constant(value), family, sql) }
    }
}

struct Compiler<'a> {
    table: &'a Table,
    columns: BTreeSet<usize>,
    collated: BTreeSet<usize>,
}

type Result<T> = std::result::Result<T, FilterError>;

fn refuse<T>(text: impl Into<Box<str>>) -> Result<T> {
    Err(FilterError::syntax(text))
}

pub(super) fn compile(expression: &Expression, table: &Table) -> Result<Filter> {
    let (columns, collated) = (BTreeSet::new(), BTreeSet::new());
    let mut compiler = Compiler { table, columns, collated };
    let (test, sql) = compiler.test(expression)?;
    let Compiler { columns, collated, .. } = compiler;
    if columns.is_empty() {
        return refuse("it asks for no column: use `exclude: true`, or leave `where` out");
    }
    let (columns, collated) = (columns.into_iter().collect(), collated.into_iter().collect());
    Ok(Filter { test, columns, collated, sql: sql.into() })
}

impl Compiler<'_> {
    fn test(&mut self, expression: &Expression) -> Result<(Test, String)> {
        Ok(match expression {
            Expression::Not(inner) => {
                let (test, sql) = self.test(inner)?;
                (Test::Not(test.into()), format!("(NOT {sql})"))
            }
            Expression::And(parts) => {
                let (tests, sql) = self.tests(parts, " AND ")?;
                (Test::And(tests), sql)
            }
            Expression::Or(parts) => {
                let (tests, sql) = self.tests(parts, " OR ")?;
                (Test::Or(tests), sql)
            }
            Expression::Compare(comparison, left, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                self.compare(*comparison, left, right)?
            }
            Expression::Distinct(left, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                let sql = format!("({} IS DISTINCT FROM {})", left.sql, right.sql);
                let (left, right) = self.comparable(left, right, false)?;
                (Test::Distinct(left, right), sql)
            }
            Expression::Between(value, low, high) => {
                let (first, low) = (self.value(value)?, self.value(low)?);
                let (from, from_sql) = self.compare(Comparison::GreaterOrEqual, first, low)?;
                let (second, high) = (self.value(value)?, self.value(high)?);
                let (to, to_sql) = self.compare(Comparison::LessOrEqual, second, high)?;
                (Test::And([from, to].into()), format!("({from_sql} AND {to_sql})"))
            }
            Expression::In(value, list) => self.one_of(value, list)?,
            Expression::Like(value, pattern) => self.like(value, pattern)?,
            Expression::IsNull(value) => self.is_null(value)?,
            Expression::Is(truth, inner) => {
                let (test, sql) = self.test(inner)?;
                let word = truth.map_or("UNKNOWN", |truth| if truth { "TRUE" } else { "FALSE" });
                (Test::Is(*truth, test.into()), format!("({sql} IS {word})"))
            }
            Expression::Boolean(_)
            | Expression::Null
            | Expression::Column(_)
            | Expression::Number(_)
            | Expression::Quoted(_)
            | Expression::Typed(..)
            | Expression::CollateC(_)
            | Expression::Negate(_)
            | Expression::Arithmetic(..) => {
                let Typed { operand, family, sql, .. } = self.value(expression)?;
                if !matches!(family, Family::Bool | Family::Null) {
                    return refuse(format!("{sql} is neither true nor false: compare it"));
                }
                (Test::Value(operand), sql)
            }
        })
    }

    fn tests(&mut self, parts: &[Expression], join: &str) -> Result<(Box<[Test]>, String)> {
        let parts = parts.iter().map(|part| self.test(part)).collect::<Result<Vec<_>>>()?;
        let (tests, sql): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        Ok((tests.into(), format!("({})", sql.join(join))))
    }

    fn value(&mut self, expression: &Expression) -> Result<Typed> {
        Ok(match expression {
            Expression::Column(name) => self.column(name)?,
            Expression::Number(text) => {
                let Some(number) = Number::parse(text.as_bytes()) else {
                    return refuse(format!("{text} is no number"));
                };
                Typed::constant(Some(Value::Number(number)), Family::Number, text.to_string())
            }
            Expression::Quoted(text) => {
                Typed::constant(None, Family::Open(text.clone()), literal(text))
            }
            Expression::Typed(type_, text) => {
                let value = quoted(type_.reading(), text)?;
                let sql = format!("{} {}", type_.word(), literal(text));
                Typed::constant(Some(value), family(type_.reading()), sql)
            }
            Expression::Boolean(truth) => {
                let sql = if *truth { "TRUE" } else { "FALSE" };
                Typed::constant(Some(Value::Bool(*truth)), Family::Bool, sql.to_owned())
            }
            Expression::Null => Typed::constant(None, Family::Null, "NULL".to_owned()),
            Expression::CollateC(inner) => {
                let inner = self.value(inner)?;
                if !matches!(inner.family, Family::Text | Family::Padded) {
                    return refuse(format!("{} has no collation", inner.sql));
                }
                let sql = format!("({} COLLATE pg_catalog.\"C\")", inner.sql);
                Typed { is_c: true, sql, ..inner }
            }
            Expression::Negate(inner) => self.negated(inner)?,
            Expression::Arithmetic(operator, left, right) => {
                self.arithmetic(*operator, left, right)?
            }
            Expression::Compare(..)
            | Expression::Distinct(..)
            | Expression::Between(..)
            | Expression::In(..)
            | Expression::Like(..)
            | Expression::IsNull(_)
            | Expression::Is(..)
            | Expression::Not(_)
            | Expression::And(_)
            | Expression::Or(_) => {
                let (test, sql) = self.test(expression)?;
                Typed::of(Operand::Test(test.into()), Family::Bool, sql)
            }
        })
    }

    fn negated(&mut self, inner: &Expression) -> Result<Typed> {
        let bare = self.value(inner)?;
        if bare.is_constant && matches!(bare.family, Family::Number) {
            let Some(Value::Number(number)) = bare.operand.constant() else {
                return refuse(format!("{} is no number", bare.sql));
            };
            let (value, sql) = (Value::Number(number.negate()), format!("(- {})", bare.sql));
            return Ok(Typed::constant(Some(value), Family::Number, sql));
        }
        let inner = self.number(inner)?;
        let sql = format!("(- {})", inner.sql);
        Ok(Typed::of(Operand::Negate(inner.operand.into()), Family::Number, sql))
    }

    fn arithmetic(
        &mut self,
        operator: Arithmetic,
        left: &Expression,
        right: &Expression,
    ) -> Result<Typed> {
        let (left, right) = (self.number(left)?, self.number(right)?);
        let sign = match operator {
            Arithmetic::Add => '+',
            Arithmetic::Subtract => '-',
            Arithmetic::Multiply => '*',
        };
        let sql = format!("({} {sign} {})", left.sql, right.sql);
        let is_constant = left.is_constant && right.is_constant;
        let operand = Operand::Arithmetic(operator, left.operand.into(), right.operand.into());
        Ok(Typed { is_constant, ..Typed::of(operand, Family::Number, sql) })
    }

    fn column(&mut self, name: &str) -> Result<Typed> {
        let columns = &self.table.columns;
        let Some(index) = columns.iter().position(|column| *column.name == *name) else {
            let (schema, table) = (&self.table.schema, &self.table.name);
            return refuse(format!("{schema}.{table} has no column `{name}`"));
        };
        self.columns.insert(index);
        let type_ = Arc::clone(&columns[index].type_);
        let reading = Reading::of(&type_);
        let family = match reading {
            Some(Reading::Label) => Family::Label(base(&type_)),
            Some(reading) => family(reading),
            None => Family::Closed(Arc::clone(&type_)),
        };
        // What has no reading is never evaluated: only IS NULL takes it.
        let operand = Operand::Column(index, reading.unwrap_or(Reading::Text));
        let sql = format!("\"{}\"", name.replace('"', "\"\""));
        let column = Some((index, type_, reading));
        Ok(Typed { column, ..Typed::of(operand, family, sql) })
    }

    /// For arithmetic, which is done in numeric, so that nothing overflows.
    fn number(&mut self, expression: &Expression) -> Result<Typed> {
        let typed = self.value(expression)?;
        if !matches!(typed.family, Family::Number) {
            return refuse(format!(
                "{}: arithmetic is for whole numbers and numeric only",
                typed.sql
            ));
        }
        let sql = if matches!(expression, Expression::Arithmetic(..)) {
            typed.sql.clone()
        } else {
            format!("CAST({} AS pg_catalog.numeric)", typed.sql)
        };
        Ok(Typed { sql, ..typed })
    }

    fn compare(
        &mut self,
        comparison: Comparison,
        left: Typed,
        right: Typed,
    ) -> Result<(Test, String)> {
        let sql = format!("({} {} {})", left.sql, comparison.sql(), right.sql);
        let (left, right) = self.comparable(left, right, comparison.is_ordered())?;
        Ok((Test::Compare(comparison, left, right), sql))
    }

    /// Both sides as values of one family.
    fn comparable(
        &mut self,
        left: Typed,
        right: Typed,
        ordered: bool,
    ) -> Result<(Operand, Operand)> {
        if left.is_constant && right.is_constant {
            return refuse(format!("{} and {} are both constants", left.sql, right.sql));
        }
        for side in [&left, &right] {
            if let Family::Closed(type_) = &side.family {
                return refuse(format!(
                    "{}: values of type {} can only be asked for IS NULL",
                    side.sql, type_.name
                ));
            }
        }
        if let Family::Open(text) = &left.family {
            return Ok((self.constant_for(text, &right, ordered)?, right.operand));
        }
        if let Family::Open(text) = &right.family {
            let constant = self.constant_for(text, &left, ordered)?;
            return Ok((left.operand, constant));
        }
        let wrong = || format!("{} and {} have types that are not compared", left.sql, right.sql);
        match (&left.family, &right.family) {
            (Family::Null, _) | (_, Family::Null) => {}
            (Family::Number, Family::Float) => {
                return Ok((self.to_float(left)?, right.operand));
            }
            (Family::Float, Family::Number) => {
                return Ok((left.operand, self.to_float(right)?));
            }
            (Family::Text, Family::Text) | (Family::Padded, Family::Padded) => {
                self.check_text(&left, &[&left, &right], ordered)?;
            }
            (Family::Label(one), Family::Label(two)) => {
                if one.oid != two.oid {
                    return refuse(wrong());
                }
                self.check_text(&left, &[&left, &right], ordered)?;
            }
            (Family::Bool, Family::Bool)
            | (Family::Number, Family::Number)
            | (Family::Float, Family::Float)
            | (Family::Moment, Family::Moment)
            | (Family::Zoned, Family::Zoned)
            | (Family::Time, Family::Time)
            | (Family::Uuid, Family::Uuid) => {}
            _ => return refuse(wrong()),
        }
        Ok((left.operand, right.operand))
    }

    /// A quoted constant, as a value of the column that it is compared with.
    fn constant_for(&mut self, text: &str, other: &Typed, ordered: bool) -> Result<Operand> {
        let Some((_, type_, Some(reading))) = &other.column else {
            return refuse(format!("'{text}': a quoted constant is compared with columns only"));
        };
        let constant = of_type(type_, *reading, text)?;
        self.check_text(other, &[other], ordered)?;
        Ok(Operand::Constant(Some(constant)))
    }

    /// Texts are equal where their bytes are, and have one order under COLLATE "C" only.
    fn check_text(&mut self, shown: &Typed, sides: &[&Typed], ordered: bool) -> Result<()> {
        if ordered && matches!(shown.family, Family::Label(_)) {
            return refuse(format!("{}: labels of an enum have no order here", shown.sql));
        }
        if !matches!(shown.family, Family::Text | Family::Padded) {
            return Ok(());
        }
        if sides.iter().any(|side| side.is_c) {
            return Ok(());
        }
        if ordered {
            return refuse(format!(
                "{0}: the order of texts depends on their collation; write {0} COLLATE \"C\"",
                shown.sql
            ));
        }
        let columns = sides.iter().filter_map(|side| side.column.as_ref());
        self.collated.extend(columns.map(|(index, ..)| *index));
        Ok(())
    }

    fn to_float(&self, number: Typed) -> Result<Operand> {
        if let Operand::Constant(Some(Value::Number(number))) = &number.operand {
            let Some(float) = number.to_float() else {
                return refuse("a number is out of the range of double precision");
            };
            return Ok(Operand::Constant(Some(Value::Float(float))));
        }
        let column = number.column.as_ref().map(|(index, ..)| *index);
        let column = column.or_else(|| self.columns.first().copied()).unwrap_or_default();
        Ok(Operand::ToFloat(number.operand.into(), column))
    }

    fn one_of(&mut self, value: &Expression, list: &[Expression]) -> Result<(Test, String)> {
        let value = self.value(value)?;
        if matches!(value.family, Family::Float | Family::Open(_) | Family::Null)
            || value.is_constant
        {
            return refuse(format!(
                "{}: IN is for columns that are no floating point numbers; use = and OR",
                value.sql
            ));
        }
        let (mut values, mut sqls, mut has_null) = (Vec::new(), Vec::new(), false);
        for expression in list {
            let typed = self.value(expression)?;
            if !typed.is_constant || matches!(typed.family, Family::Float) {
                return refuse(format!("{}: IN takes a list of constants", typed.sql));
            }
            sqls.push(typed.sql.clone());
            if matches!(typed.family, Family::Null) {
                has_null = true;
                continue;
            }
            let (family, sql) = (value.family.clone(), value.sql.clone());
            let side = Typed {
                column: value.column.clone(),
                is_c: value.is_c,
                ..Typed::of(Operand::Constant(None), family, sql)
            };
            match self.comparable(side, typed, false)? {
                (_, Operand::Constant(Some(constant))) => values.push(constant),
                (_, constant) => match constant.constant() {
                    Some(constant) => values.push(constant),
                    None => return refuse("IN takes a list of constants"),
                },
            }
        }
        if values.is_empty() {
            return refuse("IN takes at least one value that is not NULL");
        }
        let sql = format!("({} IN ({}))", value.sql, sqls.join(", "));
        Ok((Test::In(value.operand, values.into(), has_null), sql))
    }

    fn like(&mut self, value: &Expression, pattern: &str) -> Result<(Test, String)> {
        let value = self.value(value)?;
        if !matches!(value.family, Family::Text) {
            return refuse(format!("{}: LIKE is for text and varchar", value.sql));
        }
        self.check_text(&value, &[&value], false)?;
        let Some(parsed) = Pattern::parse(pattern) else {
            return refuse("the pattern of LIKE ends with a backslash, which escapes nothing");
        };
        let sql = format!("({} LIKE {})", value.sql, literal(pattern));
        Ok((Test::Like(value.operand, parsed), sql))
    }

    fn is_null(&mut self, value: &Expression) -> Result<(Test, String)> {
        let Typed { operand, family, sql, column, .. } = self.value(value)?;
        if let Family::Open(_) | Family::Null = family {
            return refuse(format!("{sql} IS NULL asks for no column"));
        }
        let sql_test = format!("({sql} IS NULL)");
        let Some((index, type_, _)) = column else { return Ok((Test::IsNull(operand), sql_test)) };
        if matches!(base(&type_).kind, Kind::Composite { .. } | Kind::Unknown) {
            // A composite value is null, too, where all its fields are.
            return refuse(format!("{sql}: values of type {} are not asked for", type_.name));
        }
        Ok((Test::ColumnIsNull(index), sql_test))
    }
}

impl Operand {
    /// The value of arithmetic on constants.
    fn constant(self) -> Option<Value<'static>> {
        Some(match self {
            Self::Constant(value) => value?,
            Self::Negate(inner) => {
                let Value::Number(number) = inner.constant()? else { return None };
                Value::Number(number.negate())
            }
            Self::Arithmetic(operator, left, right) => {
                let (Value::Number(left), Value::Number(right)) =
                    (left.constant()?, right.constant()?)
                else {
                    return None;
                };
                Value::Number(match operator {
                    Arithmetic::Add => left.add(&right),
                    Arithmetic::Subtract => left.add(&right.negate()),
                    Arithmetic::Multiply => left.multiply(&right),
                })
            }
            Self::Column(..) | Self::ToFloat(..) | Self::Test(_) => return None,
        })
    }
}

fn family(reading: Reading) -> Family {
    match reading {
        Reading::Bool => Family::Bool,
        Reading::Integer(_) | Reading::Numeric => Family::Number,
        Reading::Float4 | Reading::Float8 => Family::Float,
        // Labels are told apart by their type, where there is one.
        Reading::Text | Reading::Label => Family::Text,
        Reading::Padded => Family::Padded,
        Reading::Date | Reading::Timestamp => Family::Moment,
        Reading::Timestamptz => Family::Zoned,
        Reading::Time => Family::Time,
        Reading::Uuid => Family::Uuid,
    }
}

fn base(type_: &Arc<Type>) -> Arc<Type> {
    match &type_.kind {
        Kind::Domain { base, .. } => Arc::clone(base),
        Kind::Base
        | Kind::Array { .. }
        | Kind::Enum { .. }
        | Kind::Composite { .. }
        | Kind::Range { .. }
        | Kind::Multirange { .. }
        | Kind::Unknown => Arc::clone(type_),
    }
}

/// A text as SQL, whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        format!("E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}
