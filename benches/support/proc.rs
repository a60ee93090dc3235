//! What the kernel counts of a process.

use std::time::Duration;

/// A tick of /proc/PID/stat: a hundredth of a second wherever Linux runs.
const TICK: Duration = Duration::from_millis(10);

/// CPU time that a process has used, user's and kernel's.
pub fn cpu(pid: u32) -> Duration {
    let path = format!("/proc/{pid}/stat");
    let stat =
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path} (Linux): {error}"));
    // The name in parentheses may hold anything; counted from behind it, they are the 12th and 13th.
    let after = stat.rsplit_once(") ").expect("a name in parentheses").1;
    let ticks = after.split(' ').skip(11).take(2);
    let ticks: u32 = ticks
        .map(|ticks| ticks.parse::<u32>().expect("a count of ticks"))
        .sum();
    TICK * ticks
}
