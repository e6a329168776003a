//! The command line: `serve` and the local commands here, everything else over the HTTP API.

mod account;
mod ago;
mod audit;
mod backup;
mod check_config;
mod client;
mod cluster;
mod copy;
mod credential;
mod deliveries;
mod demo;
mod destination;
mod doctor;
mod erase;
mod event;
mod exit;
mod healthcheck;
mod import;
mod instance;
mod listen;
mod listing;
mod live;
mod manual;
mod migrate;
mod output;
mod progress;
mod question;
mod redecode;
mod replay;
mod restore;
mod resume;
mod serve;
mod signals;
mod simulate;
mod subscriber;
mod tail;

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use self::exit::{CODES, Exit, Failure};
use crate::{
    config::{Config, Environment, Flags, Loaded},
    telemetry::logs,
};

const EXAMPLES: &str = "\
Examples:
  zapbus demo
  zapbus serve
  zapbus instance create shop
  zapbus instance source set shop cloud-api --app-secret @secret.txt
  zapbus destination create --instance shop --webhook https://example.com/hook --events 'message.*'
  zapbus deliveries --status dead --from 1d
  zapbus replay dst_01ARZ3NDEKTSV4RRFFQ69G5FAV --since 2h --dry-run
  zapbus doctor";

/// A durable event bus for WhatsApp.
#[derive(Debug, Parser)]
#[command(
    name = "zapbus",
    version,
    after_help = format!("{EXAMPLES}\n\n{CODES}\n\nColours are for terminals; NO_COLOR switches them off."),
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway.
    #[command(after_help = "\
Examples:
  zapbus serve
  zapbus serve --listen 0.0.0.0:8080 --data-dir /var/lib/zapbus --log-format json
  ZAPBUS_EGRESS_ALLOW=n8n,10.0.0.0/8 zapbus serve

Every key of zapbus.example.toml has a variable: ZAPBUS_<SECTION>_<KEY>.
SIGTERM or SIGINT stops it: what is in flight finishes first; a second one ends it at once.")]
    Serve(serve::Serve),
    /// Say how the configuration is understood, where each value comes from, and what is wrong.
    #[command(after_help = "\
Examples:
  zapbus check-config
  zapbus check-config --config /etc/zapbus.toml --json

Exit code 2 when something is wrong.")]
    CheckConfig(check_config::CheckConfig),
    /// Bring the store to this version's schema, with the gateway stopped.
    #[command(after_help = "\
Examples:
  zapbus migrate --plan
  zapbus migrate --data-dir /var/lib/zapbus

`zapbus serve` does the same when it starts.")]
    Migrate(migrate::Migrate),
    /// Ask the gateway on this machine whether it is well, as a container's health check does.
    #[command(after_help = "\
Examples:
  zapbus healthcheck
  zapbus healthcheck --ready --listen 127.0.0.1:9090")]
    Healthcheck(healthcheck::Healthcheck),
    /// Tenants of the gateway (with the admin token).
    #[command(after_help = "\
Examples:
  zapbus account create acme
  zapbus account list --json")]
    Account(Remote<account::Account>),
    /// Tokens of an account.
    #[command(after_help = "\
Examples:
  zapbus credential create n8n
  zapbus credential create panel --instance shop
  zapbus credential rotate crd_01ARZ3NDEKTSV4RRFFQ69G5FAV --overlap-s 3600")]
    Credential(Remote<credential::Credential>),
    /// WhatsApp numbers and sessions.
    #[command(after_help = "\
Examples:
  zapbus instance create shop
  zapbus instance source set shop cloud-api --app-secret @secret.txt --phone-number-id 1234567890
  zapbus instance list --in-account acme")]
    Instance(Remote<instance::Instance>),
    /// Where events go.
    #[command(after_help = "\
Examples:
  zapbus destination create --instance shop --webhook https://example.com/hook --events 'message.*'
  zapbus destination test dst_01ARZ3NDEKTSV4RRFFQ69G5FAV --type message.received
  zapbus destination list --json")]
    Destination(Remote<destination::Destination>),
    /// Events that are stored, and posting new ones.
    #[command(after_help = "\
