//! `IdentityChanged`: what the service makes of persons, and what it tells in turn.

use omnimesh_proto::{customer::v1 as pb, identity::v1::Identity};

use crate::{
    persons::{golden_id, merged, person, record, source},
    sandbox::Sandbox,
};

#[tokio::test]
async fn identity_changed_makes_a_customer_with_its_history() {
    let records = [
        record("shop", 1, "Maria ", "Lopez", "Maria@X.example"),
        record("loyalty", 2, "M", "", "no address"),
        record("shop", 3, "Maria", "Lopez-Smith", "maria@x.example"),
    ];
    for sandbox in Sandbox::on_both_engines(&[person(1, &records)]).await {
        let customer = sandbox.get(1).await.expect("known");
        assert_eq!((customer.given_name.as_str(), customer.family_name.as_str()), ("Maria", "Lopez-Smith"));
        assert_eq!(customer.email, "maria@x.example");
        assert!(
            customer.source_refs.iter().cloned().map(Some).eq([source("loyalty", "1"), source("shop", "1")])
        );
        let from = &customer.provenance["email"];
        assert_eq!((&from.source, &from.update_time), (&source("shop", "1"), &records[2].update_time));
        assert_eq!(from.rule, "MOST_RECENT");

        let told = sandbox.told(1).await;
        assert_eq!(told[0].customer.as_ref(), Some(&customer));
        let versions: Vec<_> = told[0]
            .history
            .iter()
            .map(|version| {
                let customer = version.customer.clone().unwrap_or_default();
                (
                    version.valid_from_time.map_or(0, |time| time.seconds),
                    customer.given_name,
                    customer.family_name,
                )
            })
            .collect();
        let version = |time, given: &str, family: &str| (time, given.to_owned(), family.to_owned());
        assert_eq!(
            versions,
            [version(1, "Maria", "Lopez"), version(2, "M", "Lopez"), version(3, "Maria", "Lopez-Smith")]
        );
    }
}

#[tokio::test]
async fn identity_changed_tells_nothing_where_nothing_changed() {
    let known = [record("shop", 1, "Maria", "Lopez", "")];
    for sandbox in Sandbox::on_both_engines(&[person(1, &known)]).await {
        let before = sandbox.get(1).await.expect("known");
        sandbox.tell(&[person(1, &known)]).await;
        assert_eq!(sandbox.get(1).await.expect("known"), before);
        let older = record("shop", 0, "Mary", "Lopez", "");
        sandbox.tell(&[person(1, &[older, known[0].clone()])]).await;
        let told = sandbox.told(2).await;
        assert_eq!((told[0].history.len(), told[1].history.len()), (1, 2), "the past is news too");
        assert_eq!(sandbox.get(1).await.expect("known").given_name, "Maria");
    }
}

/// Versions as `version@valid from-to recorded`, where what was told first was recorded at 1, and so on.
fn told_as(told: &[pb::CustomerChanged], versions: &[pb::CustomerVersion]) -> Vec<String> {
    let times: Vec<_> =
        told.iter().map(|told| told.customer.as_ref().and_then(|told| told.update_time)).collect();
    assert!(times.is_sorted_by_key(|time| time.map(|time| (time.seconds, time.nanos))));
    let nth = |time: &Option<prost_types::Timestamp>| {
        time.map_or_else(String::new, |_| {
            times.iter().position(|known| known == time).map_or(0, |at| at + 1).to_string()
        })
    };
    let valid =
        |time: Option<prost_types::Timestamp>| time.map_or_else(String::new, |time| time.seconds.to_string());
    let shown = versions.iter().map(|version| {
        let (from, to) = (valid(version.valid_from_time), valid(version.valid_to_time));
        let recorded = (nth(&version.record_from_time), nth(&version.record_to_time));
        format!("{}@{from}-{to} {}-{}", version.version, recorded.0, recorded.1)
    });
    shown.collect()
}

#[tokio::test]
async fn identity_changed_keeps_what_was_recorded_before() {
    let [first, second, third] =
        [(3, "Maria"), (5, "Marie"), (4, "Mary")].map(|(time, name)| record("shop", time, name, "", ""));
    let known = person(1, std::slice::from_ref(&first));
    for sandbox in Sandbox::on_both_engines(&[known]).await {
        sandbox.tell(&[Identity { version: 2, ..person(1, &[first.clone(), second.clone()]) }]).await;
        sandbox
            .tell(&[Identity { version: 3, ..person(1, &[first.clone(), third.clone(), second.clone()]) }])
            .await;
        sandbox.tell(&[merged(1, 2), person(2, &[])]).await;
        let told = sandbox.told(5).await;
        let of_person: Vec<_> = told
            .iter()
            .filter(|told| told.customer.as_ref().is_some_and(|customer| customer.golden_id == golden_id(1)))
            .cloned()
            .collect();
        let shown = |versions: fn(&pb::CustomerChanged) -> &Vec<pb::CustomerVersion>| -> Vec<_> {
            of_person.iter().map(|told| told_as(&of_person, versions(told))).collect()
        };
        assert_eq!(
            shown(|told| &told.history),
            [vec!["1@3- 1-"], vec!["1@3-5 2-", "2@5- 2-"], vec!["1@3-4 3-", "2@4-5 3-", "3@5- 3-"], vec![],]
        );
        assert_eq!(
            shown(|told| &told.superseded),
            [
                vec![],
                vec!["1@3- 1-2"],
                vec!["1@3-5 2-3", "2@5- 2-3"],
                vec!["1@3-4 3-4", "2@4-5 3-4", "3@5- 3-4"],
            ]
        );
        let versions: Vec<_> = of_person[1].history.iter().chain(&of_person[1].superseded).collect();
        let of_identity =
            |version: &&pb::CustomerVersion| version.customer.as_ref().map(|was| was.identity_version);
        assert_eq!(versions.iter().map(of_identity).collect::<Vec<_>>(), [Some(2), Some(2), Some(1)]);
    }
}

#[tokio::test]
async fn identity_changed_leads_from_merged_customers_to_the_survivor() {
    let (maria, mary) = (record("shop", 1, "Maria", "", ""), record("loyalty", 2, "Mary", "", ""));
    let persons =
        [person(1, std::slice::from_ref(&maria)), person(2, &[]), person(3, std::slice::from_ref(&mary))];
    for sandbox in Sandbox::on_both_engines(&persons).await {
        sandbox.tell(&[person(2, std::slice::from_ref(&mary)), merged(3, 2)]).await;
        sandbox.tell(&[person(1, &[maria.clone(), mary.clone()]), merged(2, 1)]).await;
        let survivor = sandbox.get(1).await.expect("known");
        assert_eq!((survivor.given_name.as_str(), survivor.golden_id.clone()), ("Mary", golden_id(1)));
        for number in [2, 3] {
            assert_eq!(sandbox.get(number).await.expect("led on"), survivor);
        }
        let last = sandbox.told(7).await.pop().expect("an event");
        let absorbed = last.customer.expect("a customer");
        assert_eq!((absorbed.golden_id, absorbed.merged_into), (golden_id(2), golden_id(1)));
        assert!(last.history.is_empty() && absorbed.given_name.is_empty());
    }
}
