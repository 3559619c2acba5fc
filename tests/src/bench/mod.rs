//! What the benchmarks on real servers share: what they say of themselves and of the machine, the
//! binary as users run it, a paced workload, and what came out of Kafka.

pub mod arrivals;
pub mod pace;
pub mod run;

use crate::procfs::load;
use crate::servers::{Server, ask, repository};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;
use std::thread::available_parallelism;

/// The command that gives these figures, and the machine: a figure is worth nothing without them.
///
/// # Errors
/// When stdout is closed.
pub fn print_heading(name: &str) -> io::Result<()> {
    let words = std::env::args().skip(1).filter(|word| word != "--bench");
    let command: Vec<String> =
        ["just", "bench", name].map(Into::into).into_iter().chain(words).collect();
    let cores = available_parallelism().map_or(0, usize::from);
    writeln!(io::stdout(), "\n`{}`: {cores} cores, load {} before.", command.join(" "), load())
}

/// The machine after the measurement: others may have come in between.
///
/// # Errors
/// When stdout is closed.
pub fn print_ending() -> io::Result<()> {
    writeln!(io::stdout(), "\nLoad after: {}.", load())
}

/// Process id of a server that `cluster/local/servers` runs.
///
/// # Panics
/// When it does not run.
#[must_use]
pub fn process_of(server: &Server) -> u32 {
    let status = ask("status", &server.name);
    let id = status.split_whitespace().skip_while(|word| *word != "pid").nth(1);
    id.and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no process id in `{status}`"))
}

/// The release build.
///
/// # Panics
/// When it is missing: a figure of a debug build would mislead.
#[must_use]
pub fn binary() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| repository().join("target"), PathBuf::from);
    let binary = std::env::var_os(crate::process::VARIABLE)
        .map_or_else(|| target.join("release/distributary"), PathBuf::from);
    assert!(binary.is_file(), "{} is missing: cargo build --release -p cli", binary.display());
    binary
}

/// A program of Debian's PostgreSQL 15.
#[must_use]
pub fn postgres_program(name: &str) -> Command {
    let mut command = Command::new(format!("/usr/lib/postgresql/15/bin/{name}"));
    command.env("PGPASSWORD", crate::sql::PASSWORD);
    command
}

/// Bytes as MiB.
#[must_use]
pub fn megabytes(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "memory of a process")]
    let bytes = bytes as f64;
    bytes / f64::from(1 << 20)
}

/// Minimum, median, maximum.
///
/// # Panics
/// Without values.
pub fn spread<T>(values: &[T], of: impl Fn(&T) -> f64) -> [f64; 3] {
    let mut values: Vec<f64> = values.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}

/// For a cell of a table.
#[must_use]
pub fn shown(values: [f64; 3], digits: usize) -> String {
    values.map(|value| format!("{value:.digits$}")).join(" / ")
}

/// The value that so many per cent do not exceed; `sorted` holds at least one.
///
/// # Panics
/// Without values.
#[must_use]
pub fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted[rank.saturating_sub(1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(
            [50, 99, 100].map(|percent| percentile(&values, percent)),
            [100.0, 198.0, 200.0]
        );
        assert_eq!(percentile(&[7.0], 50), 7.0);
        assert_eq!(spread(&[3.0, 1.0, 2.0], |value| *value), [1.0, 2.0, 3.0]);
    }
}
