//! The meta lane: low watermark, pins, revision and snapshot state of a task (delivery-protocol.md, sections 3
//! and 7). Whoever holds it owns the task.

use crate::Error;
use crate::checkpoint::lsn_text;
use crate::holder::{Holder, new_owner};
use crate::names::{LaneId, Names};
use crate::open::fence_json;
use crate::read::Entry;
use crate::settings::{Heartbeats, Settings};
use crate::topics::Admin;
use crate::transactional::millis_now;
use record::Record;
use record::told::Teller;
use record::transaction::Summary;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tracing::{info, warn};
use wal::{Lsn, Position};

const WATERMARK_KEY: &str = "w";
const SNAPSHOT_KEY: &str = "snapshot";
const REVISION_KEY: &str = "rev";
const PIN_PREFIX: &str = "pin/";
const PLAN_PREFIX: &str = "plan/";
const PUBLICATION_KEY: &str = "publication";
const TABLE_PREFIX: &str = "table/";
/// Partitions of a topic that is not pinned any more.
const UNPINNED: i32 = 0;

/// The low watermark `w`: everything up to `lsn` is durable in every lane.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Watermark {
    #[serde(with = "lsn_text")]
    pub lsn: Lsn,
    pub system_id: u64,
    pub timeline: u32,
    /// Position of each lane when it was written.
    #[serde(with = "positions")]
    pub lanes: Vec<Position>,
    /// Where the server's time line left the older ones, from the oldest; earlier releases did not write it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Switch>,
    /// Fed by the slot of a standby, which has all of it also where it was promoted since; earlier releases read none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub standby: bool,
}

/// A line of a time line's history: where it left an older one.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Switch {
    pub timeline: u32,
    /// The end of the last record that both have.
    #[serde(with = "lsn_text")]
    pub lsn: Lsn,
}

/// How far the initial snapshot has come.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SnapshotState {
    pub id: String,
    pub done: bool,
    /// Where the stream begins; 0/0 while it is not done.
    #[serde(with = "lsn_text")]
    pub lsn: Lsn,
    /// What a person let go in place of a snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
}

/// Changes that are not in Kafka by a person's decision.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Gap {
    /// All that committed up to here is delivered; 0/0: that is not known.
    #[serde(with = "lsn_text")]
    pub after: Lsn,
    /// The time line of that; 0: not known.
    pub timeline: u32,
    /// From here on everything is delivered again.
    #[serde(with = "lsn_text")]
    pub before: Lsn,
    pub timeline_now: u32,
}

impl std::fmt::Display for Gap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { after, timeline, before, timeline_now } = self;
        match timeline {
            0 => write!(f, "changes before {before} (timeline {timeline_now})")?,
            _ => write!(
                f,
                "changes after {after} (timeline {timeline}) and before {before} (timeline {timeline_now})"
            )?,
        }
        write!(f, " may be missing in Kafka: the gap was accepted")
    }
}

/// The revision in force: which record a change becomes and which lane carries it, from `start` on.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Revision {
    #[serde(rename = "rev")]
    pub number: u64,
    /// What commits before this belongs to earlier revisions, whose lanes were all sealed.
    #[serde(with = "lsn_text")]
    pub start: Lsn,
    pub shape: config::Shape,
    /// Later revisions, each in force from its position on, in their order. Those that the low watermark has passed
    /// need not be kept apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Mark>,
}

/// A revision mark: what commits at `at` or later goes by this shape. Lanes and partition map are those of the revision
/// before, so no lane was sealed (delivery-protocol.md, section 2).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Mark {
    #[serde(rename = "rev")]
    pub number: u64,
    #[serde(with = "lsn_text")]
    pub at: Lsn,
    pub shape: config::Shape,
}

impl Revision {
    /// Number and shape of what is written now, or will be once its position has come.
    #[must_use]
    pub fn newest(&self) -> (u64, &config::Shape) {
        self.marks.last().map_or((self.number, &self.shape), |it| (it.number, &it.shape))
    }

    /// The same, begun at the last mark that the low watermark has passed: every lane holds all that commits before.
    #[must_use]
    pub fn passed(mut self, watermark: Lsn) -> Self {
        let passed = self.marks.partition_point(|mark| mark.at <= watermark);
        let rest = self.marks.split_off(passed);
        match self.marks.pop() {
            Some(Mark { number, at, shape }) => Self { number, start: at, shape, marks: rest },
            None => Self { marks: rest, ..self },
        }
    }

    /// The same, with another shape from `at` on. One that nothing commits before replaces the mark at its place.
    #[must_use]
    pub fn marked(mut self, at: Lsn, shape: config::Shape) -> Self {
        let number = self.newest().0 + 1;
        self.marks.retain(|mark| mark.at < at);
        self.marks.push(Mark { number, at, shape });
        self
    }
}

