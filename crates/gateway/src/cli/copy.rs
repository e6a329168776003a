//! `zapbus copy`: from one machine to many.

use std::{
    io::Write,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use clap::Args;
use serde_json::{Value, json};
use tokio::sync::watch;
use zapbus_store::{Copied, CopyError, CopyOptions, CopyProgress, Store};

use super::{
    Exit, Failure, Local,
    output::{write_json, write_table},
    progress::Progress,
};
use crate::clock;

/// What stands before the data folder.
const SQLITE: &str = "sqlite://";

/// Flags of `copy`.
#[derive(Debug, Args)]
pub(super) struct Copy {
    /// The data folder of a gateway that is stopped: sqlite://<folder>.
    #[arg(long, value_name = "URL")]
    from: String,
    /// The database to copy into, an empty one: postgres://user:password@host/database. Other
    /// programs see what is on a command line: without it, ZAPBUS_DATABASE_URL.
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// Deliver as soon as a gateway is started on the copy: the old one stays stopped.
    #[arg(long)]
    live: bool,
    /// Machine-readable output.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    local: Local,
}

impl Copy {
    pub(super) fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Failure> {
        let usage = |message: String| Failure::new(Exit::Usage, message);
        let to = self.to.map(|to| ("database_url", to, "--to"));
        let config = self.local.config_with(to.into_iter().collect())?;
        let Some(to) = config.postgres() else {
            return Err(usage(
                "where to? Give --to or ZAPBUS_DATABASE_URL: postgres://user:password@host/database"
                    .to_owned(),
            ));
        };
        let from = folder_of(&self.from).map_err(usage)?;
        let keys = config.encryption_keys().map_err(|error| usage(error.to_string()))?;
        let options =
            CopyOptions { from: from.clone(), to, keys, live: self.live, now: clock::system()() };
        let copied = copy(options, err)
            .map_err(|error| Failure::new(exit_of(&error, &from), error.to_string()))?;
        let place = config.store_place();
        if self.json {
            return Ok(write_json(out, &report(&copied, &place, self.live))?);
        }
        let rows: Vec<Value> = copied.tables.iter().map(row).collect();
        write_table(out, &rows, &["table", "rows", "checksum"])?;
        writeln!(out, "\nCopied into {place}; both sides are the same.")?;
        if self.live {
            writeln!(out, "It delivers as soon as a gateway is started with this database_url.")?;
        } else {
            writeln!(
                out,
                "Start a gateway with this database_url. Destinations are paused until: zapbus \
                 resume --all"
            )?;
        }
        writeln!(
            out,
            "{} is marked as copied: no gateway goes on with it, unless by `zapbus serve \
             --take-back`.",
            from.display()
        )?;
        Ok(())
    }
}

/// Copies, with its progress told, until it is done or Ctrl-C.
fn copy(options: CopyOptions, err: &mut dyn Write) -> Result<Copied, CopyError> {
    let runtime = super::runtime().map_err(|_| CopyError::CalledOff)?;
    let (tell, mut told) = watch::channel(None);
    let called_off = Arc::new(AtomicBool::new(false));
    let watching = Arc::clone(&called_off);
    runtime.spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            watching.store(true, Ordering::Relaxed);
        }
    });
    let mut progress = move |progress: CopyProgress| {
        tell.send_replace(Some(progress));
        !called_off.load(Ordering::Relaxed)
    };
    runtime.block_on(async {
        let mut copying = std::pin::pin!(Store::copy(&options, &mut progress));
        let mut bar = Progress::new(err, "copy");
        let mut table = None;
        loop {
            tokio::select! {
                copied = copying.as_mut() => return copied,
                Ok(()) = told.changed() => {}
            }
            let Some(now) = *told.borrow_and_update() else { continue };
            // A bar for each table: how many rows the others have is not known yet.
            if table.replace(now.table).is_some_and(|before| before != now.table) {
                bar.begin_again();
            }
            let verb = if now.checking { "comparing" } else { "rows of" };
            let note = format!("{verb} {}: {} of {}", now.table, now.done, now.total);
            bar.show(now.done, now.total, &note);
        }
    })
}

fn folder_of(url: &str) -> Result<PathBuf, String> {
    match url.strip_prefix(SQLITE) {
        Some(folder) if !folder.is_empty() => Ok(folder.into()),
        _ => Err(format!(
            "--from {url:?}: expected {SQLITE} and a data folder, for example \
             {SQLITE}/var/lib/zapbus"
        )),
    }
}

fn exit_of(error: &CopyError, from: &std::path::Path) -> Exit {
    match error {
        CopyError::Source { .. } if !from.exists() => Exit::NotFound,
        // What is in the copy stays there: the same command goes on.
        CopyError::Interrupted { .. } | CopyError::CalledOff => Exit::Partly,
        _ => Exit::Failure,
    }
}

fn row(table: &zapbus_store::CopiedTable) -> Value {
    json!({
        "table": table.name,
        "rows": table.rows,
        // Too large for numbers of JSON.
        "checksum": format!("{:032x}", table.checksum),
    })
}

fn report(copied: &Copied, place: &str, live: bool) -> Value {
    let tables: Vec<Value> = copied.tables.iter().map(row).collect();
    json!({ "to": place, "resumed": copied.resumed, "live": live, "tables": tables })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_named_as_a_url() {
        assert_eq!(
            folder_of("sqlite:///var/lib/zapbus").unwrap(),
            PathBuf::from("/var/lib/zapbus")
        );
        assert_eq!(folder_of("sqlite://./data").unwrap(), PathBuf::from("./data"));
        for wrong in ["/var/lib/zapbus", "sqlite://", "postgres://db/zapbus"] {
            assert!(folder_of(wrong).unwrap_err().contains("expected sqlite://"), "{wrong}");
        }
    }
}
