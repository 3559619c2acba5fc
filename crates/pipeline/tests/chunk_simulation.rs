//! Chunked snapshots beside the stream, under a scheduler that reorders, delays, drops and kills
//! (delivery-protocol.md, sections 9 and 14): a table is copied while transactions change it, which are
//! committed, and so streamed, before snapshots see them. Copy, merge, routing, lanes and frontier are the real
//! ones; server, broker, meta lane and the connections that read are models.
//!
//! What holds, under these names:
//! * C1: no state of a row follows a newer one. C2: none that is gone comes back.
//! * C3: no row is read twice under one plan, unless the table was rewritten.
//! * C4: rows of a chunk become visible with a checkpoint that names it.
//! * C5: rows become visible only of ranges that were written down before, under their chunk's number.
//! * C6: at the end consumers have the server's rows. C7: there is an end.
//! * I2, I3, I5, I6: of the protocol's section 11, as far as chunks could break them.
//!
//! A failing seed is printed; `DISTRIBUTARY_SEED=n` replays it alone and prints what consumers got.
//! `DISTRIBUTARY_SCHEDULES=n` sets how many schedules are run.

mod bench;
#[path = "chunk_simulation/broker.rs"]
mod broker;
#[path = "chunk_simulation/copying.rs"]
mod copying;
#[path = "chunk_simulation/invariants.rs"]
mod invariants;
#[path = "chunk_simulation/life.rs"]
mod life;
#[path = "chunk_simulation/postgres.rs"]
mod postgres;
#[path = "chunk_simulation/world.rs"]
mod world;

use std::collections::BTreeMap;
use world::World;

/// Lanes of a schedule at most.
pub(crate) const LANES: u8 = 3;
pub(crate) const PARTITIONS: i32 = 5;

/// A fault, planted to see that it is found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Bug {
    /// A snapshot that does not see what was routed is taken for good.
    DirtyIgnored,
    /// Transactions that an earlier process has routed are taken for visible.
    EarlierLifeForgotten,
    /// Rows are emitted wherever the stream is.
    HighIgnored,
    /// The end of the WAL is taken before the snapshot.
    HighTooEarly,
    /// Rows are emitted before their range is written down.
    EmittedFirst,
    /// What may not be durable is read again under other numbers.
    NumberedAnew,
    /// What may not be durable is read again by a range that begins earlier.
    RangeWidened,
    /// A chunk is settled when it is routed, not when it is durable in every lane.
    SettledEarly,
    /// Checkpoints do not name the chunks of their rows.
    NotMarked,
    /// A lane's new owner does not know what chunks its lane holds.
    HeldForgotten,
    /// A chunk says of no other that it is open, so lanes forget that they hold it.
    OpenForgotten,
}

/// What a schedule came across: without it, it shows nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reached {
    /// Snapshots that did not see what was routed.
    pub(crate) dirty: u64,
    /// Rows that the stream had told.
    pub(crate) left_out: u64,
    /// Chunks with a row of which the stream had told a part.
    pub(crate) told_in_part: u64,
    /// Times that reading began again because of a TRUNCATE.
    pub(crate) begun_again: u64,
    /// Chunks that waited for their place beside others.
    pub(crate) together: u64,
    /// Processes that found chunks that may not be durable.
    pub(crate) taken_over_with_open_chunks: u64,
    /// Chunks that were handed on again, and those that one lane held while another did not.
    pub(crate) redone: u64,
    pub(crate) held_by_some: u64,
    /// By chunk, the files of its table.
    pub(crate) files: BTreeMap<String, String>,
}

impl Reached {
    fn add(&mut self, other: &Self) {
        self.dirty += other.dirty;
        self.left_out += other.left_out;
        self.told_in_part += other.told_in_part;
        self.begun_again += other.begun_again;
        self.together += other.together;
        self.taken_over_with_open_chunks += other.taken_over_with_open_chunks;
        self.redone += other.redone;
        self.held_by_some += other.held_by_some;
    }
}

const STEPS: u64 = 1_500;

/// Where and how a schedule broke something.
type Broken = (u64, String);

