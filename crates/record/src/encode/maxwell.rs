//! Maxwell's JSON messages (formats/maxwell-json.md).
//!
//! `commit` and `xoffset` count the changes of the whole source transaction, before tables are selected.
//! That a change is the last one is known where the transaction came in one batch; elsewhere `commit` is
//! missing. Maxwell has no message for TRUNCATE.

use super::debezium::Work;
use super::event::{Action, Event, commit_us};
use super::plain::{self, Columns, Moments, Style};
use super::statement::{Relation, Statement};
use super::{Render, Rendered, RowError};
use crate::json;
use crate::plan::{TablePlan, TaskPlan};
use config::{MaxwellMember, MessageKey, Namespace, SnapshotRows, Unrepresentable};
use std::io::Write as _;
use wal::{Table, Transaction};

/// Prepared bytes of one table version.
#[derive(Debug)]
pub(crate) struct Template {
    columns: Columns,
    /// Up to the value of `type`.
    open: Box<[u8]>,
    /// Value of `primary_key_columns`.
    key_names: Box<[u8]>,
    /// Of the record's key: up to the value of the first key column, or of `_uuid`.
    key_open: Box<[u8]>,
    /// Of the record's key: before each further value.
    key_members: Vec<Box<[u8]>>,
}

impl Template {
    pub(crate) fn new(table: &Table, key: &[usize], task: &TaskPlan) -> Self {
        let zulu = task.options.zulu;
        let style = Style {
            is_bare: true,
            nests: true,
            pads_offsets: false,
            ..Style::new(&task.options, Moments::Sql { zulu })
        };
        let database = match task.options.database {
            Namespace::Schema => &table.schema,
            Namespace::Database => &task.database,
        };
        let mut open = b"{\"database\":".to_vec();
        json::str(database, &mut open);
        open.extend_from_slice(b",\"table\":");
        json::str(&table.name, &mut open);
        let is_array = task.options.message_key == MessageKey::Array;
        let mut key_open = open.clone();
        if is_array {
            key_open = b"[".to_vec();
            json::str(database, &mut key_open);
            key_open.push(b',');
            json::str(&table.name, &mut key_open);
            key_open.extend_from_slice(b",[");
        }
        open.extend_from_slice(b",\"type\":\"");
        let mut key_names = Vec::new();
        json::strings(key.iter().map(|&index| &*table.columns[index].name), &mut key_names);
        let mut key_members = Vec::new();
        for (count, name) in key_members_of(table, key).into_iter().enumerate() {
            let mut member = Vec::new();
            if is_array {
                member.extend_from_slice(if count == 0 { b"{" } else { b"},{" });
                json::str(&name, &mut member);
            } else {
                member.push(b',');
                json::str(&format!("pk.{name}"), &mut member);
            }
            member.push(b':');
            key_members.push(member.into());
        }
        let columns = Columns::new(table, &style, task.unrepresentable == Unrepresentable::Null);
        let (open, key_names, key_open) = (open.into(), key_names.into(), key_open.into());
        Self { columns, open, key_names, key_open, key_members }
    }
}

/// Names of the key columns in the record's key: in lower case, as Maxwell has them (`RowIdentity.toKeyJson`), which knows no
/// two columns that differ in nothing else. PostgreSQL does; these keep the names that they have.
fn key_members_of(table: &Table, key: &[usize]) -> Vec<String> {
    let names: Vec<&str> = key.iter().map(|&index| &*table.columns[index].name).collect();
    let lower: Vec<String> = names.iter().map(|name| name.to_lowercase()).collect();
    let member = |(name, lowered): (&&str, &String)| {
        let is_alone = lower.iter().filter(|it| *it == lowered).count() == 1;
        if is_alone { lowered.clone() } else { (*name).to_owned() }
    };
    names.iter().zip(&lower).map(member).collect()
}

/// Writes messages of any table of one task.
#[derive(Debug)]
pub(crate) struct Encoder {
    message_key: MessageKey,
    members: Box<[MaxwellMember]>,
    /// Rows of a snapshot are called by Maxwell's own word.
    is_bootstrap: bool,
    /// Of the task, where messages name it in place of the schema.
    database: Option<Box<str>>,
    /// From the end of `type` to the end of `ts`.
    moment: Vec<u8>,
    /// Value of `push_ts`.
    now: Vec<u8>,
    work: Work,
}

