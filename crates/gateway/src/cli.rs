//! The command line: `serve` and the local commands here, everything else over the HTTP API.

mod account;
mod check_config;
mod client;
mod credential;
mod destination;
mod erase;
mod healthcheck;
mod instance;
mod migrate;
mod output;
mod serve;

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{
    config::{Config, Environment, Flags, Loaded},
    telemetry::logs,
};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Exit {
    Failure = 1,
    Usage = 2,
    NotFound = 3,
    Denied = 4,
    Unreachable = 6,
}

/// What is told to whoever ran the command, and the exit code.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Failure, format!("cannot write the output: {error}"))
    }
}

const EXAMPLES: &str = "\
Examples:
  zapbus serve
  zapbus instance create shop
  zapbus instance source set shop cloud-api --app-secret @secret.txt
  zapbus destination create --instance shop --webhook https://example.com/hook --events 'message.*'
  zapbus destination replay dst_01ARZ3NDEKTSV4RRFFQ69G5FAV --since 2026-01-01T00:00:00Z --dry-run

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 no such thing, 4 not allowed, 6 gateway not reachable.";

/// A durable event bus for WhatsApp.
#[derive(Debug, Parser)]
#[command(name = "zapbus", version, after_help = EXAMPLES, disable_help_subcommand = true)]
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
  zapbus destination replay dst_01ARZ3NDEKTSV4RRFFQ69G5FAV --since 2026-01-01T00:00:00Z --dry-run")]
    Destination(Remote<destination::Destination>),
    /// Erase all data of a chat, a person or an instance, for good.
    #[command(after_help = "\
Examples:
  zapbus erase chat shop 5511999990001@s.whatsapp.net
  zapbus erase person '+55 11 99999-0001'
  zapbus erase instance shop")]
    Erase(Remote<erase::Erase>),
}

/// A command that asks a running gateway.
#[derive(Debug, Args)]
struct Remote<C: Subcommand> {
    #[command(flatten)]
    connection: client::Connection,
    #[command(subcommand)]
    command: C,
}

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
        .collect();
        let flags = Flags { config: self.config.clone(), settings };
        Config::load(&flags, &Environment::of_process())
    }

    /// The configuration, or every mistake in it.
    fn config(&self) -> Result<Config, Failure> {
        let loaded = self.load();
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
        Command::Account(remote) => remote.command.run(&remote.connection, out),
        Command::Instance(remote) => remote.command.run(&remote.connection, out),
        Command::Credential(remote) => remote.command.run(&remote.connection, out),
        Command::Destination(remote) => remote.command.run(&remote.connection, out),
        Command::Erase(remote) => remote.command.run(&remote.connection, out),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // There is nobody left to tell when this fails too.
            let _ = writeln!(err, "zapbus: {}", failure.message);
            ExitCode::from(failure.exit as u8)
        }
    }
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
