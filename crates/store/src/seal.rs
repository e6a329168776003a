//! Secrets at rest: AES-256-GCM, bound to the place they are kept in.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};

use serde_json::Value;

use crate::{OpenError, StoreError, fault::Result as FaultResult, options::Key};

const TAG: usize = 4;

/// Where a sealed value is kept. It opens nowhere else, so that nobody with access to the database
/// can move a secret to a row of their own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The table.
    pub(crate) table: &'static str,
    /// The row's id.
    pub(crate) id: &'a [u8],
    /// The column.
    pub(crate) column: &'static str,
}

impl Place<'_> {
    fn aad(&self) -> Vec<u8> {
        let mut aad = Vec::with_capacity(self.table.len() + self.id.len() + self.column.len() + 2);
        aad.extend_from_slice(self.table.as_bytes());
        aad.push(0);
        aad.extend_from_slice(self.column.as_bytes());
        aad.push(0);
        aad.extend_from_slice(self.id);
        aad
    }
}

/// Encrypts with the first key, decrypts with any.
pub(crate) struct Sealer {
    keys: Vec<([u8; TAG], LessSafeKey)>,
    root: hmac::Key,
}

impl Sealer {
    pub(crate) fn new(keys: &[Key]) -> Result<Self, OpenError> {
        let first = keys
            .first()
            .ok_or_else(|| OpenError::BadKey { reason: "none was given".to_owned() })?;
        let keys = keys
            .iter()
            .map(|key| {
                let unbound = UnboundKey::new(&AES_256_GCM, key.bytes())
                    .map_err(|error| OpenError::BadKey { reason: error.to_string() })?;
                Ok((key.tag(), LessSafeKey::new(unbound)))
            })
            .collect::<Result<_, OpenError>>()?;
        Ok(Self { keys, root: hmac::Key::new(hmac::HMAC_SHA256, first.bytes()) })
    }

    /// What stands in front of everything that the first key encrypts.
    pub(crate) fn tag(&self) -> [u8; TAG] {
        self.keys[0].0
    }

    /// A key for another purpose, derived from the first one.
    pub(crate) fn derive(&self, purpose: &str) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.root);
        context.update(b"zapbus derive\0");
        context.update(purpose.as_bytes());
        let mut derived = [0; 32];
        derived.copy_from_slice(context.sign().as_ref());
        derived
    }

    /// Encrypts `plain` for `place`: key id, nonce, ciphertext.
    pub(crate) fn seal(&self, place: Place<'_>, plain: &[u8]) -> Result<Vec<u8>, StoreError> {
        let refused = |_| StoreError::Unavailable { reason: "encrypting failed".to_owned() };
        let (tag, key) = &self.keys[0];
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|error| StoreError::Unavailable {
            reason: format!("no random numbers: {error}"),
        })?;
        let mut body = plain.to_vec();
        key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(place.aad()),
            &mut body,
        )
        .map_err(refused)?;
        let mut sealed = Vec::with_capacity(TAG + NONCE_LEN + body.len());
        sealed.extend_from_slice(tag);
        sealed.extend_from_slice(&nonce);
        sealed.append(&mut body);
        Ok(sealed)
    }

    /// Decrypts what [`Sealer::seal`] made for the same place.
    pub(crate) fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
        let unreadable = || StoreError::Sealed {
            what: format!("the {} of a stored {}", place.column, place.table),
        };
        let (tag, rest) = sealed.split_at_checked(TAG).ok_or_else(unreadable)?;
        let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or_else(unreadable)?;
        let nonce: [u8; NONCE_LEN] = nonce.try_into().map_err(|_| unreadable())?;
        let (_, key) = self.keys.iter().find(|(id, _)| id == tag).ok_or_else(unreadable)?;
        let mut body = body.to_vec();
        let length = key
            .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(place.aad()), &mut body)
            .map_err(|_| unreadable())?
            .len();
        body.truncate(length);
        Ok(body)
    }
}

/// Encrypts a document.
pub(crate) fn seal(sealer: &Sealer, place: Place<'_>, document: &Value) -> FaultResult<Vec<u8>> {
    Ok(sealer.seal(place, &serde_json::to_vec(document)?)?)
}

/// Decrypts a document.
pub(crate) fn unseal(sealer: &Sealer, place: Place<'_>, sealed: &[u8]) -> FaultResult<Value> {
    Ok(serde_json::from_slice(&sealer.open(place, sealed)?)?)
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Place<'_> = Place { table: "instance", id: b"1", column: "token" };

    #[test]
    fn a_value_opens_only_where_it_was_sealed() {
        let sealer = Sealer::new(&[Key::generate().unwrap()]).unwrap();
        let sealed = sealer.seal(HERE, b"secret").unwrap();
        assert_eq!(sealer.open(HERE, &sealed).unwrap(), b"secret");
        let elsewhere = Place { id: b"2", ..HERE };
        assert!(matches!(sealer.open(elsewhere, &sealed), Err(StoreError::Sealed { .. })));
    }

    #[test]
    fn an_older_key_still_decrypts() {
        let (old, new) = (Key::generate().unwrap(), Key::generate().unwrap());
        let sealed =
            Sealer::new(std::slice::from_ref(&old)).unwrap().seal(HERE, b"secret").unwrap();
        let both = Sealer::new(&[new.clone(), old]).unwrap();
        assert_eq!(both.open(HERE, &sealed).unwrap(), b"secret");
        let only_new = Sealer::new(&[new]).unwrap();
        assert!(matches!(only_new.open(HERE, &sealed), Err(StoreError::Sealed { .. })));
    }

    #[test]
    fn damage_is_an_error() {
        let sealer = Sealer::new(&[Key::generate().unwrap()]).unwrap();
        let mut sealed = sealer.seal(HERE, b"secret").unwrap();
        for length in 0..sealed.len() {
            assert!(sealer.open(HERE, &sealed[..length]).is_err());
        }
        let last = sealed.len() - 1;
        sealed[last] ^= 1;
        assert!(sealer.open(HERE, &sealed).is_err());
    }
}
