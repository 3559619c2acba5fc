//! Coordinators, workers and moving lanes under a scheduler that delays, drops, repeats, cuts, kills and
//! pauses (delivery-protocol.md, sections 10, 11 and 14): the invariants hold after every step, and once
//! the trouble ends every lane of a running task is owned again in bounded time.
//!
//! A failing seed is printed; `DISTRIBUTARY_SEED=n` replays it alone. `DISTRIBUTARY_SCHEDULES=n` sets how
//! many schedules are run.

#[path = "simulation/coordinator.rs"]
mod coordinator;
#[path = "simulation/faults.rs"]
mod faults;
#[path = "simulation/kafka.rs"]
mod kafka;
#[path = "simulation/node.rs"]
mod process;
#[path = "simulation/worker.rs"]
mod worker;
#[path = "simulation/world.rs"]
mod world;

use world::{Seen, World};

/// A fault of the protocol, planted to see that it is found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Bug {
    /// Records of lower terms are obeyed.
    StaleObeyed,
    /// What a call says is obeyed, instead of what the control topic says.
    CallsObeyed,
    /// A new leader moves at once.
    MovesAtOnce,
    /// The leader measures silence with a clock that jumps.
    WallClock,
    /// A new owner of a lane does not fence the one before.
    LanesNotFenced,
    /// A worker whose lane was taken by a stale one never takes it back.
    LostForGood,
    /// A front that was moved, and that nobody asks for, goes on for good.
    MovedForGood,
    /// A worker that is to be drained keeps what it has.
    DrainForgotten,
}

/// Steps with trouble.
const STEPS: u64 = 120;

fn run(seed: u64, bug: Option<Bug>) -> Result<Seen, String> {
    let mut world = World::new(seed, bug);
    for step in 0..STEPS {
        world.step().map_err(|error| format!("step {step}: {error}"))?;
    }
    world.finish().map_err(|error| format!("after the trouble: {error}"))?;
    Ok(world.seen())
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn no_schedule_breaks_an_invariant() {
    let seeds = match number("DISTRIBUTARY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("DISTRIBUTARY_SCHEDULES").unwrap_or(2_000),
    };
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let share = |worker: u64| {
        let mut own = seeds.clone().filter(|seed| seed % workers == worker);
        own.find_map(|seed| Some((seed, run(seed, None).err()?)))
    };
    let failed = std::thread::scope(|scope| {
        let share = &share;
        let running: Vec<_> = (0..workers).map(|it| scope.spawn(move || share(it))).collect();
        running.into_iter().find_map(|it| it.join().expect("a worker's share"))
    });
    if let Some((seed, error)) = failed {
        panic!("DISTRIBUTARY_SEED={seed}: {error}");
    }
}

#[test]
fn the_schedules_see_what_they_are_for() {
    let seen: Vec<Seen> = (0..300).filter_map(|seed| run(seed, None).ok()).collect();
    let share = |is_seen: fn(&Seen) -> bool| seen.iter().filter(|it| is_seen(it)).count();
    let counts = [
        share(|it| 2 < it.leaders),
        share(|it| 2 < it.moves),
        share(|it| 0 < it.refused),
        share(|it| 0 < it.fenced),
        share(|it| 0 < it.handed_over),
    ];
    assert!(counts.iter().all(|it| 15 < *it), "of {}: {counts:?}", seen.len());
}

/// A bug is found by the invariant that names it, whatever else it breaks.
#[track_caller]
fn is_found(bug: Bug, by: &str) {
    let mut errors = (0..2_000).filter_map(|seed| run(seed, Some(bug)).err());
    assert!(errors.any(|error| error.contains(by)), "{bug:?} was not found");
}

#[test]
fn records_of_lower_terms_that_are_obeyed_are_found() {
    is_found(Bug::StaleObeyed, "I8");
}

#[test]
fn calls_that_are_obeyed_are_found() {
    is_found(Bug::CallsObeyed, "I8");
}

#[test]
fn a_new_leader_that_moves_at_once_is_found() {
    is_found(Bug::MovesAtOnce, "without need");
}

#[test]
fn a_clock_that_jumps_is_found() {
    is_found(Bug::WallClock, "without need");
}

#[test]
fn owners_that_are_not_fenced_are_found() {
    is_found(Bug::LanesNotFenced, "I");
}

#[test]
fn a_lane_that_is_lost_for_good_is_found() {
    is_found(Bug::LostForGood, "owned by nobody");
}

#[test]
fn a_front_that_goes_on_elsewhere_for_good_is_found() {
    is_found(Bug::MovedForGood, "the front of");
}

#[test]
fn a_drain_that_is_forgotten_is_found() {
    is_found(Bug::DrainForgotten, "drained");
}
