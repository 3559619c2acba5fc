//! What went wrong, on stderr: for people, or as a log line where those are JSON.

use crate::check;
use crate::output::{Output, OutputFormat};
use config::precheck::{Item, State};
use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use tracing::{error, info, warn};

/// A cause, and what to do about it; the remedy may be empty.
pub(crate) fn error(output: Output, cause: &str, remedy: &str) {
    if output.format == OutputFormat::Json {
        if remedy.is_empty() {
            error!("{cause}");
        } else {
            error!(remedy, "{cause}");
        }
        return;
    }
    say(format_args!("error: {cause}\n"));
    if !remedy.is_empty() {
        say(format_args!("remedy: {remedy}\n"));
    }
}

/// Everything that is wrong with a spec.
pub(crate) fn problems(output: Output, spec: &Path, problems: &[config::Problem]) {
    if output.format == OutputFormat::Json {
        for problem in problems {
            error!(
                spec = %spec.display(),
                line = problem.line,
                path = problem.path,
                "{}",
                problem.text
            );
        }
        return;
    }
    let count = counted(problems.len(), "problem");
    say(format_args!("error: {count} in the spec {}; nothing was started\n", spec.display()));
    for problem in problems {
        say(format_args!("  {problem}\n"));
    }
}

/// An item of the precheck, in a command whose result is something else.
pub(crate) fn item(output: Output, item: &Item) {
    if output.format != OutputFormat::Json {
        say(check::lines(item, false, false));
        return;
    }
    let (name, seen, remedy) = (&item.name, &item.seen, &item.remedy);
    match item.state {
        State::Fail => error!(item = name, remedy, "precheck fails: {seen}"),
        State::Warning => warn!(item = name, remedy, "precheck warns: {seen}"),
        State::Pass => info!(item = name, "precheck passes: {seen}"),
    }
}

/// A word to whoever sits there, on stderr.
pub(crate) fn note(output: Output, text: &str) {
    if output.format == OutputFormat::Json {
        info!("{text}");
    } else {
        say(format_args!("{text}\n"));
    }
}

/// `1 item`, `2 items`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

fn say(text: impl Display) {
    // Where stderr is gone there is nobody to tell.
    let _ = write!(io::stderr().lock(), "{text}");
}
