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
    let text = workspace::text(path).unwrap_or_default();
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

/// A source file's place in its crate's anatomy: `store` for both `src/store.rs` and `src/store/stock.rs`.
pub(crate) fn role(path: &Path) -> String {
    let mut components = path.components().map(|component| component.as_os_str().to_string_lossy());
    let first = components.by_ref().skip_while(|component| component != "src").nth(1).unwrap_or_default();
    first.trim_end_matches(".rs").to_owned()
}
