//! Public clients in Python, pinned: installed once into a cache outside the checkout.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::postgres::say;

/// A client with what it needs.
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
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk").join(self.folder)
    }

    /// A folder for `PYTHONPATH` with the client and what it needs, or why there is none.
    fn install(self) -> Result<PathBuf, String> {
        let version = "import sys; print('%d.%d' % sys.version_info[:2])";
        let version = output(Command::new("python3").args(["-c", version]))?;
        let place = cache().join(format!("{}-python{version}", self.name));
        if place.exists() {
            return Ok(place);
        }
        // Several test processes may be at it: each fills a folder of its own, one is renamed first.
        std::fs::create_dir_all(cache()).map_err(|error| error.to_string())?;
        let folder = tempfile::tempdir_in(cache()).map_err(|error| error.to_string())?;
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"])
            .arg(folder.path())
            .arg("--requirement")
            .arg(self.programs().join("requirements.txt"));
        output(&mut pip)?;
        match std::fs::rename(folder.path(), &place) {
            Ok(()) => drop(folder.keep()),
            Err(_) if place.exists() => {}
            Err(error) => return Err(error.to_string()),
        }
        Ok(place)
    }

    /// The folder with the client; nothing, once it is said, where the client cannot be had.
    pub(crate) async fn folder(self) -> Option<PathBuf> {
        let installed = tokio::task::spawn_blocking(move || self.install()).await.unwrap();
        installed
            .map_err(|reason| skipped(&format!("the Python client {}", self.name), &reason))
            .ok()
    }

    /// A program with the client in reach; nothing, once it is said, where the client cannot be had.
    pub(crate) async fn program(self, name: &str) -> Option<tokio::process::Command> {
        Some(python(&[self.folder().await?], &self.programs().join(name)))
    }
}

/// A test is skipped without `what`, unless that is an error.
pub(crate) fn skipped(what: &str, reason: &str) {
    let required = std::env::var("ZAPBUS_TEST_PEERS").as_deref() == Ok("require");
    assert!(!required, "{reason}, and ZAPBUS_TEST_PEERS=require");
    say(&format!("skipped without {what}: {reason}"));
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

pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
