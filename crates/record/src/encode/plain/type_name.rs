//! Names of types as PostgreSQL's `format_type` prints them.

use crate::identifier;
use std::fmt::Write as _;
use wal::types::{Kind, Type, oid};

/// SQL's names of built-in types, and what follows the modifier (`format_type.c`).
const SQL_NAMES: [(u32, &str, &str); 13] = [
    (oid::BOOL, "boolean", ""),
    (oid::CHAR, "\"char\"", ""),
    (oid::FLOAT4, "real", ""),
    (oid::FLOAT8, "double precision", ""),
    (oid::INT2, "smallint", ""),
    (oid::INT4, "integer", ""),
    (oid::INT8, "bigint", ""),
    (oid::TIME, "time", " without time zone"),
    (oid::TIMETZ, "time", " with time zone"),
    (oid::TIMESTAMP, "timestamp", " without time zone"),
    (oid::TIMESTAMPTZ, "timestamp", " with time zone"),
    (oid::VARBIT, "bit varying", ""),
    (oid::VARCHAR, "character varying", ""),
];

/// The name of a type with its modifier, e.g. `numeric(12,2)[]`. Types outside `pg_catalog` and `public`
/// have their schema; modifiers of extensions' types are left out: only their own functions can read
/// them.
pub(crate) fn format_type(type_: &Type, modifier: i32) -> String {
    if let Kind::Array { element, .. } = &type_.kind {
        return format_type(element, modifier) + "[]";
    }
    let built_in = &*type_.schema == "pg_catalog";
    if let Some((_, name, tail)) = SQL_NAMES.iter().find(|(oid, ..)| built_in && *oid == type_.oid)
    {
        return format!("{name}{}{tail}", suffix(type_.oid, modifier));
    }
    if built_in && modifier != -1 && matches!(type_.oid, oid::BPCHAR | oid::BIT) {
        let name = if type_.oid == oid::BIT { "bit" } else { "character" };
        return format!("{name}{}", suffix(type_.oid, modifier));
    }
    let mut name = String::new();
    if !built_in && !matches!(&*type_.schema, "public" | "") {
        identifier::write(&type_.schema, &mut name);
        name.push('.');
    }
    // Without a length, `bit` would mean one bit.
    match type_.oid {
        oid::BIT if built_in => name.push_str("\"bit\""),
        _ if built_in => name.push_str(&type_.name),
        _ => identifier::write(&type_.name, &mut name),
    }
    if built_in {
        name.push_str(&suffix(type_.oid, modifier));
    }
    name
}

/// The modifier as its type's output function prints it.
fn suffix(oid: u32, modifier: i32) -> String {
    if modifier < 0 {
        return String::new();
    }
    match oid {
        oid::NUMERIC => {
            let packed = modifier.wrapping_sub(4);
            format!("({},{})", (packed >> 16) & 0xFFFF, ((packed & 0x7FF) ^ 1024) - 1024)
        }
        oid::BPCHAR | oid::VARCHAR => format!("({})", modifier.wrapping_sub(4)),
        oid::BIT | oid::VARBIT | oid::TIME | oid::TIMETZ | oid::TIMESTAMP | oid::TIMESTAMPTZ => {
            format!("({modifier})")
        }
        oid::INTERVAL => interval(modifier),
        _ => String::new(),
    }
}

