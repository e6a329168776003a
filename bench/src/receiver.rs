//! The receiver: one thread that answers every POST at once and enters what arrived.
//!
//! Destination `n` posts to `/d/<n>`. Works on plain connections with keep-alive, one epoll.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Instant,
};

use rustix::{
    buffer::spare_capacity,
    event::Timespec,
    event::epoll::{self, EventData, EventFlags},
    fd::OwnedFd,
};

use crate::{
    Failure, event, http,
    ledger::Run,
    watch::{View, Watched},
};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const DOWN: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

/// Token of the listener among those of connections.
const LISTENER: u64 = u64::MAX;

/// Nobody is down.
const NOBODY: usize = usize::MAX;

/// How often the thread looks whether it is to end.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// A receiver that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    runs: Watched,
    down: AtomicUsize,
    stop: AtomicBool,
}

impl Receiver {
    pub(crate) fn start() -> Result<Self, Failure> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            runs: Watched::default(),
            down: AtomicUsize::new(NOBODY),
            stop: AtomicBool::new(false),
        });
        let loop_ = Loop::new(listener, shared.clone())?;
        let thread = std::thread::Builder::new().name("receiver".into()).spawn(|| loop_.run())?;
        Ok(Self { address, shared, thread: Some(thread) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where destination `number` posts to.
    pub(crate) fn url(&self, number: usize) -> String {
        format!("http://{}/d/{number}", self.address)
    }

    /// Enters arrivals of this run from now on.
    pub(crate) fn expect(&self, run: &Arc<Run>) {
        self.shared.runs.expect(run);
    }

    /// Frees what is known about a run.
    pub(crate) fn forget(&self, run: &Run) {
        self.shared.runs.forget(run);
    }

    /// Destination `number` is answered 503 from now on; `None`: nobody is.
    pub(crate) fn set_down(&self, number: Option<usize>) {
        self.shared.down.store(number.unwrap_or(NOBODY), Ordering::Release);
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported where it happened.
            let _ = thread.join();
        }
    }
}

struct Connection {
    stream: TcpStream,
    /// Bytes of a request that has not arrived whole.
    partial: Vec<u8>,
    /// Bytes of answers that the socket did not take.
    unsent: Vec<u8>,
}

struct Loop {
    listener: TcpListener,
    epoll: OwnedFd,
    shared: Arc<Shared>,
    view: View,
    connections: HashMap<u64, Connection>,
    next: u64,
    buffer: Vec<u8>,
}

impl Loop {
    fn new(listener: TcpListener, shared: Arc<Shared>) -> Result<Self, Failure> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Self {
            listener,
            epoll,
            shared,
            view: View::default(),
            connections: HashMap::new(),
            next: 0,
            buffer: vec![0; 256 << 10],
        })
    }

    fn run(mut self) {
        let mut events = Vec::with_capacity(256);
        while !self.shared.stop.load(Ordering::Acquire) {
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&TICK)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("the receiver cannot wait: {error}"),
            }
            self.view.refresh(&self.shared.runs);
            for event in events.drain(..) {
                match event.data.u64() {
                    LISTENER => self.accept(),
                    token => self.serve(token),
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let token = self.next;
            self.next += 1;
            let watched = stream
                .set_nonblocking(true)
                .and_then(|()| stream.set_nodelay(true))
                .and_then(|()| {
                    let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
                    Ok(epoll::add(&self.epoll, &stream, EventData::new_u64(token), flags)?)
                });
            if watched.is_ok() {
                let connection = Connection { stream, partial: Vec::new(), unsent: Vec::new() };
                self.connections.insert(token, connection);
            }
        }
    }

    /// Reads until the socket is empty, as edges demand, and answers all that arrived.
    fn serve(&mut self, token: u64) {
        let Some(mut connection) = self.connections.remove(&token) else {
            return;
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        let open = loop {
            match connection.stream.read(&mut buffer) {
                Ok(0) => break false,
                Ok(read) => {
                    let taken = if connection.partial.is_empty() {
                        self.take(&buffer[..read], &mut connection.unsent).map(|used| {
                            connection.partial.extend_from_slice(&buffer[used..read]);
                        })
                    } else {
                        connection.partial.extend_from_slice(&buffer[..read]);
                        self.take(&connection.partial, &mut connection.unsent).map(|used| {
                            connection.partial.drain(..used);
                        })
                    };
                    if taken.is_err() {
                        break false;
                    }
                    // A short read has emptied the socket; the next bytes are a new edge.
                    if read < buffer.len() {
                        break true;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break true,
                Err(_) => break false,
            }
        };
        self.buffer = buffer;
        if open && flush(&mut connection).is_ok() {
            self.connections.insert(token, connection);
        }
    }

    /// Enters and answers the whole requests in `bytes`; returns how many bytes they were.
    fn take(&self, bytes: &[u8], answers: &mut Vec<u8>) -> Result<usize, Failure> {
        let mut used = 0;
        while let Some(framing) = http::framing(&bytes[used..])? {
            let Some(request) = bytes.get(used..used + framing.len()) else {
                break;
            };
            let destination = destination(request);
            let down = self.shared.down.load(Ordering::Acquire);
            let accepted = destination != Some(down);
            self.enter(destination, accepted, &request[framing.head..]);
            answers.extend_from_slice(if accepted { OK } else { DOWN });
            used += framing.len();
        }
        Ok(used)
    }

    fn enter(&self, destination: Option<usize>, accepted: bool, body: &[u8]) {
        if let Some(destination) = destination {
            self.view.enter(destination, Instant::now(), accepted, body);
        }
    }
}

fn flush(connection: &mut Connection) -> std::io::Result<()> {
    while !connection.unsent.is_empty() {
        match connection.stream.write(&connection.unsent) {
            Ok(written) => drop(connection.unsent.drain(..written)),
            // The edge of a writable socket brings us back.
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// From `POST /d/<n> HTTP/1.1`.
fn destination(request: &[u8]) -> Option<usize> {
    event::digits(request.strip_prefix(b"POST /d/")?).map(|number| number as usize)
}
