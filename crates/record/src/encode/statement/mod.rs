//! What was captured of a DDL statement (`postgres::ddl` says what that is), and the statement itself.

mod dts;
mod rebuild;
mod split;

pub use dts::DtsDdl;

use super::event::Event;
use serde::Deserialize;
use serde_json::Value;
use split::Piece;
use wal::{Datum, statement};

/// All that the event trigger has written down. What is missing is empty: messages can be forged, and a
/// later release may write less.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Captured {
    /// `TG_TAG`, e.g. `ALTER TABLE`.
    tag: String,
    /// The client's whole string; `None`: it is too long.
    query: Option<String>,
    /// Number of this statement among those of the same tag in `query`, from 1.
    nth: usize,
    /// What PL/pgSQL says of the callers; empty: the statement stands in `query` itself.
    context: String,
    /// Under `session_replication_role = replica`.
    replica: bool,
    /// Body of the SQL function that the context names, where there is but one of this name.
    source: Option<String>,
    objects: Vec<Object>,
    dropped: Vec<Dropped>,
    relations: Vec<Relation>,
    /// Why nothing else is known.
    gap: Option<String>,
    /// Nothing was captured: this is told from the stream (`crate::inferred`).
    inferred: Option<String>,
}

/// A row of `pg_event_trigger_ddl_commands()`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Object {
    #[serde(rename = "type")]
    pub(crate) type_: String,
    pub(crate) schema: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) identity: String,
    /// Statement that would make it again, where the server can say it.
    definition: Option<String>,
}

/// A row of `pg_event_trigger_dropped_objects()`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Dropped {
    #[serde(rename = "type")]
    pub(crate) type_: String,
    pub(crate) schema: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) identity: String,
    /// The statement names it; else it went along.
    pub(crate) original: bool,
}

/// A table or view as it is after the statement.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Relation {
    pub(crate) schema: String,
    pub(crate) name: String,
    /// `relkind`
    pub(crate) kind: String,
    /// Names of the primary key's columns.
    pub(crate) key: Vec<String>,
    pub(crate) columns: Vec<Column>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) position: i32,
    pub(crate) oid: u32,
    /// `typname`
    pub(crate) type_name: String,
    /// As `format_type` prints it.
    #[serde(rename = "type")]
    pub(crate) type_: String,
    /// `atttypmod`
    pub(crate) modifier: i32,
    pub(crate) not_null: bool,
    pub(crate) default: Option<String>,
    pub(crate) is_identity: bool,
    pub(crate) is_generated: bool,
    /// Of an enum.
    pub(crate) labels: Vec<String>,
}

/// A DDL statement, as formats write it.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) tag: String,
    /// What the user wrote, or what comes to the same.
    pub(crate) text: String,
    /// The user's own words are not known.
    pub(crate) reconstructed: bool,
    /// It was not captured, but told from how the stream describes the table.
    pub(crate) inferred: bool,
    /// Why nothing is known but that something was done.
    pub(crate) gap: Option<String>,
    pub(crate) objects: Vec<Object>,
    pub(crate) dropped: Vec<Dropped>,
    pub(crate) relations: Vec<Relation>,
}

impl Statement {
    /// Reads what was captured.
    pub(crate) fn of(event: &Event<'_>) -> Self {
        let content = event.after.map(|row| row.value(statement::CONTENT));
        Self::new(Captured::read(content))
    }

    fn new(captured: Captured) -> Self {
        let found = if captured.inferred.is_some() { None } else { captured.original() };
        let reconstructed = found.is_none();
        let text = found.unwrap_or_else(|| captured.rebuilt());
        let Captured { tag, objects, dropped, relations, gap, inferred, .. } = captured;
        let inferred = inferred.is_some();
        Self { tag, text, reconstructed, inferred, gap, objects, dropped, relations }
    }

    /// Schema and name of what it is about: what it names first, tables before all else.
    pub(crate) fn subject(&self) -> (&str, &str) {
        let relation = self.relations.first().map(|it| (it.schema.as_str(), it.name.as_str()));
        let object = || {
            let object = self.main_object()?;
            Some((object.schema.as_deref().unwrap_or_default(), object.name.as_deref()?))
        };
        let dropped = || {
            let dropped = self.dropped.iter().find(|it| it.original)?;
            Some((dropped.schema.as_deref().unwrap_or_default(), dropped.name.as_deref()?))
        };
        relation.or_else(object).or_else(dropped).unwrap_or_default()
    }

    /// Schema and name of each table that it names and drops, in the order of the server.
    pub(crate) fn dropped_tables(&self) -> impl Iterator<Item = (&str, &str)> {
        let is_table =
            |it: &&Dropped| it.original && matches!(&*it.type_, "table" | "foreign table");
        self.dropped
            .iter()
            .filter(is_table)
            .filter_map(|it| Some((it.schema.as_deref().unwrap_or_default(), it.name.as_deref()?)))
    }

