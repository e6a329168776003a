//! A broker that does what a script says: AMQP 0-9-1 on 127.0.0.1, as far as publishers need it.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Who may log in.
pub(crate) const USER: &str = "me";
pub(crate) const PASSWORD: &str = "hunter2";

/// The most that a frame holds.
const FRAME_MAX: u32 = 8192;

/// A message as it was published.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Published {
    /// Which connection, and which channel of it.
    pub(crate) connection: usize,
    pub(crate) channel: u16,
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    pub(crate) mandatory: bool,
    pub(crate) content_type: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) delivery_mode: u8,
    pub(crate) message_id: String,
    pub(crate) timestamp: u64,
    pub(crate) kind: String,
    pub(crate) app_id: String,
    pub(crate) body: Vec<u8>,
    size: usize,
    tag: u64,
}

/// What to do with a message.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Ack,
    Nack,
    /// Unroutable, with this much of a body sent back.
    Return(usize),
    /// As if this many messages were unroutable, and no word of this one.
    Returns(usize),
    /// The channel is closed, with a code and words.
    CloseChannel(u16, &'static str),
    /// The connection is closed, with a code and words.
    CloseConnection(u16, &'static str),
    /// Half of an answer, then the end.
    Reset,
    Silence,
    /// Publishing is blocked from now on, this message included.
    Block,
}

#[derive(Default)]
struct Log {
    script: Mutex<VecDeque<Reply>>,
    /// Answers to declarations; OK when there is none.
    refusals: Mutex<VecDeque<(u16, &'static str)>>,
    /// What is not declared, and not refused either.
    held_back: Mutex<Option<&'static str>>,
    published: Mutex<Vec<Published>>,
    declared: Mutex<Vec<String>>,
    connections: AtomicUsize,
    silent: AtomicBool,
    held: Mutex<Vec<(u16, u64)>>,
}

/// Listens until it is dropped. Without a script, everything is confirmed.
pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    log: Arc<Log>,
    tasks: JoinSet<()>,
}

impl Broker {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut broker = Self { address, log: Arc::default(), tasks: JoinSet::new() };
        broker.listen(listener);
        broker
    }

    fn listen(&mut self, listener: TcpListener) {
        let log = Arc::clone(&self.log);
        self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = log.connections.fetch_add(1, Ordering::SeqCst);
                let session = Session { stream, log: Arc::clone(&log), number };
                connections.spawn(async move {
                    // The client may hang up at any time.
                    session.run().await.ok();
                });
            }
        });
    }

    /// Goes away, with all connections.
    pub(crate) async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }

    /// Comes back at the same address.
    pub(crate) async fn resume(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.listen(listener);
    }

    pub(crate) fn uri(&self) -> String {
        format!("amqp://{USER}:{PASSWORD}@{}", self.address)
    }

    pub(crate) fn next(&self, reply: Reply) {
        self.log.script.lock().unwrap().push_back(reply);
    }

    /// Whatever comes from now on gets no answer.
    pub(crate) fn fall_silent(&self) {
        self.log.silent.store(true, Ordering::SeqCst);
    }

    /// The next declaration is refused.
    pub(crate) fn refuse_declaration(&self, code: u16, words: &'static str) {
        self.log.refusals.lock().unwrap().push_back((code, words));
    }

    /// Declarations of this name get no answer from now on.
    pub(crate) fn hold_declarations_of(&self, name: &'static str) {
        *self.log.held_back.lock().unwrap() = Some(name);
    }

    pub(crate) fn published(&self) -> Vec<Published> {
        self.log.published.lock().unwrap().clone()
    }

    /// `exchange name kind`, `queue name type`, `bind queue exchange key`.
    pub(crate) fn declared(&self) -> Vec<String> {
        self.log.declared.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.log.connections.load(Ordering::SeqCst)
    }
}

struct Session {
    stream: TcpStream,
    log: Arc<Log>,
    number: usize,
}

type Io<T> = std::io::Result<T>;

