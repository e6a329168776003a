//! The binary: reads the command line, runs one command, ends with its exit code.

use std::process::ExitCode;

use clap::Parser;
use zapbus_gateway::cli::{self, Cli};

fn main() -> ExitCode {
    // Colours go where a terminal shows them (NO_COLOR). Not locked: other threads write their logs to standard error meanwhile.
    cli::run(Cli::parse(), &mut anstream::stdout(), &mut anstream::stderr())
}
