//! Where SQL, wire types, gRPC statuses and retail's words must stop.

use std::path::{Path, PathBuf};

use crate::{
    source::{self, Token},
    workspace::{Package, domains, expect_none, packages, product_files, product_text},
};

fn sources(of: impl Fn(&Package) -> bool) -> Vec<PathBuf> {
    let packages = packages().iter().filter(|package| of(package));
    packages.flat_map(product_files).collect()
}

/// Every place in the files where the predicate finds something in the tokens that start there.
fn places(files: Vec<PathBuf>, found: impl Fn(&[Token]) -> bool) -> Vec<String> {
    let mut places = Vec::new();
    for path in files {
        let tokens = source::product_tokens(&path);
        let hits = (0..tokens.len()).filter(|at| found(&tokens[*at..]));
        places.extend(hits.map(|at| format!("{}:{}: {}", path.display(), tokens[at].line, tokens[at].text)));
    }
    places
}

fn is_identifier(token: &Token, name: &str) -> bool {
    !token.is_string && token.text == name
}

#[test]
fn sql_lives_in_the_store() {
    let mut files = sources(|package| {
        !package.is_test() && !["omnimesh-proto", "storage", "events"].contains(&&*package.name)
    });
    // The lake's SQL is asked of its tables, by DataFusion; it has no database.
    files.retain(|path| !path.starts_with("lake"));
    // A connector that reads a source's own database speaks that source's SQL, not ours.
    files.retain(|path| {
        source::role(path) != "store" && !(source::role(path) == "connector" && path.ends_with("sql.rs"))
    });
    expect_none(
        "SQL outside of the store",
        "move the statement into a method of store.rs, named as the operation that needs it",
        places(files, |tokens| is_sql(&tokens[0])),
    );
}

fn is_sql(token: &Token) -> bool {
    const STATEMENTS: [&str; 7] =
        ["SELECT ", "INSERT INTO ", "UPDATE ", "DELETE FROM ", "CREATE TABLE ", "DROP TABLE ", "WITH "];
    let sql = token.text.trim_start_matches(['r', '#', '"', '\\', '\n', ' ']);
    token.is_string && STATEMENTS.iter().any(|statement| sql.starts_with(statement))
}

#[test]
fn wire_types_stop_at_the_border() {
    const BORDER: [&str; 5] = ["lib", "grpc", "wire", "peer", "event"];
    let mut files: Vec<_> = domains().flat_map(product_files).collect();
    files.retain(|path| !BORDER.contains(&&*source::role(path)));
    expect_none(
        "A message of the contract behind the border of its service",
        "convert it to a domain type in wire.rs (from a caller), peer.rs (from a peer) or event.rs (from an event)",
        places(files, |tokens| is_identifier(&tokens[0], "omnimesh_proto")),
    );
}

#[test]
fn rules_are_pure() {
    const IMPURE: [&str; 6] = ["async", "await", "sqlx", "storage", "tokio", "tonic"];
    let mut files: Vec<_> = domains().flat_map(product_files).collect();
    files.retain(|path| source::role(path) == "domain");
    expect_none(
        "A rule of a domain that waits, stores or calls",
        "let service.rs fetch what the rule needs and hand it over as values, the time among them",
        places(files, |tokens| IMPURE.iter().any(|name| is_identifier(&tokens[0], name))),
    );
}

#[test]
fn one_module_builds_statuses() {
    /// What may be asked of a status, or makes one of an error that has one already.
    const NOT_CONSTRUCTORS: [&str; 5] = ["code", "details", "from", "message", "metadata"];
    let mut files = sources(|package| !package.is_test());
    files.retain(|path| !(path.starts_with("services/mesh") && source::role(path) == "status"));
    // Without tonic it is some other Status.
    files.retain(|path| source::product_tokens(path).iter().any(|token| is_identifier(token, "tonic")));
    let constructs = |tokens: &[Token]| {
        let [status, first, second, function, ..] = tokens else { return false };
        is_identifier(status, "Status")
            && first.text == ":"
            && second.text == ":"
            && function.text.starts_with(|letter: char| letter.is_ascii_lowercase())
            && !NOT_CONSTRUCTORS.contains(&&*function.text)
    };
    expect_none(
        "A tonic::Status built outside of mesh::status",
        "return the service's own Error and let mesh::status make the status, with its reason and details",
        places(files, constructs),
    );
}

/// `order` is missing here: it is also a sequence, in SQL and in prose. Its plural is not.
const RETAIL: [&str; 21] = [
    "basket",
    "campaign",
    "cart",
    "catalog",
    "catalogue",
    "coupon",
    "customer",
    "household",
    "inventory",
    "loyalty",
    "merchandise",
    "orders",
    "price",
    "product",
    "promotion",
    "retailer",
    "shipment",
    "shopper",
    "sku",
    "stock",
    "warehouse",
];

#[test]
fn foundations_know_no_retail() {
    let mut words = Vec::new();
    for path in sources(|package| ["mesh", "storage", "events"].contains(&&*package.name)) {
        for (number, line) in product_text(&path).lines().enumerate() {
            let retail = split_words(line).into_iter().filter(|word| is_retail(word));
            words.extend(retail.map(|word| format!("{}:{}: {word}", path.display(), number + 1)));
        }
    }
    expect_none(
        "A foundation knows a word of retail",
        "say what it does for any service, or move it to the domain that needs it",
        words,
    );
}

fn is_retail(word: &str) -> bool {
    RETAIL.contains(&word) || word.strip_suffix('s').is_some_and(|singular| RETAIL.contains(&singular))
}

/// `StockLevel`, `stock_level` and `stock level` are all two words.
fn split_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_lower = false;
    for letter in line.chars() {
        if !letter.is_ascii_alphabetic() || (letter.is_ascii_uppercase() && after_lower) {
            words.push(String::new());
        }
        if letter.is_ascii_alphabetic() {
            words.last_mut().unwrap().push(letter.to_ascii_lowercase());
        }
        after_lower = letter.is_ascii_lowercase();
    }
    words
}

#[test]
fn words_are_split_as_identifiers_are() {
    let retail = |line: &str| split_words(line).into_iter().filter(|word| is_retail(word)).count();
    assert_eq!(retail("struct StockLevel { customer_id, skus, ORDERS }"), 4);
    assert_eq!(retail("SELECT id FROM t ORDER BY restocked, discard, border, productive"), 0);
}

#[test]
fn sql_is_told_from_prose() {
    let literal = |text: &str| Token { text: text.to_owned(), line: 1, is_string: true };
    assert!(is_sql(&literal("\"SELECT id FROM t\"")));
    assert!(is_sql(&literal("r#\"\n  INSERT INTO t VALUES ($1)\"#")));
    assert!(!is_sql(&literal("\"Selected for update\"")));
    assert!(!is_sql(&literal("\"update_mask\"")));
}

#[test]
fn a_folder_has_the_role_of_its_file() {
    assert_eq!(source::role(Path::new("services/order/src/store.rs")), "store");
    assert_eq!(source::role(Path::new("services/order/src/store/line.rs")), "store");
}
