//! Logs of a process: one line per event that matters to an operator, with fields.

pub mod logs;
