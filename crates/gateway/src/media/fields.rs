//! An object whose members are changed and the others left as they were written, to the last digit.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
    ser::SerializeMap as _,
};
use serde_json::{Value, value::RawValue};

/// Members in their order.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(String, Box<RawValue>)>);

impl Fields {
    /// The object that a text is, if it is one.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// The object that a member is, if it is one.
    pub(super) fn object(&self, name: &str) -> Option<Self> {
        serde_json::from_str(self.raw(name)?.get()).ok()
    }

    /// The text that a member is.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.raw(name)?.get()).ok()
    }

    fn raw(&self, name: &str) -> Option<&RawValue> {
        // As in every reader of JSON, the last of several counts.
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_ref())
    }

    /// Sets a member, in its place if it is there.
    pub(super) fn set(&mut self, name: &str, value: impl Into<Value>) -> serde_json::Result<()> {
        self.put(name, serde_json::value::to_raw_value(&value.into())?);
        Ok(())
    }

    /// Sets a member that is an object.
    pub(super) fn nest(&mut self, name: &str, inner: &Self) -> serde_json::Result<()> {
        self.put(name, serde_json::value::to_raw_value(inner)?);
        Ok(())
    }

    fn put(&mut self, name: &str, value: Box<RawValue>) {
        match self.0.iter_mut().rev().find(|(known, _)| known == name) {
            Some((_, stored)) => *stored = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Takes a member away.
    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Vec::new();
        while let Some(member) = map.next_entry()? {
            fields.push(member);
        }
        Ok(Fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_changed_stays_as_it_was_written() {
        let text = br#"{"b":12345678901234567890123,"a":{"x":1.10,"y":"z"},"c":null}"#;
        let mut fields = Fields::read(text).unwrap();
        let mut inner = fields.object("a").unwrap();
        assert_eq!(inner.text("y").as_deref(), Some("z"));
        inner.set("y", "w").unwrap();
        inner.set("n", 3).unwrap();
        fields.nest("a", &inner).unwrap();
        fields.remove("c");
        let written = serde_json::to_string(&fields).unwrap();
        assert_eq!(written, r#"{"b":12345678901234567890123,"a":{"x":1.10,"y":"w","n":3}}"#);
        assert!(Fields::read(b"[]").is_none());
    }
}
