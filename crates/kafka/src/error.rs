//! What can go wrong at the sink. Every kind names its cause and its remedy; none holds a secret or
//! a row value.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// A failed operation of the sink. The caller decides by kind whether to try again, to park or to stop.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// No answer from the brokers, or not enough replicas to write. Passes by itself.
    #[error(
        "Kafka does not answer while {doing}: {reason}; check that the brokers of `sink.brokers` run and are reachable"
    )]
    Unreachable { doing: String, reason: String },
    /// TLS or SASL refused. Trying again does not help until somebody changes the settings.
    #[error(
        "Kafka refused the connection while {doing}: {reason}; check user, password, mechanism and certificates in `sink.security`"
    )]
    Authentication { doing: String, reason: String },
    /// A newer owner of the same transactional id exists. This one must never write again.
    #[error("`{transactional_id}` was taken over by a newer owner; this process must stop writing")]
    Fenced { transactional_id: String },
    /// A record that the client or the broker refuses for its size.
    #[error(
        "a record of {bytes} bytes for topic `{topic}` exceeds the limit of {limit}; raise `max.message.bytes` of the topic or set `sink.oversize`",
        limit = limit_text(*bytes_max)
    )]
    RecordTooLarge { topic: String, bytes: u64, bytes_max: Option<u64> },
    #[error("topic `{topic}` does not exist; create it, or allow `sync.schema` to create topics")]
    TopicMissing { topic: String },
    #[error(
        "Kafka does not permit {doing}: {reason}; grant the rights listed in the manual for the prefix of the task"
    )]
    NotAuthorized { doing: String, reason: String },
    /// The checkpoint contradicts itself, belongs to somebody else, or cannot be read. HALT.
    #[error(
        "the checkpoint in `{topic}` partition {partition} cannot be trusted: {reason}; the task is parked, release it or reseed it"
    )]
    CheckpointDiverged { topic: String, partition: i32, reason: String },
    /// A topic ends before what was written to it: truncated or created anew. HALT.
    #[error(
        "topic `{topic}` partition {partition} ends at offset {end}, but offset {written} was written: it was truncated or created anew; reseed the task"
    )]
    TopicTruncated { topic: String, partition: i32, end: i64, written: i64 },
    /// An internal topic with settings under which the guarantee does not hold.
    #[error("internal topic `{topic}` is not usable: {reason}")]
    InternalTopic { topic: String, reason: String },
    /// The last commit was slow or retried inside the client: open again before the next transaction.
    #[error("the last commit was not clean; open the lane again before the next transaction")]
    Dirty,
    /// An earlier call failed. Only opening again tells what became of the transaction.
    #[error("this producer failed before; open the lane again")]
    Poisoned,
    /// Settings that no connection can be made of.
    #[error("{0}")]
    Config(String),
    /// Anything else that the client library reports.
    #[error("the Kafka client failed while {doing}: {reason}")]
    Client { doing: String, reason: String },
}

fn limit_text(bytes_max: Option<u64>) -> String {
    bytes_max.map_or_else(|| "the broker or the topic".into(), |limit| format!("{limit} bytes"))
}

impl Error {
    /// Sorts an error of the client library. `doing` completes "while …".
    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]
    pub(crate) fn from_kafka(doing: &str, error: &KafkaError) -> Self {
        match error {
            // Its text repeats the value, which may be a password.
            KafkaError::ClientConfig(_, _, key, _) => {
                Self::Config(format!("the Kafka client refuses the value of property `{key}`"))
            }
            KafkaError::ClientCreation(reason) => Self::from_creation(doing, reason),
            _ => {
                let code = error.rdkafka_error_code();
                let reason = error.to_string();
                code.map_or_else(
                    || Self::Client { doing: doing.into(), reason: reason.clone() },
                    |code| Self::from_code(doing, code, &reason),
                )
            }
        }
    }

    fn from_creation(doing: &str, reason: &str) -> Self {
        let tls = ["ssl", "SSL", "certificate", "private key"].iter().any(|it| reason.contains(it));
        if tls {
            return Self::Authentication { doing: doing.into(), reason: reason.into() };
        }
        Self::Config(format!("the Kafka client cannot be made: {reason}"))
    }

    /// Sorts an error code of the client library or the broker (Kafka protocol, error codes).
    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]
    pub(crate) fn from_code(doing: &str, code: RDKafkaErrorCode, reason: &str) -> Self {
        use RDKafkaErrorCode as Code;
        let (doing, reason) = (doing.to_owned(), reason.to_owned());
        match code {
            Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::MessageTimedOut
            | Code::TimedOutQueue
            | Code::RequestTimedOut
            | Code::NetworkException
            | Code::CoordinatorNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::NotCoordinator
            | Code::WaitingForCoordinator
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::BrokerNotAvailable
            | Code::ReplicaNotAvailable
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::ISRInsufficient
            | Code::KafkaStorageError => Self::Unreachable { doing, reason },
            Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::SSL => Self::Authentication { doing, reason },
            Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::GroupAuthorizationFailed => Self::NotAuthorized { doing, reason },
            _ => Self::Client { doing, reason },
        }
    }
}

/// Whether this code says that a newer producer took the transactional id (KIP-98, KIP-588).
pub(crate) fn is_fenced(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)
}

/// Whether this code says that the topic or the partition does not exist.
pub(crate) fn is_missing_topic(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(code, Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::config::ClientConfig;
    use rdkafka::producer::BaseProducer;

    #[test]
    fn a_refused_property_does_not_repeat_its_value() {
        let mut config = ClientConfig::new();
        config.set("sasl.mechanism", "PLAIN").set("socket.timeout.ms", "hunter2");
        let error = config.create::<BaseProducer>().err().expect("refused");
        let text = Error::from_kafka("opening", &error).to_string();
        assert_eq!(text, "the Kafka client refuses the value of property `socket.timeout.ms`");
    }

    #[test]
    fn what_passes_by_itself_is_told_from_what_needs_a_person() {
        let kind = |code| Error::from_code("writing", code, "because");
        assert!(matches!(kind(RDKafkaErrorCode::AllBrokersDown), Error::Unreachable { .. }));
        assert!(matches!(kind(RDKafkaErrorCode::Authentication), Error::Authentication { .. }));
        let refused = RDKafkaErrorCode::TopicAuthorizationFailed;
        assert!(matches!(kind(refused), Error::NotAuthorized { .. }));
        assert!(is_fenced(RDKafkaErrorCode::ProducerFenced));
        assert!(!is_fenced(RDKafkaErrorCode::AllBrokersDown));
    }
}
