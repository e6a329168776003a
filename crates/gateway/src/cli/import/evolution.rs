//! `zapbus import evolution`: reads a server, says what it would do, and does it.

mod plan;

use std::{io::Write, time::Duration};

use clap::Args;
use http::{Method, StatusCode};
use serde_json::Value;

use self::plan::{CHANNELS, Plan, Step};
use crate::cli::{
    Exit, Failure,
    client::fetch,
    instance::text_or_file,
    output::{write_json, write_table},
    question::confirm,
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

const COLUMNS: [&str; 5] = ["instance", "what", "action", "events", "detail"];

/// Flags of `import evolution`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Evolution {
    /// The Evolution API to read.
    #[arg(long, value_name = "URL")]
    url: String,
    /// Its global key, or @FILE that holds it.
    #[arg(long, value_name = "KEY", value_parser = text_or_file)]
    apikey: String,
    /// The gateway to write to.
    #[arg(
        long,
        value_name = "URL",
        env = "ZAPBUS_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8080"
    )]
    to: String,
    /// The gateway's admin token or that of an account, or @FILE that holds it [also:
    /// ZAPBUS_ADMIN_TOKEN].
    #[arg(
        long,
        value_name = "TOKEN",
        env = "ZAPBUS_TOKEN",
        hide_env_values = true,
        value_parser = text_or_file
    )]
    token: Option<String>,
    /// Only this instance; may be given several times.
    #[arg(long, value_name = "NAME")]
    instance: Vec<String>,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long, short = 'y')]
    yes: bool,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
}

/// A server that speaks Evolution's API.
struct Server<'a> {
    /// What it is called in errors.
    flag: &'static str,
    url: &'a str,
    key: &'a str,
}

impl Evolution {
    pub(super) fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Failure> {
        let given = |token: &String| !token.is_empty();
        let token = self
            .token
            .clone()
            .filter(given)
            .or_else(|| std::env::var("ZAPBUS_ADMIN_TOKEN").ok().filter(given))
            .ok_or_else(|| {
                Failure::new(
                    Exit::Usage,
                    "a token of the gateway is needed: --token, ZAPBUS_TOKEN or ZAPBUS_ADMIN_TOKEN",
                )
            })?;
        let from = Server { flag: "--url", url: &self.url, key: &self.apikey };
        let to = Server { flag: "--to", url: &self.to, key: &token };
        let runtime = crate::cli::runtime()?;
        let plan = runtime.block_on(self.read(&from, &to))?;
        let unread = plan.failures();
        if self.dry_run {
            self.show(&plan, out)?;
            return partly(unread, plan.steps.len());
        }
        if plan.steps.iter().all(Step::is_nothing) {
            writeln!(err, "There is nothing to do.")?;
            self.show(&plan, out)?;
            return partly(unread, plan.steps.len());
        }
        if !self.json {
            // What is asked about is shown before; the table comes again with what became of it.
            write_table(err, &plan.rows(), &COLUMNS)?;
        }
        let (instances, settings) = plan.counts();
        let question = format!("Make {instances} instances and set {settings} channels?");
        confirm(&question, self.yes, err)?;
        let done = runtime.block_on(write(plan, &to));
        self.show(&done, out)?;
        partly(done.failures(), done.steps.len())
    }

    fn show(&self, plan: &Plan, out: &mut dyn Write) -> Result<(), Failure> {
        let rows = plan.rows();
        if self.json {
            return Ok(write_json(out, &Value::Array(rows))?);
        }
        Ok(write_table(out, &rows, &COLUMNS)?)
    }

