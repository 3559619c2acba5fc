//! Logs of a process: one line per event that matters to an operator, with fields.

pub mod logs;
pub mod panics;

pub use logs::{Filter, InvalidFilter, Shape};
