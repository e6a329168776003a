//! A PostgreSQL server for tests: one for all test processes that run at the same time, in a folder
//! of its own, gone soon after the last of them. Each test gets a database of its own.

use std::{
    fs::File,
    io::Write as _,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

/// The key of every test's store.
pub(crate) const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const TEMPLATE: &str = "zapbus_template";

/// A line for whoever looks at what was not shown.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Where the server's programs are, if there are any.
pub(crate) fn programs() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("ZAPBUS_TEST_POSTGRES_BIN") {
        return Some(given.into());
    }
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|folder| folder.join("initdb").exists())
        .collect();
    versions.sort();
    versions.pop()
}

/// Ends the process, successfully, when there is no server to be had: nothing here can be shown then.
pub(crate) fn programs_or_skip() -> PathBuf {
    programs().unwrap_or_else(|| {
        let reason = "PostgreSQL's programs are not installed (/usr/lib/postgresql/*/bin)";
        assert!(
            std::env::var("ZAPBUS_TEST_PEERS").as_deref() != Ok("require"),
            "{reason}, and ZAPBUS_TEST_PEERS=require"
        );
        say(&format!("skipped: {reason}"));
        std::process::exit(0)
    })
}

/// A command that runs as the user who may run a server.
pub(crate) fn as_server_user(program: &Path) -> Command {
    let is_root = std::fs::metadata("/proc/self")
        .is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let mut command = if is_root {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    command
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// The user who may run a server is another than whoever runs this as root.
fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).unwrap();
}

/// A server with its data in a folder.
pub(crate) struct Server {
    pub(crate) programs: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) port: u16,
}

impl Server {
    fn run(&self, program: &str, args: &[&str]) {
        let status = as_server_user(&self.programs.join(program)).args(args).status().unwrap();
        assert!(status.success(), "{program} {args:?}: {status}");
    }

    fn data(&self) -> String {
        self.folder.join("data").display().to_string()
    }

    /// Makes the folder and starts a server in it.
    pub(crate) fn make(programs: PathBuf, folder: PathBuf) -> Self {
        let _ = std::fs::remove_dir_all(folder.join("data"));
        std::fs::create_dir_all(&folder).unwrap();
        open_to_all(&folder);
        let server = Self { programs, folder, port: free_port() };
        let data = server.data();
        let locale = "--locale=C.UTF-8";
        let args =
            ["-D", &data, "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", locale];
        server.run("initdb", &args);
        server.start();
        server
    }

