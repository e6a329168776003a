//! What lapin runs on: this process's tokio, with connections that were made and secured here, by
//! the egress guard and with the same TLS as every other channel's.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    sync::Mutex,
    time::{Duration, Instant},
};

use async_rs::{
    Runtime, Tokio,
    traits::{Executor, Reactor, RuntimeKit},
    util::Task,
};
use futures_core::Stream;
use futures_io::{AsyncRead, AsyncWrite};
use lapin::{Connection, ConnectionProperties, tcp::AsyncTcpStream, uri::AMQPUri};

use super::transport::{Scissors, Transport};
use crate::pool::Wire;

/// Speaks AMQP over a connection that is there already. Whoever gives up waiting, or drops the
/// scissors, ends it.
pub(super) async fn connect(
    uri: AMQPUri,
    properties: ConnectionProperties,
    wire: Wire,
) -> lapin::Result<(Connection, Scissors)> {
    let (transport, scissors) = Transport::new(wire);
    let transport = Mutex::new(Some(AsyncTcpStream::Plain(transport)));
    let connect = async move |_: AMQPUri, _: Runtime<Kit>| {
        // There is one, and it is taken once: reconnecting is not lapin's business.
        let transport = transport.lock().ok().and_then(|mut transport| transport.take());
        transport.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected).into())
    };
    let runtime = Runtime::new(Kit(Tokio::current()));
    let connection = Connection::connector(uri, runtime, connect, properties).await?;
    Ok((connection, scissors))
}

/// Tokio, with streams of our own.
#[derive(Debug, Clone)]
struct Kit(Tokio);

impl RuntimeKit for Kit {}

impl Executor for Kit {
    type Task<T: Send + 'static> = <Tokio as Executor>::Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, future: F) -> T {
        self.0.block_on(future)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        future: F,
    ) -> Task<Self::Task<T>> {
        self.0.spawn(future)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        work: F,
    ) -> Task<Self::Task<T>> {
        self.0.spawn_blocking(work)
    }
}

/// Connections are made elsewhere.
fn unsupported<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Reactor for Kit {
    type TcpStream = Transport;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        unsupported::<Transport>()
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        _: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        std::future::ready(unsupported())
    }
}
