//! Schemas that records are framed with, and the ids that a registry gives them.

use config::Subject;
use std::sync::OnceLock;

/// A schema and the subject under which a registry keeps its versions.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Schema {
    pub subject: Box<str>,
    pub language: Language,
    pub text: Box<str>,
}

/// What a schema is written in.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Language {
    Avro,
    Protobuf,
}

/// Ids of the schemas of one table version.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ids {
    /// `None`: the key is null.
    pub key: Option<u32>,
    pub value: u32,
}

/// The schemas of one table version. A registry must have taken them before the first row is encoded.
#[derive(Debug)]
pub struct Schemas {
    /// `None`: the key is null.
    pub key: Option<Schema>,
    pub value: Schema,
    ids: OnceLock<Ids>,
    refused: OnceLock<Box<str>>,
}

/// Text of a schema, and the full name of what it describes.
pub(crate) type Named = (String, String);

impl Schemas {
    /// `topic`: of the records.
    pub(crate) fn new(
        language: Language,
        naming: Subject,
        topic: &str,
        key: Option<Named>,
        value: Named,
    ) -> Self {
        let schema = |(text, name): Named, side: &str| Schema {
            subject: subject(naming, topic, &name, side).into(),
            language,
            text: text.into(),
        };
        let key = key.map(|key| schema(key, "key"));
        Self { key, value: schema(value, "value"), ids: OnceLock::new(), refused: OnceLock::new() }
    }

    /// Ids that the registry gave; `None`: it was not asked yet.
    #[must_use]
    pub fn ids(&self) -> Option<Ids> {
        self.ids.get().copied()
    }

    /// Why the registry did not take them, where it was asked and rows go elsewhere.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        self.refused.get().map(|cause| &**cause)
    }

    /// The registry has refused the schemas, and rows of this table version go elsewhere.
    pub fn refused(&self, cause: &str) {
        self.refused.get_or_init(|| cause.into());
    }

    /// The registry has taken the schemas. A registry gives one schema one id, so what a second lane
    /// learns is the same.
    pub fn taken(&self, ids: Ids) {
        self.ids.get_or_init(|| ids);
    }
}

/// Confluent's strategies: by topic, by record, by both.
fn subject(naming: Subject, topic: &str, name: &str, side: &str) -> String {
    match naming {
        Subject::Topic => format!("{topic}-{side}"),
        Subject::Record => name.to_owned(),
        Subject::TopicRecord => format!("{topic}-{name}"),
    }
}

impl Language {
    /// Begins a key or a value: a zero byte, then the id (Confluent, "Wire format").
    pub(crate) fn frame(self, id: u32, out: &mut Vec<u8>) {
        out.push(0);
        out.extend_from_slice(&id.to_be_bytes());
        match self {
            Self::Avro => {}
            // The first message of the schema.
            Self::Protobuf => out.push(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_named_as_confluent_s_clients_do() {
        let of = |naming| subject(naming, "shop.orders", "p.shop.orders.Key", "key");
        assert_eq!(of(Subject::Topic), "shop.orders-key");
        assert_eq!(of(Subject::Record), "p.shop.orders.Key");
        assert_eq!(of(Subject::TopicRecord), "shop.orders-p.shop.orders.Key");
    }

    #[test]
    fn a_frame_is_a_zero_and_the_id() {
        let mut out = Vec::new();
        Language::Avro.frame(0x0102_0304, &mut out);
        assert_eq!(out, [0, 1, 2, 3, 4]);
    }
}