impl Encoder {
    pub(crate) fn new(task: &TaskPlan) -> Self {
        Self {
            message_key: task.options.message_key,
            members: task.options.members.as_slice().into(),
            database: match task.options.database {
                Namespace::Schema => None,
                Namespace::Database => Some(task.database.clone()),
            },
            is_bootstrap: task.options.snapshot_rows == SnapshotRows::Bootstrap,
            moment: Vec::new(),
            now: Vec::new(),
            work: Work::default(),
        }
    }

    fn wants(&self, member: MaxwellMember) -> bool {
        self.members.contains(&member)
    }

    /// Writes the members between `ts` and `data`, in Maxwell's order.
    fn members(
        &mut self,
        plan: &TablePlan,
        template: &Template,
        event: &Event<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), RowError> {
        let Event { transaction, change, .. } = event;
        // Rows of a snapshot belong to no transaction.
        if transaction.xid != 0 {
            if self.wants(MaxwellMember::Xid) {
                out.extend_from_slice(b",\"xid\":");
                json::integer(transaction.xid, out);
            }
            let is_last =
                transaction.changes_count == Some(change.ordinal + 1) && event.ends_change;
            if is_last && self.wants(MaxwellMember::Commit) {
                out.extend_from_slice(b",\"commit\":true");
            } else if self.wants(MaxwellMember::Xoffset) {
                out.extend_from_slice(b",\"xoffset\":");
                json::integer(change.ordinal, out);
            }
        }
        if self.wants(MaxwellMember::Position) {
            // Writing to a vector cannot fail.
            let _ = write!(out, ",\"position\":\"{}\"", change.lsn);
        }
        if self.wants(MaxwellMember::PushTs) {
            out.extend_from_slice(b",\"push_ts\":");
            out.extend_from_slice(&self.now);
        }
        if self.wants(MaxwellMember::PrimaryKey)
            && let Some(row) = &event.key
        {
            out.extend_from_slice(b",\"primary_key\":");
            for (count, &index) in plan.key().iter().enumerate() {
                out.push(if count == 0 { b'[' } else { b',' });
                template.columns.value(index, row, &mut self.work, out)?;
            }
            out.push(b']');
        }
        if self.wants(MaxwellMember::PrimaryKeyColumns) && !plan.key().is_empty() {
            out.extend_from_slice(b",\"primary_key_columns\":");
            out.extend_from_slice(&template.key_names);
        }
        Ok(())
    }

    /// Writes a DDL statement: for each table that it drops one message, as Maxwell does (`MysqlParserListener.exitDrop_table`).
    /// Views, functions, types and indexes are not expressible (formats/maxwell-json.md, section 1.1).
    pub(super) fn statement(&self, event: &Event<'_>, statement: &Statement, out: &mut Rendered) {
        let is_schema = statement.kind() == "SCHEMA";
        let kind = match (statement.verb(), is_schema) {
            ("CREATE", true) => "database-create",
            ("DROP", true) => "database-drop",
            ("ALTER", true) => "database-alter",
            _ if !statement.is_of_tables() => return,
            ("CREATE" | "SELECT", false) => "table-create",
            ("ALTER", false) => "table-alter",
            _ => "table-drop",
        };
        let message = |(schema, name): (&str, &str)| {
            let schema = if is_schema && schema.is_empty() { name } else { schema };
            let database = self.database.as_deref().unwrap_or(schema);
            let mut message = serde_json::json!({"type": kind, "database": database});
            if !is_schema {
                message["table"] = name.into();
            }
            if let (Some(relation), false) = (statement.relations.first(), kind == "table-drop") {
                message["def"] = definition(database, relation);
            }
            message["ts"] = commit_us(event.transaction).div_euclid(1000).into();
            message["sql"] = statement.text.as_str().into();
            message.to_string().into_bytes()
        };
        let mut dropped = statement.dropped_tables().filter(|_| kind == "table-drop");
        let first = dropped.next().unwrap_or_else(|| statement.subject());
        out.value.extend_from_slice(&message(first));
        out.further.extend(dropped.map(message));
    }

