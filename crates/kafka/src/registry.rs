//! The schema registry: schemas go in, ids come out. Speaks the REST interface of Confluent's registry,
//! which others speak, too.
//!
//! Calls block; each is bounded in time and in what it reads. What may pass by itself is tried again a
//! little, here; for longer, by whoever owns the lane.

mod error;
mod http;

pub use error::RegistryError;

use http::{Answer, Http};
use record::schema::{Draft, Language, Reference, Schema, Taken, Version};
use serde::Deserialize;
use serde_json::json;
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Pauses before a call is tried once more.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
/// Ids that are remembered. A table version has two; beyond this, the registry is asked again.
const IDS_MAX: usize = 4096;
/// Versions of a subject that are looked through, the newest ones. Each one says which numbers were ever used.
const VERSIONS_MAX: usize = 200;
/// How often numbers are given anew where others have given them, too, at the same moment.
const ROUNDS_MAX: usize = 5;
/// Codes of the registry's own errors ("Schema Registry API Reference", Errors).
const SUBJECT_NOT_FOUND: u32 = 40401;
const VERSION_NOT_FOUND: u32 = 40402;
const SCHEMA_NOT_FOUND: u32 = 40403;

/// A registry. Cheap to clone; clones share connections and what they have learned. Shows no secret.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    http: Http,
    ids: Mutex<HashMap<Schema, u32>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("url", &self.0.http.url()).finish_non_exhaustive()
    }
}

/// Whether the registry would take a schema.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    Compatible,
    /// With its reason.
    Incompatible(String),
    /// The subject has no version yet.
    New,
}

#[derive(Deserialize)]
struct Registered {
    id: u32,
}

#[derive(Deserialize)]
struct Numbering {
    version: u32,
}

#[derive(Deserialize)]
struct Versioned {
    id: u32,
    schema: String,
}

#[derive(Deserialize)]
struct Level {
    #[serde(rename = "compatibilityLevel")]
    level: String,
}

#[derive(Deserialize)]
struct Text {
    schema: String,
}

#[derive(Deserialize)]
struct Compatible {
    is_compatible: bool,
    messages: Option<Vec<String>>,
    /// Apicurio's word for them; null where the schema fits.
    reason: Option<String>,
}

/// What the registry says of a call that it refuses.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    error_code: u32,
    message: String,
}

impl Registry {
    /// Resolves secrets and reads certificates; paths are relative to `folder`. Connects to nothing.
    ///
    /// # Errors
    /// A secret that is not there, a file that cannot be read.
    pub fn new(registry: &config::Registry, folder: &Path) -> Result<Self, crate::Error> {
        Ok(Self(Arc::new(Inner { http: Http::new(registry, folder)?, ids: Mutex::default() })))
    }

    /// Where it is, without what stands in the address beside that.
    #[must_use]
    pub fn url(&self) -> &str {
        self.0.http.url()
    }

    /// The id of a schema under its subject, which is registered where it is not yet.
    ///
    /// # Errors
    /// [`RegistryError::Incompatible`] where the subject's other versions rule it out; as
    /// [`RegistryError`] says else.
    pub fn register(&self, schema: &Schema) -> Result<u32, RegistryError> {
        if let Some(&id) = self.ids().get(schema) {
            return Ok(id);
        }
        let doing = format!("registering `{}`", schema.subject);
        let path = format!("/subjects/{}/versions", http::escaped(&schema.subject));
        let mut references = Vec::new();
        for reference in schema.references {
            let text = imported(reference);
            self.register(&text)?;
            let version = self.version(&text)?.ok_or_else(|| RegistryError::Answer {
                registry: self.url().into(),
                doing: doing.as_str().into(),
                reason: format!("it has taken `{}` and does not know it", reference.name),
            })?;
            references.push((reference.name, version));
        }
        let answer = self.ask(&doing, &path, Some(&body(schema, &references)))?;
        let Registered { id } = match answer.status {
            200 => self.understood(&doing, &answer)?,
            409 => return Err(self.conflict(&doing, schema, &answer)),
            _ => return Err(self.refused(&doing, &answer)),
        };
        let mut ids = self.ids();
        if IDS_MAX <= ids.len() {
            ids.clear();
        }
        ids.insert(schema.clone(), id);
        Ok(id)
    }

    /// What a conflict is. Two who register one schema at the same moment get such an answer, too (Apicurio, while
    /// it comes up): what the registry would take now is tried again.
    fn conflict(&self, doing: &str, schema: &Schema, answer: &Answer) -> RegistryError {
        let reason = error::shown(&refusal(answer).message);
        match self.check(schema) {
            Ok(Verdict::New | Verdict::Compatible) | Err(RegistryError::Unreachable { .. }) => {
                RegistryError::Unreachable {
                    registry: self.url().into(),
                    doing: doing.into(),
                    reason,
                }
            }
            Ok(Verdict::Incompatible(_)) | Err(_) => {
                RegistryError::Incompatible { subject: schema.subject.clone(), reason }
            }
        }
    }

