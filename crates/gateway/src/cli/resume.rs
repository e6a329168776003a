//! `zapbus resume`, which is `zapbus destination resume` too.

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::{
    Exit, Failure,
    client::{Call, Connection},
};

/// Flags of `resume`.
#[derive(Debug, Args)]
pub(super) struct Resume {
    /// Its id.
    #[arg(required_unless_present = "all")]
    destination: Option<String>,
    /// Every paused one the token reaches instead, for example after restoring a backup.
    #[arg(long, conflicts_with = "destination")]
    all: bool,
    /// cursor (where it stopped) or now (what waited is not sent).
    #[arg(long, default_value = "cursor")]
    from: String,
}

impl Resume {
    pub(super) fn run(
        self,
        to: &Connection,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        let resume = |id: &str| {
            to.ask(Call::post(&["v1", "destinations", id, "resume"], json!({ "from": self.from })))
        };
        if let Some(destination) = &self.destination {
            return to.say(&resume(destination)?, out);
        }
        let (mut resumed, mut failed) = (0, 0);
        for destination in to.all(&["v1", "destinations"])? {
            // Those that failed for too long, or asked for it, or were switched off through the API
            // of another product, are not meant.
            let is_off = |reason: &str| reason.starts_with("switched off through ");
            if destination["state"] != "paused"
                || destination["reason"].as_str().is_some_and(is_off)
            {
                continue;
            }
            let Some(id) = destination["id"].as_str() else { continue };
            match resume(id) {
                Ok(_) => resumed += 1,
                Err(failure) if failure.exit == Exit::Unreachable => return Err(failure),
                Err(failure) => {
                    failed += 1;
                    writeln!(err, "{id}: {}", failure.message)?;
                }
            }
        }
        to.say(&json!({ "resumed": resumed, "failed": failed }), out)?;
        match (resumed, failed) {
            (_, 0) => Ok(()),
            (0, _) => Err(Failure::new(Exit::Failure, "none was resumed")),
            _ => Err(Failure::new(Exit::Partly, "some were not resumed")),
        }
    }
}