Examples:
  zapbus event list --instance shop --types 'message.*'
  zapbus event show evt_01ARZ3NDEKTSV4RRFFQ69G5FAV
  zapbus event post shop event.json")]
    Event(Remote<event::Event>),
    /// Live consumers with a name, whose place the gateway keeps.
    #[command(after_help = "\
Examples:
  zapbus subscriber list
  zapbus subscriber retry sub_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    Subscriber(Remote<subscriber::Subscriber>),
    /// Make a ticket that opens one live connection within a minute, for a browser.
    #[command(after_help = "\
Examples:
  zapbus ticket --instance shop")]
    Ticket(RemoteWith<subscriber::Ticket>),
    /// Show who changed what in the configuration, the newest first.
    #[command(after_help = "\
Examples:
  zapbus audit
  zapbus audit --limit 0 --ndjson
  zapbus audit --in-account acme --json")]
    Audit(RemoteWith<audit::Audit>),
    /// Let paused destinations go on, all of them after a restore.
    #[command(after_help = "\
Examples:
  zapbus resume dst_01ARZ3NDEKTSV4RRFFQ69G5FAV
  zapbus resume --all")]
    Resume(RemoteWith<resume::Resume>),
    /// Search the delivery log, look at a delivery, send again.
    #[command(
        subcommand_negates_reqs = true,
        after_help = "\
Examples:
  zapbus deliveries
  zapbus deliveries --destination dst_01ARZ3NDEKTSV4RRFFQ69G5FAV --status dead,retrying
  zapbus deliveries --instance shop --event-type 'message.*' --from 2h --limit 20
  zapbus deliveries --http-status 404 --limit 0 --ndjson
  zapbus deliveries show dlv_01ARZ3NDEKTSV4RRFFQ69G5FAV_0_17
  zapbus deliveries retry --status dead --from 1d --dry-run"
    )]
    Deliveries(Box<RemoteWith<deliveries::Deliveries>>),
    /// Send a stretch of the past again, beside what is live. Counts first.
    #[command(
        subcommand_negates_reqs = true,
        after_help = "\
Examples:
  zapbus replay dst_01ARZ3NDEKTSV4RRFFQ69G5FAV --since 2026-01-01T00:00:00Z --dry-run
  zapbus replay dst_01ARZ3NDEKTSV4RRFFQ69G5FAV --since 3h --until 1h --types 'message.*' --yes
  zapbus replay dst_01ARZ3NDEKTSV4RRFFQ69G5FAV --from beginning --yes --follow
  zapbus replay list dst_01ARZ3NDEKTSV4RRFFQ69G5FAV
  zapbus replay cancel dst_01ARZ3NDEKTSV4RRFFQ69G5FAV 1"
    )]
    Replay(RemoteWith<replay::Replay>),
    /// Follow events as they come.
    #[command(after_help = "\
Examples:
  zapbus tail
  zapbus tail shop --types 'message.*'
  zapbus tail shop --since 15m --ndjson

Leaves nothing behind. When the connection breaks it goes on where it was.")]
    Tail(RemoteWith<tail::Tail>),
    /// Bring events to a server on this machine, as a webhook would.
    #[command(after_help = "\
Examples:
  zapbus listen shop --forward-to http://localhost:3000/hook
  zapbus listen shop --forward-to http://localhost:5678/webhook/x --types 'message.*' --name n8n

An event is done when the server has answered 2xx. While the server is away events wait at the gateway,
also when this command is not running; one that is refused comes again, some times. Under another
--name everything is brought once more.")]
    Listen(RemoteWith<listen::Listen>),
    /// Erase all data of a chat, a person or an instance, for good. Counts first.
    #[command(after_help = "\
Examples:
  zapbus erase chat shop 5511999990001@s.whatsapp.net --dry-run
  zapbus erase person '+55 11 99999-0001'
  zapbus erase instance shop")]
    Erase(RemoteWith<erase::Erase>),
    /// Decode again what was kept because it was not understood when it came. Counts first.
    #[command(after_help = "\
