//! Pictures of QR codes.

use base64::{Engine, engine::general_purpose::STANDARD};
use qrcode::{QrCode, render::svg};

/// The picture of a code as a `data:` URL; nothing when it has more text than a code can hold.
pub(in crate::api) fn data_url(text: &str) -> Option<String> {
    let code = QrCode::new(text.as_bytes()).ok()?;
    let picture = code.render::<svg::Color<'_>>().min_dimensions(256, 256).build();
    Some(format!("data:image/svg+xml;base64,{}", STANDARD.encode(picture)))
}
