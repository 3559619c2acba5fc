//! What endangers a task's slot, in words. Pure.

use postgres::health::{SlotHealth, WalStatus};
use std::time::Duration;

/// A transaction that is open for so long is told: the slot cannot pass it.
pub const OLD_MIN: Duration = Duration::from_secs(900);
/// WAL that may still be written, in percent of `max_slot_wal_keep_size`: below, it is told.
const SAFE_PERCENT_MIN: u64 = 20;

/// Why a person should act, and what helps; `None`: all is well.
#[must_use]
pub fn danger(health: &SlotHealth) -> Option<(String, String)> {
    let kept = format!("the server keeps {} MiB of WAL for the slot", health.retained_bytes >> 20);
    let raise = "find out why the task does not keep up; meanwhile raise max_slot_wal_keep_size";
    match health.wal {
        WalStatus::Kept => {}
        WalStatus::Unreserved => {
            let cause = format!("{kept}, and the next checkpoint may remove what it needs");
            return Some((cause, raise.into()));
        }
        WalStatus::Lost => {
            let cause = "the server has removed WAL that the slot still needed".to_owned();
            return Some((cause, "begin again with --reseed (`task reseed`)".into()));
        }
    }
    if let (Some(safe), Some(max)) = (health.safe_bytes, health.keep_bytes_max)
        && safe < max / 100 * SAFE_PERCENT_MIN
    {
        let cause = format!("{kept}, and loses it after {} MiB more", safe >> 20);
        return Some((cause, raise.into()));
    }
    if !health.standbys_missing.is_empty() {
        let names = health.standbys_missing.join(", ");
        let cause = format!("the slot stands still: it waits for standby {names}, which is away");
        let remedy = "start the standby, or take it out of synchronized_standby_slots";
        return Some((cause, remedy.into()));
    }
    let oldest = health.oldest.as_ref().filter(|it| OLD_MIN <= it.age)?;
    let minutes = oldest.age.as_secs() / 60;
    let cause = format!(
        "{kept}: {} has been open for {minutes} minutes, and it cannot pass it",
        oldest.who
    );
    Some((cause, "end the transaction".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use postgres::health::OldTransaction;

    #[track_caller]
    fn check(health: &SlotHealth, words: &[&str]) {
        let said = danger(health).map(|(cause, _)| cause).unwrap_or_default();
        assert_eq!(said.is_empty(), words.is_empty(), "{said}");
        for word in words {
            assert!(said.contains(word), "no `{word}` in: {said}");
        }
    }

    fn well() -> SlotHealth {
        SlotHealth { retained_bytes: 5 << 20, ..SlotHealth::default() }
    }

    #[test]
    fn a_slot_is_in_danger_before_it_is_lost() {
        check(&well(), &[]);
        let limited = |safe: u64| SlotHealth {
            safe_bytes: Some(safe << 20),
            keep_bytes_max: Some(100 << 20),
            ..well()
        };
        check(&limited(21), &[]);
        check(&limited(19), &["keeps 5 MiB", "19 MiB more"]);
        let of = |wal| SlotHealth { wal, ..well() };
        check(&of(WalStatus::Unreserved), &["next checkpoint"]);
        check(&of(WalStatus::Lost), &["has removed"]);
    }

    #[test]
    fn who_holds_the_slot_back_is_named() {
        let missing = SlotHealth { standbys_missing: vec!["sb1".into()], ..well() };
        check(&missing, &["stands still", "sb1"]);
        let open = |age| SlotHealth {
            oldest: Some(OldTransaction { who: "pid 7 (ann, psql)".into(), age }),
            ..well()
        };
        check(&open(OLD_MIN), &["pid 7 (ann, psql)", "15 minutes"]);
        check(&open(OLD_MIN - Duration::from_secs(1)), &[]);
    }
}
