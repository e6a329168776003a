//! What an event weighs without the files that the store takes out of it.

use zapbus_event::{Draft, Raw};

/// Whether more than `limit` bytes are left of a draft when its long base64 strings (more than
/// `inline` bytes each) are in the blob folder.
pub(super) fn exceeds(draft: &Draft, inline: usize, limit: usize) -> bool {
    let raw: &[u8] = match &draft.raw {
        Raw::Data => &[],
        Raw::Bytes(raw) => raw,
    };
    let whole = draft.data.len() + raw.len();
    whole > limit && whole - files(&draft.data, inline) - files(raw, inline) > limit
}

/// Bytes of all long base64 strings in a JSON text.
fn files(text: &[u8], inline: usize) -> usize {
    let is_base64 = |byte: &u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=' | b'\\')
    };
    // Neither a quotation mark nor a comma is base64: what stands between two of them is a
    // string, or what follows the comma of a `data:` URL.
    let pieces = text.split(|byte| matches!(byte, b'"' | b','));
    let long = pieces.filter(|piece| piece.len() > inline && piece.iter().all(is_base64));
    long.map(<[u8]>::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_do_not_count() {
        let file = "A".repeat(100);
        let text = format!(r#"{{"a":"{file}","b":"data:x/y;base64,{file}","c":"{file} {file}"}}"#);
        assert_eq!(files(text.as_bytes(), 99), 200);
        assert_eq!(files(text.as_bytes(), 100), 0);
        assert_eq!(files(b"", 0), 0);
    }
}
