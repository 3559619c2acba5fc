//! Lane, router, frontier and revisions under a scheduler that reorders, delays, drops, kills and pauses
//! (delivery-protocol.md, section 14): their invariants hold after every step, and everything
//! arrives once the trouble ends.
//!
//! A failing seed is printed; `DISTRIBUTARY_SEED=n` replays it alone. `DISTRIBUTARY_SCHEDULES=n` sets how
//! many schedules are run.

mod bench;
#[path = "simulation/broker.rs"]
mod broker;
#[path = "simulation/world.rs"]
mod world;

use world::World;

/// A fault of the protocol, planted to see that it is found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Bug {
    /// The clean-commit rule is switched off: a late copy of a commit ends the next transaction.
    DirtyIgnored,
    /// An owner begins without what its lane holds.
    CheckpointIgnored,
    /// The slot is confirmed when a transaction was read, not when it is durable.
    ConfirmedEarly,
    /// A new owner does not get what was not durable.
    NotSentAgain,
    /// Older owners may go on writing.
    NoFencing,
    /// Lanes are sealed before everything of their revision is durable.
    SealedEarly,
    /// Lanes of a new revision begin where their own checkpoints stand.
    FloorIgnored,
}

const STEPS: u64 = 120;

fn run(seed: u64, bug: Option<Bug>) -> Result<(), String> {
    let mut world = World::new(seed, bug);
    for step in 0..STEPS {
        world.step().map_err(|error| format!("step {step}: {error}"))?;
    }
    world.finish().map_err(|error| format!("after the trouble: {error}"))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn no_schedule_breaks_an_invariant() {
    let seeds = match number("DISTRIBUTARY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("DISTRIBUTARY_SCHEDULES").unwrap_or(5_000),
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

#[track_caller]
fn is_found(bug: Bug) {
    let found = (0..2_000).find(|&seed| run(seed, Some(bug)).is_err());
    assert!(found.is_some(), "{bug:?} was not found");
}

#[test]
fn a_clean_commit_rule_switched_off_is_found() {
    is_found(Bug::DirtyIgnored);
}

#[test]
fn an_owner_that_ignores_its_checkpoint_is_found() {
    is_found(Bug::CheckpointIgnored);
}

#[test]
fn a_slot_confirmed_early_is_found() {
    is_found(Bug::ConfirmedEarly);
}

#[test]
fn a_lane_that_is_not_sent_again_is_found() {
    is_found(Bug::NotSentAgain);
}

#[test]
fn a_revision_that_is_sealed_early_is_found() {
    is_found(Bug::SealedEarly);
}

#[test]
fn a_revision_that_forgets_where_it_begins_is_found() {
    is_found(Bug::FloorIgnored);
}

#[test]
fn owners_that_are_not_fenced_are_found() {
    is_found(Bug::NoFencing);
}
