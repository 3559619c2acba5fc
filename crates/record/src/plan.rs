//! What is decided once: per task ([`TaskPlan`]) and per version of a table ([`TablePlan`]).

use crate::encode::debezium::{Columns, adjust};
use crate::encode::{Codec, Template};
use crate::naming::{Names, NamingError, TopicPattern};
use crate::rewrite::{MaskKey, Rewrite, Texts};
use crate::schema::Schemas;
use crate::{lane, partition};
use config::{
    FormatOptions, Hash, NameAdjustment, Partitioning, SqlAscii, Subject, Unrepresentable,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use wal::Table;
use wal::table::ReplicaIdentity;
use wal::types::{Type, oid};

/// The parts of a task's settings that rows depend on.
#[derive(Clone, Debug)]
pub struct TaskPlan {
    pub(crate) task: Box<str>,
    pub(crate) database: Box<str>,
    /// Debezium's logical name.
    pub(crate) prefix: Box<str>,
    pub(crate) codec: Codec,
    pub(crate) options: FormatOptions,
    pub(crate) unrepresentable: Unrepresentable,
    pub(crate) headers: bool,
    /// Names of the registry's subjects.
    pub(crate) subject: Subject,
    /// Of the database, e.g. `16.3`; empty: not known.
    pub(crate) server_version: Box<str>,
    topic: TopicPattern,
    /// The dead-letter topic; `None`: nothing goes there.
    letters: Option<Box<str>>,
    partitioning: Partitioning,
    hash: Hash,
    objects: Vec<ObjectPlan>,
    sql_ascii: SqlAscii,
    mask_key: Option<MaskKey>,
}

#[derive(Clone, Debug)]
struct ObjectPlan {
    topic: Option<TopicPattern>,
    partition_key: Vec<Box<str>>,
    operations: Operations,
    /// Columns that are masked.
    mask: Vec<Box<str>>,
}

/// Which operations an object asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "a set of four operations")]
pub(crate) struct Operations {
    pub(crate) insert: bool,
    pub(crate) update: bool,
    pub(crate) delete: bool,
    pub(crate) truncate: bool,
}

/// The task or a table cannot be planned as it was asked.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PlanError {
    #[error("{0}")]
    Naming(#[from] NamingError),
    #[error(
        "sink.format: this version does not write {0} yet; use debezium-json, canal-json, \
         maxwell-json or shareplex-json"
    )]
    Format(String),
    #[error("objects[{object}] does not exist; the plan was made from another version of the spec")]
    ObjectMissing { object: usize },
    #[error(
        "{schema}.{table} has no column `{column}`, which objects[{object}].partition_key names; \
         correct the name or remove it"
    )]
    PartitionKeyMissing { schema: Box<str>, table: Box<str>, column: Box<str>, object: usize },
    #[error(
        "{schema}.{table}: partition_key `{column}` is not part of the replica identity, so deletes \
         would not find their partition; run ALTER TABLE … REPLICA IDENTITY FULL, or keep updates \
         and deletes out of `operations`"
    )]
    PartitionKeyNotInIdentity { schema: Box<str>, table: Box<str>, column: Box<str> },
    #[error(
        "{schema}.{table}: under sink.format_options.field_name_adjustment the columns `{column}` and \
         `{other}` would both be called `{name}`; rename one, or use another adjustment"
    )]
    FieldNames {
        schema: Box<str>,
        table: Box<str>,
        column: Box<str>,
        other: Box<str>,
        name: Box<str>,
    },
    #[error(
        "{schema}.{table} has no column `{column}`, which objects[{object}].columns.mask names; \
         correct the name, or give the table an object of its own without the mask"
    )]
    MaskMissing { schema: Box<str>, table: Box<str>, column: Box<str>, object: usize },
    #[error("columns are masked, and the key of the masks is not at hand; set `mask_key`")]
    MaskKeyMissing,
    #[error("topic `{topic}` has {partitions} partitions; it needs at least one")]
    Partitions { topic: Box<str>, partitions: i32 },
    #[error("a task has 1 to 64 lanes, not {lanes}")]
    Lanes { lanes: u8 },
}

