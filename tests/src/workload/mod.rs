//! A seeded random workload: several connections that write side by side into the same rows, until
//! they are told to stop.
//!
//! It does not know what its statements did. Whether they were carried right is the checker's
//! business, which asks the server in the end.

mod random;
mod types;

use crate::deadline::await_true;
use crate::scene::Scene;
use crate::seed::{full, say};
use crate::servers::Server;
use crate::sql::Sql;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use random::Writer;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Rows of the one large transaction.
pub const LARGE_ROWS: u32 = 50_000;

/// A running workload. Ends when dropped.
pub struct Workload {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    writers: Vec<JoinHandle<()>>,
}

/// How much is written, and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub connections: u64,
    /// Between two transactions of one connection.
    pub pause: Duration,
    /// The server will be restarted: a lost connection is made again.
    pub survives_restarts: bool,
}

impl Default for Pace {
    /// In the short form an eighth as much: most of its processor time went into the servers' work for this.
    fn default() -> Self {
        let pause = Duration::from_millis(if full() { 8 } else { 64 });
        Self { connections: 3, pause, survives_restarts: false }
    }
}

/// Makes the tables and their first rows.
///
/// # Panics
/// When the server refuses.
pub fn create(sql: &mut Sql) {
    sql.run(include_str!("schema.sql"));
    let version = sql.version();
    let definitions: Vec<_> = types::columns(version).map(types::Column::definition).collect();
    sql.run(&format!("CREATE TABLE shop.kinds (id int PRIMARY KEY, {})", definitions.join(", ")));
    let most = types::columns(version).map(types::Column::choices).max().unwrap_or(0);
    for choice in 0..most {
        let values: Vec<_> = types::columns(version).map(|column| column.value(choice)).collect();
        sql.run(&format!("INSERT INTO shop.kinds VALUES ({choice}, {})", values.join(", ")));
    }
}

/// A large transaction, whose parts are also updated and deleted in it.
///
/// # Panics
/// When the server refuses.
pub fn large_transaction(sql: &mut Sql) {
    sql.run(&format!(
        "BEGIN; INSERT INTO shop.bulk SELECT n, md5(n::text), n % 7 FROM generate_series(100001, \
         100000 + {LARGE_ROWS}) n; \
         SAVEPOINT a; UPDATE shop.bulk SET value = 'rolled back' WHERE part = 1; ROLLBACK TO a; \
         UPDATE shop.bulk SET value = value || 'x' WHERE 100000 < id AND part = 2; \
         DELETE FROM shop.bulk WHERE 100000 < id AND part = 3; COMMIT"
    ));
}

impl Workload {
    /// Starts writing into the tables of [`create`].
    ///
    /// # Panics
    /// When the server refuses a connection.
    #[must_use]
    pub fn start(scene: &Scene, seed: u64, pace: Pace) -> Self {
        Self::start_at(&scene.postgres, &scene.name, seed, pace)
    }

    /// The same by another way to the database.
    ///
    /// # Panics
    /// When the server refuses a connection.
    #[must_use]
    pub fn start_at(server: &Server, database: &str, seed: u64, pace: Pace) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let committed = Arc::new(AtomicU64::new(0));
        let writer = |number: u64| {
            let rng = SmallRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(number));
            let again = pace.survives_restarts.then(|| (server.clone(), database.to_owned()));
            let mut writer = Writer::new(Sql::connect(server, database), rng, again);
            let (stop, committed) = (Arc::clone(&stop), Arc::clone(&committed));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if writer.transaction() {
                        committed.fetch_add(1, Ordering::Relaxed);
                    }
                    thread::sleep(pace.pause);
                }
            })
        };
        let writers = (0..pace.connections).map(writer).collect();
        Self { stop, committed, writers }
    }

    /// Transactions that were committed so far.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// Waits until so many more transactions are committed.
    ///
    /// # Panics
    /// When they are not in time: the workload has died, or the server hangs.
    pub fn await_committed(&self, more: u64) {
        let enough = self.committed() + more;
        await_true("transactions of the workload", Duration::from_secs(240), || {
            enough <= self.committed() || self.writers.iter().any(JoinHandle::is_finished)
        });
    }

    /// Ends it. The tables do not change any more.
    ///
    /// # Panics
    /// When a writer met an error that it should not meet.
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for writer in std::mem::take(&mut self.writers) {
            writer.join().expect("a writer ends by itself");
        }
        say(&format!("workload: {} transactions", self.committed()));
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for writer in std::mem::take(&mut self.writers) {
            // The test fails for another reason already.
            let _ = writer.join();
        }
    }
}
