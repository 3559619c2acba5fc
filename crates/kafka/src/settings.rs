//! From the spec to configurations of the client library (librdkafka, CONFIGURATION.md).

use crate::Error;
use crate::clean_commit::RETRY_BACKOFF;
use crate::properties;
use crate::queues::{QUEUES_BYTES_MAX, Queues, RECORD_BYTES};
use crate::registry::Registry;
use config::pem::Pem;
use config::{
    Acks, Compression, Delivery, Format, LiveSecret, Mechanism, Protocol, Secret, Switch,
};
use rdkafka::ClientConfig;
use secrecy::ExposeSecret;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long the broker lets a transaction stay open (delivery-protocol.md, section 5).
pub const TRANSACTION_TIMEOUT: Duration = Duration::from_millis(30_000);
/// How long a record may wait for its delivery.
pub const MESSAGE_TIMEOUT: Duration = Duration::from_millis(20_000);
/// How long a new client waits for its first connection before it begins without one.
pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(1);
const SOCKET_TIMEOUT: Duration = Duration::from_millis(10_000);
const STATISTICS_INTERVAL: Duration = Duration::from_millis(500);
/// Longest pause before a broker that is away is tried again; the library's own, 10 s, would outlast
/// most restarts.
const RECONNECT_BACKOFF_MAX: Duration = Duration::from_secs(1);
/// How long a broker may hold back an empty answer: what comes meanwhile is sent at once.
const FETCH_WAIT_MAX: Duration = Duration::from_millis(500);
/// Requests of one lane on their way to one broker. With idempotence the library sends one batch per
/// partition at a time, and while the next is overdue its thread spins, unless a finished request
/// waits behind these: few of them keep it asleep, and cost no throughput (`just bench kafka_lane`).
const REQUESTS_IN_FLIGHT_MAX: u8 = 2;
/// Without idempotence a request that is sent again comes after the one behind it.
const REQUESTS_IN_FLIGHT_MAX_UNORDERED: u8 = 1;
/// Largest record, unless `sink.properties` says otherwise; the topic may allow less.
const RECORD_BYTES_MAX: u64 = 4 << 20;

/// How to reach Kafka and how to write. Cheap to clone; shows no secret.
#[derive(Clone)]
pub struct Settings(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    brokers: String,
    /// Connection and properties of the allow-list.
    connection: BTreeMap<String, String>,
    password: Option<Arc<LiveSecret>>,
    key_password: Option<Arc<LiveSecret>>,
    delivery: Delivery,
    acks: &'static str,
    compression: &'static str,
    queues: Queues,
    record_bytes_max: u64,
    tells_watermarks: bool,
    heartbeats: Heartbeats,
    tells_transactions: bool,
    registry: Option<Registry>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("brokers", &self.0.brokers).finish_non_exhaustive()
    }
}

/// Where heartbeats go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Heartbeats {
    Nowhere,
    /// To a topic that is named after the task.
    OfTask,
    /// To Debezium's, whose name follows from the topic prefix.
    Named(String),
}

impl Heartbeats {
    fn of(sink: &config::Sink, task: &str) -> Self {
        if sink.heartbeat_topic == Switch::Off {
            return Self::Nowhere;
        }
        match sink.format {
            Format::DebeziumJson | Format::DebeziumAvro | Format::Protobuf => {
                let prefix = sink.topic_prefix.as_deref().unwrap_or(task);
                Self::Named(format!("__debezium-heartbeat.{prefix}"))
            }
            Format::CanalJson | Format::DtsAvro | Format::SharePlexJson => Self::OfTask,
            // It has none; the spec is refused.
            Format::MaxwellJson => Self::Nowhere,
        }
    }
}

impl Settings {
    /// Resolves secrets; paths are relative to `folder`.
    ///
    /// # Errors
    /// A refused property, a secret that is not there, a file that cannot be read.
    pub fn new(task: &config::Task, folder: &Path) -> Result<Self, Error> {
        Self::of("sink", &task.sink, &task.task, folder)
    }

