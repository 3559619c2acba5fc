//! A model of the source: a primary, the standby that may be promoted in its place, and their slots.
//!
//! A commit is in the WAL, and so in the stream, before it is visible to anyone, and before a standby
//! has it. For the stream only the second matters: what it delivered can be lost in a failover. The first
//! matters to chunks of a snapshot, which `chunk_simulation.rs` has: no machine here looks at a table.

use wal::Lsn;

/// Where the slot is made; everything commits later.
pub(crate) const BEGIN: Lsn = Lsn(50);
/// Time lines that one schedule sees, at most: each shifts its commits by one byte.
const TIMELINES: u32 = 3;

/// What a failover will find.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Setup {
    /// Failover slots, kept in step, and `synchronized_standby_slots`: what a standby lacks is not sent.
    Safe,
    /// As above, but the slot is not a failover slot.
    WithoutSlot,
    /// As above, and somebody moves the slot while nobody reads from it.
    Meddled,
    /// Failover slots, but what is sent does not wait for the standby.
    Unsafe,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Transaction {
    pub(crate) commit: Lsn,
    pub(crate) rows: u64,
}

impl Transaction {
    pub(crate) fn end(&self) -> Lsn {
        Lsn(self.commit.0 + 8)
    }
}

#[derive(Debug)]
pub(crate) struct Server {
    setup: Setup,
    pub(crate) timeline: u32,
    /// Where each time line but the present one ended.
    switches: Vec<Lsn>,
    pub(crate) wal: Vec<Transaction>,
    /// Confirmed position; `None`: gone.
    pub(crate) slot: Option<Lsn>,
    /// What a restart finds of it on disk.
    remembered: Option<Lsn>,
    /// Transactions that the standby has.
    received: usize,
    /// The standby's copy of the slot.
    copied: Option<Lsn>,
    pub(crate) is_meddled: bool,
}

impl Server {
    pub(crate) fn new(setup: Setup) -> Self {
        let slot = Some(BEGIN);
        Self {
            setup,
            timeline: 1,
            switches: Vec::new(),
            wal: Vec::new(),
            slot,
            remembered: slot,
            received: 0,
            copied: slot.filter(|_| setup != Setup::WithoutSlot),
            is_meddled: false,
        }
    }

    /// The end of WAL.
    pub(crate) fn end(&self) -> Lsn {
        self.wal.last().map_or(BEGIN, Transaction::end)
    }

    /// Another transaction commits. Those of one time line share no position with those of another.
    pub(crate) fn write(&mut self, rows: u64) -> Transaction {
        let commit = Lsn(100 + 10 * self.wal.len() as u64 + u64::from(self.timeline - 1));
        let transaction = Transaction { commit, rows };
        self.wal.push(transaction);
        transaction
    }

    /// Transactions that may be sent.
    pub(crate) fn sent(&self) -> &[Transaction] {
        match self.setup {
            Setup::Safe | Setup::WithoutSlot | Setup::Meddled => &self.wal[..self.received],
            Setup::Unsafe => &self.wal,
        }
    }

    /// How many of them a slot at `lsn` has left behind.
    pub(crate) fn behind(&self, lsn: Lsn) -> usize {
        self.wal.iter().take_while(|it| it.end() <= lsn).count()
    }

    pub(crate) fn confirm(&mut self, lsn: Lsn) {
        self.slot = self.slot.map(|slot| slot.max(lsn));
    }

    /// The slot is written to disk.
    pub(crate) fn remember(&mut self) {
        self.remembered = self.slot;
    }

    /// The standby gets another transaction.
    pub(crate) fn replicate(&mut self) {
        self.received = (self.received + 1).min(self.wal.len());
    }

    /// The standby copies the slot, unless that is ahead of what it has.
    pub(crate) fn copy_slot(&mut self) {
        let received = self.wal[..self.received].last().map_or(BEGIN, Transaction::end);
        if self.copied.is_some() {
            self.copied = self.slot.filter(|&slot| slot <= received).or(self.copied);
        }
    }

    /// A crash: the newest confirmations are forgotten.
    pub(crate) fn restart(&mut self) {
        self.slot = self.remembered;
    }

    /// The standby takes over with what it has. `false`: there was none.
    pub(crate) fn promote(&mut self) -> bool {
        if self.timeline == TIMELINES {
            return false;
        }
        self.wal.truncate(self.received);
        self.switches.push(self.end());
        self.timeline += 1;
        self.slot = self.copied;
        self.remembered = self.slot;
        true
    }

    /// Where the line that this server is on left `timeline`.
    pub(crate) fn left(&self, timeline: u32) -> Option<Lsn> {
        self.switches.get(timeline as usize - 1..)?.iter().min().copied()
    }

    /// Somebody moves the slot to the end, which the server refuses while it is read from.
    pub(crate) fn meddle(&mut self) {
        if self.setup == Setup::Meddled {
            self.slot = Some(self.end());
            self.remember();
            self.is_meddled = true;
        }
    }
}
