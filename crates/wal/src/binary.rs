//! Values in the form of a type's send function → the text of its output function, byte for byte as the server
//! prints it under the settings of our sessions (`ISO, MDY`, `postgres`, `hex`, shortest floats, UTC, `C`).
//!
//! Sources: PostgreSQL, "Logical Replication Message Formats" and the pages of each type; what they leave open was
//! found out from servers (`tests/tests/postgres_stream/wire.rs` compares both forms). No length from outside is believed: it has to be
//! there in bytes, or to stay below [`Text`]'s limit, before room is taken for it.

mod calendar;
mod float;
mod geometry;
mod nested;
mod network;
mod number;
mod read;
mod search;
mod text;

pub use text::Text;

use crate::table::Table;
use crate::types::{Kind, Type, oid};
use crate::{Datum, Tuple};
use nested::{Array, Composite, Range};
use read::Reader;
use std::collections::HashMap;
use std::sync::Arc;

/// `server_version_num` from which on `"char"` prints what is not ASCII in octal.
const OCTAL_CHAR_SINCE: u32 = 150_000;
/// From here on intervals can be infinite.
const INFINITE_INTERVAL_SINCE: u32 = 170_000;
/// From here on the halves of an LSN may be printed otherwise.
const LSN_TEXT_KNOWN_BEFORE: u32 = 190_000;

/// Why a value could not be turned into its text.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Fault {
    #[error("its bytes are not what the type's send function writes")]
    Malformed,
    #[error("its text is much longer than its bytes, above the limit of {max} bytes of a batch")]
    TooLong { max: usize },
    #[error("type `{name}` (oid {oid}) has no decoder of its binary form")]
    NoDecoder { oid: u32, name: Box<str> },
}

/// What writes the text of one value.
type Scalar = fn(&mut Reader<'_>, &mut Text) -> Result<(), Fault>;

/// How values of a type are read.
#[derive(Debug)]
enum Form {
    Scalar(Scalar),
    Array(Array),
    Composite(Composite),
    Range(Range),
    Multirange(Range),
}

type Found = Result<Arc<Form>, Fault>;

/// How the rows of a table version are read, made once for each.
#[derive(Debug)]
pub struct Plan {
    columns: Vec<Found>,
}

/// The column of a row that could not be turned into text.
#[derive(Debug, Eq, PartialEq)]
pub struct Misread {
    /// From 0.
    pub column: usize,
    pub fault: Fault,
}

impl Plan {
    /// The plan for a table of a server of this `server_version_num`. Columns without a decoder matter only where a value
    /// of them comes in binary form.
    #[must_use]
    pub fn new(table: &Table, server_version: u32) -> Self {
        Self::of(table.columns.iter().map(|column| &*column.type_), server_version)
    }

    /// For rows of texts.
    #[must_use]
    pub const fn none() -> Self {
        Self { columns: Vec::new() }
    }

    /// The plan for columns of these types.
    pub fn of<'a>(types: impl IntoIterator<Item = &'a Type>, server_version: u32) -> Self {
        let mut forms = Forms { known: HashMap::new(), server_version };
        Self { columns: types.into_iter().map(|it| forms.find(it)).collect() }
    }

    /// Appends the tuple with every value as text. Texts, nulls and unchanged values stay what they are.
    ///
    /// # Errors
    /// When a value in binary form has no decoder, or is none of its type; what was appended is to be thrown away.
    pub fn append(&self, tuple: Tuple<'_>, out: &mut Text) -> Result<(), Misread> {
        out.extend(&u16::try_from(tuple.len()).unwrap_or(u16::MAX).to_be_bytes());
        for (column, datum) in tuple.iter().enumerate() {
            self.append_datum(column, datum, out).map_err(|fault| Misread { column, fault })?;
        }
        Ok(())
    }

    fn append_datum(&self, column: usize, datum: Datum<'_>, out: &mut Text) -> Result<(), Fault> {
        let value = match datum {
            Datum::Null => {
                out.push(b'n');
                return Ok(());
            }
            Datum::Unchanged => {
                out.push(b'u');
                return Ok(());
            }
            Datum::Text(text) => {
                out.push(b't');
                return out.sized(|out| out.append(text));
            }
            Datum::Binary(value) => value,
        };
        let form = match self.columns.get(column) {
            Some(Ok(form)) => form,
            Some(Err(fault)) => return Err(fault.clone()),
            None => return Err(Fault::Malformed),
        };
        out.push(b't');
        out.sized(|out| form.write(value, out))
    }
}

/// The first of these types that has no decoder, or what in it has none; `None`: all have one.
pub fn without_decoder<'a>(
    types: impl IntoIterator<Item = &'a Type>,
    server_version: u32,
) -> Option<Fault> {
    let mut forms = Forms { known: HashMap::new(), server_version };
    types.into_iter().find_map(|it| forms.find(it).err())
}