Examples:
  zapbus redecode --dry-run
  zapbus redecode shop --source evolution --reason unmapped_name --since 7d --dry-run
  zapbus redecode shop --yes

For the day a new version understands more. What is understood now is stored under new ids, marked as
history, and delivered; doing it again stores nothing twice.")]
    Redecode(RemoteWith<redecode::Redecode>),
    /// Say what is slow, failing, lagging or misconfigured, and what to do about it.
    #[command(after_help = "\
Examples:
  zapbus doctor
  zapbus doctor --json
  zapbus doctor --url https://bus.example.com --config /etc/zapbus.toml

Exit code 0 when there are at most notes, 1 with problems or warnings, 6 when the gateway cannot be
reached. Needs the admin token.")]
    Doctor(RemoteWith<doctor::Doctor>),
    /// Show the nodes on one database, and which of them runs the lanes of which shard.
    #[command(after_help = "\
Examples:
  zapbus cluster
  zapbus cluster --json
  zapbus cluster --url https://bus.example.com

The node that answers has a star. LAG is how long the oldest event waits that a node's destinations
still have to get. Needs the admin token.")]
    Cluster(RemoteWith<cluster::Cluster>),
    /// Take a backup of a running gateway, into the folder that its configuration names.
    #[command(after_help = "\
Examples:
  zapbus backup
  zapbus backup before-upgrade
  zapbus backup list

Everything but the encryption key is in it. It is taken by the gateway, which alone may write while it
runs, so it lands on the gateway's machine, in backup.dir: whoever has the admin token may name a
backup, and not a place. The data folder of a stopped gateway can be copied as it is. Needs the admin
token.")]
    Backup(RemoteWith<backup::Backup>),
    /// Put a backup into an empty data folder; its destinations are paused until `zapbus resume --all`.
    #[command(after_help = "\
Examples:
  zapbus restore /backups/before-upgrade --data-dir /var/lib/zapbus --key-file encryption.key
  zapbus restore /backups/before-upgrade --data-dir ./copy --key-file encryption.key --live
  zapbus restore /backups/before-upgrade --data-dir ./copy --without-secrets

Everything is copied and checked before anything is put in place. Nothing is overwritten; when it
fails, nothing is left behind.")]
    Restore(restore::Restore),
    /// Copy a data folder into a database that several nodes can share, and compare both.
    #[command(after_help = "\
Examples:
  zapbus copy --from sqlite:///var/lib/zapbus --to postgres://zapbus@db.example.com/zapbus
  ZAPBUS_DATABASE_URL=postgres://zapbus@db.example.com/zapbus zapbus copy --from sqlite:///var/lib/zapbus --live --json

The gateway of the folder is stopped first. Events, cursors, replays, the delivery log,
configuration and credentials are copied, ids and positions stay what they are.
ZAPBUS_ENCRYPTION_KEY encrypts the copy: what is in encryption.key of the folder, or a new key.
Ctrl-C stops it; the same command goes on where it stopped (exit code 5 says so). Until it is done
no gateway opens the copy, and then none opens the folder, unless by `zapbus serve --take-back`.")]
    Copy(copy::Copy),
    /// Read what another product is set to do, and set the same here.
    #[command(after_help = "\
Examples:
  zapbus import evolution --url https://evolution.example.com --apikey @key.txt --dry-run")]
    #[command(subcommand)]
    Import(import::Import),
    /// Encrypt the stored secrets with the first of several keys, so that the others can go.
    #[command(after_help = "\
Examples:
  zapbus rekey

To change the key: start the gateway with ZAPBUS_ENCRYPTION_KEY=<new>,<old>, run this, and start it
with the new key alone. Backups from before still need the old one. Needs the admin token.")]
    Rekey(RemoteWith<Nothing>),
    /// Write the completions of a shell.
    #[command(after_help = "\
