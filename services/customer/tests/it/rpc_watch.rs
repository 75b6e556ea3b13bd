//! `WatchCustomers`: every change once, in order, wherever the stream is taken up again.

use omnimesh_proto::{customer::v1 as pb, r#type::v1::ChangeType};
use tonic::Streaming;

use crate::{
    persons::{golden_id, merged, person, record},
    sandbox::{Sandbox, fields, reason},
};

async fn watch(sandbox: &Sandbox, resume_token: &str) -> Streaming<pb::WatchCustomersResponse> {
    let request = pb::WatchCustomersRequest {
        resume_token: resume_token.to_owned(),
        include_initial: true,
        ..pb::WatchCustomersRequest::default()
    };
    sandbox.client.clone().watch_customers(request).await.expect("watched").into_inner()
}

/// The next `count` changes as `type golden_id`, and the last one's resume token.
async fn changes(stream: &mut Streaming<pb::WatchCustomersResponse>, count: usize) -> (Vec<String>, String) {
    let mut seen = Vec::new();
    let mut token = String::new();
    while seen.len() < count {
        let change = stream.message().await.expect("a change").expect("an endless stream");
        token.clone_from(&change.resume_token);
        if let Some(customer) = &change.customer {
            seen.push(format!("{} {}", change.change_type().as_str_name(), customer.golden_id));
        }
    }
    (seen, token)
}

#[tokio::test]
async fn watch_customers_tells_what_stands_then_what_changes() {
    for sandbox in Sandbox::on_both_engines(&[person(1, &[]), person(2, &[])]).await {
        sandbox.told(2).await;
        let mut stream = watch(&sandbox, "").await;
        let expect = [1, 2].map(|number| format!("CHANGE_TYPE_INITIAL {}", golden_id(number)));
        assert_eq!(changes(&mut stream, 2).await.0, expect);
        let bookmark = stream.message().await.expect("a change").expect("an endless stream");
        assert_eq!(bookmark.change_type(), ChangeType::Bookmark);
        sandbox.tell(&[person(1, &[record("shop", 1, "Maria", "", "")]), merged(2, 1)]).await;
        let expect = [
            format!("CHANGE_TYPE_CHANGED {}", golden_id(1)),
            format!("CHANGE_TYPE_DELETED {}", golden_id(2)),
        ];
        assert_eq!(changes(&mut stream, 2).await.0, expect);
        assert_eq!(changes(&mut watch(&sandbox, &bookmark.resume_token).await, 2).await.0, expect);
    }
}

#[tokio::test]
async fn watch_customers_resumes_without_loss_or_repetition() {
    for sandbox in Sandbox::on_both_engines(&[]).await {
        let mut stream = watch(&sandbox, "").await;
        let mut token = stream.message().await.expect("a change").expect("an endless stream").resume_token;
        let persons: Vec<_> = (1..=6).map(|number| person(number, &[])).collect();
        sandbox.tell(&persons).await;
        let (all, _) = changes(&mut stream, 6).await;
        let mut seen = Vec::new();
        for _ in 0..3 {
            let (two, next) = changes(&mut watch(&sandbox, &token).await, 2).await;
            seen.extend(two);
            token = next;
        }
        assert_eq!(seen, all);
    }
}

#[tokio::test]
async fn watch_customers_refuses_a_foreign_token() {
    for sandbox in Sandbox::on_both_engines(&[]).await {
        let request = pb::WatchCustomersRequest { resume_token: "there".to_owned(), ..Default::default() };
        let error = sandbox.client.clone().watch_customers(request).await.expect_err("refused");
        assert_eq!(reason(&error), "RESUME_TOKEN_INVALID");
    }
}

#[tokio::test]
async fn watch_customers_tells_of_whom_the_filter_names() {
    for sandbox in Sandbox::on_both_engines(&[person(1, &[]), person(2, &[])]).await {
        sandbox.told(2).await;
        let filter = format!("golden_id = {}", golden_id(2));
        let request = pb::WatchCustomersRequest { include_initial: true, filter, ..Default::default() };
        let mut stream = sandbox.client.clone().watch_customers(request).await.expect("watched").into_inner();
        let named = |change: &str| format!("{change} {}", golden_id(2));
        assert_eq!(changes(&mut stream, 1).await.0, [named("CHANGE_TYPE_INITIAL")]);
        sandbox.tell(&[person(1, &[record("shop", 1, "Maria", "", "")]), merged(2, 1)]).await;
        assert_eq!(changes(&mut stream, 1).await.0, [named("CHANGE_TYPE_DELETED")]);
        let request = pb::WatchCustomersRequest { filter: "email = x".to_owned(), ..Default::default() };
        let error = sandbox.client.clone().watch_customers(request).await.expect_err("refused");
        assert_eq!(fields(&error), ["filter"]);
    }
}
