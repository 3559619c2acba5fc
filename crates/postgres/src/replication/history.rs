//! Histories of time lines: where a promoted server left the older ones (PostgreSQL, `timeline.c`).

use crate::Error;
use wal::Lsn;

/// The older lines that a server's present one descends from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TimelineHistory(Vec<(u32, Lsn)>);

impl TimelineHistory {
    /// Lines `<timeline>\t<switch>\t<reason>`, from the oldest; `#` begins a comment.
    ///
    /// # Errors
    /// [`Error::Protocol`], when it is something else.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let is_entry = |line: &&str| !line.is_empty() && !line.starts_with('#');
        let entry = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            let timeline = words.next().and_then(|word| word.parse().ok());
            let switch = words.next().and_then(|word| word.parse().ok());
            timeline.zip(switch).ok_or_else(|| {
                Error::protocol(format!("`{line}` is no line of a time line's history"))
            })
        };
        text.lines()
            .map(str::trim_start)
            .filter(is_entry)
            .map(entry)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Each older line with the place where it was left, from the oldest.
    #[must_use]
    pub fn switches(&self) -> &[(u32, Lsn)] {
        &self.0
    }

    /// Where the line left `timeline`: the end of the last record that both have. `None`: it does
    /// not descend from it.
    #[must_use]
    pub fn left(&self, timeline: u32) -> Option<Lsn> {
        self.0.iter().find(|(of, _)| *of == timeline).map(|(_, switch)| *switch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_switch_is_known() {
        let text = "1\t0/5000148\tno recovery target specified\n\n\
                    2\t0/60000A0\tbefore 2000-01-01 00:00:00+00\n# 7\t0/1\tcomment\n";
        let history = TimelineHistory::parse(text).unwrap();
        assert_eq!(history.left(1), Some(Lsn(0x500_0148)));
        assert_eq!(history.left(2), Some(Lsn(0x600_00A0)));
        assert_eq!(history.left(3), None);
        assert_eq!(history.left(7), None);
        // A server that was restored to a time before line 2 began.
        assert_eq!(TimelineHistory::parse("1\t0/50\tx").unwrap().left(2), None);
    }

    #[test]
    fn something_else_is_refused() {
        for text in ["1", "one\t0/1\tx", "1\t01\tx", "\u{fffd}"] {
            assert!(TimelineHistory::parse(text).is_err(), "{text}");
        }
        assert_eq!(TimelineHistory::parse("").unwrap().left(1), None);
    }
}
