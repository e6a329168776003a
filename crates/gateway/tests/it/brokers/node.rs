//! A RabbitMQ node of a test's own: in a folder, on free ports of 127.0.0.1, gone with the test.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
};

use crate::packages::{free_port, missing};

/// Without Debian's wrapper, which wants to be root and change its user.
const PROGRAM: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// How long a node may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) struct Node {
    folder: TempDir,
    port: u16,
    epmd: u16,
    dist: u16,
    child: Option<Child>,
}

impl Node {
    /// A node that is ready; nothing, once it is said, where RabbitMQ is not installed.
    pub(super) async fn start() -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            missing(&format!("RabbitMQ is not installed ({PROGRAM})"));
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let config = format!("listeners.tcp.1 = 127.0.0.1:{port}\nlog.console = false\n");
        std::fs::write(folder.path().join("rabbitmq.conf"), config).unwrap();
        std::fs::write(folder.path().join("enabled_plugins"), "[].").unwrap();
        let mut node = Self { folder, port, epmd: free_port(), dist: free_port(), child: None };
        node.resume().await;
        Some(node)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn uri(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.port)
    }

    /// Starts it again on what it has kept.
    pub(super) async fn resume(&mut self) {
        let mut command = Command::new(PROGRAM);
        command
            .env("HOME", self.folder.path())
            .env("RABBITMQ_NODENAME", format!("t{}@localhost", self.port))
            .env("RABBITMQ_CONFIG_FILE", self.path("rabbitmq.conf"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_MNESIA_BASE", self.path("mnesia"))
            .env("RABBITMQ_LOG_BASE", self.path("log"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", self.path("enabled_plugins"))
            .env("RABBITMQ_DIST_PORT", self.dist.to_string())
            .env("ERL_EPMD_PORT", self.epmd.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            // It may be ended although it still knows of a node that was killed.
            .env("ERL_EPMD_RELAXED_COMMAND_CHECK", "1")
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+S 2:2 -kernel inet_dist_use_interface {127,0,0,1}",
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // The script starts the machine below it: they end together.
            .process_group(0)
            .kill_on_drop(true);
        self.child = Some(command.spawn().unwrap());
        let started = Instant::now();
        while !self.greets().await {
            assert!(started.elapsed() < PATIENCE, "RabbitMQ does not start");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Whether it answers a protocol header with a frame.
    async fn greets(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)).await else {
            return false;
        };
        let mut first = [0; 1];
        stream.write_all(b"AMQP\x00\x00\x09\x01").await.is_ok()
            && stream.read_exact(&mut first).await.is_ok()
            && first[0] == 1
    }

    /// Ends it without a word.
    pub(super) async fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        signal_group(&child);
        child.wait().await.unwrap();
        // The machine below the script may go a moment later, and with it the port.
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn signal_group(child: &Child) {
    if let Some(pid) = child.id() {
        let group = format!("-{pid}");
        let _ = std::process::Command::new("kill").args(["-s", "KILL", "--", &group]).status();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = &self.child {
            signal_group(child);
        }
        // It outlives its nodes, and knows whose it is by its port.
        let epmd = std::process::Command::new("epmd")
            .args(["-port", &self.epmd.to_string(), "-kill"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        drop(epmd);
    }
}
