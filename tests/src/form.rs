//! How values of a column are compared: one canonical text, which the server makes from the stored
//! value by SQL, and [`crate::decode`] from what arrived in Kafka by the rules of Debezium's
//! format.
//!
//! The arithmetic is the server's own (days, microseconds, months): nothing here is shared with the
//! product's encoder.

use serde_json::Value;

/// What a column's type becomes in Debezium JSON under the default options.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Form {
    Bool,
    /// `bit(1)`.
    BitBool,
    /// Integers of all widths and OIDs.
    Integer,
    Float,
    /// The server's text.
    Text,
    /// `bytea`.
    Bytes,
    Bits,
    /// `numeric(p,s)`.
    Decimal {
        scale: i32,
    },
    /// Plain `numeric`.
    Number,
    Money,
    Date,
    /// Time of day; whether in milliseconds.
    Clock {
        millis: bool,
    },
    ClockZone,
    Moment {
        millis: bool,
    },
    /// Digits of the fraction.
    MomentZone {
        digits: usize,
    },
    Interval,
    Point,
    Array {
        element: Box<Form>,
        composite: bool,
    },
}

/// A type as the catalog has it, domains resolved.
#[derive(Clone, Copy, Debug)]
pub struct CatalogType<'a> {
    pub name: &'a str,
    /// `atttypmod`; -1: none.
    pub modifier: i32,
}

impl Form {
    /// The form of a type of `pg_catalog` that is no array.
    #[must_use]
    pub fn of(type_: CatalogType<'_>) -> Self {
        let CatalogType { name, modifier } = type_;
        let millis = (0..=3).contains(&modifier);
        match name {
            "bool" => Self::Bool,
            "int2" | "int4" | "int8" | "oid" => Self::Integer,
            "float4" | "float8" => Self::Float,
            "bytea" => Self::Bytes,
            "bit" | "varbit" if modifier == 1 => Self::BitBool,
            "bit" | "varbit" => Self::Bits,
            "numeric" if modifier < 4 => Self::Number,
            "numeric" => {
                // From 15 on the scale has eleven bits and a sign.
                let scale = (modifier - 4) & 0x7FF;
                Self::Decimal { scale: if scale < 1024 { scale } else { scale - 2048 } }
            }
            "money" => Self::Money,
            "date" => Self::Date,
            "time" => Self::Clock { millis },
            "timetz" => Self::ClockZone,
            "timestamp" => Self::Moment { millis },
            "timestamptz" => Self::MomentZone {
                digits: usize::try_from(modifier).map_or(6, |digits| digits.min(6)),
            },
            "interval" => Self::Interval,
            "point" => Self::Point,
            _ => Self::Text,
        }
    }

    /// SQL that turns the value `v` into what [`Self::canonical`] takes.
    #[must_use]
    pub fn expression(&self, v: &str) -> String {
        // The type's output function, which `::text` is not for inet, bool and bpchar; `IS NULL`
        // would be true for a composite value of nulls.
        let output = format!("CASE WHEN num_nulls({v}) = 1 THEN NULL ELSE format('%s', {v}) END");
        let micros_of_day = format!(
            "(extract(hour FROM {v})::bigint * 3600 + extract(minute FROM {v})::bigint * 60) * \
             1000000 \
             + extract(microseconds FROM {v})::bigint"
        );
        match self {
            Self::Bool
            | Self::BitBool
            | Self::Integer
            | Self::Float
            | Self::Text
            | Self::Bytes
            | Self::Bits
            | Self::Decimal { .. }
            | Self::Number => output,
            Self::Money => format!("({v})::numeric::text"),
            Self::Date => format!(
                "CASE WHEN isfinite({v}) THEN ({v} - date '1970-01-01')::text ELSE ({v})::text END"
            ),
            Self::Clock { millis } => format!("(({micros_of_day}) / {})::text", unit(*millis)),
            Self::ClockZone => format!("(({v}) AT TIME ZONE 'UTC')::time::text"),
            Self::Moment { millis } => moment(v, v, unit(*millis)),
            Self::MomentZone { .. } => moment(v, &format!("(({v}) AT TIME ZONE 'UTC')"), 1),
            Self::Interval => format!(
                "((extract(year FROM {v})::bigint * 12 + extract(month FROM {v})::bigint) * \
                 2629800000000 \
                 + extract(day FROM {v})::bigint * 86400000000 + {micros_of_day})::text"
            ),
            Self::Point => format!("(({v})[0])::text || ',' || (({v})[1])::text"),
            Self::Array { element, composite } => array(v, element, *composite),
        }
    }

