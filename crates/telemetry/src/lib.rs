//! Logs of a process: one line per event that matters to an operator, with fields. Metrics: every name and label.
//! Webhooks, to which alerts are posted. Traces, for a collector.

pub mod logs;
pub mod metrics;
pub mod panics;
pub mod traces;
pub mod webhook;

pub use logs::{Filter, InvalidFilter, Shape};
