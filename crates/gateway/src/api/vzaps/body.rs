//! Request bodies: objects in which SDKs spell one thing in several ways.

use axum::extract::{FromRequest, FromRequestParts, Request};
use http::{HeaderValue, StatusCode, header, request::Parts};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::answer::Failure;
use crate::{
    api::{
        body::{MAX_BODY, parse},
        error::{ApiError, What},
    },
    app::App,
};

/// The members of a body. A body that is not there has none.
#[derive(Debug, Default)]
pub(super) struct Members(Map<String, Value>);

impl FromRequest<App> for Members {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &App) -> Result<Self, Failure> {
        let kind = kind_of(&request);
        let body = app.bodies.read(request, MAX_BODY, "The body").await?;
        Self::read(kind.as_ref(), &body.bytes)
    }
}

/// The body of a request that says in it who asks: nobody is known before it is read.
pub(super) struct OfStranger(pub(super) Members);

impl FromRequest<App> for OfStranger {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &App) -> Result<Self, Failure> {
        let kind = kind_of(&request);
        let body = app.bodies.read_of_stranger(request, MAX_BODY, "The body").await?;
        Members::read(kind.as_ref(), &body.bytes).map(Self)
    }
}

fn kind_of(request: &Request) -> Option<HeaderValue> {
    request.headers().get(header::CONTENT_TYPE).cloned()
}

impl Members {
    pub(super) fn read(kind: Option<&HeaderValue>, bytes: &[u8]) -> Result<Self, Failure> {
        if bytes.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        // Who says nothing means JSON, as `curl -d` users do not: they say something else.
        let is_json = kind.is_none_or(|kind| {
            kind.to_str().is_ok_and(|kind| kind.to_ascii_lowercase().contains("json"))
        });
        if !is_json {
            return Err(Failure::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not_json",
                "The body must be JSON, with Content-Type: application/json.",
            ));
        }
        match parse::<Value>(bytes)? {
            Value::Object(members) => Ok(Self(members)),
            Value::Null => Ok(Self::default()),
            _ => Err(Failure::bad("malformed_body", "The body must be a JSON object.")),
        }
    }
}

impl Members {
    /// The members of an object inside a body.
    pub(super) fn of(members: Map<String, Value>) -> Self {
        Self(members)
    }

    /// The first of these that is there and not `null`.
    pub(super) fn first(&self, names: &[&str]) -> Option<&Value> {
        names.iter().filter_map(|name| self.0.get(*name)).find(|value| !value.is_null())
    }

    /// A text, without space around it.
    pub(super) fn text(&self, names: &[&str]) -> Result<Option<&str>, Failure> {
        match self.first(names) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.trim())),
            Some(_) => Err(malformed(names, "a text")),
        }
    }

    /// A truth value, also as text or number.
    pub(super) fn truth(&self, names: &[&str]) -> Result<Option<bool>, Failure> {
        Ok(Some(match self.first(names) {
            None => return Ok(None),
            Some(Value::Bool(value)) => *value,
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") || text == "1" => true,
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") || text == "0" => false,
            Some(Value::Number(number)) if number.as_u64() == Some(1) => true,
            Some(Value::Number(number)) if number.as_u64() == Some(0) => false,
            Some(_) => return Err(malformed(names, "true or false")),
        }))
    }

    /// A whole number within a range, also as text.
    pub(super) fn number(
        &self,
        names: &[&str],
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<Option<u64>, Failure> {
        let expected = || {
            let what = format!("a whole number from {} to {}", range.start(), range.end());
            malformed(names, &what)
        };
        let number = match self.first(names) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_u64().ok_or_else(expected)?,
            Some(Value::String(text)) => text.trim().parse().map_err(|_| expected())?,
            Some(_) => return Err(expected()),
        };
        if range.contains(&number) { Ok(Some(number)) } else { Err(expected()) }
    }

    /// A list of texts: an array, or one text with commas. Empty entries are left out.
    pub(super) fn list(&self, names: &[&str]) -> Result<Option<Vec<String>>, Failure> {
        let texts: Vec<&str> = match self.first(names) {
            None => return Ok(None),
            Some(Value::String(text)) => text.split(',').collect(),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| item.as_str().ok_or_else(|| malformed(names, "a list of texts")))
                .collect::<Result<_, _>>()?,
            Some(_) => return Err(malformed(names, "a list of texts")),
        };
        let texts = texts.into_iter().map(str::trim).filter(|text| !text.is_empty());
        Ok(Some(texts.map(str::to_owned).collect()))
    }
}

/// What a member should have been.
pub(super) fn malformed(names: &[&str], expected: &str) -> Failure {
    let name = names.first().copied().unwrap_or_default();
    Failure::bad("invalid", format!("{name}: expected {expected}."))
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
        Members::of(members)
    }

    #[test]
    fn the_first_spelling_that_says_something_wins() {
        let members = members(json!({"a": null, "b": " x ", "c": "y"}));
        assert_eq!(members.text(&["a", "b", "c"]).unwrap(), Some("x"));
        assert_eq!(members.text(&["a"]).unwrap(), None);
        assert!(members.text(&["c"]).is_ok());
    }

    #[test]
    fn values_are_read_as_sdks_send_them() {
        let given = members(json!({
            "list": ["A", " B", ""], "text": "A,B,", "none": [], "page": "2", "on": "False",
            "deep": [[]], "far": 101
        }));
        assert_eq!(given.list(&["list"]).unwrap().unwrap(), ["A", "B"]);
        assert_eq!(given.list(&["text"]).unwrap().unwrap(), ["A", "B"]);
        assert!(given.list(&["none"]).unwrap().unwrap().is_empty());
        assert_eq!(given.number(&["page"], 1..=100).unwrap(), Some(2));
        assert_eq!(given.truth(&["on"]).unwrap(), Some(false));
        assert!(given.list(&["deep"]).is_err() && given.list(&["far"]).is_err());
        assert!(given.number(&["far"], 1..=100).is_err() && given.truth(&["far"]).is_err());
        assert!(given.text(&["list"]).is_err() && given.number(&["text"], 1..=9).is_err());
    }
}
