//! The mark in a data folder that was copied elsewhere: a gateway must not go on with it by mistake.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write as _},
    path::Path,
};

use serde::{Deserialize, Serialize};
use zapbus_event::Timestamp;

use crate::{OpenError, private};

const FILE: &str = "copied.json";
/// What it is written to first: half a mark would not say where the copy is.
const DRAFT: &str = "copied.json.new";

/// Where the copy is, and since when.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    to: String,
    at: Timestamp,
}

/// Marks a data folder as copied to a place, which is named without secrets.
pub(crate) fn mark(data_dir: &Path, to: &str, at: Timestamp) -> io::Result<()> {
    let draft = data_dir.join(DRAFT);
    remove(&draft)?;
    let mut file = private::create_new(&draft)?;
    serde_json::to_writer_pretty(&mut file, &Mark { to: to.to_owned(), at })?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&draft, data_dir.join(FILE))?;
    File::open(data_dir)?.sync_all()
}

/// Refuses a data folder that was copied, unless it is taken back: then it is as it was before.
pub(crate) fn check(data_dir: &Path, take_back: bool) -> Result<(), OpenError> {
    let path = data_dir.join(FILE);
    let unusable = |source| OpenError::Folder { path: path.clone(), source };
    let found = match fs::read(&path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unusable(error)),
    };
    if take_back {
        let gone = remove(&path).and_then(|()| File::open(data_dir)?.sync_all());
        gone.map_err(unusable)?;
        tracing::warn!(
            event = "store.taken_back",
            data_dir = %data_dir.display(),
            "this store was copied elsewhere and is used again"
        );
        return Ok(());
    }
    // Somebody else's words in it are no reason to go on.
    let place = match serde_json::from_slice(&found) {
        Ok(Mark { to, at }) => format!("{to} at {at}"),
        Err(_) => format!("another place ({} does not say where)", path.display()),
    };
    Err(OpenError::Copied { path: data_dir.to_owned(), place })
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
