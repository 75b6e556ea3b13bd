//! `ImportIdentityRecords`: who is one person, whatever the order in which that is learnt.

use std::collections::BTreeSet;

use tonic::Code;

use crate::sandbox::{Sandbox, fields, reason, record, set, sources};

#[tokio::test]
async fn import_identity_records_joins_those_that_share_a_key() {
    for sandbox in Sandbox::on_both_engines().await {
        let records = [
            record("shop:1", 1, &["Maria@X.example", "+1 513 555 0101"]),
            record("marketplace:a", 2, &["maria@x.example "]),
            record("loyalty:98", 3, &["+15135550101", "#98"]),
            record("shop:2", 4, &["jim@x.example"]),
        ];
        assert_eq!(sandbox.import(&[&records]).await, (4, 0));
        let expect = BTreeSet::from([set(["shop:1", "marketplace:a", "loyalty:98"]), set(["shop:2"])]);
        assert_eq!(sandbox.partition().await, expect);
        let etags =
            |all: Vec<omnimesh_proto::identity::v1::Identity>| all.into_iter().map(|one| one.etag).collect();
        let before: Vec<String> = etags(sandbox.everybody().await);
        assert_eq!(sandbox.import(&[&records]).await, (0, 4), "what is known changes nothing");
        assert_eq!(etags(sandbox.everybody().await), before);
    }
}

/// Records whose keys chain, change and part again, over a limit of three records for a key.
fn eventful() -> Vec<omnimesh_proto::identity::v1::IdentityRecord> {
    vec![
        record("shop:1", 1, &["a@x.example", "+15135550101"]),
        record("shop:1", 9, &["b@x.example", "+15135550101"]),
        record("marketplace:1", 2, &["a@x.example", "#11"]),
        record("loyalty:11", 3, &["#11"]),
        record("loyalty:11", 8, &["+15135550109", "#11"]),
        record("shop:2", 4, &["b@x.example"]),
        record("shop:2", 5, &["c@x.example", "+15135550109"]),
        record("shop:3", 1, &["info@x.example", "#13"]),
        record("shop:4", 1, &["info@x.example", "#13"]),
        record("shop:5", 1, &["info@x.example"]),
        record("shop:6", 1, &["info@x.example"]),
        record("shop:6", 2, &["d@x.example"]),
        record("shop:7", 2, &["info@x.example"]),
    ]
}

#[tokio::test]
async fn import_identity_records_does_not_depend_on_their_order() {
    let expect = BTreeSet::from([
        set(["shop:1"]),
        set(["marketplace:1", "loyalty:11", "shop:2"]),
        set(["shop:3", "shop:4"]),
        set(["shop:5"]),
        set(["shop:6"]),
        set(["shop:7"]),
    ]);
    for step in [1, 2, 5, 7] {
        for (portion, sandbox) in [4, 1].into_iter().zip(Sandbox::on_both_engines().await) {
            let all = eventful();
            // 13 is prime, so that every step visits all.
            let shuffled: Vec<_> =
                (0..all.len()).map(|index| all[index * step % all.len()].clone()).collect();
            let portions: Vec<_> = shuffled.chunks(portion).collect();
            assert_eq!(sandbox.import(&portions).await, (13, 0));
            assert_eq!(sandbox.partition().await, expect, "step {step}, portions of {portion}");
        }
    }
}

#[tokio::test]
async fn import_identity_records_keeps_every_version() {
    for sandbox in Sandbox::on_both_engines().await {
        let newer = record("shop:1", 5, &["new@x.example"]);
        let older = record("shop:1", 2, &["old@x.example"]);
        assert_eq!(sandbox.import(&[&[newer.clone()]]).await, (1, 0));
        assert_eq!(sandbox.import(&[&[older.clone()], &[older.clone(), newer.clone()]]).await, (1, 2));
        let owner = sandbox.owner("shop:1").await;
        assert_eq!(owner.records, [older, newer]);
        let key = |email: &str| {
            omnimesh_proto::identity::v1::resolve_identity_request::Key::Email(email.to_owned())
        };
        assert_eq!(sandbox.resolve(key("new@x.example")).await.expect("known").golden_id, owner.golden_id);
        assert!(
            sandbox.resolve(key("old@x.example")).await.is_err(),
            "an older version's keys no longer link"
        );
    }
}

