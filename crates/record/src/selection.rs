//! Which tables a task captures: the first object whose pattern matches decides. And which of its streams carries each.

use config::pattern::{PatternError, TablePattern};
use sha2::{Digest, Sha256};

/// The `objects` of a task, ready to be asked.
#[derive(Clone, Debug)]
pub struct Selection {
    rules: Vec<Rule>,
    division: Division,
}

/// How tables are divided over the streams of a task (`source.streams`): by what nothing changes but their names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Division {
    /// How many there are.
    pub streams: u8,
    /// Which of them this is, from 1; 0: the task as a whole.
    pub stream: u8,
}

impl Division {
    /// Of a task, or of one of its streams.
    #[must_use]
    pub fn new(task: &config::Task) -> Self {
        Self { streams: task.source.streams.max(1), stream: task.stream }
    }

    /// Which stream carries a table, from 1. Names as in the catalog; a partition goes with its root. Helper objects on the
    /// server find the same (`postgres::ddl`), so a new release must not find another.
    #[must_use]
    pub fn stream_of(self, schema: &str, table: &str) -> u8 {
        let hash = Sha256::digest(format!("{schema}.{table}").as_bytes());
        let number = u16::from_be_bytes([hash[0], hash[1]]) % u16::from(self.streams);
        u8::try_from(number).unwrap_or_default() + 1
    }

    /// Whether this stream carries it; the whole task carries everything.
    #[must_use]
    pub fn carries(self, schema: &str, table: &str) -> bool {
        self.stream == 0 || self.stream_of(schema, table) == self.stream
    }
}

#[derive(Clone, Debug)]
struct Rule {
    pattern: TablePattern,
    exclude: bool,
}

/// An object's pattern cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("objects[{object}].table: {cause}")]
pub struct SelectionError {
    /// Index into the task's `objects`.
    pub object: usize,
    pub cause: PatternError,
}

impl Selection {
    /// Reads the patterns of the task's objects.
    ///
    /// # Errors
    /// When a pattern is not two identifiers with a dot between them.
    pub fn new(task: &config::Task) -> Result<Self, SelectionError> {
        let rule = |(object, rule): (usize, &config::Object)| {
            let pattern = TablePattern::parse(&rule.table)
                .map_err(|cause| SelectionError { object, cause })?;
            Ok(Rule { pattern, exclude: rule.exclude })
        };
        let rules = task.objects.iter().enumerate().map(rule).collect::<Result<_, _>>()?;
        Ok(Self { rules, division: Division::new(task) })
    }

    /// How its tables are divided.
    #[must_use]
    pub fn division(&self) -> Division {
        self.division
    }

    /// The same of the whole task.
    #[must_use]
    pub fn whole(&self) -> Self {
        Self { division: Division { stream: 0, ..self.division }, ..self.clone() }
    }

    /// Index of the object that selects the table, whichever stream carries it; `None`: not captured. Names as in the catalog.
    #[must_use]
    pub fn selected(&self, schema: &str, table: &str) -> Option<usize> {
        let object = self.rules.iter().position(|rule| rule.pattern.matches(schema, table))?;
        (!self.rules[object].exclude).then_some(object)
    }

    /// Patterns in their order, and whether each takes its tables or leaves them out.
    pub fn rules(&self) -> impl Iterator<Item = (&TablePattern, bool)> {
        self.rules.iter().map(|rule| (&rule.pattern, !rule.exclude))
    }

    /// Objects that may select tables of this schema, in their order.
    pub fn of_schema<'a>(&'a self, schema: &'a str) -> impl Iterator<Item = usize> + 'a {
        let rules = self.rules.iter().enumerate();
        let may = move |rule: &Rule| !rule.exclude && rule.pattern.matches_schema(schema);
        rules.filter(move |(_, rule)| may(rule)).map(|(object, _)| object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn task(objects: &[(&str, bool)]) -> config::Task {
        let object = |&(table, exclude): &(&str, bool)| config::Object {
            table: table.into(),
            exclude,
            ..config::Object::default()
        };
        config::Task { objects: objects.iter().map(object).collect(), ..config::Task::default() }
    }

    #[test]
    fn the_first_match_wins() {
        let objects =
            [("public.orders", false), ("public.tmp_*", true), ("public.*", false), ("a.b", true)];
        let selection = Selection::new(&task(&objects)).unwrap();
        assert_eq!(selection.selected("public", "orders"), Some(0));
        assert_eq!(selection.selected("public", "tmp_1"), None);
        assert_eq!(selection.selected("public", "items"), Some(2));
        assert_eq!(selection.selected("a", "b"), None);
        assert_eq!(selection.selected("other", "orders"), None);
    }

    #[test]
    fn a_table_keeps_its_stream() {
        // What tasks on servers have begun with.
        let of = |streams, table| Division { streams, stream: 0 }.stream_of("public", table);
        let known = ["orders", "items", "Ümlaut", "a.b"].map(|table| [of(2, table), of(3, table)]);
        assert_eq!(known, [[2, 3], [1, 2], [2, 2], [1, 1]]);
    }

    proptest! {
        #[test]
        fn every_table_is_in_exactly_one_stream(schema in ".{0,9}", table in ".{0,9}", streams in 1_u8..=16) {
            let carries = |stream: &u8| {
                Division { streams, stream: *stream }.carries(&schema, &table)
            };
            prop_assert_eq!((1..=streams).filter(carries).count(), 1);
            prop_assert!(carries(&0), "the whole task");
        }
    }

    #[test]
    fn tables_are_spread_over_all_streams() {
        for streams in 2..=16 {
            let mut counts = vec![0; usize::from(streams)];
            for table in 0..1600 {
                let name = format!("t{table}");
                counts[usize::from(Division { streams, stream: 0 }.stream_of("s", &name)) - 1] += 1;
            }
            let even = 1600 / i32::from(streams);
            assert!(counts.iter().all(|count| (even / 2..even * 2).contains(count)), "{counts:?}");
        }
    }

    #[test]
    fn a_bad_pattern_is_named_with_its_place() {
        let error = Selection::new(&task(&[("public.*", false), ("orders", false)])).unwrap_err();
        assert_eq!(error.object, 1);
        assert!(error.to_string().starts_with("objects[1].table: `orders`"), "{error}");
    }
}
