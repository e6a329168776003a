//! `zapbus demo`.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use clap::Args;

use super::{
    Exit, Failure,
    signals::Signals,
    simulate::{Rate, Seconds, new_seed, speed},
};
use crate::demo::{self, DemoError, Options, Show};

/// Flags of `demo`.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Reproduces the traffic [default: a new one].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Events per second.
    #[arg(long, default_value = "25", value_name = "N[/s]")]
    rate: Rate,
    /// Seconds of the simulated world per second.
    #[arg(long, default_value = "10", value_name = "X", value_parser = speed)]
    speed: f64,
    /// End after this time, and when everything has arrived: 90, 90s, 5m.
    #[arg(long, value_name = "TIME")]
    duration: Option<Seconds>,
    /// Kill the gateway so often, and start it again.
    #[arg(long, value_name = "TIME")]
    kill_every: Option<Seconds>,
    /// Leave the temporary folder behind, for a look into the store and the gateway's log.
    #[arg(long)]
    keep: bool,
    /// A line per second instead of the screen, as when there is no terminal.
    #[arg(long)]
    plain: bool,
    /// A JSON object per second, and one at the end with "missing".
    #[arg(long)]
    json: bool,
}

impl Demo {
    pub(super) fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Failure> {
        refuse_database(std::env::var("ZAPBUS_DATABASE_URL").ok())?;
        let seed = match self.seed {
            Some(seed) => seed,
            None => new_seed()?,
        };
        let options = Options {
            seed,
            rate_per_s: self.rate.0,
            speed: self.speed,
            duration: self.duration.map(|duration| duration.0),
            kill_every: self.kill_every.map(|every| every.0.max(Duration::from_secs(1))),
            keep: self.keep,
            show: self.show(),
        };
        if options.show == Show::Lines {
            writeln!(err, "seed {seed}: until Ctrl-C or --duration")?;
        }
        let runtime = tokio::runtime::Runtime::new()
            .map_err(|error| Failure::new(Exit::Failure, format!("cannot start: {error}")))?;
        let outcome = runtime.block_on(async {
            let signals = Signals::watch()?;
            let (stop, insist) = (signals.first.clone(), signals.second.clone());
            demo::run(options, stop, insist, out).await.map_err(Failure::from)
        })?;
        if self.json {
            let mut outcome = serde_json::to_value(&outcome).unwrap_or_default();
            outcome["done"] = true.into();
            writeln!(out, "{outcome}")?;
        } else {
            writeln!(
                out,
                "accepted {}, arrived {}, missing {}, duplicates {} (seed {}, gateway killed {} times)",
                outcome.accepted,
                outcome.arrived,
                outcome.missing,
                outcome.duplicates,
                outcome.seed,
                outcome.kills
            )?;
            if let Some(folder) = &outcome.folder {
                writeln!(out, "kept {}", folder.display())?;
            }
        }
        match outcome.missing {
            0 => Ok(()),
            missing => Err(Failure::new(
                Exit::Failure,
                format!("{missing} deliveries of accepted events did not arrive"),
            )),
        }
    }

    fn show(&self) -> Show {
        let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
        if self.json {
            Show::Json
        } else if self.plain || !terminal {
            Show::Lines
        } else {
            Show::Screen { colours: std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty()) }
        }
    }
}

impl From<DemoError> for Failure {
    fn from(error: DemoError) -> Self {
        Self::new(Exit::Failure, error.to_string())
    }
}

/// Whoever set a database means something real. The demo would not use it; it says so instead of
/// leaving them in doubt.
fn refuse_database(url: Option<String>) -> Result<(), Failure> {
    match url.filter(|url| !url.is_empty()) {
        None => Ok(()),
        Some(_) => Err(Failure::new(
            Exit::Usage,
            "ZAPBUS_DATABASE_URL is set, and the demo uses no database but its own temporary folder. Unset it for this command: env -u ZAPBUS_DATABASE_URL zapbus demo",
        )),
    }
}
