//! In which form the server is asked for values (`source.wire`). Records are the same by either: the decoder turns what is
//! binary into the text that the server would have sent.

use super::Task;
use crate::failure::Failure;
use postgres::Session;
use postgres::publication::PublishedType;
use supervision::{FailureClass, Stage};
use tracing::{info, warn};

/// The option `binary` of pgoutput.
const BINARY_SINCE: u32 = 140_000;

/// What a run knows of it.
#[derive(Debug, Default)]
pub(super) struct Wire {
    /// Values come in binary form in the present life of the front.
    is_binary: bool,
    /// A value came, or was to come, that has no text here: the stream may hold more of its kind.
    only_text: bool,
}

impl Task {
    /// For a new life of the front: `server_version_num`, where the server is to send values in binary form; `None`:
    /// as text.
    pub(super) async fn choose_wire(&mut self, session: &Session) -> Result<Option<u32>, Failure> {
        let version = session.server().version;
        let against = match self.spec.source.wire {
            config::Wire::Text => Some(String::new()),
            config::Wire::Auto if self.wire.only_text => Some(String::new()),
            config::Wire::Auto if session.server().is_polardb => {
                Some("the forms of PolarDB's types are not known here".to_owned())
            }
            config::Wire::Auto | config::Wire::Binary => self.undecodable(session).await?,
        };
        match &against {
            Some(cause) if self.spec.source.wire == config::Wire::Binary => {
                return Err(Failure::fatal(format!(
                    "values cannot be read in binary form: {cause}; set `source.wire` to auto or text"
                )));
            }
            Some(cause) if !cause.is_empty() => info!(cause, "values are asked for as text"),
            Some(_) | None => {}
        }
        self.wire.is_binary = against.is_none();
        Ok(self.wire.is_binary.then_some(version))
    }

    /// Why values cannot be asked for in binary form; `None`: they can.
    async fn undecodable(&self, session: &Session) -> Result<Option<String>, Failure> {
        let version = session.server().version;
        if version < BINARY_SINCE {
            return Ok(Some("PostgreSQL sends no binary form before 14".into()));
        }
        let published = session.published_types(&self.slot_name).await?;
        Ok(published.iter().find_map(|PublishedType { column, type_ }| {
            let fault = wal::binary::without_decoder([&**type_], version)?;
            Some(format!("column {column}: {fault}"))
        }))
    }

    /// Whether what ended a stage passes once values come as text. Nothing was confirmed of what it did not pass on, so
    /// the stream begins again before it.
    pub(super) fn goes_on_with_text(
        &mut self,
        stage: Stage,
        class: FailureClass,
        cause: &str,
    ) -> bool {
        let reads = matches!(stage, Stage::Reader | Stage::Decoder);
        let is_auto = self.spec.source.wire == config::Wire::Auto;
        if !(self.wire.is_binary && is_auto && reads && class == FailureClass::Poison) {
            return false;
        }
        warn!(cause, "a value cannot be read in binary form, the stream begins again with text");
        self.wire.only_text = true;
        true
    }
}
