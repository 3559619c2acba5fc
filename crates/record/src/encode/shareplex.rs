//! SharePlex's JSON messages, as DTS writes them (formats/shareplex-json.md).
//!
//! `size` and `idx` want the length of the transaction before its first row is written. It is known where
//! the transaction came in one batch; elsewhere `size` is 0.

use super::debezium::Work;
use super::event::{Action, Event, commit_us};
use super::plain::{self, Columns, Moments, Style, write_date_time};
use super::statement::Statement;
use super::{Render, Rendered, RowError};
use crate::json;
use crate::plan::{TablePlan, TaskPlan};
use config::{MessageKey, MetaMember, Unrepresentable, UpdateKey, ValueForm};
use wal::{Table, Transaction};

/// Prepared bytes of one table version.
#[derive(Debug)]
pub(crate) struct Template {
    columns: Columns,
    /// Value of `table`.
    table: Box<[u8]>,
}

impl Template {
    pub(crate) fn new(table: &Table, task: &TaskPlan) -> Self {
        let is_native = task.options.values == ValueForm::Native;
        let moments = Moments::Iso { dates: is_native };
        let style = Style { is_bare: is_native, ..Style::new(&task.options, moments) };
        let mut name = Vec::new();
        json::str(&format!("{}.{}", table.schema, table.name), &mut name);
        let columns = Columns::new(table, &style, task.unrepresentable == Unrepresentable::Null);
        Self { columns, table: name.into() }
    }
}

/// Writes messages of any table of one task.
#[derive(Debug)]
pub(crate) struct Encoder {
    message_key: MessageKey,
    update_key: UpdateKey,
    /// Members of `meta`: what stands before the value.
    meta: Box<[(MetaMember, &'static str)]>,
    zulu: bool,
    /// Values of `time`, `scn`, `trans` and `posttime`.
    time: Vec<u8>,
    scn: Vec<u8>,
    trans: Vec<u8>,
    posttime: Vec<u8>,
    work: Work,
}

fn before_value(member: MetaMember) -> &'static str {
    match member {
        MetaMember::Time => "\"time\":",
        MetaMember::Userid => "\"userid\":",
        MetaMember::Op => "\"op\":",
        MetaMember::Scn => "\"scn\":",
        MetaMember::Rowid => "\"rowid\":",
        MetaMember::Trans => "\"trans\":",
        MetaMember::Seq => "\"seq\":",
        MetaMember::Size => "\"size\":",
        MetaMember::Table => "\"table\":",
        MetaMember::Idx => "\"idx\":",
        MetaMember::Posttime => "\"posttime\":",
    }
}

impl Encoder {
    pub(crate) fn new(task: &TaskPlan) -> Self {
        let options = &task.options;
        Self {
            message_key: options.message_key,
            update_key: options.update_key,
            meta: options.meta.iter().map(|&member| (member, before_value(member))).collect(),
            zulu: options.zulu,
            time: Vec::new(),
            scn: Vec::new(),
            trans: Vec::new(),
            posttime: Vec::new(),
            work: Work::default(),
        }
    }

    /// Writes a DDL statement.
    pub(super) fn statement(&self, event: &Event<'_>, statement: &Statement, out: &mut Rendered) {
        let (schema, name) = statement.subject();
        let mut table = Vec::new();
        let dot = if schema.is_empty() || name.is_empty() { "" } else { "." };
        json::str(&format!("{schema}{dot}{name}"), &mut table);
        let out = &mut out.value;
        out.extend_from_slice(b"{\"meta\":{");
        self.meta("\"ddl\"", &table, event, out);
        out.extend_from_slice(b"},\"sql\":{\"ddl\":");
        json::str(&statement.text, out);
        out.extend_from_slice(b"}}");
    }

