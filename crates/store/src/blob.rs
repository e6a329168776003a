//! Binaries that are too large for a journal row: content-addressed files beside the database.
//!
//! A long base64 string in an event's `data` or `raw` becomes a file named by the SHA-256 of its
//! contents, and a reference in its place. Where the references stand is recorded apart from the
//! text, so that a user who writes the same words gets them back and nothing else.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    io::Write as _,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zapbus_event::{Draft, Raw};

use crate::private;

/// What a reference starts with. A text without it has none.
const MARK: &str = "zapbus-blob:";
const REFERENCE: usize = MARK.len() + 64;

pub(crate) type Sha = [u8; 32];

/// One reference in an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlobRef {
    /// It stands in `raw` (else in `data`).
    #[serde(rename = "r", default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) in_raw: bool,
    /// Where the reference starts in the stored text.
    #[serde(rename = "a")]
    pub(crate) at: usize,
    /// The file.
    #[serde(rename = "s", with = "hex_sha")]
    pub(crate) sha: Sha,
    /// The file holds the text as it was (else the bytes that the base64 stood for).
    #[serde(rename = "l", default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) literal: bool,
    /// Length of the file.
    #[serde(rename = "n")]
    pub(crate) bytes: u64,
}

mod hex_sha {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::Sha;

    pub(super) fn serialize<S: Serializer>(sha: &Sha, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(sha))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sha, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let mut sha = Sha::default();
        hex::decode_to_slice(text.as_bytes(), &mut sha).map_err(de::Error::custom)?;
        Ok(sha)
    }
}

/// The blob folder.
#[derive(Debug, Clone)]
pub(crate) struct Blobs {
    folder: PathBuf,
    /// Files that an append on its way to its commit counts on: not to be deleted.
    pins: Arc<Mutex<HashMap<Sha, usize>>>,
    stored: Arc<AtomicU64>,
    /// Copies in progress: as long as there are any, no file is deleted.
    holds: Arc<AtomicUsize>,
    /// Files that nothing may refer to any more: what was to go during a copy, and what appends
    /// wrote that were refused or known already.
    loose: Arc<Mutex<HashSet<Sha>>>,
}

