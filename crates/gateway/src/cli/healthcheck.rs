//! `zapbus healthcheck`: for images that have no shell and no curl.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use clap::Args;
use serde_json::json;

use super::{Exit, Failure, Local};

/// Longer than this, a gateway is not well.
const PATIENCE: Duration = Duration::from_secs(3);

/// Bytes of an answer that are read.
const ANSWER: u64 = 16 << 10;

/// Flags of `healthcheck`. The address is that of `serve`, from the same configuration.
#[derive(Debug, Args)]
pub(super) struct Healthcheck {
    #[command(flatten)]
    local: Local,
    /// Ask whether it takes events, not only whether it runs.
    #[arg(long)]
    ready: bool,
    /// Print one JSON object, whatever is known.
    #[arg(long)]
    json: bool,
}

impl Healthcheck {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let config = self.local.config()?;
        let address = reachable(config.listen);
        let unreachable = |error: std::io::Error| {
            Failure::new(Exit::Unreachable, format!("no answer from {address}: {error}"))
        };
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(unreachable)?;
        if config.tls.is_on() {
            // Its certificate names a host and not this address: that it listens must do.
            if self.json {
                let answer = json!({ "status": "listening", "address": address.to_string() });
                writeln!(out, "{answer}")?;
            } else {
                writeln!(out, "listening with TLS on {address}")?;
            }
            return Ok(());
        }
        stream.set_read_timeout(Some(PATIENCE)).map_err(unreachable)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(unreachable)?;
        let path = if self.ready { "/readyz" } else { "/healthz" };
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(unreachable)?;
        let mut answer = Vec::new();
        stream.take(ANSWER).read_to_end(&mut answer).map_err(unreachable)?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).unwrap_or_default();
        if status == "200" {
            writeln!(out, "{}", body.trim())?;
            return Ok(());
        }
        let said = if body.is_empty() { head } else { body };
        Err(Failure::new(Exit::Failure, format!("{path} answered {status}: {}", said.trim())))
    }
}

/// An address that listens on all interfaces is asked on this machine's own.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
