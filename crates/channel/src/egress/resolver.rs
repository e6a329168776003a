//! From names to addresses.

use std::{
    io,
    net::{IpAddr, ToSocketAddrs as _},
    pin::Pin,
    sync::Arc,
};

use tokio::sync::Semaphore;

/// Where names become addresses; tests have their own.
pub trait Resolver: Send + Sync + 'static {
    /// All addresses of a name.
    ///
    /// # Errors
    ///
    /// When the name has none or cannot be asked for.
    fn resolve<'a>(&'a self, name: &'a str) -> Resolving<'a>;
}

/// What [`Resolver::resolve`] gives.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;

/// How many names are looked up at one time.
const LOOKUPS: usize = 64;

/// The operating system's resolver. It blocks a thread for each name, of those that the store
/// reads with too: when name servers are slow only so many wait for them.
#[derive(Debug, Clone)]
pub struct SystemResolver {
    turns: Arc<Semaphore>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(LOOKUPS)) }
    }
}

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, name: &'a str) -> Resolving<'a> {
        let name = name.to_owned();
        Box::pin(in_turn(Arc::clone(&self.turns), move || {
            Ok((name.as_str(), 0).to_socket_addrs()?.map(|address| address.ip()).collect())
        }))
    }
}

/// Does what blocks when it is its turn. The turn ends with it, and not with a caller who has
/// waited long enough: the thread is taken until then.
async fn in_turn<T: Send + 'static>(
    turns: Arc<Semaphore>,
    look_up: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let turn = turns.acquire_owned().await.map_err(io::Error::other)?;
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        look_up()
    })
    .await
    .map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        time::Duration,
    };

    use super::*;

    #[tokio::test]
    async fn lookups_that_nobody_waits_for_any_more_still_count() {
        let turns = Arc::new(Semaphore::new(2));
        let running = Arc::new(AtomicU64::new(0));
        let most = Arc::new(AtomicU64::new(0));
        for _ in 0..20 {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            let slow = in_turn(Arc::clone(&turns), move || {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(50));
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            });
            // As a connection does that has had enough.
            let _ = tokio::time::timeout(Duration::from_millis(5), slow).await;
        }
        assert_eq!(most.load(Ordering::SeqCst), 2);
        assert_eq!(in_turn(turns, || Ok(7)).await.unwrap(), 7);
        let home = SystemResolver::default();
        assert!(home.resolve("localhost").await.unwrap().iter().all(IpAddr::is_loopback));
        assert!(home.resolve("nowhere.invalid").await.is_err());
    }
}
