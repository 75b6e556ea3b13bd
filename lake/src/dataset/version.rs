//! Which version of a table is meant.

use std::fmt;

/// Which version of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// The one that counts: of a computed table what was published last, of any other the newest.
    #[default]
    Published,
    /// The newest one, even if a run was killed before it could promise it.
    Newest,
    /// The one of this number.
    Number(u64),
    /// The one that a tag is on.
    Tag(String),
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Published => f.write_str("its published version"),
            Self::Newest => f.write_str("its newest version"),
            Self::Number(number) => write!(f, "version {number}"),
            Self::Tag(tag) => write!(f, "tag {tag}"),
        }
    }
}

impl From<&str> for Version {
    /// A number, or else a tag; empty is the published one.
    fn from(text: &str) -> Self {
        match (text, text.parse()) {
            ("", _) => Self::Published,
            (_, Ok(number)) => Self::Number(number),
            (tag, Err(_)) => Self::Tag(tag.to_owned()),
        }
    }
}
