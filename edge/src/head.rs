//! A request's head: what filters, matchers and log operators read, pseudo-headers included.

use std::borrow::Cow;

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// The head of a request on its way to the upstream.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) scheme: Scheme,
    /// `:authority` or `Host`; empty where an HTTP/1.0 client named none.
    pub(crate) authority: HeaderValue,
    pub(crate) path: PathAndQuery,
    pub(crate) headers: HeaderMap,
}

impl Head {
    /// The value of a header, a pseudo-header among them; several values are joined with commas.
    pub(crate) fn get(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let pseudo = match name {
            ":path" => Some(self.path.as_str().as_bytes()),
            ":method" => Some(self.method.as_str().as_bytes()),
            ":scheme" => Some(self.scheme.as_str().as_bytes()),
            ":authority" | "host" => {
                Some(self.authority.as_bytes()).filter(|authority| !authority.is_empty())
            }
            _ => return joined(&self.headers, name),
        };
        pseudo.map(Cow::Borrowed)
    }

    /// The value of a header as text.
    pub(crate) fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        Some(match self.get(name)? {
            Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
            Cow::Owned(bytes) => String::from_utf8_lossy(&bytes).into_owned().into(),
        })
    }

    /// Replaces a header, a pseudo-header among them. A value that cannot stand there changes nothing.
    pub(crate) fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        self.headers.insert(name, value);
    }

    /// The path without its query.
    pub(crate) fn path_only(&self) -> &str {
        self.path.path()
    }
}

/// The values of a header in `headers`, joined with commas.
pub(crate) fn joined<'h>(headers: &'h HeaderMap, name: &str) -> Option<Cow<'h, [u8]>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.as_bytes();
    let Some(second) = values.next() else { return Some(Cow::Borrowed(first)) };
    let mut all = first.to_vec();
    for value in std::iter::once(second).chain(values) {
        all.push(b',');
        all.extend_from_slice(value.as_bytes());
    }
    Some(Cow::Owned(all))
}
