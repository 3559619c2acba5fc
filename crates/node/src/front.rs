//! What a worker does with the front of a task, by what the control topic says. Pure.
//!
//! ```text
//! nothing ── placed here ──► runs ── placed elsewhere, to be handed over ──► moving ── asked, or 5 s ──► ends
//!                             └── another spec, restarted, suspended, or nobody is to take it over ──► ends
//! ```

use crate::state::{ClusterState, Desired, Placement, State};
use crate::task_state::TaskState;
use std::time::{Duration, Instant};

/// The next owner of a front waits so long at most for the one before, and a front that nobody asks for ends so long
/// after its move was read (delivery-protocol.md, section 10).
pub const HAND_OVER_MAX: Duration = Duration::from_secs(5);

/// What a run is made from: a change of it needs another run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wanted {
    pub spec_rev: u64,
    pub restarts: u64,
    pub reseeds: u64,
    pub release: bool,
}

/// What becomes of a front that runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// It runs on, by the placement of this number.
    GoOn {
        placement_rev: u64,
    },
    /// It runs on by another spec, if that can come into force in place; else it ends, and another run begins.
    Modify {
        wanted: Wanted,
        placement_rev: u64,
    },
    /// It runs on until its next owner asks for it; moving since then.
    HandOver {
        since: Instant,
    },
    Stop,
}

/// How the front of a task shall run on `node`, and since which placement; `None`: not there.
#[must_use]
pub fn wanted(state: &ClusterState, node: &str, task: &str) -> Option<(Wanted, u64)> {
    let placement = state.placements.get(task)?;
    // Where the router is, the front is kept running.
    if placement.router() != Some(node) {
        return None;
    }
    Some((anywhere(state, task)?, placement.rev))
}

/// What becomes of a front that runs on `node` as `runs`, and is moving since `moving`.
#[must_use]
pub fn step(
    state: &ClusterState,
    node: &str,
    task: &str,
    runs: &Wanted,
    moving: Option<Instant>,
    now: Instant,
) -> Step {
    match wanted(state, node, task) {
        Some((wanted, placement_rev)) if wanted == *runs => Step::GoOn { placement_rev },
        Some((wanted, placement_rev))
            if !runs.release && Wanted { spec_rev: runs.spec_rev, ..wanted.clone() } == *runs =>
        {
            Step::Modify { wanted, placement_rev }
        }
        Some(_) => Step::Stop,
        None => {
            let since = moving.unwrap_or(now);
            let waits = now.saturating_duration_since(since) < HAND_OVER_MAX;
            let placement = state.placements.get(task);
            let is_asked_for = placement.is_some_and(|it| former(it) == Some(node));
            if waits
                && is_asked_for
                && !runs.release
                && anywhere(state, task).as_ref() == Some(runs)
            {
                Step::HandOver { since }
            } else {
                Step::Stop
            }
        }
    }
}

/// Who is asked to hand the front over to the router's node, before that takes it.
#[must_use]
pub fn former(placement: &Placement) -> Option<&str> {
    let router = placement.router()?;
    placement.from.as_deref().filter(|from| *from != router)
}

/// Lanes that are about to be opened on `node`, because they or the router have moved: what opens them can connect
/// while their former owner still writes.
#[must_use]
pub fn coming(before: &Placement, now: &Placement, node: &str) -> Vec<u8> {
    let is_other_router = before.router() != now.router();
    let is_coming = |lane: usize| {
        let owner = now.lanes[lane].as_deref();
        let was_here = before.lanes.get(lane).is_some_and(|it| it.as_deref() == owner);
        owner == Some(node) && (is_other_router || !was_here)
    };
    let lanes = (0..now.lanes.len()).filter(|&lane| is_coming(lane));
    lanes.filter_map(|lane| u8::try_from(lane).ok()).collect()
}

/// Why the task did not run before it is begun now, where its receivers of alerts were told so; a person's orders and
/// attempts to begin lie between.
#[must_use]
pub fn left(state: &State) -> Option<String> {
    use TaskState as S;
    let changes: Vec<_> = state.changes().collect();
    let before = changes.iter().rev().find(|it| match it.state {
        S::Prechecking | S::Initializing | S::Retrying | S::Modifying | S::Suspended => false,
        S::NotConfigured
        | S::PrecheckFailed
        | S::Synchronizing
        | S::CatchingUp
        | S::Parked
        | S::Failed
        | S::Completed
        | S::Releasing
        | S::ReleaseFailed
        | S::Released => true,
    })?;
    matches!(before.state, S::Parked | S::Failed | S::PrecheckFailed)
        .then(|| before.cause.clone().unwrap_or_else(|| before.state.to_string()))
}

