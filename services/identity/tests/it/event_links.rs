//! `IdentityChanged`: which links between records and persons a change made, and which it ended.

use omnimesh_proto::identity::v1 as pb;

use crate::sandbox::{Sandbox, record};

/// Links as `source -> golden id`, those that ended first.
fn links(told: &pb::IdentityChanged) -> (Vec<String>, Vec<String>) {
    let said = |links: &[pb::IdentityLink]| -> Vec<String> {
        let source =
            |link: &pb::IdentityLink| link.source.clone().map(|source| source.id).unwrap_or_default();
        links.iter().map(|link| format!("{} -> {}", source(link), link.golden_id)).collect()
    };
    (said(&told.unlinked), said(&told.linked))
}

#[tokio::test]
async fn links_are_told_when_they_are_made_and_when_they_end() {
    for sandbox in Sandbox::on_both_engines().await {
        sandbox.import(&[&[record("shop:1", 1, &["a@x.example"])], &[record("shop:2", 1, &[])]]).await;
        let (one, two) = (sandbox.owner("shop:1").await.golden_id, sandbox.owner("shop:2").await.golden_id);
        sandbox.import(&[&[record("shop:2", 2, &["a@x.example"])]]).await;
        sandbox.import(&[&[record("shop:2", 3, &["b@x.example"])]]).await;
        let three = sandbox.owner("shop:2").await.golden_id;
        assert!(three != one && three != two, "a record that leaves a person becomes another");

        let told = sandbox.told(6).await;
        let none = Vec::new();
        let expect = [
            (none.clone(), vec![format!("1 -> {one}")]),
            (none.clone(), vec![format!("2 -> {two}")]),
            (vec![format!("2 -> {two}")], vec![format!("2 -> {one}")]),
            (none.clone(), none.clone()),
        ];
        assert_eq!(told[..4].iter().map(links).collect::<Vec<_>>(), expect, "the fourth was absorbed");
        let mut split: Vec<_> = told[4..].iter().map(links).collect();
        split.sort();
        assert_eq!(
            split,
            [(none.clone(), none), (vec![format!("2 -> {one}")], vec![format!("2 -> {three}")])]
        );

        // A link ends as it was made, when the one in its place is made.
        for told in told.iter().filter(|told| !told.unlinked.is_empty()) {
            assert_eq!(told.unlinked[0].unlink_time, told.linked[0].link_time);
        }
        let as_made = |told: &pb::IdentityChanged| pb::IdentityLink {
            unlink_time: None,
            ..told.unlinked.first().cloned().unwrap_or_default()
        };
        assert_eq!(as_made(&told[2]), told[1].linked[0]);
        let last = told[4..].iter().find(|told| !told.unlinked.is_empty()).expect("a split");
        assert_eq!(as_made(last), told[2].linked[0]);
    }
}
