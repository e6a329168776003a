//! What `RyzeAPI` has that an event bus does not do.

use axum::extract::State;

use super::{access::Access, answer::Failure, body::Path};
use crate::app::App;

/// Refuses, once it is clear that the caller may ask.
pub(super) async fn refuse(
    State(_): State<App>,
    access: Access,
    Path(operation): Path<String>,
) -> Result<(), Failure> {
    access.need_allowance()?;
    let what = match operation.split('/').next().unwrap_or_default() {
        "message" | "messages" | "send" | "chat" => "it does not send or change messages",
        "events" | "instance" => "there is nothing of this name among its events and instances",
        _ => "it does not manage chats, groups, contacts or integrations",
    };
    Err(Failure::not_offered(what))
}
