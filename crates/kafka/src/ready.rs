//! Clients that connect before the lane that they are for may be opened: its former owner still writes then
//! (a planned move). What is left to do afterwards is to fence, and to read.
//!
//! Holds: one set of clients for each seat, for ten seconds at most. Never: fences or writes with them.

use crate::Error;
use crate::beside::beside;
use crate::lookup::Looks;
use crate::names::{LaneId, Names, Seat};
use crate::read::Reader;
use crate::settings::Settings;
use crate::transactional::{Connected, Transactional};
use config::Delivery;
use rdkafka::ClientConfig;
use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How long clients wait for their lane to be opened: longer than a former owner is waited for.
const KEPT_MAX: Duration = Duration::from_secs(10);
/// How long an opening waits for clients that are being made, before it makes its own.
const MADE_MAX: Duration = Duration::from_secs(1);

/// What opening a lane exactly-once needs.
pub(crate) struct Clients {
    pub(crate) producer: Connected,
    pub(crate) reader: Reader,
    pub(crate) looks: Looks,
}

/// Clients under way.
#[derive(Clone)]
pub struct Preparing(Arc<Slot>);

struct Slot {
    /// Of the producer: clients of other settings are of no use.
    config: ClientConfig,
    state: Mutex<State>,
    changed: Condvar,
}

enum State {
    Making,
    Made(Box<Clients>),
    /// Taken, too old, or not to be made.
    Over,
}

/// By transactional id.
type Slots = HashMap<String, Arc<Slot>>;

fn slots() -> MutexGuard<'static, Slots> {
    // Lanes of other nodes' tasks are opened one by one, each with settings of its own.
    static SLOTS: LazyLock<Mutex<Slots>> = LazyLock::new(Mutex::default);
    SLOTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins to connect what the next opening of a lane needs, and returns at once. Whoever writes the lane now is
/// not disturbed. A failure is told by the opening that needs what is missing.
#[must_use]
pub fn prepare(settings: &Settings, names: &Names, lane: LaneId) -> Preparing {
    let seat = names.seat(lane);
    let slot = Arc::new(Slot::new(settings.transactional(&seat.transactional_id)));
    // At-least-once, an opening announces itself with what it connects.
    if settings.delivery() == Delivery::AtLeastOnce {
        slot.end();
        return Preparing(slot);
    }
    {
        let mut slots = slots();
        if let Some(present) = slots.get(&seat.transactional_id)
            && present.is_of(&slot.config)
        {
            return Preparing(Arc::clone(present));
        }
        if let Some(older) = slots.insert(seat.transactional_id.clone(), Arc::clone(&slot)) {
            older.end();
        }
    }
    let (settings, kept) = (settings.clone(), Arc::clone(&slot));
    let spawned = thread::Builder::new().name("kafka prepared".into()).spawn(move || {
        kept.put(Clients::of_existing(&settings, &seat).ok().flatten());
        kept.keep(KEPT_MAX);
        let mut slots = slots();
        if slots.get(&seat.transactional_id).is_some_and(|it| Arc::ptr_eq(it, &kept)) {
            slots.remove(&seat.transactional_id);
        }
    });
    if spawned.is_err() {
        slot.end();
    }
    Preparing(slot)
}

/// Ends clients that have served, without being waited for: that takes some milliseconds each.
pub(crate) fn discard(reader: Reader, looks: Looks) {
    // Where there is no thread, it is done at once.
    let _ = thread::Builder::new().name("kafka ending".into()).spawn(move || drop((reader, looks)));
}

impl Preparing {
    /// Blocks until the clients are there, or will not be, for `patience` at most.
    pub fn wait(&self, patience: Duration) {
        drop(self.0.made(patience));
    }
}

impl Clients {
    /// Those that were prepared, or new ones.
    pub(crate) fn of(settings: &Settings, seat: &Seat) -> Result<Self, Error> {
        let slot = slots().remove(&seat.transactional_id);
        let config = settings.transactional(&seat.transactional_id);
        match slot.filter(|slot| slot.is_for(&config)).and_then(|slot| slot.take()) {
            Some(clients) => Ok(*clients),
            None => Self::make(settings, seat),
        }
    }

    /// `None`: there is no checkpoint topic. Brokers would make one of their own for a producer that asks for it.
    fn of_existing(settings: &Settings, seat: &Seat) -> Result<Option<Self>, Error> {
        let looks = Looks::new(settings, seat)?;
        let found = looks.all.partitions(std::slice::from_ref(&seat.topic))?;
        if found.get(&seat.topic).copied().flatten().is_none() {
            return Ok(None);
        }
        let (reader, producer) =
            beside(|| Reader::new(settings, seat), || Transactional::connect(settings, seat));
        Ok(Some(Self { producer: producer?, reader: reader?, looks }))
    }

