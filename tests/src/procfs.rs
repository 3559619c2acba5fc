//! What a process costs, from /proc.

use std::fs;

/// Seconds of CPU that a process has used: its own code and the kernel's for it. `None`: it is
/// gone.
///
/// A process that has ended and was not waited for still tells.
#[must_use]
pub fn cpu_seconds(process: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name may hold anything; what follows its last parenthesis is numbers.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / ticks_per_second())
}

/// Whether a process has ended, waited for or not.
#[must_use]
pub fn has_ended(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    matches!(state, None | Some('Z' | 'X'))
}

/// The most memory that a process had resident, in bytes (`VmHWM`). `None`: it is gone.
#[must_use]
pub fn memory_bytes_max(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

fn ticks_per_second() -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a hundred")]
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_costs_something() {
        let own = std::process::id();
        let begun = cpu_seconds(own).unwrap();
        while cpu_seconds(own).unwrap() < begun + 0.02 {
            std::hint::black_box((0..10_000u64).sum::<u64>());
        }
        assert!(1 << 20 < memory_bytes_max(own).unwrap());
        assert!(!has_ended(own));
        assert!(has_ended(u32::MAX - 1));
        assert_eq!(cpu_seconds(u32::MAX - 1), None);
    }
}
