//! What needs a session of our own.

use super::answer::Failure;

/// Where Evolution sends messages, manages chats, and keeps what only its own session needs.
pub(super) const PATHS: [&str; 11] = [
    "/instance/setPresence/{instance}",
    "/message/{*rest}",
    "/chat/{*rest}",
    "/group/{*rest}",
    "/call/{*rest}",
    "/label/{*rest}",
    "/business/{*rest}",
    "/template/{*rest}",
    "/settings/{*rest}",
    "/proxy/{*rest}",
    "/chatwoot/{*rest}",
];

/// Refuses it.
pub(super) async fn refuse() -> Failure {
    Failure::not_offered("it sends no messages and manages no chats, groups or sessions")
}
