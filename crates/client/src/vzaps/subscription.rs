//! A subscription with handlers, as the users of VZaps know it.

use std::{
    collections::HashMap,
    error::Error as StdError,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::FutureExt as _;
use tokio::sync::watch;

use super::{Client, Feed, Happening, RealtimeEvent, Watch};
use crate::{Delivery, Error};

/// What a handler may fail with.
pub type HandlerError = Box<dyn StdError + Send + Sync>;

/// The name that stands for every event.
const ALL: &str = "All";

/// What went wrong with a subscription.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// With the connection, or a frame on it. It goes on unless it was the end.
    #[error("{0}")]
    Connection(Error),
    /// With a handler: the event is not acknowledged, and comes again.
    #[error("a handler of {kind} has failed for {id}: {error}")]
    Handler {
        /// The event's id.
        id: String,
        /// The event's name.
        kind: String,
        /// What the handler says; that it has panicked, if it has.
        error: HandlerError,
    },
}

type Handling = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>;
type EventHandler = Arc<dyn Fn(RealtimeEvent) -> Handling + Send + Sync>;
type ErrorHandler = Arc<dyn Fn(&Trouble) + Send + Sync>;
type LifeHandler = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Handlers {
    events: HashMap<String, Vec<EventHandler>>,
    errors: Vec<ErrorHandler>,
    opens: Vec<LifeHandler>,
    closes: Vec<LifeHandler>,
}

/// How far it is.
#[derive(Debug, Clone)]
enum Stage {
    New,
    Running,
    Closing,
    Ended(Option<Error>),
}

tokio::task_local! {
    /// The subscription whose handler runs in this task.
    static HANDLING: usize;
}

struct Inner {
    client: Client,
    watch: Watch,
    handlers: Mutex<Handlers>,
    stage: watch::Sender<Stage>,
}

/// A subscription with handlers: each event goes to those of its name and to those of `All`, one
/// after the other, and is acknowledged when all have returned. When one fails it is not, and comes
/// again.
#[derive(Clone)]
pub struct EventSubscription(Arc<Inner>);

impl std::fmt::Debug for EventSubscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("EventSubscription").field(&self.0.watch).finish()
    }
}

impl EventSubscription {
    pub(super) fn new(client: Client, watch: Watch) -> Self {
        Self(Arc::new(Inner {
            client,
            watch,
            handlers: Mutex::default(),
            stage: watch::Sender::new(Stage::New),
        }))
    }

    /// Handles events of a name, or all with `All`.
    pub fn on<H, F>(&self, event: &str, handler: H) -> &Self
    where
        H: Fn(RealtimeEvent) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        let handler: EventHandler = Arc::new(move |event| Box::pin(handler(event)));
        self.handlers().events.entry(event.to_owned()).or_default().push(handler);
        self
    }

    /// Is called each time a connection is open.
    pub fn on_open(&self, handler: impl Fn() + Send + Sync + 'static) -> &Self {
        self.handlers().opens.push(Arc::new(handler));
        self
    }

    /// Is told what goes wrong.
    pub fn on_error(&self, handler: impl Fn(&Trouble) + Send + Sync + 'static) -> &Self {
        self.handlers().errors.push(Arc::new(handler));
        self
    }

    /// Is called each time a connection has ended.
    pub fn on_close(&self, handler: impl Fn() + Send + Sync + 'static) -> &Self {
        self.handlers().closes.push(Arc::new(handler));
        self
    }

    /// Connects in the background, and goes on trying. Does nothing when it is open.
    pub fn open(&self) {
        let began = self.0.stage.send_if_modified(|stage| {
            let begins = matches!(stage, Stage::New | Stage::Ended(_));
            if begins {
                *stage = Stage::Running;
            }
            begins
        });
        if began {
            let feed = Feed::open(self.0.client.clone(), self.0.watch.clone());
            tokio::spawn(self.clone().pump(feed));
        }
    }

    /// Closes it, and waits until that is done: the event that is being handled is finished first.
    /// Called by a handler, it does not wait for that handler.
    pub async fn close(&self) {
        self.0.stage.send_if_modified(|stage| {
            let is_running = matches!(stage, Stage::Running);
            if is_running {
                *stage = Stage::Closing;
            }
            is_running
        });
        let by_handler = HANDLING.try_with(|whose| *whose == self.identity());
        if !by_handler.unwrap_or_default() {
            // Why it had ended was told already.
            let _ = self.wait_closed().await;
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// Why it has ended, if nobody closed it.
    pub async fn wait_closed(&self) -> Result<(), Error> {
        let mut stage = self.0.stage.subscribe();
        let at_rest = |stage: &Stage| matches!(stage, Stage::New | Stage::Ended(_));
        match stage.wait_for(at_rest).await.as_deref() {
            Ok(Stage::Ended(Some(error))) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Tells it apart from others that live at the same time.
    fn identity(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    fn handlers(&self) -> MutexGuard<'_, Handlers> {
        self.0.handlers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pump(self, mut feed: Feed) {
        let mut stage = self.0.stage.subscribe();
        let mut end = None;
        let mut is_open = false;
        loop {
            let happening = tokio::select! {
                biased;
                _ = stage.wait_for(|stage| matches!(stage, Stage::Closing)) => break,
                happening = feed.next() => happening,
            };
            match happening {
                Some(Happening::Opened) => {
                    is_open = true;
                    let opens = self.handlers().opens.clone();
                    opens.iter().for_each(|handler| handler());
                }
                Some(Happening::Event(delivery)) => self.handle(delivery).await,
                Some(Happening::Trouble(error)) => self.tell(&Trouble::Connection(error)),
                Some(Happening::Closed) => {
                    is_open = false;
                    self.tell_closed();
                }
                Some(Happening::Ended(error)) => {
                    if let Some(error) = &error {
                        self.tell(&Trouble::Connection(error.clone()));
                    }
                    end = error;
                    break;
                }
                None => break,
            }
        }
        feed.close().await;
        if is_open {
            self.tell_closed();
        }
        self.0.stage.send_replace(Stage::Ended(end));
    }

    async fn handle(&self, delivery: Delivery) {
        let event: RealtimeEvent = match delivery.read() {
            Ok(event) => event,
            Err(error) => return self.tell(&Trouble::Connection(error)),
        };
        let handlers: Vec<EventHandler> = {
            let handlers = self.handlers();
            let of = |name: &str| handlers.events.get(name).into_iter().flatten().cloned();
            of(&event.kind).chain(of(ALL)).collect()
        };
        for handler in handlers {
            let handling = async { handler(event.clone()).await };
            let handling = HANDLING.scope(self.identity(), handling);
            let failed = match AssertUnwindSafe(handling).catch_unwind().await {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error,
                Err(_) => "it has panicked".into(),
            };
            let (id, kind) = (event.id, event.kind);
            self.tell(&Trouble::Handler { id, kind, error: failed });
            return;
        }
        // Closed meanwhile: it comes again.
        let _ = delivery.ack();
    }

    fn tell(&self, trouble: &Trouble) {
        let errors = self.handlers().errors.clone();
        errors.iter().for_each(|handler| handler(trouble));
    }

    fn tell_closed(&self) {
        let closes = self.handlers().closes.clone();
        closes.iter().for_each(|handler| handler());
    }
}
