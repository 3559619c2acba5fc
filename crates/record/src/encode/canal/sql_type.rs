//! Numbers of `java.sql.Types`, as PostgreSQL's JDBC driver gives them (formats/canal-json.md, section 3).

use wal::types::{Kind, Type, oid};

const OTHER: i32 = 1111;

/// The number of a type.
pub(crate) fn sql_type(type_: &Type) -> i32 {
    match &type_.kind {
        Kind::Base => base(type_.oid),
        Kind::Array { .. } => 2003,
        Kind::Domain { .. } => 2001,
        Kind::Composite { .. } => 2002,
        Kind::Enum { .. } => 12,
        Kind::Range { .. } | Kind::Multirange { .. } | Kind::Unknown => OTHER,
    }
}

fn base(oid: u32) -> i32 {
    match oid {
        oid::BOOL | oid::BIT => -7,
        oid::INT2 => 5,
        oid::INT4 => 4,
        oid::INT8 | oid::OID => -5,
        oid::FLOAT4 => 7,
        oid::FLOAT8 | oid::MONEY => 8,
        oid::NUMERIC => 2,
        oid::TEXT | oid::VARCHAR | oid::NAME => 12,
        oid::BPCHAR | oid::CHAR => 1,
        oid::BYTEA => -2,
        oid::DATE => 91,
        oid::TIME | oid::TIMETZ => 92,
        oid::TIMESTAMP | oid::TIMESTAMPTZ => 93,
        oid::XML => 2009,
        _ => OTHER,
    }
}
