//! The formats, and what belongs to each: one line in each match.

use super::event::Event;
use super::statement::Statement;
use super::{Render, Rendered, RowError, canal, debezium, dts, maxwell, shareplex};
use crate::plan::{TablePlan, TaskPlan};
use crate::schema::Schemas;
use config::{Format, FormatOptions, NameAdjustment};
use wal::{Table, Transaction, statement};

/// The formats that this version writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Codec {
    DebeziumJson,
    DebeziumAvro,
    DtsAvro,
    Canal,
    Maxwell,
    SharePlex,
    Protobuf,
}

impl Codec {
    pub(crate) fn of(format: Format) -> Self {
        match format {
            Format::DebeziumJson => Self::DebeziumJson,
            Format::DebeziumAvro => Self::DebeziumAvro,
            Format::DtsAvro => Self::DtsAvro,
            Format::CanalJson => Self::Canal,
            Format::MaxwellJson => Self::Maxwell,
            Format::SharePlexJson => Self::SharePlex,
            Format::Protobuf => Self::Protobuf,
        }
    }

    /// Whether events are Debezium's: a changed key is always a deletion and a creation, and a tombstone
    /// may follow a deletion. The others know an update of the key.
    pub(crate) fn is_debezium(self) -> bool {
        match self {
            Self::DebeziumJson | Self::DebeziumAvro | Self::Protobuf => true,
            Self::DtsAvro | Self::Canal | Self::Maxwell | Self::SharePlex => false,
        }
    }

    /// The task's options as the format reads them.
    pub(crate) fn options(self, options: &FormatOptions) -> FormatOptions {
        let mut options = options.clone();
        if matches!(self, Self::DebeziumAvro | Self::Protobuf) {
            // Avro and Protobuf have no other names.
            for mode in [&mut options.schema_name_adjustment, &mut options.field_name_adjustment] {
                if *mode == NameAdjustment::None {
                    *mode = NameAdjustment::Avro;
                }
            }
        }
        options
    }

    /// What no two fields may have in common, beside their names. The compiler of Protobuf looks at the names
    /// that they would have in JSON, even where they have others.
    pub(crate) fn field_identity(self, name: &str) -> String {
        match self {
            Self::Protobuf => debezium::protobuf::camel(name),
            Self::DebeziumJson
            | Self::DebeziumAvro
            | Self::DtsAvro
            | Self::Canal
            | Self::Maxwell
            | Self::SharePlex => name.to_owned(),
        }
    }

    /// Whether records have numbers.
    pub(super) fn has_ids(self) -> bool {
        match self {
            Self::DtsAvro | Self::Canal => true,
            Self::DebeziumJson
            | Self::DebeziumAvro
            | Self::Maxwell
            | Self::SharePlex
            | Self::Protobuf => false,
        }
    }

    /// Whether there is a record for TRUNCATE.
    pub(crate) fn has_truncate(self) -> bool {
        match self {
            Self::DebeziumJson
            | Self::DebeziumAvro
            | Self::DtsAvro
            | Self::Canal
            | Self::SharePlex
            | Self::Protobuf => true,
            Self::Maxwell => false,
        }
    }
}

/// What of a table version's records is the same for each row.
#[derive(Debug)]
pub(crate) enum Template {
    DebeziumJson(debezium::Template),
    DebeziumAvro(debezium::avro::Template),
    DtsAvro(dts::Template),
    Canal(canal::Template),
    Maxwell(maxwell::Template),
    SharePlex(shareplex::Template),
    Protobuf(debezium::protobuf::Template),
    /// DDL statements bring all that they need with them, but for the schemas of formats that have some.
    Statement {
        schemas: Option<Schemas>,
        dts_ddl: bool,
    },
}

impl Template {
    /// `key`: columns of the message key.
    pub(crate) fn new(table: &Table, key: &[usize], topic: &str, task: &TaskPlan) -> Self {
        if table.oid == statement::OID {
            let schemas = match task.codec {
                Codec::DebeziumAvro => Some(debezium::avro::statement_schemas(topic, task)),
                Codec::Protobuf => Some(debezium::protobuf::statement_schemas(topic, task)),
                Codec::DebeziumJson
                | Codec::DtsAvro
                | Codec::Canal
                | Codec::Maxwell
                | Codec::SharePlex => None,
            };
            return Self::Statement { schemas, dts_ddl: task.dts_ddl };
        }
        match task.codec {
            Codec::DebeziumJson => Self::DebeziumJson(debezium::Template::new(table, key, task)),
            Codec::DebeziumAvro => {
                Self::DebeziumAvro(debezium::avro::Template::new(table, key, topic, task))
            }
            Codec::DtsAvro => Self::DtsAvro(dts::Template::new(table, key, task)),
            Codec::Canal => Self::Canal(canal::Template::new(table, key, task)),
            Codec::Maxwell => Self::Maxwell(maxwell::Template::new(table, key, task)),
            Codec::SharePlex => Self::SharePlex(shareplex::Template::new(table, task)),
            Codec::Protobuf => {
                Self::Protobuf(debezium::protobuf::Template::new(table, key, topic, task))
            }
        }
    }

