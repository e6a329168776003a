//! Request bodies: objects in which clients of different ages spell one thing in several ways.

use axum::extract::{FromRequest, FromRequestParts, Request};
use http::{header, request::Parts};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{answer::Failure, around::Read};
use crate::{
    api::{
        body::parse,
        error::{ApiError, What},
    },
    app::App,
};

/// The members of a body, or of an object in it. A body that is not there has none.
#[derive(Debug, Clone, Default)]
pub(super) struct Members {
    members: Map<String, Value>,
    /// Where it stands in the body, as faults say it: `instance` is the body itself.
    place: String,
}

impl FromRequest<App> for Members {
    type Rejection = Failure;

    async fn from_request(mut request: Request, _: &App) -> Result<Self, Failure> {
        let kind = request.headers().get(header::CONTENT_TYPE).cloned();
        // It was read before the route was found.
        let Read(bytes) = request
            .extensions_mut()
            .remove()
            .ok_or_else(|| ApiError::internal("the body was read by nobody"))?;
        if bytes.trim_ascii().is_empty() {
            return Ok(Self::of_body(Map::new()));
        }
        let is_form = kind
            .as_ref()
            .and_then(|kind| kind.to_str().ok())
            .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
        // `curl -d` calls JSON a form.
        if is_form && !bytes.trim_ascii_start().starts_with(b"{") {
            return Ok(Self::of_body(form(&bytes)));
        }
        match parse::<Value>(&bytes)? {
            Value::Object(members) => Ok(Self::of_body(members)),
            Value::Null => Ok(Self::of_body(Map::new())),
            _ => Err(Failure::schema(vec!["instance is not of a type(s) object".to_owned()])),
        }
    }
}

/// The fields of a form; `webhook[url]` is the member `url` of `webhook`, and several of one name,
/// or one that ends in `[]`, are a list.
fn form(bytes: &[u8]) -> Map<String, Value> {
    let mut members = Map::new();
    for (name, value) in url::form_urlencoded::parse(bytes) {
        let (outer, inner) = match name.split_once('[') {
            Some((outer, inner)) => (outer, inner.split(']').next().unwrap_or_default()),
            None => (name.as_ref(), ""),
        };
        let is_list = name.ends_with("[]");
        let place = if inner.is_empty() {
            members.entry(outer).or_insert(Value::Null)
        } else {
            let object = members.entry(outer).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(object) = object else { continue };
            object.entry(inner).or_insert(Value::Null)
        };
        let text = Value::String(value.into_owned());
        match place {
            Value::Array(list) => list.push(text),
            Value::Null if is_list => *place = Value::Array(vec![text]),
            Value::Null => *place = text,
            first => *first = Value::Array(vec![first.take(), text]),
        }
    }
    members
}

impl Members {
    fn of_body(members: Map<String, Value>) -> Self {
        Self { members, place: "instance".to_owned() }
    }

    /// What a fault says of a member: the body itself is not named.
    pub(super) fn path(&self, name: &str) -> String {
        match self.place.as_str() {
            "instance" => name.to_owned(),
            place => format!("{place}.{name}"),
        }
    }

    /// What a member should have been.
    pub(super) fn not_a(&self, name: &str, kind: &str) -> String {
        format!("{} is not of a type(s) {kind}", self.path(name))
    }

    /// What is said of a member that is not there.
    pub(super) fn requires(&self, name: &str) -> String {
        format!("{} requires property \"{name}\"", self.place)
    }

