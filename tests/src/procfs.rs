//! What a process costs, from /proc.

use std::collections::BTreeMap;
use std::fs;

/// Seconds of CPU that a process has used: its own code and the kernel's for it. `None`: it is
/// gone.
///
/// A process that has ended and was not waited for still tells.
#[must_use]
pub fn cpu_seconds(process: u32) -> Option<f64> {
    cpu_seconds_in(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
}

/// The same for each thread of this process whose name begins so, by number.
#[must_use]
pub fn cpu_seconds_of_threads(name: &str) -> BTreeMap<u32, f64> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let costs = threads.filter_map(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).ok()?;
        let (number, rest) = stat.split_once(" (")?;
        let cost = cpu_seconds_in(&stat).filter(|_| rest.starts_with(name))?;
        Some((number.parse().ok()?, cost))
    });
    costs.collect()
}

fn cpu_seconds_in(stat: &str) -> Option<f64> {
    let mut fields = fields(stat).skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / ticks_per_second())
}

/// Seconds of CPU of a process and of its children, those that have ended included. `None`: it is gone.
#[must_use]
pub fn cpu_seconds_of_family(process: u32) -> Option<f64> {
    let parent = process.to_string();
    let stats = fs::read_dir("/proc").ok()?.flatten();
    let stats = stats.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let children = stats.filter(|stat| fields(stat).nth(1) == Some(parent.as_str()));
    // Of those that were waited for, the parent's own lines know.
    let all = |stat: &str| {
        let ticks = fields(stat).skip(11).take(4).filter_map(|it| it.parse::<f64>().ok());
        ticks.sum::<f64>() / ticks_per_second()
    };
    let own = all(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?);
    Some(own + children.map(|stat| all(&stat)).sum::<f64>())
}

/// Fields of a `stat` behind the name, which may hold anything.
fn fields(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit_once(')').map_or("", |it| it.1).split_ascii_whitespace()
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
    Some(memory(process)?.bytes_max)
}

/// What a process has resident.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// The most so far (`VmHWM`).
    pub bytes_max: u64,
    /// Now (`VmRSS`).
    pub bytes: u64,
    /// Of that, what no file stands behind: heap and stacks.
    pub anonymous_bytes: u64,
    pub threads: u64,
}

/// What a process has resident. `None`: it is gone.
#[must_use]
pub fn memory(process: u32) -> Option<Memory> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let number = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    };
    Some(Memory {
        bytes_max: number("VmHWM:")? << 10,
        bytes: number("VmRSS:")? << 10,
        anonymous_bytes: number("RssAnon:")? << 10,
        threads: number("Threads:")?,
    })
}

/// How busy the machine was in the last 1, 5 and 15 minutes: threads that run or want to.
#[must_use]
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
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
        assert!(cpu_seconds(own) <= cpu_seconds_of_family(own));
        assert_eq!(cpu_seconds_of_family(u32::MAX - 1), None);
        let memory = memory(own).unwrap();
        assert!(1 << 20 < memory.anonymous_bytes && memory.anonymous_bytes <= memory.bytes);
        assert!(1 << 20 < memory_bytes_max(own).unwrap());
        assert_ne!(memory.threads, 0);
        assert_eq!(load().split(' ').count(), 3);
        assert!(!has_ended(own));
        assert!(has_ended(u32::MAX - 1));
        assert_eq!(cpu_seconds(u32::MAX - 1), None);
    }
}
