//! Instructions, counted by valgrind: the same on every machine of a kind, however busy, so that CI can compare them.

use crate::Found;
use crate::rows::ROWS;
use crate::works::works;
use std::io;
use std::process::Command;

/// What a process is told that is to do one kind of work: its name and how often follow.
pub(crate) const DO: &str = "--do";
/// How often it is done in the two processes whose difference counts: what each does before is not the work's.
const REPEATS: [u64; 2] = [1, 3];

/// Counts each kind of work.
pub(crate) fn find() -> io::Result<Found> {
    let mut found = Found::new();
    for (name, ..) in works() {
        let [once, more] = [collected(name, REPEATS[0])?, collected(name, REPEATS[1])?];
        let rows = (REPEATS[1] - REPEATS[0]) * ROWS;
        let figure = more.saturating_sub(once) as f64 / rows as f64;
        found.insert(name.into(), (figure, format!("{figure:.0} instructions a row")));
    }
    Ok(found)
}

/// Instructions of a process that does the work `repeats` times.
fn collected(name: &str, repeats: u64) -> io::Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args([DO, name, &repeats.to_string()])
        .output()
        .map_err(|error| io::Error::other(format!("valgrind counts the instructions: {error}")))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let count = said.lines().find_map(|line| line.split_once("Collected :"));
    match count.and_then(|(_, count)| count.trim().parse().ok()) {
        Some(count) if output.status.success() => Ok(count),
        Some(_) | None => Err(io::Error::other(format!("valgrind has counted nothing: {said}"))),
    }
}

/// Does one kind of work, under valgrind.
pub(crate) fn work(name: &str, repeats: usize) {
    let (_, _, mut work) = works().into_iter().find(|it| it.0 == name).expect("a kind of work");
    (0..repeats).for_each(|_| work());
}
