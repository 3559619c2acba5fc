//! How a type is rendered under the task's options (formats/debezium.md, section 2).

use super::schema::Schema;
use config::{Binary, Decimal, Fidelity, FormatOptions, Hstore, Interval, NumericScale, Time};
use wal::types::{Kind as TypeKind, Type, oid};

/// What is written of a value for which Debezium's rendering has no room: NaN as a decimal, an infinite date as a number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Beyond {
    /// What Debezium makes of it: null, or its overflow.
    Strict,
    /// The server's text.
    Text,
    /// Nothing, because a schema beside it says that a number comes: Kafka Connect's JSON converter reads 0 out of a text there.
    Refused,
}

impl Beyond {
    pub(super) fn of(options: &FormatOptions) -> Self {
        match (options.compat, options.schemas) {
            (Fidelity::Strict, _) => Self::Strict,
            (Fidelity::Lossless, false) => Self::Text,
            (Fidelity::Lossless, true) => Self::Refused,
        }
    }
}

/// The rendering of a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Bool,
    /// `bit(1)`.
    BitBool,
    /// The server's digits are JSON already.
    Integer,
    /// Of eight bytes, or of four.
    Float {
        wide: bool,
        beyond: Beyond,
    },
    Text,
    Bytes(Binary),
    Bits,
    /// Unscaled value of a fixed scale.
    Decimal {
        scale: i32,
        beyond: Beyond,
    },
    VariableDecimal {
        beyond: Beyond,
        scale: NumericScale,
    },
    DecimalDouble {
        beyond: Beyond,
    },
    /// As text, with Debezium's words for what is no number.
    DecimalWord,
    Money(Decimal),
    Date {
        iso: bool,
        beyond: Beyond,
    },
    Time(Unit),
    Timestamp {
        unit: Unit,
        beyond: Beyond,
    },
    TimeTz,
    /// Fraction digits are padded to the precision of the column.
    TimestampTz {
        digits: u8,
    },
    Interval {
        mode: Interval,
        beyond: Beyond,
    },
    Hstore(Hstore),
    Point {
        beyond: Beyond,
    },
    Geometry,
    /// Of numbers of eight bytes, or of four.
    Vector {
        wide: bool,
    },
    SparseVector {
        /// Its numbers of dimensions must fit 16 bits.
        is_narrow: bool,
    },
    Array {
        element: Box<Kind>,
        delimiter: u8,
        /// It must have one dimension at most.
        is_flat: bool,
    },
}

/// Unit of a time or timestamp.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unit {
    Millis,
    Micros,
    Nanos,
    Iso,
}

/// A rendering and the schema that announces it.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub(crate) kind: Kind,
    pub(crate) schema: Schema,
}

fn described(kind: Kind, schema: Schema) -> Option<Described> {
    Some(Described { kind, schema })
}

/// How values of the type are rendered; `None`: left out of the row, as Debezium does, under
/// `compat: strict`.
pub(crate) fn describe(type_: &Type, modifier: i32, options: &FormatOptions) -> Option<Described> {
    let strict = options.compat == Fidelity::Strict;
    match &type_.kind {
        TypeKind::Base => base(type_, modifier, options),
        TypeKind::Array { element, delimiter } => {
            if strict && strict_leaves_out_arrays_of(element) {
                return None;
            }
            let item = describe(element, modifier, options)?;
            let element = Box::new(item.kind);
            let schema = Schema::array(&item.schema);
            let (delimiter, is_flat) = (*delimiter, options.schemas);
            described(Kind::Array { element, delimiter, is_flat }, schema)
        }
        TypeKind::Enum { labels } => {
            let schema = Schema::named("string", "io.debezium.data.Enum");
            described(Kind::Text, schema.parameter("allowed", labels.join(",")))
        }
        TypeKind::Domain { base, type_modifier } => describe(base, *type_modifier, options),
        TypeKind::Range { .. } if !strict || BUILT_IN_RANGES.contains(&type_.oid) => text(),
        // The server's text: Debezium has no rendering for these.
        TypeKind::Range { .. }
        | TypeKind::Composite { .. }
        | TypeKind::Multirange { .. }
        | TypeKind::Unknown => (!strict).then(text).flatten(),
    }
}

/// int4range, numrange, tsrange, tstzrange, daterange, int8range.
const BUILT_IN_RANGES: [u32; 6] = [3904, 3906, 3908, 3910, 3912, 3926];
const MACADDR8: u32 = 774;

fn strict_leaves_out_arrays_of(element: &Type) -> bool {
    [oid::MONEY, oid::NAME, oid::INTERVAL, oid::VARBIT, oid::XML, oid::POINT].contains(&element.oid)
}

