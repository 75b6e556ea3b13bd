//! Keys in every kind of column, and what is only like them.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, ListArray, StringArray, StructArray},
    buffer::OffsetBuffer,
    datatypes::{DataType, Field, Schema},
};

use super::{Denied, Hmac, RecordBatch};

fn denied(keys: &[&str]) -> Denied {
    let denied = Denied::default().with(keys.iter().copied());
    Denied::parse(denied.text).unwrap()
}

/// The rows that hold a key.
fn held(denied: &Denied, batch: &RecordBatch) -> Vec<usize> {
    denied.rows(batch).unwrap().values().set_indices().collect()
}

#[test]
fn a_key_is_found_however_it_is_written() {
    let denied = denied(&["Ada.Lovelace@Example.com", "+1 555 123 4567", "0000-1234-5678", "C-918273"]);
    for text in [
        "ada.lovelace@example.com",
        " ADA.LOVELACE@EXAMPLE.COM ",
        "write to ada.lovelace@example.com.",
        "(555) 123-4567",
        "0000 1234 5678",
        r#"{"card":"000012345678"}"#,
        r#"{"loyaltyCards":[{"id":"000012345678"}],"phones":[{"no":5551234567}]}"#,
        r#"{"a":[{"b":"555.123.4567"}]}"#,
        r#"{"mail":"ada.lovelace\u0040example.com"}"#,
        r#"7,"Lovelace, Ada",C-918273,"#,
        "shop:C-918273:2026-01-01",
    ] {
        assert!(denied.holds(text), "{text}");
    }
    for text in [
        "grada.lovelace@example.com",
        "ada.lovelace@example.com.au",
        "555 123 4568",
        "C-9182734",
        "SKU-5551234567",
        "000012345678",
        r#"7,000012345678,5551234567"#,
        r#"{"sku":"000012345678","total_minor":5551234567,"customer":{"orders":[5551234567]}}"#,
        "{\"a\":1}",
        "",
        "Ada",
    ] {
        assert!(!denied.holds(text), "{text}");
    }
}

#[test]
fn a_row_is_held_by_any_text_in_it() {
    let denied = denied(&["golden-77"]);
    let names = StringArray::from(vec![Some("a"), None, Some("golden-77"), Some("b")]);
    let items = StringArray::from(vec!["x", "golden-77", "y"]);
    let item = Arc::new(Field::new("item", DataType::Utf8, false));
    let lists = ListArray::new(item, OffsetBuffer::from_lengths([0, 2, 0, 1]), Arc::new(items), None);
    let records = StructArray::from(vec![(
        Arc::new(Field::new("id", lists.data_type().clone(), false)),
        Arc::new(lists) as ArrayRef,
    )]);
    let schema = Schema::new(vec![
        Field::new("name", DataType::Utf8, true),
        Field::new("record", records.data_type().clone(), false),
    ]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(names), Arc::new(records)]).unwrap();
    assert_eq!(held(&denied, &batch), [1, 2]);
    assert_eq!(held(&denied, &batch.slice(1, 2)), [0, 1]);
    let (left, held) = denied.without(batch.clone()).unwrap();
    assert_eq!((left.num_rows(), held), (2, 2));
    assert_eq!(Denied::default().without(batch).unwrap().1, 0);
}

