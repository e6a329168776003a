//! Events as dialects write them, encoded once and shared by all who want the same.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use lru::LruCache;
use zapbus_event::{
    AccountId, Dialect, Event, EventId, InstanceId, Kind, Timestamp,
    dialect::{Context, Options, Part, RenderError, evolution::Form},
};
use zapbus_store::{Clock, Store, StoreError};

use crate::{
    media::{self, Links},
    spec::{EVOLUTION_WEBHOOK, Spec},
};

/// Why an event could not be rendered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenderFailure {
    /// The dialect cannot write it.
    #[error(transparent)]
    Dialect(#[from] RenderError),
    /// The store could not be read at the moment.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RenderFailure {
    /// Trying again would not help.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Dialect(_) => true,
            Self::Store(error) => {
                matches!(error, StoreError::EventExpired | StoreError::Corrupt { .. })
            }
        }
    }
}

/// For whom an event is rendered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) dialect: Dialect,
    pub(crate) options: Options,
    /// For what kind of destination.
    pub(crate) form: Form<'a>,
    /// Others want the same at the same time, so that it is worth remembering.
    pub(crate) shared: bool,
}

impl Wanted<'_> {
    /// Under which key it is remembered, if it is.
    fn key(&self, event: &Event) -> Option<Key> {
        // Such a body names the one destination that it is for.
        let is_own = self.dialect == Dialect::Evolution && self.form != Form::Queue;
        (self.shared && !is_own).then_some((event.id, self.dialect, self.options))
    }
}

/// What makes two renderings of one event the same.
type Key = (EventId, Dialect, Options);

/// Renderings of the newest events. Bounded by number and by the size of what it keeps.
pub(crate) struct Rendering {
    store: Store,
    clock: Clock,
    /// Where this server is reached.
    server_url: Box<str>,
    /// What Evolution's bodies call it.
    server_name: Box<str>,
    links: Arc<Links>,
    parts: Mutex<LruCache<Key, Arc<[Part]>>>,
    identities: Mutex<LruCache<InstanceId, Arc<Identity>>>,
    addresses: Mutex<LruCache<InstanceId, Known>>,
    webhooks: Mutex<LruCache<InstanceId, Known>>,
    /// Bodies in Evolution's form show the instance's token.
    show_key: bool,
    /// What instances are called has changed: what was read before the last of them is not worth
    /// keeping.
    changes: AtomicU64,
}

/// What bodies say of an instance.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    /// Its name; empty when it is gone.
    pub(crate) name: Arc<str>,
    /// Its token; empty when it is gone.
    pub(crate) token: String,
    /// What it chooses about files.
    pub(crate) media: media::Choice,
    account: Option<AccountId>,
}

/// The own address of an instance, or the URL of its own webhook, as it was at a time.
#[derive(Debug, Clone)]
struct Known {
    text: Option<Arc<str>>,
    read_at: Timestamp,
}

const RENDERINGS: NonZeroUsize = NonZeroUsize::new(512).expect("not zero");
const INSTANCES: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");

/// A larger rendering is not worth keeping: 512 of them must stay within a few megabytes.
const MAX_KEPT: usize = 8 << 10;

/// How long an instance may be linked to another number, or have another webhook, before every body
/// says so.
const KNOWN_AGE: Duration = Duration::from_secs(10);

impl Rendering {
    pub(crate) fn new(
        store: Store,
        clock: Clock,
        server_url: &str,
        server_name: &str,
        show_key: bool,
        links: Arc<Links>,
    ) -> Self {
        Self {
            store,
            clock,
            server_url: server_url.trim_end_matches('/').into(),
            server_name: server_name.into(),
            links,
            parts: Mutex::new(LruCache::new(RENDERINGS)),
            identities: Mutex::new(LruCache::new(INSTANCES)),
            addresses: Mutex::new(LruCache::new(INSTANCES)),
            webhooks: Mutex::new(LruCache::new(INSTANCES)),
            show_key,
            changes: AtomicU64::new(0),
        }
    }