fn text() -> Option<Described> {
    described(Kind::Text, Schema::of("string"))
}

fn text_named(name: &'static str) -> Option<Described> {
    described(Kind::Text, Schema::named("string", name))
}

fn base(type_: &Type, modifier: i32, options: &FormatOptions) -> Option<Described> {
    let beyond = Beyond::of(options);
    match type_.oid {
        oid::BOOL => described(Kind::Bool, Schema::of("boolean")),
        oid::BIT | oid::VARBIT => bits(modifier),
        oid::INT2 => described(Kind::Integer, Schema::of("int16")),
        oid::INT4 => described(Kind::Integer, Schema::of("int32")),
        oid::INT8 | oid::OID => described(Kind::Integer, Schema::of("int64")),
        oid::FLOAT4 => described(Kind::Float { wide: false, beyond }, Schema::of("float")),
        oid::FLOAT8 => described(Kind::Float { wide: true, beyond }, Schema::of("double")),
        oid::NUMERIC => numeric(modifier, options),
        oid::MONEY => described(Kind::Money(options.decimal), money_schema(options.decimal)),
        oid::BYTEA => described(Kind::Bytes(options.binary), bytes_schema(options.binary)),
        oid::DATE => Some(date(options)),
        oid::TIME => Some(time(modifier, options)),
        oid::TIMESTAMP => Some(timestamp(modifier, options)),
        oid::TIMETZ => {
            described(Kind::TimeTz, Schema::named("string", "io.debezium.time.ZonedTime"))
        }
        oid::TIMESTAMPTZ => {
            let digits = u8::try_from(modifier).unwrap_or(6).min(6);
            let schema = Schema::named("string", "io.debezium.time.ZonedTimestamp");
            described(Kind::TimestampTz { digits }, schema)
        }
        oid::INTERVAL => Some(interval(options)),
        oid::JSON | oid::JSONB => text_named("io.debezium.data.Json"),
        oid::XML => text_named("io.debezium.data.Xml"),
        oid::UUID => text_named("io.debezium.data.Uuid"),
        oid::TSVECTOR => text_named("io.debezium.data.Tsvector"),
        oid::POINT => described(Kind::Point { beyond }, Schema::point()),
        oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME | oid::CHAR => text(),
        oid::INET | oid::CIDR | oid::MACADDR | MACADDR8 => text(),
        _ => extension(type_, options),
    }
}

/// Extension types have another OID in every database.
fn extension(type_: &Type, options: &FormatOptions) -> Option<Described> {
    let vector = |name, item| {
        let kind = Kind::Vector { wide: item == "double" };
        described(kind, Schema::array(&Schema::of(item)).with_name(name))
    };
    match &*type_.name {
        "citext" | "isbn" => text(),
        "ltree" => text_named("io.debezium.data.Ltree"),
        "hstore" => described(
            Kind::Hstore(options.hstore),
            match options.hstore {
                Hstore::Json => Schema::named("string", "io.debezium.data.Json"),
                Hstore::Map => Schema::string_map(),
            },
        ),
        "geometry" => described(Kind::Geometry, Schema::geometry("Geometry")),
        "geography" => described(Kind::Geometry, Schema::geometry("Geography")),
        "vector" => vector("io.debezium.data.DoubleVector", "double"),
        "halfvec" => vector("io.debezium.data.FloatVector", "float"),
        "sparsevec" => {
            let kind = Kind::SparseVector { is_narrow: options.schemas };
            described(kind, Schema::sparse_vector())
        }
        _ => (options.compat == Fidelity::Lossless).then(text).flatten(),
    }
}

/// The modifier of bit strings is their length.
fn bits(modifier: i32) -> Option<Described> {
    if modifier == 1 {
        return described(Kind::BitBool, Schema::of("boolean"));
    }
    let length = if modifier < 1 { i32::MAX } else { modifier };
    let schema = Schema::named("bytes", "io.debezium.data.Bits");
    described(Kind::Bits, schema.parameter("length", length.to_string()))
}

/// Precision and scale of `numeric(p,s)`; `None`: plain `numeric` (`numeric_typmod_scale` in
/// PostgreSQL's numeric.c; the scale may be negative from 15 on).
fn precision_and_scale(modifier: i32) -> Option<(i32, i32)> {
    let packed = modifier.checked_sub(4).filter(|&packed| 0 <= packed)?;
    Some(((packed >> 16) & 0xFFFF, ((packed & 0x7FF) ^ 1024) - 1024))
}

