//! Tables → plans: topics are created, their partition counts pinned before first use.
//!
//! Routing depends on WAL content, revision and pins only (delivery-protocol.md, section 6), so a
//! pin is durable before the first row that needs it is routed.

use crate::failure::Failure;
use crate::meta::Meta;
use kafka::meta::MetaRecord;
use kafka::topics::{Admin, NewTopic};
use record::plan::{Chosen, TablePlan, TaskPlan};
use record::rewrite::MaskKey;
use record::selection::Selection;
use secrecy::ExposeSecret as _;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tracing::info;
use wal::Table;

/// Plans the tables of one task. Lives as long as the task.
pub struct Planner {
    spec: Arc<config::Task>,
    selection: Selection,
    task: TaskPlan,
    kafka: kafka::settings::Settings,
    meta: Meta,
    pins: Pins,
}

/// Partition counts by topic, shared with the threads of the lanes.
#[derive(Clone, Debug, Default)]
pub struct Pins(Arc<Mutex<BTreeMap<String, i32>>>);

impl Pins {
    #[must_use]
    pub fn new(pins: BTreeMap<String, i32>) -> Self {
        Self(Arc::new(Mutex::new(pins)))
    }

    /// Topics and their partitions so far.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, i32> {
        self.lock().clone()
    }

    pub(crate) fn extend(&self, pins: impl IntoIterator<Item = (String, i32)>) {
        self.lock().extend(pins);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, i32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Partitions that a lane writes to, of `lanes` lanes.
    #[must_use]
    pub fn of_lane(&self, number: u8, lanes: u8) -> Vec<(String, i32)> {
        let pins = self.lock();
        let all = pins.iter().flat_map(|(topic, &count)| (0..count).map(move |it| (topic, it)));
        all.filter(|(topic, it)| record::lane::lane(topic, *it, lanes) == number)
            .map(|(topic, it)| (topic.clone(), it))
            .collect()
    }
}

impl Planner {
    /// `pins`: partition counts that the meta lane holds already. `server_version`: as
    /// [`TaskPlan::of_server`] takes it. `mask_key`: as `mask_key` finds it.
    ///
    /// # Errors
    /// When the spec cannot be planned: a pattern or a topic that cannot be read.
    pub fn new(
        spec: Arc<config::Task>,
        kafka: kafka::settings::Settings,
        meta: Meta,
        pins: BTreeMap<String, i32>,
        server_version: u32,
        mask_key: Option<MaskKey>,
    ) -> Result<Self, Failure> {
        let selection = Selection::new(&spec).map_err(|error| Failure::fatal(error.to_string()))?;
        let task = TaskPlan::new(&spec, &spec.source.database)?;
        let task = task.of_server(server_version).with_mask_key(mask_key)?;
        Ok(Self { spec, selection, task, kafka, meta, pins: Pins::new(pins) })
    }

    #[must_use]
    pub fn task(&self) -> &TaskPlan {
        &self.task
    }

    #[must_use]
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// The topic of a table; `None`: not selected.
    ///
    /// # Errors
    /// When the spec names no topic for it.
    pub fn topic(&self, schema: &str, table: &str) -> Result<Option<String>, Failure> {
        let Some(object) = self.selection.selected(schema, table) else { return Ok(None) };
        Ok(Some(self.task.topic(object, schema, table)?.into_string()))
    }

    /// Partition counts by topic.
    #[must_use]
    pub fn pins(&self) -> BTreeMap<String, i32> {
        self.pins.all()
    }

    /// The same, as they will be.
    #[must_use]
    pub fn shared_pins(&self) -> Pins {
        self.pins.clone()
    }

    /// The plan of a table version; `None`: not selected. Its topic exists and is pinned then.
    ///
    /// # Errors
    /// When the topic does not exist and must not be created, Kafka does not answer, or the table
    /// cannot be planned as the spec asks.
    pub async fn plan(&self, table: &Arc<Table>) -> Result<Option<Arc<TablePlan>>, Failure> {
        self.pin(std::slice::from_ref(table)).await?;
        self.planned(table)
    }

    /// The plans of many tables, in their order; topics are created together.
    ///
    /// # Errors
    /// As [`Self::plan`].
    pub async fn plan_all(
        &self,
        tables: &[Arc<Table>],
    ) -> Result<Vec<Option<Arc<TablePlan>>>, Failure> {
        self.pin(tables).await?;
        tables.iter().map(|table| self.planned(table)).collect()
    }

