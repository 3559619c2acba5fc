//! Where our Debezium JSON differs from Debezium's own: found record by record, and compared with the tables of
//! `docs/debezium-differences.md`, which give each its reason. `UPDATE=1` writes a table anew and keeps the reasons.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use tests::reader::{Record, Topics};
use tests::servers::{Server, repository};

/// How our task writes: its option `compat`, or `strict` and a set of other options, by its name.
pub(crate) type Mode = &'static str;

pub(crate) const LOSSLESS: Mode = "lossless";
pub(crate) const STRICT: Mode = "strict";
/// What is found under every mode of [`Table::DEFAULTS`] alike.
const BOTH: &str = "both";

/// A table of the documentation: what stands before it and behind it, and its second column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    start: &'static str,
    end: &'static str,
    modes: &'static str,
}

impl Table {
    pub(crate) const DEFAULTS: Self = Self {
        start: "<!-- found by tests/tests/consumers/beside.rs; UPDATE=1 writes it anew, and keeps the reasons -->\n",
        end: "\n<!-- end -->",
        modes: "`compat`",
    };
    /// What [`Self::DEFAULTS`] has under `strict` is not said again.
    pub(crate) const OPTIONS: Self = Self {
        start: "<!-- found by tests/tests/consumers/options.rs; UPDATE=1 writes it anew, and keeps the reasons -->\n",
        end: "\n<!-- end of options -->",
        modes: "Options",
    };

    /// The documentation before the table, the table, and what is behind it.
    fn split<'a>(&self, text: &'a str) -> [&'a str; 3] {
        let (before, rest) = text.split_once(self.start).expect("where the table begins");
        let (shown, after) = rest.split_once(self.end).expect("where the table ends");
        [before, shown, after]
    }
}

/// Debezium's text and ours; one of them is [`ABSENT`] where it has no such member.
type Pair = (String, String);

/// By place: what was found under each mode.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    found: BTreeMap<String, BTreeMap<Mode, BTreeSet<Pair>>>,
    /// Transactions before which our task knew none, since a run began with them.
    first: BTreeSet<(Mode, u64)>,
}

const SNAPSHOT: &str = ", snapshot";
const ABSENT: &str = "—";
/// Of a row of the snapshot: each of two snapshots has its own.
const OF_SNAPSHOT: [&str; 6] = ["ts_ms", "ts_us", "ts_ns", "txId", "lsn", "sequence"];
/// Behind its snapshot our task is run twice. What the server sends first then, the last transaction of the run before or
/// the next one, depends on what was confirmed.
const RUNS: usize = 2;
/// Longer texts are cut for the table.
const TEXT_MAX: usize = 48;

impl Differences {
    /// Compares Debezium's topic and ours record by record, or so many of them.
    ///
    /// # Panics
    /// When one of them has more records, or none has any.
    pub(crate) fn of_topics(&mut self, mode: Mode, kafka: &Server, topics: [&str; 2], most: usize) {
        let [theirs, ours] = topics.map(|topic| Topics::read(kafka, topic).records);
        assert_eq!(theirs.len(), ours.len(), "records of {topics:?}");
        assert!(!ours.is_empty(), "records of {topics:?}");
        for (theirs, ours) in theirs.iter().zip(&ours).take(most) {
            self.of_records(mode, theirs, ours);
        }
    }

    /// Compares two records of the same change.
    fn of_records(&mut self, mode: Mode, theirs: &Record, ours: &Record) {
        let mut walk = Walk { differences: self, mode, suffix: "" };
        walk.values("key", &theirs.key_json(), &ours.key_json());
        walk.headers(theirs, ours);
        let (theirs, ours) = (theirs.json(), ours.json());
        walk.values("value: schema", &theirs["schema"], &ours["schema"]);
        let (theirs, ours) = (&theirs["payload"], &ours["payload"]);
        if ours["op"] == "r" {
            walk.suffix = SNAPSHOT;
        }
        walk.envelope(theirs, ours);
    }

    fn note(&mut self, place: String, mode: Mode, pair: Pair) {
        self.found.entry(place).or_default().entry(mode).or_default().insert(pair);
    }

