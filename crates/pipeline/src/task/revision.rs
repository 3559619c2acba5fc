//! Revisions: a spec that makes other records, or routes them differently, takes force at one position
//! (delivery-protocol.md, section 8): by a mark, which is recorded before anything is routed by it, while all goes on;
//! or by a seal: the task goes on as before up to there, every lane is sealed, and the next revision begins.

use super::{End, Task, events::Noted};
use crate::batch::Marked;
use config::{Means, Shape, SqlAscii, Task as Spec, Unrepresentable};
use kafka::meta::{Mark, MetaRecord, MetaState, Revision, Watermark};
use std::sync::Arc;
use telemetry::traces::Span;
use tracing::info;
use wal::{Lsn, Position};

/// What a task does until it is opened the next time. Pure.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Present {
    /// The spec as lanes are opened with it: until the first mark.
    pub(super) spec: Arc<Spec>,
    pub(super) number: u64,
    /// Nothing below concerns the lanes of this revision.
    pub(super) floor: Position,
    /// Lanes that must be opened, also to take them from an older owner.
    pub(super) lanes: u8,
    /// Later revisions, which are recorded, each in force from its position on.
    pub(super) marks: Vec<Mark>,
    /// The shape of the spec, where it is not in force yet.
    pub(super) next: Option<Next>,
}

/// How the shape of a changed spec comes into force.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    Mark(Shape),
    Seal(Shape),
}

impl Next {
    pub(super) fn new(before: &Shape, wanted: Shape) -> Option<Self> {
        match before.means_to(&wanted)? {
            Means::AtOnce | Means::Lanes | Means::Mark => Some(Self::Mark(wanted)),
            Means::Seal | Means::Restart | Means::Never => Some(Self::Seal(wanted)),
        }
    }

    pub(super) fn shape(&self) -> &Shape {
        match self {
            Self::Mark(shape) | Self::Seal(shape) => shape,
        }
    }
}

impl Present {
    /// Says in the log what a changed spec changes.
    pub(super) fn tell(&self, state: &MetaState) {
        let (Some(next), Some(revision)) = (&self.next, &state.revision) else { return };
        info!(
            revision = self.number,
            changed = revision.newest().1.differences(next.shape()).join(", "),
            "the spec has changed: what was committed before this start goes the old way"
        );
    }

    /// `anew`: a person has decided to begin again.
    pub(super) fn new(spec: &Arc<Spec>, state: &MetaState, anew: bool) -> Self {
        let wanted = spec.shape();
        let (lanes, marks) = (spec.lanes.0, Vec::new());
        let (number, floor, next) = (1, Position::ZERO, None);
        let first = Self { spec: Arc::clone(spec), number, floor, lanes, marks, next };
        let Some(revision) = &state.revision else { return first };
        let is_streaming = state.snapshot.as_ref().is_some_and(|snapshot| snapshot.done);
        // The first snapshot begins again in any case, and a task without a stream has ended.
        if anew || !is_streaming || !spec.sync.incremental {
            let (number, shape) = revision.newest();
            let number = number + u64::from(*shape != wanted);
            return Self { number, lanes: lanes.max(shape.lanes.0), ..first };
        }
        let passed = state.watermark.as_ref().map_or(Lsn::ZERO, |watermark| watermark.lsn);
        let Revision { number, start, shape, mut marks } = revision.clone().passed(passed);
        let floor = if start == Lsn::ZERO { Position::ZERO } else { Position::just_before(start) };
        let next = Next::new(marks.last().map_or(&shape, |mark| &mark.shape), wanted.clone());
        marks.iter_mut().for_each(|mark| mark.shape = freed(&mark.shape, &wanted));
        Self {
            spec: Arc::new(spec.shaped(&freed(&shape, &wanted))),
            number,
            floor,
            lanes: shape.lanes.0,
            marks,
            next,
        }
    }

    /// Number of the newest revision that is recorded.
    pub(super) fn newest(&self) -> u64 {
        self.marks.last().map_or(self.number, |mark| mark.number)
    }

