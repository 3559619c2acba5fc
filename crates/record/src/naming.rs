//! Topic names: patterns, escapes and collisions.
//!
//! Kafka allows `[A-Za-z0-9._-]` and 249 characters (`org.apache.kafka.common.internals.Topic`). Any
//! other character of a schema, table or database name is written as `_xHHHH_`, its code point in at
//! least four upper-case hexadecimal digits (`Größe` → `Gr_x00F6__x00DF_e`). An underscore that
//! would read as the start of such an escape is itself escaped, so the name can be read back.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Kafka's limit, in characters.
pub const TOPIC_CHARS_MAX: usize = 249;

/// A topic pattern of `{schema}`, `{table}`, `{database}`, `{task}` and fixed text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TopicPattern {
    text: Box<str>,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Fixed(Box<str>),
    Schema,
    Table,
    Database,
    Task,
}

/// What a pattern is filled with, as the catalog spells it.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    pub task: &'a str,
    pub database: &'a str,
    pub schema: &'a str,
    pub table: &'a str,
}

/// The pattern, or what it becomes for a table, is no topic name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NamingError {
    #[error(
        "topic pattern `{pattern}`: unknown part `{{{part}}}`; use {{schema}}, {{table}}, \
         {{database}} or {{task}}"
    )]
    UnknownPart { pattern: Box<str>, part: Box<str> },
    #[error("topic pattern `{pattern}`: a brace is not closed")]
    OpenBrace { pattern: Box<str> },
    #[error(
        "topic pattern `{pattern}`: Kafka does not allow `{character}` in topic names; use letters, \
         digits, `.`, `_` and `-`"
    )]
    Character { pattern: Box<str>, character: char },
    #[error("topic pattern `{pattern}` is empty; the default is `{{schema}}.{{table}}`")]
    Empty { pattern: Box<str> },
    #[error(
        "the topic of {schema}.{table} would have {chars} characters, and Kafka allows \
         {TOPIC_CHARS_MAX}; give the table a shorter `topic` under `objects`"
    )]
    TooLong { schema: Box<str>, table: Box<str>, chars: usize },
    #[error(
        "the topic of {schema}.{table} would be `{topic}`, which Kafka does not allow; give the \
         table another `topic` under `objects`"
    )]
    Dots { schema: Box<str>, table: Box<str>, topic: Box<str> },
}

impl TopicPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it has an unknown part or a character that Kafka does not allow.
    pub fn parse(text: &str) -> Result<Self, NamingError> {
        let pattern = || Box::<str>::from(text);
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (fixed, after) = rest.split_once('{').unwrap_or((rest, ""));
            if let Some(character) = fixed.chars().find(|&character| !allowed(character)) {
                return Err(NamingError::Character { pattern: pattern(), character });
            }
            if !fixed.is_empty() {
                parts.push(Part::Fixed(fixed.into()));
            }
            if fixed.len() == rest.len() {
                break;
            }
            let (name, after) = after
                .split_once('}')
                .ok_or_else(|| NamingError::OpenBrace { pattern: pattern() })?;
            parts.push(match name {
                "schema" => Part::Schema,
                "table" => Part::Table,
                "database" => Part::Database,
                "task" => Part::Task,
                part => {
                    let part = part.into();
                    return Err(NamingError::UnknownPart { pattern: pattern(), part });
                }
            });
            rest = after;
        }
        if parts.is_empty() {
            return Err(NamingError::Empty { pattern: pattern() });
        }
        Ok(Self { text: text.into(), parts })
    }

    /// The topic of a table.
    ///
    /// # Errors
    /// When it is longer than Kafka allows, or `.` or `..`.
    pub fn topic(&self, names: Names<'_>) -> Result<Box<str>, NamingError> {
        let mut topic = String::new();
        for part in &self.parts {
            match part {
                Part::Fixed(text) => topic.push_str(text),
                Part::Schema => sanitise(names.schema, &mut topic),
                Part::Table => sanitise(names.table, &mut topic),
                Part::Database => sanitise(names.database, &mut topic),
                Part::Task => sanitise(names.task, &mut topic),
            }
        }
        let (schema, table) = (names.schema.into(), names.table.into());
        if TOPIC_CHARS_MAX < topic.len() {
            return Err(NamingError::TooLong { schema, table, chars: topic.len() });
        }
        if matches!(topic.as_str(), "" | "." | "..") {
            return Err(NamingError::Dots { schema, table, topic: topic.into() });
        }
        Ok(topic.into())
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn allowed(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-')
}

fn sanitise(name: &str, out: &mut String) {
    escape(name, |_, character| allowed(character), out);
}

/// Writes a name with escapes in place of what is not `allowed` at its place, in bytes; [`restore`] reads it
/// back.
pub(crate) fn escape(name: &str, allowed: impl Fn(usize, char) -> bool, out: &mut String) {
    for (at, character) in name.char_indices() {
        if allowed(at, character) && !(character == '_' && is_escape(&name[at..])) {
            out.push(character);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "_x{:04X}_", u32::from(character));
        }
    }
}