    /// For the control log of a cluster, which the `control` part of a node spec describes.
    pub(crate) fn control(
        brokers: &[String],
        security: &config::Security,
        folder: &Path,
    ) -> Result<Self, Error> {
        let (brokers, security) = (brokers.to_vec(), security.clone());
        let sink = config::Sink { brokers, security, ..config::Sink::default() };
        // No task has an empty name.
        Self::of("control", &sink, "", folder)
    }

    /// `part`: how problems name the part of the spec. `task`: whose producers share what they may hold.
    fn of(part: &str, sink: &config::Sink, task: &str, folder: &Path) -> Result<Self, Error> {
        let refused = properties::check(&sink.properties);
        if !refused.is_empty() {
            let all: Vec<String> = refused.iter().map(ToString::to_string).collect();
            return Err(Error::Config(all.join("\n")));
        }
        let mut connection = sink.properties.clone();
        security(part, &sink.security, folder, &mut connection)?;
        let resolve = |name: &str, secret: &Option<Secret>| {
            let live = |it: &Secret| LiveSecret::new(it, folder).map(Arc::new);
            let resolved = secret.as_ref().map(live).transpose();
            resolved.map_err(|error| Error::Config(format!("{part}.security.{name}: {error}")))
        };
        let record_bytes_max = sink
            .properties
            .get("message.max.bytes")
            .and_then(|text| text.parse().ok())
            .unwrap_or(RECORD_BYTES_MAX);
        let (acks, compression) = (acks_word(sink.acks), compression_word(sink.compression));
        Ok(Self(Arc::new(Inner {
            brokers: sink.brokers.join(","),
            connection,
            password: resolve("password", &sink.security.password)?,
            key_password: resolve("key_password", &sink.security.key_password)?,
            delivery: sink.delivery,
            acks,
            compression,
            queues: Queues::of_task(task),
            record_bytes_max,
            tells_watermarks: sink.watermark_topic == Switch::On,
            tells_transactions: sink.transaction_topic == Switch::On,
            heartbeats: Heartbeats::of(sink, task),
            registry: sink.registry.as_ref().map(|it| Registry::new(it, folder)).transpose()?,
        })))
    }

    /// The same brokers, written to as `sink` says ([`config::Means::Lanes`]).
    #[must_use]
    pub fn producing_as(&self, sink: &config::Sink) -> Self {
        let mut inner = Inner::clone(&self.0);
        (inner.acks, inner.compression) =
            (acks_word(sink.acks), compression_word(sink.compression));
        config::produce_as(&mut inner.connection, &sink.properties);
        Self(Arc::new(inner))
    }

