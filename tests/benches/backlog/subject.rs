//! What drains a backlog.

pub(super) const SUBJECTS: &[Subject] =
    &[Subject::RecvLogical, Subject::ExactlyOnce, Subject::AtLeastOnce];
pub(super) const WIRES: &[Subject] =
    &[Subject::RecvLogical, Subject::RecvBinary, Subject::OnceText, Subject::ExactlyOnce];
pub(super) const STREAMS: &[Subject] =
    &[Subject::RecvLogical, Subject::ExactlyOnce, Subject::TwoStreams, Subject::FourStreams];

/// Debezium's connector beside ours.
pub(super) const WITH_DEBEZIUM: &[Subject] =
    &[Subject::RecvLogical, Subject::ExactlyOnce, Subject::AtLeastOnce, Subject::Debezium];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Subject {
    RecvLogical,
    /// Values in binary form.
    RecvBinary,
    ExactlyOnce,
    /// Values as text.
    OnceText,
    AtLeastOnce,
    /// Exactly once, over two slots.
    TwoStreams,
    FourStreams,
    Debezium,
}

impl Subject {
    /// It is no task.
    pub(super) fn is_bare(self) -> bool {
        matches!(self, Self::RecvLogical | Self::RecvBinary | Self::Debezium)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::RecvLogical => "`pg_recvlogical` to nowhere",
            Self::RecvBinary => "`pg_recvlogical` to nowhere, binary",
            Self::OnceText => "`distributary`, exactly once, text",
            Self::ExactlyOnce => "`distributary`, exactly once",
            Self::AtLeastOnce => "`distributary`, at least once",
            Self::TwoStreams => "`distributary`, 2 streams",
            Self::FourStreams => "`distributary`, 4 streams",
            Self::Debezium => "Debezium's connector in Kafka Connect",
        }
    }

    pub(super) fn short(self) -> &'static str {
        match self {
            Self::RecvLogical => "recv",
            Self::RecvBinary => "recv_binary",
            Self::ExactlyOnce => "once",
            Self::OnceText => "once_text",
            Self::AtLeastOnce => "least",
            Self::TwoStreams => "two",
            Self::FourStreams => "four",
            Self::Debezium => "debezium",
        }
    }

    pub(super) fn streams(self) -> u8 {
        match self {
            Self::TwoStreams => 2,
            Self::FourStreams => 4,
            Self::RecvLogical
            | Self::RecvBinary
            | Self::ExactlyOnce
            | Self::OnceText
            | Self::AtLeastOnce
            | Self::Debezium => 1,
        }
    }
}
