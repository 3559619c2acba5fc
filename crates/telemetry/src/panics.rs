//! Panics as log lines: with place and thread, in the shape of all other lines.

use std::panic::PanicHookInfo;
use tracing::error;

/// From now on a panic is logged instead of printed.
pub fn log() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("without a name");
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        error!(thread, location, cause = message(panic), "defect: a thread ended by a panic");
    }));
}

fn message<'a>(panic: &'a PanicHookInfo<'_>) -> &'a str {
    panic.payload_as_str().unwrap_or("no text")
}