    /// `sink.delivery`.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        self.0.delivery
    }

    /// `sink.transaction_topic`.
    pub(crate) fn tells_transactions(&self) -> bool {
        self.0.tells_transactions
    }

    /// `sink.heartbeat_topic`.
    pub(crate) fn heartbeats(&self) -> &Heartbeats {
        &self.0.heartbeats
    }

    /// `sink.watermark_topic`.
    pub(crate) fn tells_watermarks(&self) -> bool {
        self.0.tells_watermarks
    }

    /// Who writes, for checkpoints and fences.
    #[must_use]
    pub fn node(&self) -> &str {
        node()
    }

    /// Largest record that the client takes.
    #[must_use]
    pub fn record_bytes_max(&self) -> u64 {
        self.0.record_bytes_max
    }

    /// The schema registry, where the spec names one. All lanes of the process share it.
    #[must_use]
    pub fn registry(&self) -> Option<&Registry> {
        self.0.registry.as_ref()
    }

    /// What all producers of the task may hold together in this process.
    pub(crate) fn queues(&self) -> &Queues {
        &self.0.queues
    }

    pub(crate) fn brokers(&self) -> &str {
        &self.0.brokers
    }

    /// The same with one broker alone.
    pub(crate) fn alone(&self, broker: &str) -> Self {
        Self(Arc::new(Inner { brokers: broker.to_owned(), ..Inner::clone(&self.0) }))
    }

    /// `sink.security.protocol`.
    pub(crate) fn protocol(&self) -> &str {
        self.0.connection.get("security.protocol").map_or("PLAINTEXT", |protocol| protocol)
    }

    pub(crate) fn encrypts(&self) -> bool {
        is_tls(self.protocol())
    }

    pub(crate) fn authenticates(&self) -> bool {
        is_sasl(self.protocol())
    }

    /// What every client shares. Passwords and certificates are those that are there now.
    fn base(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.0.brokers);
        for (name, value) in &self.0.connection {
            config.set(name, value);
        }
        if let Some(password) = &self.0.password {
            config.set("sasl.password", password.read().expose_secret());
        }
        if let Some(password) = &self.0.key_password {
            config.set("ssl.key.password", password.read().expose_secret());
        }
        millis(&mut config, "socket.timeout.ms", SOCKET_TIMEOUT);
        let chosen = |name: &str| self.0.connection.contains_key(name);
        if !chosen("reconnect.backoff.max.ms") {
            millis(&mut config, "reconnect.backoff.max.ms", RECONNECT_BACKOFF_MAX);
        }
        if !chosen("enable.metrics.push") {
            // KIP-714: brokers seldom ask for them, and they cost half a megabyte per lane.
            config.set("enable.metrics.push", "false");
        }
        config
    }

    /// For looking at topics and offsets.
    pub(crate) fn lookup(&self) -> ClientConfig {
        let mut config = self.admin();
        config.remove("message.max.bytes");
        config.set("allow.auto.create.topics", "false");
        // Otherwise a topic "ends" where the oldest open transaction of anybody begins.
        config.set("isolation.level", "read_uncommitted");
        config
    }

    /// For looking at what consumers with `read_committed` can see.
    pub(crate) fn lookup_committed(&self) -> ClientConfig {
        let mut config = self.lookup();
        config.set("isolation.level", "read_committed");
        config
    }

    /// For administration.
    pub(crate) fn admin(&self) -> ClientConfig {
        let mut config = self.base();
        // A consumer's property would be warned of: the producer's own are not needed here.
        for name in ["linger.ms", "batch.size", "batch.num.messages", "compression.level"] {
            config.remove(name);
        }
        config
    }

    /// For reading an internal topic: assigned by hand, only what was committed.
    pub(crate) fn consumer(&self, topic: &str) -> ClientConfig {
        let mut config = self.lookup();
        config.set("group.id", topic);
        config.set("enable.auto.commit", "false");
        config.set("auto.offset.reset", "error");
        config.set("isolation.level", "read_committed");
        config.set("enable.partition.eof", "true");
        config.set("fetch.wait.max.ms", "50");
        config.set("queued.max.messages.kbytes", "1024");
        config
    }

    /// As [`Self::consumer`], for as long as the process lives.
    pub(crate) fn follower(&self, topic: &str) -> ClientConfig {
        let mut config = self.consumer(topic);
        config.set("enable.partition.eof", "false");
        millis(&mut config, "fetch.wait.max.ms", FETCH_WAIT_MAX);
        config
    }

    /// For a lane, the meta lane or the leader, exactly-once.
    pub(crate) fn transactional(&self, transactional_id: &str) -> ClientConfig {
        let mut config = self.producer();
        config.set("transactional.id", transactional_id);
        config.set("enable.idempotence", "true");
        config.set("acks", "all");
        millis(&mut config, "transaction.timeout.ms", TRANSACTION_TIMEOUT);
        config
    }

    /// For a lane, at-least-once.
    pub(crate) fn idempotent(&self) -> ClientConfig {
        let mut config = self.producer();
        config.set("acks", self.0.acks);
        if self.0.acks == "all" {
            config.set("enable.idempotence", "true");
        } else {
            config.set("enable.idempotence", "false");
            config.set("max.in.flight", REQUESTS_IN_FLIGHT_MAX_UNORDERED.to_string());
        }
        config
    }

    /// For the checkpoints of a lane whose records nobody acknowledges.
    pub(crate) fn idempotent_checkpoints(&self) -> ClientConfig {
        let mut config = self.producer();
        config.set("enable.idempotence", "true");
        config.set("acks", "all");
        config
    }

    /// Whether the brokers tell what became of a record.
    pub(crate) fn acknowledges(&self) -> bool {
        self.0.acks != "0"
    }

    fn producer(&self) -> ClientConfig {
        let mut config = self.base();
        config.set("compression.type", self.0.compression);
        config.set("max.in.flight", REQUESTS_IN_FLIGHT_MAX.to_string());
        config.set("message.max.bytes", self.0.record_bytes_max.to_string());
        // One client may have all that the task's clients may hold together.
        config.set("queue.buffering.max.kbytes", (self.queue_bytes_max() >> 10).to_string());
        config.set("queue.buffering.max.messages", (QUEUES_BYTES_MAX / RECORD_BYTES).to_string());
        millis(&mut config, "message.timeout.ms", MESSAGE_TIMEOUT);
        millis(&mut config, "retry.backoff.ms", RETRY_BACKOFF);
        millis(&mut config, "retry.backoff.max.ms", RETRY_BACKOFF);
        millis(&mut config, "statistics.interval.ms", STATISTICS_INTERVAL);
        if !self.0.connection.contains_key("linger.ms") {
            config.set("linger.ms", "2");
        }
        config
    }

    /// One record always fits.
    fn queue_bytes_max(&self) -> u64 {
        QUEUES_BYTES_MAX.max(self.0.record_bytes_max + (1 << 20))
    }
}

