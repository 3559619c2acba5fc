//! How a type is rendered under a format's style.

use config::{Binary, FormatOptions, Special};
use wal::types::{Kind, Type, oid};

/// What a format wants of values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Numbers and booleans without quotes.
    pub(crate) is_bare: bool,
    /// `json` as the value that it is, and arrays as JSON arrays.
    pub(crate) nests: bool,
    pub(crate) moments: Moments,
    /// Offsets of `timetz` as `+hh:mm`.
    pub(crate) pads_offsets: bool,
    pub(crate) binary: Binary,
    pub(crate) special: Special,
}

/// How dates and times are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Moments {
    /// `yyyy-MM-dd HH:mm:ss[.ffffff]`; of `timestamptz` in UTC, and with a final `Z` where that is said.
    Sql { zulu: bool },
    /// `yyyy-MM-ddTHH:mm:ss.fffffffff`; of `timestamptz` in UTC with a final `Z`. Dates, too, have a
    /// time of day where that is said.
    Iso { dates: bool },
}

/// The rendering of a value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Rendering {
    /// The server's text as a string.
    Text,
    /// NaN and the infinities are strings.
    Number {
        is_bare: bool,
    },
    Numeric {
        is_bare: bool,
        special: Special,
    },
    Bool {
        is_bare: bool,
    },
    Bytes(Binary),
    Date {
        moments: Moments,
        special: Special,
    },
    TimeTz,
    Timestamp {
        moments: Moments,
        special: Special,
    },
    TimestampTz {
        moments: Moments,
        special: Special,
    },
    Json,
    Array {
        element: Box<Self>,
        delimiter: u8,
    },
}

impl Style {
    /// The style that all of these formats begin with, with what the options say.
    pub(crate) fn new(options: &FormatOptions, moments: Moments) -> Self {
        Self {
            is_bare: false,
            nests: false,
            moments,
            pads_offsets: true,
            binary: options.binary,
            special: options.special_values,
        }
    }

    /// How values of the type are rendered. Domains are rendered as their base type: `t` of a domain
    /// over `bool` would read as false.
    pub(crate) fn rendering(&self, type_: &Type) -> Rendering {
        match &type_.kind {
            Kind::Base => self.base(type_.oid),
            Kind::Domain { base, .. } => self.rendering(base),
            Kind::Array { element, delimiter } if self.nests && is_simple(element) => {
                let element = Box::new(self.rendering(element));
                Rendering::Array { element, delimiter: *delimiter }
            }
            Kind::Array { .. }
            | Kind::Enum { .. }
            | Kind::Composite { .. }
            | Kind::Range { .. }
            | Kind::Multirange { .. }
            | Kind::Unknown => Rendering::Text,
        }
    }

    fn base(&self, oid: u32) -> Rendering {
        let Self { is_bare, moments, special, .. } = *self;
        match oid {
            oid::BOOL => Rendering::Bool { is_bare },
            oid::INT2 | oid::INT4 | oid::INT8 | oid::OID | oid::FLOAT4 | oid::FLOAT8 => {
                Rendering::Number { is_bare }
            }
            oid::NUMERIC => Rendering::Numeric { is_bare, special },
            oid::BYTEA => Rendering::Bytes(self.binary),
            oid::DATE => Rendering::Date { moments, special },
            oid::TIMESTAMP => Rendering::Timestamp { moments, special },
            oid::TIMESTAMPTZ => Rendering::TimestampTz { moments, special },
            oid::TIMETZ if self.pads_offsets => Rendering::TimeTz,
            oid::JSON | oid::JSONB if self.nests => Rendering::Json,
            _ => Rendering::Text,
        }
    }
}

/// Whether arrays of the type are JSON arrays.
fn is_simple(element: &Type) -> bool {
    match &element.kind {
        Kind::Base | Kind::Enum { .. } => true,
        Kind::Domain { base, .. } => is_simple(base),
        Kind::Array { .. }
        | Kind::Composite { .. }
        | Kind::Range { .. }
        | Kind::Multirange { .. }
        | Kind::Unknown => false,
    }
}
