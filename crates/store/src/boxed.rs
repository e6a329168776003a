//! Where the compiler's look into futures ends.

use std::pin::Pin;

/// A call of PostgreSQL's engine as one that does not say what it is made of. Whether a future may
/// move between threads is found out by looking through all that it awaits, again for everybody who
/// awaits it: with a database client's and the engine's underneath each call of the store, that took
/// about a third of the compilation of the gateway. The allocation is nothing beside a round trip.
/// SQLite's calls hand over a job and wait for the answer: there is little to look through.
pub(crate) fn boxed<'a, T>(
    call: impl Future<Output = T> + Send + 'a,
) -> Pin<Box<dyn Future<Output = T> + Send + 'a>> {
    Box::pin(call)
}
