//! The proxy between a node and the database does what it is told.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::proxy::{Link, Proxy};

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