Examples:
  source <(zapbus completions bash)
  zapbus completions zsh > _zapbus
  zapbus completions fish > zapbus.fish")]
    Completions(manual::Completions),
    /// Write the manual pages.
    #[command(after_help = "\
Examples:
  zapbus man --out ./man1
  zapbus man > zapbus.1")]
    Man(manual::Man),
    /// Post realistic traffic to a running gateway, as if WhatsApp did.
    #[command(after_help = "\
Examples:
  zapbus simulate --instance shop
  zapbus simulate --instance shop --rate 200/s --duration 5m --speed 10
  zapbus simulate --instance shop --instance support --count 10000 --seed 7 --json
  zapbus simulate --instance shop --source cloud-api --app-secret @secret.txt --phone-number-id 1234567890

Conversations with replies and receipts, groups, calls, presence, campaigns, sessions that drop,
repetitions: every type. Use an instance made for it: its events are delivered like any others.
A gateway that is busy is asked again; repeats are harmless. --json: a line per second, and one
at the end with \"done\".")]
    Simulate(simulate::Simulate),
    /// See it work: a gateway of its own, realistic traffic, receivers that fail, a live view.
    #[command(after_help = "\
Examples:
  zapbus demo
  zapbus demo --seed 7 --rate 100/s
  zapbus demo --duration 30 --kill-every 10
  zapbus demo --duration 5 --json

Runs in a temporary folder on a free port of this machine, whatever is configured, and removes
the folder at its end. Ends with what was accepted and what arrived; exit code 1 when an accepted
event is missing. NO_COLOR takes the colours away.")]
    Demo(demo::Demo),
    /// The demo's gateway, started by `demo`.
    #[command(name = crate::demo::GATEWAY_COMMAND, hide = true)]
    DemoGateway,
}

/// A command that asks a running gateway.
#[derive(Debug, Args)]
struct Remote<C: Subcommand> {
    #[command(flatten)]
    connection: client::Connection,
    #[command(subcommand)]
    command: C,
}

/// The same for a command that has flags of its own.
#[derive(Debug, Args)]
struct RemoteWith<C: Args> {
    // Its heading would go on over what comes behind it.
    #[command(flatten)]
    command: C,
    #[command(flatten)]
    connection: client::Connection,
}

/// No flags.
#[derive(Debug, Args)]
struct Nothing {}

/// Where the configuration comes from, for commands that work on the machine itself.
#[derive(Debug, Args)]
struct Local {
    /// The configuration file [default: ./zapbus.toml if it is there].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port to listen on, for example 0.0.0.0:8080.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where the store is.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<String>,
    /// How the gateway is reached from outside.
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// error, warn, info, debug, trace, or a filter.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// text or json.
    #[arg(long, value_name = "FORMAT", value_enum)]
    log_format: Option<logs::Format>,
}

impl Local {
    fn load(&self) -> Loaded {
        self.load_with(Vec::new())
    }

    /// With what flags of the command itself say: key, value and flag.
    fn load_with(&self, more: Vec<(&'static str, String, &'static str)>) -> Loaded {
        let format = self.log_format.map(|format| match format {
            logs::Format::Text => "text".to_owned(),
            logs::Format::Json => "json".to_owned(),
        });
        let settings = [
            ("listen", &self.listen, "--listen"),
            ("data_dir", &self.data_dir, "--data-dir"),
            ("public_url", &self.public_url, "--public-url"),
            ("log.level", &self.log_level, "--log-level"),
            ("log.format", &format, "--log-format"),
        ]
        .into_iter()
        .filter_map(|(key, value, flag)| Some((key, value.clone()?, flag)))
        .chain(more)
        .collect();
        let flags = Flags { config: self.config.clone(), settings };
        Config::load(&flags, &Environment::of_process())
    }

    /// The configuration, or every mistake in it.
    fn config(&self) -> Result<Config, Failure> {
        self.config_with(Vec::new())
    }

