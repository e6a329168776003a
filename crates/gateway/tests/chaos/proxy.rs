//! Between a node and the database: a TCP proxy that misbehaves as networks do.

use std::{future::pending, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// Everything passes.
    Good,
    /// Everything passes, each piece after so long.
    Slow(Duration),
    /// Nothing passes in either direction, and nobody is told. What was sent meanwhile arrives when
    /// it is over, as it does behind a router that lost its way for a while.
    Stalled,
    /// Questions pass, answers do not: what is asked for happens, and whoever asked cannot know.
    Mute,
    /// What is open is reset, and so is every new connection.
    Cut,
    /// What is open is reset, and the port is closed.
    Refusing,
}

impl Link {
    fn resets(self) -> bool {
        matches!(self, Self::Cut | Self::Refusing)
    }
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy)]
enum Way {
    Question,
    Answer,
}

/// A proxy for one node. Ends when dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    wanted: watch::Sender<Link>,
    /// What the port is like: a port that is to be closed is closed a moment later.
    listens: watch::Receiver<Link>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Leads to `upstream`, and lets everything pass.
    pub(crate) async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let wanted = watch::Sender::new(Link::Good);
        let (done, listens) = watch::channel(Link::Good);
        let task = tokio::spawn(listen(listener, upstream, wanted.subscribe(), done));
        Self { address, wanted, listens, task }
    }

    /// Where the node connects to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it is like this, also for what is open.
    pub(crate) async fn set(&self, link: Link) {
        self.wanted.send_replace(link);
        let mut listens = self.listens.clone();
        listens.wait_for(|known| *known == link).await.unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        // Whoever relays ends with it.
        self.wanted.send_replace(Link::Cut);
    }
}

async fn listen(
    listener: TcpListener,
    upstream: SocketAddr,
    mut wanted: watch::Receiver<Link>,
    done: watch::Sender<Link>,
) {
    let address = listener.local_addr().unwrap();
    let mut listener = Some(listener);
    loop {
        let link = *wanted.borrow_and_update();
        if link == Link::Refusing {
            listener = None;
        } else if listener.is_none() {
            listener = Some(listen_again(address));
        }
        done.send_replace(link);
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => pending().await,
            }
        };
        tokio::select! {
            accepted = accepted => {
                let (stream, _) = accepted.unwrap();
                tokio::spawn(relay(stream, upstream, wanted.clone()));
            }
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}

fn listen_again(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).and_then(|()| socket.listen(1024)).unwrap()
}

/// Carries one connection to its end, or until it is reset.
async fn relay(mut node: TcpStream, upstream: SocketAddr, mut wanted: watch::Receiver<Link>) {
    let link = wanted.clone();
    let whole = async {
        allowed(&mut link.clone(), Way::Question).await;
        // The server may be away: then the connection ends at once, as it does without a proxy.
        let mut server = TcpStream::connect(upstream).await.ok()?;
        node.set_nodelay(true).ok()?;
        server.set_nodelay(true).ok()?;
        let (node_reads, node_writes) = node.split();
        let (server_reads, server_writes) = server.split();
        // Either side may end first, and says so to the other.
        tokio::join!(
            carry(node_reads, server_writes, Way::Question, link.clone()),
            carry(server_reads, node_writes, Way::Answer, link.clone()),
        );
        Some(())
    };
    let is_reset = async { wanted.wait_for(|link| link.resets()).await.is_ok() };
    let reset = tokio::select! {
        _ = whole => false,
        reset = is_reset => reset,
    };
    if reset {
        // Without lingering: the node gets RST, not an orderly end.
        node.set_zero_linger().unwrap();
    }
}

