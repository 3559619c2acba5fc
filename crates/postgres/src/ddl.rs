//! Capture of DDL statements: helper objects on the server that write each statement into the stream
//! (`wal::statement` says in which form), made, compared, dropped.
//!
//! They live in a schema of the task, named as its slot; its comment says whose they are and which
//! version. Whoever may create event triggers is a superuser, or what a managed service has in its place.

use crate::quote::{identifier, literal};
use crate::{Error, Session};
use config::{DdlCapture, Source, Switch};
use record::selection::Selection;
use tokio_postgres::types::Type;
use tracing::{info, warn};
use wal::statement;

const SQL: &str = include_str!("ddl/capture.sql");

/// First version whose stream carries messages.
pub(crate) const MESSAGES_SINCE: u32 = 140_000;

/// How the comment of a schema of helper objects begins.
pub(crate) const COMMENT: &str = "Distributary: helper objects of ";

/// How statements come into the stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Means {
    /// As logical messages.
    Messages,
    /// As rows of a helper table, which must be published.
    Table,
}

/// Which tables the event triggers take into the publication of the helper objects' name when they are made.
#[derive(Clone, Copy, Debug)]
pub struct Taking<'a> {
    pub selection: &'a Selection,
    /// The publication publishes partition trees by their roots.
    pub via_root: bool,
    /// Tables get REPLICA IDENTITY FULL.
    pub full: bool,
    /// Where the task has several streams: their publications, in their order. Partitions go with their roots.
    pub publications: &'a [String],
}

impl Taking<'_> {
    /// The body of the SQL function that decides by the names of schema and table.
    fn wanted(&self) -> Result<String, Error> {
        let mut text = String::from("CASE");
        for (pattern, takes) in self.selection.rules() {
            let [schema, table] = pattern.regular_expressions();
            let (schema, table) = (literal(&schema)?, literal(&table)?);
            text += &format!(" WHEN $1 ~ {schema} AND $2 ~ {table} THEN {takes}");
        }
        Ok(if text.len() == 4 { "false".into() } else { text + " ELSE false END" })
    }

    /// The publication of a table that goes by the name of `home`: `own`, or that of the stream that
    /// `record::selection::Division` finds.
    fn publication(&self, own: &str) -> Result<String, Error> {
        if self.publications.len() < 2 {
            return literal(own);
        }
        let (mut text, count) = (String::new(), self.publications.len());
        for (number, name) in self.publications.iter().enumerate() {
            text += &format!(" WHEN {number} THEN {}", literal(name)?);
        }
        Ok(format!(
            "(SELECT CASE (get_byte(h, 0) * 256 + get_byte(h, 1)) % {count}{text} END \
             FROM sha256(convert_to(home.nspname || '.' || home.relname, 'UTF8')) h)"
        ))
    }

    /// Tells helper objects of one selection from those of another.
    fn digest(&self) -> Result<u64, Error> {
        let mut text = format!("{} {} {}", self.wanted()?, self.via_root, self.full);
        if 1 < self.publications.len() {
            text += &format!(" {}", self.publications.join(" "));
        }
        // FNV-1a: the same in every release.
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Ok(text.bytes().fold(0xcbf2_9ce4_8422_2325, step))
    }
}

/// What the session may do about event triggers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rights {
    /// It may create them.
    Create,
    /// They are there already, and up to date.
    Present,
    Missing,
}

/// Which means a server of this version offers for what is wanted; `None`: DDL is not captured.
///
/// Of transactions in progress the server says which subtransaction wrote a row, but of a message only which
/// transaction (`pgoutput_message`): one from a savepoint that is rolled back could not be told from others.
///
/// # Errors
/// When messages are wanted of a server that has none.
pub fn means(source: &Source, version: u32) -> Result<Option<Means>, Error> {
    match source.ddl {
        DdlCapture::Off => Ok(None),
        DdlCapture::Tables => Ok(Some(Means::Table)),
        DdlCapture::Auto if version < MESSAGES_SINCE || source.streaming == Switch::On => {
            Ok(Some(Means::Table))
        }
        DdlCapture::Messages if version < MESSAGES_SINCE => Err(Error::Unsupported {
            what: "`source.ddl: messages` before PostgreSQL 14; set it to auto or tables".into(),
        }),
        DdlCapture::Auto | DdlCapture::Messages => Ok(Some(Means::Messages)),
    }
}

