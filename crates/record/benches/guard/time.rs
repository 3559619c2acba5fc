//! CPU time, as a multiple of that of a loop of the same kind of work which never changes.
//!
//! Machines differ in how fast they are, and are shared: only CPU time of this thread counts, work and yardstick take turns of
//! a few milliseconds, and of each the best turn counts. What is found dear is looked at again before it is called so.

use crate::rows::{ORDER, ROWS};
use crate::works::works;
use crate::{Figures, Found, dear};
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;
use std::io::{self, Write as _};
use std::process::Command;
use std::time::Duration;

/// Turns of each kind of work in one process.
const TURNS: usize = 60;
/// Processes, while one kind of work is found dear: where its memory lies is decided anew in each.
const LOOKS_MAX: usize = 5;
/// What a process is told that is to look.
pub(crate) const LOOK: &str = "--look";
/// Between the names, figures and times that it prints.
const TAB: char = '\t';

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(now).expect("the clock of a thread begins at zero")
}

fn timed(repeats: usize, work: &mut dyn FnMut()) -> f64 {
    let began = cpu_time();
    (0..repeats).for_each(|_| work());
    (cpu_time() - began).as_secs_f64() / repeats as f64
}

/// Stands for the work on one row without being any of it: finds the parts of a message, copies them, and escapes and
/// counts what it copies.
fn yardstick(bytes: &[u8], out: &mut Vec<u8>) -> u64 {
    out.clear();
    let (mut rest, mut hash) = (bytes, 0xcbf2_9ce4_8422_2325_u64);
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let Some((part, after)) = after.split_at_checked(length) else { break };
        out.push(b'"');
        for &byte in part {
            if byte == b'"' || byte == b'\\' || byte < b' ' {
                out.push(b'\\');
            }
            out.push(byte);
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        out.extend_from_slice(b"\":");
        out.extend_from_slice(hash.to_string().as_bytes());
        rest = after;
    }
    hash
}

fn yardstick_bytes() -> Vec<u8> {
    let parts = ORDER.iter().cycle().take(ORDER.len() * 1000);
    let sized = |text: &str| {
        let length = u32::try_from(text.len()).expect("short").to_be_bytes();
        [&length, text.as_bytes()].concat()
    };
    parts.flat_map(|(_, _, text)| sized(text)).collect()
}

/// Prints of each kind of work its best turn as a multiple of the yardstick's best, and in nanoseconds a row.
pub(crate) fn look() -> io::Result<()> {
    let (bytes, mut out) = (yardstick_bytes(), Vec::new());
    let mut works = works();
    let (mut best, mut least) = (vec![f64::MAX; works.len()], f64::MAX);
    for _ in 0..TURNS {
        for (best, (_, repeats, work)) in best.iter_mut().zip(&mut works) {
            let mut measure = || {
                black_box(yardstick(black_box(&bytes), &mut out));
            };
            least = least.min(timed(4, &mut measure));
            *best = best.min(timed(*repeats, work));
        }
    }
    let mut out = io::stdout().lock();
    for ((name, ..), best) in works.iter().zip(best) {
        writeln!(out, "{name}{TAB}{:.4}{TAB}{:.0}", best / least, best / ROWS as f64 * 1e9)?;
    }
    Ok(())
}

/// Looks until nothing is dear, or `known` is to be written anew.
pub(crate) fn find(known: Option<&Figures>) -> io::Result<Found> {
    let mut found = Found::new();
    for _ in 0..LOOKS_MAX {
        look_apart(&mut found)?;
        if known.is_some_and(|known| dear(&found, known).is_empty()) {
            break;
        }
    }
    Ok(found)
}

/// Looks in a process of its own. Keeps the lowest figure of each kind of work, and what is shown of it.
fn look_apart(found: &mut Found) -> io::Result<()> {
    let output = Command::new(std::env::current_exe()?).arg(LOOK).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    for line in text.lines() {
        let mut parts = line.split(TAB);
        let (Some(name), Some(figure), Some(ns)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let figure: f64 = figure.parse().map_err(io::Error::other)?;
        if found.get(name).is_none_or(|(before, _)| figure < *before) {
            let shown = format!("{figure:.3} yardsticks, {ns} ns of CPU a row");
            found.insert(name.into(), (figure, shown));
        }
    }
    if found.is_empty() {
        Err(io::Error::other("the process that looks has said nothing"))
    } else {
        Ok(())
    }
}