    /// Writes Maxwell's key of a record.
    fn key(
        &mut self,
        plan: &TablePlan,
        template: &Template,
        event: &Event<'_>,
        out: &mut Rendered,
    ) -> Result<(), RowError> {
        match self.message_key {
            MessageKey::None => return Ok(()),
            MessageKey::Columns => {
                let (columns, key) = (&template.columns, event.key.as_ref());
                return plain::key(plan, columns, self.message_key, key, &mut self.work, out);
            }
            MessageKey::Auto | MessageKey::Array => {}
        }
        out.keyed = true;
        let is_array = self.message_key == MessageKey::Array;
        let key = &mut out.key;
        key.extend_from_slice(&template.key_open);
        if let Some(row) = &event.key {
            for (member, &index) in template.key_members.iter().zip(plan.key()) {
                key.extend_from_slice(member);
                template.columns.value(index, row, &mut self.work, key)?;
            }
        } else {
            key.extend_from_slice(if is_array { b"{\"_uuid\":" } else { b",\"_uuid\":" });
            uuid(event, key);
        }
        key.extend_from_slice(if is_array { b"}]]" } else { b"}" });
        Ok(())
    }
}

fn definition(database: &str, relation: &Relation) -> serde_json::Value {
    let column =
        |it: &super::statement::Column| serde_json::json!({"type": it.type_, "name": it.name});
    serde_json::json!({
        "database": database,
        "table": relation.name,
        "columns": relation.columns.iter().map(column).collect::<Vec<_>>(),
        "primary-key": relation.key,
    })
}

/// Stands in a key for what a table without one does not have: Maxwell takes a random UUID, and this one
/// is made of the change's place, so that the same change always has the same (RFC 9562, version 8).
fn uuid(event: &Event<'_>, out: &mut Vec<u8>) {
    let (lsn, ordinal) = (event.transaction.commit_lsn.0, event.change.ordinal);
    let head = (lsn >> 16) << 16 | 0x8000 | (lsn >> 4 & 0xFFF);
    let tail = 1 << 63 | (lsn & 0xF) << 58 | (ordinal & ((1 << 58) - 1));
    let (a, b, c) = (head >> 32, head >> 16 & 0xFFFF, head & 0xFFFF);
    // Writing to a vector cannot fail.
    let _ = write!(out, "\"{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}\"", tail >> 48, tail << 16 >> 16);
}

impl Render for Encoder {
    type Template = Template;

    fn begin(&mut self, transaction: &Transaction) {
        self.moment.clear();
        self.moment.extend_from_slice(b"\",\"ts\":");
        json::integer(commit_us(transaction).div_euclid(1_000_000), &mut self.moment);
    }

    fn tick(&mut self, now_us: i64) {
        self.now.clear();
        let (seconds, micros) = (now_us.div_euclid(1_000_000), now_us.rem_euclid(1_000_000));
        // Writing to a vector cannot fail.
        let _ = write!(self.now, "{seconds}.{micros:06}");
    }

    fn render(
        &mut self,
        plan: &TablePlan,
        template: &Template,
        event: &Event<'_>,
        out: &mut Rendered,
    ) -> Result<(), RowError> {
        let (row, type_) = match event.action {
            Action::Read if self.is_bootstrap => (event.after, "bootstrap-insert"),
            Action::Read | Action::Insert => (event.after, "insert"),
            Action::Update => (event.after, "update"),
            Action::Delete => (event.before, "delete"),
            Action::Truncate => return Ok(()),
        };
        self.key(plan, template, event, out)?;
        let out = &mut out.value;
        out.extend_from_slice(&template.open);
        out.extend_from_slice(type_.as_bytes());
        out.extend_from_slice(&self.moment);
        self.members(plan, template, event, out)?;
        let (columns, work) = (&template.columns, &mut self.work);
        out.extend_from_slice(b",\"data\":");
        match &row {
            Some(row) => columns.row(row, work, out)?,
            None => out.extend_from_slice(b"{}"),
        }
        if event.action == Action::Update {
            out.extend_from_slice(b",\"old\":");
            match (&event.before, &event.after) {
                (Some(before), Some(after)) => columns.changed(before, after, work, out)?,
                // Nothing is known to have changed. Readers fail where the member is missing.
                _ => out.extend_from_slice(b"{}"),
            }
        }
        out.push(b'}');
        Ok(())
    }
}
