//! How many files may be open: each connection is one, at both of its ends.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Failure;

/// Files that a gateway has open besides its connections, and we besides ours.
const OTHERS: u64 = 200;

/// Lets this process open as many as it may; the gateway does the same for itself.
pub(crate) fn raise_limit() -> Result<(), Failure> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .map_err(|error| format!("the limit on open files cannot be raised: {error}"))?;
    Ok(())
}

/// The limit on open files; `None`: there is none.
pub(crate) fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Files that a process needs for so many connections.
pub(crate) fn needed(connections: usize) -> u64 {
    connections as u64 + OTHERS
}
