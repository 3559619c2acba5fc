//! Conditions of `objects[].where`: a subset of SQL, judged with the server's result.
//!
//! [`Condition`] is the text, parsed once per task; [`Filter`] is that for one version of a table, with
//! every column found and every comparison of types that SQL compares in one way only. What could
//! differ from the server by its settings, its collations or its time zone is refused. docs/filters.md
//! is the reference.

mod compile;
mod constant;
mod evaluate;
mod number;
mod reading;
mod syntax;
mod token;

use crate::row::Row;
use evaluate::Test;
use wal::Table;

/// A condition that was parsed.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    expression: syntax::Expression,
}

/// A condition for the rows of one table version.
#[derive(Debug)]
pub(crate) struct Filter {
    test: Test,
    /// Columns that are read, ascending.
    columns: Box<[usize]>,
    /// Columns whose texts are compared under their own collation.
    collated: Box<[usize]>,
    sql: Box<str>,
}

/// What is wrong with a condition, with what to write instead.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text} (docs/filters.md says what conditions may contain)")]
pub struct FilterError {
    text: Box<str>,
}

/// A value of this column decides, and the server sent none that can be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Unjudged {
    pub(crate) column: usize,
}

impl FilterError {
    fn syntax(text: impl Into<Box<str>>) -> Self {
        Self { text: text.into() }
    }
}

/// Whether a text is an expression of the subset; whether it fits a table, only its plan can say.
///
/// # Errors
/// What is wrong with it.
pub fn check_condition(text: &str) -> Result<(), FilterError> {
    Condition::parse(text).map(drop)
}

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// When it is no expression of the subset.
    pub(crate) fn parse(text: &str) -> Result<Self, FilterError> {
        Ok(Self { expression: syntax::parse(text)? })
    }

    /// The condition for the rows of a table.
    ///
    /// # Errors
    /// When it names a column that the table does not have, or compares what cannot be compared in
    /// one way only.
    pub(crate) fn of(&self, table: &Table) -> Result<Filter, FilterError> {
        compile::compile(&self.expression, table)
    }
}

impl Filter {
    /// Whether the condition is true of the row; null is not true.
    ///
    /// # Errors
    /// When a value that decides was not sent, or is none of its type.
    pub(crate) fn judge(&self, row: &Row<'_>) -> Result<bool, Unjudged> {
        Ok(self.test.evaluate(row)? == Some(true))
    }

    /// Columns that are read, ascending.
    pub(crate) fn columns(&self) -> &[usize] {
        &self.columns
    }

    pub(crate) fn collated(&self) -> &[usize] {
        &self.collated
    }

    /// The condition as SQL, for the server: names in quotes, the same result.
    pub(crate) fn sql(&self) -> &str {
        &self.sql
    }
}

#[cfg(test)]
mod tests;