    fn config_with(
        &self,
        more: Vec<(&'static str, String, &'static str)>,
    ) -> Result<Config, Failure> {
        let loaded = self.load_with(more);
        if loaded.mistakes.is_empty() {
            return Ok(loaded.config);
        }
        let mistakes: Vec<String> =
            loaded.mistakes.iter().map(|mistake| format!("  {mistake}")).collect();
        Err(Failure::new(
            Exit::Usage,
            format!("the configuration has mistakes:\n{}", mistakes.join("\n")),
        ))
    }
}

/// Runs one command.
pub fn run(cli: Cli, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let result = match cli.command {
        Command::Serve(serve) => serve.run(out),
        Command::CheckConfig(check) => check.run(out),
        Command::Migrate(migrate) => migrate.run(out),
        Command::Healthcheck(healthcheck) => healthcheck.run(out),
        Command::Account(remote) => remote.command.run(&remote.connection, out, err),
        Command::Instance(remote) => remote.command.run(&remote.connection, out, err),
        Command::Credential(remote) => remote.command.run(&remote.connection, out, err),
        Command::Destination(remote) => remote.command.run(&remote.connection, out, err),
        Command::Event(remote) => remote.command.run(&remote.connection, out, err),
        Command::Subscriber(remote) => remote.command.run(&remote.connection, out, err),
        Command::Ticket(remote) => remote.command.run(&remote.connection, out),
        Command::Audit(remote) => remote.command.run(&remote.connection, out, err),
        Command::Resume(remote) => remote.command.run(&remote.connection, out, err),
        Command::Deliveries(remote) => remote.command.run(&remote.connection, out, err),
        Command::Replay(remote) => remote.command.run(&remote.connection, out, err),
        Command::Tail(remote) => remote.command.run(&remote.connection, out, err),
        Command::Listen(remote) => remote.command.run(&remote.connection, out, err),
        Command::Erase(remote) => remote.command.run(&remote.connection, out, err),
        Command::Redecode(remote) => remote.command.run(&remote.connection, out, err),
        Command::Doctor(remote) => remote.command.run(&remote.connection, out),
        Command::Cluster(remote) => remote.command.run(&remote.connection, out),
        Command::Backup(remote) => remote.command.run(&remote.connection, out, err),
        Command::Restore(restore) => restore.run(out, err),
        Command::Copy(copy) => copy.run(out, err),
        Command::Import(import) => import.run(out, err),
        Command::Rekey(remote) => {
            let call = client::Call::new(http::Method::POST, &["v1", "rekey"]);
            remote.connection.show(call, out)
        }
        Command::Completions(completions) => completions.run(out),
        Command::Man(man) => man.run(out),
        Command::Simulate(simulate) => simulate.run(out, err),
        Command::Demo(demo) => demo.run(out, err),
        Command::DemoGateway => crate::demo::gateway(out).map_err(Failure::from),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                // There is nobody left to tell when this fails too.
                let _ = writeln!(err, "zapbus: {}", failure.message);
            }
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// What runs a command that asks and waits.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failure, format!("cannot start: {error}")))
}

/// The command line's own description, for the reference that is made of it.
pub fn description() -> clap::Command {
    let mut command = <Cli as clap::CommandFactory>::command();
    command.build();
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    /// clap takes two arguments with one id for one argument, and says nothing.
    #[test]
    fn no_command_hides_a_global_argument() {
        let mut waiting = vec![<Cli as clap::CommandFactory>::command()];
        while let Some(command) = waiting.pop() {
            let globals: Vec<_> =
                command.get_arguments().filter(|argument| argument.is_global_set()).collect();
            let mut below: Vec<_> = command.get_subcommands().collect();
            while let Some(inner) = below.pop() {
                for argument in inner.get_arguments() {
                    for global in &globals {
                        let hides = argument.get_id() == global.get_id()
                            || (argument.get_long().is_some()
                                && argument.get_long() == global.get_long());
                        assert!(!hides, "{} in {}", argument.get_id(), inner.get_name());
                    }
                }
                below.extend(inner.get_subcommands());
            }
            waiting.extend(command.get_subcommands().cloned());
        }
    }
}
