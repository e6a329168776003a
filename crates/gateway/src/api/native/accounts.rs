//! Tenants.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use zapbus_event::{AccountId, Timestamp};
use zapbus_store::{Account, DEFAULT_ACCOUNT};

use super::{complete, name_fault, refuse_if_any};
use crate::{
    api::{
        auth::Caller,
        body::{Json, Path, Query},
        error::{ApiError, Changing, Common, Named},
        idempotency::Once,
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
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<Account> for AccountAnswer {
    fn from(account: Account) -> Self {
        Self { id: account.id, name: account.name, created_at: account.created_at }
    }
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
    Ok(axum::Json(caller.account(&app, &account).await?.into()))
}

/// Renames an account. The account `default` keeps its name.
#[utoipa::path(
    patch, path = "/v1/accounts/{account}", tag = "accounts", request_body = AccountRequest,
    params(("account" = String, Path, description = "Id or name.")),
    responses((status = 200, body = AccountAnswer), Changing)
)]
pub(super) async fn rename_account(
    State(app): State<App>,
    caller: Caller,
    Path(account): Path<String>,
    body: Json<AccountRequest>,
) -> Result<axum::Json<AccountAnswer>, ApiError> {
    let mut account = caller.account(&app, &account).await?;
    caller.need_admin()?;
    let name = body.value.name;
    refuse_if_any(name_fault("name", &name).into_iter().collect())?;
    if account.name == DEFAULT_ACCOUNT && name != DEFAULT_ACCOUNT {
        return Err(ApiError::Conflict {
            code: "reserved_account",
            reason: format!(
                "The account `{DEFAULT_ACCOUNT}` is where the admin token acts when it names no \
                 account; it keeps its name. Create another account instead."
            ),
        });
    }
    complete(async move {
        app.store.rename_account(account.id, &name, &caller.actor()).await?;
        account.name = name;
        Ok(axum::Json(account.into()))
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
