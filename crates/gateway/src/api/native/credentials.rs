//! Tokens of an account, for all of it or for one of its instances.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zapbus_event::{AccountId, CredentialId, InstanceId, Timestamp};
use zapbus_store::{Account, Credential, Role};

use super::{
    accounts::Paging, complete, destinations::operations::overlap, name_fault, refuse_if_any,
};
use crate::{
    api::{
        auth::Caller,
        body::{Json, OptionalJson, Path, Query},
        error::{ApiError, Changing, Fault, Named, What},
        idempotency::Once,
        page::{self, Page},
        token,
    },
    app::App,
    directory::token_hash,
};

/// A token without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Credential)]
pub(super) struct CredentialAnswer {
    /// Its id.
    #[schema(value_type = String, example = "crd_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    id: CredentialId,
    /// What its owner calls it.
    name: String,
    /// `account` (all of the account) or `instance` (events and destinations of one instance).
    #[schema(value_type = String, example = "account")]
    role: Role,
    /// Its account.
    #[schema(value_type = Option<String>)]
    account: Option<AccountId>,
    /// Its instance, for the role `instance`.
    #[schema(value_type = Option<String>)]
    instance: Option<InstanceId>,
    /// A public id that goes with the secret, for dialects that ask for both.
    #[schema(example = "zbc_…")]
    client_token: Option<String>,
    /// The token; shown only when it is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "zb_…")]
    secret: Option<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// From when on it is refused.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

impl From<Credential> for CredentialAnswer {
    fn from(credential: Credential) -> Self {
        Self {
            id: credential.id,
            name: credential.name,
            role: credential.role,
            account: credential.account,
            instance: credential.instance,
            client_token: credential.public_id,
            secret: None,
            created_at: credential.created_at,
            expires_at: credential.expires_at,
        }
    }
}

/// What a new credential may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Reach {
    /// Everything in the account.
    #[default]
    Account,
    /// Events and destinations of one instance.
    Instance,
}

/// A new credential.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateCredential {
    /// What you call it: 1 to 120 characters.
    #[schema(example = "n8n")]
    name: String,
    /// `account` or `instance`; `account` when left out.
    #[serde(default)]
    #[schema(inline)]
    role: Reach,
    /// For the role `instance`: which, by id or name.
    #[serde(default)]
    instance: Option<String>,
    /// For the role `account`: a public id of your own, 1 to 256 visible ASCII characters, unique
    /// for the gateway. Made when left out.
    #[serde(default)]
    client_token: Option<String>,
    /// From when on it is refused; never when left out.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

/// When a credential ends.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpireCredential {
    /// From when on it is refused; now when left out.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Timestamp>,
}

/// How long the old secret goes on working.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateCredential {
    /// Seconds for which the old secret works beside the new one: 0 to 2592000; 86400 when left
    /// out.
    #[serde(default)]
    overlap_s: Option<u64>,
}

/// The account, for whoever may manage its credentials.
async fn managed(app: &App, caller: &Caller, account: &str) -> Result<Account, ApiError> {
    let account = caller.account(app, account).await?;
    caller.need_account()?;
    Ok(account)
}

/// A credential of the account.
async fn find(app: &App, account: &Account, text: &str) -> Result<Credential, ApiError> {
    let unknown = ApiError::NotFound(What::Credential);
    let Ok(id) = text.parse::<CredentialId>() else {
        return Err(unknown);
    };
    let all = app.store.credentials(Some(account.id)).await?;
    all.into_iter().find(|credential| credential.id == id).ok_or(unknown)
}

/// Lists the credentials of an account.
#[utoipa::path(
    get, path = "/v1/accounts/{account}/credentials", tag = "credentials",
    params(("account" = String, Path, description = "Id or name."), Paging),
    responses((status = 200, body = Page<CredentialAnswer>), Named)
)]
pub(super) async fn list_credentials(
    State(app): State<App>,
    caller: Caller,
    Path(account): Path<String>,
    Query(paging): Query<Paging>,
) -> Result<axum::Json<Page<CredentialAnswer>>, ApiError> {
    let account = managed(&app, &caller, &account).await?;
    let limit = page::limit(paging.limit)?;
    let after: Option<CredentialId> = page::after(paging.after.as_deref())?;
    let mut all = app.store.credentials(Some(account.id)).await?;
    all.retain(|credential| after.is_none_or(|after| credential.id > after));
    all.sort_by_key(|credential| credential.id);
    all.truncate(limit + 1);
    let page = Page::cut(all, limit, |credential: &Credential| credential.id.to_string());
    Ok(axum::Json(page.map(CredentialAnswer::from)))
}

