//! Guards the cost of an event: what decoding, routing and encoding a row of 200 bytes takes, against the figures of the last
//! release beside this file. `-- --write` writes them anew.
//!
//! [`time`] takes an optimised build and a machine that has figures; [`instructions`] (`-- --instructions`) are counted in
//! the build that the tests have, by CI.

#[path = "../../../wal/tests/encode/mod.rs"]
mod encode;
mod instructions;
#[path = "../rows/mod.rs"]
mod rows;
mod time;
mod works;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// What an event may cost, of what it cost in the last release.
const WORSE_MAX: f64 = 1.15;

const TIMES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/guard/time.figures");
const INSTRUCTIONS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/benches/guard/instructions.figures");

/// By kind of work.
type Figures = BTreeMap<String, f64>;
/// By kind of work: its figure, and how it is shown.
type Found = BTreeMap<String, (f64, String)>;

fn known(file: &str) -> Figures {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = |line: &str| {
        let (name, figure) = line.rsplit_once(' ')?;
        Some((name.to_owned(), figure.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// Kinds of work that cost more than they may, or whose figure is not known.
fn dear(found: &Found, known: &Figures) -> Vec<String> {
    let is_dear = |(name, (figure, _)): &(&String, &(f64, String))| {
        known.get(*name).is_none_or(|known| known * WORSE_MAX < *figure)
    };
    found.iter().filter(is_dear).map(|(name, _)| name.clone()).collect()
}

fn main() -> io::Result<ExitCode> {
    let words: Vec<String> = std::env::args().collect();
    let is = |wanted: &str| words.iter().any(|word| word == wanted);
    if is(time::LOOK) {
        return time::look().map(|()| ExitCode::SUCCESS);
    }
    if let [_, first, name, repeats] = &words[..]
        && first == instructions::DO
    {
        instructions::work(name, repeats.parse().map_err(io::Error::other)?);
        return Ok(ExitCode::SUCCESS);
    }
    let file = if is("--instructions") { INSTRUCTIONS } else { TIMES };
    let (is_writing, known) = (is("--write"), known(file));
    let found = if file == INSTRUCTIONS {
        instructions::find()?
    } else {
        time::find((!is_writing).then_some(&known))?
    };
    let mut out = io::stdout().lock();
    for (name, (figure, line)) in &found {
        let change = known.get(name).map(|known| (figure / known - 1.0) * 100.0);
        let change = change.map_or("not known before".into(), |it| format!("{it:+.1} %"));
        writeln!(out, "{name}: {line}, {change}")?;
    }
    if is_writing {
        let lines = found.iter().map(|(name, (figure, _))| format!("{name} {figure:.3}\n"));
        std::fs::write(file, lines.collect::<String>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let dear = dear(&found, &known);
    if dear.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(
        io::stderr(),
        "dearer than in the last release by more than {:.0} %: {}; make it cheaper, or say in the commit why it has to \
         be, and write the figures anew with `--write`",
        (WORSE_MAX - 1.0) * 100.0,
        dear.join(", ")
    )?;
    Ok(ExitCode::FAILURE)
}