    fn make(settings: &Settings, seat: &Seat) -> Result<Self, Error> {
        let others = || {
            let (reader, looks) =
                beside(|| Reader::new(settings, seat), || Looks::new(settings, seat));
            Ok((reader?, looks?))
        };
        let (others, producer) = beside(others, || Transactional::connect(settings, seat));
        let (reader, looks) = others?;
        Ok(Self { producer: producer?, reader, looks })
    }
}

impl Slot {
    fn new(config: ClientConfig) -> Self {
        Self { config, state: Mutex::new(State::Making), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_for(&self, config: &ClientConfig) -> bool {
        self.config.config_map() == config.config_map()
    }

    /// Whether it still serves whoever asks for the same.
    fn is_of(&self, config: &ClientConfig) -> bool {
        self.is_for(config) && !matches!(*self.lock(), State::Over)
    }

    /// `None`: they could not be made. What comes too late is dropped.
    fn put(&self, clients: Option<Clients>) {
        let mut state = self.lock();
        if matches!(*state, State::Making) {
            *state = clients.map_or(State::Over, |it| State::Made(Box::new(it)));
            self.changed.notify_all();
        }
    }

    fn made(&self, patience: Duration) -> MutexGuard<'_, State> {
        let is_making = |state: &mut State| matches!(*state, State::Making);
        let waited = self.changed.wait_timeout_while(self.lock(), patience, is_making);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn take(&self) -> Option<Box<Clients>> {
        let mut state = self.made(MADE_MAX);
        let taken = mem::replace(&mut *state, State::Over);
        self.changed.notify_all();
        match taken {
            State::Made(clients) => Some(clients),
            State::Making | State::Over => None,
        }
    }

    /// Waits until the clients are taken; afterwards nobody gets them.
    fn keep(&self, patience: Duration) {
        let is_made = |state: &mut State| matches!(*state, State::Made(_));
        let waited = self.changed.wait_timeout_while(self.lock(), patience, is_made);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let unused = mem::replace(&mut *state, State::Over);
        drop(state);
        drop(unused);
    }

    fn end(&self) {
        let older = mem::replace(&mut *self.lock(), State::Over);
        self.changed.notify_all();
        drop(older);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Nothing listens there: clients are made all the same, and connect later.
    fn settings(broker: &str) -> Settings {
        let mut task = config::Task { task: "shop".into(), ..config::Task::default() };
        task.sink.brokers = vec![broker.into()];
        Settings::new(&task, Path::new(".")).expect("settings")
    }

    #[test]
    fn clients_are_taken_once_and_only_for_the_same_settings() {
        let names = Names::new("distributary", "ready").expect("valid");
        let (one, other) = (settings("127.0.0.1:1"), settings("127.0.0.1:2"));
        let seat = names.seat(LaneId::Lane(1));
        let id = seat.transactional_id.clone();
        let slot = Arc::new(Slot::new(one.transactional(&id)));
        slot.put(Clients::make(&one, &seat).ok());
        assert!(matches!(*slot.lock(), State::Made(_)));
        slots().insert(id.clone(), Arc::clone(&slot));
        assert!(Arc::ptr_eq(&slot, &prepare(&one, &names, LaneId::Lane(1)).0));
        let _ = Clients::of(&one, &seat).expect("made");
        assert!(matches!(*slot.lock(), State::Over) && !slots().contains_key(&id));

        let again = prepare(&one, &names, LaneId::Lane(1));
        let changed = prepare(&other, &names, LaneId::Lane(1));
        assert!(!Arc::ptr_eq(&again.0, &changed.0));
        assert!(matches!(*again.0.lock(), State::Over), "nobody would take them any more");
        let slot = slots().remove(&id).expect("the newer ones");
        assert!(slot.is_for(&other.transactional(&id)));
        assert!(!slot.is_for(&one.transactional(&id)));
        slot.end();
    }

    #[test]
    fn what_comes_too_late_or_is_not_taken_is_given_up() {
        let slot = Slot::new(ClientConfig::new());
        slot.put(None);
        assert!(slot.take().is_none());
        let (settings, names) =
            (settings("127.0.0.1:1"), Names::new("distributary", "late").expect("valid"));
        let seat = names.seat(LaneId::Meta);
        let slot = Slot::new(ClientConfig::new());
        slot.end();
        slot.put(Clients::make(&settings, &seat).ok());
        assert!(matches!(*slot.lock(), State::Over));
        let slot = Slot::new(ClientConfig::new());
        slot.put(Clients::make(&settings, &seat).ok());
        slot.keep(Duration::ZERO);
        assert!(slot.take().is_none());
    }
}