fn run(mut world: World) -> (World, Result<(), Broken>) {
    for step in 0..STEPS {
        if let Err(error) = world.step() {
            return (world, Err((step, error)));
        }
    }
    let finished = world.finish().map_err(|error| (STEPS, error));
    (world, finished)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn no_schedule_breaks_an_invariant() {
    let single = number("DISTRIBUTARY_SEED");
    let seeds = match single {
        Some(seed) => seed..seed + 1,
        None => 0..number("DISTRIBUTARY_SCHEDULES").unwrap_or(5_000),
    };
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let share = |worker: u64| {
        let mut own = seeds.clone().filter(|seed| seed % workers == worker);
        own.find_map(|seed| {
            let world = World::new(seed, None);
            let (world, ran) = run(if single.is_some() { world.traced() } else { world });
            ran.err().map(|(step, error)| (seed, step, error, world.trace()))
        })
    };
    let failed = std::thread::scope(|scope| {
        let share = &share;
        let running: Vec<_> = (0..workers).map(|it| scope.spawn(move || share(it))).collect();
        running.into_iter().find_map(|it| it.join().expect("a worker's share"))
    });
    if let Some((seed, step, error, trace)) = failed {
        panic!("DISTRIBUTARY_SEED={seed}: step {step}: {error}\n{trace}");
    }
}

/// The schedules meet what they are for: so they do not pass in vain.
#[test]
fn schedules_reach_what_is_hard() {
    let mut sum = Reached::default();
    (0..500).for_each(|seed| sum.add(run(World::new(seed, None)).0.reached()));
    let Reached { dirty, left_out, told_in_part, begun_again, together, .. } = sum;
    let Reached { taken_over_with_open_chunks, redone, held_by_some, .. } = sum;
    let counts = [dirty, left_out, told_in_part, begun_again, together];
    let after_kills = [taken_over_with_open_chunks, redone, held_by_some];
    assert!(counts.iter().chain(&after_kills).all(|&count| 20 < count), "{sum:?}");
}

/// With the fault a schedule must break the named invariant, where without it none is broken yet.
#[track_caller]
fn is_found(bug: Bug, invariant: &str) {
    let found = (0..10_000).any(|seed| match run(World::new(seed, Some(bug))).1 {
        Ok(()) => false,
        Err((step, error)) => {
            let sound = || run(World::new(seed, None)).1.err();
            error.contains(invariant) && sound().is_none_or(|(later, _)| step < later)
        }
    });
    assert!(found, "{bug:?} was not found");
}

#[test]
fn a_snapshot_that_lags_behind_the_stream_is_found() {
    is_found(Bug::DirtyIgnored, "C1");
    is_found(Bug::DirtyIgnored, "C2");
}

#[test]
fn a_snapshot_that_lags_behind_an_earlier_life_is_found() {
    is_found(Bug::EarlierLifeForgotten, "C1");
}

#[test]
fn a_high_mark_that_is_ignored_is_found() {
    is_found(Bug::HighIgnored, "C1");
}

#[test]
fn a_high_mark_from_before_the_snapshot_is_found() {
    is_found(Bug::HighTooEarly, "C1");
}

#[test]
fn rows_that_are_emitted_before_their_range_is_written_down_are_found() {
    is_found(Bug::EmittedFirst, "C5");
}

#[test]
fn a_chunk_that_is_read_again_under_another_number_is_found() {
    is_found(Bug::NumberedAnew, "C3");
}

#[test]
fn a_chunk_that_is_read_again_by_another_range_is_found() {
    is_found(Bug::RangeWidened, "C5");
}

#[test]
fn a_chunk_that_is_settled_early_is_found() {
    is_found(Bug::SettledEarly, "C6");
}

#[test]
fn a_chunk_without_its_mark_is_found() {
    is_found(Bug::NotMarked, "C4");
}

#[test]
fn a_lane_that_forgets_what_it_holds_is_found() {
    is_found(Bug::HeldForgotten, "C3");
}

#[test]
fn a_lane_that_is_told_too_early_to_forget_is_found() {
    is_found(Bug::OpenForgotten, "C3");
}