/// What the meta lane holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetaState {
    pub watermark: Option<Watermark>,
    /// Partition counts by topic: routing rests on them.
    pub pins: BTreeMap<String, i32>,
    pub snapshot: Option<SnapshotState>,
    pub revision: Option<Revision>,
    /// Tables that are copied while the stream runs, by snapshot and table: JSON, whose layout has a version
    /// of its own.
    pub plans: BTreeMap<String, String>,
    /// Descriptions of tables, by OID: what their rows need where the catalog has lost them. JSON, whose layout
    /// has a version of its own.
    pub tables: BTreeMap<u32, String>,
    /// The publication as the task has left it. JSON of whoever compares it.
    pub publication: Option<String>,
}

/// What can be written to the meta lane.
#[derive(Clone, Debug, PartialEq)]
pub enum MetaRecord {
    Watermark(Watermark),
    Pin {
        topic: String,
        partitions: i32,
    },
    Snapshot(SnapshotState),
    /// Boxed: it holds the objects of a spec.
    Revision(Box<Revision>),
    /// `None`: the table is copied.
    Plan {
        name: String,
        json: Option<String>,
    },
    /// `None`: no row of the table can come any more.
    Table {
        oid: u32,
        json: Option<String>,
    },
    Publication(String),
}

#[derive(Deserialize, Serialize)]
struct Pin {
    partitions: i32,
}

/// What consumers are told with a low watermark: every record of what commits up to `lsn` can be seen.
#[derive(Serialize)]
struct Resolved<'a> {
    v: u32,
    task: &'a str,
    #[serde(with = "lsn_text")]
    lsn: Lsn,
    system_id: u64,
    timeline: u32,
    /// When the newest captured transaction up to `lsn` ended, microseconds since 1970; null: not known.
    commit_time_us: Option<u64>,
}

/// Version of [`Resolved`].
const RESOLVED_VERSION: u32 = 1;

/// The open meta lane. All calls block.
pub struct MetaLane {
    holder: Holder,
    task: String,
    /// Where consumers are told of watermarks; `None`: nowhere.
    watermarks: Option<String>,
    /// Where they are told of transactions.
    transactions: Option<String>,
    /// Where they get heartbeats.
    heartbeats: Option<String>,
}

impl MetaLane {
    /// Opens the meta lane, fencing the older owner of the task, and reads its state.
    ///
    /// # Errors
    /// As [`crate::open`](fn@crate::open).
    pub fn open(settings: &Settings, names: &Names) -> Result<(Self, MetaState), Error> {
        let (lane, entries) = Self::take(settings, names)?;
        let mut state = MetaState::default();
        for entry in newest(entries) {
            state.apply(&entry).map_err(|error| {
                let Entry { offset, key, .. } = &entry;
                names
                    .seat(LaneId::Meta)
                    .diverged(&format!("record `{key}` at offset {offset}: {error}"))
            })?;
        }
        Ok((lane, state))
    }

    /// As [`Self::open`] for a task that begins anew: what cannot be read is left out, and no topic
    /// is pinned any more.
    ///
    /// # Errors
    /// Kafka does not answer or does not permit it.
    pub fn open_anew(settings: &Settings, names: &Names) -> Result<(Self, MetaState), Error> {
        let (mut lane, entries) = Self::take(settings, names)?;
        let mut state = MetaState::default();
        let mut unpinned = Vec::new();
        for entry in newest(entries) {
            if let Some(topic) = entry.key.strip_prefix(PIN_PREFIX) {
                unpinned.push(MetaRecord::Pin { topic: topic.to_owned(), partitions: UNPINNED });
            } else if let Err(error) = state.apply(&entry) {
                warn!(key = entry.key, offset = entry.offset, %error, "left out, the task begins anew");
            }
        }
        if !unpinned.is_empty() {
            lane.write(&unpinned)?;
        }
        Ok((lane, state))
    }

    /// Offset of this owner's fence; grows with every owner.
    #[must_use]
    pub fn term(&self) -> i64 {
        self.holder.term()
    }

    /// Fences the older owner and reads everything that was written before.
    fn take(settings: &Settings, names: &Names) -> Result<(Self, Vec<Entry>), Error> {
        let fence = fence_json(names, LaneId::Meta, &new_owner(settings))?;
        let watermarks = settings.tells_watermarks().then(|| names.watermark());
        if let Some(topic) = &watermarks {
            Admin::new(settings)?.ensure_told(topic)?;
        }
        let transactions = settings.tells_transactions().then(|| names.transaction());
        if let Some(topic) = &transactions {
            Admin::new(settings)?.ensure_told(topic)?;
        }
        let heartbeats = match settings.heartbeats() {
            Heartbeats::Nowhere => None,
            Heartbeats::OfTask => Some(names.heartbeat()),
            Heartbeats::Named(topic) => Some(topic.clone()),
        };
        if let Some(topic) = &heartbeats {
            Admin::new(settings)?.ensure_told(topic)?;
        }
        let (holder, entries) = Holder::take(settings, names.seat(LaneId::Meta), fence)?;
        let task = names.task().to_owned();
        Ok((Self { holder, task, watermarks, transactions, heartbeats }, entries))
    }

