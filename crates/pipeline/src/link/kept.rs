//! Tables as the meta lane keeps them: what a link tells of a table, as JSON. Frozen by a golden test: the next
//! release reads it.

use super::receiver::table_in;
use super::sender::table_out;
use super::{LinkError, wire};
use crate::failure::Failure;
use serde::{Deserialize, Serialize};
use wal::{Lsn, Position, Table};

const VERSION: u32 = 1;

/// A table version, as it was described.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kept {
    /// Grows with each version of the table.
    pub number: u64,
    /// Without the number of its version: each life of the stream counts anew.
    pub table: Table,
    /// Its name is that of its root.
    pub by_root: bool,
    pub since: Since,
}

/// From where on a version counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Since {
    /// The stream has described it, and no change of it was routed yet.
    Unmet,
    /// The first change that went by it.
    Change(Position),
    /// The catalog said so when the WAL ended here.
    Catalog(Lsn),
}

#[derive(Deserialize, Serialize)]
struct Record {
    v: u32,
    /// From the oldest.
    versions: Vec<Version>,
}

#[derive(Deserialize, Serialize)]
struct Version {
    number: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    change: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    catalog: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    by_root: bool,
    table: wire::Table,
}

/// Versions of a table as JSON, from the oldest.
///
/// # Errors
/// When one has more columns or types than can be numbered.
pub fn written(versions: &[Kept]) -> Result<String, Failure> {
    let unwritable = |error: String| {
        Failure::fatal(format!("a table cannot be described in the meta lane: {error}"))
    };
    let version = |kept: &Kept| {
        let mut table = table_out(&kept.table).map_err(|error| unwritable(error.to_string()))?;
        table.version = 0;
        let (change, catalog) = match kept.since {
            Since::Unmet => (None, None),
            Since::Change(position) => (Some(position.to_string()), None),
            Since::Catalog(lsn) => (None, Some(lsn.to_string())),
        };
        let Kept { number, by_root, .. } = *kept;
        Ok(Version { number, change, catalog, by_root, table })
    };
    let versions = versions.iter().map(version).collect::<Result<_, Failure>>()?;
    serde_json::to_string(&Record { v: VERSION, versions })
        .map_err(|error| unwritable(error.to_string()))
}

/// The versions, from the oldest.
///
/// # Errors
/// When a later release has written it, or it was altered.
pub fn read(json: &str) -> Result<Vec<Kept>, LinkError> {
    let record: Record =
        serde_json::from_str(json).map_err(|error| LinkError::Malformed(error.to_string()))?;
    if record.v != VERSION {
        return Err(LinkError::Inconsistent("a description of a table of another release"));
    }
    record.versions.into_iter().map(version_in).collect()
}

fn version_in(version: Version) -> Result<Kept, LinkError> {
    let Version { number, change, catalog, by_root, table } = version;
    let wrong = LinkError::Inconsistent("no position in the WAL where a description has one");
    let since = match (change, catalog) {
        (Some(text), _) => Since::Change(text.parse().map_err(|_| wrong)?),
        (None, Some(text)) => Since::Catalog(text.parse().map_err(|_| wrong)?),
        (None, None) => Since::Unmet,
    };
    Ok(Kept { number, table: table_in(table)?, by_root, since })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use wal::Column;
    use wal::table::ReplicaIdentity;
    use wal::types::{Kind, Type};

    fn table() -> Table {
        let mood = Type { schema: "public".into(), name: "mood".into(), ..Type::unknown(16_400) };
        let kind = Kind::Enum { labels: vec!["sad".into(), "glad".into()] };
        let column = |name: &str, type_: Type, default: Option<&str>| Column {
            name: name.into(),
            type_: Arc::new(type_),
            type_modifier: -1,
            not_null: true,
            default: default.map(Into::into),
            in_identity: true,
        };
        Table {
            oid: 16_385,
            version: 0,
            schema: "public".into(),
            name: "people".into(),
            identity: ReplicaIdentity::Full,
            columns: vec![
                column("mood", Type { kind, ..mood }, Some("sad")),
                column("id", Type::builtin(23, "int4"), None),
            ],
            key: vec![1],
            unique: Vec::new(),
        }
    }

    fn versions() -> [Kept; 3] {
        let at = Position { commit_lsn: Lsn(0x16_B374_8000), ordinal: 7 };
        let kept = |number, by_root, since| Kept { number, table: table(), by_root, since };
        [
            kept(1, false, Since::Catalog(Lsn(9))),
            kept(2, true, Since::Change(at)),
            kept(3, false, Since::Unmet),
        ]
    }

    #[test]
    fn versions_come_back_as_they_were() {
        let json = written(&versions()).expect("JSON");
        assert_eq!(read(&json).expect("versions"), versions());
    }

    /// Frozen: older programs have written this.
    #[test]
    fn the_layout_does_not_change() {
        let json = written(&versions()).expect("JSON");
        let table = concat!(
            r#"{"oid":16385,"version":0,"schema":"public","name":"people","identity":"Full","#,
            r#""types":[{"oid":16400,"schema":"public","name":"mood","kind":{"Enum":{"labels":["sad","glad"]}}},"#,
            r#"{"oid":23,"schema":"pg_catalog","name":"int4","kind":"Base"}],"#,
            r#""columns":[{"name":"mood","type_":0,"type_modifier":-1,"not_null":true,"default":"sad","in_identity":true},"#,
            r#"{"name":"id","type_":1,"type_modifier":-1,"not_null":true,"default":null,"in_identity":true}],"key":[1]}"#
        );
        let expected = concat!(
            r#"{"v":1,"versions":[{"number":1,"catalog":"0/9","table":T},"#,
            r#"{"number":2,"change":"16/B3748000:7","by_root":true,"table":T},{"number":3,"table":T}]}"#
        );
        assert_eq!(json.replace(table, "T"), expected);
    }

    #[test]
    fn what_another_has_written_is_refused() {
        let json = written(&versions()).expect("JSON");
        assert!(read(&json.replace(r#""v":1"#, r#""v":2"#)).is_err());
        assert!(read(&json.replace(r#""key":[1]"#, r#""key":[2]"#)).is_err());
        assert!(read(&json.replace("B3748000:7", "B3748000")).is_err());
        assert!(read("{").is_err());
    }
}