impl Form {
    /// Appends the text of a value, which takes all of `value`.
    fn write(&self, value: &[u8], out: &mut Text) -> Result<(), Fault> {
        let mut reader = Reader::new(value);
        match self {
            Self::Scalar(scalar) => scalar(&mut reader, out)?,
            Self::Array(array) => array.write(&mut reader, out)?,
            Self::Composite(composite) => composite.write(&mut reader, out)?,
            Self::Range(range) => range.write(&mut reader, out)?,
            Self::Multirange(range) => range.write_many(&mut reader, out)?,
        }
        reader.end()?;
        // Scalars of few bytes do not look themselves.
        out.room(0)
    }
}

/// Finds forms. Types share parts, so that walking them as a tree could take for ever: each is looked at once.
struct Forms {
    known: HashMap<u32, Found>,
    server_version: u32,
}

impl Forms {
    fn find(&mut self, type_: &Type) -> Found {
        if let Some(known) = self.known.get(&type_.oid) {
            return known.clone();
        }
        let found = self.make(type_);
        self.known.insert(type_.oid, found.clone());
        found
    }

    fn make(&mut self, type_: &Type) -> Found {
        let form = match &type_.kind {
            Kind::Base | Kind::Unknown => {
                let missing = || Fault::NoDecoder { oid: type_.oid, name: type_.name.clone() };
                Form::Scalar(scalar(type_, self.server_version).ok_or_else(missing)?)
            }
            // Their send function writes the label.
            Kind::Enum { .. } => Form::Scalar(text::whole),
            Kind::Domain { base, .. } => return self.find(base),
            Kind::Array { element, delimiter } => Form::Array(Array {
                oid: element.oid,
                element: self.find(element)?,
                delimiter: *delimiter,
            }),
            Kind::Composite { fields } => {
                let field = |it: &crate::types::Field| Ok((it.type_.oid, self.find(&it.type_)?));
                let fields = fields.iter().map(field).collect::<Result<_, Fault>>()?;
                Form::Composite(Composite { fields, server_version: self.server_version })
            }
            Kind::Range { subtype } => Form::Range(Range { bound: self.find(subtype)? }),
            Kind::Multirange { range } => {
                let Kind::Range { subtype } = &range.kind else { return Err(Fault::Malformed) };
                Form::Multirange(Range { bound: self.find(subtype)? })
            }
        };
        Ok(Arc::new(form))
    }
}

/// Users' own base types print as their makers like; of those that come with PostgreSQL, `citext` is text.
fn scalar(type_: &Type, server_version: u32) -> Option<Scalar> {
    match &*type_.name {
        "citext" if type_.kind == Kind::Base => Some(text::whole),
        _ => builtin(type_.oid, server_version),
    }
}

fn builtin(type_oid: u32, server_version: u32) -> Option<Scalar> {
    let scalar: Scalar = match type_oid {
        oid::BOOL => number::boolean,
        oid::BYTEA => text::bytea,
        oid::CHAR if OCTAL_CHAR_SINCE <= server_version => text::char_octal,
        oid::CHAR => text::char_raw,
        oid::INT2 => number::int2,
        oid::INT4 => number::int4,
        oid::INT8 => number::int8,
        oid::OID | oid::XID | oid::CID => number::uint4,
        oid::XID8 => number::uint8,
        oid::TID => number::tid,
        oid::NAME
        | oid::TEXT
        | oid::JSON
        | oid::XML
        | oid::UNKNOWN
        | oid::BPCHAR
        | oid::VARCHAR
        | oid::REFCURSOR => text::whole,
        oid::JSONB | oid::JSONPATH => text::versioned,
        oid::FLOAT4 => float::float4,
        oid::FLOAT8 => float::float8,
        oid::NUMERIC => number::numeric,
        oid::MONEY => number::money,
        oid::UUID => text::uuid,
        oid::BIT | oid::VARBIT => text::bits,
        oid::DATE => calendar::date,
        oid::TIME => calendar::time,
        oid::TIMETZ => calendar::timetz,
        oid::TIMESTAMP => calendar::timestamp,
        oid::TIMESTAMPTZ => calendar::timestamptz,
        oid::INTERVAL if INFINITE_INTERVAL_SINCE <= server_version => calendar::interval,
        oid::INTERVAL => calendar::finite_interval,
        oid::INET | oid::CIDR => network::address,
        oid::MACADDR => network::macaddr,
        oid::MACADDR8 => network::macaddr8,
        oid::TSVECTOR => search::tsvector,
        oid::TSQUERY => search::tsquery,
        oid::POINT => geometry::point,
        oid::LSEG => geometry::lseg,
        oid::PATH => geometry::path,
        oid::BOX => geometry::box_,
        oid::POLYGON => geometry::polygon,
        oid::LINE => geometry::line,
        oid::CIRCLE => geometry::circle,
        oid::PG_LSN if server_version < LSN_TEXT_KNOWN_BEFORE => number::pg_lsn,
        _ => return None,
    };
    Some(scalar)
}