    /// Writes a low watermark, and tells consumers of it, and of the transactions up to it, in the same Kafka
    /// transaction where the spec asks for that: whoever sees it sees all that it speaks of. `commit_time_us`: when the newest
    /// captured transaction up to it ended, since 1970. Transactions that an older watermark covers must not be among them.
    ///
    /// # Errors
    /// As [`Self::write`]. Whether the transactions were told is not known then: see [`Self::settle`].
    pub fn advance(
        &mut self,
        watermark: &Watermark,
        commit_time_us: Option<u64>,
        transactions: &[Summary],
        teller: &Teller,
    ) -> Result<(), Error> {
        let record = MetaRecord::Watermark(watermark.clone());
        let task = self.task.clone();
        let value = Resolved::of(&task, watermark, commit_time_us);
        let value = serde_json::to_vec(&value)
            .map_err(|error| Error::from_json("writing a watermark", &error))?;
        let (watermarks, told_in) = (self.watermarks.clone(), self.transactions.clone());
        let told: Vec<_> =
            transactions.iter().map(|it| (it.time_ms(), teller.transaction(it))).collect();
        let resolved = watermarks
            .as_deref()
            .map(|topic| record_in(topic, Some(task.as_bytes()), value.as_slice(), millis_now()));
        let ends = told_in.as_deref().into_iter().flat_map(|topic| {
            told.iter().flat_map(move |(time_ms, told)| {
                told.iter().map(move |it| record_in(topic, it.key.as_deref(), &it.value, *time_ms))
            })
        });
        let others: Vec<Record<'_>> = ends.chain(resolved).collect();
        self.write_beside(std::slice::from_ref(&record), &others)
    }

    /// Writes a heartbeat where the spec asks for that, with the low watermark that it speaks of.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn beat(&mut self, watermark: &Watermark, teller: &Teller) -> Result<(), Error> {
        let Some(topic) = self.heartbeats.clone() else { return Ok(()) };
        let now_ms = millis_now();
        let Some(told) = teller.heartbeat(watermark.lsn, now_ms.saturating_mul(1000)) else {
            return Ok(());
        };
        let record = MetaRecord::Watermark(watermark.clone());
        let beat = record_in(&topic, told.key.as_deref(), &told.value, now_ms);
        self.write_beside(std::slice::from_ref(&record), std::slice::from_ref(&beat))
    }

    /// Whether consumers are told of transactions.
    fn tells_transactions(&self) -> bool {
        self.transactions.is_some()
    }

    /// After a failure: the low watermark that is certainly there. What was asked for beyond it was not told.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn settle(&mut self) -> Result<Option<Watermark>, Error> {
        let entries = self.holder.read_again()?;
        let last = entries.iter().rfind(|entry| entry.key == WATERMARK_KEY);
        last.map(|entry| serde_json::from_slice(&entry.value))
            .transpose()
            .map_err(|error| Error::from_json("reading the low watermark", &error))
    }

    /// Writes records in one transaction. Writing the same again is harmless: the last one counts.
    ///
    /// # Errors
    /// [`Error::Fenced`] for good once another process owns the task; others may pass.
    pub fn write(&mut self, records: &[MetaRecord]) -> Result<(), Error> {
        self.write_beside(records, &[])
    }

    fn write_beside(&mut self, records: &[MetaRecord], others: &[Record<'_>]) -> Result<(), Error> {
        let to_entry = |record: &MetaRecord| {
            let (key, json) = record
                .to_entry()
                .map_err(|error| Error::from_json("writing the meta lane", &error))?;
            Ok((key, json))
        };
        let records: Vec<_> = records.iter().map(to_entry).collect::<Result<_, Error>>()?;
        match self.holder.write_beside(&records, others) {
            // The broker's time-out ends an epoch, too, e.g. of a process that was paused.
            Err(Error::Fenced { .. }) if !self.holder.is_taken() => {
                self.holder.look_for_newer_owner()?;
                info!("the meta lane lost its epoch to no other owner, opening it again");
                if self.tells_transactions() && !others.is_empty() {
                    let entries = self.holder.read_again()?;
                    let last = entries.iter().rfind(|entry| entry.key == WATERMARK_KEY);
                    // Told once, and not again.
                    if last.is_some_and(|entry| {
                        records.iter().any(|(key, value)| {
                            *key == entry.key && value.as_ref() == Some(&entry.value)
                        })
                    }) {
                        return Ok(());
                    }
                }
                self.holder.write_beside(&records, others)
            }
            written => written,
        }
    }
}

