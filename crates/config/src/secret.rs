//! Secrets of a spec: references, resolved when they are used, never shown.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A password or the like: `${env:NAME}`, `${file:PATH}`, or a literal. Shown as `***`.
#[derive(Clone)]
pub struct Secret(Written);

#[derive(Clone)]
enum Written {
    Env(String),
    File(String),
    Literal(SecretString),
}

/// Where a secret is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reference<'a> {
    Env(&'a str),
    File(&'a str),
    Literal,
}

/// A secret could not be had. Names the reference, never the value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("environment variable `{0}` is not set; set it, or give the secret as ${{file:PATH}}")]
    EnvMissing(String),
    #[error("secret file `{path}` cannot be read: {source}")]
    File { path: String, source: std::io::Error },
    #[error("secret file `{0}` is larger than 64 KiB; it should hold one secret and nothing else")]
    FileTooLarge(String),
}

const FILE_BYTES_MAX: u64 = 64 << 10;
/// The bits of a file's mode that are about users who have nothing to do with it.
const EVERYBODY: u32 = 0o007;

impl Secret {
    fn parse(text: String) -> Self {
        let inner = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        Self(match inner.and_then(|inner| inner.split_once(':')) {
            Some(("env", name)) => Written::Env(name.to_owned()),
            Some(("file", path)) => Written::File(path.to_owned()),
            _ => Written::Literal(SecretString::from(text)),
        })
    }

    /// Whether the value itself stands in the spec.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        matches!(self.0, Written::Literal(_))
    }

    /// Variable or file that it is resolved from; neither for a literal.
    #[must_use]
    pub fn reference(&self) -> Reference<'_> {
        match &self.0 {
            Written::Env(name) => Reference::Env(name),
            Written::File(path) => Reference::File(path),
            Written::Literal(_) => Reference::Literal,
        }
    }

    /// The value. Files are relative to `folder`; a line break at their end is dropped.
    ///
    /// # Errors
    /// When the variable or the file is not there.
    pub fn resolve(&self, folder: &Path) -> Result<SecretString, SecretError> {
        match &self.0 {
            Written::Env(name) => std::env::var(name)
                .map(SecretString::from)
                .map_err(|_| SecretError::EnvMissing(name.clone())),
            Written::File(path) => {
                let failed = |source| SecretError::File { path: path.clone(), source };
                let file = std::fs::File::open(folder.join(path)).map_err(failed)?;
                let mut bytes = Vec::new();
                // One more tells that there is more: nobody knows how much.
                file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
                if FILE_BYTES_MAX < bytes.len() as u64 {
                    return Err(SecretError::FileTooLarge(path.clone()));
                }
                let text = String::from_utf8(bytes)
                    .map_err(|_| failed(std::io::Error::from(std::io::ErrorKind::InvalidData)))?;
                Ok(SecretString::from(text.trim_end_matches(['\n', '\r'])))
            }
            Written::Literal(value) => Ok(value.clone()),
        }
    }
}

/// A secret as it is now: whoever opens a connection reads it again, so that it may be replaced while a task runs.
pub struct LiveSecret {
    secret: Secret,
    folder: PathBuf,
    last: Mutex<SecretString>,
}

impl LiveSecret {
    /// Files are relative to `folder`.
    ///
    /// # Errors
    /// As [`Secret::resolve`].
    pub fn new(secret: &Secret, folder: &Path) -> Result<Self, SecretError> {
        let last = Mutex::new(secret.resolve(folder)?);
        Ok(Self { secret: secret.clone(), folder: folder.to_owned(), last })
    }

    /// The present value. While its file is missing, as when it is being replaced, the last one: the other side then
    /// says whether that is still right.
    #[must_use]
    pub fn read(&self) -> SecretString {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(present) = self.secret.resolve(&self.folder) {
            *last = present;
        }
        last.clone()
    }
}

impl fmt::Debug for LiveSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.secret)
    }
}

impl crate::Task {
    /// Secret files that everybody on this machine can read, with the settings that name them. Paths are relative to
    /// `folder`.
    #[must_use]
    pub fn exposed_secrets(&self, folder: &Path) -> Vec<String> {
        exposed(self.secrets(), folder)
    }
}

