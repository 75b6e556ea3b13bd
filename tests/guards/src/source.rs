//! Rust source as tokens, so that no guard mistakes a comment or a string for code.

use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::workspace;

pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
    pub(crate) is_string: bool,
}

/// A file's tokens in reading order, brackets included. Comments are gone, except that documentation is a string.
pub(crate) fn tokens(path: &Path) -> Vec<Token> {
    tokens_of(path, &workspace::text(path).unwrap_or_default())
}

/// The same without the tests at the file's end.
pub(crate) fn product_tokens(path: &Path) -> Vec<Token> {
    tokens_of(path, &workspace::product_text(path))
}

fn tokens_of(path: &Path, text: &str) -> Vec<Token> {
    let stream: TokenStream =
        text.parse().unwrap_or_else(|error| panic!("{} is not Rust: {error}", path.display()));
    let mut tokens = Vec::new();
    flatten(stream, &mut tokens);
    tokens
}

fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    for tree in stream {
        let line = tree.span().start().line;
        let mut push = |text: String, is_string| tokens.push(Token { text, line, is_string });
        match tree {
            TokenTree::Ident(identifier) => push(identifier.to_string(), false),
            TokenTree::Punct(punctuation) => push(punctuation.to_string(), false),
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                let is_string = text.ends_with(['"', '#']);
                push(text, is_string);
            }
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                push(open.to_owned(), false);
                flatten(group.stream(), tokens);
                tokens.push(Token { text: close.to_owned(), line, is_string: false });
            }
        }
    }
}

/// The names of all functions that a file defines.
pub(crate) fn functions(path: &Path) -> Vec<String> {
    let tokens = tokens(path);
    let named = tokens.windows(2).filter(|pair| pair[0].text == "fn" && !pair[0].is_string);
    named.map(|pair| pair[1].text.clone()).collect()
}

/// The names of all functions of a file that are tests, whatever runs them.
pub(crate) fn tests(path: &Path) -> Vec<String> {
    let mut tests = Vec::new();
    let mut is_test = false;
    for pair in tokens(path).windows(2) {
        match (&*pair[0].text, &*pair[1].text) {
            // The end of `#[test]` and of `#[tokio::test]`, or the beginning of that one's arguments.
            ("test", "]" | "(") => is_test = true,
            ("fn", name) => {
                if is_test {
                    tests.push(name.to_owned());
                }
                is_test = false;
            }
            _ => {}
        }
    }
    tests
}

/// A source file's place in its crate's anatomy: `store` for both `src/store.rs` and `src/store/stock.rs`.
pub(crate) fn role(path: &Path) -> String {
    let mut components = path.components().map(|component| component.as_os_str().to_string_lossy());
    let first = components.by_ref().skip_while(|component| component != "src").nth(1).unwrap_or_default();
    first.trim_end_matches(".rs").to_owned()
}
