//! Files of messages, at signed links that end.
//!
//! What strangers have sent is served from our own origin, so that nothing of it may run there:
//! only pictures, sound and films are shown, everything else is downloaded, all of it sandboxed
//! and under the type it claims to be or none.

mod range;

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};
use zapbus_event::{Event, EventId};
use zapbus_store::{StoreError, StoredFile};

use self::range::{Part, Range};
use super::{
    body::{Path, Query},
    error::{ApiError, Fetching, What},
};
use crate::{
    app::App,
    media::{Kept, Refusal, family},
    server::answers::Streamed,
};

/// Every route under `/media`.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(fetch_file))
}

/// What makes a link good.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Link {
    /// When it ends, in seconds.
    expires: i64,
    /// That we made it.
    signature: String,
}

/// Fetches the file of a message, by the link that was delivered with it. Ranges are answered.
#[utoipa::path(
    get, path = "/media/{event}/{name}", tag = "media", security(()),
    params(
        ("event" = String, Path, description = "The event's id."),
        ("name" = String, Path, description = "For people and programs; any name leads to the file."),
        Link,
        ("Range" = Option<String>, Header, description = "One range of bytes."),
    ),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream", description = "The file, under its own type."),
        (status = 206, body = Vec<u8>, content_type = "application/octet-stream", description = "The range that was asked for."),
        Fetching,
    )
)]
async fn fetch_file(
    State(app): State<App>,
    Path((event, _name)): Path<(String, String)>,
    Query(link): Query<Link>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let forged = ApiError::Forbidden { needs: "a link that this gateway made" };
    let Ok(id) = event.parse::<EventId>() else { return Err(forged) };
    match app.links.check(id, link.expires, &link.signature, (app.clock)()) {
        Ok(()) => {}
        Err(Refusal::Forged) => return Err(forged),
        Err(Refusal::Expired) => {
            let needs = "a newer link: this one has ended. Have the event delivered again";
            return Err(ApiError::Forbidden { needs });
        }
    }
    let event = app.store.event(id).await?.ok_or(ApiError::NotFound(What::File))?;
    let (kept, file) = find(&app, &event).await?;
    let length = file.length();
    // Files never change.
    let tag = format!("\"{id}\"");
    let is = |name: HeaderName| headers.get(name).is_some_and(|value| value == tag.as_str());
    if headers.get_all(header::IF_NONE_MATCH).iter().any(|list| names(list, &tag)) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let asked = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let asked = asked.filter(|_| !headers.contains_key(header::IF_RANGE) || is(header::IF_RANGE));
    let (status, part) = match Range::of(asked, length) {
        Range::All => (StatusCode::OK, Part { from: 0, length }),
        Range::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        Range::Beyond => return Err(ApiError::RangeBeyond { length }),
    };
    let pieces = file.read(part.from..part.from + part.length).await;
    let body = Body::from_stream(pieces.map_err(ApiError::internal)?);
    let mut response = (status, body).into_response();
    response.extensions_mut().insert(Streamed(part.length));
    let shown = response.headers_mut();
    describe(shown, &kept);
    let text = |text: String| HeaderValue::from_str(&text).map_err(ApiError::internal);
    shown.insert(header::CONTENT_LENGTH, HeaderValue::from(part.length));
    shown.insert(header::ETAG, text(tag)?);
    if status == StatusCode::PARTIAL_CONTENT {
        let Part { from, length: count } = part;
        let last = from + count - 1;
        shown.insert(header::CONTENT_RANGE, text(format!("bytes {from}-{last}/{length}"))?);
    }
    Ok(response)
}

/// Whether a list of tags names this one (RFC 9110, 13.1.2).
fn names(list: &HeaderValue, tag: &str) -> bool {
    let Ok(list) = list.to_str() else { return false };
    list.split(',')
        .map(str::trim)
        .any(|named| named == "*" || named.strip_prefix("W/").unwrap_or(named) == tag)
}

/// What is known of the file, and where it is.
async fn find(app: &App, event: &Event) -> Result<(Kept, StoredFile), ApiError> {
    let gone = || ApiError::NotFound(What::File);
    let mut kept = Kept::of(&event.data).ok_or_else(gone)?;
    let Some(base64) = &kept.base64 else {
        let fetched = app.store.fetched(event.id).await?.ok_or_else(gone)?;
        let file = app.store.fetched_file(event.id).await?.ok_or_else(gone)?;
        if kept.mime.is_empty() {
            kept.mime = fetched.mime.unwrap_or_default();
        }
        return Ok((kept, file));
    };
    if let Some(file) = app.store.file(event, base64).await? {
        return Ok((kept, file));
    }
    // It stands in the row, or in a file as the upstream wrote it.
    let bytes = match app.store.restored_in(event, true, false).await {
        Ok(Some(whole)) => Kept::of(&whole.data).and_then(|kept| kept.bytes()),
        Ok(None) => kept.bytes(),
        // It has just gone with its event.
        Err(StoreError::EventExpired) => None,
        Err(error) => return Err(error.into()),
    };
    Ok((kept, StoredFile::in_memory(Bytes::from(bytes.ok_or_else(gone)?))))
}

