//! Mistakes in definitions are told with their file, entity and field; nothing is started.

use ingest::Definition;

use crate::sandbox::{GRANTS, Sandbox};

const GOOD: &str = r#"
system = "erp"
[files]
root = "erp"
format = "csv"
[[entity]]
name = "orders"
files = "*.csv"
group_by = ["id"]
expect = [["id", "text"], ["at", "time"], ["status", "text"], ["sku", "text"], ["n", "integer"], ["amount", "decimal"]]
[entity.map.order]
id = "{id}"
version = "{at}"
channel = "web"
time = "{at}"
status = "{status}"
statuses = { ok = "completed" }
currency = "USD"
lines = { sku = "{sku}", quantity = "{n}", amount = "{amount}" }
"#;

async fn refusal(text: &str) -> String {
    let definition = match Definition::parse(text, "erp.toml") {
        Ok(definition) => definition,
        Err(error) => return error.to_string(),
    };
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let storage = storage::Config { url: format!("sqlite:{}", directory.path().display()) };
    match Sandbox::start(storage, vec![definition], GRANTS).await {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn definitions_with_mistakes_are_refused() {
    assert_eq!(refusal(GOOD).await, "");
    for (part, replacement, expect) in [
        ("[files]", "[flies]", "erp.toml: TOML parse error at line 3"),
        ("\"decimal\"", "\"money\"", "`money` is no kind of field; these are: text, integer, decimal"),
        ("system = \"erp\"", "system = \"\"", "`` is no name: use snake_case"),
        ("*.csv", "[", "erp.toml: entity `orders`: files: "),
        (
            "group_by = [\"id\"]",
            "group_by = [\"no\"]",
            "erp.toml: entity `orders`: group_by: `no` is not in `expect`",
        ),
        ("{id}", "{ide}", "erp.toml: entity `orders`: map.order.id: `ide` is not in `expect`"),
        ("{id}", "{id", "map.order.id: `{id` lacks a closing brace"),
        ("{id}", "{id|upper}", "map.order.id: `upper` is no filter; these are: given, family"),
        (
            "group_by = [\"id\"]",
            "group_by = [\"id\"]\nsubject_keys = [\"crm/{who}\"]",
            "erp.toml: entity `orders`: subject_keys: `who` is not in `expect`",
        ),
        (
            "group_by = [\"id\"]",
            "group_by = [\"id\"]\nsubject_keys = [\"sku\"]",
            "subject_keys: `sku` names no field; write it between braces, such as `{name}`",
        ),
        ("\"web\"", "\"fax\"", "map.order.channel: `fax` is no channel; these are: web, marketplace, pos"),
        (
            "time = \"{at}\"",
            "time = \"{n}\"",
            "map.order.time: `{n}` is no time, datetime or date in `expect`",
        ),
        ("\"completed\"", "\"done\"", "map.order.statuses: `done` is no status"),
        (
            "\"{amount}\"",
            "\"{sku}\"",
            "map.order.lines: amount: `{sku}` is no decimal or integer in `expect`",
        ),
        ("\"{n}\"", "\"{n}{n}\"", "map.order.lines: quantity: `{n}{n}` is not one field, such as `{name}`"),
        ("lines = {", "lines = { each = \"items\",", "map.order.lines: no field of `items[]` is in `expect`"),
        (
            "files = \"*.csv\"",
            "files = \"*.csv\"\nencoding = \"utf-16\"",
            "erp.toml: entity `orders`: encoding: `utf-16` is none that lines can be read in",
        ),
        ("files = \"*.csv\"", "files = \"*.csv\"\nencoding = \"klingon\"", "encoding: `klingon` is none"),
        ("files = \"*.csv\"", "table = \"orders\"", "files: a glob is due, and no `table`"),
        ("root = \"erp\"", "url = \"sqlite:erp.db\"", "erp.toml: TOML parse error"),
    ] {
        let refusal = refusal(&GOOD.replace(part, replacement)).await;
        assert!(refusal.contains(expect), "{expect:?} is due, not {refusal:?}");
    }
}

#[test]
fn names_that_the_lake_cannot_take_are_refused() {
    let long = "x".repeat(65);
    for bad in ["ERP", "my erp", "erp-2", "2erp", "_erp", "erp_", "erp__old", "erp/old", "öl", "", &long] {
        for (field, line) in [("system = \"erp\"", 2), ("name = \"orders\"", 7)] {
            let (key, _) = field.split_once(' ').expect("a key");
            let text = GOOD.replace(field, &format!("{key} = \"{bad}\""));
            let refusal = Definition::parse(&text, "erp.toml").expect_err(bad).to_string();
            assert!(refusal.starts_with(&format!("erp.toml: TOML parse error at line {line}")), "{refusal}");
            assert!(refusal.contains(&format!("{key} = ")), "{refusal}");
            assert!(refusal.contains(&format!("`{bad}` is no name: use snake_case, such as")), "{refusal}");
        }
    }
    for good in ["e", "web_shop_2", &long[1..]] {
        Definition::parse(&GOOD.replace("\"erp\"", &format!("\"{good}\"")), "erp.toml").expect(good);
    }
}

#[tokio::test]
async fn tables_whose_key_may_be_missing_are_refused() {
    let text = r#"
        system = "erp"
        sql = { url = "sqlite:erp.db" }
        [[entity]]
        name = "orders"
        table = "orders"
        key = ["at", "id"]
        expect = [["id", "text"], ["at", "time?"]]
    "#;
    let refusal = refusal(text).await;
    assert!(
        refusal.ends_with("entity `orders`: key: `at` may be missing, by its `?` in `expect`"),
        "{refusal}"
    );
}
