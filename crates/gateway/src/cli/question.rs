//! Asking before something wide is done. Scripts are not asked.

use std::io::{BufRead as _, IsTerminal as _, Write};

use clap::Args;

use super::{Exit, Failure};

/// The flag of commands that take something away.
#[derive(Debug, Args)]
pub(super) struct Sure {
    /// Do it without asking.
    #[arg(long, short = 'y')]
    yes: bool,
}

impl Sure {
    /// [`confirm`], unless the flag was given.
    pub(super) fn confirm(&self, question: &str, err: &mut dyn Write) -> Result<(), Failure> {
        confirm(question, self.yes, err)
    }
}

/// Goes on after a yes, with `--yes`, or where there is nobody to ask.
pub(super) fn confirm(question: &str, yes: bool, err: &mut dyn Write) -> Result<(), Failure> {
    if yes || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(());
    }
    write!(err, "{question} [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Failure::new(Exit::Failure, "called off; nothing was done"))
}