    /// Compares what was found with the documentation.
    ///
    /// # Panics
    /// When a difference is not listed there, has no reason, or is gone.
    pub(crate) fn assert_documented(&self, table: Table) {
        let text = documentation();
        let [before, shown, after] = table.split(&text);
        let found = self.shown(table, &rows(shown));
        let update = std::env::var_os("UPDATE").is_some();
        if update {
            let Table { start, end, .. } = table;
            let text = format!("{before}{start}{found}{end}{after}");
            fs::write(repository().join(PATH), text).expect("written");
        }
        let shown = if update { found.as_str() } else { shown };
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        let (shown, lines) = (lines(shown), lines(&found));
        let unlisted: Vec<_> = lines.difference(&shown).collect();
        let gone: Vec<_> = shown.difference(&lines).collect();
        assert!(
            unlisted.is_empty() && gone.is_empty() && !found.contains(NO_REASON),
            "{PATH} does not say what was found (UPDATE=1 writes it).\nFound, and not \
             listed so: {unlisted:#?}\nListed, and not found so: {gone:#?}"
        );
    }

    /// Takes away what is the same without the options, as the table of the defaults has it.
    pub(crate) fn without_defaults(&mut self) {
        let text = documentation();
        let [_, shown, _] = Table::DEFAULTS.split(&text);
        let known = rows(shown);
        for (place, modes) in &mut self.found {
            // What differs in the snapshot as in the stream is said once.
            let stream = place.strip_suffix(SNAPSHOT).unwrap_or(place);
            let listed = |pair: &Pair| {
                let shown = pair_text(pair);
                [place, stream].iter().any(|place| {
                    [BOTH, STRICT].iter().any(|mode| {
                        let row = known.get(&format!("{place} | {mode}"));
                        row.is_some_and(|row| row.pairs.split("<br>").any(|it| it == shown))
                    })
                })
            };
            modes.values_mut().for_each(|pairs| pairs.retain(|pair| !listed(pair)));
            modes.retain(|_, pairs| !pairs.is_empty());
        }
        self.found.retain(|_, modes| !modes.is_empty());
    }

    fn shown(&self, table: Table, known: &BTreeMap<String, Row>) -> String {
        let mut lines = vec![
            format!("| Where | {} | Debezium → Distributary | Reason |", table.modes),
            "|---|---|---|---|".to_owned(),
        ];
        for (place, modes) in &self.found {
            // Said once where the snapshot differs as the stream does.
            let stream = place.strip_suffix(SNAPSHOT).and_then(|stream| self.found.get(stream));
            if stream == Some(modes) {
                continue;
            }
            for (mode, pairs) in grouped(modes) {
                let pairs: Vec<_> = pairs.iter().map(pair_text).collect();
                let reason = known.get(&format!("{place} | {mode}"));
                let reason = reason.map_or(NO_REASON, |row| row.reason.as_str());
                lines.push(format!("| {place} | {mode} | {} | {reason} |", pairs.join("<br>")));
            }
        }
        lines.join("\n")
    }
}

const PATH: &str = "docs/debezium-differences.md";

fn documentation() -> String {
    fs::read_to_string(repository().join(PATH)).expect(PATH)
}

/// The modes under which the same was found, in one.
fn grouped(modes: &BTreeMap<Mode, BTreeSet<Pair>>) -> Vec<(String, &BTreeSet<Pair>)> {
    let mut groups: Vec<(Vec<Mode>, &BTreeSet<Pair>)> = Vec::new();
    for (mode, pairs) in modes {
        match groups.iter_mut().find(|group| group.1 == pairs) {
            Some(group) => group.0.push(mode),
            None => groups.push((vec![mode], pairs)),
        }
    }
    let name = |modes: Vec<Mode>| {
        if modes == [LOSSLESS, STRICT] { BOTH.to_owned() } else { modes.join(", ") }
    };
    groups.into_iter().map(|(modes, pairs)| (name(modes), pairs)).collect()
}

fn pair_text((theirs, ours): &Pair) -> String {
    format!("{theirs} → {ours}")
}

