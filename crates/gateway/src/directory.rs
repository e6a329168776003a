//! Who is who: instances by id, name or route, callers by token, app-level sources by account.
//!
//! Every request asks here, so the answers are kept in memory, bounded, and forgotten when what
//! they came from changes. A look-up that was under way during a change is not kept: what is in
//! memory is never older than the last change this process made, nor than what the store has told
//! of other nodes.

mod businesses;
mod holders;

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use lru::LruCache;
use sha2::{Digest, Sha256};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;
use zapbus_event::{AccountId, CredentialId, InstanceId, Timestamp};
use zapbus_store::{Change, Clock, Instance, RESERVED_INSTANCE, Store, StoreError};

use self::businesses::Businesses;
pub use self::holders::Holder;
use crate::{
    ingest::Ignored,
    source::{CloudApi, Source},
};

/// Instances, callers and routes kept in memory at most, each.
const CAPACITY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(19_999);

/// An instance as requests need it.
#[derive(Debug)]
pub struct Known {
    /// The instance.
    pub instance: Instance,
    /// Its source, read.
    pub source: Source,
    /// What it does not take.
    pub ignored: Ignored,
}

impl Known {
    fn new(instance: Instance) -> Result<Self, StoreError> {
        let source = match &instance.source {
            None => Source::Native,
            Some(document) => Source::from_document(document).map_err(|error| {
                StoreError::Corrupt { reason: format!("source of {}: {error}", instance.id) }
            })?,
        };
        let ignored = Ignored::of(&instance.settings);
        Ok(Self { instance, source, ignored })
    }
}

/// What looking for a name across accounts found.
#[derive(Debug, Clone)]
pub enum Named {
    /// The one.
    One(Arc<Known>),
    /// None.
    Nobody,
    /// Several accounts have it.
    Several,
}

/// An account's app-level source.
#[derive(Debug, Clone)]
pub struct AppSource {
    /// Whose.
    pub account: AccountId,
    /// Its secrets.
    pub cloud_api: CloudApi,
}

/// The cached look-ups of one gateway. Cheap to clone; clones share the cache.
#[derive(Clone)]
pub struct Directory {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    /// Raised by every change; a look-up that saw another number does not keep its answer.
    generation: AtomicU64,
    cache: Mutex<Cache>,
    learning: tokio::sync::Mutex<()>,
}

struct Cache {
    instances: LruCache<InstanceId, Arc<Known>>,
    /// By account and name; without an account only where one account has the name.
    names: LruCache<(Option<AccountId>, String), InstanceId>,
    /// By account and route; without an account the oldest in any.
    routes: LruCache<(Option<AccountId>, String), InstanceId>,
    /// Whose number of a business account was seen last, for accounts that share an app.
    businesses: LruCache<String, AccountId>,
    /// Accounts whose kept business accounts are in `businesses`.
    recalled: HashSet<AccountId>,
    holders: LruCache<[u8; 32], Arc<Holder>>,
    /// Credentials by their public id.
    clients: LruCache<String, Arc<Holder>>,
    app_sources: Option<Arc<Vec<AppSource>>>,
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory").finish_non_exhaustive()
    }
}

impl Directory {
    /// An empty one in front of `store`.
    pub fn new(store: Store) -> Self {
        let cache = Cache {
            instances: LruCache::new(CAPACITY),
            names: LruCache::new(CAPACITY),
            routes: LruCache::new(CAPACITY),
            businesses: LruCache::new(CAPACITY),
            recalled: HashSet::new(),
            holders: LruCache::new(CAPACITY),
            clients: LruCache::new(CAPACITY),
            app_sources: None,
        };
        Self {
            inner: Arc::new(Inner {
                store,
                generation: AtomicU64::new(0),
                cache: Mutex::new(cache),
                learning: tokio::sync::Mutex::default(),
            }),
        }
    }

    /// The instance with this id, unless it is being deleted.
    pub async fn instance(&self, id: InstanceId) -> Result<Option<Arc<Known>>, StoreError> {
        if let Some(known) = self.cache().instances.get(&id) {
            return Ok(Some(known.clone()));
        }
        let generation = self.generation();
        let Some(instance) = self.inner.store.instance(id).await? else {
            return Ok(None);
        };
        if instance.deleted_at.is_some() {
            return Ok(None);
        }
        let known = Arc::new(Known::new(instance)?);
        self.keep(generation, |cache| cache.instances.put(id, known.clone()));
        Ok(Some(known))
    }

    /// The instance of an account with this name.
    pub async fn instance_named(
        &self,
        account: AccountId,
        name: &str,
    ) -> Result<Option<Arc<Known>>, StoreError> {
        match self.find_named(Some(account), name).await? {
            Named::One(known) => Ok(Some(known)),
            Named::Nobody | Named::Several => Ok(None),
        }
    }

    /// The only instance with this name in any account.
    pub async fn only_instance_named(&self, name: &str) -> Result<Named, StoreError> {
        self.find_named(None, name).await
    }

