//! Whom a text names: what is looked for when somebody is erased.

/// Which events of an instance.
#[derive(Debug)]
pub(crate) enum Which {
    All,
    /// Those that name one of these addresses.
    Naming(Vec<String>),
}

impl Which {
    pub(crate) fn includes(&self, texts: [&[u8]; 3]) -> bool {
        match self {
            Self::All => true,
            Self::Naming(addresses) => addresses
                .iter()
                .any(|address| texts.iter().any(|text| names(text, address.as_bytes()))),
        }
    }
}

/// Whether a text has the address as a word of its own, and not as the end of a longer one.
fn names(text: &[u8], address: &[u8]) -> bool {
    let is_part =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'.');
    !address.is_empty()
        && memchr::memmem::find_iter(text, address).any(|at| {
            let before = at.checked_sub(1).and_then(|before| text.get(before));
            !is_part(before) && !is_part(text.get(at + address.len()))
        })
}

/// The forms in which an address may appear: with its server, and bare for a phone.
pub(crate) fn forms(address: &str) -> Vec<String> {
    let mut forms = vec![address.to_owned()];
    if let Some((user, server)) = address.split_once('@')
        && matches!(server, "s.whatsapp.net" | "c.us")
        && user.len() >= 7
    {
        forms.push(user.to_owned());
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_as_a_word() {
        let text = br#"{"chat":{"id":"5511999@s.whatsapp.net","phone":"5511999"}}"#;
        assert!(names(text, b"5511999@s.whatsapp.net"));
        assert!(names(text, b"5511999"));
        assert!(!names(text, b"511999"));
        assert!(!names(text, b"551199"));
        assert!(!names(text, b""));
    }
}
