//! What an event weighs without the files that the store takes out of it.

use zapbus_event::{Draft, Raw};
use zapbus_store::bytes_of_files;

/// Whether more than `limit` bytes are left of a draft's payload, or of the element it was made of,
/// when long base64 strings (more than `inline` bytes each) are taken out.
pub(super) fn exceeds(draft: &Draft, inline: usize, limit: usize) -> bool {
    let is_too_large =
        |text: &[u8]| text.len() > limit && text.len() - bytes_of_files(text, inline) > limit;
    let raw: &[u8] = match &draft.raw {
        Raw::Data => &[],
        Raw::Bytes(raw) => raw,
    };
    is_too_large(&draft.data) || is_too_large(raw)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn payload_and_element_count_each_for_itself_and_files_not_at_all() {
        let file = "A".repeat(1_000);
        let event = r#"{"type":"instance.lifecycle","data":{"action":"created"}}"#;
        let draft = |data: String, raw: String| {
            let mut draft = Draft::native(event.as_bytes()).unwrap();
            draft.data = Bytes::from(data);
            draft.raw = Raw::Bytes(Bytes::from(raw));
            draft
        };
        let words = format!(r#"["{}"]"#, "some words ".repeat(20));
        let with_file = format!(r#"["data:x/y;base64,{file}","{file}"]"#);
        assert!(!exceeds(&draft(words.clone(), words.clone()), 500, words.len()));
        assert!(exceeds(&draft(words.clone(), "[]".to_owned()), 500, words.len() - 1));
        assert!(exceeds(&draft("[]".to_owned(), words.clone()), 500, words.len() - 1));
        assert!(!exceeds(&draft(with_file.clone(), with_file.clone()), 500, 100));
        assert!(exceeds(&draft(with_file, "[]".to_owned()), 1_000, 100));
    }
}
