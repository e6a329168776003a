//! The official Python SDK, pinned.

use crate::packages::Packages;

const SDK: Packages = Packages { name: "vzaps-0.1.1", folder: "vzaps" };

/// A program of `tests/sdk/vzaps` with the SDK in reach; nothing, once it is said, where the SDK
/// cannot be had.
pub(crate) async fn program(name: &str) -> Option<tokio::process::Command> {
    SDK.program(name).await
}
