//! Patterns of tables: SQL identifiers with `*`, quoted as in SQL.

use std::fmt;

/// `schema.table`. Outside quotes `*` stands for any characters and letters fold to lower case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TablePattern {
    schema: Vec<Piece>,
    table: Vec<Piece>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Piece {
    Char(char),
    Any,
}

/// The text is no pattern.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PatternError {
    #[error("`{0}` names no schema; write schema.table, e.g. public.{0}")]
    SchemaMissing(String),
    #[error("`{0}` has more than two parts; a task captures one database: write schema.table")]
    TooManyParts(String),
    #[error("`{0}` has an empty part; write schema.table")]
    EmptyPart(String),
    #[error("`{0}` has a quote that is not closed")]
    OpenQuote(String),
    #[error("`{pattern}` has `{character}` outside quotes; write it inside double quotes")]
    Unquoted { pattern: String, character: char },
}

impl TablePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it is not two identifiers with a dot between them.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let own = || text.to_owned();
        let mut parts: Vec<Vec<Piece>> = vec![Vec::new()];
        let mut characters = text.trim().chars().peekable();
        while let Some(character) = characters.next() {
            let Some(part) = parts.last_mut() else { break };
            match character {
                '"' => loop {
                    match characters.next() {
                        Some('"') if characters.peek() == Some(&'"') => {
                            characters.next();
                            part.push(Piece::Char('"'));
                        }
                        Some('"') => break,
                        Some(inside) => part.push(Piece::Char(inside)),
                        None => return Err(PatternError::OpenQuote(own())),
                    }
                },
                '.' => parts.push(Vec::new()),
                '*' => part.push(Piece::Any),
                _ if character.is_alphanumeric() || character == '_' || character == '$' => {
                    // The server folds ASCII letters only (in UTF-8 databases).
                    part.push(Piece::Char(character.to_ascii_lowercase()));
                }
                _ => return Err(PatternError::Unquoted { pattern: own(), character }),
            }
        }
        if parts.iter().any(Vec::is_empty) {
            return Err(PatternError::EmptyPart(own()));
        }
        let (Some(table), Some(schema)) = (parts.pop(), parts.pop()) else {
            return Err(PatternError::SchemaMissing(own()));
        };
        if !parts.is_empty() {
            return Err(PatternError::TooManyParts(own()));
        }
        Ok(Self { schema, table })
    }

    /// Whether the table of these names, as the catalog has them, is meant.
    #[must_use]
    pub fn matches(&self, schema: &str, table: &str) -> bool {
        matches(&self.schema, schema) && matches(&self.table, table)
    }

    /// Whether tables of this schema can be meant.
    #[must_use]
    pub fn matches_schema(&self, schema: &str) -> bool {
        matches(&self.schema, schema)
    }

    /// Regular expressions of PostgreSQL (ARE) for schema and table, which match what [`Self::matches`] does.
    #[must_use]
    pub fn regular_expressions(&self) -> [String; 2] {
        [&self.schema, &self.table].map(|pieces| regular_expression(pieces))
    }

    /// Schema and name, as the catalog has them, if it can only ever mean one table.
    #[must_use]
    pub fn exact(&self) -> Option<(String, String)> {
        let text = |pieces: &[Piece]| {
            let character = |piece: &Piece| match piece {
                Piece::Char(character) => Some(*character),
                Piece::Any => None,
            };
            pieces.iter().map(character).collect::<Option<String>>()
        };
        Some((text(&self.schema)?, text(&self.table)?))
    }

    /// Whether it can only ever mean one table.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !self.schema.contains(&Piece::Any) && !self.table.contains(&Piece::Any)
    }
}

/// Anchored at both ends. A backslash before anything but a letter or digit takes it as it is.
fn regular_expression(pieces: &[Piece]) -> String {
    let mut text = String::from("^");
    for piece in pieces {
        match piece {
            Piece::Any => text.push_str(".*"),
            Piece::Char(plain) if plain.is_alphanumeric() || *plain == '_' => text.push(*plain),
            Piece::Char(special) => text.extend(['\\', *special]),
        }
    }
    text.push('$');
    text
}

/// Greedy with one point to return to: linear for each `*`.
fn matches(pattern: &[Piece], name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(Piece::Any) => {
                retry = Some((p, n));
                p += 1;
            }
            Some(Piece::Char(wanted)) if *wanted == name[n] => {
                p += 1;
                n += 1;
            }
            Some(Piece::Char(_)) | None => {
                let Some((star, taken)) = retry else { return false };
                retry = Some((star, taken + 1));
                p = star + 1;
                n = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|piece| *piece == Piece::Any)
}

impl fmt::Display for TablePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |pieces: &[Piece]| {
            pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Char(character) => *character,
                    Piece::Any => '*',
                })
                .collect::<String>()
        };
        write!(f, "{}.{}", part(&self.schema), part(&self.table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, schema: &str, table: &str, expected: bool) {
        let pattern = TablePattern::parse(pattern).expect("a pattern");
        assert_eq!(pattern.matches(schema, table), expected, "{pattern}");
    }

    #[test]
    fn names_fold_and_stars_match() {
        check("Public.Orders", "public", "orders", true);
        check("public.*", "public", "Größe", true);
        check("public.tmp_*", "public", "tmp_", true);
        check("public.tmp_*", "public", "tmp", false);
        check("*.a*b*c", "x", "a_b_b_c", true);
        check("*.a*b*c", "x", "a_c_b", false);
    }

    #[test]
    fn quotes_keep_case_dots_and_stars() {
        check("\"Odd.Schema\".\"T*\"", "Odd.Schema", "T*", true);
        check("\"Odd.Schema\".\"T*\"", "Odd.Schema", "Tx", false);
        check("public.\"a\"\"b\"", "public", "a\"b", true);
    }

    #[test]
    fn the_server_is_given_the_same_as_a_regular_expression() {
        let pattern = TablePattern::parse("Public.\"a.B*\"_*").expect("a pattern");
        assert_eq!(pattern.regular_expressions(), ["^public$", "^a\\.B\\*_.*$"]);
    }

    #[test]
    fn other_texts_are_refused() {
        let error = |text: &str| TablePattern::parse(text).expect_err("refused");
        assert_eq!(error("orders"), PatternError::SchemaMissing("orders".into()));
        assert_eq!(error("a.b.c"), PatternError::TooManyParts("a.b.c".into()));
        assert_eq!(error("a."), PatternError::EmptyPart("a.".into()));
        assert_eq!(error("a.\"b"), PatternError::OpenQuote("a.\"b".into()));
        let unquoted = PatternError::Unquoted { pattern: "a.b-c".into(), character: '-' };
        assert_eq!(error("a.b-c"), unquoted);
    }
}
