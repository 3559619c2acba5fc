//! Tables → plans: topics are created, their partition counts pinned before first use.
//!
//! Routing depends on WAL content, revision and pins only (delivery-protocol.md, section 6), so a
//! pin is durable before the first row that needs it is routed.

use crate::batch::Marked;
use crate::failure::Failure;
use crate::meta::Meta;
use kafka::meta::MetaRecord;
use kafka::topics::{Admin, NewTopic};
use record::plan::{Chosen, TablePlan, TaskPlan};
use record::rewrite::MaskKey;
use record::selection::Selection;
use secrecy::ExposeSecret as _;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tracing::info;
use wal::Table;

/// Plans the tables of one task. Lives as long as the task.
pub struct Planner {
    /// That which the lanes were opened with.
    first: Rc<Revision>,
    /// Those that came by marks.
    marked: RefCell<Vec<Rc<Revision>>>,
    kafka: kafka::settings::Settings,
    meta: Meta,
    pins: Pins,
    /// Topics of tables that were planned: others may be pinned from before.
    planned: RefCell<BTreeSet<String>>,
    server_version: u32,
}

/// A revision, ready to plan tables by it.
pub struct Revision {
    /// `None`: that which the lanes were opened with.
    pub marked: Option<Arc<Marked>>,
    /// What the lanes were opened with, or what came by the mark.
    pub spec: Arc<config::Task>,
    pub selection: Selection,
    pub task: TaskPlan,
}

/// What a table version is to its rows, by revision.
#[derive(Clone, Debug, Default)]
pub struct Plans {
    /// Under the revision that the lanes were opened with; `None`: not selected.
    pub first: Option<Arc<TablePlan>>,
    /// Under later ones, by their numbers.
    pub marked: Vec<(u64, Option<Arc<TablePlan>>)>,
}

impl Revision {
    fn new(
        marked: Option<Arc<Marked>>,
        spec: Arc<config::Task>,
        server_version: u32,
        mask_key: Option<MaskKey>,
    ) -> Result<Self, Failure> {
        let selection = Selection::new(&spec).map_err(|error| Failure::fatal(error.to_string()))?;
        let task = TaskPlan::new(&spec, &spec.source.database)?;
        let task = task.of_server(server_version).with_mask_key(mask_key)?;
        Ok(Self { marked, spec, selection, task })
    }
}

impl From<Option<Arc<TablePlan>>> for Plans {
    fn from(first: Option<Arc<TablePlan>>) -> Self {
        Self { first, marked: Vec::new() }
    }
}

impl Plans {
    /// Under the newest revision.
    #[must_use]
    pub fn newest(&self) -> Option<&Arc<TablePlan>> {
        self.marked.last().map_or(&self.first, |(_, plan)| plan).as_ref()
    }

    /// Whether any revision selects it.
    #[must_use]
    pub fn is_selected(&self) -> bool {
        self.first.is_some() || self.marked.iter().any(|(_, plan)| plan.is_some())
    }

    /// The plan under a later revision.
    pub fn learn(&mut self, number: u64, plan: Option<Arc<TablePlan>>) {
        self.marked.retain(|(it, _)| *it != number);
        self.marked.push((number, plan));
    }