#[test]
fn the_list_holds_no_key_and_only_grows() {
    let first = denied(&["golden-77"]);
    let text = String::from_utf8(first.text.clone()).unwrap();
    assert!(!text.contains("golden"), "{text}");
    let second = first.with(["golden-78"]);
    assert!(second.holds("golden-77") && second.holds("golden-78") && second.revision() > first.revision());
    // Test case 2 of RFC 4231, whose key is shorter than ours.
    let mut salt = [0; 32];
    salt[..4].copy_from_slice(b"Jefe");
    assert_eq!(
        hex::encode(Hmac::new(&salt).of("what do ya want for nothing?")),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
    assert!(Denied::parse(b"{}".to_vec()).is_none());
}

fn texts(columns: &[(&str, &[&str])]) -> RecordBatch {
    let column = |(name, texts): &(&str, &[&str])| {
        (name.to_string(), Arc::new(StringArray::from(texts.to_vec())) as ArrayRef)
    };
    RecordBatch::try_from_iter(columns.iter().map(column)).unwrap()
}

#[test]
fn an_id_is_a_persons_only_where_it_is_about_a_person_of_its_system() {
    let denied = denied(&["shop/1082185"]);
    assert!(!denied.holds("1082185") && !denied.holds("shop/1082185"));
    let landed = |system: &str, entity: &str, columns: &str, payload: &str| {
        let columns: [(&str, &[&str]); 4] = [
            ("_source", &[system]),
            ("_entity", &[entity]),
            ("_columns", &[columns]),
            ("_payload", &[payload]),
        ];
        !held(&denied, &texts(&columns)).is_empty()
    };
    for (entity, columns, payload) in [
        ("orders", "", r#"{"order_id":7,"customer_id":1082185}"#),
        ("orders", "", r#"{"buyer":{"id":"1082185"}}"#),
        ("orders", "", r#"{"account_id":1082185}"#),
        ("orders", "order_id,recipient", "7,1082185"),
        ("customers", "", r#"{"id":1082185}"#),
        ("profiles", "", r#"{"id":1082185}"#),
        ("customers", "id,name", "1082185,Ann"),
        ("orders", "order_id,customer_id,product_id", "7,\"1082185\",8"),
    ] {
        assert!(landed("shop", entity, columns, payload), "{payload}");
        assert!(!landed("marketplace", entity, columns, payload), "{payload} of others");
    }
    for (entity, columns, payload) in [
        (
            "orders",
            "",
            r#"{"order_id":1082185,"customer_id":7,"lines":[{"sku":1082185,"quantity":1082185}]}"#,
        ),
        ("orders", "", r#"{"customer_id":10821850,"total":1082185.0,"note":"1082185"}"#),
        ("orders", "order_id,customer_id,product_id", "1082185,7,1082185"),
        ("orders", "", "7,1082185,8"),
        ("products", "", r#"{"id":1082185}"#),
        ("orders", "", r#"{"account_manager_id":1082185}"#),
    ] {
        assert!(!landed("shop", entity, columns, payload), "{payload}");
    }
}

#[test]
fn a_record_is_held_by_the_keys_that_its_fields_come_to() {
    let denied = denied(&["laden/K-17", "laden/8", "5551234567", "una@example.com"]);
    let landed = |system: &str, columns: &str, subject_keys: &str, payload: &str| {
        let columns: [(&str, &[&str]); 5] = [
            ("_source", &[system]),
            ("_entity", &["bons"]),
            ("_columns", &[columns]),
            ("_subject_keys", &[subject_keys]),
            ("_payload", &[payload]),
        ];
        !held(&denied, &texts(&columns)).is_empty()
    };
    for (columns, subject_keys, payload) in [
        ("", "laden/K-{nr}", r#"{"nr":17}"#),
        ("", "laden/{wer.art}-{wer.nr}", r#"{"wer":{"art":"K","nr":"17"}}"#),
        ("", "laden/{id}", r#"{"id":{"$oid":"K-17"}}"#),
        ("", "{x}\nladen/K-{gast[].nr}", r#"{"gast":[{"nr":"16"},{"nr":"17"}]}"#),
        ("", "{fon}", r#"{"fon":5551234567}"#),
        ("", "{post}", r#"{"post":"UNA@example.com"}"#),
        ("bon,\"Kd, Nr\"", "laden/K-{Kd, Nr}", "9,17"),
        ("bon,kd", "laden/{kd}", "9,\"K-17\""),
    ] {
        assert!(landed("kasse", columns, subject_keys, payload), "{payload}");
    }
    assert!(landed("laden", "", "{nr}", r#"{"nr":8}"#), "an id of its own system");
    for (columns, subject_keys, payload) in [
        ("", "laden/K-{nr}", r#"{"bon":17}"#),
        ("", "laden/{art}-{nr}", r#"{"nr":"17"}"#),
        ("", "{nr}", r#"{"nr":8}"#),
        ("", "kasse/K-{nr}", r#"{"nr":17}"#),
        ("bon,kd", "laden/K-{kd}", "17,9"),
        ("bon,kd", "laden/K-{kd}", "9,17,5"),
    ] {
        assert!(!landed("kasse", columns, subject_keys, payload), "{payload}");
    }
}

#[test]
fn words_for_persons_stay_in_the_list() {
    let named = Denied::default().naming(&["Kunden".to_owned()]).with(["shop/1082185"]);
    let named = Denied::parse(named.text).unwrap().with(["golden-78"]);
    let payload = r#"{"order_id":7,"kunden_nr":1082185}"#;
    let landed = texts(&[("_source", &["shop"]), ("_entity", &["orders"]), ("_payload", &[payload])]);
    assert_eq!(held(&named, &landed), [0]);
    assert!(held(&denied(&["shop/1082185"]), &landed).is_empty());
}

#[test]
fn a_movement_of_stock_stays_without_the_order_that_it_comes_of() {
    let denied = denied(&["order-77"]);
    let sold =
        |order: &str| texts(&[("source_system", &["order", "order"]), ("source_id", &[order, "order-78"])]);
    assert_eq!(held(&denied, &sold("order-77")), [0], "it is not overlooked");
    assert_eq!(denied.without(sold("order-77")).unwrap(), (sold(""), 0));
    let of_person = texts(&[("golden_id", &["a"]), ("source_id", &["order-77"])]);
    assert_eq!(denied.without(of_person).unwrap().1, 1);
}

#[test]
fn a_reference_to_an_order_is_none_to_a_person_of_the_same_number() {
    let denied = denied(&["shop/1082185"]);
    let linked: [(&str, &[&str]); 3] = [
        ("source_system", &["shop", "shop", "pos"]),
        ("source_id", &["7", "1082185", "1082185"]),
        ("golden_id", &["a", "b", "c"]),
    ];
    assert_eq!(held(&denied, &texts(&linked)), [1]);
    assert!(held(&denied, &texts(&linked[..2])).is_empty(), "a movement of stock is of an order");
    let references = |beside: &str| {
        let texts = |text: &str| Arc::new(StringArray::from(vec![text])) as ArrayRef;
        let field = |name| Arc::new(Field::new(name, DataType::Utf8, false));
        let record =
            StructArray::from(vec![(field("system"), texts("shop")), (field("id"), texts("1082185"))]);
        let columns = [("source_refs", Arc::new(record) as ArrayRef), (beside, texts("1082185"))];
        held(&denied, &RecordBatch::try_from_iter(columns).unwrap())
    };
    assert_eq!(references("golden_id"), [0]);
    assert_eq!(references("order_uid"), [] as [usize; 0]);
}