#[tokio::test]
async fn import_identity_records_takes_corrections_that_keep_their_time() {
    for sandbox in Sandbox::on_both_engines().await {
        let wrong = record("shop:1", 5, &["wrong@x.example"]);
        let right = record("shop:1", 5, &["right@x.example"]);
        let neighbour = record("loyalty:9", 1, &["right@x.example"]);
        assert_eq!(sandbox.import(&[&[wrong.clone(), neighbour.clone()]]).await, (2, 0));
        assert_ne!(sandbox.owner("shop:1").await.golden_id, sandbox.owner("loyalty:9").await.golden_id);
        assert_eq!(sandbox.import(&[std::slice::from_ref(&right)]).await, (1, 0));
        let owner = sandbox.owner("shop:1").await;
        assert_eq!(
            owner.records,
            [neighbour, right.clone()],
            "the correction joins those that it shares a key with"
        );
        assert_eq!(
            sandbox.import(&[std::slice::from_ref(&right)]).await,
            (0, 1),
            "told again it changes nothing"
        );
        assert_eq!(sandbox.owner("shop:1").await, owner);
        // Both in one portion, and a newer version before them.
        let newer = record("shop:1", 6, &["newer@x.example"]);
        let portion = [newer.clone(), wrong, right.clone()];
        assert_eq!(sandbox.import(&[&portion]).await, (3, 0));
        let records = sandbox.owner("shop:1").await.records;
        assert_eq!(records, [right, newer]);
    }
}

#[tokio::test]
async fn import_identity_records_keeps_golden_ids_through_merge_and_split() {
    for sandbox in Sandbox::on_both_engines().await {
        let (first, second) = (record("shop:1", 1, &["a@x.example"]), record("shop:2", 1, &["b@x.example"]));
        sandbox.import(&[&[first], &[second]]).await;
        let (one, two) = (sandbox.owner("shop:1").await, sandbox.owner("shop:2").await);
        sandbox.import(&[&[record("shop:2", 2, &["a@x.example"])]]).await;
        let merged = sandbox.owner("shop:2").await;
        assert_eq!(merged.golden_id, one.golden_id, "the oldest golden id stays");
        let name = two.name.clone();
        let request = omnimesh_proto::identity::v1::GetIdentityRequest { name };
        let absorbed = sandbox.client.clone().get_identity(request).await.expect("found").into_inner();
        assert_eq!(absorbed.identity.expect("an identity").merged_into, one.golden_id);

        sandbox
            .import(&[&[record("shop:3", 3, &["a@x.example"])], &[record("shop:1", 4, &["c@x.example"])]])
            .await;
        let larger = sandbox.owner("shop:3").await;
        assert_eq!(
            (larger.golden_id, sources(&sandbox.owner("shop:2").await)),
            (one.golden_id, set(["shop:2", "shop:3"]))
        );
        let parted = sandbox.owner("shop:1").await.golden_id;
        assert!(
            parted != merged.golden_id && parted != two.golden_id,
            "the smaller part gets a new golden id"
        );
    }
}

#[tokio::test]
async fn import_identity_records_names_what_is_wrong() {
    for sandbox in Sandbox::on_both_engines().await {
        let mut nameless = record("shop:1", 1, &[]);
        nameless.source = None;
        let mut timeless = record("shop:2", 1, &[]);
        timeless.update_time = None;
        let error = sandbox.try_import(&[&[nameless, timeless]]).await.expect_err("refused");
        assert_eq!((error.code(), reason(&error).as_str()), (Code::InvalidArgument, "INVALID_REQUEST"));
        assert_eq!(fields(&error), ["records[0].source", "records[1].update_time"]);
        let many = vec![record("shop:1", 1, &[]); 10_001];
        let error = sandbox.try_import(&[&many]).await.expect_err("refused");
        assert_eq!(fields(&error), ["records"]);
    }
}
