//! `zapbus simulate`: realistic traffic for a running gateway.

use std::{io::Write, str::FromStr, time::Duration};

use clap::Args;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use zapbus_event::{Timestamp, traffic::Plan};

use super::{
    Exit, Failure,
    client::{Call, Connection, refusal},
    instance::text_or_file,
    signals::Signals,
};
use crate::simulator::{Entry, Form, Meta, Options, Simulator, Stopped, Totals};

/// How long the gateway may be away before the simulator gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Flags of `simulate`.
#[derive(Debug, Args)]
pub(super) struct Simulate {
    #[command(flatten)]
    connection: Connection,
    /// The instance that reports the events, by id or name. Given several times, they share them.
    #[arg(long, required = true, value_name = "INSTANCE")]
    instance: Vec<String>,
    /// How the events come in: by native ingest, or as Meta's signed webhooks (without what Meta
    /// does not report, so at a lower rate) to the instances' Cloud API source.
    #[arg(long, value_enum, default_value = "native")]
    source: Source,
    /// The app secret of the Cloud API source, or @FILE that holds it.
    #[arg(long, value_name = "SECRET", value_parser = text_or_file, required_if_eq("source", "cloud-api"))]
    app_secret: Option<String>,
    /// The phone number id of the Cloud API source.
    #[arg(long, value_name = "ID", default_value = "900000000000101")]
    phone_number_id: String,
    /// Events per second.
    #[arg(long, default_value = "20", value_name = "N[/s]")]
    rate: Rate,
    /// Stop after this time: 90, 90s, 5m, 2h.
    #[arg(long, value_name = "TIME")]
    duration: Option<Seconds>,
    /// Stop after this many events, repetitions included.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// The same seed (and --start) gives the same events; events posted before are recognised as
    /// duplicates [default: a new one].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Seconds of the simulated world per second: 10 lets receipts and replies follow ten times
    /// as fast. The rate stays.
    #[arg(long, default_value = "1", value_name = "X", value_parser = speed)]
    speed: f64,
    /// Chats; one in eight is a group.
    #[arg(long, default_value = "200", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=79_000))]
    chats: u32,
    /// When the simulated world begins, in RFC 3339 [default: now].
    #[arg(long, value_name = "TIME")]
    start: Option<Timestamp>,
}

/// How events come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Source {
    /// Native ingest.
    Native,
    /// Meta's webhooks.
    CloudApi,
}

/// Events per second: `50` or `50/s`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate(pub(super) f64);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix("/s").unwrap_or(text);
        match number.parse() {
            Ok(rate) if (0.01..=100_000.0).contains(&rate) => Ok(Self(rate)),
            _ => Err("expected 0.01 to 100000 events per second, for example 50 or 50/s".into()),
        }
    }
}

/// A stretch of time: `90`, `90s`, `5m`, `2h`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seconds(pub(super) Duration);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = match text.char_indices().last() {
            Some((at, 's')) => (&text[..at], 1.0),
            Some((at, 'm')) => (&text[..at], 60.0),
            Some((at, 'h')) => (&text[..at], 3_600.0),
            _ => (text, 1.0),
        };
        match number.parse::<f64>().map(|number| number * unit) {
            Ok(seconds) if seconds > 0.0 && seconds <= 366.0 * 86_400.0 => {
                Ok(Self(Duration::from_secs_f64(seconds)))
            }
            _ => Err("expected a time of up to a year, for example 90, 90s, 5m or 2h".into()),
        }
    }
}

/// Virtual seconds per real one.
pub(super) fn speed(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(speed) if (0.01..=10_000.0).contains(&speed) => Ok(speed),
        _ => Err("expected a number from 0.01 to 10000".into()),
    }
}

/// A seed for whoever named none.
pub(super) fn new_seed() -> Result<u64, Failure> {
    // Short enough to be read aloud.
    getrandom::u32().map(u64::from).map_err(|error| {
        Failure::new(Exit::Failure, format!("the system has no randomness: {error}"))
    })
}

