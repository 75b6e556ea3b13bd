//! Which virtual host answers for an authority: the longest domain that matches.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Virtual hosts by their domains.
#[derive(Debug)]
pub(super) struct Domains<T> {
    exact: HashMap<String, T>,
    /// By what follows the `*`, or precedes it; the longest first.
    suffixes: Vec<(usize, HashMap<String, T>)>,
    prefixes: Vec<(usize, HashMap<String, T>)>,
    any: Option<T>,
}

impl<T> Default for Domains<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), suffixes: Vec::new(), prefixes: Vec::new(), any: None }
    }
}

impl<T> Domains<T> {
    /// Adds a domain; `false` if it is there already.
    pub(super) fn insert(&mut self, domain: &str, value: T) -> bool {
        let domain = domain.to_ascii_lowercase();
        if domain == "*" {
            let free = self.any.is_none();
            self.any.get_or_insert(value);
            return free;
        }
        let (found, rest) = if let Some(suffix) = domain.strip_prefix('*') {
            (of_len(&mut self.suffixes, suffix.len()), suffix)
        } else if let Some(prefix) = domain.strip_suffix('*') {
            (of_len(&mut self.prefixes, prefix.len()), prefix)
        } else {
            (&mut self.exact, domain.as_str())
        };
        match found.entry(rest.to_owned()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(free) => {
                free.insert(value);
                true
            }
        }
    }

    pub(super) fn find(&self, authority: &str, ignore_port: bool) -> Option<&T> {
        if self.exact.is_empty() && self.suffixes.is_empty() && self.prefixes.is_empty() {
            return self.any.as_ref();
        }
        let host = if ignore_port { without_port(authority) } else { authority };
        if host.is_empty() {
            return None;
        }
        let host = match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(host.to_ascii_lowercase()),
            false => Cow::Borrowed(host),
        };
        let suffix = |len| host.get(host.len().checked_sub(len)?..);
        let prefix = |len| host.get(..len);
        self.exact
            .get(&*host)
            .or_else(|| longest(&self.suffixes, host.len(), suffix))
            .or_else(|| longest(&self.prefixes, host.len(), prefix))
            .or(self.any.as_ref())
    }
}

fn of_len<T>(all: &mut Vec<(usize, HashMap<String, T>)>, len: usize) -> &mut HashMap<String, T> {
    let at = all.partition_point(|(other, _)| *other > len);
    if all.get(at).is_none_or(|(other, _)| *other != len) {
        all.insert(at, (len, HashMap::new()));
    }
    &mut all[at].1
}

/// The `*` stands for one character at least.
fn longest<'d, 'h, T>(
    all: &'d [(usize, HashMap<String, T>)],
    host_len: usize,
    part: impl Fn(usize) -> Option<&'h str>,
) -> Option<&'d T> {
    all.iter()
        .filter(|(len, _)| *len < host_len)
        .find_map(|(len, domains)| part(*len).and_then(|part| domains.get(part)))
}

/// An authority without its port; the colons of an IPv6 address are none.
pub(super) fn without_port(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if authority.rfind(']').is_none_or(|end| end < colon) => &authority[..colon],
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_domain_answers() {
        let mut domains = Domains::default();
        for domain in
            ["*", "a.example", "A.Port:8443", "*.example", "*-bar.baz.com", "*.baz.com", "api.*", "[::1]"]
        {
            assert!(domains.insert(domain, domain), "{domain}");
        }
        for domain in ["*", "A.EXAMPLE", "API.*", "*.Baz.com"] {
            assert!(!domains.insert(domain, "a second time"), "{domain}");
        }
        for (authority, ignore_port, expected) in [
            ("A.example", false, "a.example"),
            ("a.example:80", false, "*"),
            ("a.example:80", true, "a.example"),
            ("a.port:8443", false, "A.Port:8443"),
            ("b.example", false, "*.example"),
            (".example", false, "*"),
            ("foo-bar.baz.com", false, "*-bar.baz.com"),
            ("foo.baz.com", false, "*.baz.com"),
            ("api.example", false, "*.example"),
            ("api.com", false, "api.*"),
            ("api.", false, "*"),
            ("[::1]:80", true, "[::1]"),
            ("[::1]", true, "[::1]"),
            ("other", false, "*"),
        ] {
            assert_eq!(domains.find(authority, ignore_port), Some(&expected), "{authority}");
        }
    }

    #[test]
    fn without_a_domain_for_all_others_are_not_found() {
        let mut domains = Domains::default();
        domains.insert("a.example", ());
        assert_eq!(domains.find("b.example", false), None);
        assert_eq!(domains.find("", false), None);
    }
}
