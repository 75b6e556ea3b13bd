//! Keys in every kind of column, and what is only like them.

use arrow::array::{ListArray, StringArray, StructArray};
use arrow::datatypes::{Field, Schema};

use super::*;

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
        "000012345678",
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
