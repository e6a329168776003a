//! Tenants.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use zapbus_event::{AccountId, Timestamp};
use zapbus_store::{Account, DEFAULT_ACCOUNT, InstancePatch};

use super::{complete, instances::alter, name_fault, refuse_if_any};
use crate::{
    api::{
        auth::Caller,
        body::{Json, Path, Query},
        error::{ApiError, Changing, Common, Named},
        idempotency::Once,
        origins,
        page::{self, Page},
        token,
    },
    app::App,
};

/// An account: a tenant that owns instances.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Account)]
pub(super) struct AccountAnswer {
    /// Its id.
    #[schema(value_type = String, example = "acc_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    id: AccountId,
    /// Unique for the gateway.
    #[schema(example = "default")]
    name: String,
    /// The web pages that may open live connections, if the account names any; else those of
    /// `realtime.origins` may. Only where one account is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = json!(["https://app.example.com"]))]
    origins: Option<Vec<String>>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<Account> for AccountAnswer {
    fn from(account: Account) -> Self {
        let Account { id, name, created_at, source: _ } = account;
        Self { id, name, origins: None, created_at }
    }
}

impl AccountAnswer {
    /// With what only one account is shown with.
    async fn whole(app: &App, account: Account) -> Result<Self, ApiError> {
        let origins = origins::of_account(app, account.id).await?;
        let origins = Some(origins).filter(|origins| !origins.is_empty());
        Ok(Self { origins, ..account.into() })
    }
}

/// What to change of an account. What is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeAccount {
    /// A new name. The account `default` keeps its own. Needs the admin token.
    #[serde(default)]
    name: Option<String>,
    /// The web pages that may open live connections, at most 100, or `*`. They count instead of
    /// those of `realtime.origins`; an empty list takes the account's own away.
    #[serde(default)]
    #[schema(example = json!(["https://app.example.com"]))]
    origins: Option<Vec<String>>,
}

/// A name for an account.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountRequest {
    /// 1 to 120 characters, no control characters, no `/`; unique for the gateway.
    #[schema(example = "acme")]
    name: String,
}

/// Which page of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Paging {
    /// `next` of an earlier page.
    pub(super) after: Option<String>,
    /// 1 to 1000; 100 when left out.
    #[param(minimum = 1, maximum = 1000)]
    pub(super) limit: Option<u32>,
}

/// Lists the accounts the token reaches.
#[utoipa::path(
    get, path = "/v1/accounts", tag = "accounts", params(Paging),
    responses((status = 200, body = Page<AccountAnswer>), Common)
)]
pub(super) async fn list_accounts(
    State(app): State<App>,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Result<axum::Json<Page<AccountAnswer>>, ApiError> {
    caller.need_account()?;
    let limit = page::limit(paging.limit)?;
    let after: Option<AccountId> = page::after(paging.after.as_deref())?;
    let mut accounts = app.store.accounts().await?;
    accounts.retain(|account| {
        caller.sees(account.id, None) && after.is_none_or(|after| account.id > after)
    });
    accounts.sort_by_key(|account| account.id);
    accounts.truncate(limit + 1);
    let accounts = accounts.into_iter().map(AccountAnswer::from).collect();
    Ok(axum::Json(Page::cut(accounts, limit, |account: &AccountAnswer| account.id.to_string())))
}

/// Creates an account.
#[utoipa::path(
    post, path = "/v1/accounts", tag = "accounts", request_body = AccountRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes repeats harmless for 24 hours.")),
    responses((status = 201, body = AccountAnswer), Changing)
)]
pub(super) async fn create_account(
    State(app): State<App>,
    caller: Caller,
    once: Once,
    body: Json<AccountRequest>,
) -> Result<Response, ApiError> {
    caller.need_admin()?;
    let creation = match once.begin(&app, &caller, &body.bytes).await? {
        Ok(creation) => creation,
        Err(answer) => return Ok(answer),
    };
    let name = body.value.name;
    refuse_if_any(name_fault("name", &name).into_iter().collect())?;
    let now = (app.clock)();
    let account =
        Account { id: AccountId::new(now, token::random()?), name, source: None, created_at: now };
    complete(async move {
        let answer = AccountAnswer::from(account.clone());
        let remember = creation.remember(StatusCode::CREATED, &answer)?;
        match app.store.create_account(account, &caller.actor(), remember).await {
            Ok(_) => Ok((StatusCode::CREATED, axum::Json(answer)).into_response()),
            Err(error) => creation.resolve(&app, error).await,
        }
    })
    .await
}

/// Shows an account.
#[utoipa::path(
    get, path = "/v1/accounts/{account}", tag = "accounts",
    params(("account" = String, Path, description = "Id or name.")),
    responses((status = 200, body = AccountAnswer), Named)
)]
pub(super) async fn show_account(
    State(app): State<App>,
    caller: Caller,
    Path(account): Path<String>,
) -> Result<axum::Json<AccountAnswer>, ApiError> {
    let account = caller.account(&app, &account).await?;
    AccountAnswer::whole(&app, account).await.map(axum::Json)
}

/// Renames an account, or says which web pages may open its live connections.
#[utoipa::path(
    patch, path = "/v1/accounts/{account}", tag = "accounts", request_body = ChangeAccount,
    params(("account" = String, Path, description = "Id or name.")),
    responses((status = 200, body = AccountAnswer), Changing)
)]
pub(super) async fn change_account(
    State(app): State<App>,
    caller: Caller,
    Path(account): Path<String>,
    body: Json<ChangeAccount>,
) -> Result<axum::Json<AccountAnswer>, ApiError> {
    let mut account = caller.account(&app, &account).await?;
    let ChangeAccount { name, origins } = body.value;
    match name {
        Some(_) => caller.need_admin()?,
        None => caller.need_account()?,
    }
    let mut faults = origins.as_deref().map(origins::faults).unwrap_or_default();
    faults.extend(name.as_deref().and_then(|name| name_fault("name", name)));
    refuse_if_any(faults)?;
    if name.as_ref().is_some_and(|name| account.name == DEFAULT_ACCOUNT && name != DEFAULT_ACCOUNT)
    {
        return Err(ApiError::Conflict {
            code: "reserved_account",
            reason: format!(
                "The account `{DEFAULT_ACCOUNT}` is where the admin token acts when it names no \
                 account; it keeps its name. Create another account instead."
            ),
        });
    }
    complete(async move {
        let actor = caller.actor();
        if let Some(name) = name {
            app.store.rename_account(account.id, &name, &actor).await?;
            account.name = name;
        }
        if let Some(origins) = origins {
            let reserved = app.directory.reserved(account.id).await?;
            let merge_settings = Some(origins::settings(&origins));
            let patch = InstancePatch { merge_settings, ..InstancePatch::default() };
            alter(&app, &reserved.instance, patch, &actor).await?;
        }
        AccountAnswer::whole(&app, account).await.map(axum::Json)
    })
    .await
}

/// Deletes an account that has no instances left.
#[utoipa::path(
    delete, path = "/v1/accounts/{account}", tag = "accounts",
    params(("account" = String, Path, description = "Id or name.")),
    responses((status = 204, description = "It is gone."), Named)
)]
pub(super) async fn delete_account(
    State(app): State<App>,
    caller: Caller,
    Path(account): Path<String>,
) -> Result<StatusCode, ApiError> {
    let account = caller.account(&app, &account).await?;
    caller.need_admin()?;
    complete(async move {
        app.store.delete_account(account.id, &caller.actor()).await?;
        app.lanes.account_deleted(account.id);
        app.directory.forget_account(account.id);
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}
