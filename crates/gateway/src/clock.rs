//! What time it is. Passed in everywhere, so that tests set it.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use zapbus_event::Timestamp;
use zapbus_store::Clock;

/// The computer's clock.
pub fn system() -> Clock {
    Arc::new(|| {
        // A clock set before 1970 reads as 1970: the journal's times never go back anyway.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    })
}
