//! Canal's JSON messages (formats/canal-json.md), one row in each.
//!

pub(super) mod sql_type;

use super::debezium::Work;
use super::event::{Action, Event, commit_us};
use super::plain::{self, Columns, Moments, Style, format_type};
use super::statement::Statement;
use super::{Render, Rendered, RowError};
use crate::plan::{TablePlan, TaskPlan};
use crate::{identifier, json};
use config::{MessageKey, Namespace, Unrepresentable};
use wal::{Column, Table, Transaction};

/// Prepared bytes of one table version.
#[derive(Debug)]
pub(crate) struct Template {
    columns: Columns,
    /// From the end of `data` up to the value of `es`.
    database: Box<[u8]>,
    /// From the end of `id` up to the value of `old`.
    types: Box<[u8]>,
    /// From the end of `old` up to the value of `ts`.
    names: Box<[u8]>,
    /// As `types`, of a TRUNCATE: from the end of `id` up to the value of `ts`.
    truncate: Box<[u8]>,
}

impl Template {
    pub(crate) fn new(table: &Table, key: &[usize], task: &TaskPlan) -> Self {
        let style = Style::new(&task.options, Moments::Sql { zulu: true });
        let mut database = b",\"database\":".to_vec();
        json::str(
            match task.options.database {
                Namespace::Schema => &table.schema,
                Namespace::Database => &task.database,
            },
            &mut database,
        );
        database.extend_from_slice(b",\"es\":");
        let mut types = b",\"isDdl\":false,\"mysqlType\":".to_vec();
        let name = |column: &Column, out: &mut Vec<u8>| {
            json::str(&format_type(&column.type_, column.type_modifier), out);
        };
        members(table, &name, &mut types);
        types.extend_from_slice(b",\"old\":");
        let mut names = b",\"pkNames\":".to_vec();
        primary_key(table, key, &mut names);
        names.extend_from_slice(b",\"sql\":\"\",\"sqlType\":");
        let number = |column: &Column, out: &mut Vec<u8>| {
            json::integer(sql_type::sql_type(&column.type_), out);
        };
        members(table, &number, &mut names);
        names.extend_from_slice(b",\"table\":");
        json::str(&table.name, &mut names);
        names.extend_from_slice(b",\"ts\":");
        Self {
            columns: Columns::new(table, &style, task.unrepresentable == Unrepresentable::Null),
            database: database.into(),
            types: types.into(),
            names: names.into(),
            truncate: truncate(table).into(),
        }
    }
}

/// `{"column":…}` for every column.
fn members(table: &Table, value: &dyn Fn(&Column, &mut Vec<u8>), out: &mut Vec<u8>) {
    out.push(b'{');
    for (index, column) in table.columns.iter().enumerate() {
        if 0 < index {
            out.push(b',');
        }
        json::str(&column.name, out);
        out.push(b':');
        value(column, out);
    }
    out.push(b'}');
}

fn primary_key(table: &Table, key: &[usize], out: &mut Vec<u8>) {
    if key.is_empty() {
        out.extend_from_slice(b"null");
        return;
    }
    json::strings(key.iter().map(|&index| &*table.columns[index].name), out);
}

fn truncate(table: &Table) -> Vec<u8> {
    let mut out = DDL_OPEN.to_vec();
    json::str(&identifier::truncate(table), &mut out);
    out.extend_from_slice(b",\"sqlType\":null,\"table\":");
    json::str(&table.name, &mut out);
    out.extend_from_slice(b",\"ts\":");
    out
}

/// Writes messages of any table of one task.
#[derive(Debug)]
pub(crate) struct Encoder {
    message_key: MessageKey,
    /// Of the task, where messages name it in place of the schema.
    database: Option<Box<str>>,
    /// Value of `es`, up to that of `id`.
    moment: Vec<u8>,
    /// From the value of `ts` up to the value of `type`.
    now: Vec<u8>,
    work: Work,
}