impl Session {
    async fn run(mut self) -> Io<()> {
        let mut protocol = [0; 8];
        self.stream.read_exact(&mut protocol).await?;
        assert_eq!(&protocol, b"AMQP\x00\x00\x09\x01");
        // Start: version, no properties, what may be spoken.
        let mut start = vec![0, 9];
        start.extend(table(&[]));
        start.extend(long(b"PLAIN"));
        start.extend(long(b"en_US"));
        self.method(0, (10, 10), &start).await?;
        let mut publishing: HashMap<u16, Published> = HashMap::new();
        let mut tags: HashMap<u16, u64> = HashMap::new();
        loop {
            let kind = self.stream.read_u8().await?;
            let channel = self.stream.read_u16().await?;
            let size = self.stream.read_u32().await?;
            assert!(size <= FRAME_MAX, "a frame of {size} bytes");
            let mut payload = vec![0; size as usize];
            self.stream.read_exact(&mut payload).await?;
            assert_eq!(self.stream.read_u8().await?, 0xCE);
            if self.log.silent.load(Ordering::SeqCst) {
                continue;
            }
            match kind {
                1 => {
                    let mut fields = Fields(&payload);
                    let method = (fields.u16(), fields.u16());
                    if method == (60, 40) {
                        fields.u16();
                        let tag = tags.entry(channel).or_default();
                        *tag += 1;
                        publishing.insert(
                            channel,
                            Published {
                                connection: self.number,
                                channel,
                                exchange: fields.short(),
                                routing_key: fields.short(),
                                mandatory: fields.u8() & 1 != 0,
                                tag: *tag,
                                ..Published::default()
                            },
                        );
                    } else if !self.answer(channel, method, fields).await? {
                        return Ok(());
                    }
                }
                2 => {
                    let message = publishing.get_mut(&channel).unwrap();
                    message.read_properties(&payload);
                }
                3 => {
                    let message = publishing.get_mut(&channel).unwrap();
                    message.body.extend(&payload);
                }
                8 => continue,
                other => panic!("a frame of type {other}"),
            }
            let whole =
                publishing.get(&channel).is_some_and(|it| it.size > 0 && it.body.len() == it.size);
            if whole {
                let message = publishing.remove(&channel).unwrap();
                self.log.published.lock().unwrap().push(message.clone());
                if !self.confirm(message).await? {
                    return Ok(());
                }
            }
        }
    }

    /// Whether the connection goes on.
    async fn answer(
        &mut self,
        channel: u16,
        method: (u16, u16),
        mut fields: Fields<'_>,
    ) -> Io<bool> {
        match method {
            (10, 11) => {
                fields.table();
                assert_eq!(fields.short(), "PLAIN");
                let response = fields.long();
                if response != format!("\0{USER}\0{PASSWORD}").as_bytes() {
                    let words =
                        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN";
                    self.close(0, (10, 50), 403, words).await?;
                    return Ok(true);
                }
                // Tune: channels, frame size, no heartbeat.
                let mut tune = 2047_u16.to_be_bytes().to_vec();
                tune.extend(FRAME_MAX.to_be_bytes());
                tune.extend(0_u16.to_be_bytes());
                self.method(0, (10, 30), &tune).await?;
            }
            (10, 31) => {}
            (10, 40) => self.method(0, (10, 41), &short("")).await?,
            (10, 50) => {
                self.method(0, (10, 51), &[]).await?;
                return Ok(false);
            }
            (10, 51) => return Ok(false),
            (20, 10) => self.method(channel, (20, 11), &long(b"")).await?,
            (20, 40) => self.method(channel, (20, 41), &[]).await?,
            (20, 41) => {}
            (85, 10) => self.method(channel, (85, 11), &[]).await?,
            (40, 10) | (50, 10) | (50, 20) => {
                fields.u16();
                let refusal = self.log.refusals.lock().unwrap().pop_front();
                if let Some((code, words)) = refusal {
                    self.close(channel, (20, 40), code, words).await?;
                    return Ok(true);
                }
                let name = fields.short();
                if *self.log.held_back.lock().unwrap() == Some(name.as_str()) {
                    return Ok(true);
                }
                let (line, ok) = match method {
                    (40, 10) => {
                        let kind = fields.short();
                        assert_eq!(fields.u8() & 2, 2, "durable");
                        (format!("exchange {name} {kind}"), Vec::new())
                    }
                    (50, 10) => {
                        assert_eq!(fields.u8() & 2, 2, "durable");
                        let kind = fields.table().remove("x-queue-type").unwrap_or_default();
                        let mut ok = short(&name);
                        ok.extend([0; 8]);
                        (format!("queue {name} {kind}"), ok)
                    }
                    _ => {
                        let (exchange, key) = (fields.short(), fields.short());
                        (format!("bind {name} {exchange} {key}"), Vec::new())
                    }
                };
                self.log.declared.lock().unwrap().push(line);
                self.method(channel, (method.0, method.1 + 1), &ok).await?;
            }
            other => panic!("method {other:?}"),
        }
        Ok(true)
    }