    /// Whether records name the unique indexes of their table.
    pub(crate) fn names_unique_indexes(&self) -> bool {
        match self {
            Self::DtsAvro(_) => true,
            Self::DebeziumJson(_)
            | Self::DebeziumAvro(_)
            | Self::Canal(_)
            | Self::Maxwell(_)
            | Self::SharePlex(_)
            | Self::Protobuf(_)
            | Self::Statement { .. } => false,
        }
    }

    /// What a registry must know before the first row.
    pub(crate) fn schemas(&self) -> Option<&Schemas> {
        match self {
            Self::DebeziumAvro(template) => Some(&template.schemas),
            Self::Protobuf(template) => Some(&template.schemas),
            Self::Statement { schemas, .. } => schemas.as_ref(),
            Self::DebeziumJson(_)
            | Self::DtsAvro(_)
            | Self::Canal(_)
            | Self::Maxwell(_)
            | Self::SharePlex(_) => None,
        }
    }
}

/// The encoder of the task's format.
#[derive(Debug)]
pub(super) enum FormatEncoder {
    DebeziumJson(debezium::Encoder),
    DebeziumAvro(debezium::avro::Encoder),
    DtsAvro(dts::Encoder),
    Canal(canal::Encoder),
    Maxwell(maxwell::Encoder),
    SharePlex(shareplex::Encoder),
    Protobuf(debezium::protobuf::Encoder),
}

impl FormatEncoder {
    pub(super) fn new(task: &TaskPlan) -> Self {
        match task.codec {
            Codec::DebeziumJson => Self::DebeziumJson(debezium::Encoder::new(task)),
            Codec::DebeziumAvro => Self::DebeziumAvro(debezium::avro::Encoder::new(task)),
            Codec::DtsAvro => Self::DtsAvro(dts::Encoder::new(task)),
            Codec::Canal => Self::Canal(canal::Encoder::new(task)),
            Codec::Maxwell => Self::Maxwell(maxwell::Encoder::new(task)),
            Codec::SharePlex => Self::SharePlex(shareplex::Encoder::new(task)),
            Codec::Protobuf => Self::Protobuf(debezium::protobuf::Encoder::new(task)),
        }
    }

    pub(super) fn begin(&mut self, transaction: &Transaction) {
        match self {
            Self::DebeziumJson(encoder) => encoder.begin(transaction),
            Self::DebeziumAvro(encoder) => encoder.begin(transaction),
            Self::DtsAvro(encoder) => encoder.begin(transaction),
            Self::Canal(encoder) => encoder.begin(transaction),
            Self::Maxwell(encoder) => encoder.begin(transaction),
            Self::SharePlex(encoder) => encoder.begin(transaction),
            Self::Protobuf(encoder) => encoder.begin(transaction),
        }
    }

    pub(super) fn tick(&mut self, now_us: i64) {
        match self {
            Self::DebeziumJson(encoder) => encoder.tick(now_us),
            Self::DebeziumAvro(encoder) => encoder.tick(now_us),
            Self::DtsAvro(encoder) => encoder.tick(now_us),
            Self::Canal(encoder) => encoder.tick(now_us),
            Self::Maxwell(encoder) => encoder.tick(now_us),
            Self::SharePlex(encoder) => encoder.tick(now_us),
            Self::Protobuf(encoder) => encoder.tick(now_us),
        }
    }

    /// `None`: the table was planned for another format.
    pub(super) fn render(
        &mut self,
        plan: &TablePlan,
        event: &Event<'_>,
        out: &mut Rendered,
    ) -> Option<Result<(), RowError>> {
        if let Template::Statement { dts_ddl, .. } = plan.template {
            let mut statement = Statement::of(event);
            if dts_ddl {
                statement.cut_as_dts();
            }
            match self {
                Self::DebeziumJson(encoder) => encoder.statement(event, &statement, out),
                Self::DebeziumAvro(encoder) => encoder.statement(event, &statement, out),
                Self::Protobuf(encoder) => encoder.statement(event, &statement, out),
                Self::DtsAvro(encoder) => encoder.statement(event, &statement, out),
                Self::Canal(encoder) => encoder.statement(event, &statement, out),
                Self::Maxwell(encoder) => encoder.statement(event, &statement, out),
                Self::SharePlex(encoder) => encoder.statement(event, &statement, out),
            }
            return Some(Ok(()));
        }
        Some(match (self, &plan.template) {
            (Self::DebeziumJson(encoder), Template::DebeziumJson(template)) => {
                encoder.render(plan, template, event, out)
            }
            (Self::DebeziumAvro(encoder), Template::DebeziumAvro(template)) => {
                encoder.render(plan, template, event, out)
            }
            (Self::DtsAvro(encoder), Template::DtsAvro(template)) => {
                encoder.render(plan, template, event, out)
            }
            (Self::Canal(encoder), Template::Canal(template)) => {
                encoder.render(plan, template, event, out)
            }
            (Self::Maxwell(encoder), Template::Maxwell(template)) => {
                encoder.render(plan, template, event, out)
            }
            (Self::SharePlex(encoder), Template::SharePlex(template)) => {
                encoder.render(plan, template, event, out)
            }
            (Self::Protobuf(encoder), Template::Protobuf(template)) => {
                encoder.render(plan, template, event, out)
            }
            _ => return None,
        })
    }
}
