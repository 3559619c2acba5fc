//! What workers say of their tasks, put together. Pure.
//!
//! In:    [`TaskReport`]s, each with the worker that has sent it.
//! Out:   one report per task; the task's next state, where it is another one.
//! Holds: the last report of each worker about each of its tasks.
//! Never: believes a worker about what it was not given, or about an older placement.

use crate::state::{Copies, CopyOrder, Placement, State, Task};
use crate::task_state::{News, TaskState};
use rpc::limits::TABLES_SEEN_MAX;
use rpc::v1::{TablesSeen, TaskReport};
use std::collections::BTreeMap;

/// More than any cause or remedy of ours.
const TEXT_BYTES_MAX: usize = 4 << 10;
/// Tables of a report, at most.
const TABLES_MAX: usize = 64;
/// Lanes of a task.
const LANES_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Reports {
    /// By task, then by worker.
    last: BTreeMap<String, BTreeMap<String, TaskReport>>,
    /// By task: tables of its database.
    seen: BTreeMap<String, TablesSeen>,
}

impl Reports {
    /// Whether the report is of somebody who has a part of the task, by its present placement.
    pub(super) fn accept(
        &mut self,
        node: &str,
        mut report: TaskReport,
        placement: Option<&Placement>,
    ) -> bool {
        let is_present = placement.is_some_and(|it| {
            it.rev == report.placement_rev && it.nodes().any(|owner| owner == node)
        });
        if !is_present {
            return false;
        }
        report.lanes.truncate(LANES_MAX);
        report.tables.truncate(TABLES_MAX);
        for table in &mut report.tables {
            table.cause.truncate(table.cause.floor_char_boundary(TEXT_BYTES_MAX));
        }
        for text in [&mut report.cause, &mut report.remedy] {
            text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        }
        let of_task = self.last.entry(report.task.clone()).or_default();
        // Of a worker that runs the front and lanes apart from it, the front's says more.
        let says_less = report.state.is_empty()
            && of_task.get(node).is_some_and(|last| {
                !last.state.is_empty() && last.placement_rev == report.placement_rev
            });
        if !says_less {
            of_task.insert(node.to_owned(), report);
        }
        true
    }

    /// Takes what the worker that runs the front has seen of the database.
    pub(super) fn accept_seen(
        &mut self,
        node: &str,
        mut seen: TablesSeen,
        placement: Option<&Placement>,
    ) {
        let is_of_front =
            placement.is_some_and(|it| it.rev == seen.placement_rev && it.router() == Some(node));
        if is_of_front {
            seen.cut |= TABLES_SEEN_MAX < seen.tables.len();
            seen.tables.truncate(TABLES_SEEN_MAX);
            self.seen.insert(seen.task.clone(), seen);
        }
    }

    /// Tables of a task's database, as its front has seen them last.
    pub(super) fn seen(&self, task: &str) -> Option<&TablesSeen> {
        self.seen.get(task)
    }

    pub(super) fn forget_node(&mut self, node: &str) {
        for of_task in self.last.values_mut() {
            of_task.remove(node);
        }
    }

    /// What was said of the task by its workers; its database stays.
    pub(super) fn forget_said(&mut self, task: &str) {
        self.last.remove(task);
    }

    pub(super) fn forget_task(&mut self, task: &str) {
        self.forget_said(task);
        self.seen.remove(task);
    }

    /// What the worker of the router, which keeps the front running, says, if it has carried out the present placement.
    pub(super) fn of_front(&self, task: &str, placement: &Placement) -> Option<&TaskReport> {
        let report = self.last.get(task)?.get(placement.router()?)?;
        (report.placement_rev == placement.rev).then_some(report)
    }

