//! Lane, router, frontier, revisions and the decision where to begin under a scheduler that reorders,
//! delays, drops, kills, pauses and promotes (delivery-protocol.md, section 14): the invariants of
//! section 11 hold after every step, and everything arrives once the trouble ends, or the task is parked
//! where it must be.
//!
//! A failing seed is printed; `DISTRIBUTARY_SEED=n` replays it alone. `DISTRIBUTARY_SCHEDULES=n` sets how
//! many schedules are run.

mod bench;
#[path = "simulation/broker.rs"]
mod broker;
#[path = "simulation/history.rs"]
mod history;
#[path = "simulation/invariants.rs"]
mod invariants;
#[path = "simulation/postgres.rs"]
mod postgres;
#[path = "simulation/world.rs"]
mod world;

use postgres::Setup;
use world::World;

/// A fault of the protocol, planted to see that it is found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Bug {
    /// The clean-commit rule is switched off: a late copy of a commit ends the next transaction.
    DirtyIgnored,
    /// Statistics from before a commit returned are believed.
    OldStatistics,
    /// An owner begins without what its lane holds.
    CheckpointIgnored,
    /// The slot is confirmed when a transaction was read, not when it is durable.
    ConfirmedEarly,
    /// A new owner does not get what was not durable.
    NotSentAgain,
    /// Older owners may go on writing.
    NoFencing,
    /// An older process may go on writing the low watermark.
    OlderProcessObeyed,
    /// Lanes take what an older front had sent.
    OldFrontObeyed,
    /// A front routes by the partitions that it finds, not by those that were pinned.
    PinIgnored,
    /// Some fronts route over fewer lanes than their revision has.
    LanesMixed,
    /// Lanes are sealed before everything of their revision is durable.
    SealedEarly,
    /// Lanes of a new revision begin where their own checkpoints stand.
    FloorIgnored,
    /// A front that ended took with it what it had asked the meta lane for.
    AnswerForgotten,
    /// The start does not look where the server's time line ends, nor where it began.
    TimelineIgnored,
    /// Lanes keep what they have queued of a time line while the next one is judged.
    OldLineQueued,
    /// The stream of a new time line begins before the low watermark says so.
    LineNotNoted,
    /// The start makes a slot that is gone again.
    SlotMadeAgain,
    /// A changed spec is in force before its mark is recorded.
    MarkNotRecorded,
}

const STEPS: u64 = 1_200;

/// Where and how a schedule broke something.
type Broken = (u64, String);

fn run(seed: u64, setup: Setup, bug: Option<Bug>) -> Result<World, Broken> {
    let mut world = World::new(seed, setup, bug);
    for step in 0..STEPS {
        world.step().map_err(|error| (step, error))?;
    }
    world.finish().map_err(|error| (STEPS, error))?;
    Ok(world)
}

