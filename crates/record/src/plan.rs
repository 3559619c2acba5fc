//! What is decided once: per task ([`TaskPlan`]) and per version of a table ([`TablePlan`]).

use crate::encode::debezium::{Columns, adjust};
use crate::encode::{Codec, Template};
use crate::filter::{Condition, Filter, FilterError};
use crate::naming::{Names, NamingError, TopicPattern};
use crate::projection::{Projection, ProjectionError, Rules};
use crate::rewrite::{MaskKey, Rewrite, Texts};
use crate::schema::Schemas;
use crate::selection::{Selection, SelectionError};
use crate::transform::{Given, Program, Transform, TransformError};
use crate::{lane, partition};
use config::{
    FormatOptions, Hash, NameAdjustment, Partitioning, SqlAscii, Subject, Unrepresentable,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use wal::table::ReplicaIdentity;
use wal::types::{Type, oid};
use wal::{Table, statement};

/// The parts of a task's settings that rows depend on.
#[derive(Clone, Debug)]
pub struct TaskPlan {
    pub(crate) task: Box<str>,
    /// By which the task's events are told from others: each stream counts its own.
    pub(crate) life: Box<str>,
    /// The number of that stream, from 1; 0: there are no several.
    pub(crate) stream: u8,
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
    /// Of DDL statements; `None`: the topic of the rows.
    ddl_topic: Option<TopicPattern>,
    partitioning: Partitioning,
    hash: Hash,
    objects: Vec<ObjectPlan>,
    sql_ascii: SqlAscii,
    /// DDL statements are cut as DTS cuts them.
    pub(crate) dts_ddl: bool,
    mask_key: Option<MaskKey>,
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
    condition: Option<Condition>,
    rules: Rules,
    transform: Option<Program>,
    /// Columns that are masked.
    mask: Vec<Box<str>>,
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

impl Operations {
    pub(crate) fn contain(self, operation: wal::Operation) -> bool {
        match operation {
            wal::Operation::Read => true,
            wal::Operation::Insert => self.insert,
            wal::Operation::Update => self.update,
            wal::Operation::Delete => self.delete,
            wal::Operation::Truncate => self.truncate,
        }
    }
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
    #[error("objects[{object}]: {cause}")]
    Rules { object: usize, cause: ProjectionError },
    #[error("{schema}.{table}: objects[{object}]: {cause}")]
    Projection { schema: Box<str>, table: Box<str>, object: usize, cause: ProjectionError },
    #[error("objects[{object}].where: {cause}")]
    Condition { object: usize, cause: FilterError },
    #[error("{schema}.{table}: objects[{object}].where: {cause}")]
    Filter { schema: Box<str>, table: Box<str>, object: usize, cause: FilterError },
    #[error("objects[{object}].transform: {cause}")]
    Program { object: usize, cause: TransformError },
    #[error("{schema}.{table}: objects[{object}].transform: {cause}")]
    Transform { schema: Box<str>, table: Box<str>, object: usize, cause: TransformError },
    #[error(
        "objects[{object}].transform drops rows, and with `sink.transaction_topic` records are counted before \
         they are transformed; say which rows are wanted in `where`, or leave one of them out"
    )]
    TransformDrops { object: usize },
    #[error(
        "{schema}.{table}: `where` asks for `{column}`, which is not part of the replica identity, so \
         updates and deletes could not be judged; run ALTER TABLE … REPLICA IDENTITY FULL, or keep \
         updates and deletes out of `operations`"
    )]
    FilterNotInIdentity { schema: Box<str>, table: Box<str>, column: Box<str> },
    #[error(
        "{schema}.{table}: objects[{object}].where asks for `{column}`, which is masked, and what is masked \
         cannot be judged; leave the column out of one of them"
    )]
    FilterOnMasked { schema: Box<str>, table: Box<str>, column: Box<str>, object: usize },
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
    /// Columns of the message key, as they are sent.
    key: Box<[usize]>,
    /// How rows look in records; `None`: as they are sent.
    pub(crate) projection: Option<Projection>,
    pub(crate) policy: Policy,
    pub(crate) operations: Operations,
    /// Which rows are wanted; `None`: all.
    pub(crate) filter: Option<Filter>,
    /// What becomes of rows as records show them; `None`: nothing.
    pub(crate) transform: Option<Transform>,
    /// A changed key is a deletion and a creation also where both have one partition.
    pub(crate) splits_key_changes: bool,
    /// `None`: rows are written as they came.
    pub(crate) rewrite: Option<Rewrite>,
    /// Debezium's rows.
    pub(crate) columns: Columns,
    /// What is hashed, where that are not the columns of the rows.
    hashed: Option<Columns>,
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

