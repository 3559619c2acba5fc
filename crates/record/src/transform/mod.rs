//! `objects[].transform`: which rows of an object are kept, and which of their columns are set, in the Common
//! Expression Language (CEL).
//!
//! [`Program`] is the text, parsed once per task; [`Transform`] is that for one version of a table: every
//! column found, every operand's type looked at, every assignment allowed. The flow (`drop`, `keep`, conditions
//! and assignments) is a small tree of our own, so that all of it is known before the first row; only the
//! expressions in it are CEL's to evaluate. docs/transforms.md is the reference.
//!
//! An expression has no loops: macros and comprehensions are refused, so its steps are the nodes of its text,
//! which are limited. It reads the row and its transaction, no clock: what is read again comes out the same.

mod bind;
mod evaluate;
mod functions;
mod kind;

use crate::projection::Projection;
use cel::IdedExpr;
use std::sync::Arc;
use wal::Table;

pub(crate) use evaluate::{Failed, Transformed};

/// Longer texts are refused.
pub(crate) const TEXT_BYTES_MAX: usize = 8 << 10;
/// An expression of more operators, names and constants is refused.
pub(crate) const NODES_MAX: usize = 256;
/// Deeper nesting is refused.
pub(crate) const DEPTH_MAX: u16 = 32;
/// So many bytes of a row one evaluation may read.
pub(crate) const READ_BYTES_MAX: usize = 1 << 20;
/// What `replace` may write.
pub(crate) const REPLACED_BYTES_MAX: usize = 256 << 10;

/// A transform that was parsed.
#[derive(Clone, Debug)]
pub(crate) struct Program(Arc<IdedExpr>);

/// A transform for the rows of one table version.
#[derive(Debug)]
pub(crate) struct Transform {
    action: Action,
    /// How the columns of records look to expressions.
    columns: Box<[bind::Shown]>,
    schema: Box<str>,
    table: Box<str>,
}

/// What becomes of a row.
#[derive(Debug)]
enum Action {
    Keep,
    Drop,
    /// One after the other, each upon what those before it have set.
    Each(Vec<Action>),
    If(IdedExpr, Box<Action>, Box<Action>),
    /// Columns and what they are set to.
    Set(Vec<(usize, IdedExpr)>),
}

/// What is wrong with a transform, with what to write instead.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text} (docs/transforms.md says what transforms may contain)")]
pub struct TransformError {
    text: Box<str>,
}

impl TransformError {
    fn new(text: impl Into<Box<str>>) -> Self {
        Self { text: text.into() }
    }
}

/// What a transform may not set, and may not decide by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given<'a> {
    /// The table as it is sent.
    pub(crate) table: &'a Table,
    /// What records show of it; `None`: what is sent.
    pub(crate) projection: Option<&'a Projection>,
    /// Sent columns of message key and partition key.
    pub(crate) keys: &'a [usize],
    /// Old rows of updates and deletes are wanted, and hold no more than the replica identity.
    pub(crate) is_limited: bool,
}

impl Program {
    /// Reads a transform.
    ///
    /// # Errors
    /// When it is no transform, or one beyond the limits.
    pub(crate) fn parse(text: &str) -> Result<Self, TransformError> {
        if TEXT_BYTES_MAX < text.len() {
            let text =
                format!("it has {} bytes, and at most {TEXT_BYTES_MAX} are read", text.len());
            return Err(TransformError::new(text));
        }
        let parser = functions::environment().parser().max_recursion_depth(DEPTH_MAX);
        let expression = parser.parse(text).map_err(|errors| {
            let told = errors.to_string();
            TransformError::new(format!("it is no CEL expression: {}", told.trim()))
        })?;
        bind::check_form(&expression)?;
        Ok(Self(Arc::new(expression)))
    }

    /// Whether it may leave rows out.
    pub(crate) fn may_drop(&self) -> bool {
        bind::may_drop(&self.0)
    }

    /// The transform for the rows of a table.
    ///
    /// # Errors
    /// When it names a column that records do not show, sets one that it may not, or does with values what
    /// their types do not allow.
    pub(crate) fn of(&self, given: Given<'_>) -> Result<Transform, TransformError> {
        bind::bind(&self.0, given)
    }
}