/// Everything that rows of one table version need on their way: prepared once, shared by all lanes.
#[derive(Debug)]
pub struct TablePlan {
    table: Arc<Table>,
    object: usize,
    topic: Box<str>,
    partitions: i32,
    /// Lane of each partition.
    lanes: Box<[u8]>,
    /// Columns of the message key.
    key: Box<[usize]>,
    pub(crate) policy: Policy,
    pub(crate) operations: Operations,
    /// A changed key is a deletion and a creation also where both have one partition.
    pub(crate) splits_key_changes: bool,
    /// `None`: rows are written as they came.
    pub(crate) rewrite: Option<Rewrite>,
    /// What is hashed, and Debezium's rows.
    pub(crate) columns: Columns,
    pub(crate) template: Template,
}

/// How a row finds its partition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Policy {
    Fixed(i32),
    /// By the values of these columns.
    Murmur2(Box<[usize]>),
    Java(Box<[usize]>),
}

impl TaskPlan {
    /// Takes from the task what rows depend on. `database` is the one that is captured.
    ///
    /// # Errors
    /// When the format is not written by this version, or a topic pattern cannot be read.
    pub fn new(task: &config::Task, database: &str) -> Result<Self, PlanError> {
        let sink = &task.sink;
        let codec = Codec::of(sink.format).ok_or_else(|| PlanError::Format(sink.format.word()))?;
        let objects = task.objects.iter().map(ObjectPlan::new).collect::<Result<_, _>>()?;
        Ok(Self {
            task: task.task.as_str().into(),
            database: database.into(),
            prefix: sink.topic_prefix.as_deref().unwrap_or(&task.task).into(),
            codec,
            options: codec.options(&sink.format_options),
            unrepresentable: sink.unrepresentable,
            headers: sink.headers,
            subject: sink.registry.as_ref().map(|registry| registry.subject).unwrap_or_default(),
            server_version: "".into(),
            topic: TopicPattern::parse(&sink.topic)?,
            letters: letters(task, database)?,
            sql_ascii: SqlAscii::parse(&task.source.sql_ascii).unwrap_or_default(),
            mask_key: None,
            partitioning: sink.partitioning,
            hash: sink.hash,
            objects,
        })
    }

    /// The same, of a server with this `server_version_num`; 0: not known.
    #[must_use]
    pub fn of_server(self, version: u32) -> Self {
        let server_version = match version {
            0 => "".into(),
            // Two parts since 10 (PostgreSQL, "server_version_num").
            _ => format!("{}.{}", version / 10_000, version % 10_000).into(),
        };
        Self { server_version, ..self }
    }

    /// The same for whoever routes rows, and so rewrites them: with the key of the masks.
    ///
    /// # Errors
    /// [`PlanError::MaskKeyMissing`], where columns are masked.
    pub fn with_mask_key(self, mask_key: Option<MaskKey>) -> Result<Self, PlanError> {
        if mask_key.is_none() && self.objects.iter().any(|object| !object.mask.is_empty()) {
            return Err(PlanError::MaskKeyMissing);
        }
        Ok(Self { mask_key, ..self })
    }

    /// The dead-letter topic; `None`: nothing goes there.
    #[must_use]
    pub fn letters(&self) -> Option<&str> {
        self.letters.as_deref()
    }

    /// The topic of a table that `object` selects.
    ///
    /// # Errors
    /// When the object does not exist or the name would be no topic.
    pub fn topic(&self, object: usize, schema: &str, table: &str) -> Result<Box<str>, PlanError> {
        let own = self.objects.get(object).ok_or(PlanError::ObjectMissing { object })?;
        let names = Names { task: &self.task, database: &self.database, schema, table };
        Ok(own.topic.as_ref().unwrap_or(&self.topic).topic(names)?)
    }

