//! Names and literals in SQL text. The only place where a name becomes SQL.
//!
//! Source: PostgreSQL, "Lexical Structure", sections 4.1.1 and 4.1.2. Values that a statement takes
//! as parameters never come here; utility statements take none.

use crate::Error;

/// Longest name of an object: `NAMEDATALEN` of a server as it is built everywhere, less one.
const NAME_BYTES_MAX: usize = 63;

/// A name as SQL identifier, always quoted: no keyword, no letter case, no character is special.
///
/// # Errors
/// When no object can have this name: it is empty, too long or has a NUL. The server would cut a
/// long name and mean another object.
pub fn identifier(name: &str) -> Result<String, Error> {
    let refused = |why: &str| Err(Error::Config(format!("`{name}` is no SQL name: {why}")));
    if name.is_empty() {
        return refused("it is empty");
    }
    if name.contains('\0') {
        return refused("it has a NUL character");
    }
    if NAME_BYTES_MAX < name.len() {
        return refused(&format!("it is longer than {NAME_BYTES_MAX} bytes"));
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

/// `"schema"."name"`.
///
/// # Errors
/// As [`identifier`], for either part.
pub fn qualified(schema: &str, name: &str) -> Result<String, Error> {
    Ok(format!("{}.{}", identifier(schema)?, identifier(name)?))
}

/// Names with commas between them, e.g. a column list.
///
/// # Errors
/// As [`identifier`], for any of them.
pub fn identifiers<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<String, Error> {
    let quoted = names.into_iter().map(identifier).collect::<Result<Vec<_>, _>>()?;
    Ok(quoted.join(", "))
}

/// Text as SQL literal, whatever `standard_conforming_strings` says.
///
/// # Errors
/// When it has a NUL character, which no value of the server can have.
pub fn literal(text: &str) -> Result<String, Error> {
    if text.contains('\0') {
        return Err(Error::Config("a value with a NUL character cannot be sent".into()));
    }
    let quoted = text.replace('\'', "''");
    Ok(if quoted.contains('\\') {
        format!(" E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    })
}

/// A name for people who will paste it into SQL: quoted where it must be.
#[must_use]
pub fn readable(schema: &str, name: &str) -> String {
    format!("{}.{}", readable_part(schema), readable_part(name))
}

/// One part of [`readable`].
#[must_use]
pub fn readable_part(name: &str) -> String {
    let is_plain = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && name.chars().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_');
    // Keywords are not known here; quotes do them no harm either, and they are rare.
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        assert_eq!(identifier("orders").unwrap(), "\"orders\"");
        assert_eq!(identifier("Grüße").unwrap(), "\"Grüße\"");
        assert_eq!(identifier("a\"; DROP TABLE b; --").unwrap(), "\"a\"\"; DROP TABLE b; --\"");
        assert_eq!(qualified("s.t", "x").unwrap(), "\"s.t\".\"x\"");
        assert_eq!(identifiers(["a", "b\"c"]).unwrap(), "\"a\", \"b\"\"c\"");
    }

    #[test]
    fn what_no_object_can_be_named_is_refused() {
        for name in ["", "a\0b", &"x".repeat(64), &"ü".repeat(32)] {
            assert!(matches!(identifier(name), Err(Error::Config(_))), "{name:?}");
        }
        assert!(identifier(&"x".repeat(63)).is_ok());
        assert!(qualified("a", "").is_err());
    }

    #[test]
    fn a_literal_cannot_leave_its_quotes() {
        assert_eq!(literal("00000003-1").unwrap(), "'00000003-1'");
        assert_eq!(literal("it's").unwrap(), "'it''s'");
        assert_eq!(literal("\\'; DROP").unwrap(), " E'\\\\''; DROP'");
        assert!(literal("a\0").is_err());
    }

    #[test]
    fn a_readable_name_is_quoted_only_where_it_must_be() {
        assert_eq!(readable("public", "orders_2"), "public.orders_2");
        assert_eq!(readable("public", "Orders"), "public.\"Orders\"");
        assert_eq!(readable("2nd", "a\"b"), "\"2nd\".\"a\"\"b\"");
    }
}