    fn meta(&self, op: &str, table: &[u8], event: &Event<'_>, out: &mut Vec<u8>) {
        let seq = event.change.ordinal + 1;
        let size = event.transaction.changes_count.unwrap_or(0);
        for (count, (member, name)) in self.meta.iter().enumerate() {
            if 0 < count {
                out.push(b',');
            }
            out.extend_from_slice(name.as_bytes());
            match member {
                MetaMember::Time => out.extend_from_slice(&self.time),
                // The log does not say who did it.
                MetaMember::Userid => out.push(b'0'),
                MetaMember::Op => out.extend_from_slice(op.as_bytes()),
                MetaMember::Scn => out.extend_from_slice(&self.scn),
                // Rows have no address that stays.
                MetaMember::Rowid => out.extend_from_slice(b"\"\""),
                MetaMember::Trans => out.extend_from_slice(&self.trans),
                MetaMember::Seq => json::integer(seq, out),
                MetaMember::Size => json::integer(size, out),
                MetaMember::Table => out.extend_from_slice(table),
                MetaMember::Idx => {
                    out.push(b'"');
                    json::integer(seq, out);
                    out.push(b'/');
                    json::integer(size, out);
                    out.push(b'"');
                }
                MetaMember::Posttime => out.extend_from_slice(&self.posttime),
            }
        }
    }

    /// Writes `data`, and `key` of an update.
    fn rows(
        &mut self,
        plan: &TablePlan,
        columns: &Columns,
        event: &Event<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), RowError> {
        let work = &mut self.work;
        match (&event.before, &event.after) {
            (Some(before), Some(after)) if !before.is_key() => {
                columns.changed(after, before, work, out)?;
            }
            // What changed cannot be told.
            (_, Some(row)) | (Some(row), None) => columns.row(row, work, out)?,
            (None, None) => out.extend_from_slice(b"{}"),
        }
        if event.action != Action::Update {
            return Ok(());
        }
        out.extend_from_slice(b",\"key\":");
        match (self.update_key, &event.before, &event.after) {
            (UpdateKey::Row, Some(before), _) => columns.row(before, work, out),
            (UpdateKey::Key, Some(row), _) | (_, None, Some(row)) => {
                columns.some(plan.key(), row, work, out)
            }
            (_, None, None) => {
                out.extend_from_slice(b"{}");
                Ok(())
            }
        }
    }
}

/// Writes a time as `time` and `posttime` have it.
pub(super) fn moment(us: i64, zulu: bool, out: &mut Vec<u8>) {
    out.clear();
    out.push(b'"');
    write_date_time(us, out);
    out.extend_from_slice(if zulu { b"Z\"" } else { b"\"" });
}

/// Writes a number in quotes; 0 as nothing in quotes.
fn quoted(number: u64, out: &mut Vec<u8>) {
    out.clear();
    out.push(b'"');
    if number != 0 {
        json::integer(number, out);
    }
    out.push(b'"');
}

impl Render for Encoder {
    type Template = Template;

    fn begin(&mut self, transaction: &Transaction) {
        moment(commit_us(transaction), self.zulu, &mut self.time);
        quoted(transaction.commit_lsn.0, &mut self.scn);
        // Rows of a snapshot have no transaction.
        quoted(transaction.xid.into(), &mut self.trans);
    }

    fn tick(&mut self, now_us: i64) {
        moment(now_us, self.zulu, &mut self.posttime);
    }

    fn render(
        &mut self,
        plan: &TablePlan,
        template: &Template,
        event: &Event<'_>,
        out: &mut Rendered,
    ) -> Result<(), RowError> {
        let (columns, key) = (&template.columns, event.key.as_ref());
        plain::key(plan, columns, self.message_key, key, &mut self.work, out)?;
        let out = &mut out.value;
        out.extend_from_slice(b"{\"meta\":{");
        let op = match event.action {
            Action::Read | Action::Insert => "\"ins\"",
            Action::Update => "\"upd\"",
            Action::Delete => "\"del\"",
            Action::Truncate => "\"trunc\"",
        };
        self.meta(op, &template.table, event, out);
        out.extend_from_slice(b"},\"data\":");
        self.rows(plan, columns, event, out)?;
        out.push(b'}');
        Ok(())
    }
}