    /// The account's instance for events that belong to no number.
    pub async fn reserved(&self, account: AccountId) -> Result<Arc<Known>, StoreError> {
        self.instance_named(account, RESERVED_INSTANCE)
            .await?
            .ok_or(StoreError::NotFound { what: "instance" })
    }

    async fn find_named(
        &self,
        account: Option<AccountId>,
        name: &str,
    ) -> Result<Named, StoreError> {
        let key = (account, name.to_owned());
        let kept = self.cache().names.get(&key).copied();
        if let Some(id) = kept
            && let Some(known) = self.instance(id).await?
        {
            return Ok(Named::One(known));
        }
        let generation = self.generation();
        let mut found = self.inner.store.instances_named(name).await?;
        found.retain(|instance| {
            instance.deleted_at.is_none()
                && account.is_none_or(|account| account == instance.account)
        });
        let Some(instance) = found.pop() else {
            return Ok(Named::Nobody);
        };
        if !found.is_empty() {
            return Ok(Named::Several);
        }
        let known = Arc::new(Known::new(instance)?);
        self.keep(generation, |cache| {
            cache.names.put(key, known.instance.id);
            cache.instances.put(known.instance.id, known.clone());
        });
        Ok(Named::One(known))
    }

    /// The instance of one of these accounts that a source finds by `route`.
    pub async fn instance_routed(
        &self,
        accounts: &[AccountId],
        route: &str,
    ) -> Result<Option<Arc<Known>>, StoreError> {
        if let [account] = accounts {
            return self.find_routed(Some(*account), route).await;
        }
        // One look-up tells for nearly all, however many accounts there are.
        match self.find_routed(None, route).await? {
            None => return Ok(None),
            Some(known) if accounts.contains(&known.instance.account) => return Ok(Some(known)),
            Some(_) => {}
        }
        for account in accounts {
            if let Some(known) = self.find_routed(Some(*account), route).await? {
                return Ok(Some(known));
            }
        }
        Ok(None)
    }

    async fn find_routed(
        &self,
        account: Option<AccountId>,
        route: &str,
    ) -> Result<Option<Arc<Known>>, StoreError> {
        let key = (account, route.to_owned());
        let kept = self.cache().routes.get(&key).copied();
        if let Some(id) = kept
            && let Some(known) = self.instance(id).await?
        {
            return Ok(Some(known));
        }
        let generation = self.generation();
        let found = self.inner.store.instance_by_route(account, route).await?;
        let Some(instance) = found.filter(|instance| instance.deleted_at.is_none()) else {
            return Ok(None);
        };
        let known = Arc::new(Known::new(instance)?);
        self.keep(generation, |cache| {
            cache.routes.put(key, known.instance.id);
            cache.instances.put(known.instance.id, known.clone());
        });
        Ok(Some(known))
    }

    /// The oldest instance of any account that a source finds by `route`.
    pub async fn oldest_routed(&self, route: &str) -> Result<Option<Arc<Known>>, StoreError> {
        self.find_routed(None, route).await
    }

    /// A number of this business account is this account's. Kept in the store: what concerns the
    /// business account as a whole must find its way after a restart too.
    pub async fn saw_business(
        &self,
        waba: &str,
        account: AccountId,
        clock: &Clock,
    ) -> Result<(), StoreError> {
        // No id of Meta's is nearly as long.
        if self.account_seen_with(waba) == Some(account) || waba.len() > 64 {
            return Ok(());
        }
        // One at a time: each reads what the one before it wrote.
        let _turn = self.inner.learning.lock().await;
        let mut seen = Businesses::load(&self.inner.store, account).await?;
        seen.note(waba, clock());
        seen.keep(&self.inner.store, account).await?;
        self.cache().businesses.put(waba.to_owned(), account);
        Ok(())
    }

    /// The account with a number of this business account, if one was seen since the start.
    pub fn account_seen_with(&self, waba: &str) -> Option<AccountId> {
        self.cache().businesses.get(waba).copied()
    }

    /// Which of these accounts has a number of this business account, as far as one was ever seen.
    pub async fn account_of_business(
        &self,
        waba: &str,
        accounts: &[AccountId],
    ) -> Result<Option<AccountId>, StoreError> {
        // Other nodes see numbers too, and say so only in the store.
        let is_alone = !self.inner.store.is_on_server();
        if is_alone && let Some(account) = self.account_seen_with(waba) {
            return Ok(Some(account));
        }
        let unread: Vec<AccountId> = {
            let cache = self.cache();
            let is_unread = |account: &&AccountId| !is_alone || !cache.recalled.contains(*account);
            accounts.iter().filter(is_unread).copied().collect()
        };
        if unread.is_empty() {
            return Ok(None);
        }
        let mut all: Vec<(Timestamp, String, AccountId)> = Vec::new();
        for account in &unread {
            let seen = Businesses::load(&self.inner.store, *account).await?;
            all.extend(seen.0.into_iter().map(|(waba, at)| (at, waba, *account)));
        }
        // Where several accounts had numbers of one, the last one seen counts.
        all.sort_unstable();
        let newest: HashMap<String, AccountId> =
            all.into_iter().map(|(_, waba, account)| (waba, account)).collect();
        let mut cache = self.cache();
        for (waba, account) in newest {
            // What was seen since the start is newer than what was kept, where nobody else sees any.
            if !is_alone || !cache.businesses.contains(&waba) {
                cache.businesses.put(waba, account);
            }
        }
        cache.recalled.extend(unread);
        Ok(cache.businesses.get(waba).copied())
    }