    fn planned(&self, table: &Arc<Table>) -> Result<Option<Arc<TablePlan>>, Failure> {
        let Some(Chosen { object, topic, .. }) = self.task.choose(table)? else {
            return Ok(None);
        };
        let partitions = self.pins.lock().get(&*topic).copied().unwrap_or_default();
        let table = Arc::clone(table);
        let plan = TablePlan::new(table, &self.task, object, partitions, self.spec.lanes.0)?;
        Ok(Some(Arc::new(plan)))
    }

    /// Makes sure that the topics of these tables exist and are pinned.
    async fn pin(&self, tables: &[Arc<Table>]) -> Result<(), Failure> {
        let missing = self.unpinned(tables)?;
        if missing.is_empty() {
            return Ok(());
        }
        let kafka = self.kafka.clone();
        let may_create = self.spec.sync.schema;
        let ensured =
            tokio::task::spawn_blocking(move || ensure(&kafka, missing, may_create)).await??;
        let pin = |(topic, partitions): (&String, &i32)| MetaRecord::Pin {
            topic: topic.clone(),
            partitions: *partitions,
        };
        self.meta.write(ensured.iter().map(pin).collect()).await?;
        info!(topics = ensured.len(), "topics pinned");
        self.pins.extend(ensured);
        Ok(())
    }

    fn unpinned(&self, tables: &[Arc<Table>]) -> Result<Vec<NewTopic>, Failure> {
        let sink = &self.spec.sink;
        let pins = self.pins.lock();
        let mut missing = BTreeMap::new();
        for table in tables {
            let Some(Chosen { object, topic, is_ddl_topic }) = self.task.choose(table)? else {
                continue;
            };
            let name = topic.into_string();
            if pins.contains_key(&name) {
                continue;
            }
            let partitions = match is_ddl_topic {
                // Their order is kept.
                true => 1,
                false => self.spec.objects[object].partitions.unwrap_or(sink.partitions),
            };
            missing.entry(name.clone()).or_insert_with(|| NewTopic {
                name,
                partitions,
                replication_factor: sink.replication_factor,
                config: sink.topic_config.clone(),
            });
        }
        Ok(missing.into_values().collect())
    }
}

/// The key of the masks, where columns are masked. Its file is relative to `folder`.
///
/// # Errors
/// When it is not there, or too short.
pub(crate) fn mask_key(spec: &config::Task, folder: &Path) -> Result<Option<MaskKey>, Failure> {
    let Some(secret) = spec.mask_key.as_ref().filter(|_| spec.has_masks()) else {
        return Ok(None);
    };
    let key = secret.resolve(folder);
    let key = key.map_err(|error| Failure::fatal(format!("mask_key: {error}")))?;
    let key = MaskKey::new(key.expose_secret().as_bytes());
    key.map(Some).map_err(|error| Failure::fatal(error.to_string()))
}

/// The dead-letter topic, with a partition for each lane; `None`: nothing goes there.
pub(crate) fn letters(spec: &config::Task, task: &TaskPlan) -> Option<NewTopic> {
    Some(NewTopic {
        name: task.letters()?.to_owned(),
        partitions: i32::from(spec.lanes.0),
        replication_factor: spec.sink.replication_factor,
        config: BTreeMap::new(),
    })
}

/// Partition counts of the topics; those that do not exist are created where that is allowed.
fn ensure(
    kafka: &kafka::settings::Settings,
    wanted: Vec<NewTopic>,
    may_create: bool,
) -> Result<BTreeMap<String, i32>, Failure> {
    let admin = Admin::new(kafka)?;
    let names: Vec<String> = wanted.iter().map(|topic| topic.name.clone()).collect();
    let found = admin.partitions(&names)?;
    let (mut pins, mut missing) = (BTreeMap::new(), Vec::new());
    for topic in wanted {
        match found.get(&topic.name).copied().flatten() {
            Some(partitions) => {
                pins.insert(topic.name, partitions);
            }
            None => missing.push(topic),
        }
    }
    if let Some(topic) = missing.first().filter(|_| !may_create) {
        return Err(kafka::Error::TopicMissing { topic: topic.name.clone() }.into());
    }
    if !missing.is_empty() {
        admin.create(&missing)?;
        pins.extend(missing.into_iter().map(|topic| (topic.name, topic.partitions)));
    }
    Ok(pins)
}