    /// The canonical text of what the server returned for [`Self::expression`].
    ///
    /// # Panics
    /// When the server returned something that is no value of the type.
    #[must_use]
    pub fn canonical(&self, text: &str) -> String {
        match self {
            Self::Float => float(text),
            Self::Number => plain(text),
            Self::Bits => text.trim_start_matches('0').to_owned(),
            Self::Point => {
                let (x, y) = text.split_once(',').expect("two coordinates");
                format!("{},{}", float(x), float(y))
            }
            Self::Array { element, .. } => {
                let parts: Value = serde_json::from_str(text).expect("JSON");
                let dimensions = parts["d"].as_array().map_or(&[][..], Vec::as_slice);
                let items = parts["i"].as_array().map_or(&[][..], Vec::as_slice);
                let lengths = dimensions.iter().filter_map(Value::as_u64).collect::<Vec<_>>();
                let items: Vec<_> = items
                    .iter()
                    .map(|item| item.as_str().map(|item| element.canonical(item)))
                    .collect();
                array_text(&lengths, &items)
            }
            Self::Bool
            | Self::BitBool
            | Self::Integer
            | Self::Text
            | Self::Bytes
            | Self::Decimal { .. }
            | Self::Money
            | Self::Date
            | Self::Clock { .. }
            | Self::ClockZone
            | Self::Moment { .. }
            | Self::MomentZone { .. }
            | Self::Interval => text.to_owned(),
        }
    }
}

/// Lengths and items of an array, as both sides write them.
pub(crate) fn array_text(lengths: &[u64], items: &[Option<String>]) -> String {
    format!("{lengths:?}{items:?}")
}

/// A float by its bits.
///
/// # Panics
/// When the text is no number.
#[must_use]
pub fn float(text: &str) -> String {
    match text {
        "NaN" | "Infinity" | "-Infinity" => text.into(),
        _ => format!("{:?}", text.parse::<f64>().expect("a number")),
    }
}

/// A decimal without trailing zeros of the fraction.
pub(crate) fn plain(text: &str) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text.to_owned()
    }
}

fn unit(millis: bool) -> u32 {
    if millis { 1000 } else { 1 }
}

/// Microseconds since 1970, exactly also on 11, whose `extract` counts in floats.
fn moment(v: &str, utc: &str, unit: u32) -> String {
    format!(
        "CASE WHEN isfinite({v}) THEN ((extract(epoch FROM date_trunc('second', {utc}))::bigint * \
         1000000 \
         + extract(microseconds FROM {utc})::bigint % 1000000) / {unit})::text ELSE ({v})::text END"
    )
}

fn array(v: &str, element: &Form, composite: bool) -> String {
    // `unnest` would take a composite element apart.
    let items = if composite {
        let item = element.expression(&format!("({v})[i]"));
        format!("SELECT json_agg({item} ORDER BY i) FROM generate_subscripts({v}, 1) AS i")
    } else {
        let item = element.expression("e");
        format!("SELECT json_agg({item} ORDER BY o) FROM unnest({v}) WITH ORDINALITY AS u(e, o)")
    };
    format!(
        "CASE WHEN num_nulls({v}) = 1 THEN NULL ELSE json_build_object('d', (SELECT \
         json_agg(array_length({v}, d)) FROM generate_series(1, array_ndims({v})) AS d), 'i', \
         ({items}))::text END"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modifiers_decide_the_form() {
        let form = |name, modifier| Form::of(CatalogType { name, modifier });
        // numeric(12,2): ((12 << 16) | 2) + 4
        assert_eq!(form("numeric", 786_438), Form::Decimal { scale: 2 });
        assert_eq!(form("numeric", ((5 << 16) | (0x7FF & -2)) + 4), Form::Decimal { scale: -2 });
        assert_eq!(form("numeric", -1), Form::Number);
        assert_eq!(form("timestamp", 3), Form::Moment { millis: true });
        assert_eq!(form("timestamp", -1), Form::Moment { millis: false });
        assert_eq!(form("timestamptz", 0), Form::MomentZone { digits: 0 });
        assert_eq!(form("bit", 1), Form::BitBool);
        assert_eq!(form("tsvector", -1), Form::Text);
    }

    #[test]
    fn trailing_zeros_do_not_count() {
        assert_eq!(plain("123.4500"), "123.45");
        assert_eq!(plain("1000"), "1000");
        assert_eq!(plain("0.000"), "0");
        assert_eq!(plain("NaN"), "NaN");
    }
}
