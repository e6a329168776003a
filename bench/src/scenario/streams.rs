//! Live connections: what an idle one costs, how fast one event reaches many, how many deliveries
//! a second, and how fast one catches up that is far behind. In the same minutes the same clients
//! are connected to a server on the same library that has no store.

mod behind;
mod idle;
mod reach;

use std::{ops::Range, sync::Arc};

use tempfile::TempDir;

use crate::{
    Failure,
    bare::Bare,
    bench::{Bench, Load, Sent, post},
    exchange::Post,
    files,
    gateway::{Gateway, Instance},
    generator::{self, Driven, Plan},
    ledger::Run,
    note,
    process::Memory,
    swarm::{Door, Swarm},
};

pub(super) fn run(bench: &mut Bench) -> Result<(), Failure> {
    idle::run(bench)?;
    reach::run(bench)?;
    behind::run(bench)
}

/// Whether so many connections fit into the limit on open files; if not, the report says so.
fn fits(bench: &mut Bench, connections: usize) -> Result<bool, Failure> {
    let needed = files::needed(connections);
    let Some(limit) = files::limit().filter(|limit| needed > *limit) else {
        return Ok(true);
    };
    note(&format!(
        "streams: {connections} connections are left out: they need {needed} open files in a \
         process, and the hard limit is {limit} (ulimit -Hn)"
    ));
    let weather = bench.weather()?;
    let what = format!("left out: {connections} connections, for want of open files");
    let figures = vec![("files_needed", needed as f64), ("files_allowed", limit as f64)];
    bench.record("streams", what, figures, weather)?;
    Ok(false)
}

/// A server that streams events.
enum Server {
    /// The gateway, everything at its default but how many connections there may be.
    Gateway { gateway: Gateway, instance: Instance, _folder: TempDir },
    /// The one without a store; its events have as many bytes as a frame of the gateway.
    Bare { bare: Bare, frame_bytes: usize },
}

impl Server {
    fn gateway(bench: &Bench) -> Result<Self, Failure> {
        const MOST: &str = "1000000";
        let folder = bench.folder()?;
        let limits = [
            ("ZAPBUS_HTTP_MAX_CONNECTIONS", MOST),
            ("ZAPBUS_REALTIME_MAX_CONNECTIONS", MOST),
            ("ZAPBUS_REALTIME_MAX_CONNECTIONS_PER_ACCOUNT", MOST),
        ];
        let mut gateway = Gateway::start(&bench.binary, folder.path(), &limits)?;
        let instance = gateway.create_instance("bench")?;
        Ok(Self::Gateway { gateway, instance, _folder: folder })
    }

    fn bare(frame_bytes: usize) -> Result<Self, Failure> {
        Ok(Self::Bare { bare: Bare::start()?, frame_bytes })
    }

    fn door(&self) -> Door {
        match self {
            Self::Gateway { gateway, instance, .. } => door(gateway, instance, ""),
            Self::Bare { bare, .. } => {
                let (path, token) = ("/stream".to_owned(), "none".to_owned());
                Door { address: bare.address, path, token }
            }
        }
    }

    fn memory(&self) -> Result<Memory, Failure> {
        match self {
            Self::Gateway { gateway, .. } => gateway.memory(),
            Self::Bare { bare, .. } => bare.memory(),
        }
    }

    fn cpu_seconds(&self) -> Result<f64, Failure> {
        match self {
            Self::Gateway { gateway, .. } => gateway.cpu_seconds(),
            Self::Bare { bare, .. } => bare.cpu_seconds(),
        }
    }

    fn post(&self, run: &Arc<Run>, load: Load) -> Result<Driven, Failure> {
        match self {
            Self::Gateway { gateway, instance, .. } => post(gateway, instance, run, load),
            Self::Bare { bare, frame_bytes } => {
                let mut events = Post::to_bare_server(bare.address, run, *frame_bytes);
                let Load { events: requests, connections, pace, .. } = load;
                generator::drive(bare.address, Plan { requests, connections, pace }, &mut events)
            }
        }
    }

    /// New events to every client of a swarm, until all of them have arrived.
    fn through(
        &self,
        bench: &mut Bench,
        swarm: &Swarm,
        subscribers: Range<usize>,
        load: Load,
    ) -> Result<Sent, Failure> {
        let run = bench.new_run(subscribers, load.events);
        swarm.expect(&run);
        let driven = self.post(&run, load)?;
        let arrivals = swarm.wait(&run)?;
        swarm.forget(&run);
        Ok(Sent { driven, arrivals })
    }

    fn stop(self) -> Result<(), Failure> {
        if let Self::Gateway { gateway, .. } = self {
            gateway.stop()?;
        }
        Ok(())
    }
}

/// The stream of an instance; `query` is empty or begins with a question mark.
fn door(gateway: &Gateway, instance: &Instance, query: &str) -> Door {
    Door {
        address: gateway.address,
        path: format!("/v1/instances/{}/stream{query}", instance.id),
        token: instance.token.clone(),
    }
}