    /// Reads both sides.
    async fn read(&self, from: &Server<'_>, to: &Server<'_>) -> Result<Plan, Failure> {
        let there = from.instances().await?;
        let here = to.instances().await?;
        for name in &self.instance {
            if !there.iter().any(|instance| instance.name == *name) {
                let message = format!("{} has no instance {name:?}", from.url);
                return Err(Failure::new(Exit::NotFound, message));
            }
        }
        let mut plan = Plan::default();
        for instance in there {
            if !self.instance.is_empty() && !self.instance.contains(&instance.name) {
                continue;
            }
            let exists = here.iter().any(|known| known.name == instance.name);
            let mut channels = Vec::new();
            for channel in CHANNELS {
                // What cannot be read of one channel stops no other.
                match from.channel(channel, &instance.name).await {
                    Ok(Some(row)) => channels.push((channel, Ok(row))),
                    Ok(None) => {}
                    Err(failure) => channels.push((channel, Err(failure.message))),
                }
            }
            plan.add(&instance, exists, channels);
        }
        Ok(plan)
    }
}

/// Says that not everything was done.
fn partly(failed: usize, steps: usize) -> Result<(), Failure> {
    if failed == 0 {
        return Ok(());
    }
    let message = format!("{failed} of {steps} steps failed; run it again when that is mended");
    Err(Failure::new(Exit::Partly, message))
}

/// Does what a plan says, as far as it can be done.
async fn write(mut plan: Plan, to: &Server<'_>) -> Plan {
    let mut lost: Vec<String> = Vec::new();
    for step in &mut plan.steps {
        if lost.contains(&step.instance) {
            step.failed("the instance was not made");
            continue;
        }
        let Some((path, body)) = step.request() else { continue };
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        match to.ask(Method::POST, &path, Some(&body)).await {
            Ok(_) => step.done(),
            Err(failure) => {
                step.failed(&failure.message);
                if step.makes_instance() {
                    lost.push(step.instance.clone());
                }
            }
        }
    }
    plan
}

impl Server<'_> {
    async fn instances(&self) -> Result<Vec<plan::Instance>, Failure> {
        let list = self.ask(Method::GET, &["instance", "fetchInstances"], None).await?;
        plan::instances(&list).ok_or_else(|| {
            self.unreachable("the answer to /instance/fetchInstances is not one of Evolution API")
        })
    }

    /// What is set for a channel; none if nothing ever was, or the server does not know it.
    async fn channel(&self, channel: &str, instance: &str) -> Result<Option<Value>, Failure> {
        match self.ask(Method::GET, &[channel, "find", instance], None).await {
            Ok(row) => Ok(Some(row).filter(Value::is_object)),
            Err(failure) if matches!(failure.exit, Exit::NotFound) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let what = format!("{method} /{}", path.join("/"));
        let url = self.path(path)?;
        let answer = fetch(method, &url, [("apikey", self.key)], body);
        let answer = tokio::time::timeout(PATIENCE, answer)
            .await
            .map_err(|_| self.unreachable("no answer within a minute"))?;
        let (status, text) = answer.map_err(|error| self.unreachable(&error))?;
        // A channel that is switched off is answered with nothing.
        let answer = match text.as_slice() {
            [] => Value::Null,
            text => serde_json::from_slice(text).unwrap_or(Value::Null),
        };
        if status.is_success() {
            return Ok(answer);
        }
        let said = plan::message(&answer).unwrap_or_default();
        let exit = match status {
            StatusCode::NOT_FOUND => Exit::NotFound,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Denied,
            _ => Exit::Failure,
        };
        let hint = match exit {
            Exit::Denied => ": is the key the global one?",
            _ => "",
        };
        Err(Failure::new(exit, format!("{} {what}: {status} {said}{hint}", self.url)))
    }

    fn path(&self, path: &[&str]) -> Result<String, Failure> {
        let wrong = |reason: &str| {
            Failure::new(Exit::Usage, format!("{} {}: {reason}", self.flag, self.url))
        };
        let mut url: url::Url =
            self.url.parse().map_err(|_| wrong("expected a URL such as http://127.0.0.1:8080"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("expected http:// or https://"));
        }
        url.path_segments_mut()
            .map_err(|()| wrong("expected a URL with a host"))?
            .pop_if_empty()
            .extend(path);
        Ok(url.into())
    }

    fn unreachable(&self, reason: &str) -> Failure {
        let message = format!("cannot read {} ({}): {reason}", self.url, self.flag);
        Failure::new(Exit::Unreachable, message)
    }
}
