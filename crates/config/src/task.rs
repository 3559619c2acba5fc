//! The task spec. Field names are the keys of the spec; defaults are those of the interface.

use crate::Secret;
use crate::format::{Format, FormatOptions};
use crate::registry::Registry;
use crate::units::{Bytes, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

macro_rules! word {
    ($(#[$about:meta])* $name:ident { $($(#[$variant_attribute:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$variant_attribute])* $variant),+ }
    };
}

pub(crate) use word;

/// One database kept in step with one Kafka cluster.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Task {
    /// Version of this format: 1.
    pub version: u32,
    /// Name of the task: names slot, topics and transactional ids. `[a-z][a-z0-9_]{0,39}`.
    pub task: String,
    pub labels: BTreeMap<String, String>,
    pub source: Source,
    pub sink: Sink,
    pub sync: Sync,
    /// Producers that can work side by side, 1 to 64.
    pub lanes: Lanes,
    /// What is captured; the first match wins.
    pub objects: Vec<Object>,
    pub snapshot: Snapshot,
    pub throttle: Throttles,
    pub retry: Retry,
    pub alerts: Option<Alerts>,
    pub compat: Compat,
    pub placement: Placement,
    /// Key of the columns under `columns.mask`: a reference such as `${file:mask.key}`, 16 bytes or more.
    pub mask_key: Option<Secret>,
    /// Which of its streams this is, from 1 (`source.streams`); 0: the task as a whole. No part of a spec.
    #[serde(skip)]
    pub stream: u8,
}

/// Number of lanes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Lanes(pub u8);

impl Default for Lanes {
    fn default() -> Self {
        Self(8)
    }
}

/// The database.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Source {
    /// `host:port` each; the read-write one is found.
    pub hosts: Vec<String>,
    /// A named connection of the cluster, in place of `hosts`.
    pub connection: Option<String>,
    pub database: String,
    pub user: String,
    pub password: Option<Secret>,
    pub tls: Tls,
    /// Which server is read. `standby`: the slot is made on a host that is in recovery, stream and first snapshot come from
    /// there (PostgreSQL 16+); what the task writes goes to the read-write host all the same.
    pub read_from: ReadFrom,
    pub slot_prefix: String,
    pub slot_failover: Choice,
    pub replica_identity: IdentityPolicy,
    pub ddl: DdlCapture,
    pub heartbeat_interval: Span,
    /// `on`: large transactions come while they are in progress (PostgreSQL 14+) and are spooled on the disk of the reader's
    /// node, so that only reading the spool is left to be done when they commit. Records are the same.
    pub streaming: Switch,
    /// How the server sends values: `binary` frees it from writing them as text, which is done here then; records are the
    /// same. `auto`: binary where every column's type has a decoder here (PostgreSQL 14+), else text.
    pub wire: Wire,
    pub partition_names: PartitionNames,
    /// `fail`, `base64`, `replace`, or the encoding that the bytes really have.
    pub sql_ascii: String,
    pub on_divergence: OnDivergence,
    /// Of all spooled transactions together; more of them park the task.
    pub spool_bytes_max: Bytes,
    /// Replication slots over which the tables are divided, 1 to 16: order is kept within a table then, not over tables
    /// (`docs/streams.md`).
    #[serde(skip_serializing_if = "is_one")]
    pub streams: u8,
}

impl Default for Source {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            connection: None,
            database: String::new(),
            user: String::new(),
            password: None,
            tls: Tls::default(),
            read_from: ReadFrom::default(),
            slot_prefix: "distributary_".into(),
            slot_failover: Choice::default(),
            replica_identity: IdentityPolicy::default(),
            ddl: DdlCapture::default(),
            heartbeat_interval: Span(Duration::from_secs(10)),
            streaming: Switch::default(),
            wire: Wire::default(),
            partition_names: PartitionNames::default(),
            sql_ascii: "fail".into(),
            on_divergence: OnDivergence::default(),
            spool_bytes_max: Bytes(10 << 30),
            streams: 1,
        }
    }
}