/// The headers that say what it is, and that let nothing in it run.
fn describe(headers: &mut HeaderMap, kept: &Kept) {
    let family = family(&kept.mime);
    let is_shown = matches!(family.split_once('/'), Some(("audio" | "video", _)))
        || ["image/jpeg", "image/png", "image/webp", "image/gif"].contains(&family.as_str());
    // What a browser would run or read as a page is nothing but bytes.
    let is_active = ["html", "xml", "svg", "script", "wasm", "shockwave", "multipart"]
        .iter()
        .any(|word| family.contains(word));
    // A comma would begin another type, and browsers go by the last.
    let is_plain =
        |letter: char| letter.is_ascii_alphanumeric() || "!#$&^_.+-/;= ".contains(letter);
    let is_one = kept.mime.chars().all(is_plain);
    let kind = HeaderValue::from_str(&kept.mime)
        .ok()
        .filter(|_| is_one && !is_active && family.contains('/'));
    let kind = kind.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_TYPE, kind);
    let disposition = disposition(is_shown && is_one && !is_active, kept.file_name.as_deref());
    headers.insert(header::CONTENT_DISPOSITION, disposition);
    for (name, value) in [
        (header::ACCEPT_RANGES, "bytes"),
        (header::CACHE_CONTROL, "private, max-age=3600"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// `Content-Disposition`, with the sender's name for the file (RFC 6266).
fn disposition(is_shown: bool, name: Option<&str>) -> HeaderValue {
    let kind = if is_shown { "inline" } else { "attachment" };
    // A name, and not a path.
    let name = name.and_then(|name| name.rsplit(['/', '\\']).next()).unwrap_or_default();
    let mut escaped = String::new();
    for byte in name.chars().filter(|c| !c.is_control()).take(200).collect::<String>().bytes() {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'.' | b'-' | b'_' => {
                escaped.push(char::from(byte));
            }
            byte => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    let text = match escaped.as_str() {
        "" => kind.to_owned(),
        name => format!("{kind}; filename*=UTF-8''{name}"),
    };
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("attachment"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(mime: &str, name: Option<&str>) -> (String, String) {
        let mut headers = HeaderMap::new();
        let kept = Kept {
            base64: Some(String::new()),
            mime: mime.to_owned(),
            file_name: name.map(str::to_owned),
        };
        describe(&mut headers, &kept);
        let text = |name: HeaderName| headers[name].to_str().unwrap().to_owned();
        assert_eq!(text(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
        assert!(text(header::CONTENT_SECURITY_POLICY).contains("sandbox"));
        (text(header::CONTENT_TYPE), text(header::CONTENT_DISPOSITION))
    }

    #[test]
    fn only_what_cannot_run_is_shown() {
        let (bytes, attachment) = ("application/octet-stream", "attachment");
        for (mime, kind, disposition) in [
            ("image/jpeg", "image/jpeg", "inline"),
            ("audio/ogg; codecs=opus", "audio/ogg; codecs=opus", "inline"),
            ("application/pdf", "application/pdf", attachment),
            ("text/html", bytes, attachment),
            ("Image/SVG+xml", bytes, attachment),
            ("application/xhtml+xml", bytes, attachment),
            ("text/javascript", bytes, attachment),
            ("video/html", bytes, attachment),
            ("nonsense", bytes, attachment),
            ("image/png\r\nx: y", bytes, attachment),
            ("", bytes, attachment),
        ] {
            let expected = (kind.to_owned(), disposition.to_owned());
            assert_eq!(described(mime, None), expected, "{mime}");
        }
    }

    #[test]
    fn a_name_is_only_a_name() {
        for (name, shown) in [
            ("a b.pdf", "attachment; filename*=UTF-8''a%20b.pdf"),
            ("../../etc/passwd", "attachment; filename*=UTF-8''passwd"),
            ("C:\\x.pdf", "attachment; filename*=UTF-8''x.pdf"),
            ("é\r\n\"x\"", "attachment; filename*=UTF-8''%C3%A9%22x%22"),
            ("", "attachment"),
        ] {
            assert_eq!(described("application/pdf", Some(name)).1, shown, "{name}");
        }
    }
}