const NO_REASON: &str = "no reason given";

/// A row of the documentation.
struct Row {
    pairs: String,
    reason: String,
}

/// The rows of a table, by place and mode.
fn rows(table: &str) -> BTreeMap<String, Row> {
    let row = |line: &str| {
        // A `|` in a cell is escaped, so that these are cells.
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [place, mode, pairs, reason] = cells[..] else { return None };
        Some((
            format!("{place} | {mode}"),
            Row { pairs: pairs.to_owned(), reason: reason.to_owned() },
        ))
    };
    table.lines().skip(2).filter_map(row).collect()
}

struct Walk<'a> {
    differences: &'a mut Differences,
    mode: Mode,
    /// What is said of the place.
    suffix: &'static str,
}

impl Walk<'_> {
    fn note(&mut self, place: &str, theirs: String, ours: String) {
        let place = format!("{place}{}", self.suffix);
        self.differences.note(place, self.mode, (theirs, ours));
    }

    fn headers(&mut self, theirs: &Record, ours: &Record) {
        let names = |record: &Record| {
            record.headers.iter().map(|(name, _)| name.clone()).collect::<BTreeSet<_>>()
        };
        for name in &(&names(theirs) | &names(ours)) {
            let (theirs, ours) = (theirs.header(name), ours.header(name));
            // Values that are the run's own.
            let shown =
                |value: &Option<String>| value.as_ref().map_or(ABSENT, |_| "written").to_owned();
            if theirs.is_some() != ours.is_some() {
                self.note(&format!("header `{name}`"), shown(&theirs), shown(&ours));
            } else if theirs != ours {
                self.note(
                    &format!("header `{name}`"),
                    code(theirs.as_deref()),
                    code(ours.as_deref()),
                );
            }
        }
    }

    fn envelope(&mut self, theirs: &Value, ours: &Value) {
        let (Some(theirs), Some(ours)) = (theirs.as_object(), ours.as_object()) else {
            self.values("value", theirs, ours);
            return;
        };
        for name in theirs.keys().chain(ours.keys().filter(|name| !theirs.contains_key(*name))) {
            let none = Value::Null;
            let (theirs, ours) =
                (theirs.get(name).unwrap_or(&none), ours.get(name).unwrap_or(&none));
            match name.as_str() {
                // When each of the two handled the event.
                "ts_ms" | "ts_us" | "ts_ns" => assert!(theirs.is_i64() && ours.is_i64()),
                "before" | "after" => self.row(theirs, ours),
                "source" => self.source(theirs, ours),
                name => self.values(name, theirs, ours),
            }
        }
    }

    fn row(&mut self, theirs: &Value, ours: &Value) {
        let (Some(theirs), Some(ours)) = (theirs.as_object(), ours.as_object()) else {
            self.values("row", theirs, ours);
            return;
        };
        for (name, value) in ours {
            match theirs.get(name) {
                Some(theirs) if value == theirs => {}
                Some(theirs) => {
                    self.note(
                        &kind(name),
                        code(Some(&theirs.to_string())),
                        code(Some(&value.to_string())),
                    );
                }
                None => self.note(&kind(name), ABSENT.into(), "written".into()),
            }
        }
        for name in theirs.keys().filter(|name| !ours.contains_key(*name)) {
            self.note(&kind(name), "written".into(), ABSENT.into());
        }
    }

    fn source(&mut self, theirs: &Value, ours: &Value) {
        for (name, value) in theirs.as_object().expect("a source") {
            let place = format!("`source.{name}`");
            match ours.get(name) {
                None => self.note(&place, "written".into(), ABSENT.into()),
                Some(ours) if ours == value => {}
                Some(_) if name == "version" => {
                    self.note(&place, "its version".into(), "our version".into());
                }
                Some(first) if name == "sequence" && self.is_first(&ours["txId"], value, first) => {
                }
                Some(Value::Null) => self.note(&place, "written".into(), "`null`".into()),
                Some(_) if !self.suffix.is_empty() && OF_SNAPSHOT.contains(&name.as_str()) => {
                    self.note(&place, "of its snapshot".into(), "of our snapshot".into());
                }
                Some(ours) => {
                    self.note(
                        &place,
                        code(Some(&value.to_string())),
                        code(Some(&ours.to_string())),
                    );
                }
            }
        }
        let more = ours.as_object().expect("a source").keys();
        for name in more.filter(|name| theirs.get(name.as_str()).is_none()) {
            self.note(&format!("`source.{name}`"), ABSENT.into(), "written".into());
        }
    }

    /// Whether `sequence` lacks the transaction before, where Debezium has one, and may lack it.
    fn is_first(&mut self, transaction: &Value, theirs: &Value, ours: &Value) -> bool {
        let halves = |value: &Value| serde_json::from_str::<[Value; 2]>(value.as_str()?).ok();
        let (Some([_, at]), Some([Value::Null, ours])) = (halves(theirs), halves(ours)) else {
            return false;
        };
        let first = &mut self.differences.first;
        first.extend(transaction.as_u64().map(|it| (self.mode, it)));
        at == ours && first.iter().filter(|it| it.0 == self.mode).count() <= RUNS
    }

    /// Members of schemas, and whatever else is compared whole. Fields of a schema are known by their names.
    fn values(&mut self, place: &str, theirs: &Value, ours: &Value) {
        let field = |value: &Value| value.get("field").and_then(Value::as_str).map(str::to_owned);
        match (theirs, ours) {
            _ if theirs == ours => {}
            (Value::Object(theirs), Value::Object(ours)) => {
                for (name, value) in theirs {
                    let deeper =
                        if name == "fields" { place.into() } else { format!("{place}, {name}") };
                    match ours.get(name) {
                        Some(ours) => self.values(&deeper, value, ours),
                        None => self.note(&deeper, code(Some(&value.to_string())), ABSENT.into()),
                    }
                }
                for (name, value) in ours.iter().filter(|(name, _)| !theirs.contains_key(*name)) {
                    let deeper = format!("{place}, {name}");
                    self.note(&deeper, ABSENT.into(), code(Some(&value.to_string())));
                }
            }
            (Value::Array(theirs), Value::Array(ours))
                if ours.iter().any(|it| field(it).is_some()) =>
            {
                let names =
                    |fields: &[Value]| fields.iter().filter_map(field).collect::<BTreeSet<_>>();
                for name in &(&names(theirs) | &names(ours)) {
                    let of = |fields: &[Value]| {
                        fields.iter().find(|it| field(it).as_ref() == Some(name)).cloned()
                    };
                    // Both rows of the envelope have the same fields.
                    let deeper = match name.as_str() {
                        "before" | "after" => place.to_owned(),
                        "source" => format!("{place} of `source`"),
                        name => format!("{place} of {}", kind(name)),
                    };
                    match (of(theirs), of(ours)) {
                        (Some(theirs), Some(ours)) => self.values(&deeper, &theirs, &ours),
                        (theirs, ours) => self.note(&deeper, schema(theirs), schema(ours)),
                    }
                }
            }
            _ => self.note(place, code(Some(&theirs.to_string())), code(Some(&ours.to_string()))),
        }
    }
}

/// A type and the name of its schema, which is what readers go by.
fn schema(field: Option<Value>) -> String {
    let Some(field) = field else { return ABSENT.into() };
    let text = |name: &str| field.get(name).and_then(Value::as_str);
    match (text("type"), text("name")) {
        (Some(type_), Some(name)) => format!("`{type_}`, `{name}`"),
        (type_, _) => code(type_),
    }
}

/// The columns of the table of many types are named after them; under Avro's escapes `_` is one.
fn kind(column: &str) -> String {
    let name = match column.strip_prefix("a_u005f") {
        Some(escaped) => escaped.replace("_u005f", "_"),
        None => column.strip_prefix("a_").unwrap_or(column).to_owned(),
    };
    format!("`{name}`")
}

fn code(text: Option<&str>) -> String {
    let Some(text) = text else { return ABSENT.into() };
    let cut: String = text.chars().take(TEXT_MAX).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("`{}{more}`", cut.replace('|', "\\|"))
}
