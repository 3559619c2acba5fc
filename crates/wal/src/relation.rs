//! Versions of a relation as the stream describes it, and what differs between two of them.

use crate::message;
use crate::table::{Column, ReplicaIdentity, Table};

/// What a Relation message says, to be completed from the catalog into a [`crate::Table`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RelationDescription {
    pub oid: u32,
    /// From 1; grows by one with each Relation message of the same OID that differs from the one
    /// before.
    pub version: u32,
    pub schema: Box<str>,
    pub name: Box<str>,
    pub identity: ReplicaIdentity,
    /// In the order of the tuples.
    pub columns: Vec<ColumnDescription>,
    /// From the version before; empty for the first one.
    pub differences: Vec<Difference>,
}

/// A column as the stream describes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ColumnDescription {
    pub name: Box<str>,
    pub type_oid: u32,
    /// `atttypmod`; -1: none.
    pub type_modifier: i32,
    /// Flag 1: part of the replica identity.
    pub in_identity: bool,
}

/// One way in which a version differs from the one before.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Difference {
    /// The relation itself has another name or schema.
    Renamed {
        schema: Box<str>,
        name: Box<str>,
    },
    /// The stream numbers no columns: a name that changed where all else stayed in place counts as
    /// renamed.
    ColumnRenamed {
        from: Box<str>,
        to: Box<str>,
    },
    ColumnAdded {
        name: Box<str>,
    },
    ColumnDropped {
        name: Box<str>,
    },
    /// Type or type modifier.
    TypeChanged {
        name: Box<str>,
    },
    /// `relreplident`, or the columns that belong to it.
    IdentityChanged,
    /// The same columns in another order (a table was swapped through renames).
    ColumnsReordered,
}

impl RelationDescription {
    /// How the stream would describe a table version.
    #[must_use]
    pub fn of(table: &Table) -> Self {
        let column = |it: &Column| ColumnDescription {
            name: it.name.clone(),
            type_oid: it.type_.oid,
            type_modifier: it.type_modifier,
            in_identity: it.in_identity,
        };
        Self {
            oid: table.oid,
            version: table.version,
            schema: table.schema.clone(),
            name: table.name.clone(),
            identity: table.identity,
            columns: table.columns.iter().map(column).collect(),
            differences: Vec::new(),
        }
    }

    /// The description of the first message of a relation.
    pub(crate) fn first(relation: &message::Relation<'_>) -> Self {
        let columns = relation.columns.iter().map(|column| ColumnDescription {
            name: column.name.into(),
            type_oid: column.type_oid,
            type_modifier: column.type_modifier,
            in_identity: column.in_identity,
        });
        Self {
            oid: relation.oid,
            version: 1,
            schema: schema(relation).into(),
            name: relation.name.into(),
            identity: relation.identity,
            columns: columns.collect(),
            differences: Vec::new(),
        }
    }

    /// The description of a later message; `None` when it says the same. Allocates only if not.
    pub(crate) fn next(&self, relation: &message::Relation<'_>) -> Option<Self> {
        if self.says(relation) {
            return None;
        }
        let mut next = Self::first(relation);
        next.version = self.version.saturating_add(1);
        next.differences = next.differences_from(self);
        Some(next)
    }

    fn says(&self, relation: &message::Relation<'_>) -> bool {
        *self.schema == *schema(relation)
            && *self.name == *relation.name
            && self.identity == relation.identity
            && self.columns.len() == relation.columns.len()
            && self.columns.iter().zip(relation.columns.iter()).all(|(known, column)| {
                *known.name == *column.name
                    && known.type_oid == column.type_oid
                    && known.type_modifier == column.type_modifier
                    && known.in_identity == column.in_identity
            })
    }

    /// What is different here from an earlier version.
    #[must_use]
    pub fn differences_from(&self, earlier: &Self) -> Vec<Difference> {
        let mut found = Vec::new();
        if (&earlier.schema, &earlier.name) != (&self.schema, &self.name) {
            found
                .push(Difference::Renamed { schema: self.schema.clone(), name: self.name.clone() });
        }
        let renamed = self.renamed_from(earlier);
        let is_renamed = |index: usize| renamed.contains(&index);
        for &index in &renamed {
            let (from, to) = (&earlier.columns[index].name, &self.columns[index].name);
            found.push(Difference::ColumnRenamed { from: from.clone(), to: to.clone() });
        }
        for (index, column) in earlier.columns.iter().enumerate() {
            if !is_renamed(index) && self.column(&column.name).is_none() {
                found.push(Difference::ColumnDropped { name: column.name.clone() });
            }
        }
        let mut identity_changed = earlier.identity != self.identity;
        for (index, column) in self.columns.iter().enumerate() {
            let before = if is_renamed(index) {
                earlier.columns.get(index)
            } else {
                earlier.column(&column.name)
            };
            let Some(before) = before else {
                found.push(Difference::ColumnAdded { name: column.name.clone() });
                identity_changed |= column.in_identity;
                continue;
            };
            if before.type_() != column.type_() {
                found.push(Difference::TypeChanged { name: column.name.clone() });
            }
            identity_changed |= before.in_identity != column.in_identity;
        }
        if identity_changed {
            found.push(Difference::IdentityChanged);
        }
        if found.is_empty() && earlier.columns != self.columns {
            found.push(Difference::ColumnsReordered);
        }
        found
    }

    fn column(&self, name: &str) -> Option<&ColumnDescription> {
        self.columns.iter().find(|column| *column.name == *name)
    }

    /// Places where only the name changed, provided that no column moved.
    fn renamed_from(&self, earlier: &Self) -> Vec<usize> {
        if earlier.columns.len() != self.columns.len() {
            return Vec::new();
        }
        let pairs = || earlier.columns.iter().zip(&self.columns).enumerate();
        let is_renamed = |before: &ColumnDescription, after: &ColumnDescription| {
            before.type_() == after.type_()
                && self.column(&before.name).is_none()
                && earlier.column(&after.name).is_none()
        };
        let in_place = |(_, (before, after)): (_, (&ColumnDescription, &ColumnDescription))| {
            before.name == after.name || is_renamed(before, after)
        };
        if !pairs().all(in_place) {
            return Vec::new();
        }
        pairs().filter(|(_, (a, b))| a.name != b.name).map(|(index, _)| index).collect()
    }
}

impl ColumnDescription {
    fn type_(&self) -> (u32, i32) {
        (self.type_oid, self.type_modifier)
    }
}

/// The protocol leaves the name of `pg_catalog` out.
fn schema<'a>(relation: &message::Relation<'a>) -> &'a str {
    if relation.schema.is_empty() { "pg_catalog" } else { relation.schema }
}
