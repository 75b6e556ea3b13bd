//! Reading a query's text.

use datafusion::sql::{
    parser::{DFParserBuilder, Statement},
    sqlparser::{
        dialect::GenericDialect,
        tokenizer::{Token, TokenWithSpan, Tokenizer},
    },
};

use super::Failure;

/// Planning recurses into expressions, so that a long enough one would leave any stack: this many words fit into that
/// of a worker.
pub(super) const WORDS: usize = 10_000;

/// Reads a text that is one statement.
pub(super) fn parse(sql: &str) -> Result<Statement, Failure> {
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, sql).tokenize_with_location();
    let mut tokens = tokens.map_err(|error| Failure::Sql(error.to_string()))?;
    let found = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).count();
    if found > WORDS {
        return Err(Failure::Long { found, most: WORDS });
    }
    number(&mut tokens);
    let parser = DFParserBuilder::new(tokens).with_dialect(&dialect).build();
    let statements = parser.and_then(|mut parser| parser.parse_statements()).map_err(Failure::of_query)?;
    let mut statements = statements.into_iter();
    match (statements.next(), statements.next()) {
        (Some(statement), None) => Ok(statement),
        (None, _) => Err(Failure::Sql("there is no query".to_owned())),
        (Some(_), Some(_)) => Err(Failure::Sql("send one query at a time".to_owned())),
    }
}

/// Numbers the parameters that are question marks, which the planner takes for one and the same.
fn number(tokens: &mut [TokenWithSpan]) {
    let marks = tokens.iter_mut().filter_map(|token| match &mut token.token {
        Token::Placeholder(name) if name == "?" => Some(name),
        _ => None,
    });
    for (number, name) in (1..).zip(marks) {
        *name = format!("${number}");
    }
}
