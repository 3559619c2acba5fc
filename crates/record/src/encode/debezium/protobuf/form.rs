//! How a column is written: as a scalar of Protobuf, as one of two messages, or as an array of them.

use super::super::kind::{self, Kind, Unit};
use config::{Decimal, FormatOptions};
use wal::Column;

/// The rendering of a column's values.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Form {
    Scalar(Scalar),
    Array { element: Scalar, delimiter: u8 },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scalar {
    Bool,
    Int32,
    Int64,
    Float,
    Double,
    /// The server's.
    Text,
    Bytes,
    /// A message of scale and unscaled value.
    Decimal,
    Date,
    /// ISO 8601.
    IsoDate,
    Time(Unit),
    Timestamp(Unit),
    TimeTz,
    TimestampTz {
        digits: u8,
    },
}

/// A form, and the semantic name of Debezium's schema for the values.
pub(super) struct Described {
    pub(super) form: Form,
    pub(super) semantic: Option<&'static str>,
}

/// How the values of a column are written.
pub(super) fn describe(column: &Column, options: &FormatOptions) -> Described {
    let mut options = options.clone();
    options.decimal = match options.decimal {
        // The exact text: Protobuf has no decimals.
        Decimal::Precise | Decimal::String => Decimal::String,
        Decimal::Double => Decimal::Double,
        Decimal::Bytes => Decimal::Precise,
    };
    let text = Described { form: Form::Scalar(Scalar::Text), semantic: None };
    let Some(described) = kind::describe(&column.type_, column.type_modifier, &options) else {
        return text;
    };
    let primitive = described.schema.primitive();
    let (form, is_debezium) = if let Kind::Array { element, delimiter, .. } = &described.kind {
        let (element, is_debezium) = scalar(element, primitive);
        (Form::Array { element, delimiter: *delimiter }, is_debezium)
    } else {
        let (scalar, is_debezium) = scalar(&described.kind, primitive);
        (Form::Scalar(scalar), is_debezium)
    };
    let semantic = described.schema.semantic().filter(|_| is_debezium);
    Described { form, semantic }
}

/// The scalar of a kind, and whether its values are what Debezium's name says. `primitive`: Connect's type.
fn scalar(kind: &Kind, primitive: &str) -> (Scalar, bool) {
    let scalar = match kind {
        Kind::Bool => Scalar::Bool,
        Kind::Integer if primitive == "int64" => Scalar::Int64,
        Kind::Integer => Scalar::Int32,
        Kind::Float { wide: false, .. } => Scalar::Float,
        Kind::Float { wide: true, .. } | Kind::DecimalDouble { .. } => Scalar::Double,
        Kind::Text | Kind::DecimalWord => Scalar::Text,
        Kind::Bytes(_) => Scalar::Bytes,
        Kind::Decimal { .. } | Kind::VariableDecimal { .. } => return (Scalar::Decimal, false),
        Kind::Date { iso: false, .. } => Scalar::Date,
        Kind::Date { iso: true, .. } => Scalar::IsoDate,
        Kind::Time(unit) => Scalar::Time(*unit),
        Kind::Timestamp { unit, .. } => Scalar::Timestamp(*unit),
        Kind::TimeTz => Scalar::TimeTz,
        Kind::TimestampTz { digits } => Scalar::TimestampTz { digits: *digits },
        Kind::BitBool
        | Kind::Bits
        | Kind::Money(_)
        | Kind::Interval { .. }
        | Kind::Hstore(_)
        | Kind::Point { .. }
        | Kind::Geometry
        | Kind::Vector { .. }
        | Kind::SparseVector { .. }
        | Kind::Array { .. } => return (Scalar::Text, false),
    };
    (scalar, true)
}

impl Scalar {
    /// Protobuf's word, and the name of the message for arrays of it.
    pub(super) fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Bool => ("bool", "BoolArray"),
            Self::Int32 | Self::Date | Self::Time(Unit::Millis) => ("int32", "Int32Array"),
            Self::Int64
            | Self::Time(Unit::Micros | Unit::Nanos)
            | Self::Timestamp(Unit::Millis | Unit::Micros | Unit::Nanos) => ("int64", "Int64Array"),
            Self::Float => ("float", "FloatArray"),
            Self::Double => ("double", "DoubleArray"),
            Self::Text
            | Self::IsoDate
            | Self::Time(Unit::Iso)
            | Self::Timestamp(Unit::Iso)
            | Self::TimeTz
            | Self::TimestampTz { .. } => ("string", "StringArray"),
            Self::Bytes => ("bytes", "BytesArray"),
            Self::Decimal => ("Decimal", "DecimalArray"),
        }
    }
}

impl Form {
    /// Protobuf's word for the type of the field.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Scalar(scalar) => scalar.words().0,
            Self::Array { element, .. } => element.words().1,
        }
    }
}