    /// The app-level sources of all accounts.
    pub async fn app_sources(&self) -> Result<Arc<Vec<AppSource>>, StoreError> {
        if let Some(sources) = self.cache().app_sources.clone() {
            return Ok(sources);
        }
        let generation = self.generation();
        let mut sources = Vec::new();
        for account in self.inner.store.accounts().await? {
            let Some(document) = &account.source else {
                continue;
            };
            let source = Source::from_document(document).map_err(|error| StoreError::Corrupt {
                reason: format!("source of {}: {error}", account.id),
            })?;
            if let Source::CloudApi(cloud_api) = source {
                sources.push(AppSource { account: account.id, cloud_api });
            }
        }
        let sources = Arc::new(sources);
        self.keep(generation, |cache| cache.app_sources = Some(sources.clone()));
        Ok(sources)
    }

    /// Forgets an instance: call it with what it was before a change, and with what it is after.
    pub fn forget_instance(&self, instance: &Instance) {
        let mut cache = self.forgetting();
        cache.instances.pop(&instance.id);
        cache.names.pop(&(Some(instance.account), instance.name.clone()));
        cache.names.pop(&(None, instance.name.clone()));
        if let Some(route) = &instance.route {
            cache.routes.pop(&(Some(instance.account), route.clone()));
            cache.routes.pop(&(None, route.clone()));
        }
        cache.holders.pop(&token_hash(&instance.token));
        // Credentials that reach only this instance go with it.
        cache.forget_holders(|holder| holder.instance == Some(instance.id));
    }

    /// Forgets every token of a credential.
    pub fn forget_credential(&self, id: CredentialId) {
        self.forgetting().forget_holders(|holder| holder.credential == Some(id));
    }

    /// Forgets an account with everybody in it.
    pub fn forget_account(&self, id: AccountId) {
        let mut cache = self.forgetting();
        cache.app_sources = None;
        cache.forget_holders(|holder| holder.account == Some(id));
        // Names and routes lead to instances, which are looked up again.
        drop_where(&mut cache.instances, |known| known.instance.account == id);
    }

    /// Forgets what other nodes change, until `stop`.
    pub async fn follow(self, mut changes: broadcast::Receiver<Change>, stop: CancellationToken) {
        loop {
            let change = tokio::select! {
                change = changes.recv() => change,
                () = stop.cancelled() => return,
            };
            match change {
                Ok(change) => self.changed(change),
                // So many that some are gone: any of them may concern what is kept here.
                Err(RecvError::Lagged(_)) => self.changed(Change::Everything),
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn changed(&self, change: Change) {
        match change {
            Change::Account(id) => self.forget_account(id),
            Change::Credential(id) => self.forget_credential(id),
            Change::Instance(id) | Change::Erased(id) => {
                let mut cache = self.forgetting();
                cache.instances.pop(&id);
                // It may have left a name or a route to another one, or share one from now on.
                cache.names.clear();
                cache.routes.clear();
                cache.forget_holders(|holder| holder.instance == Some(id));
            }
            Change::Everything => {
                let mut cache = self.forgetting();
                cache.instances.clear();
                cache.names.clear();
                cache.routes.clear();
                cache.holders.clear();
                cache.clients.clear();
                cache.app_sources = None;
                cache.recalled.clear();
            }
            Change::Destination(_) => {}
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // Nothing here panics half-way through a change.
        self.inner.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Raised by every change of anything that is kept here.
    pub(crate) fn generation(&self) -> u64 {
        self.inner.generation.load(Ordering::Acquire)
    }

    /// The cache, with the answers of look-ups under way made void.
    fn forgetting(&self) -> MutexGuard<'_, Cache> {
        let cache = self.cache();
        self.inner.generation.fetch_add(1, Ordering::AcqRel);
        cache
    }

    fn keep<T>(&self, generation: u64, keep: impl FnOnce(&mut Cache) -> T) {
        let mut cache = self.cache();
        // Under the lock, as `forgetting` raises it under the lock.
        if self.generation() == generation {
            keep(&mut cache);
        }
    }
}

fn drop_where<K: Clone + Eq + Hash, V>(cache: &mut LruCache<K, Arc<V>>, gone: impl Fn(&V) -> bool) {
    let gone = cache.iter().filter(|(_, value)| gone(value));
    let keys: Vec<K> = gone.map(|(key, _)| key.clone()).collect();
    for key in keys {
        cache.pop(&key);
    }
}

/// What a token is found by.
pub fn token_hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}
