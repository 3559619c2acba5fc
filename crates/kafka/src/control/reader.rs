//! Following the control log from its beginning.

use super::succession::Succession;
use super::{ControlEntry, ControlSettings, REMEDY, in_doubt};
use crate::Error;
use crate::checkpoint::Ends;
use crate::client::Watch;
use crate::error::is_missing_topic;
use crate::lookup::Lookup;
use crate::read::{Entry, assign, reading};
use rdkafka::Offset;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Records of one call.
const ENTRIES_MAX: usize = 1000;

/// Reads what leaders have committed, in order. Where the log ends right now is never asked: a leader may
/// be about to commit, so only an offset that somebody has told says how far to read
/// ([`ControlReader::has_read`]).
pub struct ControlReader {
    settings: ControlSettings,
    consumer: BaseConsumer<Watch>,
    /// Every record below it was delivered.
    next: i64,
    succession: Succession,
    /// The client reads no further before somebody has looked why.
    stuck: bool,
    /// The log is not the one that was read before. For good.
    lost: Option<Error>,
}

impl ControlReader {
    /// Begins with the first record; nothing is read yet.
    ///
    /// # Errors
    /// Settings that no client can be made of.
    pub fn new(settings: &ControlSettings) -> Result<Self, Error> {
        let consumer = settings
            .settings
            .follower(settings.topic())
            .create_with_context(Watch::default())
            .map_err(|error| Error::from_kafka("making a consumer", &error))?;
        assign(&consumer, &settings.seat, Offset::Beginning)?;
        Ok(Self {
            settings: settings.clone(),
            consumer,
            next: 0,
            succession: Succession::default(),
            stuck: false,
            lost: None,
        })
    }

    /// The records that have come, or, where none has, the first that come within `patience`. Blocks
    /// longer only where it has to look whether the topic is still the same.
    ///
    /// # Errors
    /// [`Error::InternalTopic`], for good: something was taken from the log. All others, of which the
    /// last is told where no record has come, may pass: the reader goes on where it was.
    pub fn poll(&mut self, patience: Duration) -> Result<Vec<ControlEntry>, Error> {
        if let Some(lost) = &self.lost {
            return Err(lost.clone());
        }
        if self.stuck {
            self.look_why()?;
        }
        let until = Instant::now() + patience;
        let (mut entries, mut trouble) = (Vec::new(), None);
        while entries.len() < ENTRIES_MAX && !self.stuck {
            let rest = match &*entries {
                [] => until.saturating_duration_since(Instant::now()),
                [_, ..] => Duration::ZERO,
            };
            let polled = self.consumer.poll(rest).map(|it| it.map(|message| Entry::of(&message)));
            match polled {
                Some(Ok(entry)) => entries.push(self.admit(entry)?),
                Some(Err(error)) => trouble = Some(self.sort(&error)),
                None => break,
            }
        }
        match trouble {
            Some(error) if entries.is_empty() => Err(error),
            Some(_) | None => Ok(entries),
        }
    }

    /// Whether everything up to the record at `offset` was delivered.
    #[must_use]
    pub fn has_read(&self, offset: i64) -> bool {
        offset < self.next
    }

    fn admit(&mut self, entry: Entry) -> Result<ControlEntry, Error> {
        let Entry { offset, key, value } = &entry;
        if *offset < self.next {
            let written = self.next - 1;
            return Err(self.lose(&format!("offset {offset} follows {written}")));
        }
        if let Err(broken) = self.succession.admit(*offset, key, value) {
            return Err(self.lose(&broken));
        }
        self.next = offset + 1;
        Ok(entry.into())
    }

    fn sort(&mut self, error: &KafkaError) -> Error {
        use RDKafkaErrorCode::{AutoOffsetReset, OffsetOutOfRange};
        let code = error.rdkafka_error_code();
        self.stuck |= code.is_some_and(|code| {
            is_missing_topic(code) || matches!(code, AutoOffsetReset | OffsetOutOfRange)
        });
        Error::from_kafka(&reading(&self.settings.seat), error)
    }

    /// A broker that has just started may not know its topics yet; a topic that was deleted, truncated
    /// or made anew is another matter.
    fn look_why(&mut self) -> Result<(), Error> {
        let seat = &self.settings.seat;
        let lookup = Lookup::new(&self.settings.settings)?;
        let from = match self.next.checked_sub(1).filter(|last| 0 <= *last) {
            Some(last) => {
                let ends = BTreeMap::from([(seat.partition, last)]);
                let read = Ends::from([(seat.topic.clone(), ends)]);
                if let Err(error) = lookup.verify_ends(&read, &Ends::new()) {
                    return Err(self.remember(in_doubt(error)));
                }
                let begin = lookup.begin(&seat.topic, seat.partition)?;
                if let Some(begin) = begin.filter(|begin| self.next < *begin) {
                    return Err(self.lose(&format!("it begins at offset {begin} now")));
                }
                Offset::Offset(self.next)
            }
            None => {
                if lookup.begin(&seat.topic, seat.partition)?.is_none() {
                    return Err(Error::TopicMissing { topic: seat.topic.clone() });
                }
                Offset::Beginning
            }
        };
        assign(&self.consumer, seat, from)?;
        self.stuck = false;
        Ok(())
    }

    fn lose(&mut self, reason: &dyn std::fmt::Display) -> Error {
        let reason = format!(
            "{reason}: it was deleted, truncated or created anew since it was read; {REMEDY}"
        );
        let topic = self.settings.topic().to_owned();
        self.remember(Error::InternalTopic { topic, reason })
    }

    fn remember(&mut self, error: Error) -> Error {
        if matches!(error, Error::InternalTopic { .. }) {
            self.lost = Some(error.clone());
        }
        error
    }
}