/// What came after the first release is written only where it is not the default.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
pub(crate) fn is_one(value: &u8) -> bool {
    *value == 1
}

/// TLS towards PostgreSQL. `ca` and `cert` are PEM files, relative to the spec, or their text, which begins
/// with `-----BEGIN CERTIFICATE-----`; `key` is a file.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    pub mode: TlsMode,
    pub ca: Option<String>,
    pub cert: Option<String>,
    pub key: Option<String>,
}

word! {
    /// libpq's `sslmode`.
    TlsMode { Disable, #[default] Prefer, Require, VerifyCa, VerifyFull }
}
word! { Choice { #[default] Auto, On, Off } }
word! { ReadFrom { #[default] Primary, Standby } }
word! { Switch { #[default] Off, On } }
word! { IdentityPolicy { #[default] Full, Keep } }
word! { DdlCapture { #[default] Auto, Messages, Tables, Off } }
word! { Wire { #[default] Auto, Text, Binary } }
word! { PartitionNames { #[default] Parent, Child } }
word! { OnDivergence { #[default] Park, Accept } }

/// Kafka.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sink {
    /// `host:port` each.
    pub brokers: Vec<String>,
    /// A named connection of the cluster, in place of `brokers`.
    pub connection: Option<String>,
    /// A fixed name, or a pattern of `{schema}`, `{table}`, `{database}`, `{task}`.
    pub topic: String,
    /// Debezium's logical name; default the task's name.
    pub topic_prefix: Option<String>,
    pub ddl_topic: Option<String>,
    pub dead_letter_topic: String,
    pub format: Format,
    pub format_options: FormatOptions,
    pub registry: Option<Registry>,
    pub partitioning: Partitioning,
    pub hash: Hash,
    /// For topics that are created.
    pub partitions: i32,
    /// -1: the broker's default.
    pub replication_factor: i32,
    pub topic_config: BTreeMap<String, String>,
    /// What follows when a topic gets more partitions than the task began with there.
    pub new_partitions: NewPartitions,
    pub conflicting_topics: ConflictingTopics,
    pub delivery: Delivery,
    /// The longest; shorter while there is little to do.
    pub commit_interval: Span,
    pub acks: Acks,
    pub compression: Compression,
    pub oversize: Oversize,
    pub unrepresentable: Unrepresentable,
    pub headers: bool,
    /// Tells consumers in a topic up to where everything is there.
    pub watermark_topic: Switch,
    /// Tells consumers of each source transaction in a topic, and Debezium's records their place in it.
    pub transaction_topic: Switch,
    /// A heartbeat every `source.heartbeat_interval`, in a topic of its own: Debezium's formats
    /// `__debezium-heartbeat.` and the topic prefix.
    pub heartbeat_topic: Switch,
    /// Names of the internal topics begin so.
    pub state_prefix: String,
    pub security: Security,
    /// librdkafka properties of the allow-list.
    pub properties: BTreeMap<String, String>,
}

impl Default for Sink {
    fn default() -> Self {
        Self {
            brokers: Vec::new(),
            connection: None,
            topic: "{schema}.{table}".into(),
            topic_prefix: None,
            ddl_topic: None,
            dead_letter_topic: "{task}.dead-letter".into(),
            format: Format::default(),
            format_options: FormatOptions::default(),
            registry: None,
            partitioning: Partitioning::default(),
            hash: Hash::default(),
            partitions: 4,
            replication_factor: -1,
            topic_config: BTreeMap::new(),
            new_partitions: NewPartitions::default(),
            conflicting_topics: ConflictingTopics::default(),
            delivery: Delivery::default(),
            commit_interval: Span(Duration::from_millis(200)),
            acks: Acks::default(),
            compression: Compression::default(),
            oversize: Oversize::default(),
            unrepresentable: Unrepresentable::default(),
            headers: true,
            watermark_topic: Switch::default(),
            transaction_topic: Switch::default(),
            heartbeat_topic: Switch::default(),
            state_prefix: "distributary".into(),
            security: Security::default(),
            properties: BTreeMap::new(),
        }
    }
}

word! {
    Partitioning {
        #[serde(rename = "partition-0")]
        Partition0,
        Table,
        #[default]
        PrimaryKey,
    }
}
word! { Hash { #[default] Murmur2, Java } }
word! { NewPartitions { #[default] Pin, Switch, Park } }
word! { ConflictingTopics { #[default] Report, Ignore } }
word! { Delivery { #[default] ExactlyOnce, AtLeastOnce } }
word! { Compression { None, #[default] Lz4, Gzip, Snappy, Zstd } }
word! { Oversize { #[default] Fail, DeadLetter, Chunk } }

/// What becomes of a value that the format cannot carry.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(from = "Option<UnrepresentableWord>", into = "Option<UnrepresentableWord>")]
#[schemars(with = "Option<UnrepresentableWord>")]
pub enum Unrepresentable {
    #[default]
    Fail,
    DeadLetter,
    Null,
}

word! { UnrepresentableWord { #[default] Fail, DeadLetter, Null } }

// An unquoted `null` is YAML's null, not a word.
impl From<Option<UnrepresentableWord>> for Unrepresentable {
    fn from(word: Option<UnrepresentableWord>) -> Self {
        match word {
            Some(UnrepresentableWord::Fail) => Self::Fail,
            Some(UnrepresentableWord::DeadLetter) => Self::DeadLetter,
            Some(UnrepresentableWord::Null) | None => Self::Null,
        }
    }
}

impl From<Unrepresentable> for Option<UnrepresentableWord> {
    fn from(policy: Unrepresentable) -> Self {
        Some(match policy {
            Unrepresentable::Fail => UnrepresentableWord::Fail,
            Unrepresentable::DeadLetter => UnrepresentableWord::DeadLetter,
            Unrepresentable::Null => UnrepresentableWord::Null,
        })
    }
}

/// Kafka's `acks`: `0`, `1` or `all`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(try_from = "serde_json::Value", into = "String")]
#[schemars(with = "String")]
pub enum Acks {
    Zero,
    One,
    #[default]
    All,
}

impl TryFrom<serde_json::Value> for Acks {
    type Error = &'static str;

    fn try_from(value: serde_json::Value) -> Result<Self, &'static str> {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match text.as_str() {
            "0" => Ok(Self::Zero),
            "1" => Ok(Self::One),
            "all" | "-1" => Ok(Self::All),
            _ => Err("expected one of `0`, `1`, `all`"),
        }
    }
}

impl From<Acks> for String {
    fn from(acks: Acks) -> Self {
        match acks {
            Acks::Zero => "0",
            Acks::One => "1",
            Acks::All => "all",
        }
        .into()
    }
}

/// How to reach the brokers.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Security {
    pub protocol: Protocol,
    pub mechanism: Option<Mechanism>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// PEM files, relative to the spec; `ca` and `cert` may be their text, which begins with
    /// `-----BEGIN CERTIFICATE-----`.
    pub ca: Option<String>,
    pub cert: Option<String>,
    pub key: Option<String>,
    pub key_password: Option<Secret>,
}

/// Kafka's `security.protocol`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Protocol {
    #[default]
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

/// Kafka's `sasl.mechanism`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Mechanism {
    #[serde(rename = "PLAIN")]
    Plain,
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

/// Which phases run.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sync {
    /// Topics and schemas are made where they are missing.
    pub schema: bool,
    /// With `schema`: CREATE TABLE in the DDL topic before the rows of each table, unless `source.ddl` is off.
    pub definitions: bool,
    pub snapshot: bool,
    pub incremental: bool,
}

impl Sync {
    /// Whether readers are told of tables before their rows.
    #[must_use]
    pub fn tells_definitions(&self, ddl: DdlCapture) -> bool {
        self.schema && self.definitions && ddl != DdlCapture::Off
    }
}

impl Default for Sync {
    fn default() -> Self {
        Self { schema: true, definitions: true, snapshot: true, incremental: true }
    }
}

/// A rule for the tables that match.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Object {
    /// `schema.table`, SQL identifiers with `*`, quoted as in SQL.
    pub table: String,
    pub exclude: bool,
    pub topic: Option<String>,
    pub partitions: Option<i32>,
    pub partition_key: Vec<String>,
    #[serde(rename = "where")]
    pub condition: Option<String>,
    /// The server's publication leaves out by `where`, too (PostgreSQL 15+): less comes over the network.
    pub publication_filter: bool,
    pub operations: Option<Vec<Operation>>,
    pub columns: Option<Columns>,
    /// What becomes of each row, in CEL (`docs/transforms.md`).
    pub transform: Option<String>,
    pub name_case: NameCase,
}

word! { Operation { #[default] Insert, Update, Delete, Truncate, Ddl } }
word! { NameCase { #[default] Source, Lower, Upper } }

/// Columns of a table.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Columns {
    pub exclude: Vec<String>,
    pub rename: BTreeMap<String, String>,
    /// Columns whose values leave the source only as what the mask makes of them.
    pub mask: BTreeMap<String, Mask>,
    pub add: BTreeMap<String, String>,
}

word! {
    /// `hmac-sha256`: HMAC-SHA-256 (RFC 2104) of the value's text under `mask_key`, as 64 hexadecimal
    /// digits; null stays null.
    Mask {
        #[default]
        #[serde(rename = "hmac-sha256")]
        HmacSha256,
    }
}

/// How the snapshot reads.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Snapshot {
    /// Connections that read at the same time.
    pub parallel: u16,
    pub chunk_rows: u32,
    pub chunk_bytes: Bytes,
    /// Which tables are copied in chunks while the stream runs, where they have a key.
    pub beside_stream: BesideStream,
}

/// Which tables are copied while the stream runs. The others are read before it, in one snapshot, and again
/// from their beginning where that is interrupted.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BesideStream {
    /// Large ones.
    Auto,
    Always,
    #[default]
    Never,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            parallel: 4,
            chunk_rows: 8192,
            chunk_bytes: Bytes(8 << 20),
            beside_stream: BesideStream::Auto,
        }
    }
}

/// Limits per second; 0: none.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Throttles {
    pub snapshot: SnapshotThrottle,
    pub incremental: StreamThrottle,
}

/// Limits of the snapshot, per second; 0: none.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotThrottle {
    /// Read nothing for now; the stream goes on.
    pub paused: bool,
    pub qps: u64,
    pub rows: u64,
    pub bytes: Bytes,
}

/// Limits of the stream, per second; 0: none.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreamThrottle {
    pub rows: u64,
    pub bytes: Bytes,
}

/// How long failures are retried.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Lost connections: 10 to 1,440 minutes.
    pub connection: Span,
    /// Other errors: 1 to 1,440 minutes, less than `connection`.
    pub other: Span,
    pub recover_for: Span,
    pub on_expiry: OnExpiry,
}

impl Default for Retry {
    fn default() -> Self {
        let minutes = |minutes: u64| Span(Duration::from_secs(60 * minutes));
        Self {
            connection: minutes(720),
            other: minutes(10),
            recover_for: minutes(7 * 24 * 60),
            on_expiry: OnExpiry::default(),
        }
    }
}

word! { OnExpiry { #[default] Keep, DropSlot } }

/// Who is told when something is wrong.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alerts {
    pub latency: Option<Span>,
    pub webhook: Option<Secret>,
}

/// Behaviour of the reference product.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Compat {
    /// Leave out the DDL statements that DTS leaves out, and cut what it cuts.
    pub dts_ddl: bool,
}

/// Labels that a worker must have, per stage.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Placement {
    pub reader: BTreeMap<String, String>,
    pub decoder: BTreeMap<String, String>,
    pub router: BTreeMap<String, String>,
    pub producers: BTreeMap<String, String>,
    /// Workers that read tables while the task streams; `None`: the router's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<BTreeMap<String, String>>,
}
