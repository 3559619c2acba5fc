//! Guards the cost of an event: CPU time of decoding, routing and encoding a row of 200 bytes, as a multiple of that of
//! a loop of the same kind of work which never changes, against the figures of the last release beside this file.
//! `-- --write` writes them anew.
//!
//! Machines differ in how fast they are, and are shared: only CPU time of this thread counts, work and yardstick take turns of
//! a few milliseconds, and of each the best turn counts. What is found dear is looked at again before it is called so.

#[path = "../../wal/tests/encode/mod.rs"]
mod encode;
mod rows;

use bytes::Bytes;
use encode::{Value, knowing};
use record::encode::Encoder;
use record::plan::TablePlan;
use record::route::{Piece, Scratch};
use record::schema::Ids;
use rows::{ORDER, ROWS, batch, route, table, task_with};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::hint::black_box;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;
use wal::ChangeBatch;
use wal::decoder::{Decoder, Options, Step};

/// What an event may cost, of what it cost in the last release.
const WORSE_MAX: f64 = 1.15;
/// Turns of each kind of work in one process.
const TURNS: usize = 60;
/// Processes, while one kind of work is found dear: where its memory lies is decided anew in each.
const LOOKS_MAX: usize = 5;
/// What a process is told that is to look.
const LOOK: &str = "--look";
/// Between the names, figures and times that it prints.
const TAB: char = '\t';
const FIGURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/guard.figures");

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

/// A decoder that knows the table, and 1,000 of its rows in transactions of 100.
fn stream(binary: bool) -> (Decoder, Bytes) {
    let columns: Vec<_> = ORDER.iter().map(|(name, oid, _)| (*name, *oid)).collect();
    let options = Options { binary: binary.then_some(180_000), ..Options::default() };
    let values = if binary { binary_values() } else { texts() };
    (knowing(options, &columns), encode::rows(ROWS, &values).into())
}

fn texts() -> Vec<Value> {
    ORDER.iter().map(|(_, _, text)| encode::text(text)).collect()
}

/// The row of [`ORDER`] as the server sends it in binary form.
fn binary_values() -> Vec<Value> {
    let text = |index: usize| ORDER[index].2.as_bytes().to_vec();
    let values = vec![
        123_456_789_i64.to_be_bytes().to_vec(),
        vec![0xA5; 16],
        4711_i32.to_be_bytes().to_vec(),
        text(3),
        text(4),
        [2_i16, 0, 0, 2, 149, 9000].map(i16::to_be_bytes).concat(),
        vec![1],
        762_920_430_123_456_i64.to_be_bytes().to_vec(),
        762_920_430_500_000_i64.to_be_bytes().to_vec(),
        text(9),
    ];
    values.into_iter().map(Value::Binary).collect()
}

type Work = Box<dyn FnMut()>;

fn decoding(binary: bool) -> Work {
    let (mut decoder, bytes) = stream(binary);
    Box::new(move || {
        let Ok(Step::Done(batch)) = decoder.decode(bytes.clone()) else { panic!("not decoded") };
        assert_eq!(batch.changes.len() as u64, ROWS);
        black_box(batch);
    })
}

fn plan(batch: &ChangeBatch, format: &str) -> TablePlan {
    let task = task_with(format, "");
    let plan = TablePlan::new(Arc::clone(&batch.tables[0]), &task, 0, 12, 8).expect("a plan");
    if let Some(schemas) = plan.schemas() {
        schemas.taken_first(Ids { key: Some(1), value: 2 });
    }
    plan
}

fn routing() -> Work {
    let batch = batch(table(&ORDER), &ORDER);
    let plan = plan(&batch, "debezium-json");
    let (mut scratch, mut pieces) = (Scratch::default(), Vec::new());
    Box::new(move || {
        route(&plan, &batch, &mut scratch, &mut pieces);
        black_box(&pieces);
    })
}