    /// What is recorded of it, from `start` on.
    pub(super) fn record(&self, start: Lsn) -> Revision {
        let (number, shape, marks) = (self.number, self.spec.shape(), Vec::new());
        Revision { number, start, shape, marks }
    }
}

impl From<&Mark> for Marked {
    fn from(mark: &Mark) -> Self {
        Self { number: mark.number, shape: mark.shape.clone() }
    }
}

/// The shape in force, without what may be why the task has parked: a change that fails is in no lane, so
/// what becomes of it may be decided at once. Without that, the end of the revision would never be reached.
fn freed(shape: &Shape, wanted: &Shape) -> Shape {
    let mut freed = shape.clone();
    if freed.unrepresentable == Unrepresentable::Fail {
        freed.unrepresentable = wanted.unrepresentable;
    }
    if SqlAscii::parse(&freed.sql_ascii) == Some(SqlAscii::Fail) {
        freed.sql_ascii.clone_from(&wanted.sql_ascii);
    }
    freed
}

impl Task {
    /// A revision comes into force at `lsn`.
    pub(super) fn revision_span(&self, name: &'static str, number: u64, lsn: Lsn) -> Span {
        let span = self.progress.trace.span(name, &self.spec.task).with("lsn", lsn.to_string());
        span.with("revision", i64::try_from(number).unwrap_or(i64::MAX))
    }

