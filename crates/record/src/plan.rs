//! What is decided once: per task ([`TaskPlan`]) and per version of a table ([`TablePlan`]).

use crate::encode::debezium::{Columns, adjust};
use crate::encode::{Codec, Template};
use crate::naming::{Names, NamingError, TopicPattern};
use crate::schema::Schemas;
use crate::selection::{Selection, SelectionError};
use crate::{lane, partition};
use config::{FormatOptions, Hash, NameAdjustment, Partitioning, Subject, Unrepresentable};
use std::collections::BTreeMap;
use std::sync::Arc;
use wal::table::ReplicaIdentity;
use wal::{Table, statement};

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
    /// Of DDL statements; `None`: the topic of the rows.
    ddl_topic: Option<TopicPattern>,
    partitioning: Partitioning,
    hash: Hash,
    objects: Vec<ObjectPlan>,
    selection: Selection,
}

/// Where the rows of a table go, or a DDL statement.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Chosen {
    /// Index into the task's `objects`.
    pub object: usize,
    pub topic: Box<str>,
    /// The topic is for DDL statements alone.
    pub is_ddl_topic: bool,
}

#[derive(Clone, Debug)]
struct ObjectPlan {
    topic: Option<TopicPattern>,
    partition_key: Vec<Box<str>>,
    operations: Operations,
}

/// Which operations an object asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "a set of five operations")]
pub(crate) struct Operations {
    pub(crate) insert: bool,
    pub(crate) update: bool,
    pub(crate) delete: bool,
    pub(crate) truncate: bool,
    pub(crate) ddl: bool,
}

/// The task or a table cannot be planned as it was asked.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PlanError {
    #[error("{0}")]
    Naming(#[from] NamingError),
    #[error("{0}")]
    Selection(#[from] SelectionError),
    #[error("{what} is a DDL statement that the task does not select: a fault of the planner")]
    StatementNotSelected { what: Box<str> },
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
            ddl_topic: match sink.ddl_topic.as_deref() {
                Some(topic) => Some(TopicPattern::parse(topic)?),
                None if codec == Codec::DtsAvro => None,
                None => Some(TopicPattern::parse(DDL_TOPIC)?),
            },
            selection: Selection::new(task)?,
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

    /// The topic of a table that `object` selects.
    ///
    /// # Errors
    /// When the object does not exist or the name would be no topic.
    pub fn topic(&self, object: usize, schema: &str, table: &str) -> Result<Box<str>, PlanError> {
        let own = self.objects.get(object).ok_or(PlanError::ObjectMissing { object })?;
        let names = Names { task: &self.task, database: &self.database, schema, table };
        Ok(own.topic.as_ref().unwrap_or(&self.topic).topic(names)?)
    }

    /// Where the rows of a table go, or a DDL statement; `None`: not selected.
    ///
    /// # Errors
    /// When the name would be no topic.
    pub fn choose(&self, table: &Table) -> Result<Option<Chosen>, PlanError> {
        if table.oid == statement::OID {
            return self.choose_statement(&table.name);
        }
        let Some(object) = self.selection.selected(&table.schema, &table.name) else {
            return Ok(None);
        };
        let topic = self.topic(object, &table.schema, &table.name)?;
        Ok(Some(Chosen { object, topic, is_ddl_topic: false }))
    }

    /// `changed`: as in [`statement::COLUMNS`]. The first name that is selected decides. What is no table
    /// goes with the tables of its schema; what cannot be read is never left out.
    fn choose_statement(&self, changed: &str) -> Result<Option<Chosen>, PlanError> {
        if !self.codec.has_statements() {
            return Ok(None);
        }
        let names: Vec<(String, Option<String>)> =
            serde_json::from_str(changed).unwrap_or_default();
        let wants = |object: &usize| self.objects.get(*object).is_some_and(|it| it.operations.ddl);
        // Tables first: their topic may be that of their rows.
        let (tables, others): (Vec<_>, Vec<_>) =
            names.iter().partition(|(_, table)| table.is_some());
        let found = tables.into_iter().chain(others).find_map(|(schema, table)| {
            let object = match table {
                Some(table) => self.selection.selected(schema, table).filter(wants),
                None => self.selection.of_schema(schema).find(wants),
            };
            Some((object?, schema.as_str(), table.as_deref()))
        });
        let (object, schema, table) = match found {
            Some(found) => found,
            None if names.is_empty() => (0, "", None),
            None => return Ok(None),
        };
        let own = match (&self.ddl_topic, table) {
            (Some(topic), _) => topic.clone(),
            (None, Some(table)) => {
                let topic = self.topic(object, schema, table)?;
                return Ok(Some(Chosen { object, topic, is_ddl_topic: false }));
            }
            // There are no rows of it.
            (None, None) => TopicPattern::parse(DDL_TOPIC)?,
        };
        let table = table.unwrap_or_default();
        let names = Names { task: &self.task, database: &self.database, schema, table };
        Ok(Some(Chosen { object, topic: own.topic(names)?, is_ddl_topic: true }))
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
                ddl: chosen(config::Operation::Ddl),
            },
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
        let is_statement = table.oid == statement::OID;
        let topic = if is_statement {
            let what = || PlanError::StatementNotSelected { what: table.name.clone() };
            task.choose(&table)?.ok_or_else(what)?.topic
        } else {
            task.topic(object, &table.schema, &table.name)?
        };
        if partitions < 1 {
            return Err(PlanError::Partitions { topic, partitions });
        }
        if !(1..=64).contains(&lanes) {
            return Err(PlanError::Lanes { lanes });
        }
        check_names(&table, task)?;
        let key = message_key(&table);
        let mut operations = task.objects[object].operations;
        operations.truncate &= task.options.truncate && task.codec.has_truncate();
        let policy = if is_statement {
            operations.insert = true;
            Policy::Fixed(0)
        } else {
            task.policy(&table, &key, object, partitions)?
        };
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

    /// Whether it is of a DDL statement.
    #[must_use]
    pub fn is_statement(&self) -> bool {
        self.table.oid == statement::OID
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

/// Of DDL statements, unless the spec names another.
const DDL_TOPIC: &str = "{task}.ddl";

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
