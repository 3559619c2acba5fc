//! What a leader writes: one transaction after the other, each once the one before is read back.

use super::{Change, Desk, Reply, millis_now};
use crate::coordinator::control::Order;
use crate::coordinator::orders::{Done, Records, Situation};
use crate::coordinator::plan::plan;
use crate::coordinator::reports::{news, next_state, noted, open_copies};
use crate::placement::Scope;
use crate::state::{Desired, Key, Term};
use crate::task_state::News;
use rpc::{Code, Error};
use std::time::Instant;
use telemetry::traces::Span;
use tracing::{info, warn};

/// A transaction under way.
pub(super) struct Flight {
    /// Its last record, once it is committed.
    offset: Option<i64>,
    term: Term,
    /// The last record of it.
    last: Option<(String, Option<Vec<u8>>)>,
    /// Who waits for it.
    change: Option<(Change, Done)>,
    /// Until it is read back.
    _span: Span,
}

impl Desk {
    /// Goes on with what is to be written.
    pub(super) fn advance(&mut self, now: Instant) {
        if let Some(flight) = self.flight.take() {
            if flight.offset.is_none_or(|offset| self.cluster.next_offset() <= offset) {
                self.flight = Some(flight);
                return;
            }
            if let Some((change, done)) = flight.change {
                change.answer(Ok(done));
            }
        }
        let Some(term) = self.term() else {
            let refusal: Reply = Err(Error::not_leader(self.leader()));
            for change in std::mem::take(&mut self.waiting) {
                change.answer(refusal.clone());
            }
            return;
        };
        loop {
            if std::mem::take(&mut self.duties_first) || self.waiting.is_empty() {
                let records = self.duties(term, now);
                if !records.entries.is_empty() {
                    self.take_off(term, records, None);
                    return;
                }
            }
            let Some(change) = self.waiting.pop_front() else { return };
            let by = change.by.clone();
            let situation = Situation {
                cluster: &self.cluster,
                members: &self.members,
                reports: &self.reports,
                term,
                by: &by,
                now_ms: millis_now(),
            };
            match situation.carry_out(&change.order) {
                Ok((records, done)) if records.entries.is_empty() => change.answer(Ok(done)),
                Ok((records, done)) => {
                    self.duties_first = true;
                    // What was said of the spec before says nothing of the one that comes.
                    if let Some(plan) = &done.plan {
                        self.reports.forget_said(&plan.task);
                    }
                    self.take_off(term, records, Some((change, done)));
                    return;
                }
                Err(refused) => change.answer(Err(refused)),
            }
        }
    }

    fn take_off(&mut self, term: Term, records: Records, change: Option<(Change, Done)>) {
        let last = change.as_ref().and_then(|_| records.entries.last().cloned());
        let span = Span::root("coordinator.write")
            .with("records", i64::try_from(records.entries.len()).unwrap_or(i64::MAX))
            .with("ordered", change.is_some());
        self.flight = Some(Flight { offset: None, term, last, change, _span: span });
        self.order(Order::Write { term, records: records.entries });
    }

    /// The transaction under way is committed up to `offset`.
    pub(super) fn land(&mut self, offset: i64) {
        if let Some(flight) = &mut self.flight {
            flight.offset = Some(offset);
        }
        self.hint(offset);
    }

    /// Nobody knows what becomes of the transaction under way, unless it was committed before.
    pub(super) fn lose_flight(&mut self, now: Instant) {
        if self.flight.as_ref().is_none_or(|it| it.offset.is_some()) {
            return;
        }
        (self.planned, self.reported) = (None, true);
        if let Some(Flight { term, last: Some(last), change: Some(waits), .. }) = self.flight.take()
        {
            self.doubts.add(term, last, now, waits);
        }
    }

    /// The control topic did not tell in time what became of them.
    pub(super) fn give_up_doubts(&mut self, now: Instant) {
        for (change, _) in self.doubts.expired(now) {
            let cause = "the control topic could not be written; it may still have been done";
            change.answer(Err(Error::new(Code::Unreachable, cause, "look, then try again")));
        }
    }

    /// What the leader writes without being asked.
    fn duties(&mut self, term: Term, now: Instant) -> Records {
        let mut records = Records::new(term);
        if std::mem::take(&mut self.reported) {
            self.note_states(&mut records);
        }
        let may_move = self.leadership.may_move(now);
        let scope = if may_move { Scope::All } else { Scope::Unplaced };
        if self.planned == Some(scope) {
            return records;
        }
        self.planned = Some(scope);
        let workers = self.members.workers(&self.cluster.nodes);
        let planned = plan(&self.cluster, &workers, scope);
        for (name, placement) in &planned.changed {
            // What is about to be removed gets nothing more.
            let key = Key::Placement(name.clone());
            if !records.entries.iter().any(|(written, _)| *written == key.to_string()) {
                records.put(&key, placement);
            }
        }
        for it in planned.moves.iter().filter(|it| planned.changed.contains_key(&it.task)) {
            let [from, to] = [&it.from, &it.to].map(|it| it.as_deref().unwrap_or("nowhere"));
            info!(task = it.task, part = ?it.part, from, to, "placed");
        }
        for (task, reason) in &planned.unplaced {
            if self.unplaced.get(task) != Some(reason) {
                warn!(task, reason, "parts of the task have no place");
            }
        }
        self.dirty |= self.unplaced != planned.unplaced;
        self.unplaced = planned.unplaced;
        records
    }

    /// Where the reports of the fronts lead.
    fn note_states(&mut self, records: &mut Records) {
        let mut gone = Vec::new();
        for (name, task) in &self.cluster.tasks {
            let Some(state) = self.cluster.states.get(name) else { continue };
            let Some(placement) = self.cluster.placements.get(name) else { continue };
            let Some(front) = self.reports.of_front(name, placement) else { continue };
            let released = news(&front.state) == Some(News::Released)
                && task.desired == Desired::Released
                && state.state.reported(News::Released).is_some();
            if released {
                info!(task = name, "the task is released");
                records.remove_task(name, &self.cluster);
                gone.push(name.clone());
                continue;
            }
            let copies = self.cluster.copies.get(name);
            if let Some(copies) = copies.and_then(|it| open_copies(it, front)) {
                records.put(&Key::Copies(name.clone()), &copies);
            }
            let noted = noted(task, front);
            if noted != *task {
                records.put(&Key::Task(name.clone()), &noted);
            }
            let is_first = self.cluster.front_is_silent(name);
            if let Some(next) = next_state(state, front, is_first, millis_now()) {
                let (cause, from) = (next.cause.as_deref(), state.state);
                info!(task = name, %from, to = %next.state, cause, "the task's state has changed");
                records.put(&Key::State(name.clone()), &next);
            }
        }
        for name in gone {
            self.unplaced.remove(&name);
        }
    }
}
