//! Identifiers: short texts of a documented form, so that one kind never passes for another.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that cannot be an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Nothing is there.
    #[error("is required")]
    Empty,
    /// More than 128 bytes.
    #[error("is longer than 128 bytes")]
    TooLong,
    /// A control character or a slash, which resource names could not carry.
    #[error("holds a control character or a slash")]
    Character,
    /// Not a UUID where one is due.
    #[error("is not a UUID")]
    NotUuid,
    /// Not the resource name that is due.
    #[error("is not of the form `{0}`")]
    NotName(&'static str),
}

fn check(text: &str) -> Result<(), InvalidId> {
    if text.is_empty() {
        Err(InvalidId::Empty)
    } else if text.len() > 128 {
        Err(InvalidId::TooLong)
    } else if text.chars().any(|c| c.is_control() || c == '/') {
        Err(InvalidId::Character)
    } else {
        Ok(())
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The identifier's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The identifier's text, owned.
            pub fn into_string(self) -> String {
                self.0
            }

            /// Takes the text as it is: for values that were checked when they were stored.
            pub fn from_trusted(text: String) -> Self {
                Self(text)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                check(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// Stock-keeping unit: what is counted, priced and sold as one thing.
    Sku
);
text_id!(
    /// A place that holds stock or sells.
    LocationId
);
text_id!(
    /// Name of a system that feeds the mesh.
    System
);

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $collection:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new identifier, later than every one made before.
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// The resource's name.
            pub fn name(&self) -> String {
                format!(concat!($collection, "/{}"), self.0)
            }

            /// Reads a resource's name.
            pub fn from_name(name: &str) -> Result<Self, InvalidId> {
                name.strip_prefix(concat!($collection, "/"))
                    .ok_or(InvalidId::NotName(concat!($collection, "/{uuid}")))?
                    .parse()
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                if text.is_empty() {
                    return Err(InvalidId::Empty);
                }
                Uuid::parse_str(text).map(Self).map_err(|_| InvalidId::NotUuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_id!(
    /// The lasting identifier of a person.
    GoldenId,
    "identities"
);
uuid_id!(
    /// The identifier of one physical order.
    OrderUid,
    "orders"
);

/// One record of one source system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourceRef {
    /// The system.
    pub system: System,
    /// The record's identifier in it; may hold any character but control characters.
    pub id: String,
}

impl SourceRef {
    /// A reference to record `id` of `system`.
    pub fn new(system: &str, id: &str) -> Result<Self, InvalidId> {
        if id.is_empty() {
            return Err(InvalidId::Empty);
        }
        if id.len() > 128 {
            return Err(InvalidId::TooLong);
        }
        if id.chars().any(char::is_control) {
            return Err(InvalidId::Character);
        }
        Ok(Self { system: system.parse()?, id: id.to_owned() })
    }
}

impl fmt::Display for SourceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.system, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_take_only_what_names_can_carry() {
        for (text, expect) in [
            ("819312", Ok(())),
            ("", Err(InvalidId::Empty)),
            ("a/b", Err(InvalidId::Character)),
            ("a\nb", Err(InvalidId::Character)),
            (&"x".repeat(129), Err(InvalidId::TooLong)),
        ] {
            assert_eq!(text.parse::<Sku>().map(drop), expect, "{text:?}");
        }
    }

    #[test]
    fn names_round_trip() {
        let id = OrderUid::generate();
        assert_eq!(OrderUid::from_name(&id.name()), Ok(id));
        assert_eq!(OrderUid::from_name("baskets/1"), Err(InvalidId::NotName("orders/{uuid}")));
        assert_eq!(OrderUid::from_name("orders/1"), Err(InvalidId::NotUuid));
    }
}
