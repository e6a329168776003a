//! `zapbus completions` and `zapbus man`: both made from the command line's own description.

use std::{io::Write, path::PathBuf};

use clap::{Args, Command, CommandFactory as _};

use super::{Cli, Exit, Failure};

/// Flags of `completions`.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// Your shell.
    shell: clap_complete::Shell,
}

impl Completions {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        // Into memory first: it panics when it cannot write.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "zapbus", &mut script);
        out.write_all(&script)?;
        Ok(())
    }
}

/// Flags of `man`.
#[derive(Debug, Args)]
pub(super) struct Man {
    /// A folder for a page of each command [default: the first page goes to standard output].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let mut command = Cli::command();
        command.build();
        let Some(folder) = self.out else {
            out.write_all(&page(&command)?)?;
            return Ok(());
        };
        let unusable = |error: std::io::Error| {
            Failure::new(Exit::Failure, format!("{} cannot be written: {error}", folder.display()))
        };
        std::fs::create_dir_all(&folder).map_err(unusable)?;
        let mut waiting = vec![command];
        let mut written = 0;
        while let Some(command) = waiting.pop() {
            let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
            std::fs::write(folder.join(format!("{name}.1")), page(&command)?).map_err(unusable)?;
            written += 1;
            let below = command.get_subcommands().filter(|below| below.get_name() != "help");
            waiting.extend(below.cloned());
        }
        writeln!(out, "{written} pages in {}", folder.display())?;
        Ok(())
    }
}

fn page(command: &Command) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    Ok(page)
}
