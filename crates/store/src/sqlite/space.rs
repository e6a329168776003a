//! How much disk is left.

use std::{path::PathBuf, time::Duration};

use tokio::time::Instant;

const LOOK: Duration = Duration::from_millis(250);
/// After the disk said it was full, it is believed for so long whatever it says.
const BELIEVED: Duration = Duration::from_secs(1);
/// What the operator is told then.
pub(crate) const FULL: &str = "the disk is full: free some space";

/// Looks at the disk now and then.
pub(crate) struct Space {
    path: PathBuf,
    looked: Option<Instant>,
    free: u64,
    full_until: Option<Instant>,
}

impl Space {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, looked: None, free: u64::MAX, full_until: None }
    }

    /// A write failed for want of space.
    pub(crate) fn note_full(&mut self) {
        self.full_until = Some(Instant::now() + BELIEVED);
        self.looked = None;
    }

    /// Why there is no room for appends, if there is none.
    pub(crate) fn shortage(&mut self, min_free: u64) -> Option<String> {
        let now = Instant::now();
        if self.looked.is_none_or(|looked| now - looked >= LOOK) {
            self.looked = Some(now);
            self.free = free(&self.path).unwrap_or(u64::MAX);
        }
        if self.full_until.is_some_and(|until| now < until) {
            return Some(FULL.to_owned());
        }
        (self.free < min_free).then(|| {
            format!(
                "only {} MiB of disk are free and {} MiB must be: free some space",
                self.free >> 20,
                min_free >> 20
            )
        })
    }
}

/// Bytes that an ordinary user may still write on the disk of `path`.
pub(crate) fn free(path: &std::path::Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}
