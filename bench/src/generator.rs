//! The load generator: one thread, many keep-alive connections, one request at a time on each.
//!
//! In an open loop every request has its planned time, and what it takes is counted from there:
//! a request that waits for a free connection is late, not forgotten.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::Timespec,
    event::epoll::{self, EventData, EventFlags},
    fd::OwnedFd,
};

use crate::{Failure, http, latency::Latencies};

/// How long no answer may come while some are owed.
const PATIENCE: Duration = Duration::from_secs(60);

/// When the next request goes out.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// As soon as a connection is free.
    Closed,
    /// So many per second, whether a connection is free or not.
    PerSecond(f64),
}

/// What to send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) requests: u64,
    pub(crate) connections: usize,
    pub(crate) pace: Pace,
}

/// Writes requests and looks at their answers.
pub(crate) trait Exchange {
    /// Appends request `number`, which is due at `due`, to `out`.
    fn write(&mut self, number: u64, due: Instant, out: &mut Vec<u8>);

    /// Looks at the body of a 2xx answer to request `number`.
    ///
    /// # Errors
    ///
    /// It is not the answer that was expected; the measurement ends.
    fn check(&mut self, number: u64, body: &[u8]) -> Result<(), Failure>;
}

/// What became of a plan.
#[derive(Debug)]
pub(crate) struct Driven {
    /// When the first request was due.
    pub(crate) started: Instant,
    /// From there to the last answer.
    pub(crate) took: Duration,
    /// From when each request was due to its answer.
    pub(crate) answers: Latencies,
}

/// Carries out a plan.
///
/// # Errors
///
/// A connection broke, an answer was not 2xx or not as expected: that is no figure.
pub(crate) fn drive(
    address: SocketAddr,
    plan: Plan,
    exchange: &mut dyn Exchange,
) -> Result<Driven, Failure> {
    Generator::new(address, plan, exchange)?.run()
}

struct Connection {
    stream: TcpStream,
    /// The request on its way and when it was due.
    busy: Option<(u64, Instant)>,
    unsent: Vec<u8>,
    /// How much of `unsent` the socket took.
    sent: usize,
    answer: Vec<u8>,
}

struct Generator<'a> {
    plan: Plan,
    exchange: &'a mut dyn Exchange,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    idle: VecDeque<usize>,
    started: Instant,
    /// Requests sent and answered.
    sent: u64,
    answered: u64,
    micros: Vec<u32>,
    last_answer: Instant,
    buffer: Vec<u8>,
}

impl<'a> Generator<'a> {
    fn new(
        address: SocketAddr,
        plan: Plan,
        exchange: &'a mut dyn Exchange,
    ) -> Result<Self, Failure> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::with_capacity(plan.connections);
        for index in 0..plan.connections {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
            epoll::add(&epoll, &stream, EventData::new_u64(index as u64), flags)?;
            let (unsent, answer) = (Vec::new(), Vec::new());
            connections.push(Connection { stream, busy: None, unsent, sent: 0, answer });
        }
        let now = Instant::now();
        Ok(Self {
            plan,
            exchange,
            epoll,
            idle: (0..plan.connections).collect(),
            connections,
            started: now,
            sent: 0,
            answered: 0,
            micros: Vec::with_capacity(plan.requests as usize),
            last_answer: now,
            buffer: vec![0; 256 << 10],
        })
    }

    fn run(mut self) -> Result<Driven, Failure> {
        let mut events = Vec::with_capacity(256);
        self.started = Instant::now();
        self.last_answer = self.started;
        while self.answered < self.plan.requests {
            let wait = self.send_due()?;
            let wait =
                Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in events.drain(..) {
                self.serve(event.data.u64() as usize)?;
            }
            if self.sent > self.answered && self.last_answer.elapsed() > PATIENCE {
                let owed = self.sent - self.answered;
                return Err(format!("{owed} requests were not answered within {PATIENCE:?}").into());
            }
        }
        Ok(Driven {
            started: self.started,
            took: self.last_answer - self.started,
            answers: Latencies::from_micros(self.micros),
        })
    }

    /// Sends what is due and can be sent; returns how long to wait for the next one.
    fn send_due(&mut self) -> Result<Duration, Failure> {
        while self.sent < self.plan.requests {
            let now = Instant::now();
            let due = match self.plan.pace {
                Pace::Closed => now,
                Pace::PerSecond(rate) => {
                    self.started + Duration::from_secs_f64(self.sent as f64 / rate)
                }
            };
            if due > now {
                return Ok(due - now);
            }
            let Some(index) = self.idle.pop_front() else {
                break;
            };
            let connection = &mut self.connections[index];
            connection.unsent.clear();
            connection.sent = 0;
            connection.busy = Some((self.sent, due));
            self.exchange.write(self.sent, due, &mut connection.unsent);
            self.sent += 1;
            push(connection)?;
        }
        Ok(Duration::from_secs(1))
    }

    fn serve(&mut self, index: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        if connection.sent < connection.unsent.len() {
            push(connection)?;
        }
        loop {
            let read = match connection.stream.read(&mut self.buffer) {
                Ok(0) => return Err("the gateway closed a connection".into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let whole = if connection.answer.is_empty() {
                &self.buffer[..read]
            } else {
                connection.answer.extend_from_slice(&self.buffer[..read]);
                &connection.answer
            };
            match http::framing(whole)? {
                Some(framing) if whole.len() >= framing.len() => {
                    let Some((number, due)) = connection.busy.take() else {
                        return Err("an answer came that nobody asked for".into());
                    };
                    let body = &whole[framing.head..framing.len()];
                    if !matches!(http::status(whole), Some(200..=299)) {
                        let answer = String::from_utf8_lossy(whole);
                        return Err(format!("request {number} was refused: {answer}").into());
                    }
                    self.exchange.check(number, body)?;
                    self.last_answer = Instant::now();
                    let took = self.last_answer.saturating_duration_since(due).as_micros();
                    self.micros.push(u32::try_from(took).unwrap_or(u32::MAX));
                    self.answered += 1;
                    connection.answer.clear();
                    self.idle.push_back(index);
                }
                _ if connection.answer.is_empty() => {
                    connection.answer.extend_from_slice(&self.buffer[..read]);
                }
                _ => {}
            }
            // A short read has emptied the socket; the next bytes are a new edge.
            if read < self.buffer.len() {
                return Ok(());
            }
        }
    }
}

fn push(connection: &mut Connection) -> Result<(), Failure> {
    while connection.sent < connection.unsent.len() {
        match connection.stream.write(&connection.unsent[connection.sent..]) {
            Ok(written) => connection.sent += written,
            // The edge of a writable socket brings us back.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
