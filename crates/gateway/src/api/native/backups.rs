//! Backups, and changing the encryption key: the operator's own business.

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{accounts::Paging, complete};
use crate::{
    api::{
        auth::Caller,
        body::{OptionalJson, Path, Query},
        error::{ApiError, Changing, Named, What},
        page::{self, Page},
    },
    app::App,
    backups::{Backup, BackupError},
};

/// A backup to take.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BackupRequest {
    /// Letters, digits, `.`, `_` and `-`; the time when left out. Its folder is made in the one
    /// that the operator has configured (`backup.dir`).
    #[serde(default)]
    #[schema(example = "before-upgrade")]
    name: Option<String>,
}

impl From<BackupError> for ApiError {
    fn from(error: BackupError) -> Self {
        let reason = error.to_string();
        match error {
            BackupError::Name => Self::invalid("name", reason),
            BackupError::Exists(name) => Self::Exists { what: "backup", name },
            BackupError::Running(_) => Self::Conflict { code: "backup_running", reason },
            BackupError::NoSpace { .. } => Self::Conflict { code: "no_space", reason },
            BackupError::Folder { .. } => Self::Conflict { code: "refused", reason },
            BackupError::OnServer => Self::Conflict { code: "store_on_server", reason },
            BackupError::Store(error) => error.into(),
        }
    }
}

/// Takes a backup of everything but the encryption key, while events go on. Ask for it by its name
/// to hear how far it is. Not where the database is on a server, which has backups of its own. Needs
/// the admin token.
#[utoipa::path(
    post, path = "/v1/backups", tag = "operations", request_body = BackupRequest,
    responses((status = 202, body = Backup, description = "It is being taken."), Changing)
)]
pub(super) async fn take_backup(
    State(app): State<App>,
    caller: Caller,
    OptionalJson(request): OptionalJson<BackupRequest>,
) -> Result<(StatusCode, axum::Json<Backup>), ApiError> {
    caller.need_admin()?;
    let backup = app.backups.begin(request.name).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(backup)))
}

/// Lists the backups in the gateway's folder, oldest first. Needs the admin token.
#[utoipa::path(
    get, path = "/v1/backups", tag = "operations", params(Paging),
    responses((status = 200, body = Page<Backup>), Named)
)]
pub(super) async fn list_backups(
    State(app): State<App>,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Result<axum::Json<Page<Backup>>, ApiError> {
    caller.need_admin()?;
    let limit = page::limit(paging.limit)?;
    let after: Option<String> = page::after(paging.after.as_deref())?;
    let mut backups = all(&app).await?;
    if let Some(after) = after {
        let known = backups.iter().position(|backup| backup.name == after);
        backups.drain(..known.map_or(backups.len(), |at| at + 1));
    }
    Ok(axum::Json(Page::cut(backups, limit, |backup: &Backup| backup.name.clone())))
}

async fn all(app: &App) -> Result<Vec<Backup>, ApiError> {
    let backups = app.backups.clone();
    tokio::task::spawn_blocking(move || backups.list()).await.map_err(ApiError::internal)
}

/// Shows a backup and how far it is. Needs the admin token.
#[utoipa::path(
    get, path = "/v1/backups/{backup}", tag = "operations",
    params(("backup" = String, Path, description = "Its name.")),
    responses((status = 200, body = Backup), Named)
)]
pub(super) async fn show_backup(
    State(app): State<App>,
    caller: Caller,
    Path(backup): Path<String>,
) -> Result<axum::Json<Backup>, ApiError> {
    caller.need_admin()?;
    let backups = app.backups.clone();
    let found = tokio::task::spawn_blocking(move || backups.show(&backup)).await;
    let found = found.map_err(ApiError::internal)?;
    found.map(axum::Json).ok_or(ApiError::NotFound(What::Backup))
}

/// What rekeying came to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RekeyAnswer {
    /// Secrets that were encrypted anew.
    rewritten: u64,
    /// Secrets that no key given decrypts; they stay as they are.
    unreadable: u64,
    /// Ids of the keys that are still needed, the one that encrypts first.
    keys: Vec<String>,
}

/// Encrypts every stored secret with the first of the keys that the gateway was given, so that the
/// others need not be given any more. Needs the admin token.
#[utoipa::path(
    post, path = "/v1/rekey", tag = "operations",
    responses((status = 200, body = RekeyAnswer), Changing)
)]
pub(super) async fn rekey(
    State(app): State<App>,
    caller: Caller,
) -> Result<axum::Json<RekeyAnswer>, ApiError> {
    caller.need_admin()?;
    complete(async move {
        let done = app.store.rekey(&caller.actor()).await?;
        tracing::info!(
            event = "store.rekeyed",
            rewritten = done.rewritten,
            "secrets were encrypted anew"
        );
        Ok(axum::Json(RekeyAnswer {
            rewritten: done.rewritten,
            unreadable: done.unreadable,
            keys: done.keys,
        }))
    })
    .await
}
