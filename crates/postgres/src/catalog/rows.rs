//! Queries of relations, columns and keys, and what their rows say.

use super::columns::{CatalogColumn, GENERATED_PUBLISHED_SINCE, GENERATED_SINCE, Relation};
use super::default::ColumnType;
use super::identity;
use super::types::is_builtin;
use std::collections::HashMap;
use tokio_postgres::Row;

pub(super) const RELATIONS: &str = "\
    SELECT c.oid, n.nspname::text, c.relname::text, c.relreplident \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.oid = ANY ($1) AND c.relkind IN ('r', 'p')";

/// Keys, and what else tells rows apart by whole columns: neither expressions nor a part of the rows.
pub(super) const KEYS: &str = "\
    SELECT i.indrelid, i.indisprimary, i.indisreplident, i.indimmediate AND i.indisvalid, \
      (SELECT array_agg(a.attname::text ORDER BY k.place) \
       FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place) \
       JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number \
       WHERE k.place <= i.indnkeyatts), \
      c.relname::text, \
      i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL \
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
    WHERE i.indrelid = ANY ($1) AND (i.indisunique OR i.indisreplident) \
    ORDER BY c.relname";

/// What pgoutput leaves out is left out: virtual generated columns, stored ones before they could
/// be published.
pub(super) fn columns_statement(version: u32) -> String {
    let published = if version < GENERATED_SINCE {
        "true"
    } else if version < GENERATED_PUBLISHED_SINCE {
        "a.attgenerated = ''"
    } else {
        "a.attgenerated <> 'v'"
    };
    // From 18 on a constraint may be there that older rows need not meet.
    let not_null = if version < 180_000 {
        "a.attnotnull"
    } else {
        "a.attnotnull AND NOT EXISTS (SELECT FROM pg_constraint o WHERE o.conrelid = a.attrelid \
           AND o.contype = 'n' AND o.conkey = ARRAY[a.attnum] AND NOT o.convalidated)"
    };
    format!(
        "SELECT a.attrelid, a.attnum, a.attname::text, a.atttypid, a.atttypmod, \
           ({not_null}) OR (t.typtype = 'd' AND t.typnotnull), \
           format_type(a.atttypid, a.atttypmod), format_type(a.atttypid, -1), \
           t.typtype = 'd', t.typbasetype, t.typtypmod, \
           format_type(t.typbasetype, t.typtypmod), format_type(t.typbasetype, -1) \
         FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
         WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped AND {published} \
         ORDER BY a.attrelid, a.attnum"
    )
}

pub(super) fn relation(row: &Row) -> Result<Relation, tokio_postgres::Error> {
    Ok(Relation {
        oid: row.try_get(0)?,
        schema: row.try_get(1)?,
        name: row.try_get(2)?,
        identity: identity(row.try_get::<_, i8>(3)?.to_ne_bytes()[0]),
        columns: Vec::new(),
        primary_key: None,
        primary_key_is_immediate: false,
        identity_index: None,
        unique: Vec::new(),
    })
}

pub(super) fn add_key(
    row: &Row,
    relations: &mut HashMap<u32, Relation>,
) -> Result<(), tokio_postgres::Error> {
    let Some(relation) = relations.get_mut(&row.try_get(0)?) else { return Ok(()) };
    let names: Option<Vec<String>> = row.try_get(4)?;
    let Some(names) = names.filter(|names| !names.is_empty()) else { return Ok(()) };
    if row.try_get(6)? {
        relation.unique.push((row.try_get(5)?, names.clone()));
    }
    if row.try_get(2)? {
        relation.identity_index = Some(names.clone());
    }
    if row.try_get(1)? {
        relation.primary_key_is_immediate = row.try_get(3)?;
        relation.primary_key = Some(names);
    }
    Ok(())
}

pub(super) fn column(
    row: &Row,
) -> Result<(u32, i16, CatalogColumn, ColumnType), tokio_postgres::Error> {
    let type_oid: u32 = row.try_get(3)?;
    let type_modifier: i32 = row.try_get(4)?;
    let mut type_ = ColumnType {
        oid: type_oid,
        full: row.try_get(6)?,
        bare: vec![row.try_get(7)?],
        has_modifier: type_modifier != -1,
        is_builtin: is_builtin(type_oid),
    };
    if row.try_get(8)? {
        // Of a domain, its base. One over another domain is no built-in, so it is never cast to.
        type_.oid = row.try_get(9)?;
        type_.has_modifier = row.try_get::<_, i32>(10)? != -1;
        type_.is_builtin = is_builtin(type_.oid);
        type_.full = row.try_get(11)?;
        type_.bare.push(row.try_get(12)?);
    }
    let column = CatalogColumn {
        name: row.try_get(2)?,
        type_oid,
        type_modifier,
        not_null: row.try_get(5)?,
        default: None,
    };
    Ok((row.try_get(0)?, row.try_get(1)?, column, type_))
}
