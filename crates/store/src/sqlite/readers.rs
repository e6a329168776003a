//! The connections that read.

use std::{
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use rusqlite::Connection;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError},
    task::{JoinError, JoinHandle},
};

use super::{
    checkpoint,
    fault::{Fault, Result},
    queue, schema,
};
use crate::StoreError;

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

    /// Does `work` as soon as there is a place for it.
    ///
    /// A place is given to who has waited longest, whether he looks or not: a caller that does
    /// something else meanwhile would keep it from everybody, and perhaps wait for one of them. So
    /// whoever cannot begin at once has a task that waits, and works, in his stead.
    pub(super) async fn in_turn<T, F>(
        &self,
        work: impl FnOnce(OwnedSemaphorePermit) -> F + Send + 'static,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
        T: Send + 'static,
    {
        let permits = Arc::clone(&self.permits);
        match Arc::clone(&permits).try_acquire_owned() {
            Ok(place) => work(place).await,
            Err(TryAcquireError::Closed) => Err(queue::closed()),
            Err(TryAcquireError::NoPermits) => {
                let waiting = AbortOnDrop(tokio::spawn(async move {
                    let place = permits.acquire_owned().await.map_err(|_| queue::closed())?;
                    work(place).await
                }));
                waiting.await.unwrap_or_else(|error| Err(Fault::Broken(error.to_string()).into()))
            }
        }
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

/// A task that nobody needs any more when its caller goes away.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Future for AbortOnDrop<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;

    async fn others_go_on() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn who_waits_for_a_place_and_does_not_look_keeps_it_from_nobody() {
        let readers = Readers::new("nowhere".into(), 1);
        let first = Arc::clone(&readers.permits).try_acquire_owned().unwrap();
        let mut inattentive = std::pin::pin!(readers.in_turn(|_place| async { Ok(1) }));
        assert!(inattentive.as_mut().now_or_never().is_none());
        others_go_on().await;
        drop(first);
        let next = readers.in_turn(|_place| async { Ok(2) });
        let soon = Duration::from_secs(10);
        assert_eq!(tokio::time::timeout(soon, next).await.unwrap().unwrap(), 2);
        assert_eq!(tokio::time::timeout(soon, inattentive).await.unwrap().unwrap(), 1);
    }

    #[tokio::test]
    async fn who_goes_away_does_not_wait_any_more() {
        let readers = Readers::new("nowhere".into(), 1);
        let first = Arc::clone(&readers.permits).try_acquire_owned().unwrap();
        let (begun, mut begins) = tokio::sync::oneshot::channel();
        let mut gone = Box::pin(readers.in_turn(|_place| async {
            let _ = begun.send(());
            Ok(())
        }));
        assert!(gone.as_mut().now_or_never().is_none());
        others_go_on().await;
        drop(gone);
        drop(first);
        others_go_on().await;
        readers.in_turn(|_place| async { Ok(()) }).await.unwrap();
        assert!(begins.try_recv().is_err());
    }
}
