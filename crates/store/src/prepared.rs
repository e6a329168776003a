//! Appends with everything done that needs no database: the same in each engine.

use std::{collections::HashSet, hash::BuildHasher as _};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use zapbus_event::{Draft, InstanceId, Raw};

use crate::{
    StoreError,
    blob::{self, BlobRef, Blobs, Pin, Sha},
    fault::{Fault, Result},
    journal::{Append, NewEvent},
};

/// Address pairs that need not be written again soon.
const KNOWN_ALIASES: usize = 16_384;

/// The hash that stands for (instance, deduplication key).
pub(crate) type KeyHash = [u8; 16];

/// An event on its way to the journal, with everything done that needs no database.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) instance: InstanceId,
    pub(crate) draft: Draft,
    pub(crate) keys: Vec<KeyHash>,
    pub(crate) blobs: Vec<BlobRef>,
    /// Keeps the files of `blobs` until it is committed.
    pub(crate) pin: Option<Pin>,
}

impl Prepared {
    /// Bytes it holds while it waits.
    pub(crate) fn weight(&self) -> usize {
        draft_weight(&self.draft)
    }
}

/// Bytes that a draft holds while it waits.
pub(crate) fn draft_weight(draft: &Draft) -> usize {
    let raw = match &draft.raw {
        zapbus_event::Raw::Data => 0,
        zapbus_event::Raw::Bytes(raw) => raw.len(),
    };
    let keys: usize = draft.keys.iter().map(String::len).sum();
    draft.data.len() + raw + keys + draft.partition.len() + size_of::<Prepared>()
}

/// Stands for (instance, key). Not to be forged: who could make two keys collide could make the
/// gateway drop somebody's event.
pub(crate) fn key_hash(instance: InstanceId, key: &str) -> KeyHash {
    let digest =
        Sha256::new().chain_update(instance.to_bytes()).chain_update(key.as_bytes()).finalize();
    let mut hash = [0; 16];
    hash.copy_from_slice(&digest[..16]);
    hash
}

/// Whether something of the append is so large that it may go to the blob folder.
pub(crate) fn has_large_parts(append: &Append, inline_limit: usize) -> bool {
    append.events.iter().any(|event| {
        event.draft.data.len() > inline_limit
            || matches!(&event.draft.raw, Raw::Bytes(raw) if raw.len() > inline_limit)
    })
}

/// An append with everything done that needs no database.
pub(crate) struct Ready {
    pub(crate) events: Vec<Prepared>,
    /// What was taken out of the events and is nowhere yet.
    pub(crate) contents: Vec<(Sha, Bytes)>,
    pub(crate) body: Option<(Sha, Bytes)>,
    pub(crate) weight: usize,
}

/// What an append of so many bytes takes of a bound on memory: at most three quarters. One that is
/// larger than the bound then passes as soon as little else waits, also where something always does.
pub(crate) fn counted(bytes: usize, bound: usize) -> usize {
    bytes.min(bound / 4 * 3)
}

/// Bytes that an append holds before anything of it is moved to files.
pub(crate) fn weight(append: &Append) -> usize {
    let events: usize = append.events.iter().map(|event| draft_weight(&event.draft)).sum();
    events + append.body.as_ref().map_or(0, Bytes::len)
}

/// Where large base64 strings go that are taken out of events.
pub(crate) enum Keep<'a> {
    /// To files, which are synced.
    InFolder(&'a Blobs),
    /// To [`Ready::contents`].
    InMemory,
}

/// Hashes keys; with `keep`, takes large base64 strings out of the events.
pub(crate) fn prepare(append: Append, keep: Option<(Keep<'_>, usize)>) -> std::io::Result<Ready> {
    let mut contents = Vec::new();
    let mut events = Vec::with_capacity(append.events.len());
    for NewEvent { instance, mut draft } in append.events {
        let (refs, pin) = match &keep {
            Some((Keep::InFolder(blobs), limit)) => blobs.extract(&mut draft, *limit)?,
            Some((Keep::InMemory, limit)) => {
                (blob::extract(&mut draft, *limit, &mut into_memory(&mut contents))?, None)
            }
            None => (Vec::new(), None),
        };
        let keys = draft.keys.iter().map(|key| key_hash(instance, key)).collect();
        events.push(Prepared { instance, draft, keys, blobs: refs, pin });
    }
    let body = append.body.map(|body| (Sha256::digest(&body).into(), body));
    let weight = events.iter().map(Prepared::weight).sum::<usize>()
        + body.as_ref().map_or(0, |(_, body): &(Sha, Bytes)| body.len());
    Ok(Ready { events, contents, body, weight })
}

/// Keeps each content once.
pub(crate) fn into_memory(
    contents: &mut Vec<(Sha, Bytes)>,
) -> impl FnMut(Sha, &[u8]) -> std::io::Result<()> {
    |sha, content| {
        if !contents.iter().any(|(known, _)| *known == sha) {
            contents.push((sha, Bytes::copy_from_slice(content)));
        }
        Ok(())
    }
}

/// A draft without keys or large parts: the gateway's own events.
pub(crate) fn prepare_own(event: NewEvent) -> Prepared {
    let keys = event.draft.keys.iter().map(|key| key_hash(event.instance, key)).collect();
    Prepared { instance: event.instance, draft: event.draft, keys, blobs: Vec::new(), pin: None }
}

/// An address pair, hashed, so that it is not written with every message.
#[derive(Default)]
pub(crate) struct KnownAliases {
    seen: HashSet<u64>,
    hasher: std::hash::RandomState,
}

impl KnownAliases {
    pub(crate) fn is_new(&mut self, instance: InstanceId, lid: &str, phone: &str) -> bool {
        if self.seen.len() >= KNOWN_ALIASES {
            self.seen.clear();
        }
        self.seen.insert(self.hasher.hash_one((instance, lid, phone)))
    }

    pub(crate) fn forget(&mut self) {
        self.seen.clear();
    }
}

/// Random bits, taken from the system in larger portions.
pub(crate) struct Random {
    buffer: [u8; 1024],
    used: usize,
}

impl Default for Random {
    fn default() -> Self {
        Self { buffer: [0; 1024], used: 1024 }
    }
}

impl Random {
    pub(crate) fn next(&mut self) -> Result<u128> {
        if self.used + 16 > self.buffer.len() {
            getrandom::fill(&mut self.buffer).map_err(|error| {
                Fault::from(StoreError::Unavailable {
                    reason: format!("no random numbers: {error}"),
                })
            })?;
            self.used = 0;
        }
        let mut bits = [0; 16];
        bits.copy_from_slice(&self.buffer[self.used..self.used + 16]);
        self.used += 16;
        Ok(u128::from_be_bytes(bits))
    }
}

/// 128 random bits.
pub(crate) fn random() -> Result<u128> {
    crate::random_bits().map_err(|error| Fault::Broken(format!("no random numbers: {error}")))
}

pub(crate) fn sha256(text: &[u8]) -> [u8; 32] {
    Sha256::digest(text).into()
}
