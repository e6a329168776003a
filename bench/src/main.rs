//! `zapbus-bench`: measures a real `zapbus serve` from outside, by the doors its users have.
//!
//! - [`generator`] and [`receiver`]: a hand-written HTTP/1.1 pair, fast enough not to be what is
//!   measured; [`exchange`] and [`event`]: what is posted; [`ledger`]: what arrived, once, in order
//! - [`gateway`] and [`process`]: the process under measurement; [`postgres`]: the database of a
//!   cluster; [`bare`]: a server without a store, to compare with
//! - [`swarm`] and [`frame`]: thousands of WebSocket clients in one thread
//! - [`scenario`]: the questions; [`report`], [`target`], [`machine`]: the answers
//!
//! A run in which an acknowledged event does not arrive ends with an error, not with a figure.

#![expect(clippy::print_stdout, reason = "the report is for whoever runs it")]
#![expect(clippy::print_stderr, reason = "progress is not part of the report")]

mod bare;
mod bench;
mod event;
mod exchange;
mod files;
mod frame;
mod gateway;
mod generator;
mod http;
mod latency;
mod ledger;
mod machine;
mod postgres;
mod process;
mod receiver;
mod report;
mod scenario;
mod size;
mod swarm;
mod target;
mod watch;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

use self::{bench::Bench, scenario::Scenario};

/// Why a measurement ended without a figure.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Measures a Zapbus binary and reports tables and JSON.
#[derive(Debug, Parser)]
#[command(name = "zapbus-bench")]
struct Arguments {
    /// The gateway's binary, a release build.
    #[arg(long, default_value = "target/release/zapbus")]
    binary: PathBuf,
    /// The build that counts its allocations (feature `count-allocations`); without it they are
    /// not reported.
    #[arg(long)]
    counting_binary: Option<PathBuf>,
    /// Only these scenarios.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Scenario>,
    /// Of the path, only so many connections: for a profiler, or to compare two binaries.
    #[arg(long)]
    connections: Option<usize>,
    /// A PostgreSQL server to measure clusters on, with the right to make databases; else one is
    /// started, if it is installed.
    #[arg(long)]
    database_url: Option<String>,
    /// A RabbitMQ to measure its channel on, without TLS.
    #[arg(long)]
    amqp_uri: Option<String>,
    /// A service that speaks SQS to measure its channel on, without TLS; else one in this process.
    #[arg(long)]
    sqs_endpoint: Option<String>,
    /// Small sizes: shows that everything works, measures nothing.
    #[arg(long, conflicts_with = "long")]
    quick: bool,
    /// Ten million rows where growth is measured: takes half an hour more and 25 GB of disk.
    #[arg(long)]
    long: bool,
    /// Where gateways keep their data meanwhile.
    #[arg(long, default_value = "target/bench")]
    folder: PathBuf,
    /// Be the server without a store that live connections are compared with.
    #[arg(long, hide = true)]
    bare_server: bool,
    /// Where to write the JSON report.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("zapbus-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    files::raise_limit()?;
    if arguments.bare_server {
        return bare::serve();
    }
    let size = match arguments {
        Arguments { quick: true, .. } => size::QUICK,
        Arguments { long: true, .. } => size::LONG,
        _ => size::FULL,
    };
    let binary = arguments.binary.canonicalize().map_err(|error| {
        format!("{}: {error}. Build it first: make build", arguments.binary.display())
    })?;
    let counting = arguments.counting_binary.map(|path| path.canonicalize()).transpose()?;
    let machine = machine::facts();
    let mut bench = Bench::new(binary, counting, size, &arguments.folder)?;
    bench.connections = arguments.connections;
    bench.database_url = arguments.database_url;
    bench.amqp_uri = arguments.amqp_uri;
    bench.sqs_endpoint = arguments.sqs_endpoint;
    for scenario in Scenario::ALL {
        if !arguments.only.is_empty() && !arguments.only.contains(&scenario) {
            continue;
        }
        let first = bench.records.len();
        scenario.run(&mut bench).map_err(|error| format!("{}: {error}", scenario.name()))?;
        let measured = &bench.records[first..];
        let table =
            if measured.is_empty() { "not measured\n".into() } else { report::tables(measured) };
        println!("\n### {}\n\n{table}", scenario.name());
    }
    println!("\n### targets\n\n{}", target::table(&bench.records));
    if let Some(path) = arguments.json {
        let document = report::document(machine, size.name, &bench.records);
        std::fs::write(path, format!("{}\n", serde_json::to_string_pretty(&document)?))?;
    }
    Ok(())
}

/// Says how far it is.
fn note(text: &str) {
    eprintln!("{text}");
}
