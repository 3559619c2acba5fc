//! Constant defaults: what `pg_get_expr` prints → the value's text, where that is one and the same
//! for every row. Pure.

/// How a column's type is called in the catalog's expressions, and what it is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct ColumnType {
    /// OID of the type, of its base for a domain.
    pub(super) oid: u32,
    /// `format_type` with the modifier: what a value is cast to.
    pub(super) full: String,
    /// Without it; of the domain as well, if it is one.
    pub(super) bare: Vec<String>,
    pub(super) has_modifier: bool,
    pub(super) is_builtin: bool,
}

/// What an expression stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Constant {
    /// None, null, or not the same for every row.
    None,
    /// The text of the value.
    Text(String),
    /// The text of a value that the server has yet to bring into the column's form.
    Cast(String),
}

/// Names of types whose values are text and stay the same in one another.
const TEXTS: [&str; 3] = ["text", "character varying", "name"];
/// Names of types whose constants are numbers.
const NUMBERS: [&str; 6] = ["smallint", "integer", "bigint", "numeric", "real", "double precision"];

mod oid {
    pub(super) use wal::types::oid::{
        BOOL, FLOAT4, FLOAT8, INT2, INT4, INT8, NAME, NUMERIC, OID, TEXT, VARCHAR,
    };
}

/// Reads a default expression. What is not surely a constant is none.
pub(super) fn constant(expression: &str, column: &ColumnType) -> Constant {
    let Some(Parsed { value, casts }) = parse(expression) else { return Constant::None };
    if !casts.iter().all(|cast| column.keeps(cast)) {
        return Constant::None;
    }
    match value {
        Value::Null => Constant::None,
        Value::Bool(value) if column.oid == oid::BOOL => {
            Constant::Text(if value { "t" } else { "f" }.into())
        }
        Value::Bool(_) => Constant::None,
        Value::Number(text) if column.is_number() || column.is_text() => column.number(text),
        Value::Number(text) if column.is_builtin => Constant::Cast(text),
        Value::Number(_) => Constant::None,
        Value::Text(text) if column.is_number() => column.number(text),
        Value::Text(text) if column.is_text() => Constant::Text(text),
        // A constant is printed by its type's own output function.
        Value::Text(text) if column.is_exact(&casts) => Constant::Text(text),
        Value::Text(text) if column.is_builtin => Constant::Cast(text),
        Value::Text(_) => Constant::None,
    }
}

impl ColumnType {
    fn is_text(&self) -> bool {
        matches!(self.oid, oid::TEXT | oid::VARCHAR | oid::NAME)
    }

    fn is_number(&self) -> bool {
        let numbers =
            [oid::INT2, oid::INT4, oid::INT8, oid::OID, oid::NUMERIC, oid::FLOAT4, oid::FLOAT8];
        numbers.contains(&self.oid)
    }

    /// A cast to this type loses nothing on the way to the column.
    fn keeps(&self, cast: &str) -> bool {
        let is_own = self.full == cast || self.bare.iter().any(|name| name == cast);
        is_own
            || (self.is_text() && TEXTS.contains(&cast))
            || (self.is_number() && NUMBERS.contains(&cast))
    }

    /// The one cast is to the column's own type, and there is no modifier to apply.
    fn is_exact(&self, casts: &[&str]) -> bool {
        let own = |cast: &str| self.bare.iter().any(|name| name == cast);
        !self.has_modifier && matches!(casts, [cast] if own(cast))
    }

    fn number(&self, text: String) -> Constant {
        let is_integer = !text.is_empty()
            && text.strip_prefix('-').unwrap_or(&text).bytes().all(|it| it.is_ascii_digit());
        match self.oid {
            oid::INT2 | oid::INT4 | oid::INT8 | oid::OID if is_integer => Constant::Text(text),
            // The server rounds half away from zero, and only it knows.
            oid::INT2 | oid::INT4 | oid::INT8 | oid::OID => Constant::None,
            oid::NUMERIC if !self.has_modifier => Constant::Text(text),
            oid::TEXT | oid::VARCHAR | oid::NAME => Constant::Text(text),
            _ => Constant::Cast(text),
        }
    }
}

