//! Proxies that write down what they are asked for.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Tunnels whatever comes, until it is dropped.
pub(crate) struct TunnelProxy {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl TunnelProxy {
    /// `CONNECT`. Each request is written down with its headers, one line each.
    pub(crate) async fn start_http() -> Self {
        Self::start(|mut client, asked| async move {
            let mut reader = BufReader::new(&mut client);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                reader.read_line(&mut head).await.unwrap();
            }
            let target = head.split(' ').nth(1).unwrap().to_owned();
            asked.lock().unwrap().push(head.to_lowercase());
            let mut server = TcpStream::connect(target).await.unwrap();
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
            tokio::io::copy_bidirectional(&mut client, &mut server).await.ok();
        })
        .await
    }

    /// SOCKS5 with user and password (RFC 1928, RFC 1929). Written down: `user:password address`.
    pub(crate) async fn start_socks5() -> Self {
        Self::start(|mut client, asked| async move {
            let text = async |client: &mut TcpStream| {
                let length = client.read_u8().await.unwrap();
                let mut bytes = vec![0; length.into()];
                client.read_exact(&mut bytes).await.unwrap();
                bytes
            };
            assert_eq!(client.read_u8().await.unwrap(), 5);
            assert_eq!(text(&mut client).await, [2], "only with password");
            client.write_all(&[5, 2]).await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), 1);
            let user = String::from_utf8(text(&mut client).await).unwrap();
            let password = String::from_utf8(text(&mut client).await).unwrap();
            client.write_all(&[1, 0]).await.unwrap();
            let mut head = [0; 4];
            client.read_exact(&mut head).await.unwrap();
            assert_eq!(head, [5, 1, 0, 1], "connect, to an IPv4 address");
            let ip = std::net::Ipv4Addr::from(client.read_u32().await.unwrap());
            let target = SocketAddr::from((ip, client.read_u16().await.unwrap()));
            asked.lock().unwrap().push(format!("{user}:{password} {target}"));
            let mut server = TcpStream::connect(target).await.unwrap();
            client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
            tokio::io::copy_bidirectional(&mut client, &mut server).await.ok();
        })
        .await
    }

    async fn start<F>(
        serve: impl Fn(TcpStream, Arc<Mutex<Vec<String>>>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let log = Arc::clone(&asked);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                connections.spawn(serve(client, Arc::clone(&log)));
            }
        });
        Self { address, asked, _tasks: tasks }
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}
