//! Objects and lists of upstreams, read leniently: what has another shape counts as absent, and a
//! list says whether all that was posted is there.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;

use super::delivery::MAX_EVENTS;

/// How many elements of a list are kept while reading: enough to know that a body is too long.
const MAX_LISTED: usize = MAX_EVENTS + 1;

/// What a visitor makes of scalars that it has no use for.
macro_rules! otherwise {
    ($value:expr => $($method:ident($kind:ty))+) => {
        $(fn $method<E>(self, _: $kind) -> Result<Self::Value, E> {
            Ok($value)
        })+
    };
}

/// An object of this shape.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_option(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<Object<T>, D::Error> {
        value.deserialize_any(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Some).map(Object)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Object<T>, A::Error> {
        IgnoredAny.visit_seq(list).map(|_| Object(None))
    }

    otherwise! { Object(None) =>
        visit_str(&str) visit_bool(bool) visit_i64(i64) visit_u64(u64) visit_f64(f64)
    }

    fn visit_none<E>(self) -> Result<Object<T>, E> {
        Ok(Object(None))
    }

    fn visit_unit<E>(self) -> Result<Object<T>, E> {
        Ok(Object(None))
    }
}

/// A list of objects, without those of another shape and those beyond [`MAX_LISTED`].
#[derive(Debug)]
pub(super) struct List<T> {
    pub(super) items: Vec<T>,
    /// Whether all that was posted is there.
    pub(super) whole: bool,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Elements { items, whole } = gathered::<Object<T>, D>(deserializer)?;
        let posted = items.len();
        let items: Vec<_> = items.into_iter().filter_map(|Object(item)| item).collect();
        let whole = whole && items.len() == posted;
        Ok(Self { items, whole })
    }
}

/// The elements of a list, as text, without those beyond [`MAX_LISTED`].
pub(super) type RawList<'a> = Elements<&'a RawValue>;

/// What a member that ought to be a list holds.
#[derive(Debug)]
pub(super) struct Elements<T> {
    pub(super) items: Vec<T>,
    /// Whether all that was posted is there.
    pub(super) whole: bool,
}

impl<'de: 'a, 'a> Deserialize<'de> for RawList<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        gathered(deserializer)
    }
}

fn gathered<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Elements<T>, D::Error> {
    deserializer.deserialize_option(ElementsVisitor(PhantomData))
}

struct ElementsVisitor<T>(PhantomData<T>);

impl<T> Elements<T> {
    /// Neither list nor nothing.
    fn odd() -> Self {
        Self { items: Vec::new(), whole: false }
    }

    /// Nothing.
    pub(super) fn absent() -> Self {
        Self { items: Vec::new(), whole: true }
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for ElementsVisitor<T> {
    type Value = Elements<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<Elements<T>, D::Error> {
        value.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Elements<T>, A::Error> {
        let mut items = Vec::new();
        while items.len() < MAX_LISTED {
            match list.next_element()? {
                Some(item) => items.push(item),
                None => return Ok(Elements { items, whole: true }),
            }
        }
        let rest = list.next_element::<IgnoredAny>()?.is_some();
        IgnoredAny.visit_seq(list)?;
        Ok(Elements { items, whole: !rest })
    }

    fn visit_none<E>(self) -> Result<Elements<T>, E> {
        Ok(Elements::absent())
    }

    fn visit_unit<E>(self) -> Result<Elements<T>, E> {
        Ok(Elements::absent())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Elements<T>, A::Error> {
        IgnoredAny.visit_map(map).map(|_| Elements::odd())
    }

    otherwise! { Elements::odd() =>
        visit_str(&str) visit_bool(bool) visit_i64(i64) visit_u64(u64) visit_f64(f64)
    }
}

/// Hands on the elements of a list one by one; `false` when it is none. Keeps nothing: for lists
/// that may be long and are counted to the end.
pub(super) fn each<'a>(list: &'a RawValue, take: impl FnMut(&'a RawValue)) -> bool {
    let mut json = serde_json::Deserializer::from_str(list.get());
    json.deserialize_seq(EachVisitor(take)).is_ok()
}

struct EachVisitor<F>(F);

impl<'de, F: FnMut(&'de RawValue)> Visitor<'de> for EachVisitor<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(element) = list.next_element()? {
            (self.0)(element);
        }
        Ok(())
    }
}

/// One value of a known shape, or `None` when it is of another.
pub(super) fn read<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

/// [`read`] of a member that may be missing.
pub(super) fn read_member<'a, T: Deserialize<'a>>(member: Option<&'a RawValue>) -> Option<T> {
    read(member?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::scalar::Int;

    #[derive(Deserialize)]
    struct Posted<'a> {
        object: Object<Inner>,
        list: List<Inner>,
        #[serde(borrow)]
        raw: RawList<'a>,
    }

    #[derive(Debug, Deserialize)]
    struct Inner {
        int: Int,
    }

    fn seen(json: &str) -> Posted<'_> {
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
    }

    #[test]
    fn another_shape_is_absent() {
        for value in ["null", "\"\"", "\"12\"", "5", "-1", "1.5", "true", "18446744073709551615"] {
            let json = format!(r#"{{"object":{value},"list":{value},"raw":{value}}}"#);
            let posted = seen(&json);
            assert!(posted.object.0.is_none() && posted.list.items.is_empty(), "{value}");
            let is_absent = value == "null";
            assert_eq!((posted.list.whole, posted.raw.whole), (is_absent, is_absent), "{value}");
        }
        let posted = seen(r#"{"object":[[1],5],"list":{"int":1},"raw":{"int":1}}"#);
        assert!(posted.object.0.is_none() && posted.list.items.is_empty());
        assert!(!posted.list.whole && !posted.raw.whole);
    }

    #[test]
    fn a_missing_member_is_absent() {
        let posted = seen("{}");
        assert!(posted.object.0.is_none() && posted.list.items.is_empty() && posted.list.whole);
        assert!(posted.raw.items.is_empty() && posted.raw.whole);
    }

    #[test]
    fn objects_and_lists_keep_what_has_their_shape() {
        let posted = seen(r#"{"object":{"int":"1"},"list":[{"int":1},5,{"int":[]},null]}"#);
        assert_eq!(posted.object.0.and_then(|inner| inner.int.0), Some(1));
        let found: Vec<_> = posted.list.items.iter().map(|inner| inner.int.0).collect();
        assert_eq!((found, posted.list.whole), (vec![Some(1), None], false));
    }

    #[test]
    fn lists_are_kept_up_to_a_length() {
        for (length, whole) in [(MAX_LISTED, true), (MAX_LISTED + 1, false), (9_000, false)] {
            let json = format!(r#"{{"raw":[{}{{}}]}}"#, "{},".repeat(length - 1));
            let posted = seen(&json);
            assert_eq!((posted.raw.items.len(), posted.raw.whole), (MAX_LISTED, whole));
        }
    }
}
