//! Who holds a seat: fences the older holder, writes in transactions, and after an error opens again
//! only while nobody newer has come (delivery-protocol.md, sections 4 and 5).
//!
//! Holds: one transactional producer. Never: takes a seat back.

use crate::Error;
use crate::checkpoint::FENCE_KEY;
use crate::names::Seat;
use crate::read::{Entry, Reader};
use crate::ready::{Clients, discard};
use crate::settings::Settings;
use crate::transactional::{Connected, Transactional};
use crate::unsettled;
use crate::writer::Writer;
use record::Record;
use std::sync::atomic::{AtomicU64, Ordering};
use tracing::debug;

/// A fence that is not clean is written again by a new instance; more often than this is no luck.
pub(crate) const FENCES_MAX: usize = 5;

/// Key and value of a record; without a value it deletes the ones before.
pub(crate) type KeyValue = (String, Option<Vec<u8>>);

/// The holder of a seat that keeps state, not checkpoints. All calls block.
pub(crate) struct Holder {
    settings: Settings,
    seat: Seat,
    /// Tells this holder's fences from all others.
    fence: Vec<u8>,
    /// `None` after an error: it is opened again before the next write.
    transactional: Option<Transactional>,
    term: i64,
    /// The last offset that this holder has committed.
    committed: i64,
    /// Another one holds the seat: this one never takes it back.
    taken: bool,
}

impl Holder {
    /// Fences the older holder and reads everything that was written before. `fence` must be no
    /// other holder's.
    pub(crate) fn take(
        settings: &Settings,
        seat: Seat,
        fence: Vec<u8>,
    ) -> Result<(Self, Vec<Entry>), Error> {
        let (transactional, term, entries) = sit(settings, &seat, &fence)?;
        let (settings, transactional) = (settings.clone(), Some(transactional));
        let committed = term;
        let holder = Self { settings, seat, fence, transactional, term, committed, taken: false };
        Ok((holder, entries))
    }

    /// The offset of the first fence; opening again does not change it.
    pub(crate) fn term(&self) -> i64 {
        self.term
    }

    /// The last offset that is known to be committed.
    pub(crate) fn committed(&self) -> i64 {
        self.committed
    }

    pub(crate) fn is_taken(&self) -> bool {
        self.taken
    }

    /// Whether the instance of the last write goes on.
    pub(crate) fn is_open(&self) -> bool {
        self.transactional.is_some()
    }

    /// Gives the seat up for good.
    pub(crate) fn give_up(&mut self) {
        self.taken = true;
        self.transactional = None;
    }

    /// Writes records in one transaction.
    pub(crate) fn write(&mut self, records: &[KeyValue]) -> Result<(), Error> {
        self.write_beside(records, &[])
    }