    /// The object that the tag is about: making a table makes sequences and indexes, too.
    fn main_object(&self) -> Option<&Object> {
        main_object(&self.tag, &self.objects)
    }

    /// The first word of the tag.
    pub(crate) fn verb(&self) -> &str {
        self.tag.split(' ').next().unwrap_or_default()
    }

    /// What of the tag follows the first word.
    pub(crate) fn kind(&self) -> &str {
        self.tag.split_once(' ').map_or("", |(_, kind)| kind)
    }

    /// Whether it is about tables.
    pub(crate) fn is_of_tables(&self) -> bool {
        matches!(self.tag.as_str(), "SELECT INTO" | "DROP OWNED")
            || matches!(self.kind(), "TABLE" | "TABLE AS" | "FOREIGN TABLE")
    }

    /// Cuts the clauses that DTS cuts.
    pub(crate) fn cut_as_dts(&mut self) {
        if matches!(self.verb(), "ALTER" | "DROP") {
            self.text = split::without_drop_behavior(&self.text);
        }
    }

    /// Whether it gives something another name.
    pub(crate) fn renames(&self) -> bool {
        let words = split::pieces(&self.text);
        let words = words.first().map(|piece| piece.words.as_slice()).unwrap_or_default();
        self.verb() == "ALTER" && words.windows(2).any(|pair| pair == ["rename", "to"])
    }

    /// All of it, for formats that have room.
    pub(crate) fn details(&self) -> Value {
        let objects = self.objects.iter().map(|it| {
            serde_json::json!({
                "type": it.type_, "schema": it.schema, "name": it.name, "identity": it.identity,
            })
        });
        let dropped = self.dropped.iter().map(|it| {
            serde_json::json!({
                "type": it.type_, "schema": it.schema, "name": it.name, "identity": it.identity,
                "cascaded": !it.original,
            })
        });
        serde_json::json!({
            "tag": self.tag,
            "reconstructed": self.reconstructed,
            "gap": self.gap,
            "inferred": self.inferred,
            "objects": objects.collect::<Vec<_>>(),
            "dropped": dropped.collect::<Vec<_>>(),
        })
    }
}

/// What a tag is about among the objects that were changed.
fn main_object<'a>(tag: &str, objects: &'a [Object]) -> Option<&'a Object> {
    let kind = tag.split_once(' ').map_or("", |(_, kind)| kind).to_lowercase();
    let kind = kind.strip_suffix(" as").unwrap_or(&kind);
    objects.iter().find(|it| it.type_ == kind).or_else(|| objects.first())
}

impl Captured {
    fn read(content: Option<Datum<'_>>) -> Self {
        let text = match content {
            Some(Datum::Text(text)) => text,
            _ => b"".as_slice(),
        };
        serde_json::from_slice(text).unwrap_or_else(|error| Self {
            gap: Some(format!("what was captured cannot be read: {error}")),
            ..Self::default()
        })
    }

    /// The user's own words, if they can be told.
    fn original(&self) -> Option<String> {
        if let Some(inner) = self.context.strip_prefix("SQL statement \"") {
            // Callers follow, each in a line of its own.
            let ends = ["\"\nPL/pgSQL function ", "\"\nSQL function ", "\"\nSQL statement \""];
            let end = ends.iter().filter_map(|end| inner.find(end)).min();
            let text = match end {
                Some(end) => &inner[..end],
                None => inner.trim_end().strip_suffix('"')?,
            };
            return self.chosen(text, None);
        }
        if let Some((_, rest)) = self
            .context
            .strip_prefix("SQL function \"")
            .and_then(|it| it.split_once("\" statement "))
        {
            let digits = rest.split(|it: char| !it.is_ascii_digit()).next()?;
            let number: usize = digits.parse().ok()?;
            let source = self.source.as_deref()?;
            let pieces = split::pieces(source);
            let piece = pieces.get(number.checked_sub(1)?)?;
            return (piece.is_of(&self.tag)).then(|| piece.text.to_owned());
        }
        if !self.context.is_empty() {
            return None;
        }
        self.chosen(self.query.as_deref()?, Some(self.nth))
    }

    /// The statement among those of a string: the one with the right number if it can be it, else the
    /// first that can.
    fn chosen(&self, text: &str, nth: Option<usize>) -> Option<String> {
        let pieces = split::pieces(text);
        if let [only] = pieces.as_slice() {
            return Some(only.text.to_owned());
        }
        let same: Vec<&Piece<'_>> = pieces.iter().filter(|it| it.is_of(&self.tag)).collect();
        let names: Vec<String> = self.names();
        let can_be = |piece: &&&Piece<'_>| names.is_empty() || names.iter().any(|it| piece.has(it));
        // What was rolled back had the same number before, and was told of by nobody.
        let numbers = split::numbers(&pieces, &self.tag);
        let of_number = numbers.into_iter().rev().filter(|it| Some(it.0) == nth).map(|it| it.1);
        let numbered = of_number.filter_map(|it| same.get(it)).find(can_be);
        numbered.or_else(|| same.iter().find(can_be)).map(|it| it.text.to_owned())
    }

