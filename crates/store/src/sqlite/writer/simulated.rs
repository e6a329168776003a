//! The writer as a task of a simulated runtime.

use super::{STOPPED_LOOK, Writer};
use crate::simulation::Simulation;

impl Writer {
    /// [`Writer::run`], with virtual time before a commit and between it and its answers.
    pub(crate) async fn run_simulated(mut self, simulation: Simulation) {
        loop {
            let stopped = self.conn.is_none() || self.shared.stopped();
            let idle = stopped.then_some(STOPPED_LOOK);
            let Some(mut batch) = self.shared.queue.take_simulated(self.shared.batch, idle).await
            else {
                break;
            };
            if self.conn.is_none() && !self.reopen() {
                let reason = "its database cannot be opened".to_owned();
                self.answer_unavailable(batch, &reason);
                continue;
            }
            self.watch_space(&mut batch);
            if batch.is_empty() {
                self.remove_loose_blobs();
                continue;
            }
            // A crash here loses all of it.
            simulation.commit_pause().await;
            let started = std::time::Instant::now();
            let done = self.commit(&mut batch);
            // A crash here leaves it in the file, and nobody was told.
            simulation.commit_pause().await;
            self.conclude(batch, done, started.elapsed());
        }
    }
}