    /// As [`Self::write`], with records of other topics in the same transaction.
    pub(crate) fn write_beside(
        &mut self,
        records: &[KeyValue],
        others: &[Record<'_>],
    ) -> Result<(), Error> {
        if self.taken {
            return Err(self.fenced());
        }
        // C1: after any error the instance is gone.
        let mut transactional = match self.transactional.take() {
            Some(transactional) => transactional,
            None => self.open_again()?.0,
        };
        if records.is_empty() {
            self.transactional = Some(transactional);
            return Ok(());
        }
        for (key, value) in records {
            transactional.send(&self.seat.record(key, value.as_deref()))?;
        }
        for other in others {
            transactional.send(other)?;
        }
        transactional.settle()?;
        let end = last_offset(transactional.writer(), &self.seat)?;
        // C4: not clean: committed, but the instance must not begin again.
        if transactional.commit()? {
            self.transactional = Some(transactional);
        }
        self.advance(end)
    }

    /// Opens again, and reads everything that was written before: whether a commit without an answer was carried out is
    /// certain then.
    pub(crate) fn read_again(&mut self) -> Result<Vec<Entry>, Error> {
        if self.taken {
            return Err(self.fenced());
        }
        self.transactional = None;
        let (transactional, entries) = self.open_again()?;
        self.transactional = Some(transactional);
        Ok(entries)
    }

    /// Opening again fences whoever has taken over meanwhile: looked for before, and again after,
    /// when the look is a proof. Then both give up, and neither goes on without knowing.
    fn open_again(&mut self) -> Result<(Transactional, Vec<Entry>), Error> {
        self.look_for_newer_owner()?;
        let (transactional, fence, entries) = sit(&self.settings, &self.seat, &self.fence)?;
        let is_newer = |entry: &Entry| self.term < entry.offset && entry.is_fence_but(&self.fence);
        if entries.iter().any(is_newer) {
            self.give_up();
            return Err(self.fenced());
        }
        self.advance(fence)?;
        Ok((transactional, entries))
    }

    pub(crate) fn look_for_newer_owner(&mut self) -> Result<(), Error> {
        let reader = Reader::new(&self.settings, &self.seat)?;
        if reader.sees_newer_owner(self.term, &self.fence)? {
            self.give_up();
            return Err(self.fenced());
        }
        Ok(())
    }

    /// Offsets only grow, unless the topic was truncated or made anew.
    fn advance(&mut self, end: i64) -> Result<(), Error> {
        let written = self.committed;
        if end <= written {
            self.transactional = None;
            let Seat { topic, partition, .. } = self.seat.clone();
            return Err(Error::TopicTruncated { topic, partition, end, written });
        }
        self.committed = end;
        Ok(())
    }

    fn fenced(&self) -> Error {
        Error::Fenced { transactional_id: self.seat.transactional_id.clone() }
    }
}

/// A name that no other holder has, of this process or another.
pub(crate) fn new_owner(settings: &Settings) -> String {
    static OWNERS: AtomicU64 = AtomicU64::new(0);
    format!("{}/{}", settings.node(), OWNERS.fetch_add(1, Ordering::Relaxed))
}

/// Fences on a seat without checkpoints; the offset of the fence, and what was written up to it.
fn sit(
    settings: &Settings,
    seat: &Seat,
    fence: &[u8],
) -> Result<(Transactional, i64, Vec<Entry>), Error> {
    let Clients { producer, reader, looks } = Clients::of(settings, seat)?;
    let (transactional, term) = fence_seat(settings, seat, fence, producer, |_| {
        unsettled::tell_open(&looks, seat)?;
        Ok(false)
    })?;
    let entries = reader.up_to(term)?;
    discard(reader, looks);
    Ok((transactional, term, entries))
}

/// An instance whose fence is committed clean, and the fence's offset; the first is `producer`. `prepare` is asked
/// once whether the instance was used up by what it found.
pub(crate) fn fence_seat(
    settings: &Settings,
    seat: &Seat,
    json: &[u8],
    producer: Connected,
    prepare: impl Fn(&mut Transactional) -> Result<bool, Error>,
) -> Result<(Transactional, i64), Error> {
    let (mut producer, mut prepared) = (Some(producer), false);
    for _ in 0..FENCES_MAX {
        let connected = match producer.take() {
            Some(connected) => connected,
            None => Transactional::connect(settings, seat)?,
        };
        let mut transactional = connected.fence()?;
        // Before the fence: its commit would show what was left open. Once: a stranger's transaction may
        // be open as well, and stays so.
        if !prepared {
            prepared = true;
            if prepare(&mut transactional)? {
                continue;
            }
        }
        transactional.send(&seat.record(FENCE_KEY, Some(json)))?;
        transactional.settle()?;
        let offset = last_offset(transactional.writer(), seat)?;
        if transactional.commit()? {
            return Ok((transactional, offset));
        }
        debug!(seat.transactional_id, offset, "fence was not committed clean, fencing again");
    }
    Err(never_clean(seat))
}

pub(crate) fn never_clean(seat: &Seat) -> Error {
    Error::Unreachable {
        doing: format!("fencing `{}`", seat.transactional_id),
        reason: "commits are slow or repeated each time".into(),
    }
}

/// Where the last record of a seat was written. Asking forgets where the others were.
pub(crate) fn last_offset(writer: &mut Writer, seat: &Seat) -> Result<i64, Error> {
    let ends = writer.deliveries().take_ends();
    let offset = ends.get(&seat.topic).and_then(|partitions| partitions.get(&seat.partition));
    offset.copied().ok_or_else(|| {
        writer.fail(Error::Client {
            doing: format!("writing as `{}`", seat.transactional_id),
            reason: "the broker did not say where the record was written".into(),
        })
    })
}
