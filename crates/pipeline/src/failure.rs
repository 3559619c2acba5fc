//! What an error of any package means here: its class, and a cause for people.

use kafka::registry::RegistryError;
use supervision::FailureClass;
use wal::Position;

/// A classified failure. Holds no secret and no row value.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{cause}")]
pub struct Failure {
    pub class: FailureClass,
    /// Cause and remedy.
    pub cause: String,
}

impl Failure {
    /// Something that a person must decide.
    #[must_use]
    pub fn fatal(cause: impl Into<String>) -> Self {
        Self { class: FailureClass::Fatal, cause: cause.into() }
    }

    /// Something that may pass.
    #[must_use]
    pub fn transient(cause: impl Into<String>) -> Self {
        Self { class: FailureClass::Transient, cause: cause.into() }
    }

    /// A lane's checkpoint is not where the lane left it. Where it stands lower, everything is to be opened again; higher,
    /// somebody else has written.
    #[must_use]
    pub fn checkpoint_moved(found: Position, expected: Position) -> Self {
        let stands = format!("the lane's checkpoint stands at {found} instead of {expected}");
        if found < expected {
            return Self::transient(format!(
                "{stands}: a broker that was restarted has aborted what it had answered as committed"
            ));
        }
        Self::fatal(format!(
            "{stands}: the checkpoint topic was altered by someone else; find out by whom, and run with --reseed"
        ))
    }
}

impl From<kafka::Error> for Failure {
    fn from(error: kafka::Error) -> Self {
        use kafka::Error;
        // No `_` arm: whoever adds an error decides here what it means.
        let class = match &error {
            Error::Registry(error) => class_of(error),
            Error::Unreachable { .. } => FailureClass::Connection,
            // A password may be changed at the broker first: tried again, but not for hours.
            Error::Authentication { .. } | Error::NotAuthorized { .. } => FailureClass::Transient,
            Error::Fenced { .. } => FailureClass::Fenced,
            Error::RecordTooLarge { .. } => FailureClass::Poison,
            Error::Dirty | Error::Poisoned | Error::Client { .. } => FailureClass::Transient,
            Error::TopicMissing { .. }
            | Error::TooFewPartitions { .. }
            | Error::CheckpointDiverged { .. }
            | Error::TopicTruncated { .. }
            | Error::CommittedAborted { .. }
            | Error::TopicChanged { .. }
            | Error::TopicGrown { .. }
            | Error::InternalTopic { .. }
            | Error::Config(_) => FailureClass::Fatal,
        };
        Self { class, cause: error.to_string() }
    }
}

fn class_of(error: &RegistryError) -> FailureClass {
    match error {
        RegistryError::Unreachable { .. } => FailureClass::Connection,
        // As at the broker: the password may be changed there first, and a wrong answer may be that of
        // a proxy while the registry restarts.
        RegistryError::NotAuthorized { .. }
        | RegistryError::Tls { .. }
        | RegistryError::Answer { .. } => FailureClass::Transient,
        // `sink.registry.on_incompatible` says what becomes of the rows.
        RegistryError::Incompatible { .. } | RegistryError::Refused { .. } => FailureClass::Poison,
    }
}

impl From<wal::decoder::Error> for Failure {
    fn from(error: wal::decoder::Error) -> Self {
        use wal::decoder::Error;
        let class = match &error {
            Error::Frame(_)
            | Error::Message { .. }
            | Error::RelationUnknown { .. }
            | Error::ColumnCount { .. }
            | Error::OutOfPlace { .. }
            | Error::CommitMismatch { .. }
            | Error::BufferTooLarge { .. }
            | Error::NotLearned { .. }
            | Error::OutOfTurn(_) => FailureClass::Transient,
            Error::NotRequested { .. } => FailureClass::Fatal,
            // The same value comes again.
            Error::Misread { .. } => FailureClass::Poison,
        };
        Self { class, cause: error.to_string() }
    }
}

impl From<wal::copy::CopyError> for Failure {
    fn from(error: wal::copy::CopyError) -> Self {
        Self::transient(error.to_string())
    }
}

impl From<record::plan::PlanError> for Failure {
    fn from(error: record::plan::PlanError) -> Self {
        Self::fatal(error.to_string())
    }
}

impl From<tokio::task::JoinError> for Failure {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::transient(format!("a blocking call ended early: {error}"))
    }
}
