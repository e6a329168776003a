//! The JSON of a form: its field `jsonData`, url-encoded or as a part of a multipart body; and the
//! file beside it.

use std::collections::BTreeMap;

/// The most parts of a multipart body that are looked at; upstream sends four.
const MAX_PARTS: usize = 64;

/// The field's name.
const FIELD: &str = "jsonData";

/// The JSON, where the body is a form; `None` where the body is taken as it is.
pub(super) fn json(body: &[u8], content_type: Option<&str>) -> Option<Vec<u8>> {
    if let Some(boundary) = multipart(content_type) {
        let found = parts(body, &boundary?)?;
        let found = found.into_iter().find(|part| !part.is_file() && part.name == FIELD);
        return found.map(|part| part.content.to_vec());
    }
    let family = family(content_type);
    let is_form = family.eq_ignore_ascii_case("application/x-www-form-urlencoded");
    let starts_as_json = body.trim_ascii_start().first() == Some(&b'{');
    if is_form || !starts_as_json { field(body) } else { None }
}

/// What kind of body the header says it is.
fn family(content_type: Option<&str>) -> &str {
    content_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim()
}

/// The boundary of a multipart body, unless it is a body of another kind; none where the header
/// names none.
fn multipart(content_type: Option<&str>) -> Option<Option<Vec<u8>>> {
    let is_multipart = family(content_type).eq_ignore_ascii_case("multipart/form-data");
    is_multipart.then(|| boundary(content_type.unwrap_or_default()))
}

/// A file of a multipart body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attached<'a> {
    pub(super) content: &'a [u8],
    pub(super) name: Option<String>,
    pub(super) mime: Option<String>,
}

/// The file of a multipart body, where there is one.
pub(super) fn file<'a>(body: &'a [u8], content_type: Option<&str>) -> Option<Attached<'a>> {
    let parts = parts(body, &multipart(content_type)??)?;
    let file = parts.into_iter().find(|part| part.is_file() && !part.content.is_empty())?;
    let name = file.file.filter(|name| !name.is_empty());
    Some(Attached { content: file.content, name, mime: file.mime })
}

/// A field of a url-encoded form.
fn field(body: &[u8]) -> Option<Vec<u8>> {
    body.split(|byte| *byte == b'&').find_map(|pair| {
        let (name, value) = pair.split_at_checked(FIELD.len())?;
        let value = value.strip_prefix(b"=").filter(|_| name == FIELD.as_bytes())?;
        Some(unescaped(value))
    })
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        out.push(match byte {
            b'+' => b' ',
            b'%' => match after.split_at_checked(2).and_then(|(pair, after)| {
                let pair = std::str::from_utf8(pair).ok()?;
                let is_hex = pair.bytes().all(|digit| digit.is_ascii_hexdigit());
                Some((u8::from_str_radix(pair, 16).ok().filter(|_| is_hex)?, after))
            }) {
                Some((byte, after)) => {
                    rest = after;
                    byte
                }
                None => b'%',
            },
            byte => *byte,
        });
    }
    out
}

/// The boundary that a content type names.
fn boundary(content_type: &str) -> Option<Vec<u8>> {
    let named = content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then_some(value.trim())
    })?;
    let boundary = named.trim_matches('"');
    // RFC 2046 §5.1.1.
    let fits = (1..=70).contains(&boundary.len());
    fits.then(|| format!("--{boundary}").into_bytes())
}

/// What a multipart body is signed over: the JSON of its fields without files, as Go writes it.
/// `None` for a body of another kind, and for one that has a field twice: the signature covers one of
/// them, and nobody could say which.
pub(in crate::source) fn signed(body: &[u8], content_type: Option<&str>) -> Option<Vec<u8>> {
    let parts = parts(body, &multipart(content_type)??)?;
    let mut fields = BTreeMap::new();
    for part in parts.into_iter().filter(|part| !part.is_file()) {
        let content = String::from_utf8_lossy(part.content).into_owned();
        if fields.insert(part.name, content).is_some() {
            return None;
        }
    }
    // Text and a map of texts always have a form.
    let json = serde_json::to_string(&fields).unwrap_or_default();
    Some(as_go(&json).into_bytes())
}

/// JSON with what Go escapes besides: its writer is made for pages.
fn as_go(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            character => out.push(character),
        }
    }
    out
}

/// A part of a multipart body.
struct Part<'a> {
    name: String,
    /// Its file name, if it is a file.
    file: Option<String>,
    mime: Option<String>,
    content: &'a [u8],
}

impl Part<'_> {
    fn is_file(&self) -> bool {
        self.file.is_some()
    }
}