    /// Has a schema taken, and says what fields are numbered by.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub fn settle(&self, draft: &Draft) -> Result<Taken, RegistryError> {
        let numbered = match draft {
            Draft::Whole(schema) => {
                let (id, numbers) = (self.register(schema)?, Box::default());
                return Ok(Taken { id, numbers });
            }
            Draft::Numbered(numbered) => numbered,
        };
        let mut versions = self.versions(numbered.subject())?;
        for _ in 0..ROUNDS_MAX {
            if let Some(taken) = numbered.found(&versions) {
                return Ok(taken);
            }
            self.register(&numbered.after(&versions).0)?;
            versions = self.versions(numbered.subject())?;
        }
        let doing = format!("numbering the fields of `{}`", numbered.subject()).into();
        let reason = "others number its columns at the same moment, again and again".into();
        Err(RegistryError::Unreachable { registry: self.url().into(), doing, reason })
    }

    /// As [`Self::check`], of a schema whose fields may have no numbers yet.
    ///
    /// # Errors
    /// As [`RegistryError`] says.
    pub fn check_draft(&self, draft: &Draft) -> Result<Verdict, RegistryError> {
        match draft {
            Draft::Whole(schema) => self.check(schema),
            Draft::Numbered(numbered) => match self.versions(numbered.subject())?.as_slice() {
                [] => Ok(Verdict::New),
                versions if numbered.found(versions).is_some() => Ok(Verdict::Compatible),
                versions => self.check(&numbered.after(versions).0),
            },
        }
    }

    /// The versions of a subject, the oldest first.
    fn versions(&self, subject: &str) -> Result<Vec<Version>, RegistryError> {
        let doing = format!("reading the versions of `{subject}`");
        let path = format!("/subjects/{}/versions", http::escaped(subject));
        let answer = self.ask(&doing, &path, None)?;
        if is_absent(&answer) {
            return Ok(Vec::new());
        }
        if answer.status != 200 {
            return Err(self.refused(&doing, &answer));
        }
        let numbers: Vec<u32> = self.understood(&doing, &answer)?;
        let mut versions = Vec::new();
        for number in &numbers[numbers.len().saturating_sub(VERSIONS_MAX)..] {
            let answer = self.ask(&doing, &format!("{path}/{number}"), None)?;
            // Deleted meanwhile.
            if is_absent(&answer) {
                continue;
            }
            if answer.status != 200 {
                return Err(self.refused(&doing, &answer));
            }
            let Versioned { id, schema } = self.understood(&doing, &answer)?;
            versions.push(Version { id, text: schema });
        }
        Ok(versions)
    }

    /// Number of the version of its subject that a schema is; `None`: it is none.
    fn version(&self, schema: &Schema) -> Result<Option<u32>, RegistryError> {
        let doing = format!("looking for `{}`", schema.subject);
        let path = format!("/subjects/{}", http::escaped(&schema.subject));
        let answer = self.ask(&doing, &path, Some(&body(schema, &[])))?;
        match answer.status {
            200 => self.understood(&doing, &answer).map(|Numbering { version }| Some(version)),
            _ if is_absent(&answer) => Ok(None),
            _ => Err(self.refused(&doing, &answer)),
        }
    }

    /// Whether a schema would be taken. Registers nothing.
    ///
    /// # Errors
    /// As [`RegistryError`] says.
    pub fn check(&self, schema: &Schema) -> Result<Verdict, RegistryError> {
        let doing = format!("checking `{}`", schema.subject);
        let subject = http::escaped(&schema.subject);
        let path = format!("/compatibility/subjects/{subject}/versions/latest?verbose=true");
        let mut references = Vec::new();
        for reference in schema.references {
            match self.version(&imported(reference))? {
                Some(version) => references.push((reference.name, version)),
                // Nobody has written such schemas to this registry.
                None => return Ok(Verdict::New),
            }
        }
        let answer = self.ask(&doing, &path, Some(&body(schema, &references)))?;
        if is_absent(&answer) {
            return Ok(Verdict::New);
        }
        if answer.status != 200 {
            return Err(self.refused(&doing, &answer));
        }
        let Compatible { is_compatible, messages, reason } = self.understood(&doing, &answer)?;
        let messages: Vec<_> = messages.into_iter().flatten().chain(reason).collect();
        Ok(match is_compatible {
            true => Verdict::Compatible,
            false => Verdict::Incompatible(error::shown(&messages.join("; "))),
        })
    }

    /// Text of the subject's newest version; `None`: it has none.
    ///
    /// # Errors
    /// As [`RegistryError`] says.
    pub fn latest(&self, subject: &str) -> Result<Option<String>, RegistryError> {
        let doing = format!("reading `{subject}`");
        let path = format!("/subjects/{}/versions/latest", http::escaped(subject));
        let answer = self.ask(&doing, &path, None)?;
        match answer.status {
            200 => self.understood(&doing, &answer).map(|Text { schema }| Some(schema)),
            _ if is_absent(&answer) => Ok(None),
            _ => Err(self.refused(&doing, &answer)),
        }
    }

    /// Text of the schema with an id.
    ///
    /// # Errors
    /// As [`RegistryError`] says.
    pub fn schema(&self, id: u32) -> Result<String, RegistryError> {
        let doing = format!("reading schema {id}");
        let answer = self.ask(&doing, &format!("/schemas/ids/{id}"), None)?;
        match answer.status {
            200 => self.understood(&doing, &answer).map(|Text { schema }| schema),
            _ => Err(self.refused(&doing, &answer)),
        }
    }

    /// The compatibility level that subjects have unless they have their own, e.g. `BACKWARD`.
    ///
    /// # Errors
    /// As [`RegistryError`] says.
    pub fn level(&self) -> Result<String, RegistryError> {
        let doing = "reading the compatibility level";
        let answer = self.ask(doing, "/config", None)?;
        match answer.status {
            200 => self.understood(doing, &answer).map(|Level { level }| error::shown(&level)),
            _ => Err(self.refused(doing, &answer)),
        }
    }

    /// Asks once more where the cause may have passed.
    fn ask(&self, doing: &str, path: &str, body: Option<&[u8]>) -> Result<Answer, RegistryError> {
        let mut pauses = PAUSES.iter();
        loop {
            let answer = self.0.http.ask(doing, path, body);
            let again = match &answer {
                Ok(answer) => is_passing(answer.status),
                Err(error) => matches!(error, RegistryError::Unreachable { .. }),
            };
            match pauses.next() {
                Some(&pause) if again => std::thread::sleep(pause),
                Some(_) | None => return answer,
            }
        }
    }

    fn understood<T: for<'a> Deserialize<'a>>(
        &self,
        doing: &str,
        answer: &Answer,
    ) -> Result<T, RegistryError> {
        serde_json::from_slice(&answer.body).map_err(|error| RegistryError::Answer {
            registry: self.url().into(),
            doing: doing.into(),
            // Says where and what was expected, not what was there.
            reason: format!("it is not the JSON that was asked for, at column {}", error.column()),
        })
    }

    fn refused(&self, doing: &str, answer: &Answer) -> RegistryError {
        let (registry, doing) = (self.url().into(), doing.into());
        let Refusal { message, .. } = refusal(answer);
        let reason = match error::shown(&message) {
            text if text.is_empty() => format!("status {}", answer.status),
            text => format!("status {}: {text}", answer.status),
        };
        match answer.status {
            401 | 403 | 407 => RegistryError::NotAuthorized { registry, doing, reason },
            status if is_passing(status) => RegistryError::Unreachable { registry, doing, reason },
            _ => RegistryError::Refused { registry, doing, reason },
        }
    }

    fn ids(&self) -> std::sync::MutexGuard<'_, HashMap<Schema, u32>> {
        self.0.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Overloaded, restarting, or a proxy in front of one that is.
fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..)
}

fn is_absent(answer: &Answer) -> bool {
    answer.status == 404
        && matches!(
            refusal(answer).error_code,
            SUBJECT_NOT_FOUND | VERSION_NOT_FOUND | SCHEMA_NOT_FOUND
        )
}

fn refusal(answer: &Answer) -> Refusal {
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

/// A file that schemas import, as the one schema of its subject.
fn imported(Reference { name, text }: &Reference) -> Schema {
    let language = Language::Protobuf;
    Schema { subject: (*name).into(), language, text: (*text).into(), references: &[] }
}

fn body(schema: &Schema, references: &[(&str, u32)]) -> Vec<u8> {
    let text = &*schema.text;
    let mut body = match schema.language {
        // The default; registries of old do not know the member.
        Language::Avro => json!({ "schema": text }),
        Language::Protobuf => json!({ "schemaType": "PROTOBUF", "schema": text }),
    };
    if !references.is_empty() {
        let reference = |(name, version): &(&str, u32)| json!({ "name": name, "subject": name, "version": version });
        body["references"] = references.iter().map(reference).collect();
    }
    body.to_string().into_bytes()
}