impl Session {
    /// Makes the helper objects in `schema`, or brings them up to date. `false`: the role may not, and
    /// DDL is not captured.
    ///
    /// # Errors
    /// When a schema of this name is not ours, or the server refuses.
    pub async fn ensure_ddl_capture(
        &self,
        schema: &str,
        means: Means,
        taking: Taking<'_>,
    ) -> Result<bool, Error> {
        let (present, role) = self.ddl_state(schema).await?;
        let rights = match self.ddl_rights(schema, means).await? {
            // They take other tables in than is wanted now.
            Rights::Present
                if role != Role::Other
                    && self.comment(schema).await? != Some(comment(schema, means, taking)?) =>
            {
                Rights::Create
            }
            rights @ (Rights::Present | Rights::Create | Rights::Missing) => rights,
        };
        match rights {
            Rights::Present => Ok(present),
            Rights::Missing => {
                warn!(
                    schema,
                    "the role may not create event triggers: what is done to columns and names of tables is \
                     inferred from the stream, other DDL is not captured"
                );
                Ok(false)
            }
            Rights::Create => {
                self.ours(schema).await?;
                let script = script(schema, means, taking, role == Role::Superuser)?;
                let done = self.client().batch_execute(&format!("BEGIN; {script}; COMMIT")).await;
                if let Err(error) = done {
                    // It says nothing more than the first error.
                    let _ = self.client().batch_execute("ROLLBACK").await;
                    return Err(Error::reading("creating the helper objects for DDL")(error));
                }
                info!(schema, ?means, "DDL capture installed");
                Ok(true)
            }
        }
    }

    /// Drops the helper objects; what is not there is fine, and so is a schema that is not ours.
    ///
    /// # Errors
    /// When the role may not, or the server does not answer.
    pub async fn drop_ddl_capture(&self, schema: &str) -> Result<(), Error> {
        if self.comment(schema).await?.is_none_or(|it| !it.starts_with(COMMENT)) {
            return Ok(());
        }
        let drop =
            |name: &String| Ok(format!("DROP EVENT TRIGGER IF EXISTS {}", identifier(name)?));
        let triggers = triggers(schema).iter().map(drop).collect::<Result<Vec<_>, Error>>()?;
        let statement = format!(
            "{}; DROP SCHEMA IF EXISTS {} CASCADE",
            triggers.join("; "),
            identifier(schema)?
        );
        let done = self.client().batch_execute(&statement).await;
        done.map_err(Error::reading("dropping the helper objects for DDL"))?;
        info!(schema, "DDL capture removed");
        Ok(())
    }

