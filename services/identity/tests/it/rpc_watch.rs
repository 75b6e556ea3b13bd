//! `WatchIdentities`: every change once, in order, wherever the stream is taken up again.

use omnimesh_proto::{identity::v1 as pb, r#type::v1::ChangeType};
use tonic::Streaming;

use crate::sandbox::{Sandbox, fields, reason, record};

async fn watch(
    sandbox: &Sandbox,
    resume_token: &str,
    include_initial: bool,
) -> Streaming<pb::WatchIdentitiesResponse> {
    let request = pb::WatchIdentitiesRequest {
        resume_token: resume_token.to_owned(),
        include_initial,
        filter: String::new(),
    };
    sandbox.client.clone().watch_identities(request).await.expect("watched").into_inner()
}

/// The next `count` changes as `type golden_id`, and the last one's resume token.
async fn changes(stream: &mut Streaming<pb::WatchIdentitiesResponse>, count: usize) -> (Vec<String>, String) {
    let mut seen = Vec::new();
    let mut token = String::new();
    while seen.len() < count {
        let change = stream.message().await.expect("a change").expect("an endless stream");
        token.clone_from(&change.resume_token);
        if let Some(identity) = &change.identity {
            seen.push(format!("{} {}", change.change_type().as_str_name(), identity.golden_id));
        }
    }
    (seen, token)
}

#[tokio::test]
async fn watch_identities_tells_what_stands_then_what_changes() {
    for sandbox in Sandbox::on_both_engines().await {
        let mut early = watch(&sandbox, "", false).await;
        sandbox.import(&[&[record("shop:1", 1, &["a@x.example"])]]).await;
        let one = sandbox.owner("shop:1").await.golden_id;
        // In PostgreSQL another test's open transaction can hold an event back: what was told stays told.
        assert_eq!(changes(&mut early, 1).await.0, [format!("CHANGE_TYPE_CHANGED {one}")]);
        let mut stream = watch(&sandbox, "", true).await;
        assert_eq!(changes(&mut stream, 1).await.0, [format!("CHANGE_TYPE_INITIAL {one}")]);
        let bookmark = stream.message().await.expect("a change").expect("an endless stream");
        assert_eq!(bookmark.change_type(), ChangeType::Bookmark);

        sandbox.import(&[&[record("shop:2", 1, &["b@x.example"])]]).await;
        let two = sandbox.owner("shop:2").await.golden_id;
        sandbox.import(&[&[record("shop:2", 2, &["a@x.example"])]]).await;
        let expect = [
            format!("CHANGE_TYPE_CHANGED {two}"),
            format!("CHANGE_TYPE_CHANGED {one}"),
            format!("CHANGE_TYPE_DELETED {two}"),
        ];
        assert_eq!(changes(&mut stream, 3).await.0, expect);
        let mut again = watch(&sandbox, &bookmark.resume_token, true).await;
        assert_eq!(changes(&mut again, 3).await.0, expect, "a resumed stream ignores the initial state");
    }
}

#[tokio::test]
async fn watch_identities_resumes_without_loss_or_repetition() {
    for sandbox in Sandbox::on_both_engines().await {
        let mut stream = watch(&sandbox, "", true).await;
        let start = stream.message().await.expect("a change").expect("an endless stream").resume_token;
        let records: Vec<_> = (0..6).map(|n| record(&format!("shop:{n}"), n, &[])).collect();
        sandbox.import(&[&records]).await;
        let (all, _) = changes(&mut stream, 6).await;
        let mut seen = Vec::new();
        let mut token = start;
        for _ in 0..3 {
            let (two, next) = changes(&mut watch(&sandbox, &token, false).await, 2).await;
            seen.extend(two);
            token = next;
        }
        assert_eq!(seen, all);
    }
}

#[tokio::test]
async fn watch_identities_carries_the_whole_person() {
    for sandbox in Sandbox::on_both_engines().await {
        let mut stream = watch(&sandbox, "", true).await;
        stream.message().await.expect("a bookmark");
        let versions = [record("shop:1", 1, &["a@x.example"]), record("shop:1", 3, &["b@x.example"])];
        let other = record("loyalty:9", 2, &["b@x.example"]);
        sandbox.import(&[&[versions[1].clone(), other.clone(), versions[0].clone()]]).await;
        let change = stream.message().await.expect("a change").expect("an endless stream");
        let person = change.identity.expect("a person");
        assert_eq!(person.records, [versions[0].clone(), other, versions[1].clone()]);
        assert_eq!(person, sandbox.owner("shop:1").await);
        assert_eq!(change.event_time, person.update_time);
    }
}

#[tokio::test]
async fn watch_identities_refuses_a_foreign_token() {
    for sandbox in Sandbox::on_both_engines().await {
        let request = pb::WatchIdentitiesRequest { resume_token: "there".to_owned(), ..Default::default() };
        let error = sandbox.client.clone().watch_identities(request).await.expect_err("refused");
        assert_eq!(reason(&error), "RESUME_TOKEN_INVALID");
    }
}

#[tokio::test]
async fn watch_identities_tells_of_whom_the_filter_names() {
    for sandbox in Sandbox::on_both_engines().await {
        sandbox
            .import(&[&[record("shop:1", 1, &["a@x.example"]), record("shop:2", 1, &["b@x.example"])]])
            .await;
        let two = sandbox.owner("shop:2").await.golden_id;
        let filter = format!("golden_id = {two}");
        let request = pb::WatchIdentitiesRequest { include_initial: true, filter, ..Default::default() };
        let mut stream =
            sandbox.client.clone().watch_identities(request).await.expect("watched").into_inner();
        assert_eq!(changes(&mut stream, 1).await.0, [format!("CHANGE_TYPE_INITIAL {two}")]);
        sandbox
            .import(&[&[record("shop:1", 2, &["c@x.example"])], &[record("shop:2", 2, &["c@x.example"])]])
            .await;
        // Which of the two golden ids is the older one is left to chance; either way this one is told of.
        let (told, _) = changes(&mut stream, 1).await;
        assert!(told.iter().all(|change| change.ends_with(&two)), "{told:?}");
        let request = pb::WatchIdentitiesRequest { filter: "email = x".to_owned(), ..Default::default() };
        let error = sandbox.client.clone().watch_identities(request).await.expect_err("refused");
        assert_eq!(fields(&error), ["filter"]);
    }
}
