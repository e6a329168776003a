//! Public clients in Python and for Node.js, pinned: installed once into a cache outside the checkout.

use std::{
    io::Write as _,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

/// A client in Python with what it needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packages {
    /// Of its folder in the cache: with its version, since that is never installed over.
    pub(crate) name: &'static str,
    /// Where its programs and its `requirements.txt` are, below `tests/sdk`.
    pub(crate) folder: &'static str,
}

/// `ZAPBUS_TEST_CACHE`, else where caches of this user are.
pub(crate) fn cache() -> PathBuf {
    let named = std::env::var_os("ZAPBUS_TEST_CACHE").map(PathBuf::from);
    let user = || std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    named
        .or_else(|| Some(user().or_else(home)?.join("zapbus-tests")))
        .unwrap_or_else(|| std::env::temp_dir().join("zapbus-tests"))
}

impl Packages {
    fn programs(self) -> PathBuf {
        programs(self.folder)
    }

    /// A folder for `PYTHONPATH` with the client and what it needs, or why there is none.
    fn install(self) -> Result<PathBuf, String> {
        let version = "import sys; print('%d.%d' % sys.version_info[:2])";
        let version = output(Command::new("python3").args(["-c", version]))?;
        let place = cache().join(format!("{}-python{version}", self.name));
        if place.exists() {
            return Ok(place);
        }
        fill(&place, |folder| {
            let mut pip = Command::new("python3");
            pip.args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--target",
            ])
            .arg(folder)
            .arg("--requirement")
            .arg(self.programs().join("requirements.txt"));
            output(&mut pip).map(drop)
        })?;
        Ok(place)
    }

    /// The folder with the client; nothing, once it is said, where the client cannot be had.
    pub(crate) async fn folder(self) -> Option<PathBuf> {
        let installed = tokio::task::spawn_blocking(move || self.install()).await.unwrap();
        there(installed, "Python", self.name)
    }

    /// A program with the client in reach; nothing, once it is said, where the client cannot be had.
    pub(crate) async fn program(self, name: &str) -> Option<tokio::process::Command> {
        Some(python(&[self.folder().await?], &self.programs().join(name)))
    }
}

/// A program, with folders that it may import from.
pub(crate) fn python(folders: &[PathBuf], program: &Path) -> tokio::process::Command {
    let mut command = tokio::process::Command::new("python3");
    command
        .env("PYTHONPATH", std::env::join_paths(folders).expect("no colons in these"))
        .env("PYTHONUNBUFFERED", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(program)
        .kill_on_drop(true);
    command
}

/// A client for Node.js with what it needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Modules {
    /// Of its folder in the cache: with its version, since that is never installed over.
    pub(crate) name: &'static str,
    /// Where its programs and its `package.json` are, below `tests/sdk`.
    pub(crate) folder: &'static str,
}

impl Modules {
    /// A folder with the packages, or why there is none.
    fn install(self) -> Result<PathBuf, String> {
        let place = cache().join(self.name);
        if place.exists() {
            return Ok(place);
        }
        output(Command::new("node").arg("--version"))?;
        fill(&place, |folder| {
            std::fs::copy(programs(self.folder).join("package.json"), folder.join("package.json"))
                .map_err(|error| error.to_string())?;
            let mut npm = Command::new("npm");
            npm.args([
                "install",
                "--no-audit",
                "--no-fund",
                "--loglevel=error",
                "--ignore-scripts",
            ])
            .current_dir(folder);
            output(&mut npm).map(drop)
        })?;
        Ok(place)
    }

    /// A program that finds the packages where `NODE_PACKAGES` says; nothing, once it is said, where
    /// they cannot be had.
    pub(crate) async fn program(self, name: &str) -> Option<tokio::process::Command> {
        let installed = tokio::task::spawn_blocking(move || self.install()).await.unwrap();
        let packages = there(installed, "Node.js", self.name)?;
        let mut command = tokio::process::Command::new("node");
        command
            .arg(programs(self.folder).join(name))
            .env("NODE_PACKAGES", packages)
            .kill_on_drop(true);
        Some(command)
    }
}

fn programs(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk").join(folder)
}

/// Fills a folder of the cache. Several test processes may be at it: each fills one of its own, and
/// that of the first is renamed.
fn fill(place: &Path, install: impl FnOnce(&Path) -> Result<(), String>) -> Result<(), String> {
    std::fs::create_dir_all(cache()).map_err(|error| error.to_string())?;
    let folder = tempfile::tempdir_in(cache()).map_err(|error| error.to_string())?;
    install(folder.path())?;
    match std::fs::rename(folder.path(), place) {
        Ok(()) => drop(folder.keep()),
        Err(_) if place.exists() => {}
        Err(error) => return Err(error.to_string()),
    }
    Ok(())
}

/// What was installed; nothing, once it is said, if it could not be, unless everything must be there.
fn there(installed: Result<PathBuf, String>, language: &str, name: &str) -> Option<PathBuf> {
    match installed {
        Ok(packages) => Some(packages),
        Err(reason) => {
            missing(&format!("the {language} client {name} is not to be had: {reason}"));
            None
        }
    }
}

/// Says that a peer is missing, which is a failure where all must be there that are quickly installed.
pub(crate) fn missing(reason: &str) {
    let required = std::env::var("ZAPBUS_TEST_PEERS").as_deref() == Ok("require");
    assert!(!required, "{reason}, and ZAPBUS_TEST_PEERS=require");
    say(&format!("skipped: {reason}"));
}

/// A line for whoever looks at what was not shown.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
