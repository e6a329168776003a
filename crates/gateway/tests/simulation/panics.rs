//! Panics of simulated tasks: the runtime keeps them to itself.

use std::{cell::RefCell, sync::Once};

thread_local! {
    static SEEN: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Notes panics of this thread from now on, one by one.
pub(crate) fn forget() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            SEEN.with_borrow_mut(|seen| seen.get_or_insert_with(|| info.to_string()).len());
            before(info);
        }));
    });
    take();
}

/// The first panic since the last call.
pub(crate) fn take() -> Option<String> {
    SEEN.with_borrow_mut(Option::take)
}
