//! What the server says in an `ErrorResponse` or a `NoticeResponse`.

use super::protocol;
use crate::Error;
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorFields;
use tracing::{info, warn};

/// The primary line and its code; details may hold values of rows, and are not kept.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Said {
    pub(crate) code: String,
    pub(crate) message: String,
}

impl Said {
    pub(crate) fn read(mut fields: ErrorFields<'_>) -> Result<Self, Error> {
        let mut said = Self::default();
        while let Some(field) = fields.next().map_err(protocol)? {
            let text = || String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'C' => said.code = text(),
                b'M' => said.message = text(),
                _ => {}
            }
        }
        Ok(said)
    }

    pub(crate) fn error(&self, doing: &str) -> Error {
        Error::from_server(&self.code, &self.message, doing)
    }

    pub(crate) fn log(&self) {
        let Self { code, message } = self;
        if code.starts_with("00") {
            info!(code, "notice of the server: {message}");
        } else {
            warn!(code, "notice of the server: {message}");
        }
    }

    /// A notice of a stream.
    ///
    /// # Errors
    /// When rows of a publication will not come (server fact 3): since 18 this is a mere warning.
    pub(crate) fn heed(self) -> Result<(), Error> {
        self.log();
        if self.message.contains("skipped loading publication") {
            return Err(Error::PublicationMissing { reason: self.message });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_that_is_skipped_is_an_error() {
        let said = |message: &str| Said { code: "01000".into(), message: message.into() };
        let heeded = said("skipped loading publication \"p\"").heed();
        assert!(matches!(heeded, Err(Error::PublicationMissing { .. })));
        assert!(said("logical decoding found consistent point at 0/1").heed().is_ok());
    }
}
