//! How large the records of each topic may be, as the brokers say.

use crate::Error;
use crate::settings::Settings;
use crate::topics::Admin;
use std::collections::HashMap;

/// What a topic takes where its brokers do not say (Kafka, `max.message.bytes`).
const RECORD_BYTES_USUAL: u64 = 1_048_588;

/// The limits of topics, each asked for once. Calls block.
pub struct Limits {
    settings: Settings,
    admin: Option<Admin>,
    known: HashMap<String, u64>,
}

impl Limits {
    /// Knows nothing yet, and connects to nothing.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, admin: None, known: HashMap::new() }
    }

    /// The largest record of a topic, in bytes: what both the client and the topic take.
    ///
    /// # Errors
    /// When no broker answers, or the topic's settings may not be read.
    pub fn record_bytes_max(&mut self, topic: &str) -> Result<u64, Error> {
        if let Some(known) = self.known.get(topic) {
            return Ok(*known);
        }
        let admin = match &self.admin {
            Some(admin) => admin,
            None => self.admin.insert(Admin::new(&self.settings)?),
        };
        let found = admin.record_bytes_max(topic)?.unwrap_or(RECORD_BYTES_USUAL);
        let limit = found.min(self.settings.record_bytes_max());
        self.known.insert(topic.to_owned(), limit);
        Ok(limit)
    }
}
