//! What the figures were taken on, and what else went on meanwhile.

use std::{
    fs,
    io::Write,
    os::fd::AsFd,
    path::Path,
    process::Command,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use crate::Failure;

/// Syncs of which the median is taken.
const SYNCS: usize = 41;

/// How busy machine and disk are at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// Processes that run or want to, over the last minute.
    pub(crate) load: f64,
    /// Median of writing 4 KiB and `fdatasync`, in milliseconds.
    pub(crate) sync_ms: f64,
}

/// Looks at load and disk; `folder` is on the disk that matters.
pub(crate) fn weather(folder: &Path) -> Result<Weather, Failure> {
    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or("").parse()?;
    let path = folder.join("sync-probe");
    let mut file = fs::File::create(&path)?;
    let mut took = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let started = Instant::now();
        file.write_all(&[7; 4_096])?;
        rustix::fs::fdatasync(file.as_fd())?;
        took.push(started.elapsed().as_secs_f64() * 1_000.0);
    }
    fs::remove_file(path)?;
    took.sort_unstable_by(f64::total_cmp);
    Ok(Weather { load, sync_ms: took[SYNCS / 2] })
}

/// Machine, toolchain and version, without anything that names a person or a place.
pub(crate) fn facts() -> Value {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let member = |text: &str, name: &str| -> Option<String> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim_start_matches([' ', '\t', ':']).to_owned())
    };
    let memory_mib = member(&memory, "MemTotal")
        .and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok())
        .map(|kib| kib / 1_024);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let dirty = said("git", &["status", "--porcelain", "--untracked-files=no"]);
    json!({
        "cpu": member(&cpu, "model name"),
        "cores": std::thread::available_parallelism().map(usize::from).ok(),
        "memory_mib": memory_mib,
        "kernel": kernel.trim(),
        "rustc": said("rustc", &["--version"]),
        "commit": said("git", &["rev-parse", "HEAD"]),
        "changed_since_commit": dirty.map(|text| !text.is_empty()),
        "unix_time": SystemTime::now().duration_since(UNIX_EPOCH).map(|time| time.as_secs()).ok(),
    })
}

fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