/// Creates a credential and shows its secret, this once.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/credentials", tag = "credentials",
    request_body = CreateCredential,
    params(
        ("account" = String, Path, description = "Id or name."),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes repeats harmless for 24 hours."),
    ),
    responses((status = 201, body = CredentialAnswer, description = "With its secret, which is not shown again."), Changing)
)]
pub(super) async fn create_credential(
    State(app): State<App>,
    caller: Caller,
    Path(account): Path<String>,
    once: Once,
    body: Json<CreateCredential>,
) -> Result<Response, ApiError> {
    let account = managed(&app, &caller, &account).await?;
    let creation = match once.begin(&app, &caller, &body.bytes).await? {
        Ok(creation) => creation,
        Err(answer) => return Ok(answer),
    };
    let request = body.value;
    let now = (app.clock)();
    let mut faults: Vec<_> = name_fault("name", &request.name).into_iter().collect();
    if request.expires_at.is_some_and(|at| at <= now) {
        faults.push(Fault::new("expires_at", "expected a time to come"));
    }
    match (request.role, &request.instance) {
        (Reach::Instance, None) => {
            faults.push(Fault::new("instance", "is needed for this role"));
        }
        (Reach::Account, Some(_)) => {
            faults.push(Fault::new("instance", "goes with the role `instance`"));
        }
        _ => {}
    }
    if let Some(client_token) = &request.client_token {
        if request.role == Reach::Instance {
            faults.push(Fault::new("client_token", "goes with the role `account`"));
        }
        let fits = (1..=256).contains(&client_token.len())
            && client_token.bytes().all(|byte| byte.is_ascii_graphic());
        if !fits {
            let expected = "expected 1 to 256 visible ASCII characters";
            faults.push(Fault::new("client_token", expected));
        }
    }
    refuse_if_any(faults)?;
    let client_token = match (request.role, request.client_token) {
        (_, Some(given)) => Some(given),
        (Reach::Account, None) => Some(format!("zbc_{:032x}", token::random()?)),
        (Reach::Instance, None) => None,
    };
    let instance = match &request.instance {
        Some(text) => {
            let known = caller.within(account.id).instance(&app, text).await?;
            Some(known.instance.id)
        }
        None => None,
    };
    let secret = token::generate()?;
    let credential = Credential {
        id: CredentialId::new(now, token::random()?),
        role: match request.role {
            Reach::Account => Role::Account,
            Reach::Instance => Role::Instance,
        },
        account: Some(account.id),
        instance,
        name: request.name,
        public_id: client_token,
        created_at: now,
        expires_at: request.expires_at,
    };
    complete(async move {
        let answer = CredentialAnswer {
            secret: Some(secret.clone()),
            ..CredentialAnswer::from(credential.clone())
        };
        let remember = creation.remember(StatusCode::CREATED, &answer)?;
        let hash = token_hash(&secret);
        match app.store.create_credential(credential, hash, &caller.actor(), remember).await {
            Ok(_) => Ok((StatusCode::CREATED, axum::Json(answer)).into_response()),
            Err(error) => creation.resolve(&app, error).await,
        }
    })
    .await
}

/// Revokes a credential: it is refused from now on.
#[utoipa::path(
    delete, path = "/v1/accounts/{account}/credentials/{credential}", tag = "credentials",
    params(
        ("account" = String, Path, description = "Id or name."),
        ("credential" = String, Path, description = "Its id."),
    ),
    responses((status = 204, description = "It is refused from now on."), Named)
)]
pub(super) async fn revoke_credential(
    State(app): State<App>,
    caller: Caller,
    Path((account, credential)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let account = managed(&app, &caller, &account).await?;
    let credential = find(&app, &account, &credential).await?;
    complete(async move {
        let revoked = app.store.revoke_credential(credential.id, &caller.actor()).await;
        app.directory.forget_credential(credential.id);
        revoked?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// Lets a credential end, now or at a time to come.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/credentials/{credential}/expire", tag = "credentials",
    request_body = ExpireCredential,
    params(
        ("account" = String, Path, description = "Id or name."),
        ("credential" = String, Path, description = "Its id."),
    ),
    responses((status = 200, body = CredentialAnswer), Changing)
)]
pub(super) async fn expire_credential(
    State(app): State<App>,
    caller: Caller,
    Path((account, credential)): Path<(String, String)>,
    OptionalJson(request): OptionalJson<ExpireCredential>,
) -> Result<axum::Json<CredentialAnswer>, ApiError> {
    let account = managed(&app, &caller, &account).await?;
    let credential = find(&app, &account, &credential).await?;
    let at = request.at.unwrap_or_else(|| (app.clock)());
    complete(async move {
        let expired = app.store.expire_credential(credential.id, at, &caller.actor()).await;
        app.directory.forget_credential(credential.id);
        expired?;
        Ok(axum::Json(Credential { expires_at: Some(at), ..credential }.into()))
    })
    .await
}

/// Makes a new secret and shows it. The old one works beside it for a while.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/credentials/{credential}/rotate", tag = "credentials",
    request_body = RotateCredential,
    params(
        ("account" = String, Path, description = "Id or name."),
        ("credential" = String, Path, description = "Its id."),
    ),
    responses((status = 200, body = CredentialAnswer, description = "With the new secret, which is not shown again."), Changing)
)]
pub(super) async fn rotate_credential(
    State(app): State<App>,
    caller: Caller,
    Path((account, credential)): Path<(String, String)>,
    OptionalJson(request): OptionalJson<RotateCredential>,
) -> Result<axum::Json<CredentialAnswer>, ApiError> {
    let account = managed(&app, &caller, &account).await?;
    let credential = find(&app, &account, &credential).await?;
    let overlap = overlap(request.overlap_s)?;
    let secret = token::generate()?;
    complete(async move {
        let old_until = (app.clock)() + overlap;
        let hash = token_hash(&secret);
        let rotated =
            app.store.rotate_credential(credential.id, hash, old_until, &caller.actor()).await;
        app.directory.forget_credential(credential.id);
        rotated?;
        Ok(axum::Json(CredentialAnswer {
            secret: Some(secret),
            ..CredentialAnswer::from(credential)
        }))
    })
    .await
}
