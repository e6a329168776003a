//! What the operating system knows about this process, under the names that every exporter uses.

use std::{fs, time::SystemTime};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::counter::ConstCounter,
};

use super::lag::single;

/// Reads `/proc` when somebody scrapes; where there is none, it has nothing to say.
#[derive(Debug)]
pub(super) struct Process {
    started: f64,
    ticks: f64,
    page: f64,
}

impl Process {
    pub(super) fn new() -> Self {
        let started = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64();
        Self {
            started,
            ticks: rustix::param::clock_ticks_per_second() as f64,
            page: rustix::param::page_size() as f64,
        }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let encoder = &mut encoder;
        let name = "process_start_time_seconds";
        single(encoder, name, "When the gateway was started", self.started)?;
        if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(times) {
            let cpu = ConstCounter::new(stat / self.ticks);
            let help = "User and system time of the process";
            let metric =
                encoder.encode_descriptor("process_cpu_seconds", help, None, cpu.metric_type())?;
            cpu.encode(metric)?;
        }
        let pages = fs::read_to_string("/proc/self/statm").ok();
        let resident =
            pages.as_deref().and_then(|text| text.split(' ').nth(1)?.parse::<f64>().ok());
        if let Some(resident) = resident {
            let name = "process_resident_memory_bytes";
            single(encoder, name, "Memory of the process", resident * self.page)?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            single(encoder, "process_open_fds", "Open files and sockets", open.count() as f64)?;
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        if let Some(limit) = limit {
            single(encoder, "process_max_fds", "Limit of open files and sockets", limit as f64)?;
        }
        Ok(())
    }
}

/// Clock ticks in user and system mode, from `/proc/self/stat`.
fn times(stat: &str) -> Option<f64> {
    // The second field, the name, may hold anything but ends with the last bracket.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) (b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0 100 1 2";
        assert_eq!(times(stat), Some(300.0));
        assert_eq!(times("nonsense"), None);
    }
}