    /// Names of which the statement must hold one.
    fn names(&self) -> Vec<String> {
        let made = main_object(&self.tag, &self.objects).and_then(|it| it.name.clone());
        // The new name stands in a statement that renames; so does the old one.
        let dropped = self.dropped.iter().filter(|it| it.original && self.objects.is_empty());
        made.into_iter().chain(dropped.filter_map(|it| it.name.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(captured: &str, text: &str, reconstructed: bool) {
        let captured: Captured = serde_json::from_str(captured).expect("JSON");
        let statement = Statement::new(captured);
        assert_eq!((statement.text.as_str(), statement.reconstructed), (text, reconstructed));
    }

    #[test]
    fn a_statement_is_found_in_the_clients_string() {
        let query = "CREATE TABLE a (x text DEFAULT ';'); -- one; two\\nINSERT INTO a VALUES ('b'); \
                     CREATE TABLE IF NOT EXISTS \\\"B\\\" (x int);";
        let of = |name: &str, nth: u32| {
            format!(
                r#"{{"tag":"CREATE TABLE","nth":{nth},"query":"{query}","objects":[{{"type":"table","name":"{name}"}}]}}"#
            )
        };
        check(&of("a", 1), "CREATE TABLE a (x text DEFAULT ';')", false);
        check(&of("B", 2), "CREATE TABLE IF NOT EXISTS \"B\" (x int)", false);
        // What was rolled back is not counted.
        check(&of("B", 1), "CREATE TABLE IF NOT EXISTS \"B\" (x int)", false);
    }

    #[test]
    fn what_was_rolled_back_in_the_same_string_is_not_taken_for_what_followed() {
        let of = |query: &str, nth: u32| {
            format!(
                r#"{{"tag":"ALTER TABLE","nth":{nth},"query":"{query}","objects":[{{"type":"table","name":"t"}}]}}"#
            )
        };
        let query = "BEGIN; ALTER TABLE t ADD a int; SAVEPOINT s; ALTER TABLE t ADD b int; \
                     SAVEPOINT s; ALTER TABLE t ADD c int; RELEASE SAVEPOINT s; ROLLBACK TO s; \
                     ALTER TABLE t ADD d int; COMMIT; ALTER TABLE t ADD e int; ROLLBACK AND CHAIN; \
                     ALTER TABLE t ADD f int; ROLLBACK PREPARED 'x'; ALTER TABLE t ADD g int";
        check(&of(query, 1), "ALTER TABLE t ADD a int", false);
        check(&of(query, 2), "ALTER TABLE t ADD d int", false);
        check(&of(query, 3), "ALTER TABLE t ADD f int", false);
        check(&of(query, 4), "ALTER TABLE t ADD g int", false);
    }

    #[test]
    fn a_statement_of_a_function_is_found_in_its_context() {
        let context =
            r#"SQL statement \"create table t (a text)\"\nPL/pgSQL function f() line 3 at EXECUTE"#;
        check(
            &format!(r#"{{"tag":"CREATE TABLE","query":"select f()","context":"{context}"}}"#),
            "create table t (a text)",
            false,
        );
        let sql = r#"{"tag":"DROP TABLE","query":"select f()","context":"SQL function \"f\" statement 2","source":"select 1; drop table x;"}"#;
        check(sql, "drop table x", false);
    }

    #[test]
    fn what_cannot_be_found_is_rebuilt() {
        let columns = r#"[{"name":"a","type":"bigint","not_null":true},{"name":"b c","type":"text","default":"'x'::text"}]"#;
        check(
            &format!(
                r#"{{"tag":"CREATE TABLE","query":"select f()","context":"SQL function \"f\" statement 1",
                "relations":[{{"schema":"public","name":"t","kind":"r","key":["a"],"columns":{columns}}}]}}"#
            ),
            "CREATE TABLE public.t (a bigint NOT NULL, \"b c\" text DEFAULT 'x'::text, PRIMARY KEY (a))",
            true,
        );
        check(
            r#"{"tag":"DROP TABLE","context":"x","dropped":[{"type":"table","identity":"public.a","original":true},{"type":"view","identity":"public.v"}]}"#,
            "DROP TABLE public.a CASCADE",
            true,
        );
    }

    #[test]
    fn nonsense_is_a_gap() {
        assert!(serde_json::from_str::<Captured>("[1").is_err());
        let statement = Statement::new(Captured { gap: Some("x".into()), ..Captured::default() });
        assert_eq!(statement.subject(), ("", ""));
        assert!(statement.reconstructed);
    }
}