    /// Whether the connection goes on.
    async fn confirm(&mut self, message: Published) -> Io<bool> {
        let (channel, tag) = (message.channel, message.tag);
        let reply = self.log.script.lock().unwrap().pop_front().unwrap_or(Reply::Ack);
        let mut ack = tag.to_be_bytes().to_vec();
        ack.push(0);
        match reply {
            Reply::Ack => self.method(channel, (60, 80), &ack).await?,
            Reply::Nack => self.method(channel, (60, 120), &ack).await?,
            Reply::Return(size) => {
                self.give_back(&message, size).await?;
                self.method(channel, (60, 80), &ack).await?;
            }
            Reply::Returns(count) => {
                for _ in 0..count {
                    self.give_back(&message, 1).await?;
                }
            }
            Reply::CloseChannel(code, words) => {
                self.close(channel, (20, 40), code, words).await?;
            }
            Reply::CloseConnection(code, words) => {
                self.close(0, (10, 50), code, words).await?;
            }
            Reply::Reset => {
                self.stream.write_all(&[1, 0]).await?;
                self.stream.set_zero_linger()?;
                return Ok(false);
            }
            Reply::Silence => self.log.held.lock().unwrap().push((channel, tag)),
            Reply::Block => self.method(0, (10, 60), &short("low on memory")).await?,
        }
        Ok(true)
    }

    /// With a body of this size.
    async fn give_back(&mut self, message: &Published, size: usize) -> Io<()> {
        let channel = message.channel;
        let mut fields = 312_u16.to_be_bytes().to_vec();
        for name in ["NO_ROUTE", &message.exchange, &message.routing_key] {
            fields.extend(short(name));
        }
        self.method(channel, (60, 50), &fields).await?;
        let mut header = vec![0, 60, 0, 0];
        header.extend((size as u64).to_be_bytes());
        header.extend([0, 0]);
        self.frame(2, channel, &header).await?;
        for start in (0..size).step_by(8000) {
            let piece = vec![b'x'; 8000.min(size - start)];
            self.frame(3, channel, &piece).await?;
        }
        Ok(())
    }

    async fn close(&mut self, channel: u16, method: (u16, u16), code: u16, words: &str) -> Io<()> {
        let mut fields = code.to_be_bytes().to_vec();
        fields.extend(short(words));
        fields.extend([0; 4]);
        self.method(channel, method, &fields).await
    }

    async fn method(&mut self, channel: u16, method: (u16, u16), fields: &[u8]) -> Io<()> {
        let mut payload = method.0.to_be_bytes().to_vec();
        payload.extend(method.1.to_be_bytes());
        payload.extend(fields);
        self.frame(1, channel, &payload).await
    }

    async fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) -> Io<()> {
        let mut frame = vec![kind];
        frame.extend(channel.to_be_bytes());
        frame.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
        frame.extend(payload);
        frame.push(0xCE);
        self.stream.write_all(&frame).await
    }
}

impl Published {
    fn read_properties(&mut self, payload: &[u8]) {
        let mut fields = Fields(payload);
        assert_eq!((fields.u16(), fields.u16()), (60, 0));
        self.size = usize::try_from(fields.u64()).unwrap();
        let flags = fields.u16();
        assert_eq!(flags, 0b1011_0000_1110_1000, "which properties there are");
        self.content_type = fields.short();
        self.headers = fields.table();
        self.delivery_mode = fields.u8();
        self.message_id = fields.short();
        self.timestamp = fields.u64();
        self.kind = fields.short();
        self.app_id = fields.short();
    }
}

fn short(text: &str) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(text.len()).unwrap()];
    bytes.extend(text.as_bytes());
    bytes
}

fn long(text: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(text);
    bytes
}

fn table(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in entries {
        bytes.extend(short(name));
        bytes.push(b'S');
        bytes.extend(long(value.as_bytes()));
    }
    long(&bytes)
}

/// What stands in a method.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_first_chunk().unwrap();
        self.0 = rest;
        *head
    }

    fn u8(&mut self) -> u8 {
        u8::from_be_bytes(self.take())
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take())
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let (head, rest) = self.0.split_at(length);
        self.0 = rest;
        head.to_vec()
    }

    fn short(&mut self) -> String {
        let length = self.u8();
        String::from_utf8(self.bytes(length.into())).unwrap()
    }

    fn long(&mut self) -> Vec<u8> {
        let length = u32::from_be_bytes(self.take());
        self.bytes(length as usize)
    }

    /// The texts of a table; what is nested in it is passed over.
    fn table(&mut self) -> HashMap<String, String> {
        let bytes = self.long();
        let mut fields = Fields(&bytes);
        let mut found = HashMap::new();
        while !fields.0.is_empty() {
            let name = fields.short();
            match fields.u8() {
                b'S' => {
                    let value = String::from_utf8(fields.long()).unwrap();
                    found.insert(name, value);
                }
                b'F' => drop(fields.long()),
                b't' => drop(fields.u8()),
                other => panic!("{name} is of type {}", char::from(other)),
            }
        }
        found
    }
}
