//! Container ids and names.
//!
//! An id names a directory, a cgroup, a socket and an exit file, so its letters are those that are safe
//! in all of them: `[A-Za-z0-9][A-Za-z0-9_.+-]*`, at most [`Id::MAX_LEN`] bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is no id or name. The text itself is shown cut and escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing was given.
    #[error("{what} is empty")]
    Empty {
        /// "container id" or "container name".
        what: &'static str,
    },
    /// Longer than the limit.
    #[error("{what} has {len} bytes, at most {max} are allowed")]
    TooLong {
        /// "container id" or "container name".
        what: &'static str,
        /// Bytes that were given.
        len: usize,
        /// Bytes that are allowed.
        max: usize,
    },
    /// A letter that is not allowed, or not there.
    #[error(
        "{what} {text:?} has {letter:?} at byte {at}: it takes letters, digits and _ . + -, and begins with a letter or digit"
    )]
    BadLetter {
        /// "container id" or "container name".
        what: &'static str,
        /// The text, cut after 64 letters.
        text: String,
        /// The letter.
        letter: char,
        /// Where it stands, in bytes.
        at: usize,
    },
}

fn check(what: &'static str, text: &str, max: usize) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty { what });
    }
    if text.len() > max {
        return Err(IdError::TooLong { what, len: text.len(), max });
    }
    let allowed =
        |at: usize, c: char| c.is_ascii_alphanumeric() || (at > 0 && matches!(c, '_' | '.' | '+' | '-'));
    match text.char_indices().find(|&(at, c)| !allowed(at, c)) {
        None => Ok(()),
        Some((at, letter)) => {
            Err(IdError::BadLetter { what, text: text.chars().take(64).collect(), letter, at })
        }
    }
}

macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The longest that is taken, in bytes.
            pub const MAX_LEN: usize = $max;

            /// Checks `text` and takes it.
            ///
            /// # Errors
            /// [`IdError`] when it is empty, too long or has a letter that is not allowed.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                check($what, &text, Self::MAX_LEN)?;
                Ok(Self(text))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

checked_text!(
    /// A container's id: unique on a machine, the name of its state directory.
    Id, "container id", 128
);
checked_text!(
    /// A container's name for people: unique among the containers of a state root.
    Name, "container name", 253
);

impl Id {
    /// The first twelve letters, as people see them in tables.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_an_id_and_what_is_not() {
        for good in ["a", "0", "web-1", "a.b_c+d", &"x".repeat(128)] {
            assert_eq!(Id::new(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "../x", "a/b", "a\0b", "a\nb", "-rf", "é", " a", "a ", &"x".repeat(129)] {
            assert!(Id::new(bad).is_err(), "{bad:?}");
        }
        let error = Id::new("x".repeat(1 << 20)).unwrap_err().to_string();
        assert_eq!(error, "container id has 1048576 bytes, at most 128 are allowed");
        let error = Id::new("../x").unwrap_err().to_string();
        assert!(error.starts_with("container id \"../x\" has '.' at byte 0"), "{error}");
    }

    #[test]
    fn a_bad_id_in_a_record_is_an_error() {
        assert!(serde_json::from_str::<Id>("\"../x\"").is_err());
        assert_eq!(serde_json::from_str::<Id>("\"x\"").unwrap().short(), "x");
    }
}