    /// The messages that `event` becomes, in order.
    pub(crate) async fn parts(
        &self,
        event: &Event,
        wanted: &Wanted<'_>,
    ) -> Result<Arc<[Part]>, RenderFailure> {
        let mut wanted = *wanted;
        wanted.options.evolution.show_key |= self.show_key;
        if let Form::Sqs { server } = &mut wanted.form {
            *server = &self.server_name;
        }
        let key = wanted.key(event);
        if let Some(key) = &key
            && let Some(parts) = lock(&self.parts).get(key)
        {
            return Ok(Arc::clone(parts));
        }
        let changes = self.changes();
        let identity = self.identity(event.instance).await?;
        let own_address = match wanted.dialect {
            Dialect::Evolution => self.own_address(event).await?,
            Dialect::Native | Dialect::Vzaps | Dialect::Ryze => None,
        };
        let own_webhook = match (wanted.dialect, wanted.form) {
            (Dialect::Evolution, Form::Everyone { .. }) => {
                self.own_webhook(event.instance, &identity).await?
            }
            _ => None,
        };
        let form = match wanted.form {
            Form::Everyone { base, .. } => Form::Everyone { own: own_webhook.as_deref(), base },
            form => form,
        };
        let context = Context {
            instance_name: &identity.name,
            instance_token: &identity.token,
            own_address: own_address.as_deref(),
            server_url: &self.server_url,
            form,
        };
        let now = (self.clock)();
        let Wanted { dialect, options, .. } = &wanted;
        let shown = self.links.shown(&self.store, event, *dialect, options, now).await?;
        // A link ends, and a file arrives: what was rendered with it is not for later.
        let key = key.filter(|_| !shown.passes);
        let shown = shown.event.as_ref().unwrap_or(event);
        let parts: Arc<[Part]> = wanted.dialect.encode(shown, &context, &wanted.options)?.into();
        if let Some(key) = key
            && parts.iter().map(|part| part.body.len()).sum::<usize>() <= MAX_KEPT
        {
            let mut kept = lock(&self.parts);
            if changes == self.changes() {
                kept.put(key, Arc::clone(&parts));
            }
        }
        Ok(parts)
    }

    /// [`Self::parts`], and whose event it is.
    pub(crate) async fn parts_of(
        &self,
        event: &Event,
        wanted: &Wanted<'_>,
    ) -> Result<(Arc<[Part]>, Arc<Identity>), RenderFailure> {
        Ok((self.parts(event, wanted).await?, self.identity(event.instance).await?))
    }

    /// What bodies say of an instance.
    pub(crate) async fn identity(&self, id: InstanceId) -> Result<Arc<Identity>, StoreError> {
        if let Some(identity) = lock(&self.identities).get(&id) {
            return Ok(Arc::clone(identity));
        }
        let changes = self.changes();
        // An instance that is gone leaves events behind that are still owed to global destinations.
        let identity = match self.store.instance(id).await? {
            Some(instance) => Identity {
                name: instance.name.into(),
                token: instance.token,
                media: media::Choice::of(&instance.settings),
                account: Some(instance.account),
            },
            None => Identity::default(),
        };
        let identity = Arc::new(identity);
        let mut identities = lock(&self.identities);
        if changes == self.changes() {
            identities.put(id, Arc::clone(&identity));
        }
        drop(identities);
        Ok(identity)
    }

    /// The own address of an event's instance, as it is known by now.
    async fn own_address(&self, event: &Event) -> Result<Option<Arc<str>>, StoreError> {
        let now = (self.clock)();
        let id = event.instance;
        let known = lock(&self.addresses).get(&id).cloned();
        // These events are what changes it.
        let may_change = matches!(event.kind, Kind::InstanceConnected | Kind::InstancePaired);
        if let Some(known) = known
            && !may_change
            && now < known.read_at + KNOWN_AGE
        {
            return Ok(known.text);
        }
        let address: Option<Arc<str>> =
            self.store.instance_status(id).await?.state.address.map(Into::into);
        lock(&self.addresses).put(id, Known { text: address.clone(), read_at: now });
        Ok(address)
    }

    /// The URL of an instance's own webhook in Evolution's API, switched on or not.
    async fn own_webhook(
        &self,
        id: InstanceId,
        identity: &Identity,
    ) -> Result<Option<Arc<str>>, StoreError> {
        let now = (self.clock)();
        let known = lock(&self.webhooks).get(&id).cloned();
        if let Some(known) = known.filter(|known| now < known.read_at + KNOWN_AGE) {
            return Ok(known.text);
        }
        let stored = match identity.account {
            Some(account) => {
                self.store.destination_by_label(account, Some(id), EVOLUTION_WEBHOOK).await
            }
            None => Ok(None),
        };
        let stored = match stored {
            // Its secrets are lost, and its URL with them.
            Err(StoreError::Sealed { .. }) => None,
            stored => stored?,
        };
        let spec = stored.and_then(|stored| serde_json::from_value::<Spec>(stored.spec).ok());
        let url: Option<Arc<str>> = spec.as_ref().and_then(Spec::shown_url).map(Into::into);
        lock(&self.webhooks).put(id, Known { text: url.clone(), read_at: now });
        Ok(url)
    }

    fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Anything may be called otherwise.
    pub(crate) fn forget_all(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        lock(&self.identities).clear();
        lock(&self.webhooks).clear();
        lock(&self.parts).clear();
    }

    /// An instance was renamed, given another token or deleted.
    pub(crate) fn forget(&self, id: InstanceId) {
        // First: who has read what was sees this, or comes before what is cleared here.
        self.changes.fetch_add(1, Ordering::AcqRel);
        lock(&self.identities).pop(&id);
        lock(&self.webhooks).pop(&id);
        lock(&self.parts).clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing panics while holding these; a cache is worth no crash anyway.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