/// What failovers find: mostly what they should.
fn setup(seed: u64) -> Setup {
    match seed % 8 {
        0 => Setup::WithoutSlot,
        1 => Setup::Meddled,
        _ => Setup::Safe,
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Runs all schedules on all cores; the first failure that was found is told.
#[track_caller]
fn all_hold(setup: impl Fn(u64) -> Setup + Sync) {
    let seeds = match number("DISTRIBUTARY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("DISTRIBUTARY_SCHEDULES").unwrap_or(5_000),
    };
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let share = |worker: u64| {
        let mut own = seeds.clone().filter(|seed| seed % workers == worker);
        own.find_map(|seed| Some((seed, run(seed, setup(seed), None).err()?)))
    };
    let failed = std::thread::scope(|scope| {
        let share = &share;
        let running: Vec<_> = (0..workers).map(|it| scope.spawn(move || share(it))).collect();
        running.into_iter().find_map(|it| it.join().expect("a worker's share"))
    });
    if let Some((seed, (step, error))) = failed {
        panic!("DISTRIBUTARY_SEED={seed}: step {step}: {error}");
    }
}

#[test]
fn no_schedule_breaks_an_invariant() {
    all_hold(setup);
}

/// Some schedules meet a slot that is gone or that somebody moved; no safe one ends for want of a person.
#[test]
fn a_lost_slot_parks_and_a_safe_failover_never_does() {
    let parked =
        |setup| (0..200).find(|&it| run(it, setup, None).is_ok_and(|it| it.parked.is_some()));
    assert!(parked(Setup::WithoutSlot).is_some());
    assert!(parked(Setup::Meddled).is_some());
    assert_eq!(parked(Setup::Safe), None);
}

#[test]
fn a_failover_that_loses_what_was_delivered_parks() {
    all_hold(|_| Setup::Unsafe);
}

/// With the fault a schedule must break the named invariant, where without it none is broken yet.
#[track_caller]
fn is_found(bug: Bug, setup: Setup, invariant: &str) {
    let found = (0..2_000).any(|seed| match run(seed, setup, Some(bug)) {
        Ok(_) => false,
        Err((step, error)) => {
            error.contains(invariant)
                && run(seed, setup, None).err().is_none_or(|(later, _)| step < later)
        }
    });
    assert!(found, "{bug:?} was not found");
}

#[test]
fn a_clean_commit_rule_switched_off_is_found() {
    is_found(Bug::DirtyIgnored, Setup::Safe, "I2");
}

#[test]
fn statistics_that_are_believed_too_early_are_found() {
    is_found(Bug::OldStatistics, Setup::Safe, "I2");
}

#[test]
fn an_owner_that_ignores_its_checkpoint_is_found() {
    is_found(Bug::CheckpointIgnored, Setup::Safe, "I5");
}

#[test]
fn a_slot_confirmed_early_is_found() {
    is_found(Bug::ConfirmedEarly, Setup::Safe, "I6");
}

#[test]
fn a_lane_that_is_not_sent_again_is_found() {
    is_found(Bug::NotSentAgain, Setup::Safe, "I2");
}

#[test]
fn a_revision_that_is_sealed_early_is_found() {
    is_found(Bug::SealedEarly, Setup::Safe, "I2");
}

#[test]
fn a_revision_that_forgets_where_it_begins_is_found() {
    is_found(Bug::FloorIgnored, Setup::Safe, "I3");
}

#[test]
fn owners_that_are_not_fenced_are_found() {
    is_found(Bug::NoFencing, Setup::Safe, "I1");
    is_found(Bug::NoFencing, Setup::Safe, "I8");
}

#[test]
fn fronts_of_one_revision_that_share_no_lanes_are_found() {
    is_found(Bug::LanesMixed, Setup::Safe, "I7");
}

#[test]
fn a_front_that_is_obeyed_after_its_successor_is_found() {
    is_found(Bug::OldFrontObeyed, Setup::Safe, "I8");
}

#[test]
fn a_process_that_is_obeyed_after_its_successor_is_found() {
    is_found(Bug::OlderProcessObeyed, Setup::Safe, "I8");
}

#[test]
fn partitions_that_are_not_pinned_are_found() {
    is_found(Bug::PinIgnored, Setup::Safe, "I4");
}

#[test]
fn a_low_watermark_that_goes_back_is_found() {
    is_found(Bug::AnswerForgotten, Setup::Safe, "I6");
}

#[test]
fn a_start_that_does_not_compare_the_end_of_the_time_line_is_found() {
    is_found(Bug::TimelineIgnored, Setup::Unsafe, "a person must decide");
}

#[test]
fn lanes_that_keep_work_of_an_older_time_line_are_found() {
    is_found(Bug::OldLineQueued, Setup::Unsafe, "I3");
}

#[test]
fn a_new_time_line_that_is_not_noted_before_its_stream_is_found() {
    is_found(Bug::LineNotNoted, Setup::Unsafe, "parked without need");
}

#[test]
fn a_mark_that_is_in_force_before_it_is_recorded_is_found() {
    is_found(Bug::MarkNotRecorded, Setup::Safe, "I3");
}

#[test]
fn a_start_that_makes_a_lost_slot_again_is_found() {
    is_found(Bug::SlotMadeAgain, Setup::WithoutSlot, "a person must decide");
}