    /// One report: the front's, with each lane as its owner sees it. A moment after the placement has
    /// changed it is the last one before.
    pub(super) fn folded(&self, task: &str, placement: &Placement) -> Option<TaskReport> {
        let of_task = self.last.get(task)?;
        let by = |node: &str| of_task.get(node);
        let mut folded = placement.router().and_then(by).cloned().unwrap_or_default();
        for lane in folded.lanes.iter_mut().filter(|it| it.node.is_empty()) {
            lane.node = placement.router().unwrap_or_default().to_owned();
        }
        let mut lanes: BTreeMap<u32, _> =
            std::mem::take(&mut folded.lanes).into_iter().map(|lane| (lane.lane, lane)).collect();
        for (lane, owner) in (0..).zip(&placement.lanes) {
            let Some(report) = owner.as_deref().and_then(by) else { continue };
            let own =
                report.lanes.iter().find(|it| it.lane == lane && Some(&it.node) == owner.as_ref());
            if let Some(own) = own {
                lanes.insert(lane, own.clone());
            }
        }
        folded.lanes = lanes.into_values().collect();
        folded.task = task.to_owned();
        folded.placement_rev = placement.rev;
        Some(folded)
    }
}

/// What a state's word reports. `None`: nothing new.
pub(super) fn news(word: &str) -> Option<News> {
    Some(match word {
        "prechecking" => News::Prechecking,
        "precheck-failed" => News::PrecheckFailed,
        "initializing" => News::Initializing,
        "synchronizing" => News::Close,
        "catching-up" => News::Behind,
        "retrying" => News::Retrying,
        "parked" => News::Parked,
        "failed" => News::GaveUp,
        "completed" => News::Completed,
        "releasing" => News::Releasing,
        "release-failed" => News::ReleaseFailed,
        "released" => News::Released,
        _ => return None,
    })
}

/// What a report of the front leaves of what was asked of the task.
pub(super) fn noted(task: &Task, front: &TaskReport) -> Task {
    let mut task = task.clone();
    if task.reseeded < task.reseeds && has_begun_anew(front) {
        task.reseeded = task.reseeds;
    }
    if front.spec_rev == task.spec_rev {
        task.kept = None;
    }
    task
}

/// Whether what a reseed asked for has begun: from here on the task goes on with what it has.
fn has_begun_anew(front: &TaskReport) -> bool {
    match news(&front.state) {
        Some(News::Initializing | News::Close | News::Completed) => true,
        Some(News::Behind) => front.watermark_lsn != 0,
        Some(
            News::Prechecking
            | News::PrecheckFailed
            | News::Retrying
            | News::Parked
            | News::GaveUp
            | News::Releasing
            | News::ReleaseFailed
            | News::Released,
        )
        | None => false,
    }
}

/// Orders to read a table again that are left after a report of the front; `None`: as many as before. An order may
/// mean several tables: all of them must be over.
pub(super) fn open_copies(copies: &Copies, front: &TaskReport) -> Option<Copies> {
    let is_over = |order: &CopyOrder| {
        let mut of_order = front.tables.iter().filter(|it| it.order == order.number).peekable();
        let is_told = of_order.peek().is_some();
        is_told && of_order.all(|it| matches!(it.state.as_str(), "done" | "refused"))
    };
    let open: Vec<_> = copies.open.iter().filter(|it| !is_over(it)).cloned().collect();
    (open.len() < copies.open.len()).then_some(Copies { last: copies.last, open })
}

/// The state after a report of the front; `None`: it is as it was. While a task is retried, its cause
/// counts the tries, which nobody needs to keep. What a new front says first is written also where it is what the
/// one before said last: until then the task is shown as not there yet.
pub(super) fn next_state(
    state: &State,
    front: &TaskReport,
    is_first: bool,
    now_ms: i64,
) -> Option<State> {
    let next = state.state.reported(news(&front.state)?)?;
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    let (cause, remedy) = (text(&front.cause), text(&front.remedy));
    let is_told = next == TaskState::Retrying || (&cause, &remedy) == (&state.cause, &state.remedy);
    if next == state.state && is_told && !is_first {
        return None;
    }
    let next = state.followed_by(next, cause, remedy, now_ms);
    Some(if is_first { State { since_ms: now_ms, ..next } } else { next })
}

