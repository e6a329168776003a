//! `zapbus backup …`: the gateway takes it, since it alone may write while it runs.

use std::{io::Write, time::Duration};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Exit, Failure,
    client::{Call, Connection},
    progress::Progress,
};

/// How often a backup is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Flags of `backup`.
#[derive(Debug, Args)]
pub(super) struct Backup {
    /// What to call it: letters, digits, `.`, `_` and `-` [default: the time]. Its folder is made on
    /// the gateway's machine, in the one that is configured there (backup.dir).
    name: Option<String>,
    /// Do not wait for its end.
    #[arg(long)]
    no_wait: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Commands on backups.
#[derive(Debug, Subcommand)]
enum Command {
    /// Show all that the gateway has taken.
    #[command(after_help = "\
Examples:
  zapbus backup list
  zapbus backup list --json")]
    List,
    /// Show one.
    #[command(after_help = "\
Examples:
  zapbus backup show before-upgrade")]
    Show {
        /// Its name.
        name: String,
    },
}

impl Backup {
    pub(super) fn run(
        self,
        to: &Connection,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        match self.command {
            None => {}
            Some(Command::List) => {
                let columns = ["name", "state", "began_at", "bytes", "blobs", "path"];
                return to.list(&["v1", "backups"], &columns, out);
            }
            Some(Command::Show { name }) => {
                return to.show(Call::get(&["v1", "backups", &name]), out);
            }
        }
        let body = self.name.map_or_else(|| json!({}), |name| json!({ "name": name }));
        let begun = to.ask(Call::post(&["v1", "backups"], body))?;
        if self.no_wait {
            return to.say(&begun, out);
        }
        let name = begun["name"].as_str().unwrap_or_default().to_owned();
        let ended = {
            let mut progress = Progress::new(err, "backup");
            loop {
                let backup = to.ask(Call::get(&["v1", "backups", &name]))?;
                tell(&backup, &mut progress);
                if backup["state"] != "running" {
                    break backup;
                }
                std::thread::sleep(LOOK_EVERY);
            }
        };
        if ended["state"] != "done" {
            let reason = ended["error"].as_str().unwrap_or("it ended early");
            return Err(Failure::new(Exit::Failure, format!("no backup was taken: {reason}")));
        }
        to.say(&ended, out)?;
        writeln!(
            err,
            "The encryption key is not in it: keep encryption.key of the data folder, or what is in ZAPBUS_ENCRYPTION_KEY, elsewhere."
        )?;
        Ok(())
    }
}

fn tell(backup: &Value, progress: &mut Progress<'_>) {
    let count = |name: &str| backup[name].as_u64();
    match (count("copied_pages"), count("pages")) {
        // Behind the pages come the check and the blobs.
        (Some(copied), Some(pages)) if pages > 0 => {
            progress.show(copied, pages + 1, &format!("{copied} of {pages} pages"));
        }
        _ if backup["state"] == "done" => progress.show(1, 1, "whole and on disk"),
        _ => {}
    }
}
