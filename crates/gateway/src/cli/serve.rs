//! `zapbus serve`: load config, bind, run, wait for a signal, drain.

use std::{io::Write, net::SocketAddr, pin::pin};

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{net::TcpListener, sync::oneshot};

use super::{Exit, Failure, Local, signals::Signals};
use crate::{Hooks, Listeners, config::Config, run, telemetry::logs, welcome};

/// Flags of `serve`.
#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    local: Local,
    /// Go on with a data folder that `zapbus copy` has copied into a database: no node runs there.
    #[arg(long)]
    take_back: bool,
}

impl Serve {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let config = self.local.config()?;
        logs::start(&config.log);
        raise_open_files();
        let runtime = tokio::runtime::Runtime::new()
            .map_err(|error| Failure::new(Exit::Failure, format!("cannot start: {error}")))?;
        runtime.block_on(serve(config, self.take_back, out))
    }
}

async fn serve(config: Config, take_back: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let signals = Signals::watch()?;
    let (http, inherited) = match inherited()? {
        Some(listener) => (listener, true),
        None => (bind(config.listen).await?, false),
    };
    let (started, on_start) = oneshot::channel();
    let hooks = Hooks {
        // Nobody listens any more only when we are going down already.
        started: Box::new(move |facts| drop(started.send(facts))),
        take_back,
        ..Hooks::default()
    };
    let stop = signals.first.cancelled();
    let mut gateway = pin!(run(config, Listeners { http, inherited }, hooks, stop));
    let mut on_start = pin!(on_start);
    let mut greeted = false;
    loop {
        tokio::select! {
            ended = gateway.as_mut() => {
                return ended.map_err(|error| Failure::new(Exit::Failure, error.to_string()));
            }
            facts = on_start.as_mut(), if !greeted => {
                greeted = true;
                if let Ok(facts) = facts {
                    out.write_all(welcome::text(&facts).as_bytes())?;
                    out.flush()?;
                }
            }
            () = signals.second.cancelled() => {
                return Err(Failure::new(
                    Exit::Failure,
                    "stopped at once by a second signal; what was in flight is sent again at the next start",
                ));
            }
        }
    }
}

/// A connection is an open file, and the usual soft limit is 1,024 of them.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(event = "process.open_files", %error, current = limit.current, "the limit stays");
    }
}

/// A listener that whoever started us has opened (systemd's socket activation: `LISTEN_FDS`). It
/// stays open while we restart.
fn inherited() -> Result<Option<TcpListener>, Failure> {
    let unusable = |error: std::io::Error| {
        let message = format!("the socket given in LISTEN_FDS cannot be used: {error}");
        Failure::new(Exit::Failure, message)
    };
    let mut given = listenfd::ListenFd::from_env();
    let Some(listener) = given.take_tcp_listener(0).map_err(unusable)? else {
        return Ok(None);
    };
    if given.len() > 1 {
        tracing::warn!(
            event = "http.sockets_unused",
            given = given.len(),
            "only the first socket of LISTEN_FDS is used"
        );
    }
    listener.set_nonblocking(true).map_err(unusable)?;
    TcpListener::from_std(listener).map(Some).map_err(unusable)
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        let advice = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "Another process has this port: stop it, or give another one"
            }
            std::io::ErrorKind::PermissionDenied => {
                "Ports below 1024 need a privilege: give a higher one"
            }
            _ => "Give an address of this machine",
        };
        Failure::new(
            Exit::Failure,
            format!("cannot listen on {address}: {error}. {advice} (--listen, ZAPBUS_LISTEN)."),
        )
    })
}
