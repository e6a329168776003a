//! Pages of instances.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use zapbus_event::{AccountId, InstanceId, Timestamp};
use zapbus_store::{Instance, RESERVED_INSTANCE};

use super::{
    super::{
        access::Access,
        answer::Failure,
        body::{Members, malformed},
    },
    Item,
};
use crate::{api::error::ApiError, app::App};

/// Instances of a page when nobody says, and at most.
const SIZE: u64 = 20;
const MAX_SIZE: u64 = 100;

/// Instances read from the store at one time.
const READ: usize = 1_000;

/// What a page is put together from: just enough to filter and to sort.
struct Line {
    id: InstanceId,
    name: String,
    created_at: Timestamp,
}

/// What a list can be sorted by.
#[derive(Clone, Copy)]
enum Sort {
    Created,
    Name,
    Id,
}

/// Lists the account's instances, by page.
pub(in crate::api::vzaps) async fn list(
    State(app): State<App>,
    access: Access,
    body: Members,
) -> Result<Response, Failure> {
    access.need_account()?;
    let page = body.number(&["page"], 1..=u64::from(u32::MAX))?.unwrap_or(1);
    let size = body.number(&["size", "page_size", "pageSize", "limit"], 1..=MAX_SIZE)?;
    let size = size.unwrap_or(SIZE);
    let inner = match body.first(&["filter"]) {
        None => Members::default(),
        Some(Value::Object(members)) => Members::of(members.clone()),
        Some(_) => return Err(malformed(&["filter"], "an object")),
    };
    let query = match inner.text(&["query", "search", "name"])? {
        Some(query) => Some(query),
        None => body.text(&["search", "query"])?,
    };
    let query = query.unwrap_or_default().to_lowercase();
    let sort = match body.text(&["sort"])?.unwrap_or_default() {
        "" | "created_at" | "createdAt" | "updated_at" | "updatedAt" => Sort::Created,
        "name" => Sort::Name,
        "id" => Sort::Id,
        _ => return Err(malformed(&["sort"], "created_at, name or id")),
    };
    let descending = body.truth(&["sort_desc", "sortDesc"])?;
    let descending = descending.unwrap_or(matches!(sort, Sort::Created));

    let account = access.caller.acting_account(&app).await?;
    let mut lines = matching(&app, account, &query).await?;
    lines.sort_unstable_by(|a, b| {
        let order = match sort {
            Sort::Created => a.created_at.cmp(&b.created_at),
            Sort::Name => a.name.cmp(&b.name),
            Sort::Id => a.id.cmp(&b.id),
        };
        let order = order.then_with(|| a.id.cmp(&b.id));
        if descending { order.reverse() } else { order }
    });
    let total = lines.len() as u64;
    let skipped = usize::try_from((page - 1).saturating_mul(size)).unwrap_or(usize::MAX);
    let mut content = Vec::new();
    for line in lines.iter().skip(skipped).take(usize::try_from(size).unwrap_or(usize::MAX)) {
        // It may have gone since.
        if let Some(instance) = app.store.instance(line.id).await? {
            content.push(Item::of(&app, &instance).await?);
        }
    }
    Ok(Json(json!({
        "page": page,
        "size": size,
        "total": total,
        "total_pages": total.div_ceil(size),
        "content": serde_json::to_value(content).map_err(ApiError::internal)?,
        "summary": { "total": total },
    }))
    .into_response())
}

/// Every instance whose name or id holds the text.
async fn matching(app: &App, account: AccountId, query: &str) -> Result<Vec<Line>, Failure> {
    let is_listed = |instance: &Instance| {
        instance.deleted_at.is_none()
            && instance.name != RESERVED_INSTANCE
            && (query.is_empty()
                || instance.name.to_lowercase().contains(query)
                || instance.id.to_vzaps().to_lowercase().contains(query))
    };
    let mut lines = Vec::new();
    let mut after = None;
    loop {
        let read = app.store.instances(Some(account), after, READ).await?;
        after = read.last().map(|instance| instance.id);
        let is_last = read.len() < READ;
        lines.extend(read.into_iter().filter(is_listed).map(|instance| Line {
            id: instance.id,
            name: instance.name,
            created_at: instance.created_at,
        }));
        if is_last {
            return Ok(lines);
        }
    }
}
