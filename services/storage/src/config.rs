//! Where a database is, and how that may be shown.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where the services' databases are.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `sqlite:<directory>`: a file for each service in it. `postgres://…`: a schema for each service in it.
    pub url: String,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("url", &redacted(&self.url)).finish()
    }
}

/// A URL as it may be shown: `***` in the place of a password. A password that should have been escaped is not known
/// from what follows it; then more is hidden, not less.
pub fn redacted(url: &str) -> String {
    if url.starts_with("sqlite:") {
        return url.to_owned();
    }
    let (scheme, rest) =
        url.split_once("://").map_or(("", url), |(scheme, rest)| (&url[..scheme.len() + 3], rest));
    let (login, place) = match rest.rsplit_once('@') {
        Some((login, place)) => match login.split_once(':') {
            Some((user, _)) => (format!("{user}:***@"), place),
            None => (format!("{login}@"), place),
        },
        None => (String::new(), rest),
    };
    let (place, parameters) =
        place.split_once('?').map_or((place, None), |(place, after)| (place, Some(after)));
    let parameters = parameters.map(|parameters| {
        let shown = parameters.split('&').map(|parameter| match parameter.split_once('=') {
            Some((key, _)) if key.to_ascii_lowercase().contains("password") => format!("{key}=***"),
            _ => parameter.to_owned(),
        });
        format!("?{}", shown.collect::<Vec<_>>().join("&"))
    });
    format!("{scheme}{login}{place}{}", parameters.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_url_holds_no_password() {
        for (url, shown) in [
            ("sqlite:data/we@ird:db", "sqlite:data/we@ird:db"),
            ("postgres://host/retail", "postgres://host/retail"),
            ("postgres://user@host:5432/retail", "postgres://user@host:5432/retail"),
            (
                "postgres://user:secret@host/retail?sslmode=require",
                "postgres://user:***@host/retail?sslmode=require",
            ),
            ("postgres://user:sec@r:e/t?x@host:5432/retail", "postgres://user:***@host:5432/retail"),
            ("postgres://host/retail?Password=secret&a=b", "postgres://host/retail?Password=***&a=b"),
            ("postgres://host/retail?sslpassword=secret", "postgres://host/retail?sslpassword=***"),
            ("mysql:root:secret@host", "mysql:***@host"),
            ("user:secret@host", "user:***@host"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(redacted(url), shown);
        }
        let config = Config { url: "postgres://user:secret@host/retail".to_owned() };
        assert!(!format!("{config:?}").contains("secret"));
    }
}
