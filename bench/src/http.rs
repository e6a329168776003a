//! As much HTTP/1.1 as a fast pair needs: where a message ends, and one call after another.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::LazyLock,
    time::{Duration, Instant},
};

use memchr::memmem::Finder;
use serde_json::Value;

use crate::Failure;

static BLANK_LINE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));

/// A connection that rested longer is not used again: the peer may be about to close it.
const IDLE: Duration = Duration::from_secs(10);

/// How long a single call may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// One message at the beginning of a buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Framing {
    /// Bytes of the head with its blank line.
    pub(crate) head: usize,
    /// Bytes of the body behind it.
    pub(crate) body: usize,
}

impl Framing {
    pub(crate) fn len(self) -> usize {
        self.head + self.body
    }
}

/// Where the first message of `bytes` ends; `None` while its head is incomplete.
pub(crate) fn framing(bytes: &[u8]) -> Result<Option<Framing>, Failure> {
    let Some(end) = BLANK_LINE.find(bytes) else {
        return Ok(None);
    };
    let mut body = 0;
    for line in bytes[..end].split(|byte| *byte == b'\n').skip(1) {
        // Most names begin with another letter: this loop runs for every message.
        match line.first() {
            Some(b'c' | b'C') => {
                if let Some(value) = value_of(line, b"content-length") {
                    body = std::str::from_utf8(value)?.trim().parse()?;
                }
            }
            Some(b't' | b'T') if value_of(line, b"transfer-encoding").is_some() => {
                return Err("the peer sends chunks; a length was expected".into());
            }
            _ => {}
        }
    }
    Ok(Some(Framing { head: end + 4, body }))
}

fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then(|| rest.strip_prefix(b":")).flatten()
}

/// The status of a response's head.
pub(crate) fn status(head: &[u8]) -> Option<u16> {
    std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()
}

/// Calls one peer over one connection, one call after another.
#[derive(Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    token: String,
    stream: Option<TcpStream>,
    used: Instant,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, token: &str) -> Self {
        Self { address, token: token.to_owned(), stream: None, used: Instant::now() }
    }

    /// Sends `body` as JSON (nothing if it is null) and reads the answer. An answer that is no
    /// JSON comes as text. Fails if it is not 2xx.
    pub(crate) fn call(
        &mut self,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Result<Value, Failure> {
        let payload = if body.is_null() { String::new() } else { body.to_string() };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{payload}",
            self.address,
            self.token,
            payload.len(),
        );
        if std::mem::replace(&mut self.used, Instant::now()).elapsed() > IDLE {
            self.stream = None;
        }
        let stream = match self.stream.as_mut() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                self.stream.insert(stream)
            }
        };
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        let mut chunk = [0; 64 << 10];
        let framing = loop {
            let read = stream.read(&mut chunk)?;
            if read == 0 {
                return Err(format!("{method} {path}: the gateway closed the connection").into());
            }
            answer.extend_from_slice(&chunk[..read]);
            match framing(&answer)? {
                Some(framing) if answer.len() >= framing.len() => break framing,
                _ => {}
            }
        };
        let text = String::from_utf8_lossy(&answer[framing.head..framing.len()]).into_owned();
        match status(&answer) {
            Some(200..=299) => Ok(serde_json::from_str(&text).unwrap_or(Value::String(text))),
            status => Err(format!("{method} {path}: {status:?}: {text}").into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_where_its_length_says() {
        let text = b"HTTP/1.1 200 OK\r\nConnection: x\r\nContent-Length: 3\r\n\r\nabcHTTP";
        let found = framing(text).unwrap().unwrap();
        assert_eq!((found.head, found.body), (text.len() - 7, 3));
        assert_eq!(status(text), Some(200));
        assert!(framing(&text[..20]).unwrap().is_none());
        let bare = framing(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().unwrap();
        assert_eq!(bare.body, 0);
        assert!(framing(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }
}
