//! What the catalog says of selected tables beyond what makes them candidates.

use super::tables::Scope;
use crate::Error;
use crate::catalog::{GENERATED_PUBLISHED_SINCE, GENERATED_SINCE};
use std::collections::HashMap;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

/// First version with column lists of publications.
const COLUMN_LISTS_SINCE: u32 = 150_000;

/// By OID. A table that was dropped meanwhile has none.
pub(super) type FactsByOid = HashMap<u32, Facts>;

/// Of one table.
pub(super) struct Facts {
    pub(super) schema_usage: bool,
    pub(super) select: bool,
    pub(super) row_security: bool,
    /// Generated columns that are stored.
    pub(super) stored: Vec<String>,
    /// Those that are not.
    pub(super) virtual_: Vec<String>,
    /// Other publications that FULL would collide with, and why.
    pub(super) collisions: Vec<String>,
    pub(super) published: bool,
    /// Tables that inherit from it and are no partitions, with their names.
    pub(super) heirs: Vec<(u32, String)>,
    /// What its large values take on disk, in bytes.
    pub(super) toast_bytes: u64,
    /// Columns whose values may be as large as the server lets them.
    pub(super) unlimited: Vec<String>,
}

pub(super) async fn facts(scope: &Scope<'_>) -> Result<FactsByOid, Error> {
    let version = scope.session.server().version;
    let generated = |kind: &str| {
        if version < GENERATED_SINCE {
            return "NULL::text[]".to_owned();
        }
        format!(
            "(SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a \
              WHERE a.attrelid = c.oid AND NOT a.attisdropped AND a.attgenerated = '{kind}')"
        )
    };
    let statement = format!(
        "SELECT c.oid, has_schema_privilege(c.relnamespace, 'USAGE'), \
           has_table_privilege(c.oid, 'SELECT'), row_security_active(c.oid), {stored}, {virtual_}, \
           {collisions}, \
           EXISTS (SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid \
                   WHERE r.prrelid = c.oid AND p.pubname = $2), \
           (SELECT array_agg(h.oid ORDER BY h.oid) FROM pg_inherits i \
              JOIN pg_class h ON h.oid = i.inhrelid \
            WHERE i.inhparent = c.oid AND c.relkind = 'r'), \
           (SELECT array_agg(quote_ident(n.nspname) || '.' || quote_ident(h.relname) ORDER BY h.oid) \
            FROM pg_inherits i JOIN pg_class h ON h.oid = i.inhrelid \
              JOIN pg_namespace n ON n.oid = h.relnamespace \
            WHERE i.inhparent = c.oid AND c.relkind = 'r'), \
           CASE WHEN c.reltoastrelid = 0 THEN 0 ELSE pg_relation_size(c.reltoastrelid) END, \
           (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a \
            WHERE a.attrelid = c.oid AND 0 < a.attnum AND NOT a.attisdropped AND a.attlen = -1 \
              AND a.atttypmod = -1 AND a.attstorage IN ('x', 'e')) \
         FROM pg_class c WHERE c.oid = ANY ($1)",
        stored = generated("s"),
        virtual_ = generated("v"),
        collisions = collisions(version),
    );
    let oids: Vec<u32> = scope.tables.iter().map(|it| it.oid).collect();
    let parameters: [(&(dyn ToSql + Sync), Type); 2] =
        [(&oids, Type::OID_ARRAY), (&scope.publication, Type::TEXT)];
    let rows = scope.session.query("tables", &statement, &parameters).await?;
    rows.iter().map(fact).collect::<Result<_, _>>().map_err(Error::reading("tables"))
}

/// Other publications under whose eyes a FULL identity makes users' UPDATE fail.
fn collisions(version: u32) -> String {
    if version < COLUMN_LISTS_SINCE {
        return "NULL::text[]".into();
    }
    let generated = if version < GENERATED_PUBLISHED_SINCE {
        "false"
    } else {
        "p.pubgencols = 'n' AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid \
           AND NOT a.attisdropped AND a.attgenerated = 's')"
    };
    format!(
        "(SELECT array_agg(DISTINCT p.pubname::text || CASE WHEN r.prattrs IS NULL \
            THEN ' (generated columns)' ELSE ' (column list)' END) \
          FROM pg_publication p LEFT JOIN pg_publication_rel r \
            ON r.prpubid = p.oid AND r.prrelid = c.oid \
          WHERE p.pubname <> $2 AND (r.prattrs IS NOT NULL OR \
            ((r.prrelid IS NOT NULL OR p.puballtables) AND {generated})))"
    )
}

fn fact(row: &Row) -> Result<(u32, Facts), tokio_postgres::Error> {
    let names = |index| row.try_get::<_, Option<Vec<String>>>(index).map(Option::unwrap_or_default);
    let heirs: Option<Vec<u32>> = row.try_get(8)?;
    let facts = Facts {
        schema_usage: row.try_get(1)?,
        select: row.try_get(2)?,
        row_security: row.try_get(3)?,
        stored: names(4)?,
        virtual_: names(5)?,
        collisions: names(6)?,
        published: row.try_get(7)?,
        heirs: heirs.unwrap_or_default().into_iter().zip(names(9)?).collect(),
        // Null: it was dropped under way.
        toast_bytes: row.try_get::<_, Option<i64>>(10)?.map_or(0, i64::cast_unsigned),
        unlimited: names(11)?,
    };
    Ok((row.try_get(0)?, facts))
}