#[derive(Debug, Eq, PartialEq)]
enum Value {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
}

/// A literal and what it is cast to, innermost first.
#[derive(Debug, Eq, PartialEq)]
struct Parsed<'a> {
    value: Value,
    casts: Vec<&'a str>,
}

fn parse(expression: &str) -> Option<Parsed<'_>> {
    let (parsed, rest) = primary(expression.trim())?;
    rest.is_empty().then_some(parsed)
}

/// A literal or an expression in parentheses, with the casts after it.
fn primary(text: &str) -> Option<(Parsed<'_>, &str)> {
    let (mut parsed, mut rest) = if let Some(inner) = text.strip_prefix('(') {
        let (parsed, rest) = primary(inner)?;
        (parsed, rest.strip_prefix(')')?)
    } else {
        let (value, rest) = literal(text)?;
        (Parsed { value, casts: Vec::new() }, rest)
    };
    while let Some(after) = rest.strip_prefix("::") {
        let (name, after) = type_name(after)?;
        parsed.casts.push(name);
        rest = after;
    }
    Some((parsed, rest))
}

fn literal(text: &str) -> Option<(Value, &str)> {
    for (word, value) in
        [("NULL", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))]
    {
        if let Some(rest) = text.strip_prefix(word)
            && !rest.starts_with(|it: char| it.is_alphanumeric() || matches!(it, '_' | '(' | '.'))
        {
            return Some((value, rest));
        }
    }
    // Bits are printed as B'101'.
    let quoted = text.strip_prefix("B'").or_else(|| text.strip_prefix('\''));
    match quoted {
        Some(inner) => string(inner),
        None => number(text),
    }
}

/// Up to the closing quote. The session has `standard_conforming_strings` on.
fn string(inner: &str) -> Option<(Value, &str)> {
    let mut value = String::new();
    let mut rest = inner;
    loop {
        let (before, after) = rest.split_once('\'')?;
        value.push_str(before);
        match after.strip_prefix('\'') {
            Some(after) => {
                value.push('\'');
                rest = after;
            }
            None => return Some((Value::Text(value), after)),
        }
    }
}

fn number(text: &str) -> Option<(Value, &str)> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    if !unsigned.starts_with(|it: char| it.is_ascii_digit()) {
        return None;
    }
    let end = unsigned.find(|it: char| !it.is_ascii_digit() && it != '.');
    let length = text.len() - unsigned.len() + end.unwrap_or(unsigned.len());
    let (number, rest) = text.split_at(length);
    Some((Value::Number(number.into()), rest))
}

