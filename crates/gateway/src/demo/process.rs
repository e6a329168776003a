//! The demo's gateway: a process of its own, so that it can be killed as the kernel kills.
//!
//! It takes nothing from the environment: what it must know comes as one line on its standard
//! input. When that closes, because the demo ended in whatever way, it stops.

use std::{
    io::{BufRead, Read, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    process::{Child, Command},
};
use tokio_util::sync::CancellationToken;

use super::DemoError;
use crate::{
    Hooks, Listeners,
    config::{Config, Secret},
    run,
    telemetry::logs,
};

/// The hidden command that the process is started with.
pub(crate) const COMMAND: &str = "demo-gateway";

/// How long a start may take, and a stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// What it says when it takes events.
const READY: &str = "ready";

/// What the process must know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Setup {
    /// Where to listen; the same after a restart.
    pub(super) listen: SocketAddr,
    /// The demo's own folder.
    pub(super) data_dir: PathBuf,
    /// The admin token, as random as any.
    pub(super) admin_token: String,
}

impl Setup {
    /// Everything else is at its default, whatever this machine's configuration says. Probes come
    /// soon: a demo has no minutes.
    fn config(&self) -> Config {
        let mut config = Config {
            listen: self.listen,
            data_dir: self.data_dir.clone(),
            admin_token: Some(Secret::new(&self.admin_token)),
            ..Config::default()
        };
        config.lanes.probe_first_s = 1.0;
        config.lanes.probe_max_s = 3.0;
        config
    }
}

/// A gateway that runs. Killed when dropped.
#[derive(Debug)]
pub(super) struct Gateway {
    child: Child,
    /// Open for as long as the demo lives.
    lifeline: Option<tokio::process::ChildStdin>,
}

impl Gateway {
    /// Starts it and waits until it takes events. Its log is `log`.
    ///
    /// # Errors
    /// When it cannot be started, or ends instead of being ready.
    pub(super) async fn start(setup: &Setup, log: &Path) -> Result<Self, DemoError> {
        let binary = std::env::current_exe().map_err(DemoError::io("find the program"))?;
        let append = std::fs::File::options().create(true).append(true).open(log);
        let mut child = Command::new(binary)
            .arg(COMMAND)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(append.map_err(DemoError::io("write the gateway's log"))?)
            // Ctrl-C is for the demo: the gateway stops when everything has arrived.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(DemoError::io("start the gateway"))?;
        let mut lifeline = child.stdin.take();
        let line = serde_json::to_string(setup).unwrap_or_default();
        if let Some(stdin) = &mut lifeline {
            let sent = stdin.write_all(format!("{line}\n").as_bytes()).await;
            sent.map_err(DemoError::io("talk to the gateway"))?;
            stdin.flush().await.map_err(DemoError::io("talk to the gateway"))?;
        }
        let mut said = String::new();
        if let Some(stdout) = child.stdout.take() {
            let mut stdout = BufReader::new(stdout);
            let read = tokio::time::timeout(PATIENCE, stdout.read_line(&mut said)).await;
            read.map_err(|_| DemoError::Gateway("it is not ready after half a minute".into()))?
                .map_err(DemoError::io("hear from the gateway"))?;
        }
        if said.trim() != READY {
            let log = std::fs::read_to_string(log).unwrap_or_default();
            let last = log.lines().last().unwrap_or("it ended without a word").to_owned();
            return Err(DemoError::Gateway(last));
        }
        Ok(Self { child, lifeline })
    }

    /// `SIGKILL`: it has no time for anything.
    ///
    /// # Errors
    /// When the system does not let us.
    pub(super) async fn kill(mut self) -> Result<(), DemoError> {
        self.child.kill().await.map_err(DemoError::io("kill the gateway"))
    }

    /// Lets it finish and put everything away.
    pub(super) async fn stop(mut self) {
        drop(self.lifeline.take());
        // Dropping it kills it, should it still run.
        let _ = tokio::time::timeout(PATIENCE, self.child.wait()).await;
    }

    /// Waits until it has ended by itself.
    pub(super) async fn ended(&mut self) {
        // An error means that there is nothing to wait for.
        let _ = self.child.wait().await;
    }
}

/// The process's own main: a gateway until standard input closes.
///
/// # Errors
/// When it was not told what it must know, or does not start.
pub(crate) fn gateway(out: &mut dyn Write) -> Result<(), DemoError> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(DemoError::io("read standard input"))?;
    let setup: Setup = serde_json::from_str(&line).map_err(|_| {
        DemoError::Gateway(format!("{COMMAND} is started by `zapbus demo`: use that"))
    })?;
    let config = setup.config();
    logs::start(&config.log);
    let lifeline = CancellationToken::new();
    let stop = lifeline.clone();
    std::thread::spawn(move || {
        let mut rest = [0; 64];
        while std::io::stdin().read(&mut rest).is_ok_and(|read| read > 0) {}
        lifeline.cancel();
    });
    let runtime = tokio::runtime::Runtime::new().map_err(DemoError::io("start"))?;
    runtime.block_on(async move {
        let http = TcpListener::bind(config.listen).await.map_err(DemoError::io("listen"))?;
        let (started, on_start) = tokio::sync::oneshot::channel();
        let hooks = Hooks {
            // Nobody listens any more only when we are going down already.
            started: Box::new(move |facts| drop(started.send(facts))),
            ..Hooks::default()
        };
        let mut running = std::pin::pin!(run(
            config,
            Listeners { http, inherited: false },
            hooks,
            stop.cancelled_owned()
        ));
        tokio::select! {
            ended = running.as_mut() => return ended.map_err(DemoError::from),
            facts = on_start => drop(facts),
        }
        writeln!(out, "{READY}").and_then(|()| out.flush()).map_err(DemoError::io("say so"))?;
        running.await.map_err(DemoError::from)
    })
}
