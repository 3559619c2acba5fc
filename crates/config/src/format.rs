//! What records look like: the formats, their options, and which format reads which option.

use crate::task::word;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

word! {
    /// What a record looks like.
    Format {
        #[default] DebeziumJson,
        DebeziumAvro,
        CanalJson,
        DtsAvro,
        #[serde(rename = "shareplex-json")]
        SharePlexJson,
        MaxwellJson,
        Protobuf,
    }
}

/// Options of the formats. One that the task's format does not read must have its default.
// What came after the first release is written only where it is not the default, so that a task's
// recorded shape stays the one that older releases wrote.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct FormatOptions {
    /// Debezium JSON: `{"schema": …, "payload": …}`.
    pub schemas: bool,
    /// Debezium: a null value after each delete.
    pub tombstones: bool,
    /// A record for each TRUNCATE, in every partition. Maxwell JSON has none.
    pub truncate: bool,
    pub decimal: Decimal,
    pub time: Time,
    pub interval: Interval,
    /// How `bytea` is written.
    pub binary: Binary,
    pub hstore: Hstore,
    /// `lossless`: what Debezium loses arrives; `strict`: Debezium's own rendering there too.
    pub compat: Fidelity,
    /// Stands for an unchanged TOAST value that was not logged.
    pub unavailable_value: String,
    /// Zeros at the end of a plain `numeric`, which Debezium strips.
    #[serde(skip_serializing_if = "is_default")]
    pub numeric_scale: NumericScale,
    /// Debezium's `schema.name.adjustment.mode`: names of the schemas.
    #[serde(skip_serializing_if = "is_default")]
    pub schema_name_adjustment: NameAdjustment,
    /// Debezium's `field.name.adjustment.mode`: names of the columns.
    #[serde(skip_serializing_if = "is_default")]
    pub field_name_adjustment: NameAdjustment,
    /// What the member `database` says.
    #[serde(skip_serializing_if = "is_default")]
    pub database: Namespace,
    #[serde(skip_serializing_if = "is_default")]
    pub message_key: MessageKey,
    /// `numeric` NaN and infinities, and dates that are infinite or not of the years 1 to 9999.
    #[serde(skip_serializing_if = "is_default")]
    pub special_values: Special,
    /// A final `Z`: Maxwell JSON's `timestamptz`, SharePlex JSON's `time` and `posttime`.
    #[serde(skip_serializing_if = "is_default")]
    pub zulu: bool,
    /// Members of Maxwell JSON that can be left out.
    #[serde(skip_serializing_if = "is_maxwell_default")]
    pub members: Vec<MaxwellMember>,
    /// Maxwell JSON's word for rows of the snapshot.
    #[serde(skip_serializing_if = "is_default")]
    pub snapshot_rows: SnapshotRows,
    /// Members of SharePlex JSON's `meta`, in this order.
    #[serde(skip_serializing_if = "is_meta_default")]
    pub meta: Vec<MetaMember>,
    /// SharePlex JSON: strings as DTS writes them, or SharePlex's own bare numbers and booleans.
    #[serde(skip_serializing_if = "is_default")]
    pub values: ValueForm,
    /// SharePlex JSON: what `key` of an update holds.
    #[serde(skip_serializing_if = "is_default")]
    pub update_key: UpdateKey,
    /// DTS Avro: what `objectName` begins with, before schema and table.
    #[serde(skip_serializing_if = "is_default")]
    pub object_name: ObjectName,
}

impl Default for FormatOptions {
    fn default() -> Self {
        Self {
            schemas: false,
            tombstones: true,
            truncate: true,
            decimal: Decimal::default(),
            time: Time::default(),
            interval: Interval::default(),
            binary: Binary::default(),
            hstore: Hstore::default(),
            compat: Fidelity::default(),
            unavailable_value: "__debezium_unavailable_value".into(),
            numeric_scale: NumericScale::default(),
            schema_name_adjustment: NameAdjustment::default(),
            field_name_adjustment: NameAdjustment::default(),
            database: Namespace::default(),
            message_key: MessageKey::default(),
            special_values: Special::default(),
            zulu: false,
            members: MAXWELL_MEMBERS.into(),
            snapshot_rows: SnapshotRows::default(),
            meta: META_MEMBERS.into(),
            values: ValueForm::default(),
            update_key: UpdateKey::default(),
            object_name: ObjectName::default(),
        }
    }
}