/// The name of a type as `format_type` prints it: words, a modifier in parentheses, array brackets,
/// quoted names.
fn type_name(text: &str) -> Option<(&str, &str)> {
    let (mut in_quotes, mut depth, mut end) = (false, 0u32, text.len());
    for (at, character) in text.char_indices() {
        match character {
            '"' => in_quotes = !in_quotes,
            _ if in_quotes => {}
            '(' => depth += 1,
            ')' if 0 < depth => depth -= 1,
            ',' if 0 < depth => {}
            _ if character.is_alphanumeric() => {}
            ' ' | '_' | '.' | '$' | '[' | ']' => {}
            // `)` of the expression around, or the next cast.
            ')' | ':' => {
                end = at;
                break;
            }
            _ => return None,
        }
    }
    let (name, rest) = text.split_at(end);
    // ` || 'x'`, ` + 1` and the like have ended above; `COLLATE` and `AT TIME ZONE` are words.
    let is_name = !in_quotes && depth == 0 && !name.is_empty() && name == name.trim();
    (is_name && !name.contains("COLLATE") && !name.contains("AT TIME")).then_some((name, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(oid: u32, full: &str, bare: &str) -> ColumnType {
        ColumnType {
            oid,
            full: full.into(),
            bare: vec![bare.into()],
            has_modifier: full != bare,
            is_builtin: super::super::types::is_builtin(oid),
        }
    }

    #[track_caller]
    fn check(expression: &str, column: &ColumnType, expected: &Constant) {
        assert_eq!(constant(expression, column), *expected, "{expression}");
    }

    fn text(text: &str) -> Constant {
        Constant::Text(text.into())
    }

    fn cast(text: &str) -> Constant {
        Constant::Cast(text.into())
    }

    #[test]
    fn text_defaults() {
        let column = column(25, "text", "text");
        check("'x'::text", &column, &text("x"));
        check("'it''s'::text", &column, &text("it's"));
        check("''::text", &column, &text(""));
        check("'a\\b'::text", &column, &text("a\\b"));
        check("'x'::character varying", &column, &text("x"));
        check("('x'::text)::character varying", &column, &text("x"));
        check("5", &column, &text("5"));
        check("NULL::text", &column, &Constant::None);
        check("('a'::text || 'b'::text)", &column, &Constant::None);
        check("'abc'::character varying(2)", &column, &Constant::None);
        check("CURRENT_USER", &column, &Constant::None);
        check("upper('x'::text)", &column, &Constant::None);
        check("'x'::text COLLATE \"C\"", &column, &Constant::None);
        check("trues", &column, &Constant::None);
        check("", &column, &Constant::None);
        check("'open", &column, &Constant::None);
    }

    #[test]
    fn numbers() {
        let int = column(23, "integer", "integer");
        check("42", &int, &text("42"));
        check("'-5'::integer", &int, &text("-5"));
        check("(- 5)", &int, &Constant::None);
        check("1.5", &int, &Constant::None);
        check("nextval('public.t_id_seq'::regclass)", &int, &Constant::None);
        check("(1 + 2)", &int, &Constant::None);
        check("ARRAY[1, 2]", &int, &Constant::None);
        let numeric = column(1700, "numeric(10,2)", "numeric");
        check("0", &numeric, &cast("0"));
        check("1.5", &numeric, &cast("1.5"));
        check("1.5::numeric(10,2)", &numeric, &cast("1.5"));
        check("(0)::numeric", &numeric, &cast("0"));
        check("'-1.5'::numeric", &column(1700, "numeric", "numeric"), &text("-1.5"));
        check("1.0", &column(701, "double precision", "double precision"), &cast("1.0"));
        let double = column(701, "double precision", "double precision");
        check("'NaN'::double precision", &double, &cast("NaN"));
        check("0", &column(790, "money", "money"), &cast("0"));
    }

    #[test]
    fn other_types() {
        check("true", &column(16, "boolean", "boolean"), &text("t"));
        check("false", &column(16, "boolean", "boolean"), &text("f"));
        check("true", &column(25, "text", "text"), &Constant::None);
        check("'{}'::integer[]", &column(1007, "integer[]", "integer[]"), &text("{}"));
        check("'a'::bpchar", &column(1042, "character(3)", "bpchar"), &cast("a"));
        check("B'101'::\"bit\"", &column(1560, "bit(3)", "\"bit\""), &cast("101"));
        check("'2020-01-01'::date", &column(1082, "date", "date"), &text("2020-01-01"));
        let zoned = column(1184, "timestamp with time zone", "timestamp with time zone");
        // What this is depends on the time zone of whoever inserts.
        check("'2020-01-01 00:00:00'::timestamp without time zone", &zoned, &Constant::None);
        check("('now'::text)::date", &column(1082, "date", "date"), &Constant::None);
        check("CURRENT_TIMESTAMP", &zoned, &Constant::None);
    }

    #[test]
    fn types_of_users_are_never_cast_by_us() {
        let mood = column(20_000, "public.mood", "public.mood");
        check("'happy'::public.mood", &mood, &text("happy"));
        check("'happy'::text", &mood, &Constant::None);
        let odd = column(20_001, "public.\"a::b, ()\"", "public.\"a::b, ()\"");
        check("'x'::public.\"a::b, ()\"", &odd, &text("x"));
        check("1", &mood, &Constant::None);
    }
}
