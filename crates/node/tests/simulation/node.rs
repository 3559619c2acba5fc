//! What every node does: it reads the control topic, at its own pace, and obeys.

use super::Bug;
use super::kafka::Control;
use node::state::{Changed, ClusterState, Key, Unusable};
use std::time::Instant;

pub(crate) struct Reader {
    pub(crate) cluster: ClusterState,
    bug: Option<Bug>,
}

impl Reader {
    pub(crate) fn new(bug: Option<Bug>) -> Self {
        Self { cluster: ClusterState::default(), bug }
    }

    /// Reads up to `records_max` records; what they have changed.
    pub(crate) fn read(
        &mut self,
        control: &Control,
        records_max: usize,
    ) -> Result<Vec<Changed>, String> {
        let begin = usize::try_from(self.cluster.next_offset()).expect("an offset");
        let mut changes = Vec::new();
        for (record, offset) in control.records[begin..].iter().zip(begin..).take(records_max) {
            let offset = i64::try_from(offset).expect("few");
            let value = record.value.as_deref();
            let applied = match self.cluster.apply(offset, &record.key, value) {
                Err(Unusable::Stale { .. }) if self.bug == Some(Bug::StaleObeyed) => {
                    self.obey_anyway(&record.key, value.expect("a tombstone has no term"))
                }
                applied => applied,
            };
            match applied {
                Ok(changed) => {
                    let below = record.term.is_some_and(|it| it < record.highest);
                    if below && changed != Changed::Nothing {
                        let (key, term) = (&record.key, record.term);
                        return Err(format!("I8: {key} of {term:?} obeyed in {}", record.highest));
                    }
                    changes.push(changed);
                }
                Err(Unusable::Stale { .. }) if record.term < Some(record.highest) => {}
                Err(error) => return Err(format!("record {offset}: {error}")),
            }
        }
        Ok(changes)
    }

    fn obey_anyway(&mut self, key: &str, value: &[u8]) -> Result<Changed, Unusable> {
        match Key::parse(key) {
            Some(Key::Placement(task)) => {
                let placement = serde_json::from_slice(value).expect("a placement");
                self.cluster.placements.insert(task.clone(), placement);
                Ok(Changed::Placement(task))
            }
            _ => Ok(Changed::Nothing),
        }
    }
}

/// What befalls any process.
#[derive(Default)]
pub(crate) struct Condition {
    /// Stands still until then.
    pub(crate) paused: Option<Instant>,
    /// Reaches nobody until then.
    pub(crate) cut: Option<Instant>,
}

impl Condition {
    pub(crate) fn heal(&mut self, now: Instant) {
        self.paused = self.paused.filter(|it| now < *it);
        self.cut = self.cut.filter(|it| now < *it);
    }
}
