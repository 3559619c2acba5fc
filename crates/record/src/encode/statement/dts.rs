//! Which statements DTS leaves out (`compat.dts_ddl`; reference-dts.md, section 6.1; product.md, P24 and P25).

use super::{Captured, Statement, split};
use wal::Datum;

/// What DTS makes of a statement by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DtsDdl {
    /// It is written, unless its transaction also changes rows or other objects.
    Written,
    /// It is left out, whatever else its transaction does.
    LeftOut,
    /// It could not be captured, and nobody may miss that.
    Gap,
}

/// Command tags of the statements that DTS synchronizes. To rename is to alter; TRUNCATE is in the stream itself.
const WRITTEN: [&str; 14] = [
    "CREATE TABLE",
    "CREATE TABLE AS",
    "ALTER TABLE",
    "DROP TABLE",
    "CREATE VIEW",
    "ALTER VIEW",
    "DROP VIEW",
    "CREATE PROCEDURE",
    "ALTER PROCEDURE",
    "DROP PROCEDURE",
    "CREATE FUNCTION",
    "DROP FUNCTION",
    "CREATE INDEX",
    "DROP INDEX",
];

impl DtsDdl {
    /// `content`: as the event trigger writes it ([`wal::statement::CONTENT`]).
    pub(crate) fn of(content: Option<Datum<'_>>) -> Self {
        let captured = Captured::read(content);
        if captured.gap.is_some() {
            return Self::Gap;
        }
        let is_of_function = !captured.context.is_empty();
        if is_of_function || captured.replica {
            return Self::LeftOut;
        }
        let statement = Statement::new(captured);
        let is_known = WRITTEN.contains(&&*statement.tag);
        let pieces = split::pieces(&statement.text);
        let words = pieces.first().map(|piece| piece.words.as_slice()).unwrap_or_default();
        let is_conditional = words.windows(3).any(|it| it == ["if", "not", "exists"]);
        // DTS takes it to be in `public`.
        let (schema, _) = statement.subject();
        let is_elsewhere = schema != "public" && !words.iter().any(|word| word == schema);
        match is_known && !is_conditional && !is_elsewhere {
            true => Self::Written,
            false => Self::LeftOut,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(content: &Value, expected: DtsDdl) {
        let content = content.to_string();
        assert_eq!(DtsDdl::of(Some(Datum::Text(content.as_bytes()))), expected, "{content}");
    }

    fn statement(tag: &str, query: &str, schema: &str) -> Value {
        let kind = tag.split(' ').nth(1).unwrap_or_default().to_lowercase();
        let object = json!({"type": kind, "schema": schema, "name": "o", "identity": "o"});
        json!({"tag": tag, "query": query, "nth": 1, "objects": [object]})
    }

    #[test]
    fn each_kind_is_as_in_the_list() {
        use DtsDdl::{LeftOut, Written};
        let kinds = [
            ("CREATE TABLE", Written),
            ("CREATE TABLE AS", Written),
            ("ALTER TABLE", Written),
            ("DROP TABLE", Written),
            ("CREATE VIEW", Written),
            ("ALTER VIEW", Written),
            ("DROP VIEW", Written),
            ("CREATE PROCEDURE", Written),
            ("ALTER PROCEDURE", Written),
            ("DROP PROCEDURE", Written),
            ("CREATE FUNCTION", Written),
            ("DROP FUNCTION", Written),
            ("CREATE INDEX", Written),
            ("DROP INDEX", Written),
            ("ALTER FUNCTION", LeftOut),
            ("ALTER INDEX", LeftOut),
            ("SELECT INTO", LeftOut),
            ("CREATE MATERIALIZED VIEW", LeftOut),
            ("DROP MATERIALIZED VIEW", LeftOut),
            ("CREATE FOREIGN TABLE", LeftOut),
            ("DROP ROUTINE", LeftOut),
            ("CREATE TYPE", LeftOut),
            ("CREATE DOMAIN", LeftOut),
            ("CREATE SCHEMA", LeftOut),
            ("DROP OWNED", LeftOut),
        ];
        for (tag, expected) in kinds {
            check(&statement(tag, &format!("{tag} o"), "public"), expected);
        }
    }

    #[test]
    fn each_circumstance_is_as_in_the_list() {
        let of = |query: &str, schema: &str| statement("CREATE TABLE", query, schema);
        check(&of("CREATE TABLE o (x int)", "public"), DtsDdl::Written);
        check(&of("CREATE TABLE IF NOT EXISTS o (x int)", "public"), DtsDdl::LeftOut);
        check(&of("CREATE TABLE o (x int)", "other"), DtsDdl::LeftOut);
        check(&of("CREATE TABLE other.o (x int)", "other"), DtsDdl::Written);
        check(&of("CREATE TABLE \"other\".o (x int)", "other"), DtsDdl::Written);
        let mut replica = of("CREATE TABLE o (x int)", "public");
        replica["replica"] = json!(true);
        check(&replica, DtsDdl::LeftOut);
        let mut nested = of("SELECT f()", "public");
        nested["context"] =
            json!("SQL statement \"CREATE TABLE o (x int)\"\nPL/pgSQL function f()");
        check(&nested, DtsDdl::LeftOut);
        let dropped = json!({"type": "table", "schema": "other", "name": "o", "original": true});
        let drop = json!({"tag": "DROP TABLE", "query": "DROP TABLE o CASCADE", "nth": 1,
            "dropped": [dropped]});
        check(&drop, DtsDdl::LeftOut);
    }

    #[test]
    fn what_was_not_captured_is_never_left_out() {
        check(&json!({"tag": "CREATE TABLE", "context": "x", "gap": "42601: y"}), DtsDdl::Gap);
        check(&json!([1]), DtsDdl::Gap);
    }
}
