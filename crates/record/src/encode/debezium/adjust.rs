//! Names as Avro allows them, by Debezium's rules (`SchemaNameAdjuster` and its replacement functions).
//!
//! They are rules of Java: a character beyond U+FFFF counts as two.

use config::NameAdjustment;
use std::borrow::Cow;
use std::fmt::Write as _;

/// The name of a schema: parts joined by dots.
pub(super) fn schema_name(name: &str, mode: NameAdjustment) -> Cow<'_, str> {
    adjusted(name, mode, true)
}

/// The name of a field.
pub(crate) fn field_name(name: &str, mode: NameAdjustment) -> Cow<'_, str> {
    adjusted(name, mode, false)
}

fn adjusted(name: &str, mode: NameAdjustment, dots: bool) -> Cow<'_, str> {
    let (underscore, unicode) = match mode {
        NameAdjustment::None => return Cow::Borrowed(name),
        NameAdjustment::Avro => (true, false),
        // The underscore is what escapes begin with.
        NameAdjustment::AvroUnicode => (false, true),
    };
    let valid = |at: usize, unit: u16| match u8::try_from(unit) {
        Ok(b'.') => 0 < at && dots,
        Ok(b'_') => underscore,
        Ok(byte) => byte.is_ascii_alphabetic() || (0 < at && byte.is_ascii_digit()),
        Err(_) => false,
    };
    let mut out = String::with_capacity(name.len());
    for (at, unit) in name.encode_utf16().enumerate() {
        match u8::try_from(unit) {
            Ok(byte) if valid(at, unit) => out.push(char::from(byte)),
            // Two digits are filled up to four, and one to three: so does Debezium.
            _ if unicode && unit < 0x100 => drop(write!(out, "_u00{unit:x}")),
            _ if unicode => drop(write!(out, "_u{unit:x}")),
            _ => out.push('_'),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_debezium_makes_of_them() {
        let schema = |name, mode| schema_name(name, mode).into_owned();
        let field = |name, mode| field_name(name, mode).into_owned();
        let (avro, unicode) = (NameAdjustment::Avro, NameAdjustment::AvroUnicode);
        assert_eq!(schema("a.b-c.Größe", avro), "a.b_c.Gr__e");
        assert_eq!(schema("1.b", avro), "_.b");
        assert_eq!(schema("a_b.c-d", unicode), "a_u005fb.c_u002dd");
        assert_eq!(field("a.b", avro), "a_b");
        assert_eq!(field("a.b", unicode), "a_u002eb");
        assert_eq!(field("α\t😀", unicode), "_u3b1_u009_ud83d_ude00");
        assert_eq!(field("😀", avro), "__");
        assert_eq!(field("Größe", NameAdjustment::None), "Größe");
    }
}
