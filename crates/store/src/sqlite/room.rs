//! Room in the queue, taken before there is anything to put there.

use std::sync::Arc;

use super::{Shared, queue::AppendJob};
use crate::AppendError;

/// Room in the queue for an append that is being made ready. Given back when it is dropped.
pub(super) struct Room {
    pub(super) shared: Arc<Shared>,
    bytes: usize,
}

impl Room {
    pub(super) fn reserve(shared: &Arc<Shared>, bytes: usize) -> Result<Self, AppendError> {
        shared.queue.reserve(bytes)?;
        Ok(Self { shared: Arc::clone(shared), bytes })
    }

    pub(super) fn use_for(mut self, job: AppendJob) -> Result<(), AppendError> {
        let bytes = std::mem::take(&mut self.bytes);
        self.shared.queue.append_reserved(job, bytes)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shared.queue.release(self.bytes);
    }
}
