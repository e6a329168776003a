//! Hands the readers of `zapbus_gateway::api::fuzzing` to libFuzzer, one binary each.

#[doc(hidden)]
pub use {libfuzzer_sys, zapbus_gateway::api::fuzzing};

/// The whole of a fuzz binary: runs the target of this name.
#[macro_export]
macro_rules! fuzz {
    ($name:literal) => {
        static RUN: std::sync::LazyLock<fn(&[u8])> = std::sync::LazyLock::new(|| {
            $crate::fuzzing::target($name).expect("it is one of the targets").run
        });

        $crate::libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (*RUN)(bytes));
    };
}
