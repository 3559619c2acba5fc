//! stderr: log lines, and below them a bar that they do not tear.

use indicatif::MultiProgress;
use std::io::{self, Write};
use tracing_subscriber::fmt::MakeWriter;

/// Writes lines above the bars.
#[derive(Clone, Debug, Default)]
pub(crate) struct Console {
    pub(crate) bars: MultiProgress,
}

impl Write for Console {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.bars.suspend(|| io::stderr().lock().write_all(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for Console {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
