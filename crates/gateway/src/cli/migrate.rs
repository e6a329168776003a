//! `zapbus migrate`

use std::io::Write;

use clap::Args;
use serde_json::json;
use zapbus_store::{MigrationPlan, OpenError, Store};

use super::{Exit, Failure, Local, output::write_json};
use crate::clock;

/// Flags of `migrate`.
#[derive(Debug, Args)]
pub(super) struct Migrate {
    #[command(flatten)]
    local: Local,
    /// Only say what would be done.
    #[arg(long)]
    plan: bool,
    /// Machine-readable output.
    #[arg(long)]
    json: bool,
}

impl Migrate {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let config = self.local.config()?;
        let folder = config.data_dir.display().to_string();
        let plan = Store::plan(&config.data_dir).map_err(from_open)?;
        if !self.json {
            write_plan(out, &plan, &folder)?;
        }
        let mut taken = Vec::new();
        // Also when there is nothing to do: a folder in use is not a folder that is ready.
        if !self.plan && plan.from > 0 {
            let keys = config.encryption_keys().map_err(from_open)?;
            let options = config.store.options(config.data_dir.clone(), keys, clock::system());
            let opened = super::runtime()?.block_on(async {
                let opened = Store::open(options).await?;
                opened.store.close().await;
                Ok(opened.migrated)
            });
            taken = opened.map_err(from_open)?;
            if !self.json {
                match taken.len() {
                    0 => writeln!(out, "Nothing to do.")?,
                    steps => writeln!(out, "Done: {steps} steps.")?,
                }
            }
        }
        if self.json {
            let answer =
                json!({ "from": plan.from, "to": plan.to, "steps": plan.names, "taken": taken });
            write_json(out, &answer)?;
        }
        Ok(())
    }
}

fn write_plan(out: &mut dyn Write, plan: &MigrationPlan, folder: &str) -> std::io::Result<()> {
    if plan.from == 0 {
        return writeln!(out, "There is no database in {folder}: `zapbus serve` makes one.");
    }
    writeln!(out, "Schema version in {folder}: {}, this version's: {}.", plan.from, plan.to)?;
    plan.names.iter().try_for_each(|name| writeln!(out, "  {name}"))
}

fn from_open(error: OpenError) -> Failure {
    Failure::new(Exit::Failure, error.to_string())
}
