//! The gateway with every allocation counted: slow, for `make bench` only. At its end it says on
//! standard error how many there were, and writes `dhat-heap.json`, which shows where they came
//! from, to the working directory.

use std::process::ExitCode;

use clap::Parser;
use zapbus_gateway::cli::{self, Cli};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

fn main() -> ExitCode {
    let _profiler = dhat::Profiler::new_heap();
    cli::run(Cli::parse(), &mut std::io::stdout(), &mut std::io::stderr())
}
