//! Request bodies: objects of which every member is of its documented type. Members that nobody
//! knows are passed over.

use axum::extract::{FromRequest, FromRequestParts, Request};
use bytes::Bytes;
use http::request::Parts;
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

/// A body that is read once it is clear that the caller may ask.
#[derive(Debug)]
pub(super) struct Unread(Bytes);

impl FromRequest<App> for Unread {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &App) -> Result<Self, Failure> {
        Ok(app.bodies.read(request, MAX_BODY, "The body").await?.bytes.into())
    }
}

impl From<Bytes> for Unread {
    fn from(body: Bytes) -> Self {
        Self(body)
    }
}

impl Unread {
    /// The members of the object that it is.
    pub(super) fn read(&self) -> Result<Members, Failure> {
        match parse::<Value>(&self.0) {
            Ok(Value::Object(members)) => Ok(Members(members)),
            Ok(_) | Err(_) => Err(Failure::body(None)),
        }
    }
}

/// The members of a body.
#[derive(Debug)]
pub(super) struct Members(Map<String, Value>);

impl Members {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A text, as it is.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Failure> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(expected(name, "a text")),
        }
    }

    pub(super) fn truth(&self, name: &str) -> Result<Option<bool>, Failure> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(expected(name, "true or false")),
        }
    }

    /// A list of texts; one that is not there is empty.
    pub(super) fn list(&self, name: &str) -> Result<Vec<&str>, Failure> {
        const LIST: &str = "a list of texts";
        let items = match self.get(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(expected(name, LIST)),
        };
        items.iter().map(|item| item.as_str().ok_or_else(|| expected(name, LIST))).collect()
    }

    /// Whether it is there and says something other than no, nothing or zero.
    pub(super) fn says_something(&self, name: &str) -> bool {
        match self.get(name) {
            None | Some(Value::Bool(false)) => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Number(number)) => number.as_f64() != Some(0.0),
            Some(_) => true,
        }
    }

    /// The names of all members.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// What a member should have been.
pub(super) fn expected(name: &str, what: &str) -> Failure {
    Failure::body(Some(format!("{name}: expected {what}")))
}

/// What stands in the path, each segment decoded on its own.
#[derive(Debug)]
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Path<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        match axum::extract::Path::from_request_parts(parts, app).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(_) => Err(ApiError::NotFound(What::Instance).into()),
        }
    }
}

/// The parameters of the query string. Nobody fails for one that is not known.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl FromRequestParts<App> for Query {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Self::Rejection> {
        let pairs = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
        Ok(Self(pairs.into_owned().collect()))
    }
}

impl Query {
    /// The first value of this name, without space around it.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(it, _)| it == name).map(|(_, value)| value.trim())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: &Value) -> Members {
        Unread::from(Bytes::from(body.to_string())).read().unwrap()
    }

    #[test]
    fn a_member_is_of_its_type_or_an_error() {
        let given = read(&json!({
            "text": " a ", "yes": true, "list": ["a"], "null": null, "mixed": ["a", 1], "zero": 0
        }));
        assert_eq!(given.text("text").unwrap(), Some(" a "));
        assert_eq!(given.text("null").unwrap(), None);
        assert_eq!(given.truth("yes").unwrap(), Some(true));
        assert_eq!(given.list("list").unwrap(), ["a"]);
        assert!(given.list("none").unwrap().is_empty());
        assert!(given.text("yes").is_err() && given.truth("text").is_err());
        assert!(given.list("mixed").is_err() && given.list("text").is_err());
        assert!(given.says_something("text") && given.says_something("list"));
        assert!(!given.says_something("zero") && !given.says_something("null"));
    }

    #[test]
    fn what_is_no_object_is_no_body() {
        for body in ["", "[]", "{", "null", "7", "\"a\"", "{\"a\":1}}"] {
            let body: Bytes = body.as_bytes().to_vec().into();
            assert!(Unread(body.clone()).read().is_err(), "{body:?}");
        }
    }
}
