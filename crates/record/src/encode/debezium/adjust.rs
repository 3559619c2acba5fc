//! Names as Avro allows them, by Debezium's rules (`SchemaNameAdjuster` and its replacement functions).
//!
//! They are rules of Java: a character beyond U+FFFF counts as two.

use crate::naming;
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
        NameAdjustment::Escape => return escaped(name, dots),
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
            // Only of fields: so does Debezium.
            Ok(byte) if at == 0 && !dots && byte.is_ascii_digit() => {
                out.extend(['_', char::from(byte)]);
            }
            _ => out.push('_'),
        }
    }
    Cow::Owned(out)
}

/// Our own, which can be read back whatever the name (`naming::restore`); Debezium's two cannot.
fn escaped(name: &str, dots: bool) -> Cow<'_, str> {
    let mut out = String::with_capacity(name.len());
    let allowed = |at: usize, character: char| match character {
        '.' => dots && 0 < at,
        '_' => true,
        '0'..='9' => 0 < at,
        other => other.is_ascii_alphabetic(),
    };
    naming::escape(name, allowed, &mut out);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_escaped_name_is_avro_s_and_comes_back(name in "([a-z_xA-F0-9.]|\\PC){1,20}") {
            let field = field_name(&name, NameAdjustment::Escape);
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            prop_assert!(field.bytes().all(plain) && !field.as_bytes()[0].is_ascii_digit());
            prop_assert_eq!(naming::restore(&field), name.as_str());
        }

        #[test]
        fn no_two_names_have_one_escaped_name(a in "[_xu0-9A-F.é]{1,12}", b in "[_xu0-9A-F.é]{1,12}") {
            let field = |name| field_name(name, NameAdjustment::Escape).into_owned();
            prop_assert_eq!(a == b, field(&a) == field(&b));
        }
    }

    #[test]
    fn names_are_what_debezium_makes_of_them() {
        let schema = |name, mode| schema_name(name, mode).into_owned();
        let field = |name, mode| field_name(name, mode).into_owned();
        let (avro, unicode) = (NameAdjustment::Avro, NameAdjustment::AvroUnicode);
        assert_eq!(schema("a.b-c.Größe", avro), "a.b_c.Gr__e");
        assert_eq!(schema("1.b", avro), "_.b");
        assert_eq!(schema("a_b.c-d", unicode), "a_u005fb.c_u002dd");
        assert_eq!(field("a.b", avro), "a_b");
        assert_eq!(field("1b", avro), "_1b");
        assert_eq!(field("1b", unicode), "_u0031b");
        assert_eq!(field("a.b", unicode), "a_u002eb");
        assert_eq!(field("α\t😀", unicode), "_u3b1_u009_ud83d_ude00");
        assert_eq!(field("😀", avro), "__");
        assert_eq!(field("Größe", NameAdjustment::None), "Größe");
    }
}
