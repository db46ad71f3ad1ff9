//! What the kernel tells about a process and about itself, under `/proc`.

use anyhow::Context as _;
use serde::Serialize;
use std::{fs, path::Path};

/// Resident memory of a process, KiB.
pub(crate) fn rss_kib(pid: u32) -> anyhow::Result<u64> {
    let status = read(&format!("/proc/{pid}/status"))?;
    field(&status, "VmRSS:").with_context(|| format!("process {pid} has ended"))
}

/// Refuses a process that can't be looked at.
pub(crate) fn check(pid: u32) -> anyhow::Result<()> {
    rss_kib(pid).map(drop).with_context(|| format!("--pid {pid}: there is no such process"))
}

/// CPU time, ms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Cpu {
    pub(crate) user_ms: u64,
    pub(crate) system_ms: u64,
}

impl Cpu {
    pub(crate) fn sum_ms(self) -> u64 {
        self.user_ms + self.system_ms
    }
}

/// CPU time that a process has used, of all its threads, those that have ended included.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<Cpu> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    cpu_of(&stat).with_context(|| format!("/proc/{pid}/stat is not understood"))
}

/// The same, user and kernel mode together.
pub(crate) fn cpu_ms(pid: u32) -> anyhow::Result<u64> {
    Ok(cpu(pid)?.sum_ms())
}

/// Whether this process was started to ignore SIGHUP, as nohup does. Where nobody knows, it may have been.
pub(crate) fn ignores_hangup() -> bool {
    let mask = || {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    // SIGHUP is signal 1, the lowest bit.
    mask().is_none_or(|mask| mask & 1 == 1)
}

/// Memory that the kernel keeps for the data of all TCP sockets, KiB.
pub(crate) fn tcp_kib() -> Option<u64> {
    let sockstat = fs::read_to_string("/proc/net/sockstat").ok()?;
    let tcp = sockstat.lines().find(|line| line.starts_with("TCP:"))?;
    let pages: u64 = tcp.rsplit_once("mem ")?.1.trim().parse().ok()?;
    Some(pages * 4)
}

/// The first number in a file below `/proc/sys`.
pub(crate) fn setting(name: &str) -> Option<u64> {
    numbers(name)?.first().copied()
}

/// All numbers in a file below `/proc/sys`.
pub(crate) fn numbers(name: &str) -> Option<Vec<u64>> {
    let text = fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
    text.split_whitespace().map(|word| word.parse().ok()).collect()
}

/// Memory that can be had without swapping, KiB.
pub(crate) fn available_kib() -> Option<u64> {
    field(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")
}

/// The load averages over 1, 5 and 15 minutes.
pub(crate) fn load_average() -> Option<String> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    Some(text.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
}

/// The kernel's release.
pub(crate) fn kernel() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/osrelease").ok()?.trim().to_owned())
}

fn read(path: &str) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn cpu_of(stat: &str) -> Option<Cpu> {
    // The name, in parentheses, may hold spaces; `utime` and `stime` are the 12th and 13th field behind it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    // A tick is 10 ms in every /proc, whatever the kernel's own is (USER_HZ).
    Some(Cpu { user_ms: user * 10, system_ms: system * 10 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_a_name_with_spaces() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 900 0 0 0 120 30 5 6 20 0 3 0 77 1 2";
        assert_eq!(cpu_of(stat), Some(Cpu { user_ms: 1_200, system_ms: 300 }));
        assert_eq!(cpu_of("42 (a) S 1"), None);
    }

    #[test]
    fn memory_is_found_by_its_name() {
        assert_eq!(field("VmHWM:\t  9 kB\nVmRSS:\t  8124 kB\n", "VmRSS:"), Some(8_124));
        assert_eq!(field("VmHWM:\t9 kB\n", "VmRSS:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_can_be_looked_at() {
        let own = std::process::id();
        assert!(rss_kib(own).unwrap() > 100);
        cpu_ms(own).unwrap();
        assert!(tcp_kib().is_some() && available_kib().is_some());
    }
}