/// The state that people are shown: a front that has been placed elsewhere begins anew, whatever the one before it
/// said last.
pub(super) fn shown(state: TaskState, front_is_silent: bool) -> TaskState {
    match state {
        TaskState::Synchronizing | TaskState::CatchingUp if front_is_silent => {
            TaskState::Initializing
        }
        TaskState::NotConfigured
        | TaskState::Prechecking
        | TaskState::PrecheckFailed
        | TaskState::Initializing
        | TaskState::Synchronizing
        | TaskState::CatchingUp
        | TaskState::Retrying
        | TaskState::Suspended
        | TaskState::Modifying
        | TaskState::Parked
        | TaskState::Failed
        | TaskState::Completed
        | TaskState::Releasing
        | TaskState::ReleaseFailed
        | TaskState::Released => state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rpc::v1::{LaneReport, TableReport};

    fn placement() -> Placement {
        let owner = |node: &str| Some(node.to_owned());
        Placement {
            rev: 7,
            front: owner("w1"),
            lanes: vec![owner("w1"), owner("w2")],
            ..Placement::default()
        }
    }

    fn report(rev: u64, state: &str, lanes: &[(u32, &str, u64)]) -> TaskReport {
        let lane = |&(lane, node, records): &(u32, &str, u64)| LaneReport {
            lane,
            node: node.into(),
            records,
            ..LaneReport::default()
        };
        TaskReport {
            task: "shop".into(),
            placement_rev: rev,
            state: state.into(),
            lanes: lanes.iter().map(lane).collect(),
            ..TaskReport::default()
        }
    }

    #[test]
    fn only_who_has_a_part_by_the_present_placement_is_believed() {
        let (mut reports, placement) = (Reports::default(), placement());
        assert!(!reports.accept("w3", report(7, "parked", &[]), Some(&placement)));
        assert!(!reports.accept("w1", report(6, "parked", &[]), Some(&placement)));
        assert!(!reports.accept("w1", report(7, "parked", &[]), None));
        assert!(reports.accept("w2", report(7, "parked", &[]), Some(&placement)));
        assert!(reports.of_front("shop", &placement).is_none(), "w2 does not run the front");
        assert!(reports.accept("w1", report(7, "parked", &[]), Some(&placement)));
        assert!(reports.of_front("shop", &placement).is_some());
        let newer = Placement { rev: 8, ..placement };
        assert!(reports.of_front("shop", &newer).is_none(), "it was said of an older placement");
    }

    #[test]
    fn the_database_is_as_the_front_sees_it() {
        let (mut reports, placement) = (Reports::default(), placement());
        let seen = |placement_rev: u64, count: usize| TablesSeen {
            task: "shop".into(),
            placement_rev,
            tables: vec![rpc::v1::SeenTable::default(); count],
            cut: false,
        };
        reports.accept_seen("w2", seen(7, 1), Some(&placement));
        reports.accept_seen("w1", seen(6, 1), Some(&placement));
        reports.accept_seen("w1", seen(7, 1), None);
        assert!(reports.seen("shop").is_none(), "w2 does not run the front, and 6 is over");
        reports.accept_seen("w1", seen(7, TABLES_SEEN_MAX + 1), Some(&placement));
        let found = reports.seen("shop").expect("it was told");
        assert_eq!((found.tables.len(), found.cut), (TABLES_SEEN_MAX, true));
        reports.forget_said("shop");
        assert!(reports.seen("shop").is_some(), "another spec has the same database");
        reports.forget_task("shop");
        assert!(reports.seen("shop").is_none());
    }

    #[test]
    fn each_lane_is_as_its_owner_sees_it() {
        let (mut reports, placement) = (Reports::default(), placement());
        let front = report(7, "synchronizing", &[(0, "", 10), (1, "w2", 4)]);
        assert!(reports.accept("w1", front, Some(&placement)));
        assert!(reports.accept(
            "w2",
            report(7, "", &[(1, "w2", 5), (0, "w2", 99)]),
            Some(&placement)
        ));
        let folded = reports.folded("shop", &placement).expect("it was reported");
        let records: Vec<_> = folded.lanes.iter().map(|it| (it.lane, it.records)).collect();
        assert_eq!((records, folded.state.as_str()), (vec![(0, 10), (1, 5)], "synchronizing"));
        assert!(reports.accept("w1", report(7, "", &[]), Some(&placement)), "it says less");
        reports.forget_node("w2");
        let folded = reports.folded("shop", &placement).expect("w1 still says so");
        assert_eq!((folded.lanes[1].records, folded.lanes[0].node.as_str()), (4, "w1"));
    }

    #[test]
    fn an_order_is_over_once_all_its_tables_are() {
        let order = |number| CopyOrder {
            number,
            snapshot: format!("d{number}"),
            table: "public.t".into(),
            condition: String::new(),
        };
        let copies = Copies { last: 4, open: (1..=4).map(order).collect() };
        let table = |order, state: &str| TableReport {
            order,
            state: state.into(),
            ..TableReport::default()
        };
        let mut front = report(7, "synchronizing", &[]);
        assert_eq!(open_copies(&copies, &front), None);
        front.tables = vec![
            table(0, "reading"),
            table(1, "done"),
            table(2, "done"),
            table(2, "reading"),
            table(3, "refused"),
        ];
        let left = open_copies(&copies, &front).expect("two are over");
        assert_eq!((left.last, left.open), (4, vec![order(2), order(4)]));
    }

    #[test]
    fn what_ran_before_is_kept_until_the_changed_spec_is_in_force() {
        let kept = Some("before".to_owned());
        let task = Task { spec_rev: 5, kept, ..Task::new("now".into()) };
        for older in [0, 4] {
            let front = TaskReport { spec_rev: older, ..report(7, "synchronizing", &[]) };
            assert_eq!(noted(&task, &front), task);
        }
        let front = TaskReport { spec_rev: 5, ..report(7, "synchronizing", &[]) };
        assert_eq!(noted(&task, &front), Task { kept: None, ..task });
    }

    #[test]
    fn a_state_changes_with_its_cause_and_late_news_change_nothing() {
        let state = State::new(TaskState::Synchronizing, 1);
        assert_eq!(next_state(&state, &report(7, "synchronizing", &[]), false, 2), None);
        assert_eq!(next_state(&state, &report(7, "", &[]), false, 2), None);
        assert_eq!(next_state(&state, &report(7, "modifying", &[]), false, 2), None);
        let mut parked = report(7, "parked", &[]);
        parked.cause = "the slot is gone".into();
        parked.remedy = "reseed".into();
        let next = next_state(&state, &parked, false, 2).expect("it parks");
        assert_eq!((next.state, next.since_ms, next.history.len()), (TaskState::Parked, 2, 1));
        assert_eq!(next.cause.as_deref(), Some("the slot is gone"));
        assert_eq!(next_state(&next, &report(7, "synchronizing", &[]), false, 3), None);
        let suspended = State::new(TaskState::Suspended, 1);
        assert_eq!(next_state(&suspended, &parked, false, 2), None);
    }
    #[test]
    fn what_a_new_front_says_first_is_written_although_it_is_what_was_said_last() {
        let state = State::new(TaskState::Synchronizing, 1);
        let said = report(8, "synchronizing", &[]);
        let next = next_state(&state, &said, true, 2).expect("it has spoken");
        assert_eq!((next.state, next.since_ms), (TaskState::Synchronizing, 2));
        assert!(next.history.is_empty(), "{next:?}");
        assert_eq!(next_state(&state, &report(8, "", &[]), true, 2), None, "it runs lanes only");
    }

    #[test]
    fn a_task_whose_front_has_moved_is_not_shown_as_streaming() {
        use TaskState as S;
        for state in S::ALL {
            let streams = matches!(state, S::Synchronizing | S::CatchingUp);
            assert_eq!(shown(state, true), if streams { S::Initializing } else { state });
            assert_eq!(shown(state, false), state);
        }
    }
}
