//! What all scenarios share: binaries, folders, the receiver, and what was recorded.

use std::{
    net::SocketAddr,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use tempfile::TempDir;

use crate::{
    Failure,
    exchange::Post,
    gateway::{Gateway, Instance},
    generator::{self, Driven, Pace, Plan},
    ledger::{Arrivals, Run},
    machine::{self, Weather},
    postgres::Postgres,
    receiver::Receiver,
    report::{self, Record},
    size::Size,
};

/// A benchmark under way.
pub(crate) struct Bench {
    pub(crate) binary: PathBuf,
    /// The same gateway, counting its allocations.
    pub(crate) counting: Option<PathBuf>,
    pub(crate) size: Size,
    /// Of the path, only so many connections.
    pub(crate) connections: Option<usize>,
    /// The server that clusters are measured on, unless it is one of our own.
    pub(crate) database_url: Option<String>,
    /// The broker that destinations are measured on.
    pub(crate) amqp_uri: Option<String>,
    /// The service that SQS destinations are measured on, unless it is one of our own.
    pub(crate) sqs_endpoint: Option<String>,
    pub(crate) receiver: Receiver,
    folder: PathBuf,
    runs: u32,
    pub(crate) records: Vec<Record>,
}

impl Bench {
    pub(crate) fn new(
        binary: PathBuf,
        counting: Option<PathBuf>,
        size: Size,
        folder: &Path,
    ) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder)?;
        Ok(Self {
            binary,
            counting,
            size,
            connections: None,
            database_url: None,
            amqp_uri: None,
            sqs_endpoint: None,
            receiver: Receiver::start()?,
            folder: folder.to_owned(),
            runs: 0,
            records: Vec::new(),
        })
    }

    /// An empty folder for one gateway, removed when dropped.
    pub(crate) fn folder(&self) -> Result<TempDir, Failure> {
        Ok(tempfile::tempdir_in(&self.folder)?)
    }

    pub(crate) fn start(&self, folder: &TempDir) -> Result<Gateway, Failure> {
        Gateway::start(&self.binary, folder.path(), &[])
    }

    /// A server for stores that nodes share; `None` where there is none.
    pub(crate) fn postgres(&self) -> Result<Option<Postgres>, Failure> {
        Postgres::find(self.database_url.as_deref(), &self.folder)
    }

    pub(crate) fn weather(&self) -> Result<Weather, Failure> {
        machine::weather(&self.folder)
    }

    /// A run of events that nobody knows of yet.
    pub(crate) fn new_run(&mut self, destinations: Range<usize>, events: u64) -> Arc<Run> {
        self.runs += 1;
        Arc::new(Run::new(self.runs, destinations, events))
    }

    /// A run of events that the receiver knows of.
    pub(crate) fn expect(&mut self, destinations: Range<usize>, events: u64) -> Arc<Run> {
        let run = self.new_run(destinations, events);
        self.receiver.expect(&run);
        run
    }

    /// Notes figures with the weather around them, and shows them.
    pub(crate) fn record(
        &mut self,
        scenario: &'static str,
        what: String,
        figures: Vec<(&'static str, f64)>,
        before: Weather,
    ) -> Result<(), Failure> {
        let record = Record { scenario, what, figures, before, after: self.weather()? };
        let line: Vec<String> = record
            .figures
            .iter()
            .map(|(name, value)| format!("{name} {}", report::written(*value)))
            .collect();
        crate::note(&format!("{scenario}: {}: {}", record.what, line.join(", ")));
        self.records.push(record);
        Ok(())
    }

    /// The generator straight at the receiver.
    pub(crate) fn bare(
        &mut self,
        requests: u64,
        connections: usize,
        pace: Pace,
    ) -> Result<Sent, Failure> {
        let run = self.expect(0..1, requests);
        let mut post = Post::to_receiver(self.receiver.address(), &run);
        let plan = Plan { requests, connections, pace };
        let driven = generator::drive(self.receiver.address(), plan, &mut post)?;
        let arrivals = run.wait()?;
        self.receiver.forget(&run);
        Ok(Sent { driven, arrivals })
    }

    /// `events` new events through the gateway to each of `destinations`, until all of them have
    /// arrived.
    pub(crate) fn through(
        &mut self,
        gateway: &Gateway,
        instance: &Instance,
        destinations: Range<usize>,
        load: Load,
    ) -> Result<Sent, Failure> {
        let run = self.expect(destinations, load.events);
        let driven = post(gateway, instance, &run, load)?;
        let arrivals = run.wait()?;
        self.receiver.forget(&run);
        Ok(Sent { driven, arrivals })
    }
}

/// How events are posted to the gateway.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) events: u64,
    pub(crate) connections: usize,
    /// Events per request.
    pub(crate) batch: u64,
    pub(crate) pace: Pace,
}

impl Load {
    /// One event per request, as fast as connections allow.
    pub(crate) fn closed(events: u64, connections: usize) -> Self {
        Self { events, connections, batch: 1, pace: Pace::Closed }
    }
}

/// Posts all events of a run to an instance, in whole batches.
pub(crate) fn post(
    gateway: &Gateway,
    instance: &Instance,
    run: &Arc<Run>,
    load: Load,
) -> Result<Driven, Failure> {
    post_to_all(gateway.address, std::slice::from_ref(instance), run, load)
}

/// The same to several instances in turn. Their number divides the number of chats: so a chat is one
/// instance's.
pub(crate) fn post_to_all(
    address: SocketAddr,
    instances: &[Instance],
    run: &Arc<Run>,
    load: Load,
) -> Result<Driven, Failure> {
    let mut post = Post::to_gateway(address, instances, run, load.batch);
    let plan =
        Plan { requests: load.events / load.batch, connections: load.connections, pace: load.pace };
    generator::drive(address, plan, &mut post)
}

/// Events sent, and all of them arrived.
pub(crate) struct Sent {
    pub(crate) driven: Driven,
    pub(crate) arrivals: Arrivals,
}

impl Sent {
    /// First arrivals per second, from the first request to the last arrival.
    pub(crate) fn deliveries_per_s(&self) -> f64 {
        let took = self.arrivals.last.saturating_duration_since(self.driven.started);
        self.arrivals.unique as f64 / took.as_secs_f64()
    }
}
