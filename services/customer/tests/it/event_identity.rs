//! `IdentityChanged`: what the service makes of persons, and what it tells in turn.

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
