//! Types as deep as rendering needs them, from `pg_type`.
//!
//! Built-in types are read once in a session. Users' own are read again each time they are asked
//! for: an enum can get a label, a composite type an attribute, and the stream says no word of it
//! (design.md, server fact 7).

use crate::{Error, Session};
use std::collections::HashMap;
use std::sync::Arc;
use tokio_postgres::Row;
use tokio_postgres::types::Type as Sql;
use wal::types::{Field, Kind, Type};

/// OIDs below were assigned when the server was made (`FirstNormalObjectId`).
const NORMAL_OID_MIN: u32 = 16_384;

/// Types within types. The server refuses types that contain themselves, so this ends only what is
/// changed while it is read.
const DEPTH_MAX: usize = 64;

/// Whether the server came with this object.
pub(super) fn is_builtin(oid: u32) -> bool {
    oid < NORMAL_OID_MIN
}

impl Session {
    /// The types of these OIDs. What the catalog does not have (any more) is [`Kind::Unknown`].
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn types(&self, oids: &[u32]) -> Result<HashMap<u32, Arc<Type>>, Error> {
        let mut known = self.memory().types();
        let mut described = HashMap::new();
        let mut wanted = missing(oids.iter().copied(), &known, &described);
        for _ in 0..DEPTH_MAX {
            if wanted.is_empty() {
                break;
            }
            let mut next = Vec::new();
            for described_type in self.describe_types(&wanted).await? {
                next.extend(described_type.needs());
                described.insert(described_type.oid, described_type);
            }
            wanted = missing(next.into_iter(), &known, &described);
        }
        let found = oids.iter().map(|&oid| (oid, build(oid, &described, &mut known, 0))).collect();
        self.memory().remember_types(known.into_iter().filter(|(oid, _)| is_builtin(*oid)));
        Ok(found)
    }

    async fn describe_types(&self, oids: &[u32]) -> Result<Vec<Described>, Error> {
        let multirange = if self.server().version < 140_000 {
            "0::oid"
        } else {
            "coalesce((SELECT r.rngtypid FROM pg_range r WHERE r.rngmultitypid = t.oid), 0)"
        };
        let statement = format!(
            "SELECT t.oid, n.nspname::text, t.typname::text, t.typtype, t.typdelim, \
               CASE WHEN t.typoutput = 'pg_catalog.array_out'::regproc THEN t.typelem ELSE 0 END, \
               t.typbasetype, t.typtypmod, \
               coalesce((SELECT r.rngsubtype FROM pg_range r WHERE r.rngtypid = t.oid), 0), \
               {multirange}, \
               (SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) \
                  FROM pg_enum e WHERE e.enumtypid = t.oid), \
               f.names, f.types, f.modifiers \
             FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace \
             LEFT JOIN LATERAL ( \
               SELECT array_agg(a.attname::text ORDER BY a.attnum) AS names, \
                      array_agg(a.atttypid ORDER BY a.attnum) AS types, \
                      array_agg(a.atttypmod ORDER BY a.attnum) AS modifiers \
               FROM pg_attribute a \
               WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped \
             ) f ON t.typtype = 'c' \
             WHERE t.oid = ANY ($1)"
        );
        let rows = self.query("types", &statement, &[(&oids, Sql::OID_ARRAY)]).await?;
        rows.iter().map(Described::read).collect::<Result<_, _>>().map_err(Error::reading("types"))
    }
}

fn missing(
    oids: impl Iterator<Item = u32>,
    known: &HashMap<u32, Arc<Type>>,
    described: &HashMap<u32, Described>,
) -> Vec<u32> {
    let is_new = |oid: &u32| !known.contains_key(oid) && !described.contains_key(oid);
    let mut missing: Vec<u32> = oids.filter(is_new).collect();
    missing.sort_unstable();
    missing.dedup();
    missing
}

/// A row of `pg_type` and what hangs on it.
#[derive(Debug)]
struct Described {
    oid: u32,
    schema: Box<str>,
    name: Box<str>,
    delimiter: u8,
    shape: Shape,
}

#[derive(Debug)]
enum Shape {
    Base,
    Array { element: u32 },
    Enum { labels: Vec<Box<str>> },
    Domain { base: u32, type_modifier: i32 },
    Composite { fields: Vec<(Box<str>, u32, i32)> },
    Range { subtype: u32 },
    Multirange { range: u32 },
}

impl Described {
    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let letter = |index| row.try_get::<_, i8>(index).map(|it| it.to_ne_bytes()[0]);
        let element: u32 = row.try_get(5)?;
        let shape = match letter(3)? {
            b'b' if element != 0 => Shape::Array { element },
            b'e' => {
                let labels: Option<Vec<String>> = row.try_get(10)?;
                let labels = labels.unwrap_or_default();
                Shape::Enum { labels: labels.into_iter().map(Into::into).collect() }
            }
            b'd' => Shape::Domain { base: row.try_get(6)?, type_modifier: row.try_get(7)? },
            b'c' => Shape::Composite { fields: fields(row)? },
            b'r' => Shape::Range { subtype: row.try_get(8)? },
            b'm' => Shape::Multirange { range: row.try_get(9)? },
            _ => Shape::Base,
        };
        Ok(Self {
            oid: row.try_get(0)?,
            schema: row.try_get::<_, &str>(1)?.into(),
            name: row.try_get::<_, &str>(2)?.into(),
            delimiter: letter(4)?,
            shape,
        })
    }

    /// Other types that must be known first.
    fn needs(&self) -> Vec<u32> {
        match &self.shape {
            Shape::Base | Shape::Enum { .. } => Vec::new(),
            Shape::Array { element } => vec![*element],
            Shape::Domain { base, .. } => vec![*base],
            Shape::Composite { fields } => fields.iter().map(|(_, oid, _)| *oid).collect(),
            Shape::Range { subtype } => vec![*subtype],
            Shape::Multirange { range } => vec![*range],
        }
    }
}

