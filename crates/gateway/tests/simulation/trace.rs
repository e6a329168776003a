//! What happened, in order: for people, and as a number that two equal runs share.

use tokio::time::Instant;

/// Lines of virtual time.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    started: Option<Instant>,
    /// Virtual milliseconds of the lives before this one.
    before: u64,
    lines: Vec<String>,
    hash: u64,
}

impl Trace {
    /// A life begins.
    pub(crate) fn begin(&mut self) {
        self.before = self.now();
        self.started = Some(Instant::now());
    }

    /// A life ends: its clock ends with it.
    pub(crate) fn end(&mut self) {
        self.before = self.now();
        self.started = None;
    }

    /// Virtual milliseconds since the beginning.
    pub(crate) fn now(&self) -> u64 {
        let here = self.started.map_or(0, |started| started.elapsed().as_millis() as u64);
        self.before + here
    }

    pub(crate) fn note(&mut self, what: &str) {
        let line = format!("{:>10} ms  {what}", self.now());
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.lines.push(line);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// All of it.
    pub(crate) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }
}
