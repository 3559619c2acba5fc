//! What the stream says of a relation, completed from the catalog.
//!
//! The stream is right about its rows; the catalog may be newer by as much as the stream lags
//! behind, and the relation may be gone. What the catalog knows counts only where it means the same
//! column.

use super::Name;
use super::columns::{Relation, typed};
use crate::{Error, Session};
use std::collections::HashMap;
use std::sync::Arc;
use tokio_postgres::types::{ToSql, Type as Sql};
use tracing::warn;
use wal::Table;
use wal::relation::{ColumnDescription, Difference, RelationDescription};
use wal::table::{Column, ReplicaIdentity, UniqueIndex};
use wal::types::{Kind, Type};

impl Session {
    /// Completes a description: types, constraints, defaults, key, and the name it goes by. What
    /// was dropped meanwhile stays with what is known of it.
    ///
    /// # Errors
    /// Only when the server does not answer.
    pub async fn complete(&self, description: &RelationDescription) -> Result<Table, Error> {
        let oid = description.oid;
        let oids: Vec<u32> = description.columns.iter().map(|column| column.type_oid).collect();
        let oid_alone = [oid];
        // At once: the stream waits for the answers.
        let (types, mut relations, mut roots) = tokio::try_join!(
            self.types(&oids),
            self.relations(&oid_alone),
            self.roots(&oid_alone)
        )?;
        let (relation, root) = (relations.remove(&oid), roots.remove(&oid));
        // A leaf that was dropped keeps the name that its rows went by.
        let root = root.or_else(|| self.memory().root(oid).filter(|_| relation.is_none()));
        let known = self.memory().table(oid);
        if relation.is_none() && known.is_none() {
            warn!(
                oid,
                schema = %description.schema,
                table = %description.name,
                "table was dropped before its rows were read: its key is taken from the stream"
            );
        }
        let facts = Facts { relation: relation.as_ref(), root, known: known.as_deref() };
        let table = complete(description, &facts, &types);
        self.memory().remember_table(table.clone());
        Ok(table)
    }

    /// Whether this session has read or was told what a table is.
    #[must_use]
    pub fn knows(&self, oid: u32) -> bool {
        self.memory().table(oid).is_some()
    }

    /// Takes over what another session knew of a table. `by_root`: its name is that of its root.
    pub fn recall(&self, table: Table, by_root: bool) {
        if by_root {
            self.memory()
                .remember_root(table.oid, (table.schema.to_string(), table.name.to_string()));
        }
        self.memory().remember_table(table);
    }

    /// Whether a table goes by the name of its root, as far as this session has seen. One that was detached goes by its own
    /// again.
    #[must_use]
    pub fn goes_by_root(&self, table: &Table) -> bool {
        let root = self.memory().root(table.oid);
        root.is_some_and(|(schema, name)| *schema == *table.schema && *name == *table.name)
    }

    /// The types of a table's columns as `format_type` prints them, in their order.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn type_names(&self, columns: &[&wal::Column]) -> Result<Vec<String>, Error> {
        let statement =
            "SELECT format_type(o, m) FROM unnest($1, $2) WITH ORDINALITY t (o, m, n) ORDER BY n";
        let oids: Vec<u32> = columns.iter().map(|it| it.type_.oid).collect();
        let modifiers: Vec<i32> = columns.iter().map(|it| it.type_modifier).collect();
        let parameters: [(&(dyn ToSql + Sync), Sql); 2] =
            [(&oids, Sql::OID_ARRAY), (&modifiers, Sql::INT4_ARRAY)];
        let rows = self.query("names of types", statement, &parameters).await?;
        rows.iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, _>>()
            .map_err(Error::reading("names of types"))
    }

    /// Those of the relations that are not there any more.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn relations_gone(&self, oids: &[u32]) -> Result<Vec<u32>, Error> {
        let statement =
            "SELECT o FROM unnest($1) o WHERE NOT EXISTS (SELECT FROM pg_class WHERE oid = o)";
        let rows = self.query("dropped tables", statement, &[(&oids, Sql::OID_ARRAY)]).await?;
        rows.iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, _>>()
            .map_err(Error::reading("dropped tables"))
    }
}

