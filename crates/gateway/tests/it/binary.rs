//! The real binary, as users run it.

use std::{
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// How long a start or an end may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// `zapbus` in a folder, without any variable of this process but `PATH`.
pub(crate) fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zapbus"));
    command
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// `zapbus serve` on port 0 with its data in `<folder>/data`.
pub(crate) fn serve(folder: &Path) -> Command {
    serve_at(folder, "127.0.0.1:0")
}

fn serve_at(folder: &Path, address: &str) -> Command {
    let mut command = command(folder);
    command.args(["serve", "--listen", address, "--data-dir", "data"]);
    command
}

/// What a command that ends by itself said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command to its end.
pub(crate) async fn run(mut command: Command) -> Said {
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").unwrap();
    Said {
        code: output.status.code().expect("it ends by itself"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// `zapbus serve`, ready. Killed when dropped.
pub(crate) struct Served {
    /// Where it listens.
    pub(crate) url: String,
    child: Child,
    stdout: Arc<Mutex<Vec<String>>>,
}

impl Served {
    /// Starts it on port 0 with its data in `<folder>/data`, and waits until it is ready. Its
    /// logs are in `<folder>/stderr.log`.
    pub(crate) async fn start(folder: &Path, configure: impl FnOnce(&mut Command)) -> Self {
        Self::start_at(folder, "127.0.0.1:0", configure).await
    }

    /// [`Served::start`] at an address.
    pub(crate) async fn start_at(
        folder: &Path,
        address: &str,
        configure: impl FnOnce(&mut Command),
    ) -> Self {
        let log_path = folder.join("stderr.log");
        let log = std::fs::File::options().create(true).append(true).open(&log_path).unwrap();
        let mut command = serve_at(folder, address);
        command.stdout(Stdio::piped()).stderr(log);
        configure(&mut command);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let stdout = Arc::new(Mutex::new(Vec::new()));
        let url = tokio::time::timeout(PATIENCE, async {
            loop {
                let Some(line) = lines.next_line().await.unwrap() else {
                    panic!("it did not start: {}", std::fs::read_to_string(&log_path).unwrap());
                };
                stdout.lock().unwrap().push(line.clone());
                if let Some(address) = line.trim().strip_prefix("address") {
                    return address.trim().to_owned();
                }
            }
        })
        .await
        .expect("it is ready in time");
        // Nobody may block on a full pipe.
        let rest = stdout.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                rest.lock().unwrap().push(line);
            }
        });
        Self { url, child, stdout }
    }

    /// What it printed so far.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.lock().unwrap().join("\n")
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// `SIGKILL`.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Sends it a signal, for example `TERM`.
    pub(crate) async fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().await.unwrap();
        assert!(sent.success());
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap()
    }
}
