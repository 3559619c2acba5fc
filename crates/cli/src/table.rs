//! Aligned columns for people. Pure.

/// Rows under a heading, each column as wide as its widest cell.
pub(crate) fn aligned<const N: usize>(
    heading: [&str; N],
    right: &[usize],
    rows: &[[String; N]],
) -> String {
    let mut widths = heading.map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&heading.map(str::to_owned)).chain(rows) {
        let mut line = String::new();
        for (index, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            let gap = if index == 0 { "" } else { "  " };
            let cell = if right.contains(&index) {
                format!("{gap}{cell:>width$}")
            } else {
                format!("{gap}{cell:<width$}")
            };
            line.push_str(&cell);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Numbers as people write them: `0-3, 5`.
pub(crate) fn ranges(numbers: &[u8]) -> String {
    let mut parts: Vec<(u8, u8)> = Vec::new();
    for &number in numbers {
        match parts.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            Some(_) | None => parts.push((number, number)),
        }
    }
    let shown = |(first, last)| match first == last {
        true => format!("{first}"),
        false => format!("{first}-{last}"),
    };
    parts.into_iter().map(shown).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["größer", "7"], ["b", "12345"]].map(|row| row.map(str::to_owned));
        assert_eq!(
            aligned(["NAME", "ROWS"], &[1], &rows),
            "NAME     ROWS\ngrößer      7\nb       12345\n"
        );
    }

    #[test]
    fn neighbours_become_a_range() {
        assert_eq!(ranges(&[0, 1, 2, 3, 5]), "0-3, 5");
        assert_eq!(ranges(&[255]), "255");
        assert_eq!(ranges(&[]), "");
    }
}
