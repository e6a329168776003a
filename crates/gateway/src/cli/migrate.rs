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
        let runtime = super::runtime()?;
        let postgres = config.postgres();
        let plan = match &postgres {
            Some(postgres) => runtime.block_on(Store::plan_postgres(postgres)),
            None => Store::plan(&config.data_dir),
        };
        let plan = plan.map_err(from_open)?;
        // A folder is made by whoever serves from it. A database is often prepared by somebody else,
        // with rights of their own.
        let makes = postgres.is_some();
        if !self.json {
            write_plan(out, &plan, &config.store_place(), makes)?;
        }
        let mut taken = Vec::new();
        // Also when there is nothing to do: a folder in use is not a folder that is ready.
        if !self.plan && (plan.from > 0 || makes) {
            let options = config.store_options(clock::system()).map_err(from_open)?;
            taken = runtime.block_on(Store::migrate(options)).map_err(from_open)?;
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

fn write_plan(
    out: &mut dyn Write,
    plan: &MigrationPlan,
    place: &str,
    makes: bool,
) -> std::io::Result<()> {
    match plan.from {
        0 if makes => {
            writeln!(out, "There is no store in {place} yet. Steps to version {}:", plan.to)?
        }
        0 => return writeln!(out, "There is no database in {place}: `zapbus serve` makes one."),
        from => writeln!(out, "Schema version in {place}: {from}, this version's: {}.", plan.to)?,
    }
    plan.names.iter().try_for_each(|name| writeln!(out, "  {name}"))
}

fn from_open(error: OpenError) -> Failure {
    Failure::new(Exit::Failure, error.to_string())
}
