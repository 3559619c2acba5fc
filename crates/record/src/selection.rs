//! Which tables a task captures: the first object whose pattern matches decides.

use config::pattern::{PatternError, TablePattern};

/// The `objects` of a task, ready to be asked.
#[derive(Clone, Debug)]
pub struct Selection {
    rules: Vec<Rule>,
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
        Ok(Self { rules })
    }

    /// Index of the object that selects the table; `None`: not captured. Names as in the catalog.
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
    fn a_bad_pattern_is_named_with_its_place() {
        let error = Selection::new(&task(&[("public.*", false), ("orders", false)])).unwrap_err();
        assert_eq!(error.object, 1);
        assert!(error.to_string().starts_with("objects[1].table: `orders`"), "{error}");
    }
}
