//! A model of what lanes rest on in Kafka: producer epochs, open transactions, commit requests that
//! come late.

use super::Bug;
use kafka::checkpoint::Checkpoint;
use kafka::names::LaneId;
use kafka::sink::{CommitPoint, Committed, LaneSink, Opened};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use record::Record;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// A record by its place in the source: commit LSN, ordinal with part, partition.
pub(crate) type Event = (String, String, i32);

#[derive(Debug, Default)]
pub(crate) struct LaneLog {
    epoch: i64,
    /// Of the open transaction.
    open: Vec<Event>,
    open_checkpoint: Option<Checkpoint>,
    /// What a reader with `read_committed` sees.
    pub(crate) visible: Vec<Event>,
    pub(crate) checkpoint: Option<Checkpoint>,
    /// Number of events that were visible with the checkpoint.
    pub(crate) covered: usize,
    /// Epochs of commit requests that are still on their way.
    late: Vec<i64>,
}

#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) lanes: Vec<LaneLog>,
    /// What a reader with `read_committed` sees in each partition.
    pub(crate) partitions: Vec<Vec<Event>>,
    /// Which lane has written to a partition in a revision.
    pub(crate) owners: BTreeMap<(u64, i32), u8>,
    /// A partition that two lanes wrote to in one revision.
    pub(crate) shared: Option<String>,
    rng: SmallRng,
    /// Percent of the calls that go wrong.
    pub(crate) trouble: u32,
    bug: Option<Bug>,
}

pub(crate) type Shared = Arc<Mutex<Broker>>;

pub(crate) fn lock(broker: &Shared) -> MutexGuard<'_, Broker> {
    broker.lock().expect("no call panicked")
}

impl Broker {
    pub(crate) fn shared(lanes: u8, partitions: i32, seed: u64, bug: Option<Bug>) -> Shared {
        let lanes = (0..lanes).map(|_| LaneLog::default()).collect();
        let partitions = (0..partitions).map(|_| Vec::new()).collect();
        let rng = SmallRng::seed_from_u64(seed);
        let (owners, shared) = (BTreeMap::new(), None);
        Arc::new(Mutex::new(Self { lanes, partitions, owners, shared, rng, trouble: 12, bug }))
    }

    /// Ends the open transaction of a lane.
    fn commit(&mut self, lane: u8) {
        let log = &mut self.lanes[usize::from(lane)];
        let revision =
            log.open_checkpoint.as_ref().or(log.checkpoint.as_ref()).map_or(0, |it| it.rev);
        for event in &log.open {
            let owner = *self.owners.entry((revision, event.2)).or_insert(lane);
            if owner != lane {
                let text = format!("I7: lanes {owner} and {lane} wrote to partition {}", event.2);
                self.shared = Some(text);
            }
            self.partitions[usize::try_from(event.2).expect("a partition")].push(event.clone());
        }
        log.commit();
    }

    fn is_trouble(&mut self) -> bool {
        self.rng.random_range(0..100) < self.trouble
    }

    /// A late commit request arrives: it ends whatever transaction its epoch has open.
    pub(crate) fn deliver_late(&mut self, lane: usize) {
        let log = &mut self.lanes[lane];
        if let Some(epoch) = log.late.pop()
            && epoch == log.epoch
        {
            self.commit(u8::try_from(lane).expect("few lanes"));
        }
    }
}

impl LaneLog {
    fn commit(&mut self) {
        self.visible.append(&mut self.open);
        if let Some(checkpoint) = self.open_checkpoint.take() {
            self.checkpoint = Some(checkpoint);
            self.covered = self.visible.len();
        }
    }
}

/// A producer of one lane and epoch.
pub(crate) struct Sink {
    broker: Shared,
    lane: u8,
    revision: u64,
    epoch: i64,
    txn_seq: u64,
}