/// A record of a topic for consumers, which has one partition.
fn record_in<'a>(
    topic: &'a str,
    key: Option<&'a [u8]>,
    value: &'a [u8],
    timestamp_ms: i64,
) -> Record<'a> {
    Record { topic, partition: 0, key, value: Some(value), headers: &[], timestamp_ms }
}

impl<'a> Resolved<'a> {
    fn of(task: &'a str, watermark: &Watermark, commit_time_us: Option<u64>) -> Self {
        let &Watermark { lsn, system_id, timeline, .. } = watermark;
        Self { v: RESOLVED_VERSION, task, lsn, system_id, timeline, commit_time_us }
    }
}

impl MetaRecord {
    /// Key and value; without a value the record is deleted.
    fn to_entry(&self) -> Result<(String, Option<Vec<u8>>), serde_json::Error> {
        let (key, json) = match self {
            Self::Watermark(watermark) => (WATERMARK_KEY.into(), serde_json::to_vec(watermark)?),
            Self::Pin { topic, partitions } => {
                let pin = Pin { partitions: *partitions };
                (format!("{PIN_PREFIX}{topic}"), serde_json::to_vec(&pin)?)
            }
            Self::Snapshot(state) => (SNAPSHOT_KEY.into(), serde_json::to_vec(state)?),
            Self::Revision(revision) => (REVISION_KEY.into(), serde_json::to_vec(revision)?),
            Self::Plan { name, json } => {
                let json = json.as_ref().map(|json| json.clone().into_bytes());
                return Ok((format!("{PLAN_PREFIX}{name}"), json));
            }
            Self::Table { oid, json } => {
                let json = json.as_ref().map(|json| json.clone().into_bytes());
                return Ok((format!("{TABLE_PREFIX}{oid}"), json));
            }
            Self::Publication(json) => (PUBLICATION_KEY.into(), json.clone().into_bytes()),
        };
        Ok((key, Some(json)))
    }
}

/// The last entry of each key: what compaction would keep.
fn newest(entries: Vec<Entry>) -> Vec<Entry> {
    let newest: BTreeMap<String, Entry> =
        entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
    newest.into_values().collect()
}

impl MetaState {
    /// Takes a record in. Keys of later releases are left alone.
    fn apply(&mut self, entry: &Entry) -> Result<(), Unusable> {
        let is_ours = [WATERMARK_KEY, SNAPSHOT_KEY, REVISION_KEY].contains(&&*entry.key)
            || entry.key.starts_with(PIN_PREFIX);
        // The task deletes none of them.
        if is_ours && entry.value.is_empty() {
            return Err(Unusable::Deleted);
        }
        if entry.key == WATERMARK_KEY {
            self.watermark = Some(serde_json::from_slice(&entry.value)?);
        } else if entry.key == SNAPSHOT_KEY {
            self.snapshot = Some(serde_json::from_slice(&entry.value)?);
        } else if entry.key == REVISION_KEY {
            self.revision = Some(serde_json::from_slice(&entry.value)?);
        } else if let Some(topic) = entry.key.strip_prefix(PIN_PREFIX) {
            let Pin { partitions } = serde_json::from_slice(&entry.value)?;
            if partitions == UNPINNED {
                self.pins.remove(topic);
            } else {
                self.pins.insert(topic.to_owned(), partitions);
            }
        } else if let Some(name) = entry.key.strip_prefix(PLAN_PREFIX)
            && !entry.value.is_empty()
        {
            let json = String::from_utf8(entry.value.clone())?;
            self.plans.insert(name.to_owned(), json);
        } else if let Some(oid) = entry.key.strip_prefix(TABLE_PREFIX)
            && !entry.value.is_empty()
            && let Ok(oid) = oid.parse()
        {
            self.tables.insert(oid, String::from_utf8(entry.value.clone())?);
        } else if entry.key == PUBLICATION_KEY && !entry.value.is_empty() {
            self.publication = Some(String::from_utf8(entry.value.clone())?);
        }
        Ok(())
    }
}

/// Why a record cannot be taken in.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("it was deleted by someone else")]
    Deleted,
    #[error("it is not readable: {0}")]
    Unreadable(#[from] serde_json::Error),
    #[error("it is not readable: {0}")]
    NotText(#[from] std::string::FromUtf8Error),
}

/// A list of `0/16B3748:3`.
mod positions {
    use serde::ser::SerializeSeq;
    use serde::{Deserialize, Deserializer, Serializer};
    use wal::Position;

    pub(super) fn serialize<S: Serializer>(
        positions: &[Position],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(positions.len()))?;
        positions.iter().try_for_each(|position| list.serialize_element(&position.to_string()))?;
        list.end()
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<Position>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests;
