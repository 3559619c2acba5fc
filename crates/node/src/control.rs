//! Following the control topic, of every node. Its calls block: it wants a thread of its own.

use kafka::Error;
use kafka::control::{ControlEntry, ControlReader, ControlSettings};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;
use tracing::{info, warn};

/// How long one look waits, and a thread that is no longer needed goes on.
const POLL: Duration = Duration::from_millis(250);

/// Where the node's spec says that the topic is. Paths are relative to `folder`.
///
/// # Errors
/// When the spec cannot be used.
pub(crate) fn settings(node: &config::Node, folder: &Path) -> Result<ControlSettings, Error> {
    let config::node::Control { brokers, prefix, security } = &node.control;
    ControlSettings::new(brokers, prefix, security, folder)
}

/// Asks until Kafka answers, with a pause in between; `None`: nobody listens any more. `passes`: errors
/// that are waited out.
///
/// # Errors
/// Every other one.
pub(crate) fn patiently<T>(
    pause: Duration,
    is_closed: impl Fn() -> bool,
    passes: impl Fn(&Error) -> bool,
    ask: impl Fn() -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    let mut troubled = false;
    while !is_closed() {
        match ask() {
            Ok(answer) => return Ok(Some(answer)),
            Err(error) if passes(&error) => {
                if !std::mem::replace(&mut troubled, true) {
                    warn!(%error, "waiting for Kafka");
                }
                sleep(pause);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Hands over what is in the topic, in order, from its beginning on, until nobody listens any more:
/// `take` answers `false` then. `pause`: after an error, on top of what the look has waited.
///
/// # Errors
/// [`Error::InternalTopic`]: something was taken from the topic. All others are waited out.
pub(crate) fn follow(
    settings: &ControlSettings,
    pause: Duration,
    is_closed: impl Fn() -> bool,
    mut take: impl FnMut(Vec<ControlEntry>) -> bool,
) -> Result<(), Error> {
    let mut reader = ControlReader::new(settings)?;
    let mut troubled = false;
    while !is_closed() {
        match reader.poll(POLL) {
            Ok(entries) => {
                if std::mem::take(&mut troubled) {
                    info!("the control topic is read again");
                }
                if !entries.is_empty() && !take(entries) {
                    break;
                }
            }
            Err(error @ Error::InternalTopic { .. }) => return Err(error),
            Err(error) => {
                if !std::mem::replace(&mut troubled, true) {
                    warn!(%error, "the control topic cannot be read");
                }
                sleep(pause);
            }
        }
    }
    Ok(())
}
