//! Results on stdout: for people, as JSON, or as YAML.

use crate::frame::{Size, frame};
use ::console::Term;
use clap::ValueEnum;
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// `-o`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people
    Text,
    /// One JSON document; log lines are JSON objects, one per line
    Json,
    /// One YAML document
    Yaml,
}

/// Where results go, and in which form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) format: OutputFormat,
    /// Whether stdout is a terminal that shows colours.
    pub(crate) colour: bool,
}

impl Output {
    pub(crate) fn new(format: OutputFormat) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { format, colour: wanted && io::stdout().is_terminal() }
    }

    /// One document: `text` for people, or the value itself.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub(crate) fn document<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce() -> String,
    ) -> io::Result<()> {
        self.write(&match self.format {
            OutputFormat::Text => text(),
            OutputFormat::Json => serde_json::to_string_pretty(value)? + "\n",
            OutputFormat::Yaml => yaml(value)?,
        })
    }

    /// What is text in each form, e.g. YAML that somebody else has written.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub(crate) fn text(self, text: &str) -> io::Result<()> {
        self.write(text)
    }

    /// One of many: a line, or a YAML document.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub(crate) fn item<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce() -> String,
    ) -> io::Result<()> {
        self.write(&match self.format {
            OutputFormat::Text => text(),
            OutputFormat::Json => serde_json::to_string(value)? + "\n",
            OutputFormat::Yaml => format!("---\n{}", yaml(value)?),
        })
    }

    /// Text in place of what was there, on a terminal.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub(crate) fn redraw(self, text: &str, first: bool) -> io::Result<()> {
        let (rows, columns) = Term::stdout().size();
        let size = Size { rows: rows.into(), columns: columns.into() };
        self.write(&frame(text, size, first))
    }

    fn write(self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }
}

fn yaml<T: Serialize>(value: &T) -> io::Result<String> {
    let mut text = serde_saphyr::to_string(value).map_err(io::Error::other)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}
