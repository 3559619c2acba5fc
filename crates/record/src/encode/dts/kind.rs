//! Which item of the union carries a type (formats/dts-avro.md, section 7).

use wal::types::{Kind as TypeKind, Type, oid};

/// How values of a type are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Integer,
    Character,
    Decimal,
    Float,
    Date,
    Time,
    TimeTz,
    Timestamp,
    TimestampTz,
    Bytes,
    Bool,
    Jsonb,
    /// PostGIS's hexadecimal EWKB.
    Geometry,
    /// The server's text, under a word that all readers know.
    Text(&'static str),
}

/// What readers take for text of no type in particular; names that they do not know make them throw.
pub(super) const OTHER: &str = "XTYPE";

/// How values are written, and the number under which `fields` announces the type: its OID; a domain
/// is its base type.
pub(super) fn describe(type_: &Type) -> (Kind, u32) {
    let kind = match &type_.kind {
        TypeKind::Base => base(type_),
        TypeKind::Enum { .. } => Kind::Text("ENUM"),
        TypeKind::Domain { base, .. } => return describe(base),
        TypeKind::Array { .. }
        | TypeKind::Composite { .. }
        | TypeKind::Range { .. }
        | TypeKind::Multirange { .. }
        | TypeKind::Unknown => Kind::Text(OTHER),
    };
    (kind, type_.oid)
}

fn base(type_: &Type) -> Kind {
    match type_.oid {
        oid::INT2 | oid::INT4 | oid::INT8 | oid::OID | oid::XID | oid::CID => Kind::Integer,
        oid::NUMERIC => Kind::Decimal,
        oid::FLOAT4 | oid::FLOAT8 => Kind::Float,
        oid::BPCHAR | oid::CHAR | oid::VARCHAR | oid::TEXT | oid::NAME => Kind::Character,
        oid::DATE => Kind::Date,
        oid::TIME => Kind::Time,
        oid::TIMETZ => Kind::TimeTz,
        oid::TIMESTAMP => Kind::Timestamp,
        oid::TIMESTAMPTZ => Kind::TimestampTz,
        oid::BYTEA => Kind::Bytes,
        oid::BOOL => Kind::Bool,
        oid::JSON => Kind::Text("JSON"),
        oid::JSONB => Kind::Jsonb,
        oid::XML => Kind::Text("XML"),
        // Extension types have another OID in every database.
        _ if matches!(&*type_.name, "geometry" | "geography") => Kind::Geometry,
        _ => Kind::Text(OTHER),
    }
}