/// Files of those that everybody on this machine can read, by the path of the setting. Relative to `folder`.
fn exposed<'a>(secrets: impl Iterator<Item = (String, &'a Secret)>, folder: &Path) -> Vec<String> {
    let exposed = |(path, secret): (String, &Secret)| {
        let Written::File(file) = &secret.0 else { return None };
        let metadata = std::fs::metadata(folder.join(file)).ok()?;
        (metadata.permissions().mode() & EVERYBODY != 0).then(|| format!("{path}: {file}"))
    };
    secrets.filter_map(exposed).collect()
}

/// Paths of those whose value stands in the spec.
pub(crate) fn literals<'a>(secrets: impl Iterator<Item = (String, &'a Secret)>) -> Vec<String> {
    secrets.filter(|(_, secret)| secret.is_literal()).map(|(path, _)| path).collect()
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Written::Env(name) => write!(f, "${{env:{name}}}"),
            Written::File(path) => write!(f, "${{file:{path}}}"),
            Written::Literal(_) => f.write_str("***"),
        }
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Written::Literal(a), Written::Literal(b)) => a.expose_secret() == b.expose_secret(),
            _ => self.to_string() == other.to_string(),
        }
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The library's own error would quote the value.
        String::deserialize(deserializer)
            .map(Self::parse)
            .map_err(|_| serde::de::Error::custom("must be a text; put the secret into quotes"))
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl schemars::JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "examples": ["${env:PASSWORD}", "${file:/run/secrets/shop}"]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_is_never_shown() {
        let secret = Secret::parse("hunter2".into());
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
        assert!(secret.is_literal());
    }

    #[test]
    fn a_secret_that_is_replaced_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("password");
        let secret = Secret::parse("${file:password}".into());
        assert!(LiveSecret::new(&secret, folder.path()).is_err(), "it is missing");
        std::fs::write(&path, "old\n").expect("written");
        let live = LiveSecret::new(&secret, folder.path()).expect("there");
        assert_eq!(live.read().expose_secret(), "old");
        std::fs::write(&path, "new\n").expect("written");
        assert_eq!(live.read().expose_secret(), "new");
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(live.read().expose_secret(), "new", "while it is being replaced");
        assert_eq!(format!("{live:?}"), "${file:password}");
    }

    #[test]
    fn a_file_that_everybody_can_read_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let secret = Secret::parse("${file:password}".into());
        let other = Secret::parse("${env:PASSWORD}".into());
        let found = || {
            let secrets = [("source.password", &secret), ("sink.password", &other)];
            exposed(secrets.into_iter().map(|(path, it)| (path.into(), it)), folder.path())
        };
        assert!(found().is_empty(), "that it is missing is told by whoever needs it");
        let path = folder.path().join("password");
        std::fs::write(&path, "s3cret").expect("written");
        for (mode, is_exposed) in [(0o644, true), (0o604, true), (0o640, false), (0o600, false)] {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&path, permissions).expect("set");
            let expected: &[&str] = if is_exposed { &["source.password: password"] } else { &[] };
            assert_eq!(found(), expected, "{mode:o}");
        }
    }

    #[test]
    fn a_file_is_read_up_to_its_limit_however_long_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let resolve =
            |path: &str| Secret::parse(format!("${{file:{path}}}")).resolve(folder.path());
        assert!(matches!(resolve("/dev/zero"), Err(SecretError::FileTooLarge(_))));
        let write = |bytes| std::fs::write(folder.path().join("key"), bytes).expect("written");
        write(vec![b'x'; 64 << 10]);
        assert_eq!(resolve("key").expect("it fits").expose_secret().len(), 64 << 10);
        write(vec![b'x'; (64 << 10) + 1]);
        assert!(matches!(resolve("key"), Err(SecretError::FileTooLarge(_))));
        write(vec![0xff]);
        assert!(matches!(resolve("key"), Err(SecretError::File { .. })), "no text");
    }

    #[test]
    fn a_missing_variable_is_named() {
        let secret = Secret::parse("${env:DISTRIBUTARY_NO_SUCH}".into());
        let error = secret.resolve(Path::new(".")).expect_err("must fail").to_string();
        assert!(error.contains("DISTRIBUTARY_NO_SUCH"), "{error}");
    }
}
