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
    upstream: watch::Sender<SocketAddr>,
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
        let (upstream, leads_to) = watch::channel(upstream);
        let task = tokio::spawn(listen(listener, leads_to, wanted.subscribe(), done));
        Self { address, upstream, wanted, listens, task }
    }

    /// Where the node connects to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// New connections lead elsewhere, as when a name or an address moves to another server.
    pub(crate) fn lead_to(&self, upstream: SocketAddr) {
        self.upstream.send_replace(upstream);
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
    leads_to: watch::Receiver<SocketAddr>,
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
                let upstream = *leads_to.borrow();
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
