//! `GetCustomer`, `BatchGetCustomers`, `ListCustomers` and `LookupCustomer`.

use omnimesh_proto::{
    customer::v1::{self as pb, lookup_customer_request::Key},
    identity::v1::Identity,
};
use tonic::Code;

use crate::{
    persons::{golden_id, merged, person, record, source},
    sandbox::{Sandbox, fields, name, reason},
};

fn three_and_a_merged_one() -> Vec<Identity> {
    vec![
        person(1, &[record("shop", 1, "Maria", "Lopez", "maria@x.example")]),
        person(2, &[record("shop", 1, "Jim", "Adams", "jim@x.example")]),
        person(3, &[record("shop", 1, "Ann", "Lopez", "ann@x.example")]),
        merged(4, 1),
    ]
}

#[tokio::test]
async fn get_customer_refuses_what_is_absent_or_no_name() {
    for sandbox in Sandbox::on_both_engines(&[]).await {
        for (name, code, expect) in [
            (name(9), Code::NotFound, "CUSTOMER_NOT_FOUND"),
            (format!("identities/{}", golden_id(1)), Code::InvalidArgument, "INVALID_REQUEST"),
            ("customers/1".to_owned(), Code::InvalidArgument, "INVALID_REQUEST"),
        ] {
            let request = pb::GetCustomerRequest { name: name.clone() };
            let error = sandbox.client.clone().get_customer(request).await.expect_err("refused");
            assert_eq!((error.code(), reason(&error).as_str()), (code, expect), "{name}");
        }
    }
}

#[tokio::test]
async fn batch_get_customers_answers_in_the_order_asked() {
    for sandbox in Sandbox::on_both_engines(&three_and_a_merged_one()).await {
        let batch = |names: Vec<String>| {
            let mut client = sandbox.client.clone();
            async move { client.batch_get_customers(pb::BatchGetCustomersRequest { names }).await }
        };
        let answer = batch([3, 1, 4, 3].map(name).to_vec()).await.expect("known").into_inner();
        let given: Vec<_> = answer.customers.iter().map(|customer| customer.given_name.as_str()).collect();
        assert_eq!(given, ["Ann", "Maria", "Maria", "Ann"]);
        assert_eq!(batch(vec![]).await.expect("nobody").into_inner().customers, []);
        let error = batch([1, 9].map(name).to_vec()).await.expect_err("absent");
        assert_eq!((error.code(), error.message().contains(&golden_id(9))), (Code::NotFound, true));
        assert_eq!(fields(&batch(vec![name(1), "x".to_owned()]).await.expect_err("no name")), ["names[1]"]);
        assert_eq!(fields(&batch(vec![name(1); 1001]).await.expect_err("too many")), ["names"]);
    }
}

#[tokio::test]
async fn list_customers_filters_orders_and_pages() {
    for sandbox in Sandbox::on_both_engines(&three_and_a_merged_one()).await {
        for (filter, order_by, expect) in [
            ("", "", vec!["Maria", "Jim", "Ann"]),
            ("", "golden_id", vec!["Maria", "Jim", "Ann"]),
            ("", "family_name", vec!["Jim", "Maria", "Ann"]),
            ("family_name = Lopez", "", vec!["Maria", "Ann"]),
            ("family_name = Lopez AND email != ann@x.example", "", vec!["Maria"]),
            ("email = \" JIM@x.example\"", "", vec!["Jim"]),
            ("phone = 5135550199", "", vec![]),
        ] {
            for page_size in [1, 2, 50] {
                let mut seen = Vec::new();
                let mut page_token = String::new();
                loop {
                    let (filter, order_by) = (filter.to_owned(), order_by.to_owned());
                    let request = pb::ListCustomersRequest { page_size, page_token, filter, order_by };
                    let page =
                        sandbox.client.clone().list_customers(request).await.expect("listed").into_inner();
                    seen.extend(page.customers.into_iter().map(|customer| customer.given_name));
                    page_token = page.next_page_token;
                    if page_token.is_empty() {
                        break;
                    }
                }
                assert_eq!(seen, expect, "{filter:?} by {order_by:?} in pages of {page_size}");
            }
        }
    }
}

#[tokio::test]
async fn list_customers_refuses_other_filters_orders_and_tokens() {
    for sandbox in Sandbox::on_both_engines(&[]).await {
        let default = pb::ListCustomersRequest::default;
        for (request, field) in [
            (pb::ListCustomersRequest { filter: "given_name = x".to_owned(), ..default() }, "filter"),
            (pb::ListCustomersRequest { order_by: "email".to_owned(), ..default() }, "order_by"),
            (pb::ListCustomersRequest { page_token: "x".to_owned(), ..default() }, "page_token"),
        ] {
            let error = sandbox.client.clone().list_customers(request).await.expect_err(field);
            assert_eq!(fields(&error), [field]);
        }
    }
}

#[tokio::test]
async fn lookup_customer_takes_keys_in_any_spelling() {
    for sandbox in Sandbox::on_both_engines(&three_and_a_merged_one()).await {
        let lookup = |key| {
            let mut client = sandbox.client.clone();
            async move { client.lookup_customer(pb::LookupCustomerRequest { key }).await }
        };
        for key in [
            Key::Email(" Maria@X.example".to_owned()),
            Key::Phone("(513) 555-0101".to_owned()),
            Key::LoyaltyCard("98-01".to_owned()),
            Key::Source(source("shop", "1").expect("a source")),
        ] {
            let found = lookup(Some(key.clone())).await.expect("known").into_inner().customer;
            assert_eq!(found.map(|customer| customer.golden_id), Some(golden_id(1)), "{key:?}");
        }
        let error = lookup(Some(Key::Email("nobody@x.example".to_owned()))).await.expect_err("absent");
        assert_eq!((error.code(), reason(&error).as_str()), (Code::NotFound, "CUSTOMER_NOT_FOUND"));
        for (key, field) in [
            (None, "key"),
            (Some(Key::Email("nobody".to_owned())), "email"),
            (Some(Key::Phone("555-0101".to_owned())), "phone"),
            (Some(Key::LoyaltyCard("-".to_owned())), "loyalty_card"),
            (Some(Key::Source(Default::default())), "source"),
        ] {
            assert_eq!(fields(&lookup(key).await.expect_err(field)), [field]);
        }
    }
}
