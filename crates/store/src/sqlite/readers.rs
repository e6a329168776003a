//! The connections that read.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{checkpoint, fault::Result, schema};

/// Connections that read. Made when first needed.
#[derive(Clone)]
pub(crate) struct Readers {
    path: Arc<Path>,
    idle: Arc<Mutex<Vec<Connection>>>,
    pub(super) permits: Arc<Semaphore>,
    count: usize,
}

impl Readers {
    pub(super) fn new(path: PathBuf, count: usize) -> Self {
        let permits = Arc::new(Semaphore::new(count));
        Self { path: path.into(), idle: Arc::default(), permits, count }
    }

    pub(super) fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self) -> Result<Connection> {
        let idle = self.idle().pop();
        idle.map_or_else(|| schema::open_reader(&self.path), Ok)
    }

    /// Waits until nobody reads, closes every connection, and keeps it so until what it gives is
    /// dropped. Blocks: for the writer's thread. Reads are short, and none waits for the writer.
    pub(crate) fn stand_still(&self) -> Option<OwnedSemaphorePermit> {
        let all = u32::try_from(self.count).unwrap_or(u32::MAX);
        let still = block_on(Arc::clone(&self.permits).acquire_many_owned(all));
        for conn in self.idle().drain(..) {
            checkpoint::close(conn, true);
        }
        // Closed: nobody reads any more anyway.
        still.ok()
    }

    pub(super) fn put_back(&self, conn: Connection) {
        let mut idle = self.idle();
        if !self.permits.is_closed() && idle.len() < self.count {
            idle.push(conn);
        }
    }

    pub(super) fn close(&self) {
        self.permits.close();
        self.idle().clear();
    }
}

/// Runs a future on a thread of our own.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}