    /// OID of the helper table.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn ddl_table(&self, schema: &str) -> Result<Option<u32>, Error> {
        let statement = "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = $1 AND c.relname = $2";
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
            [(&schema, Type::TEXT), (&statement::TABLE, Type::TEXT)];
        let rows = self.query("helper table", statement, &parameters).await?;
        let oid = rows.first().map(|row| row.try_get(0)).transpose();
        oid.map_err(Error::reading("helper table"))
    }

    /// What somebody has done to helper objects that were there; `None`: they are as they were, or of another release.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn ddl_lost(&self, schema: &str, means: Means) -> Result<Option<String>, Error> {
        let Some(comment) = self.comment(schema).await? else {
            return Ok(Some(format!("schema `{schema}` of the helper objects is gone")));
        };
        if !comment.starts_with(&version_of(schema, means)) {
            return Ok(None);
        }
        let statement = "SELECT n, e.evtenabled IS NULL FROM unnest($1::text[]) n \
             LEFT JOIN pg_event_trigger e ON e.evtname = n \
             WHERE e.evtenabled IS DISTINCT FROM 'A' ORDER BY n";
        let names: Vec<String> = triggers(schema).into();
        let rows = self.query("event triggers", statement, &[(&names, Type::TEXT_ARRAY)]).await?;
        let lost = |row: &tokio_postgres::Row| -> Result<String, tokio_postgres::Error> {
            let (name, is_gone): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
            let how = if is_gone { "is gone" } else { "does not fire always any more" };
            Ok(format!("event trigger `{name}` {how}"))
        };
        let lost = rows.iter().map(lost).collect::<Result<Vec<_>, _>>();
        let lost = lost.map_err(Error::reading("event triggers"))?;
        Ok((!lost.is_empty()).then(|| lost.join(", ")))
    }

    /// Writes what stands for a statement into the stream (`wal::statement`), of which nothing is known but `content`: JSON. By a
    /// helper table only where the helper objects are there.
    ///
    /// # Errors
    /// When the role may not, or the server does not answer.
    pub async fn mark_ddl_gap(
        &self,
        schema: &str,
        means: Means,
        content: &str,
    ) -> Result<(), Error> {
        let doing = "marking a gap in DDL";
        let text = |value: &str| literal(value);
        let statement = match means {
            Means::Messages => {
                let tuple = statement::tuple(b"[]", content.as_bytes());
                let hex: String = tuple.iter().map(|byte| format!("{byte:02x}")).collect();
                let prefix = text(&statement::prefix(schema))?;
                format!("SELECT pg_logical_emit_message(true, {prefix}, decode('{hex}', 'hex'))")
            }
            Means::Table => {
                format!("SELECT {}.emit('[]', {}::jsonb)", identifier(schema)?, text(content)?)
            }
        };
        self.client().batch_execute(&statement).await.map_err(Error::reading(doing))
    }

    /// What can be done about event triggers.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn ddl_rights(&self, schema: &str, means: Means) -> Result<Rights, Error> {
        let (present, role) = self.ddl_state(schema).await?;
        let version = version_of(schema, means);
        if present && self.comment(schema).await?.is_some_and(|it| it.starts_with(&version)) {
            return Ok(Rights::Present);
        }
        Ok(if role == Role::Other { Rights::Missing } else { Rights::Create })
    }

    /// Whether all event triggers are there and fire always, and what the role is.
    async fn ddl_state(&self, schema: &str) -> Result<(bool, Role), Error> {
        // Managed services let members of a role of their own create event triggers.
        let statement = "SELECT (SELECT count(*) FROM pg_event_trigger WHERE evtname = ANY ($1) \
               AND evtenabled = 'A') = 3, r.rolsuper, EXISTS (SELECT FROM pg_roles m \
               WHERE m.rolname IN ('rds_superuser', 'polar_superuser', 'azure_pg_admin', \
                 'cloudsqlsuperuser', 'alloydbsuperuser') AND pg_has_role(r.oid, m.oid, 'USAGE')) \
             FROM pg_roles r WHERE r.rolname = current_user";
        let names: Vec<String> = triggers(schema).into();
        let rows = self.query("event triggers", statement, &[(&names, Type::TEXT_ARRAY)]).await?;
        let row = rows.first().ok_or_else(|| Error::protocol("an answer without its row"))?;
        let read = || -> Result<(bool, bool, bool), tokio_postgres::Error> {
            Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
        };
        let (present, is_super, is_manager) = read().map_err(Error::reading("event triggers"))?;
        let role = match (is_super, is_manager) {
            (true, _) => Role::Superuser,
            (false, true) => Role::Manager,
            (false, false) => Role::Other,
        };
        Ok((present, role))
    }

    /// Whether a schema of this name may be the task's.
    pub(crate) async fn ours(&self, schema: &str) -> Result<(), Error> {
        let statement = "SELECT FROM pg_namespace WHERE nspname = $1";
        let exists = !self.query("schema", statement, &[(&schema, Type::TEXT)]).await?.is_empty();
        let comment = self.comment(schema).await?;
        if exists && comment.is_none_or(|it| !it.starts_with(COMMENT)) {
            return Err(Error::Unsupported {
                what: format!(
                    "schema `{schema}`, which is not Distributary's but has the name of the task's \
                     helper objects: rename it, or choose another source.slot_prefix"
                ),
            });
        }
        Ok(())
    }

    /// OID of a schema.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn schema_oid(&self, schema: &str) -> Result<Option<u32>, Error> {
        let statement = "SELECT oid FROM pg_namespace WHERE nspname = $1";
        let rows = self.query("schema", statement, &[(&schema, Type::TEXT)]).await?;
        let oid = rows.first().map(|row| row.try_get(0)).transpose();
        oid.map_err(Error::reading("schema"))
    }

    async fn comment(&self, schema: &str) -> Result<Option<String>, Error> {
        let statement =
            "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = $1";
        let rows = self.query("schema", statement, &[(&schema, Type::TEXT)]).await?;
        let comment = rows.first().map(|row| row.try_get::<_, Option<String>>(0)).transpose();
        Ok(comment.map_err(Error::reading("schema"))?.flatten())
    }
}