/// Keeps all files from being deleted; what should have gone meanwhile goes afterwards.
#[derive(Debug)]
pub(crate) struct Hold(Arc<AtomicUsize>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Keeps files from being deleted until the event that refers to them is committed.
#[derive(Debug)]
pub(crate) struct Pin {
    pins: Arc<Mutex<HashMap<Sha, usize>>>,
    loose: Arc<Mutex<HashSet<Sha>>>,
    shas: Vec<Sha>,
    committed: bool,
}

impl Pin {
    /// The event is in the journal, so that from now on its row keeps the files.
    pub(crate) fn committed(mut self) {
        self.committed = true;
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = lock(&self.pins);
        for sha in &self.shas {
            if let Some(count) = pins.get_mut(sha) {
                *count -= 1;
                if *count == 0 {
                    pins.remove(sha);
                }
            }
        }
        drop(pins);
        if !self.committed {
            lock(&self.loose).extend(self.shas.drain(..));
        }
    }
}

impl Blobs {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            pins: Arc::default(),
            stored: Arc::default(),
            holds: Arc::default(),
            loose: Arc::default(),
        }
    }

    fn pin(&self) -> Pin {
        Pin {
            pins: Arc::clone(&self.pins),
            loose: Arc::clone(&self.loose),
            shas: Vec::new(),
            committed: false,
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Bytes of all files that events refer to.
    pub(crate) fn stored(&self) -> &AtomicU64 {
        &self.stored
    }

    /// Moves long base64 strings of the draft to files. When it returns they are on disk.
    pub(crate) fn extract(
        &self,
        draft: &mut Draft,
        limit: usize,
    ) -> io::Result<(Vec<BlobRef>, Option<Pin>)> {
        let mut pin = self.pin();
        let refs = extract(draft, limit, &mut |sha, contents| {
            // Pinned before the look at the folder: else the file could go between the two.
            *lock(&self.pins).entry(sha).or_default() += 1;
            pin.shas.push(sha);
            self.write(&sha, contents)
        })?;
        let pin = (!refs.is_empty()).then_some(pin);
        Ok((refs, pin))
    }

    /// The file that a reference stands for.
    pub(crate) fn open(&self, sha: &Sha) -> io::Result<fs::File> {
        fs::File::open(self.path(sha))
    }

    /// Takes a finished file of the same file system for one of its own. When it returns it is on
    /// disk.
    pub(crate) fn adopt(&self, sha: Sha, file: &Path) -> io::Result<Pin> {
        let mut pin = self.pin();
        *lock(&self.pins).entry(sha).or_default() += 1;
        pin.shas.push(sha);
        let folder = self.folder.join(hex::encode(&sha[..1]));
        private::make_folder(&folder)?;
        fs::rename(file, self.path(&sha))?;
        fs::File::open(&folder)?.sync_all()?;
        fs::File::open(&self.folder)?.sync_all()?;
        Ok(pin)
    }

    /// What a reference stands for.
    pub(crate) fn read(&self, sha: &Sha) -> io::Result<Vec<u8>> {
        fs::read(self.path(sha))
    }

    fn path(&self, sha: &Sha) -> PathBuf {
        let name = hex::encode(sha);
        self.folder.join(&name[..2]).join(name)
    }

    fn write(&self, sha: &Sha, contents: &[u8]) -> io::Result<()> {
        let path = self.path(sha);
        let folder = self.folder.join(hex::encode(&sha[..1]));
        let complete = fs::metadata(&path).is_ok_and(|found| found.len() == contents.len() as u64);
        if !complete {
            private::make_folder(&folder)?;
            let mut suffix = [0; 8];
            getrandom::fill(&mut suffix).map_err(io::Error::other)?;
            let draft = folder.join(format!(".{}", hex::encode(suffix)));
            let written = (|| {
                let mut file = private::create_new(&draft)?;
                file.write_all(contents)?;
                file.sync_all()?;
                fs::rename(&draft, &path)
            })();
            if written.is_err() {
                // Best effort: the sweep finds what stays.
                let _ = fs::remove_file(&draft);
            }
            written?;
        }
        // Also when somebody else just made it: their sync of the folder may still be to come.
        fs::File::open(&folder)?.sync_all()?;
        fs::File::open(&self.folder)?.sync_all()
    }

    /// Keeps every file until the hold is dropped.
    pub(crate) fn hold(&self) -> Hold {
        self.holds.fetch_add(1, Ordering::Relaxed);
        Hold(Arc::clone(&self.holds))
    }

    fn is_held(&self) -> bool {
        self.holds.load(Ordering::Relaxed) > 0
    }

    /// Whether files wait for the end of a copy to be deleted.
    pub(crate) fn keeps_loose(&self) -> bool {
        self.is_held() && !lock(&self.loose).is_empty()
    }

    /// Files that nothing may refer to any more, to be looked up and removed. None while a copy
    /// is being made.
    pub(crate) fn take_loose(&self) -> Vec<Sha> {
        let mut loose = lock(&self.loose);
        if loose.is_empty() || self.is_held() { Vec::new() } else { loose.drain().collect() }
    }

    /// Deletes files that nothing refers to any more, except those an append counts on. While a
    /// copy is being made they wait.
    pub(crate) fn remove(&self, shas: &[Sha]) {
        if self.is_held() {
            lock(&self.loose).extend(shas);
            return;
        }
        let pins = lock(&self.pins);
        for sha in shas.iter().filter(|sha| !pins.contains_key(*sha)) {
            let path = self.path(sha);
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(event = "blob.not_deleted", path = %path.display(), %error, "a blob could not be deleted");
            }
        }
    }

    /// Deletes what a crash left behind in the `shelf`-th of the 256 folders: files nothing refers
    /// to. Files younger than an hour may belong to an append on its way and stay.
    pub(crate) fn sweep(&self, shelf: u8, referenced: impl Fn(&Sha) -> bool) -> io::Result<u64> {
        if self.is_held() {
            return Ok(0);
        }
        let folder = self.folder.join(hex::encode([shelf]));
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut removed = 0;
        for entry in entries {
            let entry = entry?;
            let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
            if age.as_secs() < 3600 {
                continue;
            }
            let name = entry.file_name();
            let mut sha = Sha::default();
            let known = name.to_str().is_some_and(|name| {
                hex::decode_to_slice(name, &mut sha).is_ok() && referenced(&sha)
            });
            if !known && !lock(&self.pins).contains_key(&sha) {
                fs::remove_file(entry.path())?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// Takes long base64 strings out of a draft. `keep` gets what each of them stands for, before
/// anything else happens.
pub(crate) fn extract(
    draft: &mut Draft,
    limit: usize,
    keep: &mut dyn FnMut(Sha, &[u8]) -> io::Result<()>,
) -> io::Result<Vec<BlobRef>> {
    let mut refs = Vec::new();
    draft.data = extract_from(&draft.data, limit, false, &mut refs, keep)?;
    if let Raw::Bytes(raw) = &draft.raw {
        draft.raw = Raw::Bytes(extract_from(raw, limit, true, &mut refs, keep)?);
    }
    Ok(refs)
}

fn extract_from(
    text: &Bytes,
    limit: usize,
    in_raw: bool,
    refs: &mut Vec<BlobRef>,
    keep: &mut dyn FnMut(Sha, &[u8]) -> io::Result<()>,
) -> io::Result<Bytes> {
    let spans = long_base64(text, limit);
    if spans.is_empty() {
        return Ok(text.clone());
    }
    let mut shortened = Vec::new();
    let mut copied = 0;
    for span in spans {
        shortened.extend_from_slice(&text[copied..span.start]);
        copied = span.end;
        let original = &text[span];
        let decoded =
            STANDARD.decode(original).ok().filter(|d| STANDARD.encode(d).as_bytes() == original);
        let literal = decoded.is_none();
        let contents = decoded.as_deref().unwrap_or(original);
        let sha: Sha = Sha256::digest(contents).into();
        keep(sha, contents)?;
        let bytes = contents.len() as u64;
        refs.push(BlobRef { in_raw, at: shortened.len(), sha, literal, bytes });
        shortened.extend_from_slice(MARK.as_bytes());
        shortened.extend_from_slice(hex::encode(sha).as_bytes());
    }
    shortened.extend_from_slice(&text[copied..]);
    Ok(shortened.into())
}

/// The text as it was before [`extract`]. `fetch` gives back what was kept.
pub(crate) fn restore(
    text: &Bytes,
    refs: &[BlobRef],
    in_raw: bool,
    fetch: &dyn Fn(&Sha) -> io::Result<Bytes>,
) -> io::Result<Bytes> {
    let mut whole = Vec::new();
    let mut copied = 0;
    for reference in refs.iter().filter(|reference| reference.in_raw == in_raw) {
        let gone = || io::Error::new(io::ErrorKind::InvalidData, "a blob reference is misplaced");
        whole.extend_from_slice(text.get(copied..reference.at).ok_or_else(gone)?);
        copied = reference.at + REFERENCE;
        let contents = fetch(&reference.sha)?;
        if reference.literal {
            whole.extend_from_slice(&contents);
        } else {
            whole.extend_from_slice(STANDARD.encode(contents).as_bytes());
        }
    }
    if copied == 0 {
        return Ok(text.clone());
    }
    whole.extend_from_slice(text.get(copied..).unwrap_or_default());
    Ok(whole.into())
}

/// The reference in an event's `data` that this text is, if it stands for bytes.
pub(crate) fn referred<'a>(refs: &'a [BlobRef], text: &str) -> Option<&'a BlobRef> {
    let mut sha = Sha::default();
    hex::decode_to_slice(text.strip_prefix(MARK)?, &mut sha).ok()?;
    refs.iter().find(|found| found.sha == sha && !found.in_raw && !found.literal)
}

/// Whether an event may hold references at all; the record in its row has the last word.
pub(crate) fn may_refer(text: &[u8]) -> bool {
    text.len() >= REFERENCE && memchr::memmem::find(text, MARK.as_bytes()).is_some()
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that could panic runs under these locks.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The stretches of JSON string literals that are base64 and longer than `limit`; behind the
/// comma, for a `data:` URL.
pub(crate) fn long_base64(text: &[u8], limit: usize) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    if text.len() <= limit {
        return spans;
    }
    let mut at = 0;
    while let Some(open) = memchr::memchr(b'"', &text[at..]) {
        let start = at + open + 1;
        let Some(end) = closing_quote(text, start) else {
            break;
        };
        at = end + 1;
        if end - start > limit {
            let literal = &text[start..end];
            let skip = match memchr::memmem::find(&literal[..literal.len().min(128)], b";base64,") {
                Some(found) if literal.starts_with(b"data:") => found + b";base64,".len(),
                _ => 0,
            };
            if literal.len() - skip > limit && is_base64(&literal[skip..]) {
                spans.push(start + skip..end);
            }
        }
    }
    spans
}

fn closing_quote(text: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        let found = at + memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[found] == b'"' {
            return Some(found);
        }
        at = found + 2;
    }
}

/// Base64 in either alphabet, in lines or in one; `\/` is how some JSON writers escape a slash. Prose
/// has more spaces than lines have ends.
fn is_base64(literal: &[u8]) -> bool {
    let mut spaces = 0;
    let is_plain = literal.iter().all(|byte| {
        spaces += usize::from(*byte == b' ');
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=' | b'\\' | b' ')
    });
    is_plain && spaces <= literal.len() / 32
}

/// Bytes of a JSON text that leave it for files.
pub(crate) fn bytes_of_files(text: &[u8], limit: usize) -> usize {
    long_base64(text, limit).iter().map(ExactSizeIterator::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(text: &str, limit: usize) -> (Bytes, Vec<BlobRef>) {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(folder.path().join("blobs"));
        fs::create_dir_all(blobs.folder()).unwrap();
        let text = Bytes::copy_from_slice(text.as_bytes());
        let mut refs = Vec::new();
        let mut keep = |sha: Sha, contents: &[u8]| blobs.write(&sha, contents);
        let short = extract_from(&text, limit, false, &mut refs, &mut keep).unwrap();
        let fetch = |sha: &Sha| blobs.read(sha).map(Bytes::from);
        assert_eq!(restore(&short, &refs, false, &fetch).unwrap(), text);
        (short, refs)
    }

    #[test]
    fn a_long_string_leaves_and_comes_back() {
        let long = STANDARD.encode(vec![7; 300]);
        let (short, refs) = round_trip(&format!(r#"{{"a":"b\"c","d":"{long}","e":1}}"#), 100);
        assert_eq!(refs.len(), 1);
        assert!(!refs[0].literal);
        assert!(short.len() < 150);
        assert!(serde_json::from_slice::<serde_json::Value>(&short).is_ok());
    }

    #[test]
    fn what_does_not_encode_back_is_kept_as_text() {
        let lines = format!("{} ", "AAAA".repeat(19)).repeat(4);
        let escaped = format!("{}\\n", "AAAA".repeat(19)).repeat(4);
        for odd in
            ["A".repeat(201), format!("{}\\/", "AAAA".repeat(60)), "_-".repeat(100), lines, escaped]
        {
            let (_, refs) = round_trip(&format!(r#"["{odd}"]"#), 100);
            assert!(refs[0].literal, "{odd}");
        }
    }

    #[test]
    fn prose_stays_where_it_is() {
        let (short, refs) = round_trip(&format!(r#"["{}"]"#, "some words ".repeat(50)), 100);
        assert!(refs.is_empty());
        assert!(short.len() > 500);
    }

    #[test]
    fn a_data_url_keeps_its_head() {
        let long = STANDARD.encode(vec![7; 300]);
        let (short, refs) = round_trip(&format!(r#"["data:image/png;base64,{long}"]"#), 100);
        assert_eq!(refs.len(), 1);
        assert!(short.starts_with(br#"["data:image/png;base64,zapbus-blob:"#));
    }

    #[test]
    fn a_pinned_file_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(folder.path().to_owned());
        let media = "A".repeat(400);
        let text = format!(
            r#"{{"type":"instance.lifecycle","data":{{"action":"created","media":"{media}"}}}}"#
        );
        let mut draft = Draft::native(text.as_bytes()).unwrap();
        let (refs, pin) = blobs.extract(&mut draft, 100).unwrap();
        let path = blobs.path(&refs[0].sha);
        blobs.remove(&[refs[0].sha]);
        assert!(path.exists());
        drop(pin);
        blobs.remove(&[refs[0].sha]);
        assert!(!path.exists());
    }

    proptest! {
        #[test]
        fn any_text_comes_back(pieces in proptest::collection::vec(
            prop_oneof!["[a-zA-Z0-9+/]{0,40}", r#"[ -~]{0,12}"#, Just("\"".to_owned()), Just("\\".to_owned())],
            0..12,
        )) {
            round_trip(&pieces.concat(), 8);
        }
    }
}
