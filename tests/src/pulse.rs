//! How long each lane of a task is silent: a row for each, written all the time, and a `read_committed`
//! consumer that notes the longest gap between two of them.

use crate::deadline::await_true;
use crate::reader::{assign, consumer, each};
use crate::scene::Scene;
use crate::sql::Sql;
use crate::topics;
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::{BorrowedMessage, Message};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Between two beats: what a silence is measured by.
const BEAT: Duration = Duration::from_millis(50);
/// So many that every lane is sure to get one.
const ROWS: u32 = 200;
/// Longer than any fault is allowed to have consequences.
const HEARD_MAX: Duration = Duration::from_secs(240);

/// Rows that are written all the time, and who listens. Ends when dropped.
pub struct Pulse {
    stop: Arc<AtomicBool>,
    /// Number of the last beat that is committed in the database.
    written: Arc<AtomicU64>,
    lanes: Arc<Mutex<Vec<Heard>>>,
    threads: Vec<JoinHandle<()>>,
}

/// What has come of one lane.
#[derive(Clone, Copy, Debug)]
struct Heard {
    beat: u64,
    at: Instant,
    longest: Duration,
}

/// Makes the table. The task must capture `public.pulse` to the topic of its name.
pub fn create(sql: &mut Sql) {
    sql.run(&format!(
        "CREATE TABLE public.pulse (id int PRIMARY KEY, beat bigint NOT NULL); \
         INSERT INTO public.pulse SELECT n, 0 FROM generate_series(1, {ROWS}) n"
    ));
}

impl Pulse {
    /// Begins once the snapshot is over. `lane_of`: the lane of a topic's partition.
    ///
    /// # Panics
    /// When a lane has no row, or a server does not answer.
    #[must_use]
    pub fn start(
        scene: &Scene,
        lanes: u8,
        lane_of: impl Fn(&str, i32) -> u8 + Send + 'static,
    ) -> Self {
        let topic = format!("{}.public.pulse", scene.name);
        let partitions = topics::list(&scene.kafka, |name| name == topic)[&topic];
        let mut rows = vec![None; usize::from(lanes)];
        each(&scene.kafka, &topic, partitions, |message| {
            if let Some((id, _)) = row(message) {
                rows[usize::from(lane_of(&topic, message.partition()))] = Some(id);
            }
        });
        let missing = "a lane without a partition of the pulse: give its topic more";
        let ids: Vec<_> = rows.iter().map(|id| id.expect(missing).to_string()).collect();
        let heard = Heard { beat: 0, at: Instant::now(), longest: Duration::ZERO };
        let mut pulse = Self {
            stop: Arc::default(),
            written: Arc::default(),
            lanes: Arc::new(Mutex::new(vec![heard; usize::from(lanes)])),
            threads: Vec::new(),
        };
        let listener = consumer(&scene.kafka, "read_committed");
        assign(&listener, &topic, partitions);
        let (stop, all) = (Arc::clone(&pulse.stop), Arc::clone(&pulse.lanes));
        let lane = move |partition| usize::from(lane_of(&topic, partition));
        pulse.threads.push(thread::spawn(move || listen(&listener, &stop, &all, lane)));
        let (stop, written) = (Arc::clone(&pulse.stop), Arc::clone(&pulse.written));
        let mut sql = scene.sql();
        pulse.threads.push(thread::spawn(move || {
            for beat in 1.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let ids = ids.join(", ");
                sql.run(&format!("UPDATE public.pulse SET beat = {beat} WHERE id IN ({ids})"));
                written.store(beat, Ordering::Release);
                thread::sleep(BEAT);
            }
        }));
        pulse
    }

    fn heard(&self) -> MutexGuard<'_, Vec<Heard>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the silences so far.
    pub fn reset(&self) {
        self.heard().iter_mut().for_each(|lane| lane.longest = Duration::ZERO);
    }

    /// Waits until a beat that is written from now on has come through every lane.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn await_beat(&self, after: &str) {
        let beat = self.written.load(Ordering::Acquire) + 1;
        await_true(&format!("rows of every lane after: {after}"), HEARD_MAX, || {
            assert!(!self.threads.iter().any(JoinHandle::is_finished), "the pulse has stopped");
            self.heard().iter().all(|lane| beat <= lane.beat)
        });
    }

    /// The longest silence of each lane since [`Self::reset`], with the one that lasts.
    #[must_use]
    pub fn silences(&self) -> Vec<Duration> {
        self.heard().iter().map(|lane| lane.longest.max(lane.at.elapsed())).collect()
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in std::mem::take(&mut self.threads) {
            // What it has to say was said: a test that waits for it has failed.
            let _ = thread.join();
        }
    }
}

fn listen(
    consumer: &BaseConsumer,
    stop: &AtomicBool,
    lanes: &Mutex<Vec<Heard>>,
    lane: impl Fn(i32) -> usize,
) {
    while !stop.load(Ordering::Relaxed) {
        // Errors tell of ends, and of brokers that come and go: silence is what counts.
        let Some(Ok(message)) = consumer.poll(BEAT) else { continue };
        let Some((_, beat @ 1..)) = row(&message) else { continue };
        let mut lanes = lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let Heard { beat: last, at, longest } = &mut lanes[lane(message.partition())];
        *longest = at.elapsed().max(*longest);
        (*last, *at) = (beat, Instant::now());
    }
}

/// Id and beat of a record.
fn row(message: &BorrowedMessage<'_>) -> Option<(u64, u64)> {
    let value: Value = serde_json::from_slice(message.payload()?).ok()?;
    let after = &value["after"];
    Some((after["id"].as_u64()?, after["beat"].as_u64()?))
}
