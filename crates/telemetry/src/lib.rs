//! Logs of a process: one line per event that matters to an operator, with fields. Metrics: every name and label.

pub mod logs;
pub mod metrics;
pub mod panics;

pub use logs::{Filter, InvalidFilter, Shape};
