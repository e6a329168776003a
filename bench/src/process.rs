//! What Linux tells about a process.

use crate::Failure;

/// CPU time of a process so far, in seconds.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64, Failure> {
    Ok(cpu_times(pid)?.own)
}

/// CPU time of a process and its children, those that have ended too, in seconds.
pub(crate) fn family_cpu_seconds(pid: u32) -> Result<f64, Failure> {
    let times = cpu_times(pid)?;
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let mut sum = times.own + times.ended_children;
    for child in children.split_whitespace() {
        // One that ended since counts among those that have ended, from the next look on.
        sum += cpu_times(child.parse()?).map_or(0.0, |times| times.own);
    }
    Ok(sum)
}

struct CpuTimes {
    own: f64,
    ended_children: f64,
}

fn cpu_times(pid: u32) -> Result<CpuTimes, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may hold anything, but it ends with the last parenthesis.
    let (_, fields) = stat.rsplit_once(") ").ok_or("/proc/<pid>/stat has another shape")?;
    let mut fields = fields.split(' ').skip(11);
    let mut seconds = || -> Option<f64> {
        let mut ticks = || fields.next()?.parse::<u64>().ok();
        let (user, system) = (ticks()?, ticks()?);
        Some((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
    };
    let (own, ended_children) =
        seconds().zip(seconds()).ok_or("/proc/<pid>/stat does not tell of CPU time")?;
    Ok(CpuTimes { own, ended_children })
}

/// Resident memory of a process, now and at its peak.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) now_mib: f64,
    pub(crate) peak_mib: f64,
}

pub(crate) fn memory(pid: u32) -> Result<Memory, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mib = |name: &str| -> Option<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib / 1_024.0)
    };
    let (now_mib, peak_mib) =
        mib("VmRSS:").zip(mib("VmHWM:")).ok_or("/proc/<pid>/status does not tell of memory")?;
    Ok(Memory { now_mib, peak_mib })
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_has_memory_and_spends_time() {
        let pid = std::process::id();
        let memory = super::memory(pid).unwrap();
        assert!(memory.now_mib > 0.5 && memory.peak_mib >= memory.now_mib, "{memory:?}");
        let own = super::cpu_seconds(pid).unwrap();
        assert!(own >= 0.0);
        assert!(super::family_cpu_seconds(pid).unwrap() >= own);
    }
}
