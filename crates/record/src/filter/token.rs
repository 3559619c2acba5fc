//! The text of a condition → words, names, constants and signs, as PostgreSQL's scanner reads them.

use super::FilterError;
use super::syntax::Comparison;

/// Length of a condition in bytes.
const BYTES_MAX: usize = 64 << 10;
/// Digits of a number.
const DIGITS_MAX: usize = 200;

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Token {
    /// Not in quotes, in small letters: a keyword or a name.
    Word(Box<str>),
    /// In double quotes.
    Name(Box<str>),
    /// Digits, with or without a point.
    Number(Box<str>),
    /// In single quotes.
    Quoted(Box<str>),
    Comparison(Comparison),
    /// One of `( ) , . + - *`.
    Sign(char),
}

pub(super) fn tokens(text: &str) -> Result<Vec<Token>, FilterError> {
    if BYTES_MAX < text.len() {
        return Err(FilterError::syntax(format!("it is longer than {BYTES_MAX} bytes")));
    }
    let mut tokens = Vec::new();
    let mut rest = text.trim_ascii_start();
    while let Some(first) = rest.chars().next() {
        let (token, after) = match first {
            '\'' => {
                let (text, after) = quoted(rest, '\'')?;
                (Token::Quoted(text), after)
            }
            '"' => {
                let (name, after) = quoted(rest, '"')?;
                if name.is_empty() {
                    return Err(FilterError::syntax("a name in double quotes is empty"));
                }
                (Token::Name(name), after)
            }
            '0'..='9' => number(rest)?,
            '.' if rest[1..].starts_with(|next: char| next.is_ascii_digit()) => number(rest)?,
            'a'..='z' | 'A'..='Z' | '_' => word(rest),
            _ => sign(rest)?,
        };
        tokens.push(token);
        rest = after.trim_ascii_start();
    }
    if tokens.is_empty() {
        return Err(FilterError::syntax("it is empty"));
    }
    Ok(tokens)
}

/// Doubled quotes stand for one; a backslash is a backslash.
fn quoted(text: &str, quote: char) -> Result<(Box<str>, &str), FilterError> {
    let mut out = String::new();
    let mut rest = &text[1..];
    loop {
        let Some((before, after)) = rest.split_once(quote) else {
            return Err(FilterError::syntax(format!("a {quote} is not closed")));
        };
        out.push_str(before);
        match after.strip_prefix(quote) {
            Some(after) => {
                out.push(quote);
                rest = after;
            }
            None if out.contains('\0') => {
                return Err(FilterError::syntax("PostgreSQL's texts have no NUL"));
            }
            None => return Ok((out.into(), after)),
        }
    }
}

fn number(text: &str) -> Result<(Token, &str), FilterError> {
    let end = text.find(|next: char| !next.is_ascii_digit() && next != '.').unwrap_or(text.len());
    let (digits, after) = text.split_at(end);
    let goes_on = after.starts_with(|next: char| next.is_alphanumeric() || next == '_');
    if goes_on || 1 < digits.matches('.').count() || DIGITS_MAX < digits.len() {
        return Err(FilterError::syntax(format!(
            "numbers are written with digits and one point, without exponent, {DIGITS_MAX} at most"
        )));
    }
    Ok((Token::Number(digits.into()), after))
}

fn word(text: &str) -> (Token, &str) {
    let part = |next: char| next.is_ascii_alphanumeric() || next == '_' || next == '$';
    let (word, after) = text.split_at(text.find(|next| !part(next)).unwrap_or(text.len()));
    (Token::Word(word.to_ascii_lowercase().into()), after)
}

fn sign(text: &str) -> Result<(Token, &str), FilterError> {
    use Comparison::{Different, Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
    if text.starts_with("--") || text.starts_with("/*") {
        return Err(FilterError::syntax("comments are not part of the subset"));
    }
    let comparisons = [
        ("<>", Different),
        ("!=", Different),
        ("<=", LessOrEqual),
        (">=", GreaterOrEqual),
        ("<", Less),
        (">", Greater),
        ("=", Equal),
    ];
    for (word, comparison) in comparisons {
        if let Some(after) = text.strip_prefix(word) {
            return Ok((Token::Comparison(comparison), after));
        }
    }
    let first = text.chars().next().unwrap_or_default();
    if matches!(first, '(' | ')' | ',' | '.' | '+' | '-' | '*') {
        return Ok((Token::Sign(first), &text[1..]));
    }
    let more = if first.is_alphabetic() {
        "; write names with such letters in double quotes"
    } else if text.starts_with("::") {
        "; casts are not: write DATE '…', TIMESTAMP '…', TIMESTAMPTZ '…'"
    } else {
        ""
    };
    Err(FilterError::syntax(format!("`{first}` is not part of the subset{more}")))
}