/// Whether the text begins with `_xHHHH_`, of four to six digits.
fn is_escape(text: &str) -> bool {
    text.strip_prefix("_x").and_then(|rest| rest.split_once('_')).is_some_and(|(digits, _)| {
        (4..=6).contains(&digits.len())
            && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'A'..=b'F'))
    })
}

/// A topic part back to the name it came from.
#[must_use]
pub fn restore(topic_part: &str) -> String {
    let mut name = String::new();
    let mut rest = topic_part;
    while let Some(character) = rest.chars().next() {
        if is_escape(rest)
            && let Some((digits, after)) = rest[2..].split_once('_')
            && let Some(escaped) = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)
        {
            name.push(escaped);
            rest = after;
        } else {
            name.push(character);
            rest = &rest[character.len_utf8()..];
        }
    }
    name
}

/// Topics that get in each other's way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Collision {
    /// Several tables write to one topic: meant where the topic is a fixed name.
    SameTopic { topic: Box<str>, tables: Vec<Box<str>> },
    /// Names that differ only in `.` and `_` share Kafka's metrics, and the broker refuses to create
    /// the second.
    MetricNames { topics: Vec<Box<str>> },
}

/// Finds collisions among `(table, topic)` pairs, in the order of the topics' names.
#[must_use]
pub fn collisions<T: AsRef<str>>(pairs: &[(T, T)]) -> Vec<Collision> {
    let mut topics: BTreeMap<&str, Vec<Box<str>>> = BTreeMap::new();
    for (table, topic) in pairs {
        topics.entry(topic.as_ref()).or_default().push(table.as_ref().into());
    }
    let mut metrics: BTreeMap<String, Vec<Box<str>>> = BTreeMap::new();
    for &topic in topics.keys() {
        metrics.entry(topic.replace('.', "_")).or_default().push(topic.into());
    }
    let same = topics
        .into_iter()
        .filter(|(_, tables)| 1 < tables.len())
        .map(|(topic, tables)| Collision::SameTopic { topic: topic.into(), tables });
    let metric = metrics
        .into_values()
        .filter(|topics| 1 < topics.len())
        .map(|topics| Collision::MetricNames { topics });
    same.chain(metric).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn topic(pattern: &str, schema: &str, table: &str) -> Result<Box<str>, NamingError> {
        let names = Names { task: "shop", database: "appdb", schema, table };
        TopicPattern::parse(pattern)?.topic(names)
    }

    #[test]
    fn patterns_are_filled() {
        assert_eq!(
            topic("{schema}.{table}", "public", "orders").unwrap().as_ref(),
            "public.orders"
        );
        assert_eq!(topic("{task}-{database}.x", "s", "t").unwrap().as_ref(), "shop-appdb.x");
        assert_eq!(topic("orders", "s", "t").unwrap().as_ref(), "orders");
    }

    #[test]
    fn other_characters_are_escaped_and_come_back() {
        let escaped = topic("{table}", "s", "Größe 1").unwrap();
        assert_eq!(escaped.as_ref(), "Gr_x00F6__x00DF_e_x0020_1");
        assert_eq!(restore(&escaped), "Größe 1");
        assert_eq!(topic("{table}", "s", "a_x0041_").unwrap().as_ref(), "a_x005F_x0041_");
        assert_eq!(topic("{table}", "s", "a_xy_b").unwrap().as_ref(), "a_xy_b");
    }

    #[test]
    fn what_is_no_topic_is_refused() {
        let error = |pattern: &str, table: &str| topic(pattern, "s", table).unwrap_err();
        assert!(matches!(error("{tabel}", "t"), NamingError::UnknownPart { .. }));
        assert!(matches!(error("{table", "t"), NamingError::OpenBrace { .. }));
        assert!(matches!(error("a b", "t"), NamingError::Character { character: ' ', .. }));
        assert!(matches!(error("", "t"), NamingError::Empty { .. }));
        assert!(matches!(error("{table}", ".."), NamingError::Dots { .. }));
        let long = "é".repeat(40);
        assert!(matches!(error("{table}", &long), NamingError::TooLong { chars: 280, .. }));
    }

    #[test]
    fn collisions_are_found() {
        let pairs = [("a.b", "a.b"), ("a_b", "a_b"), ("c", "one"), ("d", "one"), ("e", "e")];
        let expected = [
            Collision::SameTopic { topic: "one".into(), tables: vec!["c".into(), "d".into()] },
            Collision::MetricNames { topics: vec!["a.b".into(), "a_b".into()] },
        ];
        assert_eq!(collisions(&pairs), expected);
    }

    proptest! {
        #[test]
        fn every_name_comes_back(name in "([a-z_xA-F0-9]|\\PC){1,20}") {
            let mut topic = String::new();
            sanitise(&name, &mut topic);
            prop_assert!(topic.chars().all(allowed));
            prop_assert_eq!(restore(&topic), name);
        }
    }
}
