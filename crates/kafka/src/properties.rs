//! `sink.properties`: which librdkafka properties a task may set, and why the others are refused. Pure.
//!
//! Names and meanings: librdkafka, CONFIGURATION.md. Everything is refused unless it is known to be
//! harmless, so a new version of the library cannot open a door.

use std::collections::BTreeMap;

/// May be set: transport, batching and memory, within the delivery rules.
const ALLOWED: &[&str] = &[
    "api.version.request.timeout.ms",
    "batch.num.messages",
    "batch.size",
    "broker.address.family",
    "broker.address.ttl",
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "compression.level",
    "connections.max.idle.ms",
    "enable.metrics.push",
    "linger.ms",
    "log.connection.close",
    "log_level",
    "message.copy.max.bytes",
    "message.max.bytes",
    "metadata.max.age.ms",
    "metadata.recovery.rebootstrap.trigger.ms",
    "metadata.recovery.strategy",
    "receive.message.max.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "ssl.cipher.suites",
    "ssl.crl.location",
    "ssl.curves.list",
    "ssl.sigalgs.list",
    "topic.metadata.propagation.max.ms",
    "topic.metadata.refresh.fast.interval.ms",
    "topic.metadata.refresh.interval.ms",
    "topic.metadata.refresh.sparse",
];

/// Why a property is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Harm {
    LoadsCode,
    RunsCommands,
    LogsConfiguration,
    WeakensVerification,
    BreaksDelivery,
    HasItsOwnSetting(&'static str),
    ReadsOtherFiles,
}

impl Harm {
    fn reason(self) -> String {
        match self {
            Self::LoadsCode => "it loads code into the process".into(),
            Self::RunsCommands => "it runs commands or sends credentials elsewhere".into(),
            Self::LogsConfiguration => {
                "it writes the configuration, with passwords, to the log".into()
            }
            Self::WeakensVerification => "it weakens the verification of the server".into(),
            Self::BreaksDelivery => "the delivery guarantee depends on its value".into(),
            Self::HasItsOwnSetting(setting) => format!("set `{setting}` instead"),
            Self::ReadsOtherFiles => "it reads files that the task does not name elsewhere".into(),
        }
    }
}

/// Exact names, or beginnings that end with `*`.
const REFUSED: &[(&str, Harm)] = &[
    ("plugin.library.paths", Harm::LoadsCode),
    ("interceptors", Harm::LoadsCode),
    ("ssl.engine.*", Harm::LoadsCode),
    ("ssl_engine*", Harm::LoadsCode),
    ("ssl.providers", Harm::LoadsCode),
    ("sasl.kerberos.kinit.cmd", Harm::RunsCommands),
    ("sasl.kerberos.*", Harm::RunsCommands),
    ("sasl.oauthbearer.*", Harm::RunsCommands),
    ("debug", Harm::LogsConfiguration),
    ("enable.ssl.certificate.verification", Harm::WeakensVerification),
    ("ssl.endpoint.identification.algorithm", Harm::WeakensVerification),
    ("ssl.certificate.verify_cb", Harm::WeakensVerification),
    ("enable.sasl.oauthbearer.unsecure.jwt", Harm::WeakensVerification),
    ("https.ca.*", Harm::WeakensVerification),
    ("bootstrap.servers", Harm::HasItsOwnSetting("sink.brokers")),
    ("metadata.broker.list", Harm::HasItsOwnSetting("sink.brokers")),
    ("security.protocol", Harm::HasItsOwnSetting("sink.security.protocol")),
    ("sasl.mechanism", Harm::HasItsOwnSetting("sink.security.mechanism")),
    ("sasl.mechanisms", Harm::HasItsOwnSetting("sink.security.mechanism")),
    ("sasl.username", Harm::HasItsOwnSetting("sink.security.user")),
    ("sasl.password", Harm::HasItsOwnSetting("sink.security.password")),
    ("ssl.ca.*", Harm::HasItsOwnSetting("sink.security.ca")),
    ("ssl_ca", Harm::HasItsOwnSetting("sink.security.ca")),
    ("ssl.certificate.*", Harm::HasItsOwnSetting("sink.security.cert")),
    ("ssl_certificate", Harm::HasItsOwnSetting("sink.security.cert")),
    ("ssl.key.*", Harm::HasItsOwnSetting("sink.security.key")),
    ("ssl_key", Harm::HasItsOwnSetting("sink.security.key")),
    ("ssl.keystore.*", Harm::HasItsOwnSetting("sink.security.key")),
    ("acks", Harm::HasItsOwnSetting("sink.acks")),
    ("request.required.acks", Harm::HasItsOwnSetting("sink.acks")),
    ("compression.codec", Harm::HasItsOwnSetting("sink.compression")),
    ("compression.type", Harm::HasItsOwnSetting("sink.compression")),
    ("transactional.id", Harm::BreaksDelivery),
    ("transaction.timeout.ms", Harm::BreaksDelivery),
    ("enable.idempotence", Harm::BreaksDelivery),
    ("enable.gapless.guarantee", Harm::BreaksDelivery),
    ("retries", Harm::BreaksDelivery),
    ("message.send.max.retries", Harm::BreaksDelivery),
    ("retry.backoff.*", Harm::BreaksDelivery),
    ("max.in.flight*", Harm::BreaksDelivery),
    ("message.timeout.ms", Harm::BreaksDelivery),
    ("delivery.timeout.ms", Harm::BreaksDelivery),
    ("request.timeout.ms", Harm::BreaksDelivery),
    ("socket.timeout.ms", Harm::BreaksDelivery),
    ("socket.max.fails", Harm::BreaksDelivery),
    ("statistics.interval.ms", Harm::BreaksDelivery),
    ("queue.buffering.*", Harm::BreaksDelivery),
    ("queuing.strategy", Harm::BreaksDelivery),
    ("partitioner", Harm::BreaksDelivery),
    ("sticky.partitioning.linger.ms", Harm::BreaksDelivery),
    ("delivery.report.only.error", Harm::BreaksDelivery),
    ("produce.offset.report", Harm::BreaksDelivery),
    ("isolation.level", Harm::BreaksDelivery),
    ("auto.offset.reset", Harm::BreaksDelivery),
    ("enable.auto.commit", Harm::BreaksDelivery),
    ("allow.auto.create.topics", Harm::BreaksDelivery),
    ("api.version.request", Harm::BreaksDelivery),
    ("api.version.fallback.ms", Harm::BreaksDelivery),
    ("broker.version.fallback", Harm::BreaksDelivery),
    ("test.*", Harm::BreaksDelivery),
    ("log.queue", Harm::BreaksDelivery),
    ("enabled_events", Harm::BreaksDelivery),
    ("offset.store.*", Harm::ReadsOtherFiles),
];