/// The parts of a multipart body.
fn parts<'a>(body: &'a [u8], boundary: &[u8]) -> Option<Vec<Part<'a>>> {
    let mut found = Vec::new();
    let mut rest = after(body, boundary)?;
    // Every step passes a boundary, so this ends.
    while let Some(end) = find(rest, boundary) {
        let (whole, next) = (&rest[..end], &rest[end + boundary.len()..]);
        if let Some(gap) = find(whole, b"\r\n\r\n")
            && let Some(part) = part(&whole[..gap], &whole[gap + 4..])
            && found.len() < MAX_PARTS
        {
            found.push(part);
        }
        rest = next;
    }
    Some(found)
}

/// A part, if its headers name one.
fn part<'a>(headers: &[u8], content: &'a [u8]) -> Option<Part<'a>> {
    let text = String::from_utf8_lossy(headers);
    let header = |wanted: &str| {
        text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.trim().eq_ignore_ascii_case(wanted).then_some(value.trim())
        })
    };
    let disposition = header("content-disposition")?;
    let parameter = |wanted: &str| {
        disposition.split(';').find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            (name.trim() == wanted).then(|| value.trim().trim_matches('"').to_owned())
        })
    };
    Some(Part {
        name: parameter("name")?,
        file: parameter("filename"),
        mime: header("content-type").map(str::to_owned),
        content: content.strip_suffix(b"\r\n").unwrap_or(content),
    })
}

fn after<'a>(body: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    find(body, mark).map(|at| &body[at + mark.len()..])
}

fn find(body: &[u8], mark: &[u8]) -> Option<usize> {
    memchr::memmem::find(body, mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: Option<&str> = Some("application/x-www-form-urlencoded");

    fn text(body: &[u8], content_type: Option<&str>) -> Option<String> {
        json(body, content_type).map(|json| String::from_utf8(json).unwrap())
    }

    #[test]
    fn a_field_of_a_form_is_unescaped() {
        let form = b"userID=1&jsonData=%7B%22a%22%3A+%22%C3%A9%22%7D&instanceName=x";
        assert_eq!(text(form, FORM).as_deref(), Some(r#"{"a": "é"}"#));
        // Without a header, by its looks.
        assert_eq!(text(form, None).as_deref(), Some(r#"{"a": "é"}"#));
        assert_eq!(text(b"jsonData=%zz%4", FORM).as_deref(), Some("%zz%4"));
        assert_eq!(text(b"jsonDataX=1", FORM), None);
        assert_eq!(text(br#" {"type":"x"}"#, Some("application/json")), None);
    }

    #[test]
    fn a_part_is_found_among_others() {
        let body = b"--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n\x00\xff\r\n--B\r\ncontent-disposition: form-data; name=\"jsonData\"\r\n\r\n{\"a\":1}\r\n--B--\r\n";
        let header = Some("multipart/form-data; boundary=B");
        assert_eq!(text(body, header).as_deref(), Some(r#"{"a":1}"#));
        assert_eq!(
            text(body, Some("Multipart/Form-Data; Boundary=\"B\"")).as_deref(),
            Some(r#"{"a":1}"#)
        );
        assert_eq!(text(body, Some("multipart/form-data; boundary=C")), None);
        assert_eq!(text(body, Some("multipart/form-data")), None);
        assert_eq!(text(b"--B\r\n--B--", header), None);
    }

    #[test]
    fn a_file_is_found_beside_the_fields() {
        let body = b"--B\r\nContent-Disposition: form-data; name=\"jsonData\"\r\n\r\n{}\r\n--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.jpg\"\r\nContent-Type: image/jpeg\r\n\r\n\x00\r\n\xff\r\n--B--\r\n";
        let header = Some("multipart/form-data; boundary=B");
        let found = Attached {
            content: b"\x00\r\n\xff",
            name: Some("a.jpg".to_owned()),
            mime: Some("image/jpeg".to_owned()),
        };
        assert_eq!(file(body, header), Some(found));
        assert_eq!(file(body, FORM), None);
        assert_eq!(file(b"--B\r\n--B--", header), None);
    }

    #[test]
    fn a_multipart_body_is_signed_over_its_fields() {
        let body = b"--B\r\nContent-Disposition: form-data; name=\"userID\"\r\n\r\n1\r\n--B\r\nContent-Disposition: form-data; name=\"jsonData\"\r\n\r\n{\"a\":\"<&>\"}\r\n--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nX\r\n--B--\r\n";
        let signed = signed(body, Some("multipart/form-data; boundary=B")).unwrap();
        let expected = r#"{"jsonData":"{\"a\":\"\u003c\u0026\u003e\"}","userID":"1"}"#;
        assert_eq!(String::from_utf8(signed).unwrap(), expected);
        assert_eq!(super::signed(body, FORM), None);
    }
}
