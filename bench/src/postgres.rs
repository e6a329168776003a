//! A PostgreSQL server to measure on: one of our own with everything at its default that durability
//! depends on, or one whose URL is given.

use std::{
    fs::Permissions,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use tempfile::TempDir;

use crate::{Failure, process};

/// Where distributions keep its programs, by version.
const PLACE: &str = "/usr/lib/postgresql";

/// Any key: the databases are gone after the measurement.
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A server. One of our own is stopped when it is dropped.
#[derive(Debug)]
pub(crate) struct Postgres {
    /// Of a database that others are made from.
    url: String,
    psql: PathBuf,
    own: Option<Own>,
    databases: AtomicU32,
}

/// A server of our own.
#[derive(Debug)]
struct Own {
    programs: PathBuf,
    folder: TempDir,
}

impl Postgres {
    /// The server at `url`, or else one of our own that keeps its data in `folder`; `None` if there
    /// is neither.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub(crate) fn find(url: Option<&str>, folder: &Path) -> Result<Option<Self>, Failure> {
        let programs = programs();
        if let Some(url) = url {
            let psql = programs.map_or_else(|| "psql".into(), |programs| programs.join("psql"));
            let databases = AtomicU32::new(0);
            return Ok(Some(Self { url: url.to_owned(), psql, own: None, databases }));
        }
        programs.map(|programs| Self::start(programs, folder)).transpose()
    }

    fn start(programs: PathBuf, folder: &Path) -> Result<Self, Failure> {
        let folder = folder_for_server(folder)?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let own = Own { programs, folder };
        let data = own.data();
        let data = data.as_str();
        own.run("initdb", &["-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8"])?;
        let place = own.folder.path().display();
        let (log, options) = (
            format!("{place}/log"),
            format!(
                "-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={place} \
                 -c shared_buffers=256MB -c max_wal_size=4GB"
            ),
        );
        own.run("pg_ctl", &["-D", data, "-w", "-t", "60", "-l", &log, "-o", &options, "start"])?;
        Ok(Self {
            url: format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            psql: own.programs.join("psql"),
            own: Some(own),
            databases: AtomicU32::new(0),
        })
    }

    /// An empty database, gone when it is dropped.
    pub(crate) fn database(&self) -> Result<Database<'_>, Failure> {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("zapbus_bench_{}_{number}", std::process::id());
        self.say(&format!("CREATE DATABASE {name}"))?;
        Ok(Database { server: self, url: with_database(&self.url, &name), name })
    }

    /// CPU time of the server so far, in seconds; `None` if it is not our own.
    pub(crate) fn cpu_seconds(&self) -> Result<Option<f64>, Failure> {
        let Some(own) = &self.own else {
            return Ok(None);
        };
        let file = std::fs::read_to_string(own.folder.path().join("data/postmaster.pid"))?;
        let pid = file.lines().next().ok_or("the server has no process")?.parse()?;
        Ok(Some(process::family_cpu_seconds(pid)?))
    }

    fn say(&self, statement: &str) -> Result<(), Failure> {
        let said = Command::new(&self.psql)
            .args(["--no-psqlrc", "--quiet", "--dbname", &self.url, "--command", statement])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("psql, which comes with PostgreSQL's clients: {error}"))?;
        if said.status.success() {
            Ok(())
        } else {
            Err(format!("{statement}: {}", String::from_utf8_lossy(&said.stderr)).into())
        }
    }
}

/// A database for one store.
#[derive(Debug)]
pub(crate) struct Database<'a> {
    server: &'a Postgres,
    name: String,
    url: String,
}

impl Database<'_> {
    /// What leads a gateway to it.
    pub(crate) fn environment(&self) -> [(&'static str, &str); 2] {
        [("ZAPBUS_DATABASE_URL", &self.url), ("ZAPBUS_ENCRYPTION_KEY", KEY)]
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.server.say(&format!("DROP DATABASE {} WITH (FORCE)", self.name)) {
            crate::note(&format!("a database stays behind: {error}"));
        }
    }
}

impl Own {
    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<(), Failure> {
        // Its output goes nowhere: a server that goes on would keep a pipe open.
        let status = as_server_user(&self.programs.join(program))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .status()?;
        if status.success() { Ok(()) } else { Err(format!("{program}: {status}").into()) }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Err(error) = self.run("pg_ctl", &["-D", &self.data(), "-m", "immediate", "stop"]) {
            crate::note(&format!("PostgreSQL goes on running: {error}"));
        }
    }
}

/// The programs of the newest version that is installed.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir(PLACE).ok()?;
    let with_number = versions.filter_map(|entry| {
        let path = entry.ok()?.path();
        let number: u32 = path.file_name()?.to_str()?.parse().ok()?;
        let programs = path.join("bin");
        programs.join("initdb").exists().then_some((number, programs))
    });
    with_number.max().map(|(_, programs)| programs)
}

/// A folder in `folder` that the server may use; where its user may not enter, one among temporary
/// files.
fn folder_for_server(folder: &Path) -> Result<TempDir, Failure> {
    let own = tempfile::tempdir_in(folder.canonicalize()?)?;
    std::fs::set_permissions(own.path(), Permissions::from_mode(0o777))?;
    let enters = as_server_user(Path::new("test")).arg("-w").arg(own.path()).status()?;
    if enters.success() {
        return Ok(own);
    }
    let other = tempfile::tempdir()?;
    std::fs::set_permissions(other.path(), Permissions::from_mode(0o777))?;
    crate::note(&format!(
        "PostgreSQL may not enter {}: its data is in {}, perhaps on another disk",
        folder.display(),
        other.path().display()
    ));
    Ok(other)
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

/// The URL of another database on the same server.
fn with_database(url: &str, name: &str) -> String {
    let (base, query) =
        url.split_once('?').map_or((url, None), |(base, query)| (base, Some(query)));
    let authority = base.find("://").map_or(0, |at| at + 3);
    let end = base[authority..].find('/').map_or(base.len(), |at| authority + at);
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    format!("{}/{name}{query}", &base[..end])
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn a_database_has_the_url_of_its_server() {
        for (url, expected) in [
            ("postgres://u:p@h:5432/db", "postgres://u:p@h:5432/bench"),
            ("postgres://h", "postgres://h/bench"),
            ("postgresql://h/?sslmode=disable", "postgresql://h/bench?sslmode=disable"),
        ] {
            assert_eq!(with_database(url, "bench"), expected);
        }
    }
}