    pub(crate) fn start(&self) {
        let socket = self.folder.display();
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={} -c unix_socket_directories={socket} \
             -c fsync=off -c full_page_writes=off -c shared_buffers=128MB -c max_connections=300 \
             -c max_wal_size=4GB -c checkpoint_timeout=30min -c autovacuum_naptime=10s",
            self.port
        );
        let log = self.folder.join("log").display().to_string();
        let data = self.data();
        for _ in 0..20 {
            let args = ["-D", &data, "-w", "-t", "30", "-l", &log, "-o", &options, "start"];
            let started = as_server_user(&self.programs.join("pg_ctl")).args(args).status();
            if started.unwrap().success() {
                return;
            }
            // After a kill its lock file stays until the kernel has buried it.
            std::thread::sleep(Duration::from_millis(300));
        }
        panic!("the server does not start: see {log}");
    }

    pub(crate) fn stop(&self, mode: &str) {
        let data = self.data();
        let _ = as_server_user(&self.programs.join("pg_ctl"))
            .args(["-D", &data, "-m", mode, "-w", "stop"])
            .status();
    }

    /// A standby of it in another folder. It confirms every commit, and nobody waits for its word.
    pub(crate) fn standby(&self, folder: PathBuf) -> Self {
        std::fs::create_dir_all(&folder).unwrap();
        open_to_all(&folder);
        let standby = Self { programs: self.programs.clone(), folder, port: free_port() };
        let port = self.port.to_string();
        let from = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres"];
        let to = ["-D", &standby.data(), "-R", "-X", "stream", "-c", "fast"];
        standby.run("pg_basebackup", &[&from[..], &to[..]].concat());
        standby.start();
        standby
    }

    /// Commits wait for every standby's word from now on.
    pub(crate) async fn wait_for_standbys(&self) {
        let client = self.connect("postgres").await;
        client.batch_execute("ALTER SYSTEM SET synchronous_standby_names = '*'").await.unwrap();
        client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    }

    /// Makes a standby one that takes writes.
    pub(crate) fn promote(&self) {
        self.run("pg_ctl", &["-D", &self.data(), "-w", "promote"]);
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    pub(crate) async fn connect(&self, database: &str) -> tokio_postgres::Client {
        let (client, connection) =
            tokio_postgres::connect(&self.url(database), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// A new database with nothing in it, and a schema or none.
    pub(crate) async fn database(&self, with_schema: bool) -> String {
        let mut bits = [0; 8];
        getrandom(&mut bits);
        let name = format!("test_{:016x}", u64::from_be_bytes(bits));
        let client = self.connect("postgres").await;
        let template = if with_schema { TEMPLATE } else { "template1" };
        let query = format!("CREATE DATABASE {name} TEMPLATE {template}");
        client.batch_execute(&query).await.unwrap();
        name
    }

    /// Without waiting for it.
    pub(crate) fn forget(&self, database: &str) {
        let _ = as_server_user(&self.programs.join("psql"))
            .args(["-q", "-h", "127.0.0.1", "-U", "postgres", "-p", &self.port.to_string()])
            .args(["-c", &format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)"), "postgres"])
            .spawn();
    }

    /// The database that others are copies of.
    pub(crate) async fn make_template(&self) {
        let client = self.connect("postgres").await;
        client.batch_execute(&format!("CREATE DATABASE {TEMPLATE}")).await.unwrap();
        let options = crate::engine::template_options(&self.url(TEMPLATE));
        zapbus_store::Store::open(options).await.unwrap().store.close().await;
    }
}

fn getrandom(bits: &mut [u8]) {
    std::io::Read::read_exact(&mut File::open("/dev/urandom").unwrap(), bits).unwrap();
}

static SHARED: OnceLock<(Server, File)> = OnceLock::new();

/// The server that tests share.
pub(crate) async fn shared() -> &'static Server {
    let programs = programs_or_skip();
    // Locks wait, and what has to be made first takes its time.
    let found = tokio::task::spawn_blocking(move || {
        if SHARED.get().is_none() {
            let _ = SHARED.set(attach(programs));
        }
        &SHARED.get().unwrap().0
    });
    found.await.unwrap()
}

fn attach(programs: PathBuf) -> (Server, File) {
    // One for each checkout, and for each version of the schema.
    let mut digest = <sha2::Sha256 as sha2::Digest>::new();
    sha2::Digest::update(&mut digest, env!("CARGO_MANIFEST_DIR"));
    let migrations = concat!(env!("CARGO_MANIFEST_DIR"), "/../store/migrations/postgres");
    let mut steps: Vec<PathBuf> =
        std::fs::read_dir(migrations).unwrap().map(|entry| entry.unwrap().path()).collect();
    steps.sort();
    for step in steps {
        sha2::Digest::update(&mut digest, std::fs::read(step).unwrap());
    }
    let digest = sha2::Digest::finalize(digest);
    let name = format!(
        "zapbus-test-postgres-{:08x}",
        u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3],])
    );
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let open = |name: &str| {
        let path = folder.join(name);
        File::options().create(true).truncate(false).read(true).write(true).open(path).unwrap()
    };
    // Held as long as this process lives: the server stays for as long.
    let using = open("using");
    using.lock_shared().unwrap();
    let starting = open("starting");
    starting.lock().unwrap();
    let port_file = folder.join("port");
    let known = std::fs::read_to_string(&port_file).ok().and_then(|port| port.parse().ok());
    if let Some(port) = known
        && std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    {
        return (Server { programs, folder, port }, using);
    }
    let server = Server::make(programs, folder.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(server.make_template());
    let mut file = File::create(&port_file).unwrap();
    write!(file, "{}", server.port).unwrap();
    watch(&server);
    (server, using)
}

/// Stops the server when nobody has used it for a while.
fn watch(server: &Server) {
    let script = r#"
        cd "$1" || exit
        while sleep 5; do
            if flock starting sh -c '
                flock -n -x using true || exit 1
                rm -f port
                '"$3"' "$2/pg_ctl" -D "$1/data" -m immediate stop >/dev/null 2>&1
                rm -rf "$1/data"
                exit 0' sh "$1" "$2"
            then exit; fi
        done"#;
    let is_root = as_server_user(Path::new("x")).get_program() == "runuser";
    let prefix = if is_root { "runuser -u postgres --" } else { "" };
    let _ = Command::new("setsid")
        .args(["sh", "-c", script, "sh"])
        .arg(&server.folder)
        .arg(&server.programs)
        .arg(prefix)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
}
