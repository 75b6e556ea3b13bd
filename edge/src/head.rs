//! A request's head: what filters, matchers and log operators read, pseudo-headers included.

use std::borrow::Cow;
use std::collections::BTreeMap;

use http::header::{AsHeaderName, COOKIE, HOST};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::problem::{Path, Problem};

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

    /// The path without its query.
    pub(crate) fn path_only(&self) -> &str {
        self.path.path()
    }

    /// Sets and removes parameters of the query, which then stands in the order of the names.
    pub(crate) fn change_query<'a>(
        &mut self,
        set: impl IntoIterator<Item = (&'a str, &'a str)>,
        remove: impl IntoIterator<Item = &'a str>,
    ) {
        let mut parameters: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let query = self.path.query().unwrap_or_default().to_owned();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            parameters.entry(key).or_default().push(value);
        }
        for (key, value) in set {
            parameters.insert(key, vec![value]);
        }
        for key in remove {
            parameters.remove(key);
        }
        let mut path = self.path_only().to_owned();
        for (key, values) in &parameters {
            for value in values {
                let mark = if path.contains('?') { '&' } else { '?' };
                path.extend([&*mark.to_string(), key, "=", value]);
            }
        }
        if let Ok(path) = PathAndQuery::try_from(path) {
            self.path = path;
        }
    }

    /// The authority as text; empty where it is none.
    pub(crate) fn host(&self) -> &str {
        self.authority.to_str().unwrap_or_default()
    }
}

/// The name of a header or pseudo-header, looked up without being read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Authority,
    Method,
    Path,
    Scheme,
    /// A pseudo-header that no request has here, such as `:status`.
    Never,
    Header(HeaderName),
}

impl Field {
    pub(crate) fn parse(name: &str, at: &Path<'_>) -> Result<Self, Problem> {
        Ok(match name.to_ascii_lowercase().as_str() {
            ":authority" => Self::Authority,
            ":method" => Self::Method,
            ":path" => Self::Path,
            ":scheme" => Self::Scheme,
            pseudo if pseudo.starts_with(':') => Self::Never,
            _ => match header_name(name, at)? {
                HOST => Self::Authority,
                name => Self::Header(name),
            },
        })
    }
}

/// Reads a header's name in a configuration.
pub(crate) fn header_name(name: &str, at: &Path<'_>) -> Result<HeaderName, Problem> {
    HeaderName::try_from(name).map_err(|_| at.problem(format!("'{name}' is no header name")))
}

/// Headers to look a field up in.
pub(crate) trait Fields {
    /// All values, joined with commas.
    fn value(&self, field: &Field) -> Option<Cow<'_, [u8]>>;

    /// The first value.
    fn first(&self, field: &Field) -> Option<&[u8]>;

    /// Whether one of the values is such.
    fn any(&self, field: &Field, is: impl Fn(&[u8]) -> bool) -> bool;

    /// The value of a cookie, without quotes.
    fn cookie(&self, name: &str) -> Option<&str>;
}

impl Fields for HeaderMap {
    fn value(&self, field: &Field) -> Option<Cow<'_, [u8]>> {
        match field {
            Field::Header(name) => joined(self, name),
            _ => None,
        }
    }

    fn first(&self, field: &Field) -> Option<&[u8]> {
        match field {
            Field::Header(name) => self.get(name).map(HeaderValue::as_bytes),
            _ => None,
        }
    }

    fn any(&self, field: &Field, is: impl Fn(&[u8]) -> bool) -> bool {
        match field {
            Field::Header(name) => self.get_all(name).iter().any(|value| is(value.as_bytes())),
            _ => false,
        }
    }

    fn cookie(&self, name: &str) -> Option<&str> {
        let cookies = self.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        cookies.flat_map(|value| value.split(';')).find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            let value = value.trim();
            let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            (key.trim() == name).then_some(unquoted.unwrap_or(value))
        })
    }
}

impl Fields for Head {
    fn value(&self, field: &Field) -> Option<Cow<'_, [u8]>> {
        match field {
            Field::Header(name) => joined(&self.headers, name),
            _ => self.first(field).map(Cow::Borrowed),
        }
    }

    fn first(&self, field: &Field) -> Option<&[u8]> {
        Some(match field {
            Field::Authority if self.authority.is_empty() => return None,
            Field::Authority => self.authority.as_bytes(),
            Field::Method => self.method.as_str().as_bytes(),
            Field::Path => self.path.as_str().as_bytes(),
            Field::Scheme => self.scheme.as_str().as_bytes(),
            Field::Never => return None,
            Field::Header(_) => return self.headers.first(field),
        })
    }

    fn any(&self, field: &Field, is: impl Fn(&[u8]) -> bool) -> bool {
        match field {
            Field::Header(_) => self.headers.any(field, is),
            _ => self.first(field).is_some_and(is),
        }
    }

    fn cookie(&self, name: &str) -> Option<&str> {
        self.headers.cookie(name)
    }
}

/// The values of a header in `headers`, joined with commas.
pub(crate) fn joined<'h>(headers: &'h HeaderMap, name: impl AsHeaderName) -> Option<Cow<'h, [u8]>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_changed_by_name() {
        for (path, set, remove, expected) in [
            ("/a?b=2&a=1&b=3", None, None, "/a?a=1&b=2&b=3"),
            ("/a?b=2&a=1&b=3", Some(("b", "4")), None, "/a?a=1&b=4"),
            ("/a?token=t", None, Some("token"), "/a"),
            ("/a", Some(("x", "1")), Some("y"), "/a?x=1"),
            ("/a?flag", None, None, "/a?flag="),
        ] {
            let mut head = Head {
                method: Method::GET,
                scheme: Scheme::HTTP,
                authority: HeaderValue::from_static("a"),
                path: PathAndQuery::from_static(path),
                headers: HeaderMap::new(),
            };
            head.change_query(set, remove);
            assert_eq!(head.path.as_str(), expected, "{path}");
        }
    }
}
