//! Credentials.

use zapbus_event::{AccountId, CredentialId, Timestamp};

use crate::boxed::boxed;
use crate::{Actor, Credential, Engine, Remember, Result, Store, sqlite::credentials};

/// # Credentials
impl Store {
    /// Makes a credential. `secret_hash` is the SHA-256 of its secret.
    ///
    /// # Errors
    /// [`crate::StoreError::Exists`] when its public id is taken,
    /// [`crate::StoreError::TokenTaken`] when the secret is somebody's.
    pub async fn create_credential(
        &self,
        credential: Credential,
        secret_hash: [u8; 32],
        actor: &Actor,
        remember: Option<Remember>,
    ) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let actor = actor.clone();
                engine
                    .write(move |tx| {
                        credentials::create(tx, &credential, secret_hash, &actor, remember.as_ref())
                    })
                    .await
            }
            Engine::Postgres(engine) => {
                boxed(engine.create_credential(&credential, secret_hash, actor, remember.as_ref()))
                    .await
            }
        }
    }

    /// Credentials by id, expired ones included.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn credentials(&self, account: Option<AccountId>) -> Result<Vec<Credential>> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                engine.read(move |view| credentials::credentials(view, account)).await
            }
            Engine::Postgres(engine) => boxed(engine.credentials(account)).await,
        }
    }

    /// The credential with this secret, if neither has expired. Its `expires_at` is the earlier
    /// end of the two.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn credential_by_hash(
        &self,
        hash: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<Credential>> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                engine.read(move |view| credentials::by_hash(view, hash, now)).await
            }
            Engine::Postgres(engine) => boxed(engine.credential_by_hash(hash, now)).await,
        }
    }

    /// The credential with this public id, if it has not expired, with the hashes of those of its
    /// secrets that have not either.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn credential_by_public_id(
        &self,
        public_id: &str,
    ) -> Result<Option<(Credential, Vec<[u8; 32]>)>> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let public_id = public_id.to_owned();
                let now = (engine.shared.clock)();
                engine.read(move |view| credentials::by_public_id(view, &public_id, now)).await
            }
            Engine::Postgres(engine) => boxed(engine.credential_by_public_id(public_id)).await,
        }
    }

    /// Gives a credential a new secret. Its old ones go on working until `old_expires_at`.
    ///
    /// # Errors
    /// When there is no such credential.
    pub async fn rotate_credential(
        &self,
        id: CredentialId,
        new_hash: [u8; 32],
        old_expires_at: Timestamp,
        actor: &Actor,
    ) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let actor = actor.clone();
                engine
                    .write(move |tx| credentials::rotate(tx, id, new_hash, old_expires_at, &actor))
                    .await
            }
            Engine::Postgres(engine) => {
                boxed(engine.rotate_credential(id, new_hash, old_expires_at, actor)).await
            }
        }
    }

    /// Lets a credential expire.
    ///
    /// # Errors
    /// When there is no such credential.
    pub async fn expire_credential(
        &self,
        id: CredentialId,
        at: Timestamp,
        actor: &Actor,
    ) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let actor = actor.clone();
                engine.write(move |tx| credentials::expire(tx, id, at, &actor)).await
            }
            Engine::Postgres(engine) => boxed(engine.expire_credential(id, at, actor)).await,
        }
    }

    /// Removes a credential.
    ///
    /// # Errors
    /// When there is no such credential.
    pub async fn revoke_credential(&self, id: CredentialId, actor: &Actor) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let actor = actor.clone();
                engine.write(move |tx| credentials::revoke(tx, id, &actor)).await
            }
            Engine::Postgres(engine) => boxed(engine.revoke_credential(id, actor)).await,
        }
    }
}