/// librdkafka's word.
fn acks_word(acks: Acks) -> &'static str {
    match acks {
        Acks::Zero => "0",
        Acks::One => "1",
        Acks::All => "all",
    }
}

/// librdkafka's word.
fn compression_word(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "none",
        Compression::Lz4 => "lz4",
        Compression::Gzip => "gzip",
        Compression::Snappy => "snappy",
        Compression::Zstd => "zstd",
    }
}

/// Who writes, for checkpoints and fences: no two processes ever have the same.
fn node() -> &'static str {
    static NODE: OnceLock<String> = OnceLock::new();
    NODE.get_or_init(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        format!("run-{}-{:x}", std::process::id(), since.as_nanos())
    })
}

fn millis(config: &mut ClientConfig, name: &str, value: Duration) {
    config.set(name, value.as_millis().to_string());
}

fn security(
    part: &str,
    security: &config::Security,
    folder: &Path,
    connection: &mut BTreeMap<String, String>,
) -> Result<(), Error> {
    let mut set = |name: &str, value: String| connection.insert(name.to_owned(), value);
    let protocol = match security.protocol {
        Protocol::Plaintext => "PLAINTEXT",
        Protocol::Ssl => "SSL",
        Protocol::SaslPlaintext => "SASL_PLAINTEXT",
        Protocol::SaslSsl => "SASL_SSL",
    };
    fits(part, security, protocol)?;
    set("security.protocol", protocol.into());
    if let Some(mechanism) = security.mechanism {
        let mechanism = match mechanism {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
        };
        set("sasl.mechanism", mechanism.into());
    }
    if let Some(user) = &security.user {
        set("sasl.username", user.clone());
    }
    let all = [
        ("ca", "ssl.ca", &security.ca),
        ("cert", "ssl.certificate", &security.cert),
        ("key", "ssl.key", &security.key),
    ];
    for (setting, name, pem) in all {
        let file = match pem.as_deref().map(Pem::of) {
            None => continue,
            Some(Pem::Text(text)) => {
                set(&format!("{name}.pem"), text.into());
                continue;
            }
            Some(Pem::File(file)) => folder.join(file),
        };
        if let Err(error) = std::fs::File::open(&file) {
            let file = file.display();
            return Err(Error::Config(format!(
                "{part}.security.{setting}: `{file}` cannot be read: {error}"
            )));
        }
        set(&format!("{name}.location"), file.to_string_lossy().into_owned());
    }
    Ok(())
}

