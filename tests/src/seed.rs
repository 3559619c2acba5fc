//! Seeds: printed, and settable, so that a failing run can be repeated.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

/// The environment variable that sets the seed of every random choice.
pub const VARIABLE: &str = "DISTRIBUTARY_SEED";

/// Whether the long form of the suites is wanted.
#[must_use]
pub fn full() -> bool {
    std::env::var_os("DISTRIBUTARY_FULL").is_some_and(|value| value == "1")
}

/// The servers that a case runs on: `short` in the short form, `long` in the long one.
#[must_use]
pub fn each<'a>(short: &'a [&'a str], long: &'a [&'a str]) -> &'a [&'a str] {
    if full() { long } else { short }
}

/// The seed of a test: `short` in the short form, fresh in the full form, or what the environment
/// says.
///
/// # Panics
/// When the environment holds something that is no number.
#[must_use]
pub fn seed(test: &str, short: u64) -> u64 {
    let seed = match std::env::var(VARIABLE) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{VARIABLE}={text} is no number")),
        Err(_) if full() => nanoseconds(),
        Err(_) => short,
    };
    say(&format!("{test}: {VARIABLE}={seed}"));
    seed
}

/// A few letters that no other test run has.
#[must_use]
pub fn unique() -> String {
    let mixed = nanoseconds() ^ (u64::from(std::process::id()) << 40);
    format!("{:07x}", mixed & 0xFFF_FFFF)
}

/// A line for whoever reads the log of a test.
pub fn say(line: &str) {
    // A log that cannot be written is no reason to fail.
    let _ = writeln!(io::stderr(), "{line}");
}

fn nanoseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos() & u128::from(u64::MAX)).unwrap_or_default()
}