    /// Seals every lane at the end of the revision, then puts the next one in force. May be repeated
    /// after a crash at any point.
    pub(super) async fn end_revision(&mut self, end: Lsn, next: Shape) -> Result<(), End> {
        let number = self.present.newest() + 1;
        let _span = self.revision_span("revision.seal", number, end);
        self.lanes.keep_producers();
        let lanes = 0..self.lanes.count();
        let is_open = |lane: &u8| !self.sealed.contains(lane);
        lanes.clone().filter(is_open).for_each(|lane| self.lanes.seal(lane, end));
        while lanes.clone().any(|lane| !self.sealed.contains(&lane)) {
            match self.next(None).await? {
                Noted::LaneSealed(lane) => {
                    self.sealed.insert(lane);
                }
                // Its owner was lost on the way.
                Noted::LaneOpened(lane) => self.lanes.seal(lane, end),
                Noted::Advanced(_) | Noted::SnapshotRead(_) | Noted::Copied | Noted::Other => {}
            }
        }
        let Some(watermark) = self.state.borrow().watermark.clone() else { return Ok(()) };
        let positions = vec![Position::just_before(end); usize::from(next.lanes.0)];
        info!(revision = number, lsn = %end, lanes = next.lanes.0, "lanes sealed, the spec is in force");
        let records = vec![
            MetaRecord::Revision(Box::new(Revision {
                number,
                start: end,
                shape: next,
                marks: vec![],
            })),
            MetaRecord::Watermark(Watermark { lsn: end, lanes: positions, ..watermark }),
        ];
        Ok(self.meta.write(records).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::Lanes;
    use kafka::meta::SnapshotState;

    fn spec(lanes: u8) -> Arc<Spec> {
        Arc::new(Spec { lanes: Lanes(lanes), ..Spec::default() })
    }

    fn state(done: bool, start: u64, lanes: u8) -> MetaState {
        MetaState {
            snapshot: Some(SnapshotState { id: "s".into(), done, lsn: Lsn(5), gap: None }),
            revision: Some(Revision {
                number: 4,
                start: Lsn(start),
                shape: spec(lanes).shape(),
                marks: Vec::new(),
            }),
            ..MetaState::default()
        }
    }

    #[test]
    fn a_new_task_has_its_first_revision() {
        let present = Present::new(&spec(8), &MetaState::default(), false);
        assert_eq!((present.number, present.lanes, present.next), (1, 8, None));
    }

    #[test]
    fn the_same_spec_goes_on() {
        let present = Present::new(&spec(8), &state(true, 0x30, 8), false);
        assert_eq!((present.number, present.lanes, present.next), (4, 8, None));
        assert_eq!(present.floor, Position::just_before(Lsn(0x30)));
        assert_eq!(Present::new(&spec(8), &state(true, 0, 8), false).floor, Position::ZERO);
    }

    #[test]
    fn another_spec_waits_until_the_present_one_is_sealed() {
        let present = Present::new(&spec(3), &state(true, 0x30, 8), false);
        assert_eq!((present.number, present.lanes), (4, 8));
        assert_eq!(present.spec.lanes.0, 8);
        assert_eq!(present.next, Some(Next::Seal(spec(3).shape())));
    }

    #[test]
    fn what_has_parked_the_task_may_be_decided_at_once() {
        let mut wanted = Spec::default();
        wanted.sink.unrepresentable = Unrepresentable::DeadLetter;
        wanted.source.sql_ascii = "EUC_CN".into();
        let present = Present::new(&Arc::new(wanted.clone()), &state(true, 0x30, 3), false);
        assert_eq!((present.number, present.spec.lanes.0), (4, 3));
        assert_eq!(present.spec.sink.unrepresentable, Unrepresentable::DeadLetter);
        assert_eq!(present.spec.source.sql_ascii, "EUC_CN");
        assert_eq!(present.next, Some(Next::Seal(wanted.shape())));
        // What was decided otherwise holds to the end of the revision.
        let mut before = state(true, 0x30, 3);
        before.revision.as_mut().expect("one").shape.unrepresentable = Unrepresentable::Null;
        let present = Present::new(&Arc::new(wanted), &before, false);
        assert_eq!(present.spec.sink.unrepresentable, Unrepresentable::Null);
    }

    fn mapped(lanes: u8, topic: &str) -> Arc<Spec> {
        let mut spec = Spec::clone(&spec(lanes));
        spec.sink.topic = topic.into();
        Arc::new(spec)
    }

    #[test]
    fn what_needs_no_seal_comes_by_a_mark() {
        let present = Present::new(&mapped(8, "x.{table}"), &state(true, 0x30, 8), false);
        assert_eq!((present.number, present.newest(), present.lanes), (4, 4, 8));
        assert_eq!(present.spec, spec(8).shaped(&spec(8).shape()).into());
        assert_eq!(present.next, Some(Next::Mark(mapped(8, "x.{table}").shape())));
        let both = Present::new(&mapped(3, "x.{table}"), &state(true, 0x30, 8), false);
        assert_eq!(both.next, Some(Next::Seal(mapped(3, "x.{table}").shape())));
    }

    #[test]
    fn a_mark_is_kept_apart_until_the_low_watermark_has_passed_it() {
        let wanted = mapped(8, "x.{table}");
        let mut state = state(true, 0x30, 8);
        let revision = state.revision.take().expect("one");
        state.revision = Some(revision.marked(Lsn(0x50), wanted.shape()));
        let watermark = |lsn| {
            let (lsn, lanes, history) = (Lsn(lsn), Vec::new(), Vec::new());
            Some(Watermark { lsn, system_id: 1, timeline: 1, lanes, history, standby: false })
        };
        state.watermark = watermark(0x4f);
        let before = Present::new(&wanted, &state, false);
        assert_eq!((before.number, before.newest(), before.next), (4, 5, None));
        assert_eq!(before.spec.sink.topic, spec(8).sink.topic);
        assert_eq!(before.floor, Position::just_before(Lsn(0x30)));
        state.watermark = watermark(0x50);
        let after = Present::new(&wanted, &state, false);
        assert_eq!((after.number, after.newest(), after.next), (5, 5, None));
        assert_eq!((after.spec, after.marks), (wanted, vec![]));
        // What an idle lane does not hold is not its business: every lane holds what commits before.
        assert_eq!(after.floor, Position::just_before(Lsn(0x50)));
    }

    #[test]
    fn before_the_stream_nothing_is_sealed_but_all_lanes_are_taken() {
        for present in [
            Present::new(&spec(3), &state(false, 0, 8), false),
            Present::new(&spec(3), &state(true, 0x30, 8), true),
        ] {
            assert_eq!((present.number, present.lanes, present.next), (5, 8, None));
            assert_eq!((present.spec.lanes.0, present.floor), (3, Position::ZERO));
        }
    }
}
