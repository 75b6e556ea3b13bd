//! `UpdateCustomer`: an operator's word, which wins and lasts.

use omnimesh_proto::{customer::v1 as pb, r#type::v1::Address};
use prost_types::FieldMask;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::{
    persons::{golden_id, merged, person, record},
    sandbox::{Sandbox, fields, name, reason},
};

fn correction(number: u8, paths: &[&str], customer: pb::Customer) -> pb::UpdateCustomerRequest {
    pb::UpdateCustomerRequest {
        customer: Some(pb::Customer { name: name(number), ..customer }),
        update_mask: Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }),
        request_id: String::new(),
    }
}

fn named(given_name: &str) -> pb::Customer {
    pb::Customer { given_name: given_name.to_owned(), ..pb::Customer::default() }
}

async fn update(sandbox: &Sandbox, request: pb::UpdateCustomerRequest) -> Result<pb::Customer, Status> {
    let answer = sandbox.client.clone().update_customer(request).await?.into_inner();
    Ok(answer.customer.expect("a customer"))
}

#[tokio::test]
async fn update_customer_sets_the_masked_fields_for_good() {
    let maria = person(1, &[record("shop", 1, "Maria", "Lopez", "maria@x.example")]);
    for sandbox in Sandbox::on_both_engines(std::slice::from_ref(&maria)).await {
        let before = sandbox.get(1).await.expect("known");
        let word = pb::Customer {
            family_name: "ignored".to_owned(),
            phone: "(513) 555-0101".to_owned(),
            address: Some(Address { city: "Dayton".to_owned(), ..Address::default() }),
            etag: before.etag.clone(),
            ..named(" Mary ")
        };
        let paths = ["given_name", "phone", "address", "email"];
        let after = update(&sandbox, correction(1, &paths, word)).await.expect("updated");
        assert_eq!((after.given_name.as_str(), after.family_name.as_str()), ("Mary", "Lopez"));
        assert_eq!((after.phone.as_str(), after.email.as_str()), ("+15135550101", ""));
        assert_eq!(after.address.as_ref().map(|address| address.city.as_str()), Some("Dayton"));
        let rules: Vec<_> =
            ["email", "family_name"].map(|field| after.provenance[field].rule.as_str()).into();
        assert_eq!(rules, ["OPERATOR", "MOST_RECENT"]);
        assert_ne!(after.etag, before.etag);
        assert_eq!(sandbox.get(1).await.expect("known"), after);

        let newer = record("shop", 2, "Marie", "Lopez", "marie@x.example");
        sandbox.tell(&[person(1, &[maria.records[0].clone(), newer])]).await;
        let lasting = sandbox.get(1).await.expect("known");
        assert_eq!((lasting.given_name.as_str(), lasting.email.as_str()), ("Mary", ""));
    }
}

#[tokio::test]
async fn update_customer_tells_of_a_change_and_of_no_repetition() {
    for sandbox in Sandbox::on_both_engines(&[person(1, &[record("shop", 1, "Maria", "", "")])]).await {
        let first = update(&sandbox, correction(1, &["given_name"], named("Mary"))).await.expect("updated");
        let again = update(&sandbox, correction(1, &["given_name"], named("Mary"))).await.expect("updated");
        assert_eq!(again, first);
        let last = update(&sandbox, correction(1, &["given_name"], named("Marie"))).await.expect("updated");
        let told = sandbox.told(3).await;
        assert_eq!(told[1].customer.as_ref(), Some(&first));
        assert_eq!((told[2].customer.as_ref(), told[2].history.len()), (Some(&last), 3));
    }
}

#[tokio::test]
async fn update_customer_answers_a_replayed_request_as_before() {
    for sandbox in Sandbox::on_both_engines(&[person(1, &[])]).await {
        let request_id = Uuid::new_v4().to_string();
        let request =
            pb::UpdateCustomerRequest { request_id, ..correction(1, &["given_name"], named("Mary")) };
        let first = update(&sandbox, request.clone()).await.expect("updated");
        update(&sandbox, correction(1, &["given_name"], named("Marie"))).await.expect("updated");
        assert_eq!(update(&sandbox, request.clone()).await.expect("answered"), first);
        let reused = pb::UpdateCustomerRequest {
            request_id: request.request_id,
            ..correction(1, &["*"], named("Mary"))
        };
        assert_eq!(reason(&update(&sandbox, reused).await.expect_err("refused")), "REQUEST_ID_REUSED");
    }
}

#[tokio::test]
async fn update_customer_refuses_what_is_stale_absent_or_wrong() {
    for sandbox in Sandbox::on_both_engines(&[person(1, &[])]).await {
        let stale = pb::Customer { etag: "0".to_owned(), ..named("Mary") };
        let error = update(&sandbox, correction(1, &["given_name"], stale)).await.expect_err("refused");
        assert_eq!((error.code(), reason(&error).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
        let error =
            update(&sandbox, correction(9, &["given_name"], named("Mary"))).await.expect_err("refused");
        assert_eq!((error.code(), reason(&error).as_str()), (Code::NotFound, "CUSTOMER_NOT_FOUND"));
        let unreachable = pb::Customer { email: "x".to_owned(), phone: "1".to_owned(), ..named("") };
        let nameless = pb::UpdateCustomerRequest { customer: None, ..correction(1, &["phone"], named("")) };
        for (request, expect) in [
            (correction(1, &[], named("Mary")), vec!["update_mask"]),
            (correction(1, &["given_name", "golden_id"], named("Mary")), vec!["update_mask"]),
            (correction(1, &["email", "phone"], unreachable), vec!["customer.email", "customer.phone"]),
            (nameless, vec!["customer.name"]),
            (
                pb::UpdateCustomerRequest {
                    request_id: "x".to_owned(),
                    ..correction(1, &["given_name"], named("Mary"))
                },
                vec!["request_id"],
            ),
        ] {
            assert_eq!(fields(&update(&sandbox, request).await.expect_err("refused")), expect);
        }
        assert_eq!(sandbox.get(1).await.expect("known").given_name, "");
    }
}

#[tokio::test]
async fn update_customer_follows_a_merge_with_its_corrections() {
    let maria = record("shop", 1, "Maria", "Lopez", "");
    for sandbox in Sandbox::on_both_engines(&[person(1, &[]), person(2, &[])]).await {
        update(&sandbox, correction(2, &["given_name"], named("Mary"))).await.expect("updated");
        sandbox.tell(&[person(1, std::slice::from_ref(&maria)), merged(2, 1)]).await;
        assert_eq!(sandbox.get(1).await.expect("known").given_name, "Mary");
        let word = pb::Customer { family_name: "Smith".to_owned(), ..pb::Customer::default() };
        let after = update(&sandbox, correction(2, &["family_name"], word)).await.expect("updated");
        assert_eq!((after.golden_id, after.family_name.as_str()), (golden_id(1), "Smith"));
    }
}