/// Opens a lane as `kafka::open` does: the older epoch is fenced, its transaction aborted.
pub(crate) fn open(
    broker: &Shared,
    lane: u8,
    revision: u64,
) -> Result<(Box<dyn LaneSink>, Opened), kafka::Error> {
    let mut held = lock(broker);
    if held.is_trouble() {
        return Err(unreachable());
    }
    let forgets = held.bug == Some(Bug::CheckpointIgnored);
    let log = &mut held.lanes[usize::from(lane)];
    log.epoch += 1;
    log.open.clear();
    log.open_checkpoint = None;
    let checkpoint = log.checkpoint.clone().filter(|_| !forgets);
    let txn_seq = log.checkpoint.as_ref().map_or(0, |last| last.txn_seq);
    let opened = Opened { term: log.epoch, checkpoint };
    let sink = Sink { broker: Arc::clone(broker), lane, revision, epoch: log.epoch, txn_seq };
    Ok((Box::new(sink), opened))
}

fn unreachable() -> kafka::Error {
    kafka::Error::Unreachable { doing: "simulating".into(), reason: "planned".into() }
}

impl Sink {
    /// The lane's log, unless a newer owner has fenced this one.
    fn reach<'a>(&self, broker: &'a mut Broker) -> Result<&'a mut LaneLog, kafka::Error> {
        let unfenced = broker.bug == Some(Bug::NoFencing);
        let log = &mut broker.lanes[usize::from(self.lane)];
        if log.epoch != self.epoch && !unfenced {
            return Err(kafka::Error::Fenced { transactional_id: format!("lane {}", self.lane) });
        }
        Ok(log)
    }
}

impl LaneSink for Sink {
    fn send(&mut self, record: &Record<'_>) -> Result<(), kafka::Error> {
        let mut broker = lock(&self.broker);
        let fails = broker.rng.random_range(0..400) < broker.trouble;
        let arrives = broker.rng.random();
        let log = self.reach(&mut broker)?;
        let header = |name: &str| {
            let found = record.headers.iter().find(|(header, _)| *header == name);
            String::from_utf8_lossy(found.expect("a header").1).into_owned()
        };
        if !fails || arrives {
            let event = (header("distributary.lsn"), header("distributary.seq"), record.partition);
            log.open.push(event);
        }
        if fails { Err(unreachable()) } else { Ok(()) }
    }

    fn poll(&mut self) -> Result<(), kafka::Error> {
        Ok(())
    }

    fn pending(&self) -> u64 {
        0
    }

    fn commit(&mut self, point: &CommitPoint) -> Result<Committed, kafka::Error> {
        let mut broker = lock(&self.broker);
        let (trouble, kind) = (broker.is_trouble(), broker.rng.random_range(0..4));
        let believes = broker.bug == Some(Bug::DirtyIgnored);
        let log = self.reach(&mut broker)?;
        log.open_checkpoint = Some(Checkpoint {
            v: 1,
            task: "shop".into(),
            rev: self.revision,
            lane: LaneId::Lane(self.lane),
            term: self.epoch,
            txn_seq: self.txn_seq + 1,
            pos: point.position,
            end_lsn: point.end_lsn,
            complete: point.complete,
            sealed: point.sealed,
            snap: Vec::new(),
            prev_end: BTreeMap::new(),
            older_end: BTreeMap::new(),
            node: "simulated".into(),
            ver: "0".into(),
        });
        if !trouble {
            broker.commit(self.lane);
            self.txn_seq += 1;
            return Ok(Committed { clean: true, txn_seq: self.txn_seq });
        }
        match kind {
            // Nobody heard of it.
            0 => Err(unreachable()),
            // It is under way for long.
            1 => {
                log.late.push(self.epoch);
                Err(unreachable())
            }
            // It was applied, and the answer lost.
            2 => {
                broker.commit(self.lane);
                Err(unreachable())
            }
            // It was sent again in silence, and the first copy is still under way.
            _ => {
                log.late.push(self.epoch);
                broker.commit(self.lane);
                self.txn_seq += 1;
                Ok(Committed { clean: believes, txn_seq: self.txn_seq })
            }
        }
    }
}
