//! Files that are being made: what comes from elsewhere, piece by piece, before it is known what it
//! is called.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};

use crate::{blob::Sha, private};

/// Where they are made in a data folder.
const FOLDER: &str = "spool";

/// The folder for them, empty: what is there is from before a crash.
pub(crate) fn folder(data_dir: &Path) -> io::Result<PathBuf> {
    let folder = data_dir.join(FOLDER);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    private::make_folder(&folder)?;
    Ok(folder)
}

/// A file that is being made. Gone with this, unless it was kept.
pub struct Spool {
    file: tokio::fs::File,
    /// `None`: it has no name any more.
    path: Option<PathBuf>,
    sum: Sha256,
    bytes: u64,
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spool").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Spool {
    /// A new one in `folder`. `named`: it will be moved to another place in the same file system.
    pub(crate) fn new(folder: &Path, named: bool) -> io::Result<Self> {
        let mut name = [0; 16];
        getrandom::fill(&mut name).map_err(io::Error::other)?;
        let path = folder.join(format!("zapbus-{}", hex::encode(name)));
        let file = private::create_new(&path)?;
        let file = if named {
            file
        } else {
            let file = private::open(&path)?;
            fs::remove_file(&path)?;
            file
        };
        Ok(Self {
            file: tokio::fs::File::from_std(file),
            path: named.then_some(path),
            sum: Sha256::new(),
            bytes: 0,
        })
    }

    /// Adds to its end.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub async fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.write_all(piece).await?;
        self.sum.update(piece);
        self.bytes += piece.len() as u64;
        Ok(())
    }

    /// Its bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn sha(&self) -> Sha {
        self.sum.clone().finalize().into()
    }

    /// The file, on disk, to be read from its beginning.
    pub(crate) async fn finished(&mut self) -> io::Result<&mut tokio::fs::File> {
        self.file.flush().await?;
        if self.path.is_some() {
            self.file.sync_all().await?;
        }
        self.file.rewind().await?;
        Ok(&mut self.file)
    }

    /// Where it lies, if it has a name.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // It may have been moved to its place. What stays goes at the next start.
            let _ = fs::remove_file(path);
        }
    }
}
