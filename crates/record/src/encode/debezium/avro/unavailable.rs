//! What stands for a value that was not logged.

use super::super::kind::Kind;
use super::super::values;
use super::value::Written;
use crate::encode::{ValueError, avro, bytea};
use config::{Binary, Hstore};

/// Writes the placeholder as Debezium does: as text, as bytes, or as the bytes' numbers. Where the type has
/// room for none of these, `strict` is null.
///
/// # Errors
/// Where it is not.
pub(super) fn write(
    kind: &Kind,
    placeholder: &str,
    strict: bool,
    out: &mut Vec<u8>,
) -> Result<Written, ValueError> {
    match kind {
        Kind::Text | Kind::DecimalWord => avro::string(placeholder, out),
        Kind::Hstore(Hstore::Map) => {
            avro::long(1, out);
            avro::string(placeholder, out);
            avro::long(1, out);
            avro::string(placeholder, out);
            avro::long(0, out);
        }
        Kind::Hstore(Hstore::Json) => {
            let mut pair = Vec::new();
            values::pair(placeholder, &mut pair);
            avro::bytes(&pair, out);
        }
        Kind::Bytes(Binary::Bytes) | Kind::Bits => avro::string(placeholder, out),
        Kind::Bytes(mode) => {
            let mut quoted = Vec::new();
            bytea::write_bytes(placeholder.as_bytes(), *mode, &mut quoted);
            avro::bytes(&quoted[1..quoted.len() - 1], out);
        }
        Kind::Array { element, .. } if **element == Kind::Integer => {
            avro::length(placeholder.len(), out);
            for byte in placeholder.bytes() {
                avro::long(1, out);
                avro::long(i64::from(byte.cast_signed()), out);
            }
            avro::long(0, out);
        }
        Kind::Array { element, .. } => {
            avro::long(1, out);
            let start = out.len();
            avro::long(1, out);
            if write(element, placeholder, strict, out)? == Written::Null {
                out.truncate(start);
                avro::long(0, out);
            }
            avro::long(0, out);
        }
        Kind::Bool
        | Kind::BitBool
        | Kind::Integer
        | Kind::Float { .. }
        | Kind::Decimal { .. }
        | Kind::VariableDecimal { .. }
        | Kind::DecimalDouble { .. }
        | Kind::Money(_)
        | Kind::Date { .. }
        | Kind::Time(_)
        | Kind::Timestamp { .. }
        | Kind::TimeTz
        | Kind::TimestampTz { .. }
        | Kind::Interval { .. }
        | Kind::Point { .. }
        | Kind::Geometry
        | Kind::Vector { .. }
        | Kind::SparseVector { .. } => {
            return if strict {
                Ok(Written::Null)
            } else {
                Err(ValueError::OutOfRange(values::UNAVAILABLE))
            };
        }
    }
    Ok(Written::Value)
}
