//! Who holds a token, and whose a credential is.

use std::sync::Arc;

use zapbus_event::{AccountId, CredentialId, InstanceId, Timestamp};
use zapbus_store::{Credential, Role, StoreError};

use super::{Cache, Directory, drop_where};

/// Whoever holds a token.
#[derive(Debug, Clone)]
pub struct Holder {
    /// What they may do.
    pub role: Role,
    /// In which account (none for an admin).
    pub account: Option<AccountId>,
    /// On which instance, for [`Role::Instance`].
    pub instance: Option<InstanceId>,
    /// The credential, unless the token is an instance's own.
    pub credential: Option<CredentialId>,
    /// From when on the token is refused.
    pub expires_at: Option<Timestamp>,
}

impl Holder {
    fn of(credential: &Credential) -> Self {
        Self {
            role: credential.role,
            account: credential.account,
            instance: credential.instance,
            credential: Some(credential.id),
            expires_at: credential.expires_at,
        }
    }
}

impl Directory {
    /// Whoever holds the token with this hash; nobody once it has expired.
    pub async fn holder(
        &self,
        hash: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<Arc<Holder>>, StoreError> {
        let kept = self.cache().holders.get(&hash).cloned();
        let holder = match kept {
            Some(holder) => holder,
            None => {
                let generation = self.generation();
                let Some(holder) = self.find_holder(hash, now).await? else {
                    return Ok(None);
                };
                let holder = Arc::new(holder);
                self.keep(generation, |cache| cache.holders.put(hash, holder.clone()));
                holder
            }
        };
        Ok(holder.expires_at.is_none_or(|at| at > now).then_some(holder))
    }

    async fn find_holder(
        &self,
        hash: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<Holder>, StoreError> {
        if let Some(instance) = self.inner.store.instance_by_token_hash(hash).await? {
            return Ok(instance.deleted_at.is_none().then_some(Holder {
                role: Role::Instance,
                account: Some(instance.account),
                instance: Some(instance.id),
                credential: None,
                expires_at: None,
            }));
        }
        let found = self.inner.store.credential_by_hash(hash, now).await?;
        Ok(found.map(|credential| Holder::of(&credential)))
    }

    /// Whom the credential with this public id belongs to; nobody once it has expired.
    pub async fn client(
        &self,
        public_id: &str,
        now: Timestamp,
    ) -> Result<Option<Arc<Holder>>, StoreError> {
        let kept = self.cache().clients.get(public_id).cloned();
        let holder = match kept {
            Some(holder) => holder,
            None => {
                let generation = self.generation();
                let found = self.inner.store.credential_by_public_id(public_id).await?;
                let Some((credential, _)) = found else {
                    return Ok(None);
                };
                let holder = Arc::new(Holder::of(&credential));
                let key = public_id.to_owned();
                self.keep(generation, |cache| cache.clients.put(key, holder.clone()));
                holder
            }
        };
        Ok(holder.expires_at.is_none_or(|at| at > now).then_some(holder))
    }
}

impl Cache {
    /// Forgets tokens and credentials of these.
    pub(super) fn forget_holders(&mut self, gone: impl Fn(&Holder) -> bool) {
        drop_where(&mut self.holders, &gone);
        drop_where(&mut self.clients, &gone);
    }
}
