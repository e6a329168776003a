//! `zapbus migrate`

use std::io::Write;

use clap::Args;
use zapbus_store::{OpenError, Store};

use super::{Exit, Failure, Local};
use crate::clock;

/// Flags of `migrate`.
#[derive(Debug, Args)]
pub(super) struct Migrate {
    #[command(flatten)]
    local: Local,
    /// Only say what would be done.
    #[arg(long)]
    plan: bool,
}

impl Migrate {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let config = self.local.config()?;
        let folder = config.data_dir.display().to_string();
        let plan = Store::plan(&config.data_dir).map_err(from_open)?;
        if plan.from == 0 {
            writeln!(out, "There is no database in {folder}: `zapbus serve` makes one.")?;
            return Ok(());
        }
        writeln!(out, "Schema version in {folder}: {}, this version's: {}.", plan.from, plan.to)?;
        for name in &plan.names {
            writeln!(out, "  {name}")?;
        }
        if self.plan {
            return Ok(());
        }
        // Also when there is nothing to do: a folder in use is not a folder that is ready.
        let keys = config.encryption_keys().map_err(from_open)?;
        let options = config.store.options(config.data_dir.clone(), keys, clock::system());
        let runtime = tokio::runtime::Runtime::new()
            .map_err(|error| Failure::new(Exit::Failure, format!("cannot start: {error}")))?;
        let opened = runtime.block_on(async {
            let opened = Store::open(options).await?;
            opened.store.close().await;
            Ok(opened.migrated)
        });
        match opened.map_err(from_open)?.len() {
            0 => writeln!(out, "Nothing to do.")?,
            steps => writeln!(out, "Done: {steps} steps.")?,
        }
        Ok(())
    }
}

fn from_open(error: OpenError) -> Failure {
    Failure::new(Exit::Failure, error.to_string())
}
