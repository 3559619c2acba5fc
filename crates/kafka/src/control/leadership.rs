//! Leading a cluster: the one who may write the control log.

use super::succession::Succession;
use super::{
    ControlEntry, ControlSettings, FENCE_KEY, Heartbeat, LEADER_KEY, LeaderFence, REMEDY, VERSION,
    in_doubt,
};
use crate::Error;
use crate::holder::{Holder, KeyValue, new_owner};
use tracing::info;

/// The leader's end of the control log. All calls block, for half a minute at most where Kafka does not
/// answer: whoever leads must step down by its own clock. Once fenced it is of no use any more.
pub struct Leadership {
    holder: Holder,
    /// The next heartbeat.
    beat: Heartbeat,
}

impl Leadership {
    /// Becomes the leader: fences the older one, and reads everything that was written before.
    ///
    /// # Errors
    /// Kafka does not answer or does not permit it; the log cannot be trusted.
    pub fn take(
        settings: &ControlSettings,
        node: &str,
        address: &str,
    ) -> Result<(Self, Vec<ControlEntry>), Error> {
        let fence = LeaderFence {
            v: VERSION,
            node: node.into(),
            address: address.into(),
            ver: env!("CARGO_PKG_VERSION").into(),
            owner: new_owner(&settings.settings),
        };
        let (seat, json) = (settings.seat.clone(), json(&fence)?);
        let (holder, entries) = Holder::take(&settings.settings, seat, json).map_err(in_doubt)?;
        let mut succession = Succession::default();
        for entry in &entries {
            succession.admit(entry.offset, &entry.key, &entry.value).map_err(|broken| {
                let reason = format!("{broken}; {REMEDY}");
                Error::InternalTopic { topic: settings.topic().into(), reason }
            })?;
        }
        let term = holder.term();
        let LeaderFence { v, node, address, owner, .. } = fence;
        info!(node, term, "leading the cluster");
        let beat = Heartbeat { v, term, node, address, beat: 1, owner, resigned: false };
        Ok((Self { holder, beat }, entries.into_iter().map(ControlEntry::from).collect()))
    }

    /// The offset of the first fence: greater than that of every leader before.
    #[must_use]
    pub fn term(&self) -> i64 {
        self.holder.term()
    }

    /// The last offset that this leader knows to be committed.
    #[must_use]
    pub fn committed(&self) -> i64 {
        self.holder.committed()
    }

    /// Writes records in one transaction: all of them are seen, or none. Without a value a key is
    /// deleted.
    ///
    /// # Errors
    /// [`Error::Fenced`] for good. [`Error::InternalTopic`]: the log was taken away. After any other the
    /// outcome is unknown until [`Self::settle`] or another write has succeeded.
    pub fn write(&mut self, records: &[KeyValue]) -> Result<(), Error> {
        if let Some((key, _)) =
            records.iter().find(|(key, _)| [FENCE_KEY, LEADER_KEY].contains(&&**key))
        {
            let reason = format!("key `{key}` is not for state");
            return Err(Error::Client { doing: "writing the control log".into(), reason });
        }
        self.write_down(records)
    }

    /// Tells every reader that this leader is alive.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn beat(&mut self) -> Result<(), Error> {
        let value = json(&self.beat)?;
        self.write_down(&[(LEADER_KEY.into(), Some(value))])?;
        self.beat.beat += 1;
        Ok(())
    }

    /// As [`Self::beat`], for the last time: this leader steps down by itself, and nobody needs to wait.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn resign(&mut self) -> Result<(), Error> {
        self.beat.resigned = true;
        self.beat()
    }

    /// Whether the next write goes on where the last one ended. Otherwise a new fence comes first, and
    /// with it a new term for everybody who counts fences: better take the role anew.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.holder.is_open()
    }

    /// Makes sure that nothing of this leader is undecided: whoever has read up to the offset that is
    /// returned knows what became of a write that failed.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn settle(&mut self) -> Result<i64, Error> {
        self.write_down(&[])?;
        Ok(self.committed())
    }

    /// A lane whose epoch was ended by the broker may open again; a leader has been silent for too long
    /// by then, and others may already act on that.
    fn write_down(&mut self, records: &[KeyValue]) -> Result<(), Error> {
        self.holder.write(records).map_err(|error| {
            if matches!(error, Error::Fenced { .. } | Error::TopicTruncated { .. }) {
                self.holder.give_up();
            }
            in_doubt(error)
        })
    }
}

fn json(record: &impl serde::Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(record).map_err(|error| Error::from_json("writing the control log", &error))
}