/// Fields and precision of an interval (`intervaltypmodout`): a bit for each field.
fn interval(modifier: i32) -> String {
    const MONTH: i32 = 1 << 1;
    const YEAR: i32 = 1 << 2;
    const DAY: i32 = 1 << 3;
    const HOUR: i32 = 1 << 10;
    const MINUTE: i32 = 1 << 11;
    const SECOND: i32 = 1 << 12;
    const PRECISION_ANY: i32 = 0xFFFF;
    let fields = [
        (YEAR, " year"),
        (MONTH, " month"),
        (DAY, " day"),
        (HOUR, " hour"),
        (MINUTE, " minute"),
        (SECOND, " second"),
        (YEAR | MONTH, " year to month"),
        (DAY | HOUR, " day to hour"),
        (DAY | HOUR | MINUTE, " day to minute"),
        (DAY | HOUR | MINUTE | SECOND, " day to second"),
        (HOUR | MINUTE, " hour to minute"),
        (HOUR | MINUTE | SECOND, " hour to second"),
        (MINUTE | SECOND, " minute to second"),
    ];
    let (range, precision) = ((modifier >> 16) & 0x7FFF, modifier & PRECISION_ANY);
    let words = fields.iter().find(|(bits, _)| *bits == range).map_or("", |(_, words)| words);
    let mut text = words.to_owned();
    if precision != PRECISION_ANY {
        // Writing to a text cannot fail.
        let _ = write!(text, "({precision})");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[track_caller]
    fn check(oid: u32, name: &str, modifier: i32, expected: &str) {
        assert_eq!(format_type(&Type::builtin(oid, name), modifier), expected);
    }

    #[test]
    fn built_in_types_have_sql_s_names() {
        check(oid::INT8, "int8", -1, "bigint");
        check(oid::NUMERIC, "numeric", -1, "numeric");
        check(oid::NUMERIC, "numeric", (12 << 16 | 2) + 4, "numeric(12,2)");
        check(oid::NUMERIC, "numeric", (5 << 16 | (-2 & 0x7FF)) + 4, "numeric(5,-2)");
        check(oid::VARCHAR, "varchar", 24, "character varying(20)");
        check(oid::VARCHAR, "varchar", -1, "character varying");
        check(oid::BPCHAR, "bpchar", 14, "character(10)");
        check(oid::BPCHAR, "bpchar", -1, "bpchar");
        check(oid::CHAR, "char", -1, "\"char\"");
        check(oid::BIT, "bit", 5, "bit(5)");
        check(oid::BIT, "bit", -1, "\"bit\"");
        check(oid::VARBIT, "varbit", 12, "bit varying(12)");
        check(oid::TIMESTAMPTZ, "timestamptz", -1, "timestamp with time zone");
        check(oid::TIMESTAMP, "timestamp", 3, "timestamp(3) without time zone");
        check(oid::TIMETZ, "timetz", 0, "time(0) with time zone");
        check(oid::TEXT, "text", -1, "text");
    }

    #[test]
    fn intervals_say_their_fields() {
        check(oid::INTERVAL, "interval", -1, "interval");
        check(oid::INTERVAL, "interval", 0x7FFF << 16 | 3, "interval(3)");
        let day_to_second = 1 << 3 | 1 << 10 | 1 << 11 | 1 << 12;
        check(oid::INTERVAL, "interval", day_to_second << 16 | 0xFFFF, "interval day to second");
        check(oid::INTERVAL, "interval", day_to_second << 16 | 2, "interval day to second(2)");
        check(
            oid::INTERVAL,
            "interval",
            (1 << 2 | 1 << 1) << 16 | 0xFFFF,
            "interval year to month",
        );
    }

    #[test]
    fn other_types_have_their_schema() {
        let mood = |schema: &str, name: &str| Type {
            oid: 99,
            schema: schema.into(),
            name: name.into(),
            kind: Kind::Enum { labels: Vec::new() },
        };
        assert_eq!(format_type(&mood("public", "mood"), -1), "mood");
        assert_eq!(format_type(&mood("Größe", "a b"), -1), "\"Größe\".\"a b\"");
        let element = Arc::new(Type::builtin(oid::NUMERIC, "numeric"));
        let kind = Kind::Array { element, delimiter: b',' };
        let array = Type { kind, ..Type::builtin(1231, "_numeric") };
        assert_eq!(format_type(&array, (12 << 16 | 2) + 4), "numeric(12,2)[]");
    }
}