impl Policy {
    /// Columns that say where a row goes, as they are sent.
    fn columns(&self) -> &[usize] {
        match self {
            Self::Fixed(_) => &[],
            Self::Murmur2(columns) | Self::Java(columns) => columns,
        }
    }
}

impl TaskPlan {
    /// Takes from the task what rows depend on. `database` is the one that is captured.
    ///
    /// # Errors
    /// When a topic pattern cannot be read.
    pub fn new(task: &config::Task, database: &str) -> Result<Self, PlanError> {
        let sink = &task.sink;
        let codec = Codec::of(sink.format);
        let objects = task.objects.iter().enumerate().map(ObjectPlan::new);
        let objects = objects.collect::<Result<Vec<_>, _>>()?;
        let drops = |it: &ObjectPlan| it.transform.as_ref().is_some_and(Program::may_drop);
        if let Some(object) = objects.iter().position(drops)
            && sink.transaction_topic == config::Switch::On
        {
            return Err(PlanError::TransformDrops { object });
        }
        Ok(Self {
            task: task.task.as_str().into(),
            life: task.life().into(),
            stream: task.stream,
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
            dts_ddl: task.compat.dts_ddl,
            mask_key: None,
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
        let (schema, table) = (own.rules.cased(schema), own.rules.cased(table));
        let names =
            Names { task: &self.task, database: &self.database, schema: &schema, table: &table };
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

    /// The condition of the object, for the rows of this table version.
    fn filter(&self, table: &Table, object: usize) -> Result<Option<Filter>, PlanError> {
        let ObjectPlan { condition, operations, .. } = &self.objects[object];
        let Some(condition) = condition else { return Ok(None) };
        let (schema, name) = (|| table.schema.clone(), || table.name.clone());
        let filter = condition.of(table).map_err(|cause| PlanError::Filter {
            schema: schema(),
            table: name(),
            object,
            cause,
        })?;
        let needs_identity = (operations.update || operations.delete)
            && matches!(table.identity, ReplicaIdentity::Default | ReplicaIdentity::Index);
        let unknown = |&&index: &&usize| needs_identity && !table.columns[index].in_identity;
        if let Some(&index) = filter.columns().iter().find(unknown) {
            let column = table.columns[index].name.clone();
            return Err(PlanError::FilterNotInIdentity { schema: schema(), table: name(), column });
        }
        Ok(Some(filter))
    }

    fn projection(
        &self,
        table: &Table,
        key: &[usize],
        object: usize,
    ) -> Result<Option<Projection>, PlanError> {
        self.objects[object].rules.of(table, key).map_err(|cause| PlanError::Projection {
            schema: table.schema.clone(),
            table: table.name.clone(),
            object,
            cause,
        })
    }

    /// The transform of the object, for the rows of this table version.
    fn transform(
        &self,
        table: &Table,
        projection: Option<&Projection>,
        keys: &[usize],
        object: usize,
    ) -> Result<Option<Transform>, PlanError> {
        let ObjectPlan { transform, operations, .. } = &self.objects[object];
        let Some(program) = transform else { return Ok(None) };
        let is_limited = (operations.update || operations.delete)
            && matches!(table.identity, ReplicaIdentity::Default | ReplicaIdentity::Index);
        let transform = program.of(Given { table, projection, keys, is_limited });
        transform.map(Some).map_err(|cause| PlanError::Transform {
            schema: table.schema.clone(),
            table: table.name.clone(),
            object,
            cause,
        })
    }

    /// Columns that the object's rules name and the table does not have. Once a task runs that is no
    /// reason to stop: a column that is left out may be dropped.
    #[must_use]
    pub fn missing_columns(&self, object: usize, table: &Table) -> Vec<&str> {
        self.objects.get(object).map_or_else(Vec::new, |it| it.rules.missing(table))
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
    fn new((index, object): (usize, &config::Object)) -> Result<Self, PlanError> {
        let condition = object.condition.as_deref().filter(|text| !text.trim().is_empty());
        let condition = condition.map(Condition::parse).transpose();
        let refused = |cause| PlanError::Condition { object: index, cause };
        let transform = object.transform.as_deref().filter(|text| !text.trim().is_empty());
        let transform = transform.map(Program::parse).transpose();
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
            condition: condition.map_err(refused)?,
            transform: transform.map_err(|cause| PlanError::Program { object: index, cause })?,
            rules: Rules::new(object).map_err(|cause| PlanError::Rules { object: index, cause })?,
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
        let is_statement = table.oid == statement::OID;
        let topic = if is_statement {
            let what = || PlanError::StatementNotSelected { what: table.name.clone() };
            task.choose(&table)?.ok_or_else(what)?.topic
        } else {
            task.topic(object, &table.schema, &table.name)?
        };
        // What objects ask of their rows is not asked of statements.
        let filter = if is_statement { None } else { task.filter(&table, object)? };
        let mask: &[Box<str>] = if is_statement { &[] } else { &task.objects[object].mask };
        let (table, masked) = masked(table, mask, object)?;
        check_judged(&table, filter.as_ref(), &masked, object)?;
        if partitions < 1 {
            return Err(PlanError::Partitions { topic, partitions });
        }
        if !(1..=64).contains(&lanes) {
            return Err(PlanError::Lanes { lanes });
        }
        let key = message_key(&table);
        let projection = if is_statement { None } else { task.projection(&table, &key, object)? };
        let view = projection.as_ref().map_or(&table, |it| &it.view);
        check_names(view, task)?;
        let mut operations = task.objects[object].operations;
        operations.truncate &= task.options.truncate && task.codec.has_truncate();
        let policy = if is_statement {
            operations.insert = true;
            Policy::Fixed(0)
        } else {
            task.policy(&table, &key, object, partitions)?
        };
        let mut keys = key.clone();
        keys.extend(policy.columns());
        let transform = match is_statement {
            true => None,
            false => task.transform(&table, projection.as_ref(), &keys, object)?,
        };
        let shown = projection.as_ref().map_or(&key, |it| &it.key);
        let template = Template::new(view, shown, &topic, task);
        let hashed = projection.as_ref().map(|it| Columns::new(&it.renamed, &[], task));
        let lanes = (0..partitions).map(|partition| lane::lane(&topic, partition, lanes)).collect();
        Ok(Self {
            object,
            topic,
            partitions,
            lanes,
            policy,
            operations,
            filter,
            transform,
            splits_key_changes: task.codec.is_debezium(),
            rewrite: task.rewrite(masked),
            columns: Columns::new(view, shown, task),
            hashed,
            projection,
            template,
            key: key.into(),
            table,
        })
    }

    /// The table as its rows are sent.
    #[must_use]
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The table as records show it.
    #[must_use]
    pub fn view(&self) -> &Arc<Table> {
        self.projection.as_ref().map_or(&self.table, |it| &it.view)
    }

    /// Whether records name the unique indexes of their table.
    #[must_use]
    pub fn names_unique_indexes(&self) -> bool {
        self.template.names_unique_indexes()
    }

    /// The schemas that a registry must have taken before the first row is encoded; `None`: the format
    /// has none.
    #[must_use]
    pub fn schemas(&self) -> Option<&Schemas> {
        self.template.schemas()
    }

    /// The condition of `where` as SQL for a query of the table; `None`: all rows are wanted.
    #[must_use]
    pub fn condition(&self) -> Option<&str> {
        self.filter.as_ref().map(Filter::sql)
    }

    /// Another condition for rows of this table version, with that of the object, as SQL for a query of the table.
    ///
    /// # Errors
    /// When it is no expression of the subset, or does not fit the table.
    pub fn narrowed(&self, condition: &str) -> Result<String, FilterError> {
        let narrow = Condition::parse(condition)?.of(&self.table)?;
        let narrow = narrow.sql();
        Ok(self.condition().map_or_else(|| narrow.into(), |it| format!("({it}) AND ({narrow})")))
    }

    /// Columns whose texts the condition compares for equality of bytes, which is what the server does
    /// only under a deterministic collation.
    pub fn collated(&self) -> impl Iterator<Item = &str> {
        let columns = self.filter.iter().flat_map(Filter::collated);
        columns.filter_map(|&index| self.table.columns.get(index)).map(|column| &*column.name)
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

    /// Columns of the message key, as indexes into those of [`Self::view`]; empty: the key is null.
    #[must_use]
    pub fn key(&self) -> &[usize] {
        self.projection.as_ref().map_or(&self.key, |it| &it.key)
    }

    /// The same columns, as indexes into those of [`Self::table`].
    pub(crate) fn sent_key(&self) -> &[usize] {
        &self.key
    }

    /// What is hashed of a row, as it is sent.
    pub(crate) fn hashed(&self) -> &Columns {
        self.hashed.as_ref().unwrap_or(&self.columns)
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

/// Rows are masked before they are judged.
fn check_judged(
    table: &Table,
    filter: Option<&Filter>,
    masked: &[bool],
    object: usize,
) -> Result<(), PlanError> {
    let judged = filter.iter().flat_map(|it| it.columns());
    match judged.copied().find(|&index| masked.get(index) == Some(&true)) {
        None => Ok(()),
        Some(index) => {
            let (schema, name) = (table.schema.clone(), table.name.clone());
            let column = table.columns[index].name.clone();
            Err(PlanError::FilterOnMasked { schema, table: name, column, object })
        }
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
        let name = task.codec.field_identity(&adjust::field_name(&column.name, mode));
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
