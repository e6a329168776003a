//! The real binary while something it depends on fails: the disk, its sync, the clock, the
//! receivers. Whatever it is, nothing that was answered 2xx is lost, and when it is over everything
//! goes on by itself.
//!
//! Disk and clock misbehave through a small library that is loaded into the process (`shim.c`), so
//! those tests run on Linux only. `ZAPBUS_VICES_MINUTES`, `ZAPBUS_OUTAGE_EVENTS` and
//! `ZAPBUS_SOAK_MINUTES` make the long forms of the others, `ZAPBUS_BROKERS_SECONDS` that of a broker that
//! is killed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![expect(clippy::print_stdout, reason = "the figures are for whoever runs it")]

#[path = "../load/mod.rs"]
#[expect(dead_code, reason = "the crash test needs more of it")]
mod load;

mod brokers;
#[cfg(target_os = "linux")]
mod clock;
#[cfg(target_os = "linux")]
mod disk;
#[cfg(target_os = "linux")]
mod gauge;
#[path = "../it/brokers/node.rs"]
mod node;
mod others;
mod outage;
#[path = "../it/packages.rs"]
mod packages;
#[path = "../it/brokers/peers.rs"]
#[expect(dead_code, reason = "the stories need more of it")]
mod peers;
#[cfg(target_os = "linux")]
mod rig;
#[cfg(target_os = "linux")]
mod soak;
#[cfg(target_os = "linux")]
mod sync;
mod vices;

#[cfg(not(target_os = "linux"))]
#[test]
fn faults_of_disk_and_clock_are_not_tested_here() {
    println!("skipped: disk, sync, clock and soak need LD_PRELOAD and /proc, which is Linux's");
}