impl Simulate {
    pub(super) fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Failure> {
        let seed = match self.seed {
            Some(seed) => seed,
            None => new_seed()?,
        };
        let entries: Result<Vec<Entry>, Failure> =
            self.instance.iter().map(|instance| self.entry(instance)).collect();
        let options = Options {
            plan: Plan {
                seed,
                rate_per_s: self.rate.0,
                chats: self.chats as usize,
                instances: self.instance.len(),
                start: self.start.unwrap_or_else(|| (crate::clock::system())()),
            },
            speed: self.speed,
            count: self.count,
            duration: self.duration.map(|duration| duration.0),
            patience: PATIENCE,
        };
        let simulator = Simulator::new(options, entries?)
            .map_err(|error| Failure::new(Exit::Failure, error))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Exit::Failure, format!("cannot start: {error}")))?;
        runtime.block_on(self.go(simulator, seed, out, err))
    }

    /// Where the events of an instance are posted.
    fn entry(&self, instance: &str) -> Result<Entry, Failure> {
        let (path, form) = match (self.source, &self.app_secret) {
            (Source::CloudApi, Some(secret)) => {
                let meta = Meta {
                    app_secret: secret.clone(),
                    phone_number_id: self.phone_number_id.clone(),
                };
                (["sources", "cloud-api", instance].to_vec(), Form::CloudApi(meta))
            }
            _ => (["v1", "instances", instance, "events"].to_vec(), Form::Native),
        };
        let (head, _) = self.connection.request(Call::post(&path, json!(null)))?.into_parts();
        Ok(Entry { uri: head.uri, headers: head.headers, form })
    }

    async fn go(
        &self,
        mut simulator: Simulator,
        seed: u64,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        let signals = Signals::watch()?;
        let stop = CancellationToken::new();
        let tally = simulator.tally();
        let mut lines = Lines { seed, json: self.connection.json(), last: Totals::default() };
        lines.begin(err)?;
        let begun = tokio::time::Instant::now();
        let mut ticks = tokio::time::interval_at(begun + SECOND, SECOND);
        let ended = {
            let mut running = std::pin::pin!(simulator.run(&stop, |_| {}));
            loop {
                tokio::select! {
                    ended = running.as_mut() => break ended,
                    _ = ticks.tick() => lines.second(begun.elapsed(), tally.totals(), out)?,
                    () = signals.first.cancelled(), if !stop.is_cancelled() => stop.cancel(),
                    () = signals.second.cancelled() => break Ok(()),
                }
            }
        };
        lines.end(begun.elapsed(), tally.totals(), simulator.complaint(), out)?;
        match (ended, simulator.complaint()) {
            (Err(Stopped::Unreachable(reason)), _) => Err(self.connection.unreachable(&reason)),
            (Err(Stopped::Refused(refused)), _) => Err(refusal(refused.status, &refused.problem)),
            (Ok(()), Some(complaint)) => Err(Failure::new(
                Exit::Failure,
                format!("the gateway refused events; the first was {complaint}"),
            )),
            (Ok(()), None) => Ok(()),
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// What is told while it runs and at its end.
struct Lines {
    seed: u64,
    json: bool,
    last: Totals,
}

impl Lines {
    fn begin(&self, err: &mut dyn Write) -> Result<(), Failure> {
        if !self.json {
            writeln!(err, "seed {}: posting until Ctrl-C, --count or --duration", self.seed)?;
        }
        Ok(())
    }

    fn second(
        &mut self,
        elapsed: Duration,
        totals: Totals,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let rate = totals.accepted - self.last.accepted;
        self.last = totals;
        if self.json {
            let mut line = serde_json::to_value(totals).unwrap_or_default();
            line["seconds"] = elapsed.as_secs().into();
            line["accepted_per_s"] = rate.into();
            writeln!(out, "{line}")?;
        } else {
            write!(
                out,
                "{:>5} s  {rate:>6}/s  accepted {}  duplicates {}",
                elapsed.as_secs(),
                totals.accepted,
                totals.duplicates
            )?;
            if totals.repeated_requests > 0 {
                write!(out, "  requests repeated {}", totals.repeated_requests)?;
            }
            if totals.behind_ms >= 1_000 {
                write!(out, "  behind {} ms", totals.behind_ms)?;
            }
            writeln!(out)?;
        }
        out.flush()?;
        Ok(())
    }

    fn end(
        &self,
        elapsed: Duration,
        totals: Totals,
        complaint: Option<&str>,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let seconds = elapsed.as_secs_f64();
        if self.json {
            let mut line = serde_json::to_value(totals).unwrap_or_default();
            line["seed"] = self.seed.into();
            line["seconds"] = ((seconds * 1_000.0).round() / 1_000.0).into();
            line["complaint"] = complaint.into();
            line["done"] = true.into();
            writeln!(out, "{line}")?;
        } else {
            writeln!(
                out,
                "seed {}: {} accepted, {} duplicates, {} refused in {seconds:.1} s ({:.1}/s)",
                self.seed,
                totals.accepted,
                totals.duplicates,
                totals.refused,
                totals.accepted as f64 / seconds.max(0.001)
            )?;
        }
        out.flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_times_are_read_and_nonsense_is_refused() {
        assert_eq!("50/s".parse::<Rate>().unwrap().0, 50.0);
        assert_eq!("0.5".parse::<Rate>().unwrap().0, 0.5);
        for wrong in ["", "0", "-1", "NaN", "inf", "1e9", "5/m"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
        for (text, seconds) in [("90", 90.0), ("90s", 90.0), ("5m", 300.0), ("0.5h", 1_800.0)] {
            assert_eq!(text.parse::<Seconds>().unwrap().0.as_secs_f64(), seconds);
        }
        for wrong in ["", "s", "0", "-5", "NaN", "inf", "9e9", "5 minutes", "5é"] {
            assert!(wrong.parse::<Seconds>().is_err(), "{wrong}");
        }
        assert!(speed("0").is_err() && speed("NaN").is_err() && speed("10").is_ok());
    }
}
