//! What processes take: processor time and memory, as proc(5) tells.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Clock ticks of a second in `stat` (USER_HZ).
const TICKS: u32 = 100;

/// Processor time of a process so far, in user and system mode; with `families`, that of children it waited for too.
fn times(pid: u32, families: bool) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(") ").context("the name's end")?.1.split(' ').collect();
    let mut ticks = 0;
    for field in &fields[11..if families { 15 } else { 13 }] {
        ticks += field.parse::<u32>()?;
    }
    Ok(Duration::from_secs(1) * ticks / TICKS)
}

/// Processor time of a process so far.
pub fn cpu(pid: u32) -> Result<Duration> {
    times(pid, false)
}

/// Processor time of a process and of its children, past and present: PostgreSQL has a process for each connection.
pub fn cpu_of_family(pid: u32) -> Result<Duration> {
    let mut sum = times(pid, true)?;
    for child in fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?.split_whitespace() {
        // One that has just ended is counted by its parent from now on.
        sum += times(child.parse()?, true).unwrap_or_default();
    }
    Ok(sum)
}

/// Resident memory of a process, in MB.
pub fn rss_mb(pid: u32) -> Result<f64> {
    status_mb(pid, "VmRSS:")
}

/// The memory that a process has allocated, in MB: without the pages of its binary, which are the system's to share and to reclaim,
/// and which a debug binary has twice as many of.
pub fn allocated_mb(pid: u32) -> Result<f64> {
    status_mb(pid, "RssAnon:")
}

/// The most resident memory that a process ever had, in MB.
pub fn peak_rss_mb(pid: u32) -> Result<f64> {
    status_mb(pid, "VmHWM:")
}

fn status_mb(pid: u32, field: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with(field)).context(field.to_owned())?;
    Ok(line.split_whitespace().nth(1).context("a number")?.parse::<f64>()? * 1024.0 / 1e6)
}
