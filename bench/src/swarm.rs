//! Many WebSocket clients: one thread, one epoll, one buffer for all of them. It enters what arrives
//! and answers pings, so that the measured server is what costs.
//!
//! Connection `n` is destination `first + n` of the runs that are expected.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::Timespec,
    event::epoll::{self, EventData, EventFlags},
    fd::OwnedFd,
};
use socket2::{Domain, Socket, Type};

use crate::{
    Failure,
    frame::{self, Kind},
    http,
    ledger::{Arrivals, Run},
    watch::{View, Watched},
};

/// Connections that are made at the same time: fewer than the shortest queue of a listener (128), as
/// whoever finds it full tries again after a second.
const OPENING: usize = 64;

/// Connections from one address: there are 28,000 ports, and a closed connection keeps its for a
/// while.
const PER_ADDRESS: usize = 10_000;

/// Connections made by this process so far, so that none waits for a port of an earlier one.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// How long no connection may come while some are owed.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the thread looks whether it is to end.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// What a connection keeps of its own between two reads.
const KEPT: usize = 4 << 10;

/// Where streams are.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
    pub(crate) token: String,
}

/// Clients that are connected until it is dropped.
#[derive(Debug)]
pub(crate) struct Swarm {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    runs: Watched,
    /// Connections whose first frame has come.
    open: AtomicUsize,
    /// Bytes of the last frame with an event.
    frame_bytes: AtomicUsize,
    failure: Mutex<Option<String>>,
    stop: AtomicBool,
}

impl Swarm {
    /// Connects one client for each of `destinations`, and waits until every one has its first
    /// frame. Events of `runs` count from the beginning.
    pub(crate) fn open(
        door: &Door,
        destinations: Range<usize>,
        runs: &[&Arc<Run>],
    ) -> Result<Self, Failure> {
        let shared = Arc::new(Shared::default());
        for run in runs {
            shared.runs.expect(run);
        }
        let wanted = destinations.len();
        let work = Loop::new(door, destinations, Arc::clone(&shared))?;
        let thread = std::thread::Builder::new().name("swarm".into()).spawn(|| work.run())?;
        let swarm = Self { shared, thread: Some(thread) };
        let (mut seen, mut since) = (0, Instant::now());
        while seen < wanted {
            std::thread::sleep(Duration::from_millis(2));
            swarm.check()?;
            let open = swarm.shared.open.load(Ordering::Acquire);
            if open > seen {
                (seen, since) = (open, Instant::now());
            } else if since.elapsed() > PATIENCE {
                return Err(format!("only {seen} of {wanted} connections were opened").into());
            }
        }
        Ok(swarm)
    }

    /// Enters events of this run from now on.
    pub(crate) fn expect(&self, run: &Arc<Run>) {
        self.shared.runs.expect(run);
    }

    /// Frees what is known about a run.
    pub(crate) fn forget(&self, run: &Run) {
        self.shared.runs.forget(run);
    }

    /// Waits until every event of the run has arrived everywhere.
    ///
    /// # Errors
    ///
    /// A connection broke, something is missing, or came out of order: that is no figure.
    pub(crate) fn wait(&self, run: &Run) -> Result<Arrivals, Failure> {
        let arrivals = run.wait();
        self.check()?;
        arrivals
    }

    /// Bytes of the last frame with an event.
    pub(crate) fn frame_bytes(&self) -> usize {
        self.shared.frame_bytes.load(Ordering::Acquire)
    }

    /// Whether all is well.
    ///
    /// # Errors
    ///
    /// A connection broke.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let failure = self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.as_ref().map_or(Ok(()), |failure| Err(failure.clone().into()))
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported where it happened.
            let _ = thread.join();
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The answer to the upgrade has not come.
    Upgrading,
    /// The first frame has not come.
    Waiting,
    Open,
}

struct Connection {
    stream: TcpStream,
    state: State,
    /// Bytes of an answer or a frame that has not arrived whole.
    partial: Vec<u8>,
}

struct Loop {
    address: SocketAddr,
    upgrade: Vec<u8>,
    first: usize,
    wanted: usize,
    connections: Vec<Connection>,
    epoll: OwnedFd,
    shared: Arc<Shared>,
    view: View,
}

impl Loop {
    fn new(door: &Door, destinations: Range<usize>, shared: Arc<Shared>) -> Result<Self, Failure> {
        Ok(Self {
            address: door.address,
            upgrade: frame::upgrade(&door.address.to_string(), &door.path, &door.token),
            first: destinations.start,
            wanted: destinations.len(),
            connections: Vec::with_capacity(destinations.len()),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            shared,
            view: View::default(),
        })
    }

