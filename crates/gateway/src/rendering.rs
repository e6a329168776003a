//! Events as dialects write them, encoded once and shared by all who want the same.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use lru::LruCache;
use zapbus_event::{
    Dialect, Event, EventId, InstanceId,
    dialect::{Context, Options, Part, RenderError},
};
use zapbus_store::{Store, StoreError};

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

/// What makes two renderings of one event the same.
type Key = (EventId, Dialect, Options);

/// Renderings of the newest events. Bounded by number and by the size of what it keeps.
pub(crate) struct Rendering {
    store: Store,
    parts: Mutex<LruCache<Key, Arc<[Part]>>>,
    names: Mutex<LruCache<InstanceId, Arc<str>>>,
    /// Names that have changed: what was read before the last of them is not worth keeping.
    changes: AtomicU64,
}

const RENDERINGS: NonZeroUsize = NonZeroUsize::new(512).expect("not zero");
const NAMES: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");

/// A larger rendering is not worth keeping: 512 of them must stay within a few megabytes.
const MAX_KEPT: usize = 8 << 10;

impl Rendering {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            parts: Mutex::new(LruCache::new(RENDERINGS)),
            names: Mutex::new(LruCache::new(NAMES)),
            changes: AtomicU64::new(0),
        }
    }

    /// The messages that `event` becomes, in order. `shared`: others want it too, so that it is
    /// worth remembering.
    pub(crate) async fn parts(
        &self,
        event: &Event,
        dialect: Dialect,
        options: &Options,
        shared: bool,
    ) -> Result<Arc<[Part]>, RenderFailure> {
        let key = (event.id, dialect, *options);
        if shared && let Some(parts) = lock(&self.parts).get(&key) {
            return Ok(Arc::clone(parts));
        }
        let changes = self.changes();
        let name = self.instance_name(event.instance).await?;
        let context = Context { instance_name: &name };
        let parts: Arc<[Part]> = match self.store.restored(event).await? {
            Some(whole) => dialect.encode(&whole, &context, options)?,
            None => dialect.encode(event, &context, options)?,
        }
        .into();
        if shared && parts.iter().map(|part| part.body.len()).sum::<usize>() <= MAX_KEPT {
            let mut kept = lock(&self.parts);
            if changes == self.changes() {
                kept.put(key, Arc::clone(&parts));
            }
        }
        Ok(parts)
    }

    async fn instance_name(&self, id: InstanceId) -> Result<Arc<str>, StoreError> {
        if let Some(name) = lock(&self.names).get(&id) {
            return Ok(Arc::clone(name));
        }
        let changes = self.changes();
        // An instance that is gone leaves events behind that are still owed to global destinations.
        let name: Arc<str> = match self.store.instance(id).await? {
            Some(instance) => instance.name.into(),
            None => "".into(),
        };
        let mut names = lock(&self.names);
        if changes == self.changes() {
            names.put(id, Arc::clone(&name));
        }
        drop(names);
        Ok(name)
    }

    fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Anything may have been renamed.
    pub(crate) fn forget_all(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        lock(&self.names).clear();
        lock(&self.parts).clear();
    }

    /// An instance was renamed or deleted.
    pub(crate) fn forget(&self, id: InstanceId) {
        // First: who has read the old name sees this, or comes before what is cleared here.
        self.changes.fetch_add(1, Ordering::AcqRel);
        lock(&self.names).pop(&id);
        lock(&self.parts).clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing panics while holding these; a cache is worth no crash anyway.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