fn fields(row: &Row) -> Result<Vec<(Box<str>, u32, i32)>, tokio_postgres::Error> {
    let names: Option<Vec<String>> = row.try_get(11)?;
    let types: Option<Vec<u32>> = row.try_get(12)?;
    let modifiers: Option<Vec<i32>> = row.try_get(13)?;
    let names = names.unwrap_or_default().into_iter().map(Into::into);
    let typed = types.unwrap_or_default().into_iter().zip(modifiers.unwrap_or_default());
    Ok(names.zip(typed).map(|(name, (oid, modifier))| (name, oid, modifier)).collect())
}

fn build(
    oid: u32,
    described: &HashMap<u32, Described>,
    known: &mut HashMap<u32, Arc<Type>>,
    depth: usize,
) -> Arc<Type> {
    if let Some(known) = known.get(&oid) {
        return Arc::clone(known);
    }
    let Some(found) = described.get(&oid).filter(|_| depth < DEPTH_MAX) else {
        return Arc::new(Type::unknown(oid));
    };
    let mut part = |oid| build(oid, described, known, depth + 1);
    let kind = match &found.shape {
        Shape::Base => Kind::Base,
        Shape::Array { element } => {
            let delimiter = described.get(element).map_or(found.delimiter, |it| it.delimiter);
            Kind::Array { element: part(*element), delimiter }
        }
        Shape::Enum { labels } => Kind::Enum { labels: labels.clone() },
        Shape::Domain { base, type_modifier } => domain(part(*base), *type_modifier),
        Shape::Composite { fields } => {
            let field = |(name, oid, modifier): &(Box<str>, u32, i32)| Field {
                name: name.clone(),
                type_: part(*oid),
                type_modifier: *modifier,
            };
            Kind::Composite { fields: fields.iter().map(field).collect() }
        }
        Shape::Range { subtype } => Kind::Range { subtype: part(*subtype) },
        Shape::Multirange { range } => Kind::Multirange { range: part(*range) },
    };
    let (schema, name) = (found.schema.clone(), found.name.clone());
    let built = Arc::new(Type { oid, schema, name, kind });
    known.insert(oid, Arc::clone(&built));
    built
}

/// A domain over a domain is one over the base, with the only modifier that there can be.
fn domain(base: Arc<Type>, modifier: i32) -> Kind {
    match &base.kind {
        Kind::Domain { base: inner, type_modifier } => {
            let type_modifier = if modifier == -1 { *type_modifier } else { modifier };
            Kind::Domain { base: Arc::clone(inner), type_modifier }
        }
        Kind::Base
        | Kind::Array { .. }
        | Kind::Enum { .. }
        | Kind::Composite { .. }
        | Kind::Range { .. }
        | Kind::Multirange { .. }
        | Kind::Unknown => Kind::Domain { base, type_modifier: modifier },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(oid: u32, name: &str, shape: Shape) -> (u32, Described) {
        let (schema, name) = ("public".into(), name.into());
        (oid, Described { oid, schema, name, delimiter: b',', shape })
    }

    #[test]
    fn a_domain_over_a_domain_has_the_base_and_its_modifier() {
        let described = HashMap::from([
            described(30_002, "outer", Shape::Domain { base: 30_001, type_modifier: -1 }),
            described(30_001, "inner", Shape::Domain { base: 1043, type_modifier: 14 }),
            described(1043, "varchar", Shape::Base),
        ]);
        let built = build(30_002, &described, &mut HashMap::new(), 0);
        let Kind::Domain { base, type_modifier } = &built.kind else { panic!("{built:?}") };
        assert_eq!((&*built.name, &*base.name, *type_modifier), ("outer", "varchar", 14));
    }

    #[test]
    fn the_delimiter_of_an_array_is_that_of_its_element() {
        let mut described = HashMap::from([
            described(1020, "_box", Shape::Array { element: 603 }),
            described(603, "box", Shape::Base),
        ]);
        described.get_mut(&603).unwrap().delimiter = b';';
        let built = build(1020, &described, &mut HashMap::new(), 0);
        assert!(matches!(built.kind, Kind::Array { delimiter: b';', .. }), "{built:?}");
    }

    #[test]
    fn what_is_not_there_or_has_no_end_is_unknown() {
        let built = build(9, &HashMap::new(), &mut HashMap::new(), 0);
        assert_eq!(*built, Type::unknown(9));
        let described =
            HashMap::from([described(30_003, "loop", Shape::Array { element: 30_003 })]);
        let built = build(30_003, &described, &mut HashMap::new(), 0);
        assert_eq!(built.oid, 30_003);
    }
}