    fn run(mut self) {
        if let Err(error) = self.work() {
            let mut failure = self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner);
            *failure = Some(error.to_string());
        }
    }

    fn work(&mut self) -> Result<(), Failure> {
        let mut events = Vec::with_capacity(256);
        let mut buffer = vec![0; 256 << 10];
        while !self.shared.stop.load(Ordering::Acquire) {
            let open = self.shared.open.load(Ordering::Acquire);
            while self.connections.len() < self.wanted && self.connections.len() - open < OPENING {
                self.connect()?;
            }
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&TICK)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            self.view.refresh(&self.shared.runs);
            for event in events.drain(..) {
                self.serve(event.data.u64() as usize, &mut buffer)?;
            }
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<(), Failure> {
        let stream = connect(self.address)?;
        (&stream).write_all(&self.upgrade)?;
        stream.set_nonblocking(true)?;
        let index = self.connections.len() as u64;
        let flags = EventFlags::IN | EventFlags::ET;
        epoll::add(&self.epoll, &stream, EventData::new_u64(index), flags)?;
        let partial = Vec::new();
        self.connections.push(Connection { stream, state: State::Upgrading, partial });
        Ok(())
    }

    /// Reads until the socket is empty, as edges demand.
    fn serve(&mut self, index: usize, buffer: &mut [u8]) -> Result<(), Failure> {
        loop {
            let connection = &mut self.connections[index];
            let read = match connection.stream.read(buffer) {
                Ok(0) => return Err("the server closed a stream".into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let mut partial = std::mem::take(&mut connection.partial);
            if partial.is_empty() {
                let used = self.take(index, &buffer[..read])?;
                partial.extend_from_slice(&buffer[used..read]);
            } else {
                partial.extend_from_slice(&buffer[..read]);
                let used = self.take(index, &partial)?;
                partial.drain(..used);
                if partial.len() <= KEPT {
                    partial.shrink_to(KEPT);
                }
            }
            self.connections[index].partial = partial;
            // A short read has emptied the socket; the next bytes are a new edge.
            if read < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Takes what is whole in `bytes`; returns how many bytes that was.
    fn take(&mut self, index: usize, bytes: &[u8]) -> Result<usize, Failure> {
        let at = Instant::now();
        let connection = &mut self.connections[index];
        let mut used = 0;
        if connection.state == State::Upgrading {
            let Some(framing) = http::framing(bytes)? else {
                return Ok(0);
            };
            if http::status(bytes) != Some(101) {
                let answer = String::from_utf8_lossy(bytes);
                return Err(format!("the server refused a stream: {answer}").into());
            }
            connection.state = State::Waiting;
            used = framing.head;
        }
        while let Some(frame) = frame::first(&bytes[used..])? {
            let payload = &bytes[used..][frame.payload.clone()];
            match frame.kind {
                Kind::Text if connection.state == State::Waiting => {
                    connection.state = State::Open;
                    self.shared.open.fetch_add(1, Ordering::Release);
                }
                Kind::Text => {
                    self.shared.frame_bytes.store(payload.len(), Ordering::Release);
                    self.view.enter(self.first + index, at, true, payload);
                }
                Kind::Ping => connection.stream.write_all(&frame::pong(payload))?,
                Kind::Pong => {}
                Kind::Close => {
                    let reason = payload.get(2..).unwrap_or_default();
                    let reason = String::from_utf8_lossy(reason);
                    return Err(format!("the server closed a stream: {reason}").into());
                }
            }
            used += frame.payload.end;
        }
        Ok(used)
    }
}

/// Connects from an address of its own for every so many connections.
fn connect(address: SocketAddr) -> Result<TcpStream, Failure> {
    if !address.ip().is_loopback() {
        return Err("streams are measured on this machine only".into());
    }
    let made = MADE.fetch_add(1, Ordering::Relaxed);
    let source = source(made / PER_ADDRESS);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect(&address.into())?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The loopback addresses after 127.1.0.0, one after the other.
fn source(number: usize) -> Ipv4Addr {
    let [_, _, high, low] = (number as u32 + 1).to_be_bytes();
    Ipv4Addr::new(127, 1, high, low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_different_addresses_of_this_machine() {
        assert_eq!(source(0), Ipv4Addr::new(127, 1, 0, 1));
        assert_eq!(source(255), Ipv4Addr::new(127, 1, 1, 0));
        assert!(source(4).is_loopback());
    }
}