impl Encoder {
    pub(crate) fn new(task: &TaskPlan) -> Self {
        Self {
            message_key: task.options.message_key,
            database: match task.options.database {
                Namespace::Schema => None,
                Namespace::Database => Some(task.database.clone()),
            },
            moment: Vec::new(),
            now: Vec::new(),
            work: Work::default(),
        }
    }

    /// Writes a DDL statement.
    pub(super) fn statement(&self, event: &Event<'_>, statement: &Statement, out: &mut Rendered) {
        let (schema, table) = statement.subject();
        let out = &mut out.value;
        out.extend_from_slice(b"{\"data\":null,\"database\":");
        json::str(self.database.as_deref().unwrap_or(schema), out);
        out.extend_from_slice(b",\"es\":");
        out.extend_from_slice(&self.moment);
        json::integer(event.id, out);
        out.extend_from_slice(DDL_OPEN);
        json::str(&statement.text, out);
        out.extend_from_slice(b",\"sqlType\":null,\"table\":");
        json::str(table, out);
        out.extend_from_slice(b",\"ts\":");
        out.extend_from_slice(&self.now);
        out.extend_from_slice(type_of(statement).as_bytes());
        out.extend_from_slice(b"\"}");
    }
}

/// Canal's word for a statement (formats/canal-json.md, section 1.1).
fn type_of(statement: &Statement) -> &'static str {
    match (statement.verb(), statement.kind()) {
        ("CREATE", "INDEX") => "CINDEX",
        ("DROP", "INDEX") => "DINDEX",
        _ if !statement.is_of_tables() => "QUERY",
        ("DROP", _) => "ERASE",
        ("ALTER", _) if statement.renames() => "RENAME",
        ("ALTER", _) => "ALTER",
        _ => "CREATE",
    }
}

/// From the end of `id` up to the value of `sql`.
const DDL_OPEN: &[u8] =
    b",\"isDdl\":true,\"mysqlType\":null,\"old\":null,\"pkNames\":null,\"sql\":";

impl Render for Encoder {
    type Template = Template;

    fn begin(&mut self, transaction: &Transaction) {
        let out = &mut self.moment;
        out.clear();
        json::integer(commit_us(transaction).div_euclid(1000), out);
        out.extend_from_slice(b",\"id\":");
    }

    fn tick(&mut self, now_us: i64) {
        self.now.clear();
        json::integer(now_us.div_euclid(1000), &mut self.now);
        self.now.extend_from_slice(b",\"type\":\"");
    }

    fn render(
        &mut self,
        plan: &TablePlan,
        template: &Template,
        event: &Event<'_>,
        out: &mut Rendered,
    ) -> Result<(), RowError> {
        let (columns, work) = (&template.columns, &mut self.work);
        plain::key(plan, columns, self.message_key, event.key.as_ref(), work, out)?;
        let (row, type_) = match event.action {
            // Readers know no other word for rows of a snapshot.
            Action::Read | Action::Insert => (event.after, "INSERT"),
            Action::Update => (event.after, "UPDATE"),
            Action::Delete => (event.before, "DELETE"),
            Action::Truncate => (None, "TRUNCATE"),
        };
        let out = &mut out.value;
        out.extend_from_slice(b"{\"data\":");
        match &row {
            Some(row) => {
                out.push(b'[');
                columns.row(row, work, out)?;
                out.push(b']');
            }
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(&template.database);
        out.extend_from_slice(&self.moment);
        json::integer(event.id, out);
        if event.action == Action::Truncate {
            out.extend_from_slice(&template.truncate);
        } else {
            out.extend_from_slice(&template.types);
            match (event.action, &event.before, &event.after) {
                (Action::Update, Some(before), Some(after)) => {
                    out.push(b'[');
                    columns.changed(before, after, work, out)?;
                    out.push(b']');
                }
                // Nothing is known to have changed. Readers fail where there is no row at all.
                (Action::Update, ..) => out.extend_from_slice(b"[{}]"),
                _ => out.extend_from_slice(b"null"),
            }
            out.extend_from_slice(&template.names);
        }
        out.extend_from_slice(&self.now);
        out.extend_from_slice(type_.as_bytes());
        out.extend_from_slice(b"\"}");
        Ok(())
    }
}
