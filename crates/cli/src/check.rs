//! `distributary check`: the precheck, a line per item.

use crate::arguments::Check;
use crate::exit::Exit;
use crate::output::Output;
use crate::{report, spec, system};
use config::precheck::{Ignoring, Item, KINDS, Kind, State, kind};
use serde::Serialize;
use std::io;

pub(crate) fn check(arguments: &Check, output: Output) -> io::Result<Exit> {
    if let Some((cause, remedy)) = arguments.ignore.iter().find_map(|name| refusal(name)) {
        report::error(output, &cause, &remedy);
        return Ok(Exit::Wrong);
    }
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

/// Why an item of this name can never be ignored, and what to do.
fn refusal(name: &str) -> Option<(String, String)> {
    let list = "docs/precheck.md lists all items";
    let Some(kind) = kind(name) else {
        let distance = |kind: &&Kind| strsim::damerau_levenshtein(kind.name, name);
        let nearest = KINDS.iter().min_by_key(distance).map_or("", |kind| kind.name);
        let cause = format!("--ignore {name}: no item has this name; the nearest is {nearest}");
        return Some((cause, list.to_owned()));
    };
    match kind.warning {
        Ignoring::May => None,
        Ignoring::None => {
            let cause = format!("--ignore {name}: an item that fails cannot be ignored");
            Some((cause, format!("{}; {list}", kind.remedy)))
        }
        Ignoring::Never => {
            let cause = format!("--ignore {name}: its warning cannot be ignored: {}", kind.why);
            Some((cause, format!("{}; {list}", kind.remedy)))
        }
    }
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
            ignored: item.ignorable && ignore.contains(&item.name),
        };
        let items: Vec<_> = items.iter().map(judged).collect();
        // What passes now may warn at another time: its name is no mistake.
        let is_held = |name: &str| items.iter().any(|it| it.item.name == name && it.item.holds());
        let vain = ignore.iter().map(String::as_str).filter(|name| is_held(name)).collect();
        let passed = !items.iter().any(|judged| judged.item.holds());
        Self { passed, items, vain }
    }

    /// Nothing fails to be ignored in silence.
    fn warn_of_vain(&self, output: Output) {
        for name in &self.vain {
            let text = "it fails here, which cannot be ignored; see its remedy";
            report::note(output, &format!("--ignore {name}: {text}"));
        }
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
    if item.state == State::Warning && !item.ignorable {
        text.push_str("         cannot be ignored: the task does not start\n");
    }
    if !item.why.is_empty() {
        text.push_str(&format!("         why: {}\n", item.why));
    }
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
            Item::warning("source.sender-timeout", "100 ms", "SET\nwal_sender_timeout"),
            Item::fail("sink.connection", "unreachable", "start them"),
        ]
    }

    #[test]
    fn a_line_per_item_with_reason_and_remedy_below_and_a_count() {
        let items = items();
        let verdict = Verdict::new(&items, &[]);
        assert!(!verdict.passed);
        expect![[r#"
            pass     source.connection: PostgreSQL 15.6 on db1:5432
            warning  source.sender-timeout: 100 ms
                     why: too short: a slow moment ends the stream; 0: a connection that was cut holds the slot
                     remedy: SET
                     wal_sender_timeout
            fail     sink.connection: unreachable
                     why: nothing else of the sink can be looked at
                     remedy: start them

            1 passed, 1 warning, 1 failed, 0 ignored: the task would not start
        "#]]
        .assert_eq(&text(&verdict, false));
    }

    #[test]
    fn a_warning_can_be_ignored_and_is_shown_so() {
        let (items, ignore) = (items(), ["source.sender-timeout".to_owned()]);
        let verdict = Verdict::new(&items, &ignore);
        assert!(text(&verdict, false).contains("ignored  source.sender-timeout: 100 ms\n"));
        assert_eq!((verdict.count(State::Warning, true), verdict.vain.len()), (1, 0));
    }

    #[test]
    fn what_fails_cannot_be_ignored() {
        let (items, ignore) = (items(), ["sink.connection".to_owned()]);
        let verdict = Verdict::new(&items, &ignore);
        assert!(!verdict.passed);
        assert_eq!(verdict.vain, ["sink.connection"]);
    }

    #[test]
    fn a_warning_that_may_be_ignored_keeps_nothing_back() {
        assert!(Verdict::new(&items()[..2], &[]).passed);
    }

    #[test]
    fn a_warning_that_cannot_be_ignored_keeps_the_task_back() {
        let items = [Item::warning("sink.in-sync", "1 of 2", "start the broker")];
        let ignore = ["sink.in-sync".to_owned()];
        let verdict = Verdict::new(&items, &ignore);
        assert!(!verdict.passed && !verdict.items[0].ignored);
        assert!(text(&verdict, false).contains("cannot be ignored"), "{}", text(&verdict, false));
    }

    #[test]
    fn names_that_cannot_be_ignored_are_refused_before_anything_is_looked_at() {
        let said = |name| refusal(name).map(|(cause, _)| cause).unwrap_or_default();
        assert!(said("sink.replicaton").ends_with("the nearest is sink.replication"));
        assert!(said("source.wal-level").ends_with("an item that fails cannot be ignored"));
        assert!(said("sink.in-sync").contains("its warning cannot be ignored"));
        assert_eq!(said("sink.replication"), "");
    }

    #[test]
    fn colours_only_where_they_are_shown() {
        let item = Item::pass("spec", "fine");
        assert!(lines(&item, false, true).contains("\u{1b}[32m"));
        assert!(!lines(&item, false, false).contains('\u{1b}'));
    }
}