fn is_tls(protocol: &str) -> bool {
    protocol.ends_with("SSL")
}

fn is_sasl(protocol: &str) -> bool {
    protocol.starts_with("SASL_")
}

/// Whoever sets a password or an authority wants it used: a protocol that does not is a mistake, and
/// one that would pass unseen.
fn fits(part: &str, security: &config::Security, protocol: &str) -> Result<(), Error> {
    let (sasl, tls) = (is_sasl(protocol), is_tls(protocol));
    let mut found = Vec::new();
    for (name, set, used, required) in [
        ("mechanism", security.mechanism.is_some(), sasl, sasl),
        ("user", security.user.is_some(), sasl, sasl),
        ("password", security.password.is_some(), sasl, sasl),
        ("ca", security.ca.is_some(), tls, false),
        ("cert", security.cert.is_some(), tls, security.key.is_some()),
        ("key", security.key.is_some(), tls, security.cert.is_some()),
        ("key_password", security.key_password.is_some(), tls, false),
    ] {
        if set && !used {
            let use_it = if sasl || tls { "SASL_SSL" } else { "SSL, SASL_PLAINTEXT or SASL_SSL" };
            found.push(format!(
                "{part}.security.{name}: is not used by protocol {protocol}; set \
                 `{part}.security.protocol` to {use_it}, or leave it out"
            ));
        } else if required && !set {
            let with =
                if matches!(name, "cert" | "key") { "a client certificate" } else { protocol };
            found.push(format!("{part}.security.{name}: is required with {with}"));
        }
    }
    if found.is_empty() { Ok(()) } else { Err(Error::Config(found.join("\n"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(change: impl FnOnce(&mut config::Sink)) -> Result<Settings, Error> {
        let mut task = config::Task { task: "shop".into(), ..config::Task::default() };
        task.sink.brokers = vec!["127.0.0.1:1".into()];
        change(&mut task.sink);
        Settings::new(&task, Path::new("."))
    }

    #[test]
    fn the_delivery_rules_are_set() {
        let config = settings(|_| {}).expect("valid").transactional("distributary.shop.lane.3");
        for (name, value) in [
            ("transactional.id", "distributary.shop.lane.3"),
            ("acks", "all"),
            ("enable.idempotence", "true"),
            ("transaction.timeout.ms", "30000"),
            ("message.timeout.ms", "20000"),
            ("socket.timeout.ms", "10000"),
            ("retry.backoff.ms", "1000"),
            ("retry.backoff.max.ms", "1000"),
            ("statistics.interval.ms", "500"),
            ("linger.ms", "2"),
            ("max.in.flight", "2"),
            ("compression.type", "lz4"),
        ] {
            assert_eq!(config.get(name), Some(value), "{name}");
        }
    }

    #[test]
    fn at_least_once_is_idempotent_only_where_all_replicas_answer() {
        let config = |acks| settings(|sink| sink.acks = acks).expect("valid").idempotent();
        assert_eq!(config(Acks::All).get("enable.idempotence"), Some("true"));
        assert_eq!(config(Acks::One).get("enable.idempotence"), Some("false"));
        assert_eq!(config(Acks::One).get("max.in.flight"), Some("1"), "order");
        assert_eq!(config(Acks::Zero).get("acks"), Some("0"));
        assert_eq!(config(Acks::All).get("transactional.id"), None);
    }

    #[test]
    fn all_refused_properties_are_named_at_once() {
        let add = |sink: &mut config::Sink| {
            sink.properties = ["debug", "acks"].map(|name| (name.into(), "1".into())).into();
        };
        let error = settings(add).expect_err("refused").to_string();
        assert!(error.contains("`debug`") && error.contains("`acks`"), "{error}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = settings(|sink| {
            sink.security.protocol = Protocol::Ssl;
            sink.security.ca = Some("no-such.pem".into());
        })
        .err();
        let error = error.expect("refused").to_string();
        assert!(error.contains("sink.security.ca") && error.contains("no-such.pem"), "{error}");
    }

    #[test]
    fn a_certificate_may_stand_in_the_spec() {
        let text = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        let config = settings(|sink| {
            sink.security.protocol = Protocol::Ssl;
            sink.security.ca = Some(text.into());
        });
        let config = config.expect("valid").admin();
        assert_eq!((config.get("ssl.ca.pem"), config.get("ssl.ca.location")), (Some(text), None));
    }

    #[test]
    fn a_password_that_was_replaced_is_read_by_the_next_client() {
        let path =
            std::env::temp_dir().join(format!("distributary-rotated-{}", std::process::id()));
        let reference = format!("\"${{file:{}}}\"", path.display());
        std::fs::write(&path, "old").expect("written");
        let settings = settings(|sink| {
            sink.security = config::Security {
                protocol: Protocol::SaslPlaintext,
                mechanism: Some(Mechanism::ScramSha256),
                user: Some("u".into()),
                password: serde_json::from_str(&reference).ok(),
                ..config::Security::default()
            };
        })
        .expect("settings");
        assert_eq!(settings.admin().get("sasl.password"), Some("old"));
        std::fs::write(&path, "new").expect("written");
        assert_eq!(settings.transactional("t").get("sasl.password"), Some("new"));
        std::fs::remove_file(&path).expect("removed");
    }

    #[test]
    fn no_secret_is_shown() {
        let secret: Secret = serde_json::from_str("\"hunter2\"").expect("a secret");
        let sasl = |sink: &mut config::Sink| {
            sink.security = config::Security {
                protocol: Protocol::SaslSsl,
                mechanism: Some(Mechanism::Plain),
                user: Some("shop".into()),
                password: Some(secret),
                ..config::Security::default()
            };
        };
        let settings = settings(sasl).expect("valid");
        assert!(!format!("{settings:?}").contains("hunter2"));
        assert!(settings.encrypts() && settings.authenticates());
    }

    #[test]
    fn security_that_would_not_be_used_or_lacks_a_part_is_refused() {
        let said = |change: fn(&mut config::Security)| {
            settings(|sink| change(&mut sink.security)).expect_err("refused").to_string()
        };
        let unused = said(|security| {
            security.user = Some("shop".into());
            security.ca = Some("ca.pem".into());
        });
        for setting in ["sink.security.user: is not used", "sink.security.ca: is not used"] {
            assert!(unused.contains(setting), "{unused}");
        }
        let lacking = said(|security| {
            security.protocol = Protocol::SaslSsl;
            security.cert = Some("client.pem".into());
        });
        for setting in ["mechanism", "user", "password", "key"] {
            let wanted = format!("sink.security.{setting}: is required");
            assert!(lacking.contains(&wanted), "{lacking}");
        }
        assert!(!lacking.contains("sink.security.ca:"), "the system's authorities: {lacking}");
    }

    #[test]
    fn without_acknowledgements_the_checkpoints_still_have_them() {
        let none = settings(|sink| sink.acks = Acks::Zero).expect("valid");
        assert!(!none.acknowledges());
        assert_eq!(none.idempotent_checkpoints().get("acks"), Some("all"));
        assert!(settings(|sink| sink.acks = Acks::One).expect("valid").acknowledges());
    }

    #[test]
    fn the_queue_holds_any_one_record() {
        let large = |sink: &mut config::Sink| {
            sink.properties = [("message.max.bytes".to_owned(), "104857600".to_owned())].into();
        };
        let config = settings(large).expect("valid").idempotent();
        let kbytes: u64 =
            config.get("queue.buffering.max.kbytes").expect("set").parse().expect("n");
        assert!((104_857_600 >> 10) < kbytes);
    }
}
