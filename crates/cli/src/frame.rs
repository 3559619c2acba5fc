//! A text as a terminal of a given size holds it: nothing scrolls, nothing is left of a longer text before. Pure.

use ::console::measure_text_width;
use std::fmt::Write;

/// Of a terminal, in characters of single width.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Size {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

/// What draws `text` over what was there; `first`: over anything. Of what is higher than the terminal, the beginning,
/// and how many lines are missing.
pub(crate) fn frame(text: &str, size: Size, first: bool) -> String {
    // Line by line over the old ones: an empty screen in between would flicker.
    let mut frame = String::from(if first { "\u{1b}[2J\u{1b}[H" } else { "\u{1b}[H" });
    for row in fitting(text, size) {
        // Writing to a string cannot fail.
        let _ = writeln!(frame, "{row}\u{1b}[K");
    }
    frame + "\u{1b}[J"
}

fn fitting(text: &str, size: Size) -> Vec<String> {
    let lines: Vec<Vec<&str>> = text.lines().map(|it| wrapped(it, size.columns)).collect();
    // The cursor rests below the last row.
    let rows_max = size.rows.saturating_sub(1).max(1);
    let rows: usize = lines.iter().map(Vec::len).sum();
    if rows <= rows_max {
        return lines.into_iter().flatten().map(str::to_owned).collect();
    }
    let (mut shown, mut whole) = (Vec::new(), 0);
    for line in &lines {
        if rows_max - 1 < shown.len() + line.len() {
            break;
        }
        shown.extend(line.iter().map(|&row| row.to_owned()));
        whole += 1;
    }
    let rest = format!("… and {} more", lines.len() - whole);
    // No word of it is worth a row that is not there.
    shown.extend(wrapped(&rest, size.columns).first().map(|&row| row.to_owned()));
    shown
}

/// The rows that a line takes. Characters of double width are never cut, and those of none stay with the one before.
fn wrapped(line: &str, columns: usize) -> Vec<&str> {
    let (mut rows, mut start, mut width) = (Vec::new(), 0, 0);
    for (at, character) in line.char_indices() {
        let own = measure_text_width(character.encode_utf8(&mut [0; 4]));
        if columns < width + own && start < at {
            rows.push(&line[start..at]);
            (start, width) = (at, 0);
        }
        width += own;
    }
    rows.push(&line[start..]);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, rows: usize, columns: usize, expected: &[&str]) {
        assert_eq!(fitting(text, Size { rows, columns }), expected);
    }

    #[test]
    fn what_fits_is_shown_whole() {
        check("a\nb\nc\n", 4, 10, &["a", "b", "c"]);
        check("a\n\nc\n", 4, 10, &["a", "", "c"]);
        check("", 4, 10, &[]);
    }

    #[test]
    fn what_is_higher_than_the_terminal_is_counted() {
        check("a\nb\nc\nd\n", 4, 20, &["a", "b", "… and 2 more"]);
        check("a\nb\nc\n", 1, 20, &["… and 3 more"]);
        // A line that does not fit whole is not begun.
        check("a\nbbbbbb\nc\n", 4, 4, &["a", "… an"]);
    }

    #[test]
    fn long_lines_take_the_rows_that_they_need() {
        check("abcdefg\nh\n", 9, 3, &["abc", "def", "g", "h"]);
    }

    #[test]
    fn characters_of_double_width_are_not_cut() {
        check("a表表b\n", 9, 4, &["a表", "表b"]);
        check("表表\n", 9, 1, &["表", "表"]);
        check("e\u{301}e\u{301}\n", 9, 1, &["e\u{301}", "e\u{301}"]);
    }

    #[test]
    fn a_frame_lies_over_the_one_before() {
        let size = Size { rows: 9, columns: 9 };
        assert_eq!(frame("a\nb\n", size, true), "\u{1b}[2J\u{1b}[Ha\u{1b}[K\nb\u{1b}[K\n\u{1b}[J");
        assert_eq!(frame("a\n", size, false), "\u{1b}[Ha\u{1b}[K\n\u{1b}[J");
    }
}