/// Waits until bytes may go this way; gives how late they are to be.
async fn allowed(link: &mut watch::Receiver<Link>, way: Way) -> Duration {
    let passes = |link: &Link| match (link, way) {
        (Link::Stalled, _) | (Link::Mute, Way::Answer) => false,
        (Link::Mute, Way::Question) | (Link::Good | Link::Slow(_), _) => true,
        // Reset in a moment.
        (Link::Cut | Link::Refusing, _) => false,
    };
    match link.wait_for(passes).await.map(|link| *link) {
        Ok(Link::Slow(late)) => late,
        Ok(_) => Duration::ZERO,
        Err(_) => pending().await,
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    way: Way,
    mut link: watch::Receiver<Link>,
) {
    let mut piece = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut piece).await.unwrap_or(0);
        let late = allowed(&mut link, way).await;
        if !late.is_zero() {
            tokio::time::sleep(late).await;
        }
        if read == 0 || to.write_all(&piece[..read]).await.is_err() {
            // The peer may have gone already.
            let _ = to.shutdown().await;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::ErrorKind, time::Instant};

    use super::*;

    /// Says everything back.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut reads, mut writes) = stream.split();
                    let _ = tokio::io::copy(&mut reads, &mut writes).await;
                });
            }
        });
        address
    }

    async fn connected() -> (Proxy, TcpStream) {
        let proxy = Proxy::start(echo().await).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        say(&mut stream, b"hello").await;
        assert_eq!(heard(&mut stream, 5).await.unwrap(), b"hello");
        (proxy, stream)
    }

    async fn say(stream: &mut TcpStream, bytes: &[u8]) {
        stream.write_all(bytes).await.unwrap();
    }

    async fn heard(stream: &mut TcpStream, count: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        let read = stream.read_exact(&mut bytes);
        tokio::time::timeout(Duration::from_secs(10), read).await.expect("an answer or an end")?;
        Ok(bytes)
    }

    /// Nothing comes for a while.
    async fn is_silent(stream: &mut TcpStream) {
        let read = tokio::time::timeout(Duration::from_millis(100), stream.read_u8()).await;
        assert!(read.is_err(), "{read:?}");
    }

    #[tokio::test]
    async fn everything_passes_and_an_end_is_passed_on() {
        let (_proxy, mut stream) = connected().await;
        let much: Vec<u8> = (0..1_000_000_u32).map(|number| number as u8).collect();
        let (mut reads, mut writes) = stream.split();
        let write = async {
            writes.write_all(&much).await.unwrap();
            writes.shutdown().await.unwrap();
        };
        let mut back = Vec::new();
        let (read, ()) = tokio::join!(reads.read_to_end(&mut back), write);
        read.unwrap();
        assert!(back == much, "{} bytes came back", back.len());
    }

    #[tokio::test]
    async fn what_stalls_arrives_when_it_is_over() {
        let (proxy, mut stream) = connected().await;
        proxy.set(Link::Stalled).await;
        let mut late = TcpStream::connect(proxy.address()).await.unwrap();
        say(&mut stream, b"old").await;
        say(&mut late, b"new").await;
        is_silent(&mut stream).await;
        is_silent(&mut late).await;
        proxy.set(Link::Good).await;
        assert_eq!(heard(&mut stream, 3).await.unwrap(), b"old");
        assert_eq!(heard(&mut late, 3).await.unwrap(), b"new");
    }

    #[tokio::test]
    async fn a_mute_link_carries_questions_only() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).await;
        let mut node = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        proxy.set(Link::Mute).await;
        say(&mut node, b"question").await;
        assert_eq!(heard(&mut server, 8).await.unwrap(), b"question");
        say(&mut server, b"answer").await;
        is_silent(&mut node).await;
        proxy.set(Link::Good).await;
        assert_eq!(heard(&mut node, 6).await.unwrap(), b"answer");
    }

    #[tokio::test]
    async fn what_is_slow_is_late_both_ways() {
        let (proxy, mut stream) = connected().await;
        proxy.set(Link::Slow(Duration::from_millis(60))).await;
        let since = Instant::now();
        say(&mut stream, b"late").await;
        assert_eq!(heard(&mut stream, 4).await.unwrap(), b"late");
        assert!(since.elapsed() >= Duration::from_millis(120), "{:?}", since.elapsed());
    }

    #[tokio::test]
    async fn what_is_cut_is_reset_and_so_is_what_comes_new() {
        let (proxy, mut stream) = connected().await;
        proxy.set(Link::Cut).await;
        assert_eq!(heard(&mut stream, 1).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        let mut new = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(heard(&mut new, 1).await.is_err());
        proxy.set(Link::Good).await;
        let mut again = TcpStream::connect(proxy.address()).await.unwrap();
        say(&mut again, b"again").await;
        assert_eq!(heard(&mut again, 5).await.unwrap(), b"again");
    }

    #[tokio::test]
    async fn a_port_that_refuses_is_closed_and_opens_again() {
        let (proxy, mut stream) = connected().await;
        proxy.set(Link::Refusing).await;
        assert!(heard(&mut stream, 1).await.is_err());
        let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        proxy.set(Link::Good).await;
        let mut again = TcpStream::connect(proxy.address()).await.unwrap();
        say(&mut again, b"again").await;
        assert_eq!(heard(&mut again, 5).await.unwrap(), b"again");
    }

    #[tokio::test]
    async fn a_server_that_is_away_looks_like_one() {
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = nobody.local_addr().unwrap();
        drop(nobody);
        let proxy = Proxy::start(address).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(heard(&mut stream, 1).await.is_err());
    }
}
