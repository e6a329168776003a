//! Scalars of upstreams, read leniently: ids as text or number, flags as text, times as either.
//!
//! Nothing here refuses a value. What has another shape than asked for counts as absent, so that
//! one odd member does not hide the rest; whoever needs a value says so. That also makes it safe
//! to leave a member out: all of these read `null` and a missing member as absent.

use std::{borrow::Cow, fmt, ops::Deref};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::Timestamp;

/// Floats beyond this may not be the whole number that was written.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A value as far as scalars tell it apart. Text is borrowed where the JSON allows.
enum Scalar<'a> {
    Text(Cow<'a, str>),
    Int(i64),
    Large(u64),
    Float(f64),
    Flag(bool),
    Other,
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Int(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Scalar<'de>, E> {
        Ok(i64::try_from(number).map_or(Scalar::Large(number), Scalar::Int))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Float(number))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Flag(flag))
    }

    fn visit_none<E>(self) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Other)
    }

    fn visit_unit<E>(self) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Other)
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<Scalar<'de>, D::Error> {
        value.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Scalar<'de>, A::Error> {
        IgnoredAny.visit_seq(list).map(|_| Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Scalar<'de>, A::Error> {
        IgnoredAny.visit_map(map).map(|_| Scalar::Other)
    }
}

/// Gives a type its reader. It asks for an option, which is what lets a member be missing.
macro_rules! scalar {
    ($name:ident, $from:expr) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_option(ScalarVisitor).map($from).map(Self)
            }
        }
    };
}

/// Text, or a whole number taken as text.
#[derive(Debug, Default)]
pub(super) struct Text<'a>(Option<Cow<'a, str>>);

impl<'a> Text<'a> {
    /// The text, even an empty one.
    pub(super) fn given(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

/// The text; empty when there is none.
impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        self.given().unwrap_or_default()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match deserializer.deserialize_option(ScalarVisitor)? {
            Scalar::Text(text) => Some(text),
            Scalar::Int(number) => Some(Cow::Owned(number.to_string())),
            Scalar::Large(number) => Some(Cow::Owned(number.to_string())),
            Scalar::Float(number) => whole(number).map(|number| Cow::Owned(number.to_string())),
            Scalar::Flag(_) | Scalar::Other => None,
        }))
    }
}

/// The text if there is any: an empty one counts as absent.
pub(super) fn filled<'t>(text: &'t Text<'_>) -> Option<&'t str> {
    text.given().filter(|text| !text.is_empty())
}

/// [`filled`], as an owned text.
pub(super) fn owned(text: &Text<'_>) -> Option<String> {
    filled(text).map(str::to_owned)
}

/// A whole number, however written: `1`, `"1"`, `1.0`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Int(pub(super) Option<i64>);

scalar!(Int, |value| match value {
    Scalar::Int(number) => Some(number),
    Scalar::Float(number) => whole(number),
    Scalar::Text(text) => {
        let text = text.trim();
        text.parse().ok().or_else(|| text.parse().ok().and_then(whole))
    }
    Scalar::Large(_) | Scalar::Flag(_) | Scalar::Other => None,
});

impl Int {
    /// The number, if it is no less than 0.
    pub(super) fn positive(self) -> Option<u64> {
        self.0.and_then(|number| u64::try_from(number).ok())
    }
}

/// A number, however written: `-23.5`, `"-23.5"`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decimal(pub(super) Option<f64>);

scalar!(Decimal, |value| {
    let number = match value {
        Scalar::Int(number) => Some(number as f64),
        Scalar::Large(number) => Some(number as f64),
        Scalar::Float(number) => Some(number),
        Scalar::Text(text) => text.trim().parse().ok(),
        Scalar::Flag(_) | Scalar::Other => None,
    };
    number.filter(|number: &f64| number.is_finite())
});

/// A flag, however written: `true`, `"true"`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flag(pub(super) Option<bool>);

scalar!(Flag, |value| match value {
    Scalar::Flag(flag) => Some(flag),
    Scalar::Text(text) => text.trim().to_ascii_lowercase().parse().ok(),
    Scalar::Int(_) | Scalar::Large(_) | Scalar::Float(_) | Scalar::Other => None,
});

impl Flag {
    pub(super) fn is_set(self) -> bool {
        self.0.unwrap_or(false)
    }
}

/// Seconds (or, beyond the year 9999, milliseconds) since the epoch, as text or number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time(Option<Timestamp>);

scalar!(Time, |value| {
    let number = match value {
        Scalar::Int(number) => Some(number),
        Scalar::Float(number) => whole(number.trunc()),
        Scalar::Text(text) => {
            let text = text.trim();
            text.parse().ok().or_else(|| text.parse::<f64>().ok().and_then(|at| whole(at.trunc())))
        }
        Scalar::Large(_) | Scalar::Flag(_) | Scalar::Other => None,
    };
    number.filter(|number| *number > 0).map(|number| {
        Timestamp::from_secs(number).unwrap_or_else(|| Timestamp::from_millis(number))
    })
});

/// The time, if one was given.
pub(super) fn instant(Time(at): Time) -> Option<Timestamp> {
    at
}

/// The whole number that a float is.
fn whole(number: f64) -> Option<i64> {
    // Exact: it has no fraction and is far within the range.
    (number.fract() == 0.0 && number.abs() < EXACT).then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Posted<'a> {
        #[serde(borrow)]
        text: Text<'a>,
        int: Int,
        decimal: Decimal,
        flag: Flag,
        time: Time,
    }

    fn seen(json: &str) -> Posted<'_> {
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
    }

    /// All scalars of one value, in the order of `Posted`.
    fn scalars(value: &str) -> String {
        let json = format!(
            r#"{{"text":{value},"int":{value},"decimal":{value},"flag":{value},"time":{value}}}"#
        );
        let posted = seen(&json);
        let time = instant(posted.time).map(Timestamp::as_millis);
        format!(
            "{:?} {:?} {:?} {:?} {time:?}",
            posted.text.given(),
            posted.int.0,
            posted.decimal.0,
            posted.flag.0
        )
        .replace("Some(", "")
        .replace(')', "")
    }

    #[test]
    fn scalars_are_read_in_every_form() {
        let table = [
            ("null", "None None None None None"),
            ("\"\"", "\"\" None None None None"),
            ("\"12\"", "\"12\" 12 12.0 None 12000"),
            ("\" 1.0 \"", "\" 1.0 \" 1 1.0 None 1000"),
            ("\"-23.5\"", "\"-23.5\" None -23.5 None None"),
            ("1700000000.0", "\"1700000000\" 1700000000 1700000000.0 None 1700000000000"),
            ("1.5", "None None 1.5 None 1000"),
            ("1e300", "None None 1e300 None None"),
            ("\"NaN\"", "\"NaN\" None None None None"),
            (
                "18446744073709551615",
                "\"18446744073709551615\" None 1.8446744073709552e19 None None",
            ),
            ("true", "None None None true None"),
            ("\"False\"", "\"False\" None None false None"),
            ("[[1],5]", "None None None None None"),
        ];
        for (value, expected) in table {
            assert_eq!(scalars(value), expected, "{value}");
        }
    }

    #[test]
    fn a_missing_member_is_absent() {
        let posted = seen("{}");
        assert!(posted.text.given().is_none() && posted.int.0.is_none());
        assert!(posted.decimal.0.is_none() && posted.flag.0.is_none());
        assert!(instant(posted.time).is_none());
    }
}
