//! What the SDKs have that an event bus does not do.

use super::{access::Access, answer::Failure, body::Path};
use crate::app::App;
use axum::extract::State;

/// Refuses, once it is clear that the caller may ask.
pub(super) async fn refuse(
    State(app): State<App>,
    access: Access,
    Path((instance, operation)): Path<(String, String)>,
) -> Result<(), Failure> {
    access.instance(&app, &instance).await?;
    let what = match operation.split('/').next().unwrap_or_default() {
        "subscribe" | "resume-subscription" | "cancel" => "it has no plans and bills nothing",
        "chat" | "messages" => "it does not send or change messages",
        _ => "it does not manage chats, groups, contacts or bots",
    };
    Err(Failure::not_offered(what))
}
