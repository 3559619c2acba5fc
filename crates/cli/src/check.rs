//! `distributary check`: the precheck, a line per item.

use crate::arguments::Check;
use crate::exit::Exit;
use crate::output::Output;
use crate::{report, spec, system};
use config::precheck::{Item, State};
use serde::Serialize;
use std::io;

pub(crate) fn check(arguments: &Check, output: Output) -> io::Result<Exit> {
    let spec = match spec::load(&arguments.spec, output) {
        Ok(spec) => spec,
        Err(exit) => return Ok(exit),
    };
    let precheck = pipeline::precheck(&spec.task, &spec.folder, arguments.connectivity);
    let items = system::block_on(precheck);
    let verdict = Verdict::new(&items, &arguments.ignore);
    output.document(&verdict, || text(&verdict, output.colour))?;
    verdict.warn_of_vain(output);
    Ok(if verdict.passed { Exit::Done } else { Exit::Precheck })
}

/// The items, and whether a task may start.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict<'a> {
    pub(crate) passed: bool,
    pub(crate) items: Vec<Judged<'a>>,
    /// What `--ignore` names in vain.
    #[serde(skip)]
    vain: Vec<&'a str>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Judged<'a> {
    #[serde(flatten)]
    pub(crate) item: &'a Item,
    pub(crate) ignored: bool,
}

impl<'a> Verdict<'a> {
    pub(crate) fn new(items: &'a [Item], ignore: &'a [String]) -> Self {
        let judged = |item: &'a Item| Judged {
            item,
            ignored: item.state == State::Warning && ignore.contains(&item.name),
        };
        let items: Vec<_> = items.iter().map(judged).collect();
        // What passes now may warn at another time: its name is no mistake.
        let may_be = |name: &str| {
            items.iter().any(|it| it.item.name == name && it.item.state != State::Fail)
        };
        let vain = ignore.iter().map(String::as_str).filter(|name| !may_be(name)).collect();
        let passed = items.iter().all(|judged| judged.item.state != State::Fail);
        Self { passed, items, vain }
    }

    /// Nothing is ignored in silence, and nothing fails to be.
    fn warn_of_vain(&self, output: Output) {
        for name in &self.vain {
            report::note(output, &format!("--ignore {name}: {}", self.why_vain(name)));
        }
    }

    fn why_vain(&self, name: &str) -> String {
        let names = || self.items.iter().map(|judged| judged.item.name.as_str());
        if names().any(|item| item == name) {
            return "an item that fails cannot be ignored; see its remedy".to_owned();
        }
        let distance = |item: &&str| strsim::damerau_levenshtein(item, name);
        let nearest = names().min_by_key(distance).unwrap_or_default();
        format!("no item has this name; the nearest is {nearest}")
    }

    pub(crate) fn count(&self, state: State, ignored: bool) -> usize {
        let of = |it: &&Judged<'_>| it.item.state == state && it.ignored == ignored;
        self.items.iter().filter(of).count()
    }
}

fn text(verdict: &Verdict<'_>, colour: bool) -> String {
    let mut text: String =
        verdict.items.iter().map(|it| lines(it.item, it.ignored, colour)).collect();
    let ignored = verdict.count(State::Warning, true);
    let warnings = report::counted(verdict.count(State::Warning, false), "warning");
    text.push_str(&format!(
        "\n{} passed, {warnings}, {} failed, {ignored} ignored: {}\n",
        verdict.count(State::Pass, false),
        verdict.count(State::Fail, false),
        if verdict.passed { "the task can run" } else { "the task would not start" }
    ));
    text
}

/// An item for people: its line, and the remedy below it.
pub(crate) fn lines(item: &Item, ignored: bool, colour: bool) -> String {
    let (word, paint) = match (item.state, ignored) {
        (State::Pass, _) => ("pass", "32"),
        (State::Warning, true) => ("ignored", "2"),
        (State::Warning, false) => ("warning", "33"),
        (State::Fail, _) => ("fail", "1;31"),
    };
    let word = format!("{word:<7}");
    let word = if colour { format!("\u{1b}[{paint}m{word}\u{1b}[0m") } else { word };
    let mut text = format!("{word}  {}: {}\n", item.name, indented(&item.seen));
    if !item.remedy.is_empty() {
        text.push_str(&format!("         remedy: {}\n", indented(&item.remedy)));
    }
    text
}

/// Further lines begin below the first.
fn indented(text: &str) -> String {
    text.trim_end().replace('\n', "\n         ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn items() -> Vec<Item> {
        vec![
            Item::pass("source.connection", "PostgreSQL 15.6 on db1:5432"),
            Item::warning("source.wal-size", "no limit", "SET\nmax_slot_wal_keep_size"),
            Item::fail("sink.brokers", "unreachable", "start them"),
        ]
    }

    #[test]
    fn a_line_per_item_with_its_remedy_below_and_a_count() {
        let items = items();
        let verdict = Verdict::new(&items, &[]);
        assert!(!verdict.passed);
        expect![[r#"
            pass     source.connection: PostgreSQL 15.6 on db1:5432
            warning  source.wal-size: no limit
                     remedy: SET
                     max_slot_wal_keep_size
            fail     sink.brokers: unreachable
                     remedy: start them

            1 passed, 1 warning, 1 failed, 0 ignored: the task would not start
        "#]]
        .assert_eq(&text(&verdict, false));
    }

    #[test]
    fn a_warning_can_be_ignored_and_is_shown_so() {
        let (items, ignore) = (items(), ["source.wal-size".to_owned()]);
        let verdict = Verdict::new(&items, &ignore);
        assert!(text(&verdict, false).contains("ignored  source.wal-size: no limit\n"));
        assert_eq!((verdict.count(State::Warning, true), verdict.vain.len()), (1, 0));
    }

    #[test]
    fn what_fails_cannot_be_ignored() {
        let (items, ignore) = (items(), ["sink.brokers".to_owned()]);
        let verdict = Verdict::new(&items, &ignore);
        assert!(!verdict.passed);
        assert_eq!(verdict.vain, ["sink.brokers"]);
        assert!(verdict.why_vain("sink.brokers").starts_with("an item that fails"));
    }

    #[test]
    fn a_warning_keeps_nothing_back() {
        assert!(Verdict::new(&items()[..2], &[]).passed);
    }

    #[test]
    fn a_name_that_is_no_item_meets_the_nearest() {
        let (items, ignore) = (items(), ["sink.broker", "source.wal-size"].map(str::to_owned));
        let verdict = Verdict::new(&items, &ignore);
        assert_eq!(verdict.vain, ["sink.broker"]);
        assert!(verdict.why_vain("sink.broker").ends_with("the nearest is sink.brokers"));
    }

    #[test]
    fn colours_only_where_they_are_shown() {
        let item = Item::pass("spec", "fine");
        assert!(lines(&item, false, true).contains("\u{1b}[32m"));
        assert!(!lines(&item, false, false).contains('\u{1b}'));
    }
}
