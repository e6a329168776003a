//! A PostgreSQL server of our own: one that may be killed.

use std::{
    fs::Permissions,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

/// A server with its data in a folder. Both are gone when it is dropped, or when this process is.
pub(crate) struct Database {
    programs: PathBuf,
    folder: TempDir,
    port: u16,
}

impl Database {
    /// Starts one; `None` where PostgreSQL's programs are not installed.
    pub(crate) fn start() -> Option<Self> {
        let programs = programs()?;
        let folder = tempfile::tempdir().unwrap();
        // The server is another user than whoever runs this as root.
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let database = Self { programs, folder, port };
        blocking(|| {
            let data = database.data();
            let mut initdb = database.program("initdb");
            initdb.args(["-D", &data, "-A", "trust", "-U", "postgres", "--no-sync"]);
            let made = initdb.args(["-E", "UTF8", "--locale=C.UTF-8"]).status().unwrap();
            assert!(made.success(), "initdb: {made}");
            database.watch();
        });
        database.come_back();
        Some(database)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Its URL, by way of `address`.
    pub(crate) fn url(&self, address: SocketAddr) -> String {
        format!("postgres://postgres@{address}/postgres")
    }

    /// Stops it as an operator does: whoever is connected is sent away.
    pub(crate) fn stop(&self) {
        blocking(|| self.ask_to_stop("fast"));
    }

    /// `SIGKILL` to the postmaster; its children find out and end too.
    pub(crate) fn kill(&self) {
        blocking(|| {
            let file = std::fs::read_to_string(self.folder.path().join("data/postmaster.pid"));
            let pid = file.unwrap().lines().next().unwrap().to_owned();
            let sent = Command::new("kill").args(["-s", "KILL", &pid]).status().unwrap();
            assert!(sent.success());
        });
    }

    /// Starts it on the same data and port.
    pub(crate) fn come_back(&self) {
        let (data, folder) = (self.data(), self.folder.path().display());
        let log = format!("{folder}/log");
        // What a killed process has written survives it: only a computer that dies needs fsync.
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={} -c unix_socket_directories={folder} \
             -c fsync=off -c full_page_writes=off -c max_connections=100 \
             -c max_wal_size=4GB -c checkpoint_timeout=30min",
            self.port
        );
        blocking(|| {
            // After a kill its shared memory stays until the last child has found out.
            for _ in 0..40 {
                let arguments =
                    ["-D", &data, "-w", "-t", "30", "-l", &log, "-o", &options, "start"];
                if self.program("pg_ctl").args(arguments).status().unwrap().success() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(250));
            }
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            panic!("PostgreSQL does not start: {said}");
        });
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    fn ask_to_stop(&self, mode: &str) {
        let data = self.data();
        // One that was killed cannot be stopped any more.
        let _ = self.program("pg_ctl").args(["-D", &data, "-m", mode, "-w", "stop"]).status();
    }

    fn program(&self, name: &str) -> Command {
        let mut command = as_server_user(&self.programs.join(name));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
        command
    }

    /// Stops the server should this process end without doing so.
    fn watch(&self) {
        let script = r#"
            while [ -d "/proc/$1" ]; do sleep 2; done
            "$2/pg_ctl" -D "$3/data" -m immediate -w stop
            rm -rf "$3/data""#;
        // Not in our session: what ends all of that must not end this.
        let mut command = as_server_user(Path::new("setsid"));
        let watching = command
            .args(["--fork", "sh", "-c", script, "sh", &std::process::id().to_string()])
            .args([&self.programs, self.folder.path()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .status();
        assert!(watching.unwrap().success());
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.ask_to_stop("immediate");
    }
}

/// The newest version that is installed.
fn programs() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("ZAPBUS_TEST_POSTGRES_BIN") {
        return Some(given.into());
    }
    let folders = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    folders
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|folder| folder.join("initdb").exists())
        .max_by_key(|folder| {
            let version = folder.parent().and_then(Path::file_name).and_then(|name| name.to_str());
            version.and_then(|version| version.parse::<u32>().ok())
        })
}

/// A command as a user who may run a server: root may not.
fn as_server_user(program: &Path) -> Command {
    if std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

/// The rest of the test goes on meanwhile.
fn blocking(work: impl FnOnce()) {
    tokio::task::block_in_place(work);
}