/// How the front of a task shall run, wherever that is.
fn anywhere(state: &ClusterState, task: &str) -> Option<Wanted> {
    let task = state.tasks.get(task)?;
    let release = match task.desired {
        Desired::Running => false,
        Desired::Released => true,
        Desired::Suspended => return None,
    };
    Some(Wanted {
        spec_rev: task.spec_rev,
        restarts: task.restarts,
        reseeds: task.reseeds,
        release,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Task;

    fn cluster(router: Option<&str>, from: Option<&str>, desired: Desired) -> ClusterState {
        let mut state = ClusterState::default();
        let (front, from) = (router.map(str::to_owned), from.map(str::to_owned));
        state
            .placements
            .insert("shop".into(), Placement { rev: 8, front, from, ..Placement::default() });
        let task = Task { spec_rev: 3, desired, ..Task::new(String::new()) };
        state.tasks.insert("shop".into(), task);
        state
    }

    /// What becomes of a front on `w1` that has moved for `moving`, if it has.
    fn after(state: &ClusterState, runs: &Wanted, moving: Option<Duration>) -> Step {
        let now = Instant::now() + HAND_OVER_MAX * 2;
        match step(state, "w1", "shop", runs, moving.map(|it| now - it), now) {
            // For comparison.
            Step::HandOver { .. } => Step::HandOver { since: now - moving.unwrap_or_default() },
            other @ (Step::GoOn { .. } | Step::Modify { .. } | Step::Stop) => other,
        }
    }

    const RUNS: Wanted = Wanted { spec_rev: 3, restarts: 0, reseeds: 0, release: false };

    #[test]
    fn a_front_runs_where_it_is_placed_as_it_is_wanted() {
        let state = cluster(Some("w1"), None, Desired::Running);
        assert_eq!(wanted(&state, "w1", "shop"), Some((RUNS, 8)));
        assert_eq!(wanted(&state, "w2", "shop"), None);
        assert_eq!(after(&state, &RUNS, None), Step::GoOn { placement_rev: 8 });
        assert_eq!(after(&state, &Wanted { restarts: 2, ..RUNS }, None), Step::Stop);
        assert_eq!(after(&state, &Wanted { spec_rev: 2, restarts: 1, ..RUNS }, None), Step::Stop);
        assert_eq!(after(&state, &Wanted { spec_rev: 2, release: true, ..RUNS }, None), Step::Stop);
        let state = cluster(Some("w1"), None, Desired::Suspended);
        assert_eq!(after(&state, &RUNS, None), Step::Stop);
    }

    #[test]
    fn a_front_whose_spec_alone_has_changed_may_take_it_up() {
        let state = cluster(Some("w1"), None, Desired::Running);
        let older = Wanted { spec_rev: 2, ..RUNS };
        assert_eq!(after(&state, &older, None), Step::Modify { wanted: RUNS, placement_rev: 8 });
    }

    #[test]
    fn a_front_that_moves_runs_on_until_it_is_asked_for_or_for_five_seconds() {
        let state = cluster(Some("w2"), Some("w1"), Desired::Running);
        for moving in [None, Some(Duration::ZERO), Some(HAND_OVER_MAX / 2)] {
            assert!(matches!(after(&state, &RUNS, moving), Step::HandOver { .. }), "{moving:?}");
        }
        assert_eq!(after(&state, &RUNS, Some(HAND_OVER_MAX)), Step::Stop);
        assert_eq!(after(&state, &Wanted { spec_rev: 2, ..RUNS }, None), Step::Stop);
    }

    #[test]
    fn lanes_come_where_they_or_their_router_have_moved() {
        let placed = |router: &str, lanes: &[Option<&str>]| Placement {
            front: Some(router.into()),
            lanes: lanes.iter().map(|it| it.map(str::to_owned)).collect(),
            ..Placement::default()
        };
        let before = placed("w1", &[Some("w1"), Some("w2"), None]);
        let moved = placed("w1", &[Some("w2"), Some("w2"), Some("w2"), Some("w2")]);
        assert_eq!(coming(&before, &moved, "w2"), [0, 2, 3]);
        assert_eq!(coming(&before, &moved, "w1"), Vec::<u8>::new());
        let taken_over = placed("w2", &[Some("w1"), Some("w2"), None]);
        assert_eq!(coming(&before, &taken_over, "w1"), [0]);
        assert_eq!(coming(&before, &taken_over, "w2"), [1]);
        assert_eq!(coming(&before, &before, "w1"), Vec::<u8>::new());
    }

    #[test]
    fn what_was_told_of_a_task_that_did_not_run_is_known_until_it_has_run() {
        use TaskState as S;
        let after = |states: &[S]| {
            let first = State::new(S::NotConfigured, 1);
            let cause = |state: S| (state == S::Parked).then(|| "the slot is gone".to_owned());
            let next = |it: State, &state: &S| it.followed_by(state, cause(state), None, 2);
            left(&states.iter().fold(first, next))
        };
        assert_eq!(after(&[S::Prechecking]), None);
        let parked = [S::Synchronizing, S::Parked, S::Suspended, S::Prechecking, S::Retrying];
        assert_eq!(after(&parked), Some("the slot is gone".into()));
        assert_eq!(after(&[S::PrecheckFailed, S::Prechecking]), Some("precheck failed".into()));
        assert_eq!(after(&[S::Parked, S::Prechecking, S::Synchronizing]), None, "it has run");
    }

    #[test]
    fn a_front_that_nobody_will_ask_for_ends() {
        for (router, from) in [(None, None), (Some("w2"), None), (Some("w2"), Some("w3"))] {
            let state = cluster(router, from, Desired::Running);
            assert_eq!(after(&state, &RUNS, None), Step::Stop, "{router:?} from {from:?}");
        }
        let state = cluster(Some("w2"), Some("w1"), Desired::Suspended);
        assert_eq!(after(&state, &RUNS, None), Step::Stop);
        let state = cluster(Some("w2"), Some("w1"), Desired::Released);
        assert_eq!(after(&state, &Wanted { release: true, ..RUNS }, None), Step::Stop);
    }
}
