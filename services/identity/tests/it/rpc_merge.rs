//! `MergeIdentities`: an operator's word, which lasts.

use omnimesh_proto::identity::v1 as pb;
use tonic::Code;
use uuid::Uuid;

use crate::sandbox::{Sandbox, fields, reason, record, set, sources};

async fn two_persons(sandbox: &Sandbox) -> (pb::Identity, pb::Identity) {
    let (first, second) = (record("shop:1", 1, &["a@x.example"]), record("shop:2", 1, &["b@x.example"]));
    sandbox.import(&[&[first], &[second]]).await;
    (sandbox.owner("shop:1").await, sandbox.owner("shop:2").await)
}

async fn merge(
    sandbox: &Sandbox,
    request: pb::MergeIdentitiesRequest,
) -> Result<pb::Identity, tonic::Status> {
    let answer = sandbox.client.clone().merge_identities(request).await?;
    Ok(answer.into_inner().identity.expect("an identity"))
}

#[tokio::test]
async fn merge_identities_leaves_the_older_golden_id() {
    for sandbox in Sandbox::on_both_engines().await {
        let (older, newer) = two_persons(&sandbox).await;
        let request = pb::MergeIdentitiesRequest {
            name: newer.name.clone(),
            other: older.name.clone(),
            etag: newer.etag.clone(),
            request_id: String::new(),
        };
        let merged = merge(&sandbox, request).await.expect("merged");
        assert_eq!((&merged.golden_id, sources(&merged)), (&older.golden_id, set(["shop:1", "shop:2"])));
        sandbox.import(&[&[record("shop:2", 5, &["c@x.example"])]]).await;
        assert_eq!(
            sandbox.owner("shop:2").await.golden_id,
            older.golden_id,
            "the word stands when keys change"
        );
    }
}

#[tokio::test]
async fn merge_identities_answers_a_replayed_request_as_before() {
    for sandbox in Sandbox::on_both_engines().await {
        let (one, other) = two_persons(&sandbox).await;
        let request = pb::MergeIdentitiesRequest {
            name: one.name.clone(),
            other: other.name.clone(),
            etag: one.etag.clone(),
            request_id: Uuid::new_v4().to_string(),
        };
        let first = merge(&sandbox, request.clone()).await.expect("merged");
        sandbox.import(&[&[record("shop:2", 5, &["c@x.example"])]]).await;
        assert_eq!(merge(&sandbox, request.clone()).await.expect("answered"), first);
        let reused = merge(&sandbox, pb::MergeIdentitiesRequest { etag: String::new(), ..request }).await;
        assert_eq!(reason(&reused.expect_err("refused")), "REQUEST_ID_REUSED");
    }
}

#[tokio::test]
async fn merge_identities_refuses_what_is_stale_absent_or_wrong() {
    for sandbox in Sandbox::on_both_engines().await {
        let (one, other) = two_persons(&sandbox).await;
        let absent = "identities/00000000-0000-7000-8000-000000000000".to_owned();
        let good =
            pb::MergeIdentitiesRequest { name: one.name.clone(), other: other.name, ..Default::default() };
        for (request, code, expect) in [
            (
                pb::MergeIdentitiesRequest { etag: "0".to_owned(), ..good.clone() },
                Code::Aborted,
                "ETAG_MISMATCH",
            ),
            (
                pb::MergeIdentitiesRequest { other: absent.clone(), ..good.clone() },
                Code::NotFound,
                "IDENTITY_NOT_FOUND",
            ),
            (
                pb::MergeIdentitiesRequest { name: absent, ..good.clone() },
                Code::NotFound,
                "IDENTITY_NOT_FOUND",
            ),
        ] {
            let error = merge(&sandbox, request).await.expect_err(expect);
            assert_eq!((error.code(), reason(&error).as_str()), (code, expect));
        }
        for (request, field) in [
            (pb::MergeIdentitiesRequest { name: "x".to_owned(), ..good.clone() }, "name"),
            (pb::MergeIdentitiesRequest { other: one.name.clone(), ..good.clone() }, "other"),
            (pb::MergeIdentitiesRequest { request_id: "x".to_owned(), ..good.clone() }, "request_id"),
        ] {
            assert_eq!(fields(&merge(&sandbox, request).await.expect_err(field)), [field]);
        }
        assert_eq!(sandbox.everybody().await.len(), 2, "nothing was changed");
    }
}
