//! Transactions at a given rate, whatever the rest of the machine does: a slow commit does not put
//! the next one off.

use crate::scene::Scene;
use crate::sql::Sql;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Bytes of the text in each row.
pub const ROW_BYTES: usize = 200;
/// The table of the paced workload and of large transactions.
pub const TABLE: &str = "paced";

/// How much is written, and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Transactions a second, over all connections.
    pub rate: u32,
    pub connections: u32,
    /// Rows of each transaction.
    pub rows: u32,
}

/// A transaction.
#[derive(Clone, Copy, Debug)]
pub struct Committed {
    /// Its first row; the others follow.
    pub id: u64,
    /// When it should have begun.
    pub due: Instant,
    pub begun: Instant,
    /// Just before the client sent COMMIT, and just after the server's answer: the commit lies
    /// between.
    pub sent: Instant,
    pub returned: Instant,
}

/// A running workload. Ends when dropped.
pub struct Paced {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Vec<Committed>>>,
}

/// Makes the table.
///
/// # Panics
/// When the server refuses.
pub fn create(sql: &mut Sql) {
    sql.run(&format!("CREATE TABLE {TABLE} (id bigint PRIMARY KEY, payload text NOT NULL)"));
}

/// Rows in one transaction, made by the server. Text that does not repeat: lz4 would make equal
/// rows too small.
#[must_use]
pub fn insert(table: &str, rows: &str) -> String {
    format!(
        "INSERT INTO {table} SELECT n, substr(repeat(md5(n::text), {}), 1, {ROW_BYTES}) FROM \
         generate_series({rows}) n",
        ROW_BYTES / 32 + 1
    )
}

impl Paced {
    /// Starts writing.
    ///
    /// # Panics
    /// When the server refuses a connection.
    #[must_use]
    pub fn start(scene: &Scene, pace: Pace) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let connections: Vec<Sql> = (0..pace.connections).map(|_| scene.sql()).collect();
        let begun = Instant::now();
        let writer = |(number, sql): (usize, Sql)| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || write(sql, number as u64, pace, begun, &stop))
        };
        let writers = connections.into_iter().enumerate().map(writer).collect();
        Self { stop, writers }
    }

    /// Ends it: all that was committed, in the order that was planned.
    ///
    /// # Panics
    /// When the server refused something.
    #[must_use]
    pub fn stop(mut self) -> Vec<Committed> {
        self.stop.store(true, Ordering::Relaxed);
        let writers = std::mem::take(&mut self.writers);
        let written = writers.into_iter().flat_map(|writer| writer.join().expect("a good end"));
        let mut committed: Vec<Committed> = written.collect();
        committed.sort_by_key(|transaction| transaction.id);
        committed
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for writer in std::mem::take(&mut self.writers) {
            // The measurement fails for another reason already.
            let _ = writer.join();
        }
    }
}

fn write(
    mut sql: Sql,
    connection: u64,
    pace: Pace,
    started: Instant,
    stop: &AtomicBool,
) -> Vec<Committed> {
    sql.run("SET synchronous_commit = on");
    let mut committed = Vec::new();
    let mut number = connection;
    while !stop.load(Ordering::Relaxed) {
        let due = started + Duration::from_secs(1).mul_f64(number as f64 / f64::from(pace.rate));
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let id = number * u64::from(pace.rows);
        let begun = Instant::now();
        let last = id + u64::from(pace.rows) - 1;
        sql.run(&format!("BEGIN; {}", insert(TABLE, &format!("{id}, {last}"))));
        let sent = Instant::now();
        sql.run("COMMIT");
        committed.push(Committed { id, due, begun, sent, returned: Instant::now() });
        number += u64::from(pace.connections);
    }
    committed
}
