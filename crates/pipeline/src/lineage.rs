//! Where a server's line of WAL parted from the one that fed the task. Pure.
//!
//! A time line's number is no name: two standbys that are promoted beside each other take the same one. What tells
//! them apart is where each left the older lines, which its history says.

use crate::start::Parted;
use kafka::meta::{Switch, Watermark};
use wal::Lsn;

/// Switches that a low watermark carries: it is written several times a second, and servers that are promoted every
/// week for years have long histories. The newest count.
const SWITCHES_MAX: usize = 32;

/// Where the server's line parted from the low watermark's. `history`: the older lines that `timeline` descends
/// from; `None`: the server has lost it.
#[must_use]
pub fn parted(before: &Watermark, timeline: u32, history: Option<&[Switch]>) -> Parted {
    if timeline < before.timeline {
        return Parted::Foreign;
    }
    let Some(history) = history else {
        return if timeline == before.timeline { Parted::Never } else { Parted::Unknown };
    };
    if let Some(parted) = twin(before, history) {
        return parted;
    }
    if timeline == before.timeline {
        return Parted::Never;
    }
    left(history, before.timeline).map_or(Parted::Foreign, Parted::At)
}

/// Whether the line that the task was fed from and the server's of that number are two. A watermark of an earlier
/// release does not say where its line comes from.
fn twin(before: &Watermark, history: &[Switch]) -> Option<Parted> {
    let known = &before.history;
    let oldest = known.first()?.timeline;
    for switch in known {
        match left(history, switch.timeline) {
            Some(lsn) if lsn == switch.lsn => {}
            Some(lsn) => return Some(Parted::Twin(lsn.min(switch.lsn))),
            None => return Some(Parted::Foreign),
        }
    }
    let is_strange = |it: &Switch| {
        let between = oldest < it.timeline && it.timeline < before.timeline;
        between && left(known, it.timeline).is_none()
    };
    history.iter().any(is_strange).then_some(Parted::Foreign)
}

fn left(history: &[Switch], timeline: u32) -> Option<Lsn> {
    history.iter().find(|it| it.timeline == timeline).map(|it| it.lsn)
}

/// What a low watermark carries of a server's history.
#[must_use]
pub fn newest(mut history: Vec<Switch>) -> Vec<Switch> {
    history.drain(..history.len().saturating_sub(SWITCHES_MAX));
    history
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switches(list: &[(u32, u64)]) -> Vec<Switch> {
        list.iter().map(|&(timeline, lsn)| Switch { timeline, lsn: Lsn(lsn) }).collect()
    }

    fn fed_by(timeline: u32, history: &[(u32, u64)]) -> Watermark {
        let history = switches(history);
        Watermark {
            lsn: Lsn(90),
            system_id: 1,
            timeline,
            lanes: Vec::new(),
            history,
            standby: false,
        }
    }

    #[track_caller]
    fn expect(before: &Watermark, timeline: u32, history: &[(u32, u64)], expected: Parted) {
        assert_eq!(parted(before, timeline, Some(&switches(history))), expected);
    }

    #[test]
    fn a_line_that_goes_on_or_descends() {
        expect(&fed_by(1, &[]), 1, &[], Parted::Never);
        expect(&fed_by(1, &[]), 2, &[(1, 50)], Parted::At(Lsn(50)));
        expect(&fed_by(1, &[]), 3, &[(1, 50), (2, 60)], Parted::At(Lsn(50)));
        expect(&fed_by(2, &[(1, 50)]), 2, &[(1, 50)], Parted::Never);
        expect(&fed_by(2, &[(1, 50)]), 3, &[(1, 50), (2, 60)], Parted::At(Lsn(60)));
    }

    #[test]
    fn a_line_of_the_same_number_that_is_another() {
        expect(&fed_by(2, &[(1, 50)]), 2, &[(1, 40)], Parted::Twin(Lsn(40)));
        expect(&fed_by(2, &[(1, 50)]), 2, &[(1, 70)], Parted::Twin(Lsn(50)));
        // It was promoted once more since.
        expect(&fed_by(2, &[(1, 50)]), 3, &[(1, 70), (2, 80)], Parted::Twin(Lsn(50)));
        expect(&fed_by(3, &[(1, 50), (2, 60)]), 3, &[(1, 50), (2, 61)], Parted::Twin(Lsn(60)));
        // One of them knows of a line between that the other does not descend from.
        expect(&fed_by(3, &[(1, 50)]), 3, &[(1, 50), (2, 60)], Parted::Foreign);
        expect(&fed_by(3, &[(1, 50), (2, 60)]), 3, &[(1, 50)], Parted::Foreign);
    }

    #[test]
    fn a_line_that_does_not_descend() {
        expect(&fed_by(2, &[(1, 50)]), 1, &[], Parted::Foreign);
        expect(&fed_by(2, &[(1, 50)]), 3, &[(1, 50)], Parted::Foreign);
    }

    #[test]
    fn what_is_not_known_speaks_against_nobody_on_the_same_line() {
        expect(&fed_by(2, &[]), 2, &[(1, 40)], Parted::Never);
        assert_eq!(parted(&fed_by(2, &[(1, 50)]), 2, None), Parted::Never);
        assert_eq!(parted(&fed_by(2, &[(1, 50)]), 3, None), Parted::Unknown);
    }

    #[test]
    fn a_long_history_is_cut_at_its_old_end() {
        let long: Vec<_> = (1..100).map(|line| (line, u64::from(line) * 10)).collect();
        let kept = newest(switches(&long));
        assert_eq!(kept.len(), SWITCHES_MAX);
        assert_eq!(kept.last().map(|it| it.timeline), Some(99));
        let before = Watermark { history: kept, ..fed_by(100, &[]) };
        expect(&before, 100, &long, Parted::Never);
    }
}