    /// The first of these that is there and not `null`, with its name.
    pub(super) fn first<'a>(&self, names: &[&'a str]) -> Option<(&'a str, &Value)> {
        let mut there = names.iter().filter_map(|name| Some((*name, self.members.get(*name)?)));
        there.find(|(_, value)| !value.is_null())
    }

    /// Whether one of these is there.
    pub(super) fn has(&self, names: &[&str]) -> bool {
        self.first(names).is_some()
    }

    /// An object in it.
    pub(super) fn object(&self, name: &str) -> Option<Self> {
        match self.members.get(name) {
            Some(Value::Object(members)) => {
                Some(Self { members: members.clone(), place: self.path(name) })
            }
            _ => None,
        }
    }

    /// A text, without space around it. Numbers are texts too.
    pub(super) fn text(&self, names: &[&str]) -> Result<Option<String>, String> {
        match self.first(names) {
            None => Ok(None),
            Some((_, Value::String(text))) => Ok(Some(text.trim().to_owned())),
            Some((_, Value::Number(number))) => Ok(Some(number.to_string())),
            Some((name, _)) => Err(self.not_a(name, "string")),
        }
    }

    /// A truth value, also as text or number.
    pub(super) fn truth(&self, names: &[&str]) -> Result<Option<bool>, String> {
        Ok(Some(match self.first(names) {
            None => return Ok(None),
            Some((_, Value::Bool(value))) => *value,
            Some((_, Value::String(text))) if text.eq_ignore_ascii_case("true") => true,
            Some((_, Value::String(text))) if text.eq_ignore_ascii_case("false") => false,
            Some((_, Value::String(text))) if text == "1" => true,
            Some((_, Value::String(text))) if text == "0" => false,
            Some((_, Value::Number(number))) if number.as_u64() == Some(1) => true,
            Some((_, Value::Number(number))) if number.as_u64() == Some(0) => false,
            Some((name, _)) => return Err(self.not_a(name, "boolean")),
        }))
    }

    /// A list of texts: an array, or one text with commas.
    pub(super) fn list(&self, names: &[&str]) -> Result<Option<Vec<String>>, String> {
        match self.first(names) {
            None => Ok(None),
            Some((_, Value::String(text))) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Ok(Some(items.map(str::to_owned).collect()))
            }
            Some((name, Value::Array(items))) => items
                .iter()
                .enumerate()
                .map(|(index, item)| match item {
                    Value::String(text) => Ok(text.trim().to_owned()),
                    _ => Err(self.not_a(&format!("{name}[{index}]"), "string")),
                })
                .collect::<Result<_, _>>()
                .map(Some),
            Some((name, _)) => Err(self.not_a(name, "array")),
        }
    }
}

/// What stands in the path, each segment decoded on its own.
#[derive(Debug)]
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Path<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        match axum::extract::Path::from_request_parts(parts, app).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(_) => Err(ApiError::NotFound(What::Route).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn members(value: Value) -> Members {
        let Value::Object(members) = value else { panic!("an object") };
        Members::of_body(members)
    }

    #[test]
    fn faults_say_where_as_upstream_says_it() {
        let body = members(json!({"webhook": {"enabled": [], "events": ["A", 7], "url": {}}}));
        let webhook = body.object("webhook").unwrap();
        let said = webhook.truth(&["enabled"]).unwrap_err();
        assert_eq!(said, "webhook.enabled is not of a type(s) boolean");
        let said = webhook.list(&["events"]).unwrap_err();
        assert_eq!(said, "webhook.events[1] is not of a type(s) string");
        assert_eq!(webhook.text(&["url"]).unwrap_err(), "webhook.url is not of a type(s) string");
        assert_eq!(webhook.requires("url"), "webhook requires property \"url\"");
        assert_eq!(body.requires("webhook"), "instance requires property \"webhook\"");
    }

    #[test]
    fn values_are_read_as_clients_send_them() {
        let given = members(json!({"on": "False", "off": 1, "n": 7, "l": "A, B,", "x": null}));
        assert_eq!(given.truth(&["x", "on"]), Ok(Some(false)));
        assert_eq!(given.truth(&["off"]), Ok(Some(true)));
        assert_eq!(given.text(&["n"]), Ok(Some("7".to_owned())));
        assert_eq!(given.list(&["l"]).unwrap().unwrap(), ["A", "B"]);
        assert_eq!(given.list(&["x"]), Ok(None));
        assert!(!given.has(&["x"]) && given.has(&["x", "n"]));
    }

    #[test]
    fn forms_nest() {
        let read = form(b"webhook[url]=https%3A%2F%2Fe.com&webhook[events][]=A&a=1&a=2&b[]=x");
        let expected = json!({
            "webhook": {"url": "https://e.com", "events": ["A"]}, "a": ["1", "2"], "b": ["x"],
        });
        assert_eq!(Value::Object(read), expected);
    }

    proptest::proptest! {
        #[test]
        fn no_form_makes_it_panic(bytes in proptest::collection::vec(0..=255_u8, 0..80)) {
            let _ = form(&bytes);
        }
    }
}
