//! Paging of lists (AIP-158): a token says after which key the next page begins.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use crate::{InvalidRequest, Violations};

const DEFAULT_SIZE: i32 = 50;
const MAX_SIZE: i32 = 1000;

/// A page as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// At most this many rows.
    pub size: usize,
    /// The sort key of the last row of the page before.
    pub after: Option<Vec<String>>,
    /// Digest of the query: a token serves only the query that it was made for.
    query: [u8; 8],
}

impl Page {
    /// Reads a List request's paging fields; `query` is everything else in it that chooses or orders rows.
    pub fn new(size: i32, token: &str, query: &[&str]) -> Result<Self, InvalidRequest> {
        let mut violations = Violations::default();
        if size < 0 {
            violations.add("page_size", "is negative");
        }
        let query = fingerprint(query);
        let after = match token {
            "" => Some(None),
            text => violations
                .check("page_token", decode(text, query).ok_or("was not made for this query"))
                .map(Some),
        };
        let size = if size == 0 { DEFAULT_SIZE } else { size.min(MAX_SIZE) };
        violations.finish(after.map(|after| Self { size: size.unsigned_abs() as usize, after, query }))
    }

    /// Cuts `rows`, which were read one beyond the page's size, and makes the next page's token.
    pub fn cut<T>(&self, mut rows: Vec<T>, key: impl Fn(&T) -> Vec<String>) -> (Vec<T>, String) {
        if rows.len() <= self.size {
            return (rows, String::new());
        }
        rows.truncate(self.size);
        let token = rows.last().map(|row| encode(self.query, &key(row))).unwrap_or_default();
        (rows, token)
    }

    /// How many rows to read, so that it shows whether there is a page after.
    pub fn limit(&self) -> i64 {
        self.size as i64 + 1
    }
}

fn fingerprint(query: &[&str]) -> [u8; 8] {
    let mut digest = Sha256::new();
    for part in query {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    let mut short = [0; 8];
    short.copy_from_slice(&digest.finalize()[..8]);
    short
}

fn encode(query: [u8; 8], key: &[String]) -> String {
    let mut bytes = query.to_vec();
    bytes.extend(key.join("\0").as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(token: &str, query: [u8; 8]) -> Option<Vec<String>> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let key = bytes.strip_prefix(&query)?;
    Some(std::str::from_utf8(key).ok()?.split('\0').map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_serves_only_its_own_query() {
        let page = Page::new(2, "", &["sku = 1"]).expect("valid");
        let (rows, token) = page.cut(vec!["a", "b", "c"], |row| vec![(*row).to_owned(), "x".to_owned()]);
        assert_eq!(rows, ["a", "b"]);
        let next = Page::new(2, &token, &["sku = 1"]).expect("valid");
        assert_eq!(next.after, Some(vec!["b".to_owned(), "x".to_owned()]));
        assert!(Page::new(2, &token, &["sku = 2"]).is_err());
        assert!(Page::new(2, "no token", &[]).is_err());
        assert!(Page::new(-1, "", &[]).is_err());
    }

    #[test]
    fn the_last_page_has_no_token() {
        let page = Page::new(0, "", &[]).expect("valid");
        assert_eq!(page.size, 50);
        assert_eq!(page.cut(vec![1, 2], |_| vec![]), (vec![1, 2], String::new()));
        assert_eq!(Page::new(5000, "", &[]).expect("valid").size, 1000);
    }
}
