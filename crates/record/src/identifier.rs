//! SQL identifiers as PostgreSQL's `quote_identifier` prints them.

use wal::Table;

/// Words that cannot stand unquoted as the name of a table or type (PostgreSQL 18, `kwlist.h`: the
/// reserved ones, those that may name a function or type only, and those that may name a column only).
const QUOTED_WORDS: &str = " all analyse analyze and any array as asc asymmetric authorization between \
    bigint binary bit boolean both case cast char character check coalesce collate collation column \
    concurrently constraint create cross current_catalog current_date current_role current_schema \
    current_time current_timestamp current_user dec decimal default deferrable desc distinct do else \
    end except exists extract false fetch float for foreign freeze from full grant greatest group \
    grouping having ilike in initially inner inout int integer intersect interval into is isnull join \
    json json_array json_arrayagg json_exists json_object json_objectagg json_query json_scalar \
    json_serialize json_table json_value lateral leading least left like limit localtime \
    localtimestamp merge_action national natural nchar none normalize not notnull null nullif numeric \
    offset on only or order out outer overlaps overlay placing position precision primary real \
    references returning right row select session_user setof similar smallint some substring symmetric \
    system_user table tablesample then time timestamp to trailing treat trim true union unique user \
    using values varchar variadic verbose when where window with xmlattributes xmlconcat xmlelement \
    xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable ";

/// Whether SQL reads the word, in small letters, as something else than a name.
pub(crate) fn is_word(name: &str) -> bool {
    QUOTED_WORDS.contains(&format!(" {name} "))
}

/// Writes an identifier, in quotes where SQL would not read it as it is.
pub(crate) fn write(name: &str, out: &mut String) {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let starts = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_');
    if starts && name.bytes().all(plain) && !is_word(name) {
        out.push_str(name);
        return;
    }
    out.push('"');
    for character in name.chars() {
        if character == '"' {
            out.push('"');
        }
        out.push(character);
    }
    out.push('"');
}

/// The statement that empties a table.
pub(crate) fn truncate(table: &Table) -> String {
    let mut statement = "TRUNCATE TABLE ".to_owned();
    write(&table.schema, &mut statement);
    statement.push('.');
    write(&table.name, &mut statement);
    statement
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sql_would_not_read_is_quoted() {
        let written = |name: &str| {
            let mut out = String::new();
            write(name, &mut out);
            out
        };
        assert_eq!(written("orders_2"), "orders_2");
        assert_eq!(written("order"), "\"order\"");
        assert_eq!(written("int"), "\"int\"");
        assert_eq!(written("inter"), "inter");
        assert_eq!(written("Straße \"x\""), "\"Straße \"\"x\"\"\"");
        assert_eq!(written("2nd"), "\"2nd\"");
        assert_eq!(written(""), "\"\"");
    }
}