word! {
    /// Protobuf has no decimals: `precise` is the exact text there, and `bytes`, which the others do not
    /// have, a message of scale and unscaled value.
    Decimal { #[default] Precise, Double, String, Bytes }
}
word! {
    /// Debezium's `time.precision.mode`.
    Time {
        #[default] Adaptive,
        #[serde(alias = "adaptive_time_microseconds")]
        AdaptiveTimeMicroseconds,
        Connect,
        Isostring,
        Microseconds,
        Nanoseconds,
    }
}
word! { Interval { #[default] Numeric, String } }
word! {
    /// `bytes` is base64 in JSON. `iso-8859-1`, a character for each byte, is what clients of Canal
    /// expect; Debezium's formats do not have it.
    Binary {
        #[default] Bytes,
        Base64,
        Base64UrlSafe,
        Hex,
        #[serde(rename = "iso-8859-1")]
        Latin1,
    }
}
word! { Hstore { #[default] Json, Map } }
word! { NumericScale { #[default] Stripped, Stored } }
word! { Fidelity { #[default] Lossless, Strict } }
word! {
    /// Characters that Avro does not allow in names: kept, `_`, `_u` with their hexadecimal number as
    /// Debezium writes it, or `_xHHHH_`, from which every name can be read back.
    NameAdjustment {
        #[default] None,
        Avro,
        #[serde(alias = "avro_unicode")]
        AvroUnicode,
        Escape,
    }
}
word! { Namespace { #[default] Schema, Database } }
word! {
    /// Key of the Kafka record. `auto`: the format's own, which is null for Canal and SharePlex JSON;
    /// `columns`: the key columns as an object; `array`: Maxwell JSON's other form.
    MessageKey { #[default] Auto, None, Columns, Array }
}
word! {
    /// `text`: PostgreSQL's text; `refuse`: `sink.unrepresentable` says what becomes of the value.
    Special { #[default] Text, Refuse }
}
word! {
    MaxwellMember {
        #[default] Xid,
        Xoffset,
        Commit,
        Position,
        #[serde(rename = "push_ts")]
        PushTs,
        #[serde(rename = "primary_key")]
        PrimaryKey,
        #[serde(rename = "primary_key_columns")]
        PrimaryKeyColumns,
    }
}
word! { SnapshotRows { #[default] Insert, Bootstrap } }
word! {
    MetaMember {
        #[default] Time, Userid, Op, Scn, Rowid, Trans, Seq, Size, Table, Idx, Posttime,
    }
}
word! { ValueForm { #[default] Strings, Native } }
word! { UpdateKey { #[default] Row, Key } }
word! { ObjectName { #[default] Database, Schema } }

/// What Maxwell writes unless it is told otherwise.
const MAXWELL_MEMBERS: [MaxwellMember; 2] = [MaxwellMember::Xid, MaxwellMember::Commit];

const META_MEMBERS: [MetaMember; 11] = [
    MetaMember::Time,
    MetaMember::Userid,
    MetaMember::Op,
    MetaMember::Scn,
    MetaMember::Rowid,
    MetaMember::Trans,
    MetaMember::Seq,
    MetaMember::Size,
    MetaMember::Table,
    MetaMember::Idx,
    MetaMember::Posttime,
];

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn is_maxwell_default(members: &[MaxwellMember]) -> bool {
    *members == MAXWELL_MEMBERS
}

fn is_meta_default(members: &[MetaMember]) -> bool {
    *members == META_MEMBERS
}

const DEBEZIUM: &[Format] = &[Format::DebeziumJson, Format::DebeziumAvro, Format::Protobuf];
/// What Protobuf writes in one way only.
const CONNECT: &[Format] = &[Format::DebeziumJson, Format::DebeziumAvro];

/// Which formats read which option.
const READERS: &[(&str, &[Format])] = &[
    ("schemas", &[Format::DebeziumJson]),
    ("tombstones", DEBEZIUM),
    (
        "truncate",
        &[
            Format::DebeziumJson,
            Format::DebeziumAvro,
            Format::CanalJson,
            Format::DtsAvro,
            Format::SharePlexJson,
            Format::Protobuf,
        ],
    ),
    ("decimal", DEBEZIUM),
    ("time", DEBEZIUM),
    ("interval", CONNECT),
    (
        "binary",
        &[
            Format::DebeziumJson,
            Format::DebeziumAvro,
            Format::CanalJson,
            Format::SharePlexJson,
            Format::MaxwellJson,
        ],
    ),
    ("hstore", CONNECT),
    ("compat", CONNECT),
    ("unavailable_value", DEBEZIUM),
    ("numeric_scale", CONNECT),
    ("schema_name_adjustment", DEBEZIUM),
    ("field_name_adjustment", DEBEZIUM),
    ("database", &[Format::CanalJson, Format::MaxwellJson]),
    ("message_key", &[Format::CanalJson, Format::MaxwellJson, Format::SharePlexJson]),
    ("special_values", &[Format::CanalJson, Format::MaxwellJson, Format::SharePlexJson]),
    ("zulu", &[Format::MaxwellJson, Format::SharePlexJson]),
    ("members", &[Format::MaxwellJson]),
    ("snapshot_rows", &[Format::MaxwellJson]),
    ("meta", &[Format::SharePlexJson]),
    ("values", &[Format::SharePlexJson]),
    ("update_key", &[Format::SharePlexJson]),
    ("object_name", &[Format::DtsAvro]),
];

impl Format {
    /// Whether its records carry the id of their schema in a registry.
    #[must_use]
    pub fn needs_registry(self) -> bool {
        match self {
            Self::DebeziumAvro | Self::Protobuf => true,
            Self::DebeziumJson
            | Self::CanalJson
            | Self::DtsAvro
            | Self::SharePlexJson
            | Self::MaxwellJson => false,
        }
    }

    /// Whether its records are for machines only.
    #[must_use]
    pub fn is_binary(self) -> bool {
        match self {
            Self::DebeziumAvro | Self::DtsAvro | Self::Protobuf => true,
            Self::DebeziumJson | Self::CanalJson | Self::SharePlexJson | Self::MaxwellJson => false,
        }
    }

    /// Its word in a spec.
    #[must_use]
    pub fn word(self) -> String {
        let json = serde_json::to_value(self).unwrap_or_default();
        json.as_str().unwrap_or_default().to_owned()
    }
}

impl crate::Sink {
    /// Whether its records say how many changes their transaction has, or which one is the last.
    #[must_use]
    pub fn wants_lengths(&self) -> bool {
        let FormatOptions { meta, members, .. } = &self.format_options;
        match self.format {
            Format::SharePlexJson => {
                meta.iter().any(|member| matches!(member, MetaMember::Size | MetaMember::Idx))
            }
            Format::MaxwellJson => members.contains(&MaxwellMember::Commit),
            Format::DebeziumJson
            | Format::DebeziumAvro
            | Format::CanalJson
            | Format::DtsAvro
            | Format::Protobuf => false,
        }
    }
}

impl FormatOptions {
    /// What the options ask of a format that does not have it: key, and what is wrong.
    pub(crate) fn misplaced(&self, format: Format) -> Vec<(&'static str, String)> {
        let json = |options: &Self| serde_json::to_value(options).unwrap_or_default();
        let (default, set) = (json(&Self::default()), json(self));
        let reads = |formats: &[Format]| formats.contains(&format);
        let known: Vec<&str> =
            READERS.iter().filter(|(_, formats)| reads(formats)).map(|(key, _)| *key).collect();
        let word = format.word();
        let mut found: Vec<_> = READERS
            .iter()
            .filter(|(key, formats)| !reads(formats) && set.get(key) != default.get(key))
            .map(|(key, _)| {
                (*key, format!("{word} does not read it (it reads: {})", known.join(", ")))
            })
            .collect();
        let debezium = DEBEZIUM.contains(&format);
        if self.binary == Binary::Latin1 && debezium {
            found.push(("binary", format!("{word} has no `iso-8859-1`; choose `base64` or `hex`")));
        }
        if self.decimal == Decimal::Bytes && CONNECT.contains(&format) {
            found.push(("decimal", format!("{word} has no `bytes`; choose `precise`")));
        }
        if self.message_key == MessageKey::Array && format != Format::MaxwellJson && !debezium {
            found.push(("message_key", format!("{word} has no `array`; choose `columns`")));
        }
        let repeats = |count: usize, is_again: &dyn Fn(usize) -> bool| (0..count).any(is_again);
        let (members, meta) = (&self.members, &self.meta);
        let again = "names a member twice";
        if repeats(members.len(), &|at| members[..at].contains(&members[at])) {
            found.push(("members", again.into()));
        }
        if repeats(meta.len(), &|at| meta[..at].contains(&meta[at])) {
            found.push(("meta", again.into()));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_has_readers() {
        let schema = serde_json::to_value(schemars::schema_for!(FormatOptions)).expect("JSON");
        let mut options: Vec<_> = schema["properties"].as_object().expect("keys").keys().collect();
        let mut known: Vec<_> = READERS.iter().map(|(key, _)| *key).collect();
        options.sort();
        known.sort_unstable();
        assert_eq!(options, known);
    }

    #[test]
    fn lengths_are_wanted_where_they_are_written() {
        let wants = |sink: &str| {
            let text = format!(
                "version: 1\ntask: t\nsource: {{hosts: [h], database: d, user: u}}\n\
                 sink: {{brokers: [b], {sink}}}\nobjects: [{{table: \"*.*\"}}]\n"
            );
            crate::Task::parse(&text).expect("a spec").sink.wants_lengths()
        };
        assert!(wants("format: shareplex-json") && wants("format: maxwell-json"));
        assert!(wants("format: shareplex-json, format_options: {meta: [op, idx]}"));
        assert!(!wants("format: shareplex-json, format_options: {meta: [op, table]}"));
        assert!(!wants("format: maxwell-json, format_options: {members: [xid]}"));
        assert!(!wants("format: debezium-json") && !wants("format: dts-avro"));
    }

    #[test]
    fn decimals_as_bytes_are_protobuf_s_alone() {
        let options = FormatOptions { decimal: Decimal::Bytes, ..FormatOptions::default() };
        let keys =
            |format| options.misplaced(format).into_iter().map(|it| it.0).collect::<Vec<_>>();
        assert!(keys(Format::Protobuf).is_empty());
        assert_eq!(keys(Format::DebeziumJson), ["decimal"]);
        assert_eq!(keys(Format::DebeziumAvro), ["decimal"]);
        assert_eq!(keys(Format::CanalJson), ["decimal"]);
    }

    #[test]
    fn what_another_format_reads_is_misplaced() {
        let options = FormatOptions {
            schemas: true,
            binary: Binary::Latin1,
            meta: vec![MetaMember::Op, MetaMember::Op],
            ..FormatOptions::default()
        };
        let keys = |format| {
            let found = options.misplaced(format);
            found.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        assert_eq!(keys(Format::SharePlexJson), ["schemas", "meta"]);
        assert_eq!(keys(Format::CanalJson), ["schemas", "meta", "meta"]);
        assert_eq!(keys(Format::DebeziumJson), ["meta", "binary", "meta"]);
        assert!(FormatOptions::default().misplaced(Format::MaxwellJson).is_empty());
    }
}
