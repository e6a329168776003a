//! JSON objects, member by member.

use serde_json::{Map, Value};

/// An object under construction. Members stand in the order in which they are put.
#[derive(Debug, Default)]
pub(super) struct Object(Map<String, Value>);

impl Object {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// With one more member.
    pub(super) fn put(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// With one more member, if there is something to say.
    pub(super) fn maybe<T: Into<Value>>(self, name: &str, value: Option<T>) -> Self {
        match value {
            Some(value) => self.put(name, value),
            None => self,
        }
    }

    /// With one more member, if it is true.
    pub(super) fn flag(self, name: &str, value: bool) -> Self {
        if value { self.put(name, true) } else { self }
    }

    /// What was put.
    pub(super) fn done(self) -> Map<String, Value> {
        self.0
    }

    /// What was put, or nothing if nothing was.
    pub(super) fn unless_empty(self) -> Option<Value> {
        (!self.0.is_empty()).then_some(Value::Object(self.0))
    }

    /// As text.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        // An object with text keys can always be written.
        serde_json::to_vec(&self.0).unwrap_or_else(|_| b"{}".to_vec())
    }
}

impl From<Map<String, Value>> for Object {
    fn from(members: Map<String, Value>) -> Self {
        Self(members)
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(object.0)
    }
}
