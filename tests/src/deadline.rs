//! Waiting for a condition, with an end.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often a condition is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Asks until there is an answer.
///
/// # Panics
/// When there is none in time; the message names what was waited for.
pub fn await_some<T>(what: &str, longest: Duration, ask: impl FnMut() -> Option<T>) -> T {
    await_seeing(what, longest, ask, String::new)
}

/// As [`await_some`], and says what was `seen` last where there is no answer.
///
/// # Panics
/// As [`await_some`].
pub fn await_seeing<T>(
    what: &str,
    longest: Duration,
    mut ask: impl FnMut() -> Option<T>,
    seen: impl FnOnce() -> String,
) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        if longest <= begun.elapsed() {
            let seen = seen();
            panic!(
                "waited {longest:?} in vain: {what}{}{seen}",
                if seen.is_empty() { "" } else { "; seen last: " }
            );
        }
        sleep(LOOK_AGAIN);
    }
}

/// Asks until it is so.
///
/// # Panics
/// As [`await_some`].
pub fn await_true(what: &str, longest: Duration, mut ask: impl FnMut() -> bool) {
    await_some(what, longest, || ask().then_some(()));
}
