//! Who reads tables while a task streams: every worker that has the labels, since nothing is lost where one goes.

use super::{Part, Room, Scope, Unplaced};
use std::collections::BTreeSet;

impl Room<'_> {
    pub(super) fn place_readers(&mut self) {
        for (task, wanted) in self.tasks {
            let before = self.seats[task.as_str()].snapshot.clone();
            let after = match &wanted.labels.snapshot {
                None => None,
                Some(_) if self.scope == Scope::Unplaced && before.is_some() => before,
                Some(labels) => {
                    let before = before.unwrap_or_default();
                    let stay = before.iter().map(String::as_str);
                    let stay = stay.filter(|it| self.may_stay(it, labels));
                    let mut readers: BTreeSet<&str> =
                        self.candidates(&[labels]).into_iter().collect();
                    readers.extend(stay);
                    if readers.is_empty() {
                        readers.extend(
                            before.iter().map(String::as_str).filter(|it| self.is_missing(it)),
                        );
                        let (task, reason) = (task.clone(), self.reason(labels));
                        self.unplaced.push(Unplaced { task, part: Part::Snapshot, reason });
                    }
                    Some(readers.into_iter().map(str::to_owned).collect())
                }
            };
            self.seats.get_mut(task.as_str()).expect("every task has seats").snapshot = after;
        }
    }
}
