//! `--watch`: the same again whenever it changes, also from another coordinator when one goes away.

use super::reach::Reach;
use crate::output::{Output, OutputFormat};
use crate::report;
use rpc::{Code, Error};
use serde::Serialize;
use std::io::{self, IsTerminal};
use std::time::{Duration, SystemTime};
use tonic::Streaming;

/// Between two tries to find a coordinator.
const PAUSE: Duration = Duration::from_secs(1);

/// What comes after a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Next {
    /// More; a stream that ends has lost its coordinator.
    More,
    /// Nothing, once the stream ends.
    MayEnd,
    /// Nothing.
    End,
}

/// How watching ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// By Ctrl-C, or because nothing more comes.
    Done,
    Refused(Error),
}

pub(super) fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What is shown: a document of its own each time, or the same place of a terminal.
#[derive(Debug)]
pub(super) struct Screen<V> {
    output: Output,
    terminal: bool,
    shown: Option<V>,
}

impl<V: PartialEq + Serialize> Screen<V> {
    pub(super) fn new(output: Output) -> Self {
        let terminal = output.format == OutputFormat::Text && io::stdout().is_terminal();
        Self { output, terminal, shown: None }
    }

    /// Shows a value. A terminal is drawn again also without a change: ages grow.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub(super) fn show(&mut self, value: V, text: impl Fn(&V) -> String) -> io::Result<()> {
        if self.terminal {
            self.output.redraw(&text(&value), self.shown.is_none())?;
        } else if self.shown.as_ref() != Some(&value) {
            let gap = if self.shown.is_some() { "\n" } else { "" };
            self.output.item(&value, || format!("{gap}{}", text(&value)))?;
        }
        self.shown = Some(value);
        Ok(())
    }
}

/// Shows everything that comes until Ctrl-C, until `take` has had the last, or until a refusal.
///
/// # Errors
/// When stdout cannot be written.
pub(super) async fn watch<T>(
    reach: &Reach,
    output: Output,
    open: impl AsyncFn(&Reach) -> Result<Streaming<T>, Error>,
    mut take: impl FnMut(T) -> io::Result<Next>,
) -> io::Result<Ended> {
    let (mut came, mut said) = (false, false);
    let mut next = Next::More;
    let watching = async {
        loop {
            let lost = match open(&reach.toward_leader().await).await {
                Err(error) => Some(error),
                Ok(mut stream) => loop {
                    match stream.message().await {
                        Ok(Some(message)) => {
                            (came, said) = (true, false);
                            next = take(message)?;
                            if next == Next::End {
                                return Ok(Ended::Done);
                            }
                        }
                        Ok(None) if next == Next::MayEnd => return Ok(Ended::Done),
                        Ok(None) => break None,
                        Err(status) => break Some(Error::from(status)),
                    }
                },
            };
            match lost {
                // What was there a moment ago is gone.
                Some(error) if came && error.code == Code::NotFound => return Ok(Ended::Done),
                Some(error) if !came || !error.passes() => return Ok(Ended::Refused(error)),
                Some(error) if !said => {
                    report::note(output, &format!("{}; looking for a coordinator", error.cause));
                    said = true;
                }
                Some(_) | None => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        ended = watching => ended,
        interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| Ended::Done),
    }
}
