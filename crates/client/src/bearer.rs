//! The token that requests carry: one that stays, or one that is asked for and runs out.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::Instant};

use crate::Error;

/// A token with how long it may be used.
#[derive(Clone)]
pub struct Lease {
    /// The token.
    pub token: String,
    /// How long it may be used; `None`: until it is refused.
    pub lasts: Option<Duration>,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("lasts", &self.lasts).finish_non_exhaustive()
    }
}

type Asking = Pin<Box<dyn Future<Output = Result<Lease, Error>> + Send>>;

/// Where tokens come from.
#[derive(Clone)]
pub(crate) enum Source {
    /// There is one.
    Fixed(Arc<str>),
    /// Somebody knows.
    Asked(Arc<dyn Fn() -> Asking + Send + Sync>),
}

impl Source {
    pub(crate) fn asked<F, A>(ask: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<Lease, Error>> + Send + 'static,
    {
        Self::Asked(Arc::new(move || Box::pin(ask())))
    }
}

struct Cached {
    token: Arc<str>,
    until: Option<Instant>,
}

/// The token, kept until it runs out or is refused. Asked for once, however many wait for it.
pub(crate) struct Bearer {
    source: Source,
    cached: Mutex<Option<Cached>>,
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(***)")
    }
}

impl Bearer {
    pub(crate) fn new(source: Source) -> Self {
        Self { source, cached: Mutex::new(None) }
    }

    /// The token to use now.
    pub(crate) async fn token(&self) -> Result<Arc<str>, Error> {
        let ask = match &self.source {
            Source::Fixed(token) => return Ok(token.clone()),
            Source::Asked(ask) => ask,
        };
        let mut cached = self.cached.lock().await;
        if let Some(Cached { token, until }) = &*cached
            && until.is_none_or(|until| Instant::now() < until)
        {
            return Ok(token.clone());
        }
        let Lease { token, lasts } = ask().await?;
        let token: Arc<str> = token.into();
        // What cannot be told is taken for "until it is refused".
        let until = lasts.and_then(|lasts| Instant::now().checked_add(lasts));
        *cached = Some(Cached { token: token.clone(), until });
        Ok(token)
    }

    /// The server has refused this one. Whether another may be had.
    pub(crate) async fn refused(&self, token: &str) -> bool {
        if matches!(self.source, Source::Fixed(_)) {
            return false;
        }
        let mut cached = self.cached.lock().await;
        // Somebody else may have asked for a new one meanwhile.
        if cached.as_ref().is_some_and(|cached| &*cached.token == token) {
            *cached = None;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn counting(lasts: Option<Duration>) -> (Arc<AtomicU32>, Bearer) {
        let asked = Arc::new(AtomicU32::new(0));
        let count = asked.clone();
        let source = Source::asked(move || {
            let number = count.fetch_add(1, Ordering::Relaxed);
            async move { Ok(Lease { token: format!("t{number}"), lasts }) }
        });
        (asked, Bearer::new(source))
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_asked_for_again_when_it_has_run_out() {
        let (asked, bearer) = counting(Some(Duration::from_secs(60)));
        let (one, two) = tokio::join!(bearer.token(), bearer.token());
        assert_eq!((&*one.unwrap(), &*two.unwrap()), ("t0", "t0"));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(&*bearer.token().await.unwrap(), "t1");
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_refused_token_is_dropped_once() {
        let (_, bearer) = counting(None);
        assert_eq!(&*bearer.token().await.unwrap(), "t0");
        assert!(bearer.refused("t0").await);
        assert_eq!(&*bearer.token().await.unwrap(), "t1");
        // Late news about the first one.
        assert!(bearer.refused("t0").await);
        assert_eq!(&*bearer.token().await.unwrap(), "t1");
        assert!(!Bearer::new(Source::Fixed("x".into())).refused("x").await);
    }
}