fn numeric(modifier: i32, options: &FormatOptions) -> Option<Described> {
    let beyond = Beyond::of(options);
    match (options.decimal, precision_and_scale(modifier)) {
        (Decimal::Double, _) => described(Kind::DecimalDouble { beyond }, Schema::of("double")),
        (Decimal::String, _) if beyond == Beyond::Strict => {
            described(Kind::DecimalWord, Schema::of("string"))
        }
        (Decimal::String, _) => text(),
        (Decimal::Precise | Decimal::Bytes, Some((precision, scale))) => {
            let schema = Schema::named("bytes", "org.apache.kafka.connect.data.Decimal")
                .parameter("scale", scale.to_string())
                .parameter("connect.decimal.precision", precision.to_string());
            described(Kind::Decimal { scale, beyond }, schema)
        }
        (Decimal::Precise | Decimal::Bytes, None) => {
            let scale = options.numeric_scale;
            described(Kind::VariableDecimal { beyond, scale }, Schema::variable_decimal())
        }
    }
}

fn money_schema(decimal: Decimal) -> Schema {
    match decimal {
        Decimal::Precise | Decimal::Bytes => {
            Schema::named("bytes", "org.apache.kafka.connect.data.Decimal")
                .parameter("scale", "2".into())
        }
        Decimal::Double => Schema::of("double"),
        Decimal::String => Schema::of("string"),
    }
}

fn bytes_schema(binary: Binary) -> Schema {
    match binary {
        Binary::Bytes => Schema::of("bytes"),
        Binary::Base64 | Binary::Base64UrlSafe | Binary::Hex | Binary::Latin1 => {
            Schema::of("string")
        }
    }
}

fn date(options: &FormatOptions) -> Described {
    let beyond = Beyond::of(options);
    let (iso, schema) = match options.time {
        Time::Isostring => (true, Schema::named("string", "io.debezium.time.IsoDate")),
        Time::Connect => (false, Schema::named("int32", "org.apache.kafka.connect.data.Date")),
        Time::Adaptive
        | Time::AdaptiveTimeMicroseconds
        | Time::Microseconds
        | Time::Nanoseconds => (false, Schema::named("int32", "io.debezium.time.Date")),
    };
    Described { kind: Kind::Date { iso, beyond }, schema }
}

/// Whether the modifier says milliseconds or coarser.
fn coarse(modifier: i32) -> bool {
    (0..=3).contains(&modifier)
}

fn time(modifier: i32, options: &FormatOptions) -> Described {
    let (unit, type_, name) = match options.time {
        Time::Adaptive if coarse(modifier) => (Unit::Millis, "int32", "io.debezium.time.Time"),
        Time::Adaptive | Time::AdaptiveTimeMicroseconds | Time::Microseconds => {
            (Unit::Micros, "int64", "io.debezium.time.MicroTime")
        }
        Time::Connect => (Unit::Millis, "int32", "org.apache.kafka.connect.data.Time"),
        Time::Isostring => (Unit::Iso, "string", "io.debezium.time.IsoTime"),
        Time::Nanoseconds => (Unit::Nanos, "int64", "io.debezium.time.NanoTime"),
    };
    Described { kind: Kind::Time(unit), schema: Schema::named(type_, name) }
}

fn timestamp(modifier: i32, options: &FormatOptions) -> Described {
    let beyond = Beyond::of(options);
    let (unit, type_, name) = match options.time {
        Time::Adaptive | Time::AdaptiveTimeMicroseconds if coarse(modifier) => {
            (Unit::Millis, "int64", "io.debezium.time.Timestamp")
        }
        Time::Adaptive | Time::AdaptiveTimeMicroseconds | Time::Microseconds => {
            (Unit::Micros, "int64", "io.debezium.time.MicroTimestamp")
        }
        Time::Connect => (Unit::Millis, "int64", "org.apache.kafka.connect.data.Timestamp"),
        Time::Isostring => (Unit::Iso, "string", "io.debezium.time.IsoTimestamp"),
        Time::Nanoseconds => (Unit::Nanos, "int64", "io.debezium.time.NanoTimestamp"),
    };
    Described { kind: Kind::Timestamp { unit, beyond }, schema: Schema::named(type_, name) }
}

fn interval(options: &FormatOptions) -> Described {
    let (mode, beyond) = (options.interval, Beyond::of(options));
    let schema = match mode {
        Interval::Numeric => Schema::named("int64", "io.debezium.time.MicroDuration"),
        Interval::String => Schema::named("string", "io.debezium.time.Interval"),
    };
    Described { kind: Kind::Interval { mode, beyond }, schema }
}