    /// Under the revision of this number; `None`: under the first one.
    #[must_use]
    pub fn under(&self, number: Option<u64>) -> Option<&Arc<TablePlan>> {
        let Some(number) = number else { return self.first.as_ref() };
        self.marked.iter().find(|(it, _)| *it == number)?.1.as_ref()
    }
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
        let first = Rc::new(Revision::new(None, spec, server_version, mask_key)?);
        let (marked, planned) = (RefCell::default(), RefCell::default());
        Ok(Self { first, marked, kafka, meta, pins: Pins::new(pins), planned, server_version })
    }

    /// A revision that comes by a mark; nothing is planned by it before it was added.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn revision(
        &self,
        marked: Arc<Marked>,
        spec: Arc<config::Task>,
        mask_key: Option<MaskKey>,
    ) -> Result<Revision, Failure> {
        Revision::new(Some(marked), spec, self.server_version, mask_key)
    }

    /// From now on tables are planned under this one, too.
    pub fn add(&self, revision: Rc<Revision>) {
        self.marked.borrow_mut().push(revision);
    }

    /// Leaves out marks that are not in force after all.
    pub fn keep(&self, is_in_force: impl Fn(u64) -> bool) {
        let kept = |it: &Rc<Revision>| it.marked.as_ref().is_none_or(|it| is_in_force(it.number));
        self.marked.borrow_mut().retain(kept);
    }

    /// The one that decides from the last mark on.
    #[must_use]
    pub fn newest(&self) -> Rc<Revision> {
        Rc::clone(self.marked.borrow().last().unwrap_or(&self.first))
    }

    /// That which the lanes were opened with.
    #[must_use]
    pub fn first(&self) -> &Revision {
        &self.first
    }

    /// The topic of a table; `None`: not selected.
    ///
    /// # Errors
    /// When the spec names no topic for it.
    pub fn topic(&self, schema: &str, table: &str) -> Result<Option<String>, Failure> {
        let newest = self.newest();
        let Some(object) = newest.selection.selected(schema, table) else { return Ok(None) };
        Ok(Some(newest.task.topic(object, schema, table)?.into_string()))
    }

    /// Partition counts by topic.
    #[must_use]
    pub fn pins(&self) -> BTreeMap<String, i32> {
        self.pins.all()
    }

    /// The same of those topics that tables of this run go to.
    #[must_use]
    pub fn planned_pins(&self) -> BTreeMap<String, i32> {
        let (mut pins, planned) = (self.pins.all(), self.planned.borrow());
        pins.retain(|topic, _| planned.contains(topic));
        pins
    }

    /// The same, as they will be.
    #[must_use]
    pub fn shared_pins(&self) -> Pins {
        self.pins.clone()
    }

    /// The plans of a table version. Where it is selected its topic exists and is pinned then.
    ///
    /// # Errors
    /// When the topic does not exist and must not be created, Kafka does not answer, or the table
    /// cannot be planned as the spec asks.
    pub async fn plan(&self, table: &Arc<Table>) -> Result<Plans, Failure> {
        loop {
            let later = self.marked.borrow().clone();
            self.pin(&self.first, std::slice::from_ref(table)).await?;
            for revision in &later {
                self.pin(revision, std::slice::from_ref(table)).await?;
            }
            // One may have come meanwhile; from here on nothing can.
            if later.len() != self.marked.borrow().len() {
                continue;
            }
            let mut plans = Plans::from(self.planned(&self.first, table)?);
            for revision in &later {
                let number = revision.marked.as_ref().map_or(0, |it| it.number);
                plans.marked.push((number, self.planned(revision, table)?));
            }
            return Ok(plans);
        }
    }

    /// The plans of many tables under the newest revision, in their order; topics are created together.
    ///
    /// # Errors
    /// As [`Self::plan`].
    pub async fn plan_all(
        &self,
        tables: &[Arc<Table>],
    ) -> Result<Vec<Option<Arc<TablePlan>>>, Failure> {
        self.plan_under(&self.newest(), tables).await
    }

    /// The same under one revision, which need not have been added.
    ///
    /// # Errors
    /// As [`Self::plan`].
    pub async fn plan_under(
        &self,
        revision: &Revision,
        tables: &[Arc<Table>],
    ) -> Result<Vec<Option<Arc<TablePlan>>>, Failure> {
        self.pin(revision, tables).await?;
        tables.iter().map(|table| self.planned(revision, table)).collect()
    }

    /// Whether tables can be planned under a revision. Nothing is pinned: by that a table that is not published would be one
    /// that somebody has taken out of the publication.
    ///
    /// # Errors
    /// When the spec asks for what cannot be done for a table.
    pub fn check_under(&self, revision: &Revision, tables: &[Arc<Table>]) -> Result<(), Failure> {
        tables.iter().try_for_each(|table| self.planned_with(revision, table, 1).map(drop))
    }

    /// The condition of a table under a revision, as SQL for the server; `None`: all rows are wanted, or none.
    ///
    /// # Errors
    /// When the spec asks for what cannot be done for the table.
    pub fn condition(
        &self,
        revision: &Revision,
        table: &Arc<Table>,
    ) -> Result<Option<String>, Failure> {
        let plan = self.planned_with(revision, table, 1)?;
        Ok(plan.and_then(|plan| plan.condition().map(str::to_owned)))
    }

    fn planned(
        &self,
        revision: &Revision,
        table: &Arc<Table>,
    ) -> Result<Option<Arc<TablePlan>>, Failure> {
        self.planned_with(revision, table, 0)
    }

    /// `unpinned`: partitions of a topic that is not pinned.
    fn planned_with(
        &self,
        revision: &Revision,
        table: &Arc<Table>,
        unpinned: i32,
    ) -> Result<Option<Arc<TablePlan>>, Failure> {
        let Some(Chosen { object, topic, .. }) = revision.task.choose(table)? else {
            return Ok(None);
        };
        let pinned = self.pins.lock().get(&*topic).copied();
        if pinned.is_some() {
            self.planned.borrow_mut().insert(topic.to_string());
        }
        let partitions = pinned.unwrap_or(unpinned);
        let (table, lanes) = (Arc::clone(table), revision.spec.lanes.0);
        let plan = TablePlan::new(table, &revision.task, object, partitions, lanes)?;
        Ok(Some(Arc::new(plan)))
    }

    /// Makes sure that the topics of these tables exist and are pinned.
    async fn pin(&self, revision: &Revision, tables: &[Arc<Table>]) -> Result<(), Failure> {
        let missing = self.unpinned(revision, tables)?;
        if missing.is_empty() {
            return Ok(());
        }
        let kafka = self.kafka.clone();
        let may_create = revision.spec.sync.schema;
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

    fn unpinned(
        &self,
        revision: &Revision,
        tables: &[Arc<Table>],
    ) -> Result<Vec<NewTopic>, Failure> {
        let sink = &revision.spec.sink;
        let pins = self.pins.lock();
        let mut missing = BTreeMap::new();
        for table in tables {
            let Some(Chosen { object, topic, is_ddl_topic }) = revision.task.choose(table)? else {
                continue;
            };
            let name = topic.into_string();
            if pins.contains_key(&name) {
                continue;
            }
            let partitions = match is_ddl_topic {
                // Their order is kept.
                true => 1,
                false => revision.spec.objects[object].partitions.unwrap_or(sink.partitions),
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

/// The dead-letter topic, with a partition for each lane of each stream; `None`: nothing goes there.
pub(crate) fn letters(spec: &config::Task, task: &TaskPlan) -> Option<NewTopic> {
    Some(NewTopic {
        name: task.letters()?.to_owned(),
        partitions: i32::from(spec.lanes.0) * i32::from(spec.source.streams),
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
