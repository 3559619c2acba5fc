//! The workers' streams: who speaks for whom, and what follows from what they say.

use super::{Desk, Heard, Join, Outward};
use crate::coordinator::reports::Reports;
use crate::membership::{Change, Members};
use rpc::v1::coordinator_message::Message;
use rpc::v1::{Beat, CoordinatorMessage, Look, NotLeader, Welcome};
use rpc::{Code, Error};
use std::time::Instant;
use tokio_util::sync::DropGuard;
use tracing::{debug, info, warn};

/// A worker's stream. It ends when this is dropped.
pub(super) struct Connection {
    outward: Outward,
    _ended: DropGuard,
}

impl Connection {
    /// Beats and hints may be lost where a worker does not read.
    fn say(&self, message: Message) {
        let _ = self.outward.try_send(Ok(CoordinatorMessage { message: Some(message) }));
    }

    fn refuse(self, code: Code, cause: String, remedy: &str) {
        let _ = self.outward.try_send(Err(Error::new(code, cause, remedy).into()));
    }
}

impl Desk {
    pub(super) fn hear(&mut self, node: &str, connection: u64, said: Heard, now: Instant) {
        let heard = match said {
            Heard::Join(join) => {
                self.join(node, connection, join, now);
                return;
            }
            Heard::Again => {
                if let Some(it) = self.connections.remove(&connection) {
                    let cause = "`Register` comes first and once".into();
                    it.refuse(Code::Argument, cause, "");
                }
                Ok(self.members.closed(node, connection, now))
            }
            Heard::Closed => {
                self.connections.remove(&connection);
                Ok(self.members.closed(node, connection, now))
            }
            // Its stream has ended, and what was on its way then means nothing.
            Heard::Beat(_) | Heard::Report(_) | Heard::Tables(_) | Heard::Leaving
                if !self.connections.contains_key(&connection) =>
            {
                return;
            }
            Heard::Beat(beat) => self.beat(node, connection, beat, now),
            Heard::Leaving => self.members.leave(node, connection, now),
            Heard::Tables(seen) => {
                let heard = self.members.beat(node, connection, now);
                if heard.is_ok() {
                    let placement = self.cluster.placements.get(&seen.task);
                    self.reports.accept_seen(node, *seen, placement);
                }
                heard
            }
            Heard::Report(report) => {
                // It lives: whoever reports needs not beat.
                let heard = self.members.beat(node, connection, now);
                if heard.is_ok() {
                    let placement = self.cluster.placements.get(&report.task);
                    if self.reports.accept(node, *report, placement) {
                        (self.reported, self.dirty) = (true, true);
                    }
                }
                heard
            }
        };
        match heard {
            Ok(changes) => self.heed(&changes),
            Err(unknown) => {
                if let Some(it) = self.connections.remove(&connection) {
                    it.refuse(Code::State, unknown.to_string(), "");
                }
            }
        }
    }

    fn join(&mut self, node: &str, connection: u64, join: Join, now: Instant) {
        let Join { registration, protocol, outward, ended } = join;
        let it = Connection { outward, _ended: ended };
        let Some(term) = self.term() else {
            it.say(Message::NotLeader(NotLeader { leader: self.leader().unwrap_or_default() }));
            return;
        };
        let changes = match self.members.register(node, registration, connection, now) {
            Ok(changes) => changes,
            Err(unknown) => return it.refuse(Code::Name, unknown.to_string(), ""),
        };
        let term = u64::try_from(term).unwrap_or_default();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        it.say(Message::Welcome(Welcome { term, protocol, version }));
        let control_offset = self.cluster.next_offset() - 1;
        it.say(Message::Look(Look { control_offset }));
        self.connections.insert(connection, it);
        self.heed(&changes);
    }

    fn beat(
        &mut self,
        node: &str,
        connection: u64,
        beat: Beat,
        now: Instant,
    ) -> Result<Vec<Change>, crate::membership::Unknown> {
        let heard = self.members.beat(node, connection, now);
        if heard.is_ok()
            && let Some(it) = self.connections.get(&connection)
        {
            it.say(Message::Beat(beat));
        }
        heard
    }

    /// What has become of workers: looked at by the next plan.
    pub(super) fn heed(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Joined { .. } | Change::Left { .. } => info!("{change}"),
                Change::Recovered { .. } | Change::Leaving { .. } => info!("{change}"),
                Change::Suspected { .. } | Change::Died { .. } => warn!("{change}"),
                Change::Replaced { connection, .. } => {
                    warn!("{change}");
                    if let Some(former) = self.connections.remove(connection) {
                        former.refuse(Code::Name, change.to_string(), "");
                    }
                }
            }
            if let Change::Died { node } | Change::Left { node } = change {
                self.reports.forget_node(node);
            }
            (self.planned, self.dirty) = (None, true);
        }
    }

    /// A hint that something was written.
    pub(super) fn hint(&self, control_offset: i64) {
        for it in self.connections.values() {
            it.say(Message::Look(Look { control_offset }));
        }
    }

    /// Others may lead by now, and workers must ask there.
    pub(super) fn forget_workers(&mut self) {
        let leader = self.leader().unwrap_or_default();
        for it in std::mem::take(&mut self.connections).into_values() {
            it.say(Message::NotLeader(NotLeader { leader: leader.clone() }));
        }
        self.members = Members::new(self.timings.members);
        self.reports = Reports::default();
        self.unplaced.clear();
        self.dirty = true;
    }

    /// A leader that opens its producer anew keeps its workers, unless another one leads by then.
    pub(super) fn yield_to_leader(&mut self) {
        if self.term().is_none() && self.leader().is_some() && !self.connections.is_empty() {
            debug!("another coordinator leads: workers are sent there");
            self.forget_workers();
        }
    }
}
