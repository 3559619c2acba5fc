//! What can go wrong at the sink. Every kind names its cause and its remedy; none holds a secret or
//! a row value.

use crate::registry::RegistryError;
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
    #[error(
        "topic `{topic}` does not exist; create it, or allow `sync.schema` to create topics; if it was deleted after the task had written to it, run with --reseed"
    )]
    TopicMissing { topic: String },
    /// A topic of ours that we may not change.
    #[error(
        "topic `{topic}` has {found} partitions and needs {wanted}, one for each lane; add to them, or allow `sync.schema` to do so"
    )]
    TooFewPartitions { topic: String, found: i32, wanted: i32 },
    /// A topic has not the partitions any more that routing rests on. HALT.
    #[error(
        "topic `{topic}` {now}, the task writes to {pinned}: it was deleted or created anew, and records may be gone; find out by whom, then run with --reseed",
        now = found_text(*found)
    )]
    TopicChanged { topic: String, found: Option<i32>, pinned: i32 },
    /// `sink.new_partitions: park`. HALT.
    #[error(
        "topic `{topic}` has {found} partitions, the task writes to the first {pinned} of them and `sink.new_partitions` is `park`: set it to `pin` to go on there, or run with --reseed to begin anew in all of them"
    )]
    TopicGrown { topic: String, found: i32, pinned: i32 },
    #[error(
        "Kafka does not permit {doing}: {reason}; grant the rights listed in the manual for the prefix of the task"
    )]
    NotAuthorized { doing: String, reason: String },
    /// The checkpoint contradicts itself, belongs to somebody else, or cannot be read. HALT.
    #[error(
        "the checkpoint in `{topic}` partition {partition} cannot be trusted: {reason}; find out who has written there, then run with --reseed"
    )]
    CheckpointDiverged { topic: String, partition: i32, reason: String },
    /// A topic ends before what was written to it: truncated or created anew. HALT.
    #[error(
        "topic `{topic}` partition {partition} ends at offset {end}, but offset {written} was written: it was deleted, truncated or created anew; find out by whom, then run with --reseed"
    )]
    TopicTruncated { topic: String, partition: i32, end: i64, written: i64 },
    /// Records of a transaction that was committed are in the log and hidden from consumers. HALT.
    #[error(
        "the record at offset {offset} of topic `{topic}` partition {partition} was committed, and consumers with `read_committed` do not get it: a broker that was restarted has forgotten to end its transaction, and the next one there was aborted; records are gone for them, so run with --reseed"
    )]
    CommittedAborted { topic: String, partition: i32, offset: i64 },
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
    /// The schema registry did not do what it was asked.
    #[error("{0}")]
    Registry(#[from] RegistryError),
    /// Anything else that the client library reports.
    #[error("the Kafka client failed while {doing}: {reason}")]
    Client { doing: String, reason: String },
}

fn limit_text(bytes_max: Option<u64>) -> String {
    bytes_max.map_or_else(|| "the broker or the topic".into(), |limit| format!("{limit} bytes"))
}

fn found_text(partitions: Option<i32>) -> String {
    match partitions {
        None => "does not exist any more".into(),
        Some(1) => "has 1 partition".into(),
        Some(partitions) => format!("has {partitions} partitions"),
    }
}

impl Error {
    /// What we write is always JSON; should it not be, it is not the brokers' fault.
    pub(crate) fn from_json(doing: &str, error: &serde_json::Error) -> Self {
        Self::Client { doing: doing.into(), reason: error.to_string() }
    }

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
            return Self::Authentication { doing: doing.into(), reason: in_our_words(reason) };
        }
        Self::Config(format!("the Kafka client cannot be made: {reason}"))
    }

    /// Sorts an error code of the client library or the broker (Kafka protocol, error codes).
    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]
    pub(crate) fn from_code(doing: &str, code: RDKafkaErrorCode, reason: &str) -> Self {
        use RDKafkaErrorCode as Code;
        let (doing, reason) = (doing.to_owned(), reason.to_owned());
        match code {
            // The broker says why it ends the connection: its reason, not the network's.
            Code::BrokerTransportFailure if reason.contains(TLS_ALERT) => {
                Self::Authentication { doing, reason: in_our_words(&reason) }
            }
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
            | Code::SSL => Self::Authentication { doing, reason: in_our_words(&reason) },
            Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::GroupAuthorizationFailed => Self::NotAuthorized { doing, reason },
            _ => Self::Client { doing, reason },
        }
    }
}

/// How the library begins to tell of an alert of the other side.
const TLS_ALERT: &str = "SSL alert number";
/// Alerts of a server about the client's certificate (RFC 8446, section 6): bad, unsupported, revoked,
/// expired, unknown, of an unknown authority, required.
const CERTIFICATE_ALERTS: &[u8] = &[42, 43, 44, 45, 46, 48, 116];
/// The library's properties, and the settings that they come from.
const SETTINGS: &[(&str, &str)] = &[
    ("ssl.ca.location", "`sink.security.ca`"),
    ("ssl.certificate.location", "`sink.security.cert`"),
    ("ssl.key.location", "`sink.security.key`"),
    ("ssl.ca.pem", "`sink.security.ca`"),
    ("ssl.certificate.pem", "`sink.security.cert`"),
];

/// The library speaks of its own properties, and of some causes not at all.
fn in_our_words(reason: &str) -> String {
    let ours = |text: String, (theirs, ours): &(&str, &str)| text.replace(theirs, ours);
    let text = SETTINGS.iter().fold(reason.to_owned(), ours);
    let alert = reason.split_once(TLS_ALERT).and_then(|(_, rest)| {
        rest.trim_start().split(|it: char| !it.is_ascii_digit()).next()?.parse::<u8>().ok()
    });
    let hint = if alert.is_some_and(|alert| CERTIFICATE_ALERTS.contains(&alert)) {
        "the broker asks for a client certificate that it trusts: `sink.security.cert` and `key`"
    } else if reason.contains("certificate verify failed") {
        "the certificate of the broker is not from an authority in `sink.security.ca`, or does not \
         name the host by which the broker is reached"
    } else if reason.contains("ssl.key.location") {
        "the key does not fit `sink.security.cert`, or needs `sink.security.key_password`"
    } else {
        return text;
    };
    format!("{hint}: {text}")
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
    fn an_alert_of_the_broker_is_its_answer_and_names_our_settings() {
        let of =
            |reason| Error::from_code("opening", RDKafkaErrorCode::BrokerTransportFailure, reason);
        let alert =
            of("Receive failed: SSL routines::bad certificate: SSL alert number 42 (after 1ms)");
        assert!(matches!(alert, Error::Authentication { .. }));
        assert!(alert.to_string().contains("`sink.security.cert`"), "{alert}");
        let other = of("Receive failed: SSL alert number 80").to_string();
        assert!(!other.contains("client certificate"), "{other}");
        assert!(matches!(of("Disconnected"), Error::Unreachable { .. }));
        let untrusted =
            Error::from_code("opening", RDKafkaErrorCode::SSL, "verify ssl.ca.location");
        assert!(untrusted.to_string().contains("verify `sink.security.ca`"), "{untrusted}");
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
