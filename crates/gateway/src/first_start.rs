//! What must exist before the first request: the operator's token, the credential from the
//! environment, the event that says that we are here.

use serde_json::Value;
use zapbus_event::{CredentialId, Data, Draft, Timestamp, data::SystemStarted};
use zapbus_store::{Actor, Append, Credential, DEFAULT_ACCOUNT, NewEvent, Role, Store, StoreError};

use crate::{
    RunError,
    api::token,
    app::App,
    config::{Bootstrap, Secret},
    directory::token_hash,
};

/// Where the store keeps the hash of the token that was made.
const ADMIN_TOKEN_SETTING: &str = "admin_token_sha256";

/// What the operator is known by.
pub struct AdminToken {
    /// SHA-256 of the token.
    pub hash: [u8; 32],
    /// The token, if it was made just now.
    pub made: Option<Secret>,
}

/// The operator's token: the one configured, else the one made earlier, else a new one.
pub async fn admin_token(
    store: &Store,
    configured: Option<&Secret>,
) -> Result<AdminToken, RunError> {
    if let Some(token) = configured {
        return Ok(AdminToken { hash: token_hash(token.expose()), made: None });
    }
    let kept = store.setting(ADMIN_TOKEN_SETTING).await?;
    if let Some(hash) = kept.as_ref().and_then(read_hash) {
        return Ok(AdminToken { hash, made: None });
    }
    let token = Secret::new(token::make(token::ADMIN_PREFIX)?);
    let hash = token_hash(token.expose());
    // Of several nodes that start on an empty database, one has made it.
    let kept = store.set_setting_once(ADMIN_TOKEN_SETTING, Value::from(hex::encode(hash))).await?;
    Ok(match read_hash(&kept) {
        Some(kept) if kept != hash => AdminToken { hash: kept, made: None },
        _ => AdminToken { hash, made: Some(token) },
    })
}

fn read_hash(value: &Value) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    hex::decode_to_slice(value.as_str()?, &mut hash).ok()?;
    Some(hash)
}

/// Makes the credential of the default account that the environment names, or gives it the secret
/// that the environment says now.
pub async fn bootstrap(store: &Store, wanted: &Bootstrap, now: Timestamp) -> Result<(), RunError> {
    let (Some(public_id), Some(secret)) = (&wanted.client_token, &wanted.client_secret) else {
        return Ok(());
    };
    let actor = Actor("environment".to_owned());
    let hash = token_hash(secret.expose());
    if let Some((credential, hashes)) = store.credential_by_public_id(public_id).await? {
        if !hashes.contains(&hash) {
            // The old secret ends here: whoever changed the environment meant it.
            store.rotate_credential(credential.id, hash, now, &actor).await?;
        }
        return Ok(());
    }
    let account = store
        .account_by_name(DEFAULT_ACCOUNT)
        .await?
        .ok_or(StoreError::NotFound { what: "default account" })?;
    let mut random = [0; 16];
    getrandom::fill(&mut random)?;
    let credential = Credential {
        id: CredentialId::new(now, u128::from_be_bytes(random)),
        role: Role::Account,
        account: Some(account.id),
        instance: None,
        name: "bootstrap".to_owned(),
        public_id: Some(public_id.clone()),
        created_at: now,
        expires_at: None,
    };
    match store.create_credential(credential, hash, &actor, None).await {
        // Another node that starts at the same time, from the same environment, was first.
        Ok(_) | Err(StoreError::Exists { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Puts `system.started` into the default account's reserved instance. Not being able to is no
/// reason not to start: the readiness says what is wrong.
pub async fn announce(app: &App) {
    if let Err(reason) = append_started(app).await {
        tracing::warn!(event = "gateway.not_announced", reason, "system.started was not written");
    }
}

async fn append_started(app: &App) -> Result<(), String> {
    let account = app
        .store
        .account_by_name(DEFAULT_ACCOUNT)
        .await
        .map_err(|error| error.to_string())?
        .ok_or("there is no default account")?;
    let reserved = app.directory.reserved(account.id).await.map_err(|error| error.to_string())?;
    let data = Data::SystemStarted(SystemStarted {
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        server_url: Some(app.public_url.clone()),
    });
    let draft = Draft::of_gateway(&data, (app.clock)());
    let events = vec![NewEvent { instance: reserved.instance.id, draft }];
    app.ingest
        .append(Append { events, body: None })
        .await
        .map(drop)
        .map_err(|error| error.to_string())
}
