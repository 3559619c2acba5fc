//! Schemas that records are framed with, and the ids that a registry gives them.
//!
//! The text of a Protobuf schema depends on the versions that its subject has: fields keep their numbers
//! for ever, and the numbers live in the registry. So a plan makes a [`Draft`], and whoever asks the
//! registry completes it.

use crate::encode::{Message, numbers};
use config::Subject;
use std::sync::OnceLock;

/// A schema and the subject under which a registry keeps its versions.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Schema {
    pub subject: Box<str>,
    pub language: Language,
    pub text: Box<str>,
    /// What the text imports.
    pub references: &'static [Reference],
}

/// A file that schemas import, kept under a subject of its own that has the file's name.
#[derive(Debug, Eq, Hash, PartialEq)]
pub struct Reference {
    pub name: &'static str,
    pub text: &'static str,
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

/// A version of a subject, as the registry has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Version {
    pub id: u32,
    pub text: String,
}

/// A schema before the registry was asked.
#[derive(Clone, Debug)]
pub enum Draft {
    Whole(Schema),
    Numbered(Numbered),
}

/// A Protobuf schema whose fields have no numbers yet.
#[derive(Clone, Debug)]
pub struct Numbered {
    subject: Box<str>,
    message: Message,
}

/// What the registry has taken: its id, and of a [`Numbered`] one the numbers of the columns' fields.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Taken {
    pub id: u32,
    pub numbers: Box<[u32]>,
}

/// What the registry has taken of one table version.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settled {
    /// `None`: the key is null.
    pub key: Option<Taken>,
    pub value: Taken,
}

/// The schemas of one table version. A registry must have taken them before the first row is encoded.
#[derive(Debug)]
pub struct Schemas {
    /// `None`: the key is null.
    pub key: Option<Draft>,
    pub value: Draft,
    settled: OnceLock<Settled>,
    refused: OnceLock<Box<str>>,
}

/// Text of a schema, and the full name of what it describes.
pub(crate) type Named = (String, String);

impl Draft {
    #[must_use]
    pub fn subject(&self) -> &str {
        match self {
            Self::Whole(schema) => &schema.subject,
            Self::Numbered(numbered) => &numbered.subject,
        }
    }

    /// The schema where its subject has these versions, the oldest first.
    #[must_use]
    pub fn after(&self, versions: &[Version]) -> Schema {
        match self {
            Self::Whole(schema) => schema.clone(),
            Self::Numbered(numbered) => numbered.after(versions).0,
        }
    }

    fn language(&self) -> Language {
        match self {
            Self::Whole(schema) => schema.language,
            Self::Numbered(_) => Language::Protobuf,
        }
    }

    fn numbers(&self) -> Box<[u32]> {
        match self {
            Self::Whole(_) => Box::default(),
            Self::Numbered(numbered) => numbered.after(&[]).1,
        }
    }
}

impl Numbered {
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The newest version that says of every column what this one says, unless it gives one a number that
    /// an older version has given to another: two lanes can number new columns at the same moment.
    #[must_use]
    pub fn found(&self, versions: &[Version]) -> Option<Taken> {
        let numbers = self.past(versions).number(&self.message);
        versions.iter().rev().find_map(|version| {
            let same = numbers::same(&self.message, &version.text)?;
            (same == numbers).then_some(Taken { id: version.id, numbers: same })
        })
    }

    /// The version that comes after these, the oldest first, and the numbers of the columns' fields: those
    /// that they had before, or new ones.
    #[must_use]
    pub fn after(&self, versions: &[Version]) -> (Schema, Box<[u32]>) {
        let past = self.past(versions);
        let numbers = past.number(&self.message);
        let text = self.message.text(&numbers, &past);
        let references = self.message.references();
        let (subject, language) = (self.subject.clone(), Language::Protobuf);
        (Schema { subject, language, text: text.into(), references }, numbers)
    }

    fn past(&self, versions: &[Version]) -> numbers::Past {
        numbers::Past::of(&self.message, versions.iter().map(|it| &*it.text))
    }
}

impl Schemas {
    /// `topic`: of the records.
    pub(crate) fn new(
        language: Language,
        naming: Subject,
        topic: &str,
        key: Option<Named>,
        value: Named,
    ) -> Self {
        let schema = |(text, name): Named, side: &str| {
            Draft::Whole(Schema {
                subject: subject(naming, topic, &name, side).into(),
                language,
                text: text.into(),
                references: &[],
            })
        };
        let key = key.map(|key| schema(key, "key"));
        Self {
            key,
            value: schema(value, "value"),
            settled: OnceLock::new(),
            refused: OnceLock::new(),
        }
    }

    /// As [`Self::new`], of schemas whose fields are numbered by the registry's versions.
    pub(crate) fn numbered(
        naming: Subject,
        topic: &str,
        key: Option<Message>,
        value: Message,
    ) -> Self {
        let draft = |message: Message, side: &str| {
            let subject = subject(naming, topic, &message.full_name(), side).into();
            Draft::Numbered(Numbered { subject, message })
        };
        let key = key.map(|key| draft(key, "key"));
        let (settled, refused) = (OnceLock::new(), OnceLock::new());
        Self { key, value: draft(value, "value"), settled, refused }
    }

    /// Ids that the registry gave; `None`: it was not asked yet.
    #[must_use]
    pub fn ids(&self) -> Option<Ids> {
        let settled = self.settled()?;
        Some(Ids { key: settled.key.as_ref().map(|key| key.id), value: settled.value.id })
    }

    /// What the registry has taken; `None`: it was not asked yet.
    pub(crate) fn settled(&self) -> Option<&Settled> {
        self.settled.get()
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

    /// The registry has taken the schemas. What a second lane learns is dropped: rows of both are
    /// written by the same schema.
    pub fn taken(&self, settled: Settled) {
        self.settled.get_or_init(|| settled);
    }

    /// As [`Self::taken`], from a registry that had no version of the subjects.
    pub fn taken_first(&self, ids: Ids) {
        let taken = |draft: &Draft, id| Taken { id, numbers: draft.numbers() };
        let key = self.key.as_ref().zip(ids.key).map(|(draft, id)| taken(draft, id));
        self.taken(Settled { key, value: taken(&self.value, ids.value) });
    }

    /// Begins a value and a key with the ids of their schemas.
    pub(crate) fn frame(&self, ids: Ids, value: &mut Vec<u8>, key: &mut Vec<u8>) {
        self.value.language().frame(ids.value, value);
        if let (Some(schema), Some(id)) = (&self.key, ids.key) {
            schema.language().frame(id, key);
        }
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
