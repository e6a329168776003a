//! Sessions that are reached by requests of HTTP, by their ids.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;

use super::session::Command;

/// Requests that wait for a session.
const WAITING: usize = 4;

/// All of a node.
#[derive(Debug, Clone, Default)]
pub(super) struct Sessions {
    by_id: Arc<Mutex<HashMap<String, mpsc::Sender<Command>>>>,
}

/// A session that is reached for as long as this is kept.
#[derive(Debug)]
pub(super) struct Registered {
    sessions: Sessions,
    id: String,
}

impl Sessions {
    /// Makes a session known.
    pub(super) fn register(&self, id: String) -> (Registered, mpsc::Receiver<Command>) {
        let (sender, commands) = mpsc::channel(WAITING);
        self.by_id().insert(id.clone(), sender);
        (Registered { sessions: self.clone(), id }, commands)
    }

    /// The door to a session.
    pub(super) fn find(&self, id: &str) -> Option<mpsc::Sender<Command>> {
        self.by_id().get(id).cloned()
    }

    fn by_id(&self) -> MutexGuard<'_, HashMap<String, mpsc::Sender<Command>>> {
        // Nothing panics while holding it.
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.sessions.by_id().remove(&self.id);
    }
}
