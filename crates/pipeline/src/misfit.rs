//! Changes that cannot be written as their format wants: what the spec says becomes of them. Pure.

use crate::failure::Failure;
use config::{OnIncompatible, Oversize, Unrepresentable};
use record::encode::{Cause, EncodeError};
use record::plan::TaskPlan;
use std::time::{Duration, Instant};

/// The policies of a lane.
#[derive(Clone, Debug, Default)]
pub struct Misfits {
    pub oversize: Oversize,
    /// `sink.unrepresentable` is `dead-letter`.
    pub set_aside_values: bool,
    /// `sink.registry.on_incompatible` is `dead-letter`.
    pub set_aside_schemas: bool,
    /// Topic and partition of the dead letters of this lane.
    pub letters: Option<(Box<str>, i32)>,
}

/// Why a record was not handed over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// By the client or the brokers.
    #[error("{0}")]
    Sink(kafka::Error),
    /// How large records may be could not be found out.
    #[error("{0}")]
    Limit(Failure),
    #[error(
        "a record of {bytes} bytes for topic `{topic}`, and at most {bytes_max} fit into it (`max.message.bytes` \
         of the topic, `message.max.bytes` of `sink.properties`)"
    )]
    Oversize { topic: Box<str>, bytes: u64, bytes_max: u64 },
    #[error(
        "a record for topic `{topic}` cannot be cut into parts of {bytes_max} bytes: its key and headers \
         alone leave no room; raise `max.message.bytes` of the topic and `message.max.bytes` of \
         `sink.properties`"
    )]
    NotCut { topic: Box<str>, bytes_max: u64 },
}

impl Misfits {
    /// What the spec says, for one lane. Dead letters of a lane have a partition of their own, as its records
    /// have (delivery-protocol.md, I7).
    #[must_use]
    pub fn new(spec: &config::Task, plan: &TaskPlan, lane: u8) -> Self {
        let registry = spec.sink.registry.as_ref().map(|it| it.on_incompatible);
        // Streams have as many lanes each.
        let before = i32::from(spec.stream.saturating_sub(1)) * i32::from(spec.lanes.0);
        let place = before + i32::from(lane);
        Self {
            oversize: spec.sink.oversize,
            set_aside_values: spec.sink.unrepresentable == Unrepresentable::DeadLetter,
            set_aside_schemas: registry == Some(OnIncompatible::DeadLetter),
            letters: plan.letters().map(|topic| (topic.into(), place)),
        }
    }

    /// Whether records must be measured before they are handed over.
    pub(crate) fn are_measured(&self) -> bool {
        self.oversize != Oversize::Fail || self.letters.is_some()
    }

    /// Why a change is set aside; `None`: the failure stands.
    pub(crate) fn cause(&self, error: &EncodeError<Refused>) -> Option<Cause> {
        self.letters.as_ref()?;
        if self.oversize == Oversize::DeadLetter
            && matches!(error, EncodeError::Sink(Refused::Oversize { .. }))
        {
            return Some(Cause::Oversize);
        }
        let is_transform = matches!(error, EncodeError::Transform { .. });
        let cause = if is_transform { Cause::Transform } else { Cause::Unrepresentable };
        (error.is_of_value() && self.set_aside_values).then_some(cause)
    }
}

/// How often dead letters are told of.
const EVERY: Duration = Duration::from_secs(10);

/// Lets the first dead letter be told of at once, and of those that follow only how many they are.
#[derive(Debug, Default)]
pub(crate) struct Told {
    at: Option<Instant>,
    silent: u64,
}

impl Told {
    /// One more, now: how many to tell of, or `None` to be silent.
    pub(crate) fn one(&mut self, now: Instant) -> Option<u64> {
        self.silent += 1;
        if self.at.is_some_and(|at| now.saturating_duration_since(at) < EVERY) {
            return None;
        }
        self.at = Some(now);
        Some(std::mem::take(&mut self.silent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_dead_letter_is_told_of_and_then_how_many_there_were() {
        let (mut told, start) = (Told::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let heard = [0, 1, 2, 10, 11, 25].map(|seconds| told.one(after(seconds)));
        assert_eq!(heard, [Some(1), None, None, Some(3), None, Some(2)]);
    }

    #[test]
    fn each_cause_has_its_own_policy() {
        let letters = Some(("dead".into(), 0));
        let value = || EncodeError::NotUtf8 { table: "t".into(), column: "c".into() };
        let large =
            || EncodeError::Sink(Refused::Oversize { topic: "t".into(), bytes: 2, bytes_max: 1 });
        let values = Misfits { set_aside_values: true, letters, ..Misfits::default() };
        assert_eq!(values.cause(&value()), Some(Cause::Unrepresentable));
        assert_eq!(values.cause(&large()), None);
        let sizes =
            Misfits { oversize: Oversize::DeadLetter, set_aside_values: false, ..values.clone() };
        assert_eq!(sizes.cause(&value()), None);
        assert_eq!(sizes.cause(&large()), Some(Cause::Oversize));
        assert_eq!(Misfits { letters: None, ..sizes }.cause(&large()), None);
    }
}
