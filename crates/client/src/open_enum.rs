//! Names that a later version may add to.

/// An enumeration of names in which one that nobody here knows is kept as it is.
macro_rules! open_enum {
    ($(#[$doc:meta])* $name:ident { $first:ident = $first_text:literal $(, $variant:ident = $text:literal)* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, Default, serde::Deserialize, serde::Serialize)]
        #[serde(from = "String", into = "String")]
        #[non_exhaustive]
        pub enum $name {
            #[doc = concat!("`", $first_text, "`.")]
            #[default]
            $first,
            $(#[doc = concat!("`", $text, "`.")] $variant,)*
            /// One that this version does not know.
            Other(String),
        }

        impl $name {
            /// Its name.
            pub fn as_str(&self) -> &str {
                match self {
                    Self::$first => $first_text,
                    $(Self::$variant => $text,)*
                    Self::Other(name) => name,
                }
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                match name.as_str() {
                    $first_text => Self::$first,
                    $($text => Self::$variant,)*
                    _ => Self::Other(name),
                }
            }
        }

        impl From<$name> for String {
            fn from(it: $name) -> Self {
                it.as_str().to_owned()
            }
        }
    };
}

pub(crate) use open_enum;

#[cfg(test)]
mod tests {
    open_enum! {
        /// Fruit.
        Fruit { Apple = "apple", Pear = "pear" }
    }

    #[test]
    fn what_is_unknown_is_kept() {
        let read: Vec<Fruit> = serde_json::from_str(r#"["pear","plum"]"#).unwrap();
        assert_eq!(read, [Fruit::Pear, Fruit::Other("plum".to_owned())]);
        assert_eq!(serde_json::to_string(&read).unwrap(), r#"["pear","plum"]"#);
        assert_eq!(Fruit::default().as_str(), "apple");
    }
}
