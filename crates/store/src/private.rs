//! Files that are for their owner alone, whatever the umask says: messages of people are in them.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::Path,
};

const FILE: u32 = 0o600;
const FOLDER: u32 = 0o700;
/// What group and others may do.
const OTHERS: u32 = 0o077;

/// Makes a folder, and those above it, unless they are there.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    let missing = !path.as_os_str().is_empty() && !path.exists();
    fs::DirBuilder::new().recursive(true).mode(FOLDER).create(path)?;
    if missing {
        fs::set_permissions(path, Permissions::from_mode(FOLDER))?;
    }
    Ok(())
}

/// Makes a file that must not be there yet.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    let file = File::options().write(true).create_new(true).mode(FILE).open(path)?;
    file.set_permissions(Permissions::from_mode(FILE))?;
    Ok(file)
}

/// Opens a file for reading and writing and makes it if need be.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE)
        .open(path)?;
    tighten(path, FILE)?;
    Ok(file)
}

/// Makes sure that a database exists and only its owner reads it. SQLite gives its log the same
/// permissions.
pub(crate) fn make_database(path: &Path) -> io::Result<()> {
    open(path)?;
    for suffix in ["-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match tighten(Path::new(&name), FILE) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Closes a folder to everybody else, if it is ours. Whether it had to be.
pub(crate) fn tighten_folder(path: &Path) -> io::Result<bool> {
    tighten(path, FOLDER)
}

/// Takes from group and others what they may do. Leaves alone what somebody else owns: who gave
/// it to us knows who is in its group.
fn tighten(path: &Path, mode: u32) -> io::Result<bool> {
    let found = fs::metadata(path)?;
    if found.mode() & OTHERS == 0 || found.uid() != rustix::process::geteuid().as_raw() {
        return Ok(false);
    }
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(true)
}
