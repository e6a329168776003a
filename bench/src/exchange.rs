//! What is posted: events to the gateway or straight to the receiver, and other calls.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use memchr::memmem;

use crate::{Failure, event::Template, gateway::Instance, generator::Exchange, ledger::Run};

/// Posts the events of a run, one or several per request.
#[derive(Debug)]
pub(crate) struct Post {
    run: Arc<Run>,
    template: Template,
    /// One for each path in turn.
    heads: Vec<Vec<u8>>,
    batch: u64,
    /// The answer tells of each event whether it is stored.
    gateway: bool,
}

impl Post {
    /// To the native ingest of these instances in turn, `batch` events per request.
    pub(crate) fn to_gateway(
        address: SocketAddr,
        instances: &[Instance],
        run: &Arc<Run>,
        batch: u64,
    ) -> Self {
        let path = |instance: &Instance| format!("/v1/instances/{}/events", instance.id);
        let doors = instances.iter().map(|instance| (path(instance), instance.token.as_str()));
        Self::new(address, doors, run, Template::new(run.number), batch)
    }

    /// Straight to the receiver, as its destination 0.
    pub(crate) fn to_receiver(address: SocketAddr, run: &Arc<Run>) -> Self {
        Self::bare(address, "/d/0", run, Template::new(run.number))
    }

    /// To the server that has no store, events of `size` bytes each.
    pub(crate) fn to_bare_server(address: SocketAddr, run: &Arc<Run>, size: usize) -> Self {
        Self::bare(address, "/events", run, Template::sized(run.number, size))
    }

    /// Whoever is there says no more than 2xx.
    fn bare(address: SocketAddr, path: &str, run: &Arc<Run>, template: Template) -> Self {
        Self { gateway: false, ..Self::new(address, [(path.to_owned(), "none")], run, template, 1) }
    }

    /// With path and token of each door.
    fn new<'a>(
        address: SocketAddr,
        doors: impl IntoIterator<Item = (String, &'a str)>,
        run: &Arc<Run>,
        template: Template,
        batch: u64,
    ) -> Self {
        let length = match batch {
            1 => template.len(),
            // An array: brackets and commas.
            _ => batch as usize * (template.len() + 1) + 1,
        };
        let head = |(path, token): (String, &str)| {
            format!(
                "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
                 content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
            )
            .into_bytes()
        };
        let heads = doors.into_iter().map(head).collect();
        Self { run: Arc::clone(run), template, heads, batch, gateway: true }
    }
}

impl Exchange for Post {
    fn write(&mut self, number: u64, due: Instant, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.heads[number as usize % self.heads.len()]);
        let first = number * self.batch;
        for event in first..first + self.batch {
            self.run.plan(event, due);
            if self.batch > 1 {
                out.push(if event == first { b'[' } else { b',' });
            }
            self.template.write(event, out);
        }
        if self.batch > 1 {
            out.push(b']');
        }
    }

    fn check(&mut self, number: u64, body: &[u8]) -> Result<(), Failure> {
        if !self.gateway {
            return Ok(());
        }
        let stored = memmem::find_iter(body, b"\"duplicate\":false").count() as u64;
        if stored == self.batch {
            Ok(())
        } else {
            let body = String::from_utf8_lossy(body);
            Err(format!("request {number}: {stored} of {} events were stored: {body}", self.batch)
                .into())
        }
    }
}

/// Posts JSON documents to the gateway, one per request.
pub(crate) struct Documents<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) token: &'static str,
    /// Path and body of a request.
    pub(crate) document: &'a dyn Fn(u64) -> (String, String),
}

impl Exchange for Documents<'_> {
    fn write(&mut self, number: u64, _due: Instant, out: &mut Vec<u8>) {
        let (path, body) = (self.document)(number);
        out.extend_from_slice(
            format!(
                "POST {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                self.address,
                self.token,
                body.len()
            )
            .as_bytes(),
        );
    }

    fn check(&mut self, _number: u64, _body: &[u8]) -> Result<(), Failure> {
        Ok(())
    }
}