/// What there is to complete from.
struct Facts<'a> {
    /// The relation as the catalog has it now.
    relation: Option<&'a Relation>,
    /// The name that a leaf goes by.
    root: Option<Name>,
    /// The version before, or the one that the snapshot read.
    known: Option<&'a Table>,
}

fn complete(
    description: &RelationDescription,
    facts: &Facts<'_>,
    types: &HashMap<u32, Arc<Type>>,
) -> Table {
    let column = |it: &ColumnDescription| {
        let before = facts
            .known
            .into_iter()
            .flat_map(|table| &table.columns)
            .find(|known| known.name == it.name && known.type_.oid == it.type_oid);
        let now = facts
            .relation
            .into_iter()
            .flat_map(|relation| &relation.columns)
            .find(|now| *now.name == *it.name && now.type_oid == it.type_oid);
        let resolved = typed(types, it.type_oid);
        let type_ = match (&resolved.kind, before) {
            (Kind::Unknown, Some(before)) => Arc::clone(&before.type_),
            (
                Kind::Base
                | Kind::Array { .. }
                | Kind::Enum { .. }
                | Kind::Domain { .. }
                | Kind::Composite { .. }
                | Kind::Range { .. }
                | Kind::Multirange { .. }
                | Kind::Unknown,
                _,
            ) => resolved,
        };
        let (not_null, default) = match (now, before) {
            (Some(now), _) => (now.not_null, now.default.as_deref().map(Into::into)),
            (None, Some(before)) => (before.not_null, before.default.clone()),
            (None, None) => (false, None),
        };
        Column {
            name: it.name.clone(),
            type_,
            type_modifier: it.type_modifier,
            not_null,
            default,
            in_identity: it.in_identity,
        }
    };
    let (schema, name) = match &facts.root {
        Some((schema, name)) => (schema.as_str().into(), name.as_str().into()),
        None => (description.schema.clone(), description.name.clone()),
    };
    Table {
        oid: description.oid,
        version: description.version,
        schema,
        name,
        identity: description.identity,
        columns: description.columns.iter().map(column).collect(),
        key: key(description, facts),
        unique: unique(description, facts),
    }
}

/// The unique indexes whose columns the stream has: as they are now, else as they were known.
fn unique(description: &RelationDescription, facts: &Facts<'_>) -> Vec<UniqueIndex> {
    let place = |name: &str| description.columns.iter().position(|it| *it.name == *name);
    match (facts.relation, facts.known) {
        (Some(now), _) => now.unique(place),
        (None, Some(known)) => known.unique_at(|index| place(&known.columns.get(index)?.name)),
        (None, None) => Vec::new(),
    }
}

/// Columns that have another name by now: what they were called, and what they are called in the stream.
fn renamed(known: &Table, description: &RelationDescription) -> Vec<(Box<str>, Box<str>)> {
    let before = RelationDescription::of(known);
    let differences = description.differences_from(&before).into_iter();
    differences
        .filter_map(|it| match it {
            Difference::ColumnRenamed { from, to } => Some((from, to)),
            Difference::Renamed { .. }
            | Difference::ColumnAdded { .. }
            | Difference::ColumnDropped { .. }
            | Difference::TypeChanged { .. }
            | Difference::IdentityChanged
            | Difference::ColumnsReordered => None,
        })
        .collect()
}