/// A property that a task may not set.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RefusedProperty {
    #[error("sink.properties: `{name}` is refused: {reason}")]
    Refused { name: String, reason: String },
    #[error("sink.properties: `{name}` is not known; did you mean `{nearest}`?")]
    Unknown { name: String, nearest: &'static str },
}

/// Checks all names and returns every problem.
#[must_use]
pub fn check(properties: &BTreeMap<String, String>) -> Vec<RefusedProperty> {
    properties.keys().filter_map(|name| check_one(name).err()).collect()
}

fn check_one(name: &str) -> Result<(), RefusedProperty> {
    if ALLOWED.contains(&name) {
        return Ok(());
    }
    let matches = |pattern: &str| match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    };
    if let Some((_, harm)) = REFUSED.iter().find(|(pattern, _)| matches(pattern)) {
        return Err(RefusedProperty::Refused { name: name.into(), reason: harm.reason() });
    }
    let distance = |allowed: &&&str| strsim::damerau_levenshtein(allowed, name);
    let nearest = ALLOWED.iter().min_by_key(distance).copied().unwrap_or("linger.ms");
    Err(RefusedProperty::Unknown { name: name.into(), nearest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::config::ClientConfig;

    fn refusal(name: &str) -> String {
        check_one(name).expect_err("refused").to_string()
    }

    #[test]
    fn each_class_of_refusal_says_its_reason() {
        let of = |name| refusal(name).split_once("refused: ").map(|(_, reason)| reason.to_owned());
        for (name, reason) in [
            ("plugin.library.paths", "it loads code into the process"),
            ("sasl.kerberos.kinit.cmd", "it runs commands or sends credentials elsewhere"),
            ("debug", "it writes the configuration, with passwords, to the log"),
            ("enable.ssl.certificate.verification", "it weakens the verification of the server"),
            ("ssl.endpoint.identification.algorithm", "it weakens the verification of the server"),
            ("transactional.id", "the delivery guarantee depends on its value"),
            ("retry.backoff.max.ms", "the delivery guarantee depends on its value"),
            ("queue.buffering.max.kbytes", "the delivery guarantee depends on its value"),
            ("acks", "set `sink.acks` instead"),
            ("ssl.ca.location", "set `sink.security.ca` instead"),
        ] {
            assert_eq!(of(name).as_deref(), Some(reason), "{name}");
        }
    }

    #[test]
    fn an_unknown_property_names_the_nearest() {
        assert_eq!(
            refusal("linger.mss"),
            "sink.properties: `linger.mss` is not known; did you mean `linger.ms`?"
        );
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let properties = ["acks", "linger.ms", "debug"].map(|name| (name.into(), "1".into()));
        assert_eq!(check(&properties.into()).len(), 2);
    }

    #[test]
    fn every_allowed_property_passes_and_is_known_to_the_library() {
        for name in ALLOWED {
            assert_eq!(check_one(name), Ok(()), "{name}");
            // An unknown name is another error than an invalid value.
            let mut config = ClientConfig::new();
            config.set(*name, "\u{1}");
            let error = config.create_native_config().err().map(|error| error.to_string());
            assert!(!error.unwrap_or_default().contains("No such"), "{name}");
        }
    }
}
