//! `zapbus import …`

mod evolution;

use std::io::Write;

use clap::Subcommand;

use super::Failure;

/// What to import from.
#[derive(Debug, Subcommand)]
pub(super) enum Import {
    /// From an Evolution API: its instances with their tokens, and which events go where.
    #[command(after_help = "\
Examples:
  zapbus import evolution --url https://evolution.example.com --apikey @key.txt --dry-run
  zapbus import evolution --url https://evolution.example.com --apikey @key.txt --instance shop --yes

Reads /instance/fetchInstances and the settings of webhook, websocket, rabbitmq, sqs and pusher, and
sets the same at the gateway. Instances that are there keep their token; what is set for one here is
set anew. Nothing is changed at the server that is read. Running it again does no harm.")]
    Evolution(evolution::Evolution),
}

impl Import {
    pub(super) fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Self::Evolution(evolution) => evolution.run(out, err),
        }
    }
}
