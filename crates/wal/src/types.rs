//! What a type is, as far as rendering its values needs to know. Filled from `pg_type` by `postgres`.

use std::sync::Arc;

/// OIDs of built-in types that rendering tells apart (`pg_type.dat`).
pub mod oid {
    pub const BOOL: u32 = 16;
    pub const BYTEA: u32 = 17;
    pub const CHAR: u32 = 18;
    pub const NAME: u32 = 19;
    pub const INT8: u32 = 20;
    pub const INT2: u32 = 21;
    pub const INT4: u32 = 23;
    pub const TEXT: u32 = 25;
    pub const OID: u32 = 26;
    pub const TID: u32 = 27;
    pub const XID: u32 = 28;
    pub const CID: u32 = 29;
    pub const JSON: u32 = 114;
    pub const XML: u32 = 142;
    pub const POINT: u32 = 600;
    pub const LSEG: u32 = 601;
    pub const PATH: u32 = 602;
    pub const BOX: u32 = 603;
    pub const POLYGON: u32 = 604;
    pub const LINE: u32 = 628;
    pub const FLOAT4: u32 = 700;
    pub const FLOAT8: u32 = 701;
    pub const UNKNOWN: u32 = 705;
    pub const CIRCLE: u32 = 718;
    pub const MACADDR8: u32 = 774;
    pub const MONEY: u32 = 790;
    pub const MACADDR: u32 = 829;
    pub const INET: u32 = 869;
    pub const CIDR: u32 = 650;
    pub const BPCHAR: u32 = 1042;
    pub const VARCHAR: u32 = 1043;
    pub const DATE: u32 = 1082;
    pub const TIME: u32 = 1083;
    pub const TIMESTAMP: u32 = 1114;
    pub const TIMESTAMPTZ: u32 = 1184;
    pub const INTERVAL: u32 = 1186;
    pub const TIMETZ: u32 = 1266;
    pub const BIT: u32 = 1560;
    pub const VARBIT: u32 = 1562;
    pub const NUMERIC: u32 = 1700;
    pub const REFCURSOR: u32 = 1790;
    pub const UUID: u32 = 2950;
    pub const PG_LSN: u32 = 3220;
    pub const TSVECTOR: u32 = 3614;
    pub const TSQUERY: u32 = 3615;
    pub const JSONB: u32 = 3802;
    pub const JSONPATH: u32 = 4072;
    pub const XID8: u32 = 5069;
}

/// A type as `pg_type` describes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Type {
    /// Extension types have a different OID in every database; go by `schema` and `name` there.
    pub oid: u32,
    /// Schema of the type, e.g. `pg_catalog`.
    pub schema: Box<str>,
    /// `typname`, e.g. `int4`, `_text`, `mood`.
    pub name: Box<str>,
    pub kind: Kind,
}

/// `typtype`, with what the kind carries.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    Base,
    /// A true array (`typelem` with `typsubscript` array); `delimiter` is `typdelim` of the element.
    Array {
        element: Arc<Type>,
        delimiter: u8,
    },
    /// Labels in sort order.
    Enum {
        labels: Vec<Box<str>>,
    },
    /// The base is never itself a domain: the catalog reader walks to the end.
    Domain {
        base: Arc<Type>,
        type_modifier: i32,
    },
    Composite {
        fields: Vec<Field>,
    },
    Range {
        subtype: Arc<Type>,
    },
    Multirange {
        range: Arc<Type>,
    },
    /// No longer (or not yet) in the catalog: values are server text.
    Unknown,
}

/// A field of a composite type.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Field {
    pub name: Box<str>,
    pub type_: Arc<Type>,
    pub type_modifier: i32,
}

impl Type {
    /// A type of which only the OID is known.
    #[must_use]
    pub fn unknown(oid: u32) -> Self {
        Self { oid, schema: "".into(), name: "unknown".into(), kind: Kind::Unknown }
    }

    /// A built-in scalar type, mostly for tests.
    #[must_use]
    pub fn builtin(oid: u32, name: &str) -> Self {
        Self { oid, schema: "pg_catalog".into(), name: name.into(), kind: Kind::Base }
    }
}
