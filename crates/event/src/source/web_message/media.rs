//! Files that messages carry.

use crate::{
    shape::{Media, MediaContent, MediaKind, MediaState},
    source::members::Members,
};

/// What an upstream did with the file of a message: fetched it, stored it somewhere.
#[derive(Debug, Default)]
pub(in crate::source) struct File {
    /// Its bytes.
    pub(in crate::source) base64: Option<String>,
    /// Where it lies, decrypted.
    pub(in crate::source) url: Option<String>,
    /// Its media type, if the message says none.
    pub(in crate::source) mime: Option<String>,
    /// Its name, if the message says none.
    pub(in crate::source) name: Option<String>,
}

/// A file part: `imageMessage` and the like.
pub(super) fn media(kind: MediaKind, part: &Members<'_>, file: &File) -> MediaContent {
    let encrypted = part.text("url");
    let state = match (&file.base64, &file.url, &encrypted) {
        (Some(_), _, _) => MediaState::Inline,
        (None, Some(_), _) => MediaState::Url,
        (None, None, Some(_)) => MediaState::EncryptedUrl,
        (None, None, None) => MediaState::Unavailable,
    };
    let mime = part.text("mimetype").or_else(|| file.mime.clone());
    let mut media =
        Media::new(kind, mime.unwrap_or_else(|| "application/octet-stream".to_owned()), state);
    media.size_bytes = part.size("fileLength");
    media.sha256 = part.bytes("fileSha256");
    media.file_name = part.text_of(&["fileName", "title"]).or_else(|| file.name.clone());
    media.width_px = part.size("width");
    media.height_px = part.size("height");
    media.duration_s = part.size("seconds");
    media.voice = part.is_set("ptt");
    media.animated = part.is_set("isAnimated") || part.is_set("gifPlayback");
    media.pages = part.size("pageCount");
    media.url = file.url.clone().or(encrypted);
    media.base64 = file.base64.clone();
    media.thumbnail_base64 = part.bytes("jpegThumbnail");
    MediaContent { media, caption: part.text("caption") }
}

/// Parts that carry a file.
const FILES: [&str; 6] = [
    "imageMessage",
    "videoMessage",
    "ptvMessage",
    "audioMessage",
    "documentMessage",
    "stickerMessage",
];

/// What decrypts the file of a message, by the names that Baileys gives it.
pub(in crate::source) fn keys(message: &Members<'_>) -> Vec<(&'static str, String)> {
    let opened = super::Opened::of(message);
    let Some(part) = FILES.iter().find_map(|name| opened.message.object(name)) else {
        return Vec::new();
    };
    let found = [
        ("mediaKey", part.bytes("mediaKey")),
        ("fileEncSha256", part.bytes("fileEncSha256")),
        ("directPath", part.text("directPath")),
        ("mediaKeyTimestamp", part.text("mediaKeyTimestamp")),
    ];
    found.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}
