//! Who changed what.

use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use zapbus_event::{AccountId, AuditId, Timestamp};
use zapbus_store::Audit;

use super::accounts::Paging;
use crate::{
    api::{
        auth::Caller,
        body::Query,
        error::{ApiError, Common},
        page::{self, Page},
    },
    app::App,
};

/// One change of the configuration.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Audit)]
pub(super) struct AuditAnswer {
    /// Its id.
    #[schema(value_type = String)]
    id: AuditId,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// In which account.
    #[schema(value_type = Option<String>)]
    account: Option<AccountId>,
    /// Who: the id of a credential or of an instance (by its token), `admin`, `environment`.
    actor: String,
    /// What: `destination.create`, `instance.delete`, …
    #[schema(example = "destination.create")]
    action: String,
    /// On what: an id.
    target: String,
    /// What changed; never a secret.
    #[schema(value_type = Object)]
    detail: Value,
}

impl From<Audit> for AuditAnswer {
    fn from(audit: Audit) -> Self {
        Self {
            id: audit.id,
            at: audit.at,
            account: audit.account,
            actor: audit.actor,
            action: audit.action,
            target: audit.target,
            detail: audit.detail,
        }
    }
}

/// Lists the changes of the configuration, newest first. With the admin token: of all accounts,
/// or of that of the header `zapbus-account`.
#[utoipa::path(
    get, path = "/v1/audit", tag = "operations",
    params(
        Paging,
        ("zapbus-account" = Option<String>, Header, description = "With the admin token: the account to act in, by id or name."),
    ),
    responses((status = 200, body = Page<AuditAnswer>), Common)
)]
pub(super) async fn list_audit(
    State(app): State<App>,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Result<axum::Json<Page<AuditAnswer>>, ApiError> {
    caller.need_account()?;
    let limit = page::limit(paging.limit)?;
    let after: Option<AuditId> = page::after(paging.after.as_deref())?;
    let lines = app.store.audit(caller.account, after, limit + 1).await?;
    let page = Page::cut(lines, limit, |line: &Audit| line.id.to_string());
    Ok(axum::Json(page.map(AuditAnswer::from)))
}
