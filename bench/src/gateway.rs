//! The gateway under measurement: the real binary in a folder of its own, driven by its own API.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    Failure,
    http::Client,
    process::{self, Memory},
};

const ADMIN_TOKEN: &str = "zb_admin_of_the_benchmark_0123456789";

/// How long a stop may take: what is in flight finishes first.
const PATIENCE: Duration = Duration::from_secs(60);

/// Scrapes of which the median is taken.
const SCRAPES: usize = 21;

/// A gateway that takes events. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Gateway {
    child: Child,
    pub(crate) address: SocketAddr,
    client: Client,
    /// From the start of the process until it took events.
    pub(crate) started_in: Duration,
    log: PathBuf,
}

/// An instance of it.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    pub(crate) id: String,
    pub(crate) token: String,
}

impl Gateway {
    /// Starts `binary` with its data in `<folder>/data`, unless `environment` leads it elsewhere,
    /// and waits until it is ready.
    pub(crate) fn start(
        binary: &Path,
        folder: &Path,
        environment: &[(&str, &str)],
    ) -> Result<Self, Failure> {
        let log = folder.join("stderr.log");
        let started = Instant::now();
        let mut child = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir", "data", "--log-level", "warn"])
            .env_clear()
            .env("ZAPBUS_ADMIN_TOKEN", ADMIN_TOKEN)
            .envs(environment.iter().copied())
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::options().create(true).append(true).open(&log)?)
            .spawn()
            .map_err(|error| format!("cannot start the gateway: {error}"))?;
        let stdout = child.stdout.take().ok_or("the gateway has no output")?;
        let mut lines = BufReader::new(stdout).lines();
        let address = loop {
            let Some(line) = lines.next().transpose()? else {
                let log = std::fs::read_to_string(&log)?;
                return Err(format!("the gateway did not start: {log}").into());
            };
            if let Some(url) = line.trim().strip_prefix("address") {
                let url = url.trim();
                break url.strip_prefix("http://").unwrap_or(url).parse()?;
            }
        };
        let started_in = started.elapsed();
        // Nobody may block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let mut client = Client::new(address, ADMIN_TOKEN);
        client.call("GET", "/readyz", &Value::Null)?;
        Ok(Self { child, address, client, started_in, log })
    }

    pub(crate) fn call(
        &mut self,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Result<Value, Failure> {
        self.client.call(method, path, body)
    }

    /// The operator's token.
    pub(crate) fn admin_token(&self) -> &'static str {
        ADMIN_TOKEN
    }

    /// Creates an instance.
    pub(crate) fn create_instance(&mut self, name: &str) -> Result<Instance, Failure> {
        let made = self.call("POST", "/v1/instances", &json!({ "name": name }))?;
        let text = |member: &str| -> Result<String, Failure> {
            Ok(made[member].as_str().ok_or("an instance without id or token")?.to_owned())
        };
        Ok(Instance { id: text("id")?, token: text("token")? })
    }

    /// Creates a webhook destination for messages, everything else at its default; returns its id.
    pub(crate) fn create_destination(
        &mut self,
        instance: &Instance,
        label: &str,
        url: &str,
    ) -> Result<String, Failure> {
        let made = self.call(
            "POST",
            &format!("/v1/instances/{}/destinations", instance.id),
            &json!({
                "label": label,
                "channel": { "type": "webhook", "url": url },
                "events": ["message.*"],
            }),
        )?;
        Ok(made["id"].as_str().ok_or("a destination without id")?.to_owned())
    }

    /// One value of `/metrics`.
    pub(crate) fn metric(&mut self, name: &str) -> Result<f64, Failure> {
        let text = self.call("GET", "/metrics", &Value::Null)?;
        text.as_str()
            .into_iter()
            .flat_map(str::lines)
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
            .ok_or_else(|| format!("/metrics has no {name}").into())
    }

    /// What a scrape takes, in milliseconds: the median of some.
    pub(crate) fn scrape_ms(&mut self) -> Result<f64, Failure> {
        let mut times = Vec::with_capacity(SCRAPES);
        for _ in 0..SCRAPES {
            let started = Instant::now();
            self.call("GET", "/metrics", &Value::Null)?;
            times.push(started.elapsed());
        }
        times.sort_unstable();
        Ok(times[SCRAPES / 2].as_secs_f64() * 1_000.0)
    }

    /// Waits until nothing is on its way and every settlement is durable.
    pub(crate) fn settle(&mut self) -> Result<(), Failure> {
        let since = Instant::now();
        while self.metric("zapbus_in_flight")? > 0.0 {
            if since.elapsed() > PATIENCE {
                return Err("the gateway does not come to rest".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    pub(crate) fn cpu_seconds(&self) -> Result<f64, Failure> {
        process::cpu_seconds(self.child.id())
    }

    pub(crate) fn memory(&self) -> Result<Memory, Failure> {
        process::memory(self.child.id())
    }

    /// Stops it in good order; returns what it wrote to standard error.
    pub(crate) fn stop(mut self) -> Result<String, Failure> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let since = Instant::now();
        while self.child.try_wait()?.is_none() {
            if since.elapsed() > PATIENCE {
                return Err("the gateway does not stop".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(std::fs::read_to_string(&self.log)?)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
