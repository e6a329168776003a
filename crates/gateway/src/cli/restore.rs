//! `zapbus restore`

use std::{
    io::Write,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use clap::Args;
use serde_json::json;
use zapbus_store::{Key, OpenError, Restore as Plan, Store};

use super::{Exit, Failure, Local, output::write_json, progress::Progress};
use crate::clock;

/// Flags of `restore`.
#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The folder of the backup, or a copy of the data folder of a gateway that was stopped.
    backup: PathBuf,
    #[command(flatten)]
    local: Local,
    /// A file with the key that the backup's secrets need (the old encryption.key); it is kept in
    /// the new data folder. Otherwise ZAPBUS_ENCRYPTION_KEY.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The key is lost: drop what it encrypted. Destinations are paused until they get a channel
    /// again, sources must be set again, instances get new tokens.
    #[arg(long)]
    without_secrets: bool,
    /// Deliver as soon as the gateway starts: the old gateway is gone for good.
    #[arg(long)]
    live: bool,
    /// Machine-readable output.
    #[arg(long)]
    json: bool,
}

impl Restore {
    pub(super) fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Failure> {
        let config = self.local.config()?;
        let kept_key = self.key_file.as_ref().map(read_key).transpose()?;
        let plan = Plan {
            from: self.backup.clone(),
            data_dir: config.data_dir.clone(),
            keys: config.encryption_keys().map_err(|error| self.failure(&error))?,
            kept_key,
            without_secrets: self.without_secrets,
            live: self.live,
            now: clock::system()(),
        };
        let called_off = Arc::new(AtomicBool::new(false));
        let runtime = super::runtime()?;
        let watching = Arc::clone(&called_off);
        runtime.spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                watching.store(true, Ordering::Relaxed);
            }
        });
        let restored = {
            let mut progress = Progress::new(err, "restore");
            Store::restore(&plan, &mut |done, total| {
                progress.show(done, total, &format!("{} of {} MiB", done >> 20, total >> 20));
                !called_off.load(Ordering::Relaxed)
            })
        };
        let restored = restored.map_err(|error| self.failure(&error))?;
        let folder = plan.data_dir.display();
        if self.json {
            let dropped = restored.dropped.map(|dropped| {
                json!({
                    "destinations": dropped.destinations,
                    "sources": dropped.sources,
                    "tokens": dropped.tokens,
                })
            });
            let answer = json!({
                "data_dir": folder.to_string(),
                "bytes": restored.bytes,
                "blobs": restored.blobs,
                "keys": restored.keys,
                "live": self.live,
                "dropped": dropped,
            });
            write_json(out, &answer)?;
            return Ok(());
        }
        writeln!(
            out,
            "Restored into {folder}: a database of {} bytes, {} files beside it.",
            restored.bytes, restored.blobs
        )?;
        if let Some(dropped) = restored.dropped {
            writeln!(
                out,
                "Without the secrets: {} destinations need a channel (zapbus destination update), {} sources must be set again, {} instances have new tokens.",
                dropped.destinations, dropped.sources, dropped.tokens
            )?;
        }
        if self.live {
            writeln!(out, "It delivers as soon as it starts: zapbus serve --data-dir {folder}")?;
        } else {
            writeln!(
                out,
                "Start it: zapbus serve --data-dir {folder}\nDestinations are paused until: zapbus resume --all"
            )?;
        }
        Ok(())
    }

    fn failure(&self, error: &OpenError) -> Failure {
        let mut message = error.to_string();
        if matches!(error, OpenError::WrongKey { .. }) {
            message.push_str(
                " A file that holds it goes with --key-file; if it is lost, --without-secrets drops what it encrypted.",
            );
        }
        let exit = if self.backup.exists() { Exit::Failure } else { Exit::NotFound };
        Failure::new(exit, message)
    }
}

fn read_key(path: &PathBuf) -> Result<Key, Failure> {
    let wrong = |reason: String| Failure::new(Exit::Usage, format!("{}: {reason}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    Key::parse(&text).map_err(|error| wrong(error.to_string()))
}