/// Grows whenever `SQL` changes: older helper objects are then made again.
const VERSION: u32 = 5;

/// Whose helper objects they are, and which.
fn version_of(schema: &str, means: Means) -> String {
    let by = match means {
        Means::Messages => "messages",
        Means::Table => "a table",
    };
    format!("{COMMENT}{schema}: DDL capture {VERSION} by {by}")
}

/// The comment of their schema.
fn comment(schema: &str, means: Means, taking: Taking<'_>) -> Result<String, Error> {
    Ok(format!("{}, taking {:016x}", version_of(schema, means), taking.digest()?))
}

/// What the role may do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Role {
    Superuser,
    /// Of a managed service: may create event triggers.
    Manager,
    Other,
}

/// Names of the event triggers. Those of one event fire in the order of their names: names before the statement are noted first.
fn triggers(schema: &str) -> [String; 3] {
    [format!("{schema}_alt"), format!("{schema}_ddl"), format!("{schema}_drop")]
}

/// What makes the helper objects. `may_set_messages`: the role may choose the language of messages, which
/// the contexts of functions come in.
fn script(
    schema: &str,
    means: Means,
    taking: Taking<'_>,
    may_set_messages: bool,
) -> Result<String, Error> {
    let [on_alter, on_end, on_drop] = triggers(schema);
    let table = format!("{}.{}", identifier(schema)?, identifier(statement::TABLE)?);
    let (table, emit) = match means {
        Means::Messages => (
            format!("DROP TABLE IF EXISTS {table};"),
            format!(
                "DECLARE
  names bytea := convert_to(changed::text, 'UTF8');
  body bytea := convert_to(content::text, 'UTF8');
BEGIN
  PERFORM pg_logical_emit_message(true, {}, int2send(3::int2) || 'n'::bytea
    || 't'::bytea || int4send(octet_length(names)) || names
    || 't'::bytea || int4send(octet_length(body)) || body);
  -- The server places a message by the end of its record, and merges subtransactions by place: without
  -- something behind it, the next row of the transaction could come before it.
  PERFORM pg_logical_emit_message(true, 'distributary.pad', '');
END",
                literal(&statement::prefix(schema))?
            ),
        ),
        Means::Table => (
            format!(
                "CREATE TABLE IF NOT EXISTS {table} (id bigserial PRIMARY KEY, changed text, content text);
REVOKE ALL ON {table} FROM PUBLIC;"
            ),
            format!(
                "DECLARE
  written bigint;
BEGIN
  INSERT INTO {table} (changed, content) VALUES (changed::text, content::text) RETURNING id INTO written;
  DELETE FROM {table} WHERE id = written;
END"
            ),
        ),
    };
    let messages = if may_set_messages { "SET lc_messages TO 'C'" } else { "" };
    Ok(SQL
        .replace("@schema@", &identifier(schema)?)
        .replace("@table@", &table)
        .replace("@emit@", &emit)
        .replace("@messages@", messages)
        .replace("@seen@", &literal(&format!("distributary.{schema}_seen"))?)
        .replace("@dropped@", &literal(&format!("distributary.{schema}_dropped"))?)
        .replace("@before@", &literal(&format!("distributary.{schema}_before"))?)
        .replace("@on_alter@", &identifier(&on_alter)?)
        .replace("@on_end@", &identifier(&on_end)?)
        .replace("@on_drop@", &identifier(&on_drop)?)
        .replace("@publication@", &taking.publication(schema)?)
        .replace("@full@", if taking.full { "true" } else { "false" })
        .replace("@via_root@", if taking.via_root { "true" } else { "false" })
        .replace("@comment@", &literal(&comment(schema, means, taking)?)?)
        // Last: it may hold anything that a name can.
        .replace("@wanted@", &taking.wanted()?))
}