fn encoding(format: &'static str) -> Work {
    let batch = batch(table(&ORDER), &ORDER);
    let plan = plan(&batch, format);
    let (mut scratch, mut pieces) = (Scratch::default(), Vec::<Piece>::new());
    route(&plan, &batch, &mut scratch, &mut pieces);
    let mut encoder = Encoder::new(&task_with(format, ""));
    Box::new(move || {
        let mut bytes = 0;
        let sink = &mut |record: record::record::Record<'_>| {
            bytes += record.value.map_or(0, <[u8]>::len) + record.headers.len();
            Ok::<(), Infallible>(())
        };
        for piece in &pieces {
            encoder.encode(&plan, &batch, piece, 1_709_605_231_004_017, sink).expect("a row");
        }
        black_box(bytes);
    })
}

/// Kinds of work, and how often each is done in a turn of about two milliseconds.
fn works() -> Vec<(&'static str, usize, Work)> {
    vec![
        ("decode text", 20, decoding(false)),
        ("decode binary", 5, decoding(true)),
        ("route", 40, routing()),
        ("encode debezium-json", 5, encoding("debezium-json")),
        ("encode debezium-avro", 5, encoding("debezium-avro")),
    ]
}

/// Prints of each kind of work its best turn as a multiple of the yardstick's best, and in nanoseconds a row.
fn look() -> io::Result<()> {
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

type Figures = BTreeMap<String, f64>;

/// Looks in a process of its own. Keeps the lowest figure of each kind of work, and the lines that gave them.
fn look_apart(found: &mut Figures, shown: &mut BTreeMap<String, String>) -> io::Result<()> {
    let output = Command::new(std::env::current_exe()?).arg(LOOK).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    for line in text.lines() {
        let mut parts = line.split(TAB);
        let (Some(name), Some(figure), Some(ns)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let figure = figure.parse().map_err(io::Error::other)?;
        if found.get(name).is_none_or(|before| figure < *before) {
            found.insert(name.into(), figure);
            shown.insert(name.into(), format!("{figure:.3} yardsticks, {ns} ns of CPU a row"));
        }
    }
    if found.is_empty() {
        Err(io::Error::other("the process that looks has said nothing"))
    } else {
        Ok(())
    }
}

fn known() -> Figures {
    let text = std::fs::read_to_string(FIGURES).unwrap_or_default();
    let line = |line: &str| {
        let (name, figure) = line.rsplit_once(' ')?;
        Some((name.to_owned(), figure.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// Kinds of work that cost more than they may, or whose figure is not known.
fn dear(found: &Figures, known: &Figures) -> Vec<String> {
    let is_dear = |(name, figure): &(&String, &f64)| {
        known.get(*name).is_none_or(|known| known * WORSE_MAX < **figure)
    };
    found.iter().filter(is_dear).map(|(name, _)| name.clone()).collect()
}

fn main() -> io::Result<ExitCode> {
    let is = |wanted: &str| std::env::args().any(|word| word == wanted);
    if is(LOOK) {
        return look().map(|()| ExitCode::SUCCESS);
    }
    let (is_writing, known) = (is("--write"), known());
    let (mut found, mut shown) = (Figures::new(), BTreeMap::new());
    for _ in 0..LOOKS_MAX {
        look_apart(&mut found, &mut shown)?;
        if !is_writing && dear(&found, &known).is_empty() {
            break;
        }
    }
    let mut out = io::stdout().lock();
    for (name, line) in &shown {
        let change = known.get(name).map(|known| (found[name] / known - 1.0) * 100.0);
        let change = change.map_or("not known before".into(), |it| format!("{it:+.1} %"));
        writeln!(out, "{name}: {line}, {change}")?;
    }
    if is_writing {
        let lines = found.iter().map(|(name, figure)| format!("{name} {figure:.3}\n"));
        std::fs::write(Path::new(FIGURES), lines.collect::<String>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let dear = dear(&found, &known);
    if dear.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(
        io::stderr(),
        "dearer than in the last release by more than {:.0} %: {}; make it cheaper, or say in the commit why \
         it has to be, and run `just guard --write`",
        (WORSE_MAX - 1.0) * 100.0,
        dear.join(", ")
    )?;
    Ok(ExitCode::FAILURE)
}