    fn policy(
        &self,
        table: &Table,
        key: &[usize],
        object: usize,
        partitions: i32,
    ) -> Result<Policy, PlanError> {
        let columns: Box<[usize]> = match self.partitioning {
            Partitioning::Partition0 => return Ok(Policy::Fixed(0)),
            Partitioning::Table => {
                let (database, table) = (&self.database, &table.name);
                return Ok(Policy::Fixed(partition::of_table(
                    self.hash, database, table, partitions,
                )));
            }
            Partitioning::PrimaryKey if self.objects[object].partition_key.is_empty() => key.into(),
            Partitioning::PrimaryKey => self.chosen(table, object)?,
        };
        Ok(match self.hash {
            // reference-dts.md, section 1: a table with no key sends everything to partition 0.
            _ if columns.is_empty() => Policy::Fixed(0),
            Hash::Murmur2 => Policy::Murmur2(columns),
            Hash::Java => Policy::Java(columns),
        })
    }

    fn rewrite(&self, masked: Box<[bool]>) -> Option<Rewrite> {
        let (key, texts) = (self.mask_key.clone(), Texts::of(self.sql_ascii));
        let is_used = masked.contains(&true) || self.sql_ascii != SqlAscii::Fail;
        is_used.then_some(Rewrite { masked, key, texts })
    }

    fn chosen(&self, table: &Table, object: usize) -> Result<Box<[usize]>, PlanError> {
        let ObjectPlan { partition_key, operations, .. } = &self.objects[object];
        let needs_identity = (operations.update || operations.delete)
            && matches!(table.identity, ReplicaIdentity::Default | ReplicaIdentity::Index);
        let find = |name: &str| {
            let (schema, column) = (table.schema.clone(), name.into());
            let Some(index) = table.columns.iter().position(|column| *column.name == *name) else {
                let table = table.name.clone();
                return Err(PlanError::PartitionKeyMissing { schema, table, column, object });
            };
            if needs_identity && !table.columns[index].in_identity {
                let table = table.name.clone();
                return Err(PlanError::PartitionKeyNotInIdentity { schema, table, column });
            }
            Ok(index)
        };
        partition_key.iter().map(|name| find(name)).collect()
    }
}

impl ObjectPlan {
    fn new(object: &config::Object) -> Result<Self, NamingError> {
        let chosen = |operation| {
            object.operations.as_ref().is_none_or(|operations| operations.contains(&operation))
        };
        Ok(Self {
            topic: object.topic.as_deref().map(TopicPattern::parse).transpose()?,
            partition_key: object.partition_key.iter().map(|name| name.as_str().into()).collect(),
            operations: Operations {
                insert: chosen(config::Operation::Insert),
                update: chosen(config::Operation::Update),
                delete: chosen(config::Operation::Delete),
                truncate: chosen(config::Operation::Truncate),
            },
            mask: object
                .columns
                .iter()
                .flat_map(|it| it.mask.keys())
                .map(|name| name.as_str().into())
                .collect(),
        })
    }
}

impl TablePlan {
    /// Plans one version of a table. `partitions` is the pinned count of its topic.
    ///
    /// # Errors
    /// When the topic would have no valid name, or the partition key cannot be kept.
    pub fn new(
        table: Arc<Table>,
        task: &TaskPlan,
        object: usize,
        partitions: i32,
        lanes: u8,
    ) -> Result<Self, PlanError> {
        let topic = task.topic(object, &table.schema, &table.name)?;
        let (table, masked) = masked(table, &task.objects[object].mask, object)?;
        if partitions < 1 {
            return Err(PlanError::Partitions { topic, partitions });
        }
        if !(1..=64).contains(&lanes) {
            return Err(PlanError::Lanes { lanes });
        }
        check_names(&table, task)?;
        let key = message_key(&table);
        let policy = task.policy(&table, &key, object, partitions)?;
        let mut operations = task.objects[object].operations;
        operations.truncate &= task.options.truncate && task.codec.has_truncate();
        let template = Template::new(&table, &key, &topic, task);
        let lanes = (0..partitions).map(|partition| lane::lane(&topic, partition, lanes)).collect();
        Ok(Self {
            object,
            topic,
            partitions,
            lanes,
            policy,
            operations,
            splits_key_changes: task.codec.is_debezium(),
            rewrite: task.rewrite(masked),
            columns: Columns::new(&table, task),
            template,
            key: key.into(),
            table,
        })
    }

