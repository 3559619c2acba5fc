//! The states of a task.

use serde::{Deserialize, Serialize};

/// What a task does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    /// Applied, never started.
    NotConfigured,
    Prechecking,
    PrecheckFailed,
    /// Reads the tables.
    Initializing,
    /// Follows the stream, close behind.
    Synchronizing,
    /// Follows the stream, far behind.
    CatchingUp,
    /// Tries again after a failure.
    Retrying,
    Suspended,
    /// A changed spec is about to take force.
    Modifying,
    /// Waits for a person's decision.
    Parked,
    /// Has given up trying.
    Failed,
    /// Has done all that it was to do.
    Completed,
    Released,
}