/// Indexes of the key's columns, in its order.
fn key(description: &RelationDescription, facts: &Facts<'_>) -> Vec<usize> {
    let place = |name: &str| description.columns.iter().position(|it| *it.name == *name);
    let now = facts.relation.and_then(|relation| {
        relation.key().iter().map(|name| place(name)).collect::<Option<Vec<_>>>()
    });
    let before = facts.known.and_then(|known| {
        let renamed = renamed(known, description);
        let name = |&index: &usize| {
            let name = &*known.columns.get(index)?.name;
            let later = renamed.iter().find(|(from, _)| **from == *name);
            Some(later.map_or(name, |(_, to)| to))
        };
        known.key.iter().map(|index| name(index).and_then(place)).collect::<Option<Vec<_>>>()
    });
    let flagged: Vec<usize> = description
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| column.in_identity)
        .map(|(index, _)| index)
        .collect();
    let is_flagged = |key: &Vec<usize>| {
        key.len() == flagged.len() && key.iter().all(|index| flagged.contains(index))
    };
    match description.identity {
        // The stream names the key's columns, the catalog knows their order.
        ReplicaIdentity::Index => {
            now.filter(is_flagged).or(before.filter(is_flagged)).unwrap_or(flagged)
        }
        ReplicaIdentity::Default if !flagged.is_empty() => {
            now.filter(is_flagged).or(before.filter(is_flagged)).unwrap_or(flagged)
        }
        // All columns are flagged, or none.
        ReplicaIdentity::Default | ReplicaIdentity::Full | ReplicaIdentity::Nothing => {
            now.or(before).unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::columns::CatalogColumn;
    use super::*;
    use wal::types::oid::{INT4, TEXT};

    fn described(identity: ReplicaIdentity, columns: &[(&str, u32, bool)]) -> RelationDescription {
        let column = |&(name, type_oid, in_identity): &(&str, u32, bool)| ColumnDescription {
            name: name.into(),
            type_oid,
            type_modifier: -1,
            in_identity,
        };
        RelationDescription {
            oid: 1000,
            version: 3,
            schema: "public".into(),
            name: "t".into(),
            identity,
            columns: columns.iter().map(column).collect(),
            differences: Vec::new(),
        }
    }

    fn relation(columns: &[(&str, u32)], key: &[&str]) -> Relation {
        let column = |&(name, type_oid): &(&str, u32)| CatalogColumn {
            name: name.into(),
            type_oid,
            type_modifier: -1,
            not_null: true,
            default: Some("d".into()),
        };
        Relation {
            oid: 1000,
            schema: "public".into(),
            name: "t".into(),
            identity: ReplicaIdentity::Full,
            columns: columns.iter().map(column).collect(),
            primary_key: Some(key.iter().map(|&name| name.into()).collect()),
            primary_key_is_immediate: true,
            identity_index: None,
            unique: vec![
                ("t_key".into(), key.iter().map(|&name| name.into()).collect()),
                ("t_new".into(), vec!["new".into(), key[0].into()]),
            ],
        }
    }

    fn types() -> HashMap<u32, Arc<Type>> {
        let builtin = |oid, name| (oid, Arc::new(Type::builtin(oid, name)));
        HashMap::from([builtin(INT4, "int4"), builtin(TEXT, "text")])
    }

    fn completed(description: &RelationDescription, facts: &Facts<'_>) -> Table {
        let table = complete(description, facts, &types());
        assert_eq!(table.oid, description.oid);
        assert_eq!(table.version, description.version);
        assert_eq!(table.columns.len(), description.columns.len());
        table
    }

    const NOTHING: Facts<'static> = Facts { relation: None, root: None, known: None };

    #[test]
    fn a_table_that_was_dropped_is_what_the_stream_says() {
        let description =
            described(ReplicaIdentity::Default, &[("id", INT4, true), ("odd", 99_999, false)]);
        let table = completed(&description, &NOTHING);
        assert_eq!(table.key, [0]);
        assert_eq!(*table.columns[1].type_, Type::unknown(99_999));
        assert!(!table.columns[0].not_null);
    }

    #[test]
    fn a_newer_catalog_counts_only_for_the_same_columns() {
        let full = ReplicaIdentity::Full;
        let description =
            described(full, &[("id", INT4, true), ("n", INT4, true), ("old", TEXT, true)]);
        // Since then `n` became text, `old` was dropped and `new` added.
        let now = relation(&[("id", INT4), ("n", TEXT), ("new", TEXT)], &["id"]);
        let table = completed(&description, &Facts { relation: Some(&now), ..NOTHING });
        let not_null: Vec<bool> = table.columns.iter().map(|column| column.not_null).collect();
        assert_eq!(not_null, [true, false, false]);
        assert_eq!(table.columns[0].default.as_deref(), Some("d"));
        assert_eq!(table.columns[1].default, None);
        assert_eq!(table.key, [0]);
        // `t_new` has a column that the stream has not.
        assert_eq!(table.unique, [UniqueIndex { name: "t_key".into(), columns: vec![0] }]);
    }

    #[test]
    fn what_was_known_outlives_the_table() {
        let full = ReplicaIdentity::Full;
        let columns = [("a", INT4, true), ("b", INT4, true), ("mood", 99_999, true)];
        let mut known = completed(&described(full, &columns), &NOTHING);
        known.columns[2].type_ = Arc::new(Type {
            kind: Kind::Enum { labels: vec!["happy".into()] },
            ..Type::unknown(99_999)
        });
        known.key = vec![1, 0];
        known.unique = vec![UniqueIndex { name: "t_ab".into(), columns: vec![0, 1] }];
        let description = described(full, &[columns[1], columns[0], columns[2]]);
        let table = completed(&description, &Facts { known: Some(&known), ..NOTHING });
        assert_eq!(table.key, [0, 1]);
        assert_eq!(table.unique, [UniqueIndex { name: "t_ab".into(), columns: vec![1, 0] }]);
        assert!(matches!(table.columns[2].type_.kind, Kind::Enum { .. }));
        // A key of columns that are not in the stream yet is no key.
        let now = relation(&[("c", INT4)], &["c"]);
        let facts = Facts { relation: Some(&now), known: Some(&known), root: None };
        assert_eq!(completed(&description, &facts).key, [0, 1]);
    }

    #[test]
    fn a_key_outlives_the_table_under_another_name() {
        let full = ReplicaIdentity::Full;
        let mut known =
            completed(&described(full, &[("id", INT4, true), ("n", TEXT, true)]), &NOTHING);
        known.key = vec![0];
        let description = described(full, &[("number", INT4, true), ("n", TEXT, true)]);
        let facts = Facts { known: Some(&known), ..NOTHING };
        assert_eq!(completed(&description, &facts).key, [0]);
        let other = described(full, &[("number", TEXT, true), ("n", TEXT, true)]);
        assert_eq!(completed(&other, &facts).key, [0; 0], "another type, another column");
    }

    #[test]
    fn the_stream_names_the_key_and_the_catalog_its_order() {
        let index = ReplicaIdentity::Index;
        let description = described(index, &[("a", INT4, true), ("b", INT4, true)]);
        let mut now = relation(&[("a", INT4), ("b", INT4)], &["a"]);
        now.identity = index;
        now.identity_index = Some(vec!["b".into(), "a".into()]);
        let facts = Facts { relation: Some(&now), ..NOTHING };
        assert_eq!(completed(&description, &facts).key, [1, 0]);
        // By now the identity is FULL and the key another: the stream is not there yet.
        let later = relation(&[("a", INT4), ("b", INT4)], &["a"]);
        let facts = Facts { relation: Some(&later), ..NOTHING };
        assert_eq!(completed(&description, &facts).key, [0, 1]);
    }

    #[test]
    fn a_deferrable_key_is_a_key_though_no_identity() {
        let description =
            described(ReplicaIdentity::Default, &[("id", INT4, false), ("n", INT4, false)]);
        let mut now = relation(&[("id", INT4), ("n", INT4)], &["id"]);
        now.primary_key_is_immediate = false;
        let facts = Facts { relation: Some(&now), ..NOTHING };
        assert_eq!(completed(&description, &facts).key, [0]);
    }

    #[test]
    fn a_leaf_goes_by_the_name_of_its_root() {
        let description = described(ReplicaIdentity::Full, &[("id", INT4, true)]);
        let root = Some(("public".to_owned(), "whole".to_owned()));
        let table = completed(&description, &Facts { root, ..NOTHING });
        assert_eq!(&*table.name, "whole");
    }
}