    #[must_use]
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The schemas that a registry must have taken before the first row is encoded; `None`: the format
    /// has none.
    #[must_use]
    pub fn schemas(&self) -> Option<&Schemas> {
        self.template.schemas()
    }

    /// Index into the task's `objects`.
    #[must_use]
    pub fn object(&self) -> usize {
        self.object
    }

    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Pinned number of partitions of the topic.
    #[must_use]
    pub fn partitions(&self) -> i32 {
        self.partitions
    }

    /// Columns of the message key, as indexes; empty: the key is null.
    #[must_use]
    pub fn key(&self) -> &[usize] {
        &self.key
    }

    /// Lane that owns a partition of the topic.
    #[must_use]
    pub fn lane(&self, partition: i32) -> u8 {
        usize::try_from(partition)
            .ok()
            .and_then(|index| self.lanes.get(index))
            .copied()
            .unwrap_or(0)
    }
}

/// The dead-letter topic of a task that uses one.
fn letters(task: &config::Task, database: &str) -> Result<Option<Box<str>>, NamingError> {
    if !task.has_dead_letters() {
        return Ok(None);
    }
    let pattern = TopicPattern::parse(&task.sink.dead_letter_topic)?;
    pattern.topic(Names { task: &task.task, database, schema: "", table: "" }).map(Some)
}

/// The table as its readers see it: what is masked is a text, whatever it was, and has no default. And
/// which columns these are.
fn masked(
    table: Arc<Table>,
    mask: &[Box<str>],
    object: usize,
) -> Result<(Arc<Table>, Box<[bool]>), PlanError> {
    let mut is_masked = vec![false; table.columns.len()];
    if mask.is_empty() {
        return Ok((table, is_masked.into()));
    }
    let mut seen = Table::clone(&table);
    for name in mask {
        let Some(index) = table.columns.iter().position(|column| column.name == *name) else {
            let (schema, table) = (table.schema.clone(), table.name.clone());
            return Err(PlanError::MaskMissing { schema, table, column: name.clone(), object });
        };
        is_masked[index] = true;
        let column = &mut seen.columns[index];
        column.type_ = Arc::new(Type::builtin(oid::TEXT, "text"));
        column.type_modifier = -1;
        column.default = None;
    }
    Ok((Arc::new(seen), is_masked.into()))
}

/// No two columns may have one name: a reader would see one of their values only.
fn check_names(table: &Table, task: &TaskPlan) -> Result<(), PlanError> {
    let mode = task.options.field_name_adjustment;
    if mode == NameAdjustment::None {
        return Ok(());
    }
    let mut taken = BTreeMap::new();
    for column in &table.columns {
        let name = adjust::field_name(&column.name, mode);
        if let Some(other) = taken.insert(name.clone(), &column.name) {
            let (schema, table) = (table.schema.clone(), table.name.clone());
            let (column, other) = (column.name.clone(), other.clone());
            let name = name.into();
            return Err(PlanError::FieldNames { schema, table, column, other, name });
        }
    }
    Ok(())
}

/// The primary key, else the identity index. Where the identity is an index that does not cover the
/// primary key, the index: old tuples carry nothing else (design.md, server fact 19).
fn message_key(table: &Table) -> Vec<usize> {
    let columns = &table.columns;
    let known = |&index: &usize| columns.get(index).is_some_and(|column| column.in_identity);
    if table.identity == ReplicaIdentity::Index && !table.key.iter().all(known) {
        return (0..columns.len()).filter(known).collect();
    }
    table.key.iter().copied().filter(|&index| index < columns.len()).collect()
}
